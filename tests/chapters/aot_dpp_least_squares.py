"""Launches of the kernels of `dpp_least_squares`, see tests/aot_table.py."""

import itertools

import torch
from aot import Row
from aot_table import TABLE, name, random

from weightbook.estimation import dpp_least_squares


def filtered(m: int, dtype: torch.dtype) -> None:
    features = torch.nn.functional.normalize(random(2, 8, m, dtype=dtype), dim=-1)
    uniforms, frame = torch.rand(2, 8, dtype=dtype), torch.zeros(2, m, m, dtype=dtype)
    dpp_least_squares.filter_proposals(features, uniforms, frame, torch.zeros(2, dtype=torch.int64))


for m, dtype in itertools.product((10, 32, 50, 100, 200, 500, 1000), (torch.float32, torch.float64)):
    TABLE.append(Row("dpp_least_squares", f"m = {m}, {name(dtype)}", lambda args=(m, dtype): filtered(*args)))
