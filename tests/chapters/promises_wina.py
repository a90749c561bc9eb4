"""Promises of `weightbook.lowbit.wina`, see tests/promise_table.py."""

from chapters.promises_quantizers import converted
from fuzz import ids, llama, net, t
from promise_reasons import HALF, READS, WIDE

from weightbook.lowbit import wina as m

HOME = "lowbit.wina"
ROWS = {
    "orthogonalise_columns": lambda: (m.orthogonalise_columns, (t(8, 4),)),
    "SparseLinear": lambda: (m.SparseLinear(net(8, 4)[0], 0.5), (t(2, 3, 8),)),
    "SparseLinear, one token": lambda: (m.SparseLinear(net(8, 4)[0], 0.5), (t(1, 1, 8),)),
    "SparseLinear, threshold": lambda: (m.SparseLinear(net(8, 4)[0], 0.5, threshold=0.3), (t(2, 3, 8),)),
    "CATSMLP": lambda: (m.CATSMLP(llama().model.layers[0].mlp, 0.01), (t(1, 3, 16),)),
    "sparsify_, its model": lambda: converted(lambda model: m.sparsify_(model, 0.5)),
    "sparsify_cats_, its model": lambda: converted(lambda model: m.sparsify_cats_(model, 0.2, [ids()])),
    "fuse_norms_, its model": lambda: converted(m.fuse_norms_),
    "rotate_decoder_, its model": lambda: converted(m.rotate_decoder_),
}
SLOW = {name for name in ROWS if name.endswith("its model")}  # language models
NO = {  # columns, reason -> names
    ("compile export vmap", READS): "orthogonalise_columns",
    ("bfloat16", WIDE): "column_norms",
    ("bfloat16", HALF): "orthogonalise_columns",
    ("NaN", "a NaN among the norms keeps its column, whose own NaN comes out"): "sparse_gemv",
}  # fmt: skip
UNTRIED = {
    "RotatedBlock": "a block of the row `rotate_decoder_, its model`",
    "densify_": "gives the plain model back",
    "remove_cats_": "gives the plain model back",
}
