"""Promises of `weightbook.lowbit.quantizers`, see tests/promise_table.py."""


import torch
from fuzz import hessian, ids, llama, t
from promise_reasons import HALF, IN_PLACE, READS, REPORT, ROUNDS, WIDE
from promises_blocks import logits
from torch import nn

from weightbook.lowbit import quantizers as m


def packed(dim="oc", bits=4):
    return m.PackedWeight.pack(m.quantize_groups(t(8, 16), bits, 8, dim))


def layer(dim="oc"):
    return m.QuantLinear.from_quantized(m.quantize_groups(t(8, 16), 3, 8, dim))


def experts(n=2):
    return [m.Expert(t(12, 8, seed=i), t(8, 6, seed=i), nn.functional.silu) for i in range(n)]


def converted(change):
    change(model := llama())
    return logits(model), (ids(1, 4),)


def accelerated(model):
    m.quantize_model_(model, ids(), 4, 8, only="*.mlp.*")
    m.accelerate_decoding(model)


HOME = "lowbit.quantizers"
ROWS = {
    "interval_grid": lambda: (m.interval_grid, (-t(4).abs(), t(4, seed=1).abs(), 4)),
    "gptq_reference": lambda: (
        m.gptq_reference, (t(4, 8), m.inverse_factor(hessian())[0], torch.full((4,), 0.3), torch.full((4,), 8.0), 4)),
    "packed_linear": lambda: (m.packed_linear, (t(2, 16), packed())),
    "packed_linear, inputs grouped": lambda: (m.packed_linear, (t(2, 16), packed("ic"))),
    "packed_linear_reference": lambda: (m.packed_linear_reference, (t(2, 16), packed())),
    "QuantLinear": lambda: (layer(), (t(2, 16),)),
    "Int4Product": lambda: (m.accelerate_decoding(layer()), (t(1, 16),)),
    "Expert": lambda: (experts(1)[0], (t(3, 8),)),
    "SplitExperts": lambda: (
        m.SplitExperts(experts()), (t(3, 8), torch.tensor([[0, 1], [1, 0], [0, 1]]), t(3, 2).softmax(1))),
    "quantize_model_, its model": lambda: converted(
        lambda model: m.quantize_model_(model, ids(), 4, 8, only="*.mlp.*")),
    "accelerate_decoding, its model": lambda: converted(accelerated),
}  # fmt: skip
SLOW = {"quantize_model_, its model", "accelerate_decoding, its model"}  # language models
NO = {  # columns, reason -> names
    ("compile export vmap", READS): "quantize_groups rtn pack_codes quantize_linear",
    ("compile export vmap", "damps again until the factorisation exists"): "inverse_factor",
    ("export vmap", REPORT): "relative_error",
    ("compile export", "every expert gets the tokens that came to it, whose number depends on values"): "SplitExperts",
    ("grad", ROUNDS): "quantize_groups rtn quantize_linear",
    ("grad", IN_PLACE): "gptq_reference",
    ("bfloat16", WIDE): "quantize_groups quantize_linear",
    ("bfloat16", HALF): "inverse_factor",
    ("bfloat16", "rounds at other places when its inputs are rounded first"): "gptq_reference",
}  # fmt: skip
UNTRIED = {
    "rtn_": "changes an `nn.Linear`, which stays one",
    "split_experts_": "its experts are a row: SplitExperts",
}
