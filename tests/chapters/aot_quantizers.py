"""Launches of the kernels of `quantizers`, see tests/aot_table.py."""

import itertools

import torch
from aot import Row
from aot_table import TABLE, name, random

from weightbook.lowbit import quantizers


def packed(bits: int, dim: str, cols: int, group: int, dtype: torch.dtype) -> None:
    q = quantizers.quantize_groups(random(256, cols), bits, group, dim).to(dtype=dtype)
    quantizers.packed_linear(random(1, cols, dtype=dtype), quantizers.PackedWeight.pack(q))


for bits, dim, (cols, group) in itertools.product(range(1, 9), ("oc", "ic"), ((2048, 64), (2048, 128), (576, 64))):
    if (cols, group) == (2048, 64) or bits in (3, 4) and (dim == "oc" or cols == 576):
        call = lambda args=(bits, dim, cols, group, torch.float16): packed(*args)  # noqa: E731
        count = 8 * 2 ** (4096 // (max(bits, 2) * (group if dim == "oc" else 64)) - 1).bit_length() * (
            group if dim == "oc" else 64)
        whole = cols == 2048
        case = f"product, {bits} bits, {dim}, groups of {group}, {cols} inputs, float16"
        TABLE.append(Row("quantizers", case, call, wide=whole,
                         count=count if whole else 0, bytes=(bits / 8 + 3 / group) if whole else 0))
for dtype, dim in itertools.product((torch.float32, torch.bfloat16), ("oc", "ic")):
    call = lambda args=(4, dim, 2048, 64, dtype): packed(*args)  # noqa: E731
    TABLE.append(Row("quantizers", f"product, 4 bits, {dim}, groups of 64, 2048 inputs, {name(dtype)}",
                     call, wide=True, count=8192, bytes=1 / 2 + (dtype.itemsize + 1) / 64))


def column_block(group: int) -> None:
    inputs = random(512, 256)
    found = quantizers.GPTQ(torch.nn.Linear(256, 64, bias=False).requires_grad_(False))
    found.add_batch(inputs)
    found.quantize(4, group)


for group in (-1, 128, 64, 32, 16):
    TABLE.append(Row("quantizers", f"columns of GPTQ, groups of {group}", lambda group=group: column_block(group)))
