"""Launches of the kernels of `wina`, see tests/aot_table.py."""

import torch
from aot import Row
from aot_table import FLOATS, TABLE, name, random

from weightbook.lowbit import wina


def gated(batch: int, dtype: torch.dtype) -> None:
    weight_t = random(256, 512, dtype=dtype)
    wina.sparse_gemv(random(batch, 256, dtype=dtype), weight_t, norms=weight_t.float().norm(dim=1), tau=0.5)


for dtype in FLOATS:
    call = lambda args=(1, dtype): gated(*args)  # noqa: E731
    TABLE.append(Row("wina", f"gated product, {name(dtype)}", call, wide=True, count=16 * 128, bytes=dtype.itemsize / 2))
