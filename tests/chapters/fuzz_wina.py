"""Right calls of the public names of `weightbook.lowbit.wina`, see tests/fuzz.py."""

import torch
from fuzz import CONVERTER, NO_ARGUMENTS, RACE, Deep, Fixed, Free, Wide, llama, t, table
from torch import nn

table(
    "lowbit.wina",
    column_norms=lambda m: dict(weight=Free(t(4, 8))),
    kept_count=lambda m: dict(n=8, sparsity=0.5),
    topk_mask=lambda m: dict(scores=Free(torch.rand(8)), sparsity=0.5),
    wina_mask=lambda m: dict(x=Deep(t(2, 8)), norms=torch.rand(8), sparsity=0.5, mode="topk"),
    teal_mask=lambda m: dict(x=Free(t(2, 8)), sparsity=0.5),
    orthogonalise_columns=lambda m: dict(weight=Wide(t(4, 8))),
    macs_per_token=lambda m: dict(config=llama().config, sparsity=0.5),
    first_gated=lambda m: dict(length=8, dense_fraction=0.1),
    SparseLinear=lambda m: dict(linear=nn.Linear(8, 4), sparsity=0.5, criterion="wina", prefill_dense_fraction=0.1),
    decoder_blocks=lambda m: dict(model=llama()),
    fuse_norms_=lambda m: dict(model=llama()),
    rotate_decoder_=lambda m: dict(model=llama()),
    layer_criterion=lambda m: dict(name=Fixed("q_proj"), criterion="official"),
    gated_linears=lambda m: dict(model=llama()),
    densify_=lambda m: dict(model=m.sparsify_(llama())),
    sparsify_=lambda m: dict(model=llama(), sparsity=0.5, criterion="official", prefill_dense_fraction=0.1),
    ScoreDistribution=NO_ARGUMENTS,
    cats_mask=lambda m: dict(gate_act=Free(t(2, 8)), sparsity=0.5),
    cats_activation_sparsity=lambda m: dict(config=llama().config, sparsity=0.3),
    apply_rotary=lambda m: dict(x=t(1, 2, 3, 4), cos=t(1, 3, 4), sin=t(1, 3, 4)),
    gemv_bytes=lambda m: dict(m=4, n=8, sparsity=0.5, itemsize=4),
    sparse_gemv_reference=lambda m: dict(x=t(8), weight_t=Wide(t(8, 4)), mask=torch.ones(8, dtype=torch.bool)),
    sparse_gemv=lambda m: dict(x=t(8), weight_t=Wide(t(8, 4)), norms=torch.rand(8), tau=0.0),
    accelerate_decoding=lambda m: dict(model=llama()),
    remove_cats_=CONVERTER,
    gate_report=lambda m: dict(model=llama()),
    open_prefix_=lambda m: dict(mask=Free(torch.ones(3, 8, dtype=torch.bool)), dense_fraction=0.1),
    **dict.fromkeys(
        (
            "block_linears",
            "RotatedBlock",
            "calibrate_thresholds",
            "CATSMLP",
            "sparsify_cats_",
            "greedy_allocate",
            "allocate_model",
            "allocation_at",
            "evaluate_tasks",
        ),
        CONVERTER,
    ),
    gemv_arms=RACE,
    benchmark=RACE,
)
