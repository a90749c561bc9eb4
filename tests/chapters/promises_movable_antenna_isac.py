"""Promises of `weightbook.estimation.movable_antenna_isac`, see tests/promise_table.py."""

import torch
from chapters.fuzz_movable_antenna_isac import near
from promise_reasons import READS, WIDE

from weightbook.estimation import movable_antenna_isac as m

HOME = "estimation.movable_antenna_isac"
ROWS = {  # no spacing is exactly the least one, where the projection has a kink
    "project_min_spacing": lambda: (
        lambda x: m.project_min_spacing(x, lo=0.0, hi=1.0, d_min=0.2), (torch.tensor([0.3, 0.15]).double(),)),
    "at_angle": lambda: (m.at_angle, (torch.tensor([4.0, 7.0]).double(), torch.tensor([-25.0, 25.0]).double())),
    "largest_sinr": lambda: (lambda power: m.largest_sinr(near(m), power, n_iter=3), (torch.tensor(0.1).double(),)),
}  # fmt: skip
NO = {  # columns, reason -> names
    ("compile export vmap", READS): (
        "nearfield_channel nearfield_channel_grad steering user_rates sum_rate sensing_rows sensing_sinr "
        "mvdr_combiner wmmse_auxiliaries isac_precoder_update water_filling block_diagonalization isac_start "
        "position_gradient project_min_spacing optimize_positions kkt_residual "
        "at_angle largest_sinr"),
    ("grad", "singular vectors of complex matrices are free in their phase, which PyTorch refuses to differentiate"): (
        "block_diagonalization isac_start"),
    ("bfloat16", WIDE): "at_angle",
}  # fmt: skip
UNTRIED = dict.fromkeys(("alternating_isac", "finish_design"), "minutes of small steps, which are rows")
