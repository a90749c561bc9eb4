"""Launches of the kernels of `compander`, see tests/aot_table.py."""

import itertools

import torch
from aot import Row
from aot_table import FLOATS, TABLE, name, random

from weightbook.reparam.compander import compand


def companded(dtype: torch.dtype, n: int, learnable: bool) -> None:
    v = random(n, dtype=dtype).requires_grad_()
    a, b = (torch.tensor(0.7, requires_grad=learnable) for _ in range(2))
    compand(v, a, b).backward(torch.ones_like(v))


for dtype, n, learnable in itertools.product(FLOATS, (4096, 1), (False, True)):
    call = lambda args=(dtype, n, learnable): companded(*args)  # noqa: E731
    case = f"{n} weights, {name(dtype)}{', a and b learnt' if learnable else ''}"
    TABLE.append(Row("compander", case, call, wide=n > 1))
