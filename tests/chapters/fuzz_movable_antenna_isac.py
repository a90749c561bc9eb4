"""Right calls of the public names of `weightbook.estimation.movable_antenna_isac`, see tests/fuzz.py."""

import torch
from fuzz import RECORD, Fixed, Free, table


def z(*shape, seed=0):
    "Complex numbers"
    return torch.complex(*(torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)))


def near(m, **more):
    "A small scenario of the movable antennas"
    users = m.at_angle(torch.tensor([4.0, 7.0]), torch.tensor([-25.0, 25.0]))
    return m.NearFieldISACScenario(tx=m.line_array(8, 0.005), users=users, target=m.at_angle(5.0, 5.0), wavelength=0.01, **more)


def beams(**more):
    return dict(H=Free(z(2, 2, 8)), F=Free(z(2, 8, 2)), w=Free(z(8))) | more


def spots(seed=0, n=3):
    return Free(torch.rand(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + seed)


def rough(m):
    "A design of two rounds"
    return m.alternating_isac(near(m), 0.1, 0.01, EVEN, move=False, n_iter=2)


EVEN = torch.tensor([0.5, 0.5], dtype=torch.float64)

table(
    "estimation.movable_antenna_isac",
    nearfield_channel=lambda m: dict(rx=spots(0), tx=spots(5), wavelength=0.01, amplitude="element"),
    nearfield_channel_grad=lambda m: dict(rx=spots(0), tx=spots(5), wavelength=0.01, amplitude="center"),
    line_array=lambda m: dict(n=3, spacing=0.1),
    steering=lambda m: dict(p=spots(0), elems=spots(5), wavelength=0.01),
    at_angle=lambda m: dict(distance=4.0, degrees=20.0),
    user_rates=lambda m: beams(noise_var=1.0),
    sum_rate=lambda m: beams(noise_var=1.0, weights=Free(EVEN)),
    NearFieldISACScenario=lambda m: dict(
        tx=Free(m.line_array(8, 0.005)), users=Free(m.at_angle(torch.tensor([4.0, 7.0]), 0.0)),
        target=Free(m.at_angle(5.0, 5.0)), wavelength=0.01, noise_var=1e-12, sensing_noise_var=1e-12, antennas=2,
        side=0.1, d_min=0.005, sensing_mode="joint", amplitude="center",
    ),
    sensing_rows=lambda m: dict(u=Free(z(8)), scenario=near(m)),
    sensing_sinr=lambda m: dict(u=Free(z(8)), F=Free(z(2, 8, 2)), w=Free(z(8)), scenario=near(m)),
    mvdr_combiner=lambda m: dict(F=Free(z(2, 8, 2)), w=Free(z(8)), scenario=near(m)),
    wmmse_auxiliaries=lambda m: beams(noise_var=1.0),
    isac_precoder_update=lambda m: beams(
        tau=Free(z(2, 8)), power=0.1, sinr_min=0.01, weights=Free(EVEN), noise_var=1.0, mode="dedicated", method="newton"
    ),
    water_filling=lambda m: dict(gains=Free(EVEN), power=Free(torch.tensor(1.0).double()), weights=Free(EVEN)),
    block_diagonalization=lambda m: dict(H=Free(z(2, 2, 8)), power=0.1, weights=Free(EVEN), noise_var=1.0),
    isac_start=lambda m: dict(scenario=near(m), H=Free(z(2, 2, 8)), power=0.1, sinr_min=0.01, weights=Free(EVEN)),
    largest_sinr=lambda m: dict(scenario=near(m), power=0.1, n_iter=2),
    position_gradient=lambda m: beams(dH=Free(z(2, 2, 8, 3)), noise_var=1.0),
    project_min_spacing=lambda m: dict(x=Free(torch.tensor([0.3, 0.1]).double()), lo=0.0, hi=1.0, d_min=0.2),
    optimize_positions=lambda m: dict(
        scenario=near(m), positions=Free(m.start_positions(near(m), 1)[0]), F=Free(z(2, 8, 2)), w=Free(z(8)),
        n_steps=1, n_halvings=2,
    ),
    kkt_residual=lambda m: beams(
        tau=Free(z(2, 8)), multipliers=Fixed((1.0, 1.0)), sinr_min=0.1, weights=Free(EVEN), mode="dedicated"
    ),
    start_positions=lambda m: dict(scenario=near(m), n_starts=2),
    ISACResult=RECORD,
    finish_design=lambda m: dict(
        scenario=near(m), design=rough(m), power=0.1, sinr_min=0.01, weights=Free(EVEN), n_iter=1, tol=1e-6
    ),
    alternating_isac=lambda m: dict(
        scenario=near(m), power=0.1, sinr_min=0.01, weights=Free(EVEN), n_iter=1, n_starts=2, tol=1e-6, method="newton"
    ),
)
