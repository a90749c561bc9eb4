"""Right calls of the public names of `weightbook.estimation.tallying_bandits`, see tests/fuzz.py."""

import numpy as np
import torch
from fuzz import RECORD, Fixed, Free, Wide, table

HALF = np.full((2, 3), 0.5)


def game(m, **more):
    return m.WeightedTallyingBandit(HALF, np.ones(3), seed=0, **more)


table(
    "estimation.tallying_bandits",
    loss_values=lambda m: dict(loss=[0.5, 0.2], r=Free(np.array([0.1, 0.9]))),
    play_tallies=lambda m: dict(actions=Free(np.array([0, 1, 1])), weights=Free(np.ones(3))),
    TallyingModel=lambda m: dict(losses=Free(HALF), weights=Free(np.ones(3))),
    WeightedTallyingBandit=lambda m: dict(losses=Free(HALF), weights=Free(np.ones(3)), noise="none", n_envs=2, seed=0),
    best_sequence=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3)), horizon=4, start=[0, 1]),
    enumerate_sequences=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3)), horizon=4),
    reachable_tallies=lambda m: dict(weights=Free(np.ones(3)), grid=9),
    reo_margin=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3))),
    is_reo=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3)), tolerance=1e-9),
    complete_policy_regret=lambda m: dict(expected=Free(np.full(4, 0.5)), mu_star=0.5),
    epoch_radius=lambda m: dict(s=2),
    epoch_length=lambda m: dict(s=2, n_arms=3, delta=0.1),
    survivors=lambda m: dict(means=Wide(np.array([0.1, 0.9])), radius=0.1),
    regret_bound=lambda m: dict(n_arms=2, horizon=99, memory=3, memory_bound=4, delta=0.1),
    epochs_needed=lambda m: dict(gaps=Wide(np.array([0.0, 0.5]))),
    instance_bound=lambda m: dict(gaps=Wide(np.array([0.0, 0.5])), memory=3, memory_bound=4, delta=0.1),
    cyclic_occupancy=lambda m: dict(cycles=Free(np.array([0, 1, 1])), n_arms=2, memory=2),
    BlockPolicy="a base class, met through the policies below",
    SuccessiveEliminationREO=lambda m: dict(n_arms=2, horizon=99, memory_bound=3, delta=0.1, schedule="halving"),
    simulate=lambda m: dict(policy=m.UCB1Loss(2), env=game(m), horizon=5),
    simulate_blocks=lambda m: dict(policy=m.ExploreThenCommit(2, 9, 2), env=game(m), horizon=9),
    UCB1Loss=lambda m: dict(n_arms=2, n_envs=2),
    EXP3Loss=lambda m: dict(n_arms=2, horizon=9, n_envs=2, rate=0.1, mixing=0.1, seed=0),
    BatchedEXP3=lambda m: dict(n_arms=2, horizon=9, batch=3),
    minimax_exploration=lambda m: dict(n_arms=2, horizon=99),
    ExploreThenCommit=lambda m: dict(n_arms=2, horizon=9, explore=2, warmup=1),
    ExploreThenPlan=lambda m: dict(n_arms=2, horizon=19, memory=2, sweeps=1),
    cycle_radius=lambda m: dict(s=1, n_arms=2, memory=2, period=16, delta=0.1),
    cycle_epochs=lambda m: dict(n_arms=2, memory=2, period=16),
    SETallying=lambda m: dict(n_arms=2, horizon=256, memory=2, delta=0.1),
    TallyFit=RECORD,
    tally_losses=lambda m: dict(
        log=dict(arm=[0, 1, 1], loss=[0.1, 0.2, 0.3]), weights=Free(np.ones(2)), shape="mean", points=2
    ),
    ucb_games_reference=lambda m: dict(
        tables=Fixed(torch.from_numpy(HALF)), weights=Fixed(torch.ones(3).double()), uniforms=Fixed(torch.rand(2, 5).double())
    ),
    ucb_games=lambda m: dict(
        tables=Wide(torch.from_numpy(HALF)), weights=Wide(torch.ones(3).double()), uniforms=Wide(torch.rand(2, 5).double())
    ),
)
