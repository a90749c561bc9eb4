"""Launches of the kernels of `adadim`, see tests/aot_table.py."""

import itertools

from aot import Row
from aot_table import FLOATS, TABLE, name, random

from weightbook.lowbit.adadim import minmax_round

for dtype, dim, g, zero in itertools.product(FLOATS, ("oc", "ic"), (32, 128, -1, 3), (True, False)):
    call = lambda args=(dtype, dim, g, zero): minmax_round(random(384, 384, dtype=args[0]), 4, args[2], args[1], args[3])  # noqa: E731
    case = f"{dim}, groups of {g}, {name(dtype)}" + ("" if zero else ", as published")
    TABLE.append(Row("adadim", case, call, wide=g > 3))
