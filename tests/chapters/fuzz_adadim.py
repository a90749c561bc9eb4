"""Right calls of the public names of `weightbook.lowbit.adadim`, see tests/fuzz.py."""

import torch
from fuzz import CONVERTER, RACE, Free, Wide, hessian, ids, llama, t, table

table(
    "lowbit.adadim",
    group_ranges=lambda m: dict(weight=Free(t(4, 8)), group_size=4, dim="oc"),
    expected_error=lambda m: dict(weight=t(4, 8), h=torch.rand(8), bits=4, group_size=4, dim="oc"),
    output_error=lambda m: dict(weight=t(4, 8), quantized=t(4, 8, seed=1), second=hessian()),
    gptq_updates=lambda m: dict(weight=t(4, 8), quantized=t(4, 8, seed=1), hessian=hessian(), percdamp=0.01),
    top_share=lambda m: dict(energy=Free(torch.rand(9)), share=0.5),
    minmax_round_reference=lambda m: dict(weight=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    minmax_round=lambda m: dict(weight=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    search_dims=lambda m: dict(model=llama(), input_ids=Wide(ids()), bits=4, group_size=8, batch_size=2),
    adadim_=lambda m: dict(
        model=llama(), input_ids=Wide(ids()), bits=4, group_size=8, base="rtn", percdamp=0.01, batch_size=2
    ),
    fixed_dims=lambda m: dict(names=["q_proj"]),
    activation_stats=lambda m: dict(model=llama(), input_ids=Wide(ids()), batch_size=2),
    awq_scale=lambda m: dict(magnitude=Free(torch.rand(8) + 0.1), alpha=0.5),
    awq_clip=lambda m: dict(weight=t(4, 8), second=hessian(), bits=4, group_size=4, steps=2),
    awq_=lambda m: dict(model=llama(), input_ids=Wide(ids()), bits=4, group_size=8, batch_size=2),
    rounding_bytes=lambda m: dict(rows=4, columns=8, itemsize=4),
    predict_dims=lambda m: dict(weights={"a": t(4, 8)}, h={"a": torch.rand(8)}, bits=4, group_size=4),
    **dict.fromkeys(
        (
            "measuring_scope",
            "scope_output",
            "try_weights",
            "select_dim",
            "search_block",
            "calibration_blocks",
            "fisher_diagonal",
            "awq_search",
            "search_cost",
            "task_scores",
        ),
        CONVERTER,
    ),
    search_arms=RACE,
    benchmark=RACE,
)
