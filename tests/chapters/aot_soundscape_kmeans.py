"""Launches of the kernels of `soundscape_kmeans`, see tests/aot_table.py."""

import itertools

import torch
from aot import Row
from aot_table import TABLE, name, random

from weightbook.estimation import soundscape_kmeans


def lloyd(e: int, d: int, k: int, dtype: torch.dtype) -> None:
    points = random(5000, e, dtype=dtype)
    soundscape_kmeans.lloyd_step(points, random(5000, d, dtype=dtype), random(5000, dtype=dtype).abs(), points[:k])


for (e, d), k, dtype in itertools.product(
    ((2, 2), (3, 2)), (2, 16, 64, 256), (torch.float32, torch.float64)
):
    call = lambda args=(e, d, k, dtype): lloyd(*args)  # noqa: E731
    TABLE.append(Row("soundscape_kmeans", f"{e} coordinates, {d} averaged, {k} centres, {name(dtype)}", call))
