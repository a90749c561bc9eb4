"""Right calls of the public names of `weightbook.lowbit.quantizers`, see tests/fuzz.py."""

import torch
from fuzz import CONVERTER, RACE, RECORD, Fixed, Free, Wide, hessian, ids, llama, t, table
from torch import nn

table(
    "lowbit.quantizers",
    fit_scale_zero=lambda m: dict(groups=Free(t(4, 8)), bits=4),
    check_group_size=lambda m: dict(group_size=4, length=Fixed(8), dim="oc"),
    interval_grid="inside of the fits, which check: fit_scale_zero",
    QuantizedWeight=RECORD,
    Plan=RECORD,
    SavedLayer=RECORD,
    expand_groups=lambda m: dict(values=Free(t(4, 2)), like=Fixed(m.quantize_groups(t(4, 8), 4, 4))),
    quantize_groups=lambda m: dict(w=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    rtn=lambda m: dict(w=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    rtn_=lambda m: dict(linear=nn.Linear(8, 4), bits=4, group_size=4, dim="oc"),
    pack_codes=lambda m: dict(codes=Free(torch.zeros(4, 8, dtype=torch.uint8)), bits=4),
    unpack_codes=lambda m: dict(
        packed=Fixed(m.pack_codes(torch.zeros(4, 8, dtype=torch.uint8), 4)), bits=4, shape=(4, 8)
    ),
    Hessian=lambda m: dict(width=4),
    relative_error=lambda m: dict(weight=t(4, 8), quantized=t(4, 8, seed=1), hessian=hessian()),
    inverse_factor=lambda m: dict(hessian=hessian(), percdamp=0.01),
    gptq_reference="the loop that the fast path is checked against",
    GPTQ=lambda m: dict(linear=nn.Linear(8, 4)),
    PackedWeight=RECORD,
    QuantLinear=lambda m: dict(in_features=8, out_features=4, bits=4, group_size=4, dim="oc"),
    few_rows=lambda m: dict(x=Free(t(2, 8))),
    packed_linear_reference=CONVERTER,
    packed_linear=CONVERTER,
    decoder_layers=lambda m: dict(model=llama()),
    DecoderStep=RECORD,
    walk_decoder=lambda m: dict(model=llama(), input_ids=Wide(ids()), batch_size=2, propagate="full"),
    Expert=lambda m: dict(gate_up=t(12, 8), down=t(8, 6), act_fn=torch.nn.functional.silu),
    SplitExperts="made by `split_experts_`",
    split_experts_=lambda m: dict(model=llama()),
    replace_linears=lambda m: dict(model=llama(), quantized={}),
    quantize_linear=lambda m: dict(weight=t(4, 8), bits=4, group_size=4, method="gptq", hessian=hessian()),
    quantize_model_=lambda m: dict(
        model=llama(), input_ids=Wide(ids()), bits=4, group_size=8, method="rtn", propagate="full", batch_size=2
    ),
    all_or_nothing=CONVERTER,
    matrix_fates=lambda m: dict(model=llama(), skip="*q_proj", only="*"),
    export_gguf=CONVERTER,
    export_compressed=CONVERTER,
    save_quantized=CONVERTER,
    load_quantized=CONVERTER,
    packed_bytes=lambda m: dict(rows=4, cols=8, bits=4, group_size=4, itemsize=4),
    Int4Product=CONVERTER,
    accelerate_decoding=lambda m: dict(model=llama()),
    product_arms=RACE,
    loop_arms=RACE,
    benchmark=RACE,
)
