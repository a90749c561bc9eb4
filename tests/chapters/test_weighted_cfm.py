"""Weighted flow matching against independent oracles: POT, SciPy, scikit-learn, torchcfm where installed, brute force."""

import math
import types

import battery
import chapter_code
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from sklearn.neighbors import NearestNeighbors
from torch import nn

ot = pytest.importorskip("ot")
pytest.importorskip("torchdiffeq")
pytest.importorskip("accelerate")

from weightbook.blocks.nets import MLP  # noqa: E402
from weightbook.book.checks import assert_close, rms_error, z_test  # noqa: E402
from weightbook.weighting import weighted_cfm as wcfm  # noqa: E402


def cloud(count, dim=2, seed=0, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pot_plan(a, b, C, eps):
    return ot.sinkhorn(a, b, C, eps, method="sinkhorn_log", stopThr=1e-13, numItermax=50_000)


# ---- transport -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", wcfm.COSTS)
@pytest.mark.parametrize("eps", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("n, m", [(1, 5), (20, 20), (30, 11)])
def test_potentials_give_pots_plan(cost, eps, n, m):
    x0, x1 = cloud(n), cloud(m, seed=1, scale=2.0)
    gen = np.random.default_rng(0)
    a, b = gen.dirichlet(np.full(n, 5.0)), gen.dirichlet(np.full(m, 5.0))
    C = ot.dist(x0.numpy(), x1.numpy(), metric="euclidean" if cost == "l2" else "sqeuclidean")
    masses = dict(a=torch.from_numpy(a), b=torch.from_numpy(b))
    phi, psi = wcfm.sinkhorn_potentials(x0, x1, eps, cost=cost, **masses, n_iter=20_000, tol=1e-12)
    plan = np.exp(phi.numpy()[:, None] + psi.numpy() - C / eps) * a[:, None] * b
    assert_close(plan, pot_plan(a, b, C, eps), rtol=1e-6)
    assert abs((torch.from_numpy(b) * psi).sum()) < 1e-9


def test_both_sweeps_agree():
    S = 60 * torch.rand(3, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = torch.zeros(3, 9).double()
    low = wcfm._half_sweep(S)(flat)
    assert_close(low, -torch.logsumexp(flat[:, None] - S, -1), rtol=1e-12)
    small = S / 10
    assert_close(wcfm._half_sweep(small)(flat), -torch.logsumexp(flat[:, None] - small, -1), rtol=1e-12)


def test_an_unfinished_iteration_warns():
    with pytest.warns(RuntimeWarning, match="n_iter"):
        wcfm.sinkhorn_potentials(cloud(10), cloud(10, seed=1, scale=5.0), 0.01, n_iter=4)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), eps=st.floats(0.2, 20), seed=st.integers(0, 10**6))
def test_the_weighted_coupling_is_the_plan_between_its_own_marginals(n, m, eps, seed):
    x0, x1 = cloud(n, 3, seed), cloud(m, 3, seed + 1, 2.0)
    w = np.array([[math.exp(-math.dist(p, q) / eps) for q in x1.tolist()] for p in x0.tolist()])
    q, tilt = w / w.sum(), wcfm.tilt_statistics(x0, x1, eps)
    assert_close(tilt.f.numpy() / n, q.sum(1), rtol=1e-9)
    assert_close(tilt.g.numpy() / m, q.sum(0), rtol=1e-9)
    assert_close(tilt.log_z, math.log(w.mean()), rtol=1e-7, atol=1e-9)
    assert 1 / (n * m) - 1e-9 <= tilt.ess <= 1
    C = ot.dist(x0.numpy(), x1.numpy(), metric="euclidean")
    assert_close(pot_plan(q.sum(1), q.sum(0), C, eps), q, rtol=1e-6)


@pytest.mark.parametrize("count", [2, 64, 700])
def test_exact_pairs_cost_what_the_assignment_costs(count):
    x0, x1 = cloud(count), cloud(count, seed=1, scale=3.0)
    C = ((x0[:, None] - x1) ** 2).sum(-1).numpy()
    a, b = wcfm.ot_minibatch_pairs(x0, x1, replace=False)
    assert torch.equal(a, x0) and len(torch.unique(b, dim=0)) == count
    assert_close(((a - b) ** 2).sum(1).mean().item(), C[linear_sum_assignment(C)].mean(), rtol=1e-9)
    drawn, _ = wcfm.ot_minibatch_pairs(x0, x1, generator=torch.Generator().manual_seed(0))
    assert count < 50 or 0.5 < len(torch.unique(drawn, dim=0)) / count < 0.75  # 1 - 1/e


def test_entropic_pairs_follow_the_plan():
    x0, x1 = cloud(6), cloud(6, seed=1)
    gen, wanted = torch.Generator().manual_seed(0), pot_plan([], [], ot.dist(x0.numpy(), x1.numpy()), 0.7)
    counts = []
    for _ in range(600):
        a, b = wcfm.ot_minibatch_pairs(x0, x1, method="sinkhorn", reg=0.7, generator=gen)
        hit = (a[:, None] == x0).all(-1).double().T @ (b[:, None] == x1).all(-1).double()
        counts.append(hit.flatten() / 6)
    common = wanted.flatten() > 0.005  # rarer pairs are seen too seldom for a normal approximation
    z_test(torch.stack(counts).numpy()[:, common], wanted.flatten()[common])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 5), columns=st.integers(1, 9))
def test_columns_are_drawn_where_there_is_mass(seed, rows, columns):
    gen = torch.Generator().manual_seed(seed)
    plan = (torch.rand(rows, columns, generator=gen) > 0.5).float()
    plan[:, 0] = 1
    drawn = wcfm._draw_columns(plan, gen)
    assert (plan.gather(1, drawn[:, None]) > 0).all()


# ---- weights and losses ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(0.05, 1e4), shift=st.floats(0, 1e4), count=st.integers(1, 20))
def test_batch_weights_have_mean_one_and_no_scale(seed, eps, shift, count):
    c = 5 * torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w = wcfm.gibbs_weights_from_cost(c, eps)
    plain = np.exp(-(c.numpy() - c.min().item()) / eps)
    assert_close(w.numpy(), plain / plain.mean(), rtol=1e-9)
    assert_close(wcfm.gibbs_weights_from_cost(c + shift, eps), w, rtol=1e-6)


@pytest.mark.parametrize("normalize", ["batch", "none"])
@pytest.mark.parametrize("cost", wcfm.COSTS)
@pytest.mark.parametrize("shape", [(8, 2), (8, 3, 5, 5)], ids=str)
def test_the_loss_is_the_formula(shape, cost, normalize):
    gen = torch.Generator().manual_seed(0)
    x0, x1, t = torch.randn(shape, generator=gen), torch.randn(shape, generator=gen), torch.rand(8, generator=gen)
    loss = wcfm.wcfm_loss(lambda t, x: x.sin(), x0, x1, t, eps=3.0, cost=cost, normalize=normalize, reduction="none")
    a, b, s = x0.double().numpy().reshape(8, -1), x1.double().numpy().reshape(8, -1), t.double().numpy()[:, None]
    c = np.linalg.norm(b - a, axis=1) ** (1 if cost == "l2" else 2)
    w = np.exp(-c / 3)
    w = w / w.mean() if normalize == "batch" else w
    assert_close(loss.double().numpy(), w * ((np.sin((1 - s) * a + s * b) - (b - a)) ** 2).mean(1), rtol=1e-5)


def test_weights_carry_no_gradient():
    x1 = torch.randn(6, 2, requires_grad=True)
    assert not wcfm.gibbs_weights(torch.zeros(6, 2), x1, 1.0).requires_grad


def test_the_matcher_agrees_with_torchcfm():
    torchcfm = pytest.importorskip("torchcfm")
    x0, x1, t = torch.randn(16, 2), torch.randn(16, 2), torch.rand(16)
    _, xt, u = torchcfm.ConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow(x0, x1, t)
    _, ours, velocity, w = wcfm.WeightedConditionalFlowMatcher(2.0).sample_location_and_conditional_flow(x0, x1, t)
    assert_close(ours, xt, rtol=1e-6)
    assert_close(velocity, u, rtol=1e-6)
    assert_close(w, wcfm.gibbs_weights(x0, x1, 2.0), rtol=1e-6)
    plan = torchcfm.optimal_transport.OTPlanSampler("exact").get_map(x0, x1)
    a, b = wcfm.ot_minibatch_pairs(x0, x1, replace=False)
    cost = (plan * torch.cdist(x0, x1).square().numpy()).sum()
    assert_close(((a - b) ** 2).sum(1).mean().double().item(), float(cost), rtol=1e-5)


def test_sigma_adds_noise_of_that_size():
    gen, x = torch.Generator().manual_seed(0), torch.zeros(20_000, 1)
    _, xt, u, w = wcfm.WeightedConditionalFlowMatcher(sigma=0.3).sample_location_and_conditional_flow(x, x, generator=gen)
    z_test(xt.square().squeeze(1), 0.09)
    assert u.abs().max() == 0 and torch.equal(w, torch.ones(20_000))


def test_a_far_batch_does_not_underflow():
    x0, x1 = torch.zeros(4, 3072), torch.ones(4, 3072) * torch.tensor([1000.0, 1001, 1002, 1003])[:, None]
    w = wcfm.gibbs_weights(x0, x1, 5.0)
    assert w.isfinite().all() and w.sum() == pytest.approx(4)
    loss = wcfm.wcfm_loss(lambda t, x: x, x0, x1, eps=5.0)
    assert loss.isfinite() and loss > 0


# ---- exact field -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", wcfm.COSTS)
@pytest.mark.parametrize("eps", [None, 0.7, math.inf])
@pytest.mark.parametrize("t", [0.0, 0.5, 0.95])
def test_the_field_is_the_sum_written_out(t, eps, cost):
    x, Y, nu = cloud(5), cloud(7, seed=1, scale=2.0), torch.full((7,), 1 / 7, dtype=torch.float64)
    nu = nu * torch.linspace(0.5, 1.5, 7, dtype=torch.float64)
    wanted = []
    for point in x.numpy():
        p = []
        for y, mass in zip(Y.numpy(), nu.numpy(), strict=True):
            x0 = (point - t * y) / (1 - t)
            c = np.linalg.norm(x0 - y) ** (1 if cost == "l2" else 2)
            p.append(mass * math.exp(-(x0 @ x0) / 2 - (0 if eps is None else c / eps)))
        wanted.append((np.array(p) @ Y.numpy() / sum(p) - point) / (1 - t))
    ours = wcfm.exact_gaussian_prior_velocity(t, x, Y, eps=eps, weights=nu / nu.sum(), cost=cost, chunk=2)
    assert_close(ours.numpy(), np.array(wanted), rtol=1e-9)


def test_the_field_takes_images():
    x, Y = torch.randn(3, 1, 4, 4), torch.randn(6, 1, 4, 4)
    flat = wcfm.exact_gaussian_prior_velocity(0.4, x.flatten(1), Y.flatten(1), eps=2.0)
    assert_close(wcfm.exact_gaussian_prior_velocity(0.4, x, Y, eps=2.0), flat.view_as(x), rtol=1e-6)


def test_training_approaches_the_exact_field():
    points = wcfm.sample_8gaussians(2048, generator=torch.Generator().manual_seed(1002))
    x, distances = wcfm.sample_gaussian(500, generator=torch.Generator().manual_seed(5)), []
    x = 0.5 * x + 0.5 * points[:500]
    exact = wcfm.exact_gaussian_prior_velocity(0.5, x, points, eps=2.7)
    for steps in (1, 400):
        net = wcfm.load_stack(wcfm.train_arms("Gaussian → 8 Gaussians", [("W-CFM", 2.7)], seeds=(1,), steps=steps, pool=2048))
        distances.append(rms_error(net(torch.full((1, 500), 0.5), x[None])[0], exact))
    assert distances[1] < 0.5 < distances[0]


# ---- the rule --------------------------------------------------------------------------------------------------------


TestEpsilonRule = battery.estimator(wcfm.EpsilonRule, fitted=lambda rule: rule.fit(cloud(60).numpy()))


@pytest.mark.parametrize("rule", ["threshold", "elbow", "kappa"])
def test_the_rule_is_reproducible_and_takes_tensors(rule):
    x = wcfm.sample_moons(300, generator=torch.Generator().manual_seed(0))
    first, second = (wcfm.EpsilonRule(rule, random_state=3).fit(data) for data in (x, x.double().numpy()))
    assert first.eps_ == second.eps_ and first.kappa_ == pytest.approx(first.eps_ / math.sqrt(2))
    a, b = torch.randn(9, 2), torch.randn(9, 2)
    assert_close(first.weights(a, b), wcfm.gibbs_weights(a, b, first.eps_), rtol=1e-7)


def test_the_elbow_is_found_in_a_bent_line():
    x = np.arange(11.0)
    assert wcfm._elbow(x, np.maximum(10 - 3 * x, 1 - 0.1 * x)) == 3


def test_no_admissible_epsilon_warns():
    curve = wcfm.tilt_curve(cloud(50), cloud(50, seed=1, scale=9.0), [0.1, 0.2])
    with pytest.warns(RuntimeWarning, match="rv_max"):
        assert wcfm.select_epsilon(curve) == pytest.approx(0.2 * math.sqrt(2))


# ---- sampling and metrics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, bound", [("euler", 0.05), ("midpoint", 1e-3), ("heun", 1e-3), ("dopri5", 1e-5)])
def test_trajectories_agree_with_scipy(method, bound):
    field = lambda t, x: torch.stack((x[:, 1], -x[:, 0] * (1 + t)), 1)  # noqa: E731
    x0 = cloud(4)
    flow = wcfm.integrate(field, x0, n_steps=100, method=method, return_path=True, rtol=1e-7, atol=1e-7)
    for k, start in enumerate(x0.numpy()):
        sol = solve_ivp(lambda t, x: (x[1], -x[0] * (1 + t)), (0, 1), start, rtol=1e-10, atol=1e-10, t_eval=flow.times.numpy())
        assert rms_error(flow.path[:, k].numpy(), sol.y.T) < bound
    assert torch.equal(flow.path[-1], flow.x) and flow.path.shape == (101, 4, 2)


def test_energy_bounds_hold_on_random_paths():
    for seed in range(20):
        path = cloud(11 * 8 * 2, 1, seed).view(11, 8, 2)
        times = torch.linspace(0, 1, 11, dtype=torch.float64)
        energy, w2 = wcfm.path_energy(path, times), wcfm.wasserstein2(path[0], path[-1])
        straight = (path[-1] - path[0]).square().sum(1).mean()
        assert w2**2 <= straight + 1e-9 <= energy + 2e-9
        assert_close(wcfm.curvature(path, times), energy - straight, rtol=1e-9)
    assert wcfm.normalized_path_energy(2.0, 2.0) == -0.5 and wcfm.normalized_path_energy(2.0, 2.0, signed=False) == 0.5


@pytest.mark.parametrize("n, m", [(1, 1), (40, 40), (17, 29)])
def test_wasserstein_agrees_with_a_linear_programme(n, m):
    from scipy.optimize import linprog

    x, y = cloud(n), cloud(m, seed=1)
    C = ((x[:, None] - y) ** 2).sum(-1).numpy()
    rows = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    best = linprog(C.ravel(), A_eq=rows, b_eq=np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)]))
    assert_close(wcfm.wasserstein2(x, y) ** 2, best.fun, rtol=1e-6)


def test_frechet_agrees_with_the_matrix_square_root():
    a, b = cloud(60, 5) @ cloud(5, 5, 3), cloud(80, 5, 1) + 0.5
    A, B = np.cov(a.numpy().T), np.cov(b.numpy().T)
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(A + B - 2 * np.real(sqrtm(A @ B)))
    assert_close(wcfm.frechet_distance(a, b), wanted, rtol=1e-8)


def test_precision_and_recall_agree_with_nearest_neighbours():
    real, fake = cloud(50, 3), cloud(40, 3, 1, 1.5)
    balls = lambda x: NearestNeighbors(n_neighbors=4).fit(x).kneighbors(x)[0][:, -1]  # noqa: E731
    D = np.linalg.norm(real.numpy()[:, None] - fake.numpy(), axis=-1)
    wanted = (D <= balls(real.numpy())[:, None]).any(0).mean(), (D.T <= balls(fake.numpy())[:, None]).any(0).mean()
    assert wcfm.precision_recall(real, fake) == pytest.approx(wanted)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 9), m=st.integers(2, 9), dim=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_variance_shares_agree_with_analysis_of_variance(n, m, dim, seed):
    x0, x1 = cloud(n, dim, seed), cloud(m, dim, seed + 1)
    C = np.linalg.norm(x0.numpy()[:, None] - x1.numpy(), axis=-1)
    shares = wcfm.weight_variance(x0, x1)
    assert_close(shares["noise"], C.mean(1).var() / C.var(), rtol=1e-8)
    assert_close(shares["data"], C.mean(0).var() / C.var(), rtol=1e-8)
    assert shares["interaction"] == pytest.approx(1 - shares["noise"] - shares["data"], abs=1e-9)


# ---- networks and training -------------------------------------------------------------------------------------------


def test_the_stack_is_many_perceptrons():
    stack, mlp = wcfm.StackedVelocity(3, dim=4, width=16, depth=2, seeds=(5,)), MLP((5, 16, 16, 4), activation=nn.SELU)
    linears = [layer for layer in mlp.layers if isinstance(layer, nn.Linear)]
    for k, linear in enumerate(linears):
        linear.weight.data, linear.bias.data = stack.layers[2 * k][1].T.clone(), stack.layers[2 * k + 1][1, 0].clone()
    t, x = torch.rand(3, 6), torch.randn(3, 6, 4)
    assert_close(stack(t, x)[1], mlp(torch.cat((x[1], t[1, :, None]), 1)), rtol=1e-5)


@pytest.mark.parametrize("size", [7, 14, 28, 32])
@pytest.mark.parametrize("mults, blocks", [((1,), 1), ((1, 2), 1), ((1, 2, 2), 2)], ids=str)
def test_the_unet_keeps_the_size(size, mults, blocks):
    net = wcfm.VelocityUNet(3, width=8, mults=mults, blocks=blocks)
    x, t = torch.randn(2, 3, size, size), torch.rand(2)
    assert net(t, x).shape == x.shape
    twin = wcfm.VelocityUNet(3, width=8, mults=mults, blocks=blocks)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(t, x), net(t, x))


def test_every_arm_has_weights_of_mean_one_and_the_right_pairs():
    arms = [(arm, 2.0) for arm in wcfm.ARMS]
    pools = wcfm._Pools.draw("8 Gaussians → moons", arms, (0, 1), 128)
    gen = torch.Generator().manual_seed(0)
    i, j = torch.randint(128, (2, 2, 64), generator=gen)
    lengths = {}
    for arm, eps in arms:
        x0, x1, w = wcfm._arm_batch(arm, eps, pools, i, j, gen)
        assert_close(w.mean(1), torch.ones(2), rtol=1e-5)
        lengths[arm] = (w * (x1 - x0).norm(dim=-1)).mean().item()
    assert lengths["OT-CFM"] < lengths["EOT-CFM"] < lengths["CFM"] and lengths["W-CFM"] < lengths["CFM"]
    f, g = pools.tables["marginal only", 2.0]
    w = torch.exp(-torch.cdist(pools.x0[1], pools.x1[1]) / 2)
    assert_close((f[1].exp() / w.mean(1)).std() / (f[1].exp() / w.mean(1)).mean(), torch.tensor(0.0), atol=1e-5)
    phi, psi = pools.tables["W-CFM + potentials", 2.0]
    assert_close((phi[1, :, None] + psi[1] - torch.cdist(pools.x0[1], pools.x1[1]) / 2).exp().mean(1), torch.ones(128), rtol=1e-3)


def test_training_repeats_itself_and_learns():
    arms = [("CFM", 1.0), ("OT-CFM", 1.0)]
    run = lambda steps: wcfm.train_arms("inner ring → 5 Gaussians", arms, seeds=(0, 1), steps=steps, batch=64, pool=256, width=16)  # noqa: E731
    first, second = run(20), run(20)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    untrained, trained = (np.mean([r["w2"] for r in wcfm.evaluate_arms(
        "inner ring → 5 Gaussians", arms, run(steps), seeds=(0, 1), points=200, nfe_points=20, nfe=(1,))]) for steps in (1, 400))
    assert trained < 0.6 * untrained


@pytest.mark.parametrize("name", wcfm.TRANSPORTS)
def test_transports_sample_finite_points_reproducibly(name):
    for law in wcfm.TRANSPORTS[name]:
        one, two = (law(50, generator=torch.Generator().manual_seed(3)) for _ in range(2))
        assert one.shape == (50, 2) and torch.equal(one, two) and one.isfinite().all()


def test_the_funnel_has_its_dimension():
    y = wcfm.sample_funnel(4000, dim=5, generator=torch.Generator().manual_seed(0))
    assert y.shape == (4000, 5)
    z_test(y[:, 0].square(), 9.0)


# ---- the three tensors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", wcfm.COSTS)
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 1e-2)], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (7, 63), (2, 3, 20, 20), (3, 1024), (2, 2049), (0, 5)], ids=str)
def test_the_bridge_agrees_with_numpy(shape, dtype, bound, cost):
    gen = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(shape, generator=gen).to(dtype), torch.randn(shape, generator=gen).to(dtype)
    t = torch.rand(shape[0], generator=gen)
    xt, u, c = wcfm.bridge(x0, x1, t, cost=cost)
    a, b = x0.double().flatten(1).numpy(), x1.double().flatten(1).numpy()
    s = t.double().numpy()[:, None]
    for ours, wanted in ((xt.flatten(1), (1 - s) * a + s * b), (u.flatten(1), b - a)):
        assert ours.dtype == dtype
        assert_close(ours.double().numpy(), wanted, rtol=bound)
    distance = np.linalg.norm(b - a, axis=1)
    assert_close(c.double().numpy(), distance if cost == "l2" else distance**2, rtol=1e-5 if dtype == torch.float32 else bound)


def test_all_inputs_are_differentiated():
    inputs = [torch.randn(3, 4), torch.randn(3, 4), torch.rand(3)]
    leaves = [x.double().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(wcfm.bridge, leaves)


def test_the_benchmark_writes_complete_rows():
    settings = types.SimpleNamespace(device="cpu")
    rows = wcfm.benchmark(settings, batches=(16,), image_batches=(2,), side=6, width=4, repeats=3)
    assert {r["arm"] for r in rows} >= {"CFM", "W-CFM", "Sinkhorn", "exact OT"}
    assert {r["batch"] for r in rows} == {16, 2} and all(r["chapter"] == "weighted_cfm" and r["ratio"] > 0 for r in rows)


# ---- recipe ----------------------------------------------------------------------------------------------------------


test_recipe = battery.recipe("weighted_cfm", "ε =", "W2 to the data")


# ---- bad input -------------------------------------------------------------------------------------------------------

X, Y, T = torch.randn(4, 2), torch.randn(4, 2), torch.rand(4)
CURVE = wcfm.tilt_curve(X, Y, [0.5, 1.0])
BAD = {
    "loss shapes": (lambda: wcfm.flow_loss(X, torch.randn(4, 3)), ValueError, "prediction"),
    "loss weights": (lambda: wcfm.flow_loss(X, Y, torch.ones(3)), ValueError, "weights"),
    "loss reduction": (lambda: wcfm.flow_loss(X, Y, reduction="sum"), ValueError, "reduction"),
    "pairs of other shape": (lambda: wcfm.pair_cost(X, torch.randn(5, 2)), ValueError, "x1"),
    "pairs of other dtype": (lambda: wcfm.pair_cost(X, Y.double()), ValueError, "dtype"),
    "pairs of integers": (lambda: wcfm.pair_cost(X.long(), Y.long()), TypeError, "x0"),
    "pairs of lists": (lambda: wcfm.pair_cost([[1.0]], Y), TypeError, "x0"),
    "cost": (lambda: wcfm.pair_cost(X, Y, cost="l1"), ValueError, "cost"),
    "matrix of other width": (lambda: wcfm.cost_matrix(X, torch.randn(4, 3)), ValueError, "x1"),
    "matrix against nothing": (lambda: wcfm.cost_matrix(X, X[:0]), ValueError, "x1"),
    "potentials at zero": (lambda: wcfm.sinkhorn_potentials(X, Y, 0.0), ValueError, "eps"),
    "potentials with bad masses": (lambda: wcfm.sinkhorn_potentials(X, Y, 1.0, a=torch.ones(4)), ValueError, "sum to 1"),
    "potentials with text": (lambda: wcfm.sinkhorn_potentials(X, Y, "1"), TypeError, "eps"),
    "weights at zero": (lambda: wcfm.gibbs_weights(X, Y, 0.0), ValueError, "eps"),
    "weights at nan": (lambda: wcfm.gibbs_weights(X, Y, math.nan), ValueError, "eps"),
    "weights normalised how": (lambda: wcfm.gibbs_weights(X, Y, 1.0, normalize="sum"), ValueError, "normalize"),
    "tilt at zero": (lambda: wcfm.tilt_statistics(X, Y, -1.0), ValueError, "eps"),
    "field at one": (lambda: wcfm.exact_gaussian_prior_velocity(1.0, X, Y), ValueError, "t"),
    "field eps": (lambda: wcfm.exact_gaussian_prior_velocity(0.5, X, Y, eps=0.0), ValueError, "eps"),
    "field masses": (lambda: wcfm.exact_gaussian_prior_velocity(0.5, X, Y, weights=torch.ones(4)), ValueError, "weights"),
    "kappas": (lambda: wcfm.tilt_curve(X, Y, [0.0]), ValueError, "kappas"),
    "rule": (lambda: wcfm.select_epsilon(CURVE, "knee"), ValueError, "rule"),
    "rule share": (lambda: wcfm.select_epsilon(CURVE, ess_min=1.0), ValueError, "ess_min"),
    "estimator rule": (lambda: wcfm.EpsilonRule("best").fit(X), ValueError, "rule"),
    "estimator nan": (lambda: wcfm.EpsilonRule().fit(X * math.nan), ValueError, "NaN"),
    "estimator unfitted": (lambda: wcfm.EpsilonRule().weights(X, Y), ValueError, "not fitted"),
    "energy of a batch": (lambda: wcfm.path_energy(X, T), ValueError, "path"),
    "energy times": (lambda: wcfm.path_energy(torch.randn(3, 4, 2), T), ValueError, "times"),
    "energy floor": (lambda: wcfm.normalized_path_energy(1.0, 0.0), ValueError, "w2"),
    "plan at zero": (lambda: wcfm.minibatch_plan(X, Y, reg=0.0), ValueError, "reg"),
    "pairs method": (lambda: wcfm.ot_minibatch_pairs(X, Y, method="emd"), ValueError, "method"),
    "matcher sigma": (lambda: wcfm.WeightedConditionalFlowMatcher(1.0, sigma=-1.0), ValueError, "sigma"),
    "matcher coupling": (lambda: wcfm.WeightedConditionalFlowMatcher(1.0, coupling="ot"), ValueError, "coupling"),
    "bridge times": (lambda: wcfm.bridge(X, Y, torch.rand(3)), ValueError, "t"),
    "loss factor": (lambda: wcfm.wcfm_loss(lambda t, x: x, X, Y, eps=1.0, f_hat=torch.ones(3)), ValueError, "f_hat"),
    "integrate method": (lambda: wcfm.integrate(lambda t, x: x, X, method="rk4"), ValueError, "method"),
    "integrate steps": (lambda: wcfm.integrate(lambda t, x: x, X, n_steps=0), ValueError, "n_steps"),
    "stack of none": (lambda: wcfm.StackedVelocity(0), ValueError, "copies"),
    "unet width": (lambda: wcfm.VelocityUNet(1, width=5), ValueError, "width"),
    "unet channels": (lambda: wcfm.VelocityUNet(1, width=8)(T, torch.randn(4, 3, 8, 8)), ValueError, "x"),
    "moons of none": (lambda: wcfm.sample_moons(0), ValueError, "count"),
    "funnel on a line": (lambda: wcfm.sample_funnel(3, dim=1), ValueError, "dim"),
    "transport": (lambda: wcfm.train_arms("moons", [("CFM", 1.0)], seeds=(0,), steps=1), ValueError, "transport"),
    "arm": (lambda: wcfm.train_arms("8 Gaussians → moons", [("FM", 1.0)], seeds=(0,), steps=1), ValueError, "arms"),
    "arm eps": (lambda: wcfm.train_arms("8 Gaussians → moons", [("CFM", 0.0)], seeds=(0,), steps=1), ValueError, "eps"),
    "image arm": (lambda: wcfm.image_loss("EOT", 1.0, torch.randn(4, 1, 8, 8)), ValueError, "arm"),
    "frechet widths": (lambda: wcfm.frechet_distance(X, torch.randn(4, 3)), ValueError, "b"),
    "neighbours": (lambda: wcfm.precision_recall(X, Y, neighbours=4), ValueError, "neighbours"),
    "bytes": (lambda: wcfm.bridge_bytes(0, 3), ValueError, "batch"),
    "step": (lambda: wcfm.training_step("FM", nn.Linear(2, 2), X, eps=1.0), ValueError, "arm"),
}

test_bad_input = battery.errors(BAD)


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("target.to(wide)).square().flatten(1).mean(1)", "target.to(wide)).square().flatten(1).sum(1)"),
    2: ("(x1 - x0)[cell == k].mean()", "x1[cell == k].mean()"),
    3: ("(mass * (grid - x0)).sum(1)", "(mass * grid).sum(1)"),
    4: ("density = torch.exp(phi[:, None] + psi - C / 0.5)", "density = torch.exp(phi[:, None] - psi - C / 0.5)"),
    5: ("psi.exp() * torch.exp(-C / 0.5) * losses", "torch.exp(-C / 0.5) * losses"),
    6: ("scaled = cost.detach() / -eps", "scaled = cost.detach() / eps"),
    7: ("scaled.softmax(0) * len(scaled)", "scaled.softmax(0)"),
    8: ("Z = w.mean()", "Z = w.sum()"),
    9: ("fields[1.5][1]), 0.0", "fields[math.inf][1]), 0.0"),
    10: ("torch.exp(log_f - log_z), torch.exp(log_g - log_z)", "torch.exp(log_f), torch.exp(log_g)"),
    11: ("2 * log_z - torch.logsumexp(2 * L.flatten(), 0)", "log_z - torch.logsumexp(2 * L.flatten(), 0)"),
    12: ("-(tilt.f.log() + tilt.log_z)[:, None]", "-tilt.f.log()[:, None]"),
    13: ("torch.exp(-phi[:, None] - psi) * pot_plan", "torch.exp(phi[:, None] + psi) * pot_plan"),
    14: ("inner, outer = ring(36, 1.0)", "inner, outer = ring(36, 1.0) + 0.5"),
    15: ("(C == C.min()).double()", "(C == C.max()).double()"),
    16: ("(torch.softmax(-fine, 0) * fine).sum().item()", "fine.mean().item()"),
    17: ("x * y - 2 / (e + 2)", "x * y - 2 / (e + 4)"),
    18: ("math.sqrt(1 + 8 / e) / (1 + 4 / e)", "(1 + 8 / e) / (1 + 4 / e)"),
    19: ("/ ((1 - t) ** power * eps)", "/ eps"),
    20: ("cost=cost), math.sqrt(x0[0].numel())", "cost=cost), float(x0[0].numel())"),
    21: ("(steps / times.diff().to(steps)[:, None])", "(steps * times.diff().to(steps)[:, None])"),
    22: ("return path_energy(path, times) - straight", "return path_energy(path, times) + straight"),
    23: ("assert w2**2 <= path_energy(straight, times)", "assert w2**2 <= curvature(straight, times)"),
    24: ("rest = C - C.mean() - rows[:, None] - columns", "rest = C - C.mean() - rows[:, None] + columns"),
    25: ("passes = 4 if fused", "passes = 3 if fused"),
}


def derivation() -> list[str]:
    "The derivation, the pairs and losses, and the cost model on the GPU, in order"
    first = chapter_code.derivation("weighted_cfm", "### Sampling")
    return first + chapter_code.derivation("weighted_cfm", "### The race", start="### What weighting costs")


TestBreaks = battery.breaks("weighted_cfm", BREAKS, sources=derivation)
