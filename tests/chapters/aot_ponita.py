"""Launches of the kernels of `ponita`, see tests/aot_table.py."""

import itertools

import torch
from aot import Row
from aot_table import HALVES, TABLE, name, random

from weightbook.sharing import ponita


def convolved(n: int, c: int, b: int, dtype: torch.dtype, autocast: bool = False) -> None:
    edges = ponita.arrange_edges(ponita.fully_connected(torch.zeros(4, dtype=torch.long)), 4)
    x, basis, weight = random(4, n, c, dtype=dtype), random(12, n, b, dtype=dtype), random(c, b, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        x, basis, weight = (t.requires_grad_() for t in (x, basis.bfloat16() if autocast else basis, weight))
        out = ponita.depthwise_conv(x, basis, weight, edges)
    out.backward(torch.ones_like(out))


for (n, c, b), dtype in itertools.product(((16, 128, 256), (8, 64, 128), (32, 256, 512), (12, 24, 24), (1, 16, 3)), HALVES):
    call = lambda args=(n, c, b, dtype): convolved(*args)  # noqa: E731
    case = f"N = {n}, C = {c}, B = {b}, {name(dtype)}"
    TABLE.append(Row("ponita", case, call, product=True))
TABLE.append(Row("ponita", "autocast to bfloat16", lambda: convolved(16, 128, 256, torch.float32, True), product=True))
