"""Right calls of the public names of `weightbook.estimation.dpp_least_squares`, see tests/fuzz.py."""

import numpy as np
import torch
from fuzz import RACE, Free, Wide, a, table, unit

leg = lambda m: m.LegendreBasis(2)  # noqa: E731


stable = lambda m: lambda size, rng: rng.uniform(-1, 1, (size, 40, 1))  # noqa: E731


table(
    "estimation.dpp_least_squares",
    OrthonormalBasis="an interface without arguments",
    LegendreBasis=lambda m: dict(m=3),
    HermiteBasis=lambda m: dict(m=3),
    PiecewiseConstantBasis=lambda m: dict(m=3),
    Mixture=lambda m: dict(alpha=0.5, h=lambda x: x[..., 0] * 0 + 1, draw=lambda shape, rng: rng.random((*shape, 1))),
    density_values=lambda m: dict(basis=leg(m), x=Free(a(4, 1)), density="christoffel"),
    weighted_features=lambda m: dict(basis=leg(m), x=Free(a(4, 1)), density="measure"),
    gram_matrix=lambda m: dict(basis=leg(m), x=Free(a(4, 1)), density="measure"),
    fit_coefficients=lambda m: dict(basis=leg(m), x=a(4, 1), y=a(4), density="measure"),
    sample_density=lambda m: dict(basis=leg(m), n=3, density="measure", size=2, rng=0),
    sample_christoffel=lambda m: dict(basis=leg(m), n=3, size=2, rng=0),
    chernoff_rate=lambda m: dict(delta=0.5),
    chernoff_samples=lambda m: dict(m=3, delta=0.5, eta=0.1, alpha=0.5),
    mercer_mixture=lambda m: dict(basis=leg(m), eigenvalues=np.array([0.4, 0.6]), alpha=0.5),
    filter_proposals_reference=lambda m: dict(
        features=unit(6, 2)[None],
        uniforms=torch.rand(1, 6),
        frame=torch.zeros(1, 2, 2),
        count=torch.zeros(1, dtype=torch.long),
    ),
    filter_proposals=lambda m: dict(
        features=unit(6, 2)[None],
        uniforms=torch.rand(1, 6),
        frame=torch.zeros(1, 2, 2),
        count=torch.zeros(1, dtype=torch.long),
    ),
    sample_projection_dpp=lambda m: dict(basis=leg(m), size=2, method="chain", rng=0, cells=9),
    sample_volume=lambda m: dict(basis=leg(m), n=3, density="measure", size=2, method="auto", rng=0),
    sample_repeated_dpp=lambda m: dict(basis=leg(m), n=3, size=2, method="auto", rng=0),
    sample_repeated_volume=lambda m: dict(basis=leg(m), n=4, block=2, density="measure", size=2, rng=0),
    total_degree=lambda m: dict(dim=2, degree=2),
    TensorBasis=lambda m: dict(bases=[leg(m), leg(m)], multi_index=np.array([[0, 0], [0, 1]])),
    FiniteBasis=lambda m: dict(candidates=Wide(a(5, 2)), features=lambda x: x, prob=np.full(5, 0.2)),
    stability=lambda m: dict(gram=Free(np.eye(2))),
    is_stable=lambda m: dict(gram=Free(np.eye(2)), delta=0.5),
    condition=lambda m: dict(
        sampler=stable(m), basis=leg(m), delta=0.9, density="measure", size=2, max_redraws=9, rng=0
    ),
    boost=lambda m: dict(sampler=stable(m), basis=leg(m), tries=2, density="measure", size=2, rng=0),
    greedy_subsample=lambda m: dict(basis=leg(m), x=np.linspace(-1, 1, 12)[:, None], delta=0.9, density="measure"),
    greedy_design=lambda m: dict(basis=leg(m), n=2, candidates=a(9, 1)),
    WeightedLeastSquares="scikit-learn's rule: an estimator checks in `fit` (test_dpp_least_squares)",
    AveragedLeastSquares="scikit-learn's rule: an estimator checks in `fit` (test_dpp_least_squares)",
    chain_operations=lambda m: dict(m=3),
    race_arms=RACE,
    benchmark=RACE,
)
