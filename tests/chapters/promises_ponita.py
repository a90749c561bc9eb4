"""Promises of `weightbook.sharing.ponita`, see tests/promise_table.py."""

import torch
from chapters.fuzz_ponita import edges, small_ponita
from fuzz import t

from weightbook.sharing import ponita as m


def made(kind, *args, **options):
    torch.manual_seed(0)
    return kind(*args, **options).eval()


def geometry():
    "What a layer is told of three points and two orientations"
    return edges(m), t(3, 2, 5, seed=1), t(5, seed=2), t(2, 2, 5, seed=3)


HOME = "sharing.ponita"
ROWS = {
    "PolynomialCutoff": lambda: (m.PolynomialCutoff(1.0, 6), (t(4).abs(),)),
    "SeparableFiberConv": lambda: (made(m.SeparableFiberConv, 4, 5), (t(3, 2, 4), *geometry())),
    "PonitaBlock": lambda: (made(m.PonitaBlock, 4, 5), (t(3, 2, 4), *geometry())),
    "Ponita": lambda: (small_ponita(m).eval(), (t(4, 3), t(4, 1, seed=1), t(4, 1, 3, seed=2))),
    "Ponita, arranged edges": lambda: (
        small_ponita(m).eval(), (t(3, 3), t(3, 1, seed=1), t(3, 1, 3, seed=2)), dict(edge_index=edges(m))),
    "PNITA": lambda: (made(m.PNITA, 1, hidden=4, out_scalar=1, layers=1), (t(4, 3), t(4, 1, seed=1))),
    "EGNN": lambda: (made(m.EGNN, hidden=4, layers=1), (t(2, 4, 3), t(2, 4, 3, seed=1), t(2, 4, seed=2))),
}
SLOW = {"Ponita", "Ponita, arranged edges", "PNITA"}
NO = {  # columns, reason -> names
    ("compile export vmap", "a graph is made from values, by SciPy's tree or by sizes: make it outside and hand it on"): (
        "fully_connected knn_edges radius_edges arrange_edges"),
    ("compile export", "the definition, edge by edge"): "depthwise_conv_reference",
    ("NaN", "looks at the size of the grid only"): "scalar_to_sphere",
}  # fmt: skip
UNTRIED = {}
