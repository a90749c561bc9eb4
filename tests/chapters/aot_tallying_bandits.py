"""Launches of the kernels of `tallying_bandits`, see tests/aot_table.py."""

import torch
from aot import Row
from aot_table import TABLE

from weightbook.estimation.tallying_bandits import ucb_games


def games(arms: int, memory: int, points: int) -> None:
    draw = lambda *shape: torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # noqa: E731
    ucb_games(draw(arms, points), draw(memory), draw(4, 8))


for arms, memory, points in ((6, 30, 30), (24, 300, 50), (1, 1, 1)):
    call = lambda args=(arms, memory, points): games(*args)  # noqa: E731
    TABLE.append(Row("tallying_bandits", f"K = {arms}, m = {memory}, {points} points", call))
