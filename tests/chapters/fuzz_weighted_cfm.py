"""Right calls of the public names of `weightbook.weighting.weighted_cfm`, see tests/fuzz.py."""

import torch
from fuzz import EXPERIMENT, RACE, RECORD, Free, Wide, net, t, table


def curve(m):
    return m.tilt_curve(t(6, 2), t(6, 2, seed=1), [0.1, 1.0])


def pair(**more):
    return dict(x0=t(6, 2), x1=t(6, 2, seed=1), **more)


flat_flow = lambda time, x: -x  # noqa: E731


table(
    "weighting.weighted_cfm",
    flow_loss=lambda m: dict(prediction=t(4, 2), target=t(4, 2), weights=torch.ones(4), reduction="mean"),
    pair_cost=lambda m: pair(cost="l2"),
    cost_matrix=lambda m: pair(cost="l2"),
    sinkhorn_potentials=lambda m: pair(
        eps=1.0, cost="l2", a=torch.full((6,), 1 / 6), b=torch.full((6,), 1 / 6), n_iter=9, tol=0.1
    ),
    gibbs_weights_from_cost=lambda m: dict(cost=Wide(torch.rand(4)), eps=1.0, normalize="batch"),
    gibbs_weights=lambda m: pair(eps=1.0, cost="l2", normalize="batch"),
    TiltStatistics=RECORD,
    tilt_statistics=lambda m: pair(eps=1.0, cost="l2"),
    exact_gaussian_prior_velocity=lambda m: dict(
        t=0.5, x=t(4, 2), targets=t(5, 2), eps=1.0, weights=torch.full((5,), 0.2), cost="l2", chunk=8
    ),
    tilt_curve=lambda m: pair(kappas=[0.1, 1.0], cost="l2"),
    select_epsilon=lambda m: dict(curve=curve(m), rule="threshold", rv_max=0.05, ess_min=0.5),
    EpsilonRule="scikit-learn's rule: an estimator checks in `fit` (test_weighted_cfm)",
    path_energy=lambda m: dict(path=Wide(t(4, 3, 2)), times=torch.linspace(0, 1, 4)),
    normalized_path_energy=lambda m: dict(energy=1.0, w2=1.0),
    curvature=lambda m: dict(path=Wide(t(4, 3, 2)), times=torch.linspace(0, 1, 4)),
    wasserstein2=lambda m: dict(x=t(4, 2), y=t(5, 2)),
    weight_variance=lambda m: pair(cost="l2"),
    minibatch_plan=lambda m: pair(reg=1.0, cost="sqeuclidean", n_iter=9, tol=0.1),
    ot_minibatch_pairs=lambda m: pair(method="sinkhorn", reg=1.0, cost="sqeuclidean"),
    WeightedConditionalFlowMatcher=lambda m: dict(
        eps=1.0, sigma=0.1, cost="l2", normalize="batch", coupling="independent", reg=0.05
    ),
    bridge_reference=lambda m: pair(t=torch.rand(6), cost="l2"),
    bridge=lambda m: pair(t=torch.rand(6), cost="l2"),
    wcfm_loss=lambda m: dict(
        velocity=flat_flow,
        **pair(
            t=torch.rand(6),
            eps=1.0,
            sigma=0.1,
            cost="l2",
            normalize="batch",
            f_hat=torch.ones(6),
            g_hat=torch.ones(6),
            reduction="mean",
        ),
    ),
    Flow=RECORD,
    integrate=lambda m: dict(velocity=flat_flow, x0=Free(t(4, 2)), n_steps=2, method="euler", rtol=1e-3, atol=1e-3),
    StackedVelocity=lambda m: dict(copies=2, dim=2, width=4, depth=1, seeds=[0, 1]),
    time_embedding=lambda m: dict(t=Wide(torch.rand(4)), width=8),
    VelocityUNet=lambda m: dict(channels=1, width=4, mults=[1, 2], blocks=1),
    sample_gaussian=lambda m: dict(count=3),
    sample_circular_mog=lambda m: dict(count=3, components=4, radius=1.0, sd=0.1),
    sample_8gaussians=lambda m: dict(count=3),
    sample_moons=lambda m: dict(count=3),
    sample_funnel=lambda m: dict(count=3, dim=2, sd=3.0),
    toy_rule=lambda m: dict(transport="Gaussian → moons", points=30),
    train_arms=lambda m: dict(
        transport="Gaussian → moons", arms=[("CFM", 1.0)], seeds=[0], steps=1, batch=4, pool=8, width=4, lr=0.001
    ),
    load_stack=lambda m: dict(parameters=[p.detach().numpy() for p in m.StackedVelocity(1, width=4).layers]),
    evaluate_arms=EXPERIMENT,
    image_loss=lambda m: dict(arm="W-CFM", eps=1.0, reservoir=Wide(t(3, 1, 4, 4))),
    train_image_arm=EXPERIMENT,
    load_unet=EXPERIMENT,
    generate=lambda m: dict(net=flat_flow, count=2, shape=(1, 4, 4), seed=0, batch=2),
    train_features=EXPERIMENT,
    image_features=EXPERIMENT,
    frechet_distance=lambda m: dict(a=t(6, 2), b=t(7, 2)),
    precision_recall=lambda m: dict(real=t(6, 2), fake=t(7, 2), neighbours=2),
    image_splits=EXPERIMENT,
    evaluate_image_arm=EXPERIMENT,
    bridge_bytes=lambda m: dict(batch=4, dim=2, itemsize=4),
    training_step=lambda m: dict(arm="CFM", net=net(2, 2), x1=Free(t(4, 2)), eps=1.0, lr=0.001),
    benchmark=RACE,
)
