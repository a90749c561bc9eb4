"""Movable antennas against a conic solver, a quadratic program, isotonic regression and brute force."""

import itertools
import math
import pickle
from copy import deepcopy
from dataclasses import replace

import battery
import cvxpy as cp
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.isotonic import IsotonicRegression

from weightbook.book.checks import assert_close
from weightbook.estimation import movable_antenna_isac as ma

WAVE = 0.0107
HALF = torch.tensor([0.5, 0.5], dtype=torch.float64)


def scenario(drops: int = 2, N: int = 16, users: int = 2, seed: int = 0, **options) -> ma.NearFieldISACScenario:
    g = torch.Generator().manual_seed(seed)
    r = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    about = dict(
        tx=ma.line_array(N, WAVE / 2),
        users=ma.at_angle(3 + 4 * r(drops, users), 100 * r(drops, users) - 50),
        target=ma.at_angle(5.0, 5.0),
        wavelength=WAVE,
        clutter=ma.at_angle(4 + 4 * r(drops, 2), 100 * r(drops, 2) - 50),
    )
    return ma.NearFieldISACScenario(**(about | options))


def step_of(s, level: float = 0.1, antennas_at: int = 1):
    "Arguments of `isac_precoder_update` at the usual start"
    H = s.channels(ma.start_positions(s, 2)[antennas_at]) / math.sqrt(s.noise_var)
    weights = torch.full((s.users.shape[-2],), 1 / s.users.shape[-2], dtype=torch.float64)
    gamma = level * ma.largest_sinr(s, 0.01)
    F, w, possible = ma.isac_start(s, H, 0.01, gamma, weights)
    assert possible.all()
    return H, F, w, ma.sensing_rows(ma.mvdr_combiner(F, w, s), s), 0.01, gamma, weights


# ---- the step of precoders and beam ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("users", "antennas", "N", "level"), [(2, 2, 16, 0.1), (1, 1, 8, 0.5), (3, 2, 16, 1e-3), (2, 3, 12, 0.9)]
)
def test_the_exact_step_is_that_of_a_conic_solver(users, antennas, N, level):
    s = scenario(1, N, users, seed=users + N, antennas=antennas)
    H, F, w, tau, power, gamma, weights = step_of(s, level)
    F, w = F[0], w[0]
    H, tau, gamma = H[0], tau[0], gamma[0].item()
    for _ in range(3):  # the first steps leave power over; later ones do not
        U, W = ma.wmmse_auxiliaries(H, F, w)
        Phi = sum(weights[k] * H[k].mH @ U[k] @ W[k] @ U[k].mH @ H[k] for k in range(users)).resolve_conj()
        G = torch.cat([weights[k] * H[k].mH @ U[k] @ W[k] for k in range(users)], 1).resolve_conj().numpy()
        value, vectors = torch.linalg.eigh(Phi)
        root = (value.clamp(min=0).sqrt()[:, None] * vectors.mH).resolve_conj().numpy()
        rows, n = tau.resolve_conj().numpy(), G.shape[1]
        Z = cp.Variable((N, n + 1), complex=True)
        spill = cp.hstack([cp.vec(rows @ Z[:, :n], order="C"), rows[1:] @ Z[:, n], np.ones(1)])
        cost = cp.sum_squares(root @ Z) - 2 * cp.real(cp.sum(cp.multiply(G.conj(), Z[:, :n])))
        held = [cp.sum_squares(Z) <= power, math.sqrt(gamma) * cp.norm(spill) <= cp.real(rows[0] @ Z[:, n])]
        wanted = cp.Problem(cp.Minimize(cost), held).solve(solver=cp.CLARABEL)
        F, w, _ = ma.isac_precoder_update(H, F, w, tau, power, gamma, weights)
        ours = torch.cat([*F, w[:, None]], 1)
        found = (ours.conj() * (Phi @ ours)).sum().real - 2 * (torch.from_numpy(G).conj() * ours[:, :n]).sum().real
        assert_close(found.item(), float(wanted), rtol=1e-6)
        assert ours.abs().square().sum() <= power * (1 + 1e-8)
        assert ma._sinr_of(tau, F, w, "dedicated") >= gamma * (1 - 1e-6)


@pytest.mark.parametrize("mode", ["dedicated", "joint"])
def test_the_tangent_step_is_that_of_a_conic_solver(mode):
    s = scenario(1, 10, seed=3, sensing_mode=mode)
    H, F, w, tau, power, gamma, weights = step_of(s, 0.3)
    H, F, w, tau, gamma = H[0], F[0], w[0], tau[0], gamma[0].item()
    p = ma._subproblem(H, F, w, tau, *ma._targets(power, gamma, H), weights, 1.0, True)
    value, vectors = torch.linalg.eigh(p["Phi"])
    root, G = (value.clamp(min=0).sqrt()[:, None] * vectors.mH).resolve_conj().numpy(), p["G"].resolve_conj().numpy()
    rows, c = tau.resolve_conj().numpy(), (tau[:1] @ p["Z"]).resolve_conj().numpy()[0]
    Z, n, joint = cp.Variable((10, 5), complex=True), 4, mode == "joint"
    sent = range(5) if joint else (4,)
    useful = sum(2 * cp.real(np.conj(c[i]) * (rows[0] @ Z[:, i])) - abs(c[i]) ** 2 for i in sent)
    spoils = cp.sum_squares(rows[1:] @ Z) + (0 if joint else cp.sum_squares(rows[:1] @ Z[:, :n]))
    cost = cp.sum_squares(root @ Z) - 2 * cp.real(cp.sum(cp.multiply(G.conj(), Z[:, :n])))
    wanted = cp.Problem(cp.Minimize(cost), [cp.sum_squares(Z) <= power, useful >= gamma * (spoils + 1)]).solve(
        solver=cp.CLARABEL
    )
    F, w, _ = ma.isac_precoder_update(H, F, w, tau, power, gamma, weights, mode=mode, method="bisection")
    ours = torch.cat([*F, w[:, None]], 1)
    found = ((ours.conj() * (p["Phi"] @ ours)).sum() - 2 * (p["G"].conj() * ours[:, :n]).sum()).real
    assert_close(found.item(), float(wanted), rtol=1e-5)


def test_the_small_basis_changes_nothing():
    s = scenario(3)
    H, F, w, tau, power, gamma, weights = step_of(s)
    small, large = (ma.isac_precoder_update(H, F, w, tau, power, gamma, weights, full=full) for full in (False, True))
    Phi, G = ma._quadratic(H, *ma.wmmse_auxiliaries(H, F, w), weights)

    def value(F, w):
        Z = ma._columns(F, w)
        return ma._inner(Z, Phi @ Z) - 2 * ma._inner(G, Z[..., :-1])

    assert_close(value(*small[:2]), value(*large[:2]), rtol=1e-10)
    binds = ma._columns(*large[:2]).abs().square().sum((-2, -1)) > power * (1 - 1e-9)
    assert 0 < binds.sum() < 3
    assert_close(small[0][binds], large[0][binds], rtol=1e-9)
    # Where power is left over, mu stands at its floor of 1e-11 of the trace of Phi, next to the zeros of Phi: round-off in
    # the directions that change nothing is divided by it, and the precoders wander there without a change of the value.
    assert_close(small[0], large[0], rtol=1e-2)


def test_the_tangent_step_stays_at_a_fixed_point_of_the_exact_one():
    s = scenario(3)
    for level in (1e-3, 0.02, 0.1):
        gamma = level * ma.largest_sinr(s, 0.01)
        r = ma.alternating_isac(s, 0.01, gamma, HALF, move=False, n_iter=20)
        there = r.residual < 2e-6
        assert there.sum() >= 2
        tau = ma.sensing_rows(ma.mvdr_combiner(r.F, r.w, s), s)
        F, w, (mu, nu) = ma.isac_precoder_update(
            ma._normal(s, r.positions), r.F, r.w, tau, 0.01, gamma, HALF, method="bisection"
        )
        for new, old in ((F, r.F), (w, r.w), (mu, r.mu), (nu, r.nu)):
            assert_close(new[there], old[there], rtol=1e-5)


def test_both_ways_arrive_at_one_rate_when_finished():
    s = scenario(3)
    gamma = 0.1 * ma.largest_sinr(s, 0.01)
    runs = [ma.alternating_isac(s, 0.01, gamma, HALF, move=False, method=m, n_iter=6) for m in ("newton", "bisection")]
    rates = [ma.finish_design(s, r, 0.01, gamma, HALF).wsr for r in runs]
    assert_close(rates[0], rates[1], rtol=1e-4)


# ---- the second-order finish -----------------------------------------------------------------------------------------


def finish_of(s, levels=(0.3, 0.9), **options):
    gamma = torch.tensor(levels, dtype=torch.float64)[:, None] * ma.largest_sinr(s, 0.01)
    rough = ma.alternating_isac(s, 0.01, gamma, HALF, move=False, n_iter=4, **options)
    return rough, ma.finish_design(s, rough, 0.01, gamma, HALF), gamma


def test_the_finish_is_that_of_a_general_solver():
    "SciPy's SLSQP on the same beams, the combiner by the public functions: no allowed step from the end is better"
    from scipy.optimize import minimize

    s = replace(scenario(1, 8, seed=4), sensing_mode="dedicated")
    one = replace(s, users=s.users[0], clutter=s.clutter[0])
    gamma = 0.8 * ma.largest_sinr(one, 0.01)
    rough = ma.alternating_isac(one, 0.01, gamma, HALF, move=False, n_iter=4)
    fine = ma.finish_design(one, rough, 0.01, gamma, HALF)
    H = one.channels(rough.positions) / math.sqrt(one.noise_var)

    def beams(v):
        Z = torch.view_as_complex(v.reshape(8, 5, 2)) * 0.1
        return torch.stack([Z[:, :2], Z[:, 2:4]]), Z[:, 4]

    def rate(v):
        return ma.sum_rate(H, *beams(v), 1.0, HALF)

    def margins(v):
        F, w = beams(v)
        u = ma.mvdr_combiner(F, w, one)
        return torch.stack([(ma.sensing_sinr(u, F, w, one) / gamma).log(), 1 - v.square().sum()])

    def slope(of, v):
        return torch.autograd.functional.jacobian(of, torch.from_numpy(v)).numpy()

    begin = torch.view_as_real(torch.cat([*rough.F, rough.w[:, None]], 1).resolve_conj().contiguous() / 0.1)
    held = dict(
        type="ineq",
        fun=lambda v: margins(torch.from_numpy(v)).numpy(),
        jac=lambda v: slope(margins, v),
    )
    end = minimize(
        lambda v: -rate(torch.from_numpy(v)).item(),
        begin.reshape(-1).numpy(),
        jac=lambda v: -slope(rate, v),
        constraints=[held],
        method="SLSQP",
        options=dict(maxiter=200, ftol=1e-11),
    )
    assert fine.wsr >= rough.wsr
    assert_close(fine.wsr.item(), -float(end.fun), rtol=1e-5)


@pytest.mark.parametrize("mode", ["dedicated", "joint"])
def test_the_finish_is_stationary_feasible_and_never_lower(mode):
    s = scenario(2, sensing_mode=mode)
    rough, fine, gamma = finish_of(s)
    assert (fine.wsr >= rough.wsr - 1e-12).all()
    if mode == "dedicated":
        assert (fine.residual < 1e-5).all()
    else:  # the data serve sensing too, the beam goes to nothing, and its share of the residual is one of nothing
        assert (fine.w.norm(dim=-1) < 1e-9).all()
    assert (fine.sinr >= gamma * (1 - 1e-8)).all() and torch.equal(fine.positions, rough.positions)
    used = ma._columns(fine.F, fine.w).abs().square().sum((-2, -1))
    assert_close(used, torch.full_like(used, 0.01), rtol=1e-9)
    assert len(fine.history["wsr"]) == len(rough.history["wsr"]) + 1


def test_the_finish_does_not_depend_on_the_batch():
    s = scenario(2)
    rough, fine, gamma = finish_of(s)
    one = replace(s, users=s.users[1], clutter=s.clutter[1])
    alone = ma.alternating_isac(one, 0.01, gamma[1, 1], HALF, move=False, n_iter=4)
    assert_close(ma.finish_design(one, alone, 0.01, gamma[1, 1], HALF).wsr, fine.wsr[1, 1], rtol=1e-6)


def test_second_derivatives_in_a_batch_are_those_of_differences():
    "torch.linalg.solve under vmap failed this; inv does not"
    s = scenario(3)
    rough, _, gamma = finish_of(s)
    p, z, _ = ma._beam_problem(s, rough, *ma._targets(0.01, gamma, s.tx + 0j), HALF)
    for of in (ma._nats, ma._margin):
        H = ma.vmap(lambda y, q, of=of: ma.hessian(lambda v: of(v, q))(y))(z, p)
        away = torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        slope = lambda y, of=of: ma.vmap(ma.grad(of))(y, p)  # noqa: E731
        measured = (slope(z + 1e-6 * away) - slope(z - 1e-6 * away)) / 2e-6
        assert_close((H @ away[..., None])[..., 0], measured, rtol=1e-4)


def test_the_price_is_the_slope_of_finished_designs():
    s = scenario(1)
    _, fine, gamma = finish_of(s, (0.49, 0.5, 0.51))
    tau = ma.sensing_rows(fine.u, s)
    spoils = (tau[..., None, :, :] @ fine.F).abs().square().sum((-3, -2, -1))
    spoils = spoils + (tau[..., 1:, :] @ fine.w[..., None]).abs().square().sum((-2, -1))
    price = (-fine.nu * gamma * (spoils + 1) / math.log(2))[1]
    assert_close(price, (fine.wsr[2] - fine.wsr[0]) / (gamma[2] / gamma[0]).log(), rtol=0.01)


def test_the_multipliers_solve_their_equations_near_the_largest_threshold():
    s = scenario(4, seed=5)
    H, F, w, tau, power, gamma, weights = step_of(s, 0.995)
    new, beam, (mu, nu) = ma.isac_precoder_update(H, F, w, tau, power, gamma, weights)
    assert (ma._sinr_of(tau, new, beam, "dedicated") >= gamma * (1 - 1e-5)).all() and (mu > 0).all() and (nu > 0).all()
    assert (ma._columns(new, beam).abs().square().sum((-2, -1)) <= power * (1 + 1e-6)).all()


# ---- positions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("M", "room"), [(1, 0.0), (2, 0.0), (3, 1.0), (5, 0.4)])
def test_the_projection_is_that_of_a_quadratic_program(M, room):
    rng = np.random.default_rng(M)
    for _ in range(10):
        x, lo, d = 2 * rng.normal(size=M), -1.0, 0.5
        hi = lo + (M - 1) * d + room
        order, z = np.argsort(x, kind="stable"), cp.Variable(M)
        held = [z[0] >= lo, z[M - 1] <= hi] + [z[i + 1] - z[i] >= d for i in range(M - 1)]
        cp.Problem(cp.Minimize(cp.sum_squares(z - x[order])), held).solve(solver=cp.CLARABEL)
        found = ma.project_min_spacing(torch.from_numpy(x), lo, hi, d).numpy()
        assert np.abs(found[order] - z.value).max() < 1e-5
        assert found.min() >= lo and found.max() <= hi


def test_the_stretches_are_isotonic_regression():
    z = torch.randn(30, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    peer = np.stack([IsotonicRegression().fit_transform(np.arange(9), row) for row in z.numpy()])
    assert_close(ma._isotonic(z).numpy(), peer, rtol=1e-9)


def test_the_landscape_has_no_better_place_than_the_one_found():
    s = scenario(1, 32, seed=1, clutter=None)
    gamma = 1e-3 * ma.largest_sinr(s, 0.01)
    found = ma.alternating_isac(s, 0.01, gamma, HALF, n_iter=10)
    line = torch.linspace(-5, 5, 9, dtype=torch.float64) * WAVE
    spots = torch.tensor(list(itertools.combinations(line.tolist(), 2)), dtype=torch.float64)
    pairs = torch.cartesian_prod(torch.arange(len(spots)), torch.arange(len(spots)))
    x = spots[pairs][:, None, :, :, None][:, 0]
    H = s.channels(x) / math.sqrt(s.noise_var)
    best = ma.sum_rate(H, ma.block_diagonalization(H, 0.01, HALF), torch.zeros(32).to(H), 1.0, HALF).max()
    assert found.wsr > best - 0.05


def test_motion_in_the_plane_keeps_to_box_and_spacing():
    s = scenario(2, axes=torch.eye(3, dtype=torch.float64)[:2], antennas=3, side=3 * WAVE)
    gamma = 1e-3 * ma.largest_sinr(s, 0.01)
    found = ma.alternating_isac(s, 0.01, gamma, HALF, n_iter=4, n_starts=3)
    x = found.positions
    apart = (x[..., :, None, :] - x[..., None, :, :]).norm(dim=-1) + torch.eye(3)
    assert x.abs().max() <= s.side / 2 and apart.min() >= WAVE / 2 * (1 - 1e-9)
    assert (found.history["wsr"].diff(dim=0) > -1e-9).all()


# ---- the whole -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["dedicated", "joint"])
@pytest.mark.parametrize("leak", [False, True])
def test_rounds_never_fall_and_keep_the_constraints(mode, leak):
    g = torch.Generator().manual_seed(0)
    H = 1e-7 * torch.complex(*torch.randn(2, 16, 16, generator=g, dtype=torch.float64)) if leak else None
    s = scenario(3, sensing_mode=mode, self_interference=H)
    gamma = 0.1 * ma.largest_sinr(s, 0.01)
    r = ma.alternating_isac(s, 0.01, gamma, HALF, n_iter=6, n_starts=2)
    assert (r.history["wsr"].diff(dim=0) > -1e-9).all() and (r.sinr >= gamma * (1 - 1e-6)).all()
    assert_close(
        ma._columns(r.F, r.w).abs().square().sum((-2, -1)), torch.full((3,), 0.01, dtype=torch.float64), rtol=1e-6
    )
    assert_close(r.sinr, ma.sensing_sinr(r.u, r.F, r.w, s), rtol=1e-9)
    assert_close(r.wsr, (r.rates * HALF).sum(-1), rtol=1e-9)


def test_a_single_antenna_and_user_is_the_matched_filter():
    s = scenario(2, users=1, antennas=1)
    r = ma.alternating_isac(s, 0.01, 0.0, torch.ones(1, dtype=torch.float64), move=False)
    h = s.channels(ma.start_positions(s, 1)[0]).flatten(-3).norm(dim=-1)
    assert_close(r.wsr, torch.log2(1 + 0.01 * h**2 / s.noise_var), rtol=1e-6)


def test_a_single_user_is_water_filling():
    s = scenario(2, 64, users=1, antennas=3, clutter=None)
    r = ma.alternating_isac(
        s, 0.01, 0.0, torch.ones(1, dtype=torch.float64), move=False, start=ma.start_positions(s, 2)[1]
    )
    gains = torch.linalg.svdvals(s.channels(r.positions)[:, 0]) ** 2 / s.noise_var
    for wsr, g in zip(r.wsr, gains, strict=True):
        levels = np.linspace(0, 1, 200_001)
        used = np.maximum(levels[:, None] - 1 / g.numpy(), 0)
        power = used[np.searchsorted(used.sum(1), 0.01)]
        assert abs(wsr.item() - np.log2(1 + power * g.numpy()).sum()) < 1e-2


def test_in_the_far_field_motion_gains_nothing():
    s = scenario(2)
    far = replace(s, users=1000 * s.users, target=1000 * s.target, clutter=None, reflection=None)
    kept, free = (ma.alternating_isac(far, 1e4, 0.0, HALF, move=m, n_iter=8) for m in (False, True))
    assert (free.wsr / kept.wsr).max() < 1.3
    alone = replace(far, users=far.users[:, :1])
    kept, free = (ma.alternating_isac(alone, 1e4, 0.0, HALF[:1] * 2, move=m, n_iter=8) for m in (False, True))
    assert_close(free.wsr, kept.wsr, rtol=1e-4)


def test_more_power_or_region_never_costs_and_a_higher_threshold_does():
    s = scenario(2)
    gamma = 0.05 * ma.largest_sinr(s, 0.01)
    base = ma.alternating_isac(s, 0.01, gamma, HALF, n_iter=6, n_starts=2)
    more = ma.alternating_isac(s, 0.02, gamma, HALF, n_iter=6, n_starts=1, start=base)
    wider = ma.alternating_isac(replace(s, side=2 * s.side), 0.01, gamma, HALF, n_iter=6, n_starts=1, start=base)
    harder = ma.alternating_isac(s, 0.01, 10 * gamma, HALF, n_iter=6, n_starts=2)
    assert (more.wsr > base.wsr).all() and (wider.wsr >= base.wsr - 1e-9).all() and (harder.wsr < base.wsr).all()


def test_invariances():
    s = scenario(1)
    H, F, w, tau, power, gamma, weights = step_of(s)
    Q = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0].to(F)
    assert_close(ma.user_rates(H, F @ Q, w * 1j), ma.user_rates(H, F, w), rtol=1e-9)
    assert_close(ma.sum_rate(H, F, w, 1.0, 3 * weights), 3 * ma.sum_rate(H, F, w, 1.0, weights), rtol=1e-12)
    moved = replace(s, tx=s.tx + 1, users=s.users + 1)  # arrays and users together
    x = ma.start_positions(s, 1)[0]
    assert_close(moved.channels(x), s.channels(x), rtol=1e-9)


def test_an_instance_does_not_depend_on_its_batch():
    s = scenario(3)
    many = ma.alternating_isac(s, 0.01, 1.0, HALF, n_iter=4, n_starts=3)
    for i in range(3):
        one = replace(s, users=s.users[i], clutter=s.clutter[i])
        assert_close(ma.alternating_isac(one, 0.01, 1.0, HALF, n_iter=4, n_starts=3).wsr, many.wsr[i], rtol=1e-5)


def test_single_precision_comes_close():
    s = scenario(2)
    single = replace(
        s,
        **{n: getattr(s, n).float() for n in ("tx", "rx", "users", "target", "clutter", "axes")},
        reflection=s.reflection.to(torch.complex64),
    )
    kept = [ma.alternating_isac(v, 0.01, 1.0, HALF, move=False, n_iter=6, tol=1e-4) for v in (s, single)]
    assert kept[1].F.dtype == torch.complex64 and kept[1].wsr.dtype == torch.float32
    assert_close(kept[1].wsr.double(), kept[0].wsr, rtol=2e-3)


def test_starts_repeat_and_results_travel():
    s = scenario(1)
    a, b = (
        ma.alternating_isac(s, 0.01, 1.0, HALF, n_iter=2, n_starts=3, generator=torch.Generator().manual_seed(7))
        for _ in "ab"
    )
    assert torch.equal(a.positions, b.positions)
    for copy in (pickle.loads(pickle.dumps(a)), deepcopy(a)):
        assert torch.equal(copy.F, a.F)
    assert torch.equal(deepcopy(s).channels(a.positions), s.channels(a.positions))


@pytest.mark.parametrize("field", ["clutter", "reflection", "target", "leak", "scattering"])
def test_any_field_alone_may_hold_the_drops(field):
    s = scenario(2)
    g = torch.Generator().manual_seed(1)
    r = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    more = {
        "clutter": dict(clutter=s.clutter),
        "reflection": dict(reflection=s.reflection * torch.tensor([[1.0], [0.7]])),
        "target": dict(target=ma.at_angle(torch.tensor([5.0, 6.0]), 5.0)),
        "leak": dict(self_interference=1e-8 * torch.complex(r(2, 16, 16), r(2, 16, 16))),
        "scattering": dict(scatterers=s.users[0][:, None] + 0.5, scattering=100 * torch.complex(r(2, 2, 1), r(2, 2, 1))),
    }[field]
    many = replace(s, users=s.users[0], clutter=s.clutter[0], **{k: v for k, v in more.items() if k != "clutter"})
    many = replace(many, **more)
    r = ma.alternating_isac(many, 0.01, 1.0, HALF, n_iter=2, n_starts=2)
    assert r.wsr.shape == (2,) and r.positions.shape == (2, 2, 2, 1)
    fields = {k: v[1] for k, v in more.items() if k != "scatterers"}
    one = ma.alternating_isac(replace(many, **fields), 0.01, 1.0, HALF, n_iter=2, n_starts=2)
    assert_close(one.wsr, r.wsr[1], rtol=1e-5)


def test_every_threshold_up_to_the_largest_has_a_start():
    "Clutter next to the target drowns the matched beam; the beam that avoids it reaches what was promised"
    s = scenario(
        1, 32, rx=ma.line_array(1, WAVE / 2), clutter=ma.at_angle(torch.tensor([4.5]), torch.tensor([8.0])),
        reflection=math.sqrt(4 * math.pi) / WAVE * torch.tensor([1, 3.0]).to(torch.complex128), sensing_noise_var=4e-15,
    )
    for below in (0.01, 0.5, 6.0, 15.0):
        gamma = ma.largest_sinr(s, 0.01) * 10 ** (-below / 10)
        r = ma.alternating_isac(s, 0.01, gamma, HALF, move=False, n_iter=1)
        assert (r.sinr >= gamma * (1 - 1e-6)).all()


@pytest.mark.parametrize(("antennas", "side"), [(5, 1.9), (3, 0.9), (2, 0.5), (7, 1.0), (4, 6.0)])
def test_motion_in_a_tight_plane_begins_and_ends_with_its_spacing(antennas, side):
    s = scenario(1, axes=torch.eye(3, dtype=torch.float64)[:2], antennas=antennas, side=side * WAVE)
    for x in (ma.start_positions(s, 30), ma.alternating_isac(s, 0.01, 1.0, HALF, n_iter=2, n_starts=3).positions):
        apart = (x[..., :, None, :] - x[..., None, :, :]).norm(dim=-1) + torch.eye(antennas)
        assert apart.min() >= WAVE / 2 * (1 - 1e-9) and x.abs().max() <= s.side / 2 * (1 + 1e-12)


def test_zero_is_a_side_and_a_spacing():
    s = replace(scenario(1), antennas=1, side=0.0)
    assert s.side == 0 and ma.start_positions(s, 4).abs().max() == 0
    assert replace(scenario(1), d_min=0.0).d_min == 0
    assert scenario(1).side == 10 * WAVE and scenario(1).d_min == WAVE / 2


def test_the_history_begins_with_the_start():
    s = scenario(2)
    r = ma.alternating_isac(s, 0.01, 1.0, HALF, n_iter=3, n_starts=1)
    F, w, _ = ma.isac_start(s, ma._normal(s, ma.start_positions(s, 1)[0]), 0.01, 1.0, HALF)
    first = ma.sum_rate(ma._normal(s, ma.start_positions(s, 1)[0]), F, w, 1.0, HALF)
    assert_close(r.history["wsr"][0], first, rtol=1e-9)
    assert len(r.history["wsr"]) <= 8 and (r.history["wsr"].diff(dim=0) > -1e-9).all()


def test_power_left_over_is_no_matter_of_the_batch():
    "Instances that need the floor of mu, beside others that do not"
    s = scenario(6)
    problem = step_of(s)
    many = ma.isac_precoder_update(*problem)
    spare = ma._columns(*many[:2]).abs().square().sum((-2, -1)) < 0.01 * (1 - 1e-6)
    assert spare.any() and not spare.all()
    for i in range(6):
        one = ma.isac_precoder_update(*(x[i] for x in problem[:4]), problem[4], problem[5][i], problem[6])
        assert_close(one[2][1], many[2][1][i], rtol=1e-6)


def _wsr(N: int) -> float:
    return ma.alternating_isac(scenario(1, N), 0.01, 0.5, HALF, move=False, n_iter=3).wsr.item()


def _swept(below: float) -> list:
    s = scenario(2, 8)
    gamma = ma.largest_sinr(s, 0.01) * 10 ** (-below / 10)
    rough = ma.alternating_isac(s, 0.01, gamma, HALF, move=False, n_iter=2)
    return ma.finish_design(s, rough, 0.01, gamma, HALF, n_iter=5).wsr.tolist()


def test_workers_give_the_same_numbers():
    sizes = (8, 12, 16)
    plain = [_wsr(N) for N in sizes]
    assert plain == Parallel(n_jobs=2)(delayed(_wsr)(N) for N in sizes)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_numbers():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None),
        parallel_config("dask"),
    ):
        assert Parallel()(delayed(_wsr)(N) for N in (8, 12)) == [_wsr(8), _wsr(12)]
        assert Parallel()(delayed(_swept)(b) for b in (20.0, 4.0)) == [_swept(20.0), _swept(4.0)]


def test_the_race_has_its_arms():
    assert list(ma.race_arms(2, 2, 8, 3)) == ["CVXPY, Clarabel", "Newton", "Newton, batch", "nested bisection"]


# ---- what a builder tries --------------------------------------------------------------------------------------------


def single(s):
    "A scenario in single precision"
    cast = {name: getattr(s, name).float() for name in ("tx", "rx", "users", "target", "clutter")}
    return replace(s, **cast, reflection=s.reflection.to(torch.complex64), axes=s.axes.float())


def test_the_finish_makes_up_for_single_precision():
    "Near forty decibels the rounds of a complex64 scenario stop far short; Newton's steps do not"
    s = scenario(2)
    gamma, small = 0.1 * ma.largest_sinr(s, 0.01), single(s)
    wanted = ma.finish_design(s, ma.alternating_isac(s, 0.01, gamma, HALF, move=False, n_iter=6), 0.01, gamma, HALF)
    given = 0.01, gamma.float(), HALF.float()
    rough = ma.alternating_isac(small, *given, move=False, n_iter=6)
    fine = ma.finish_design(small, rough, *given)
    assert rough.F.dtype == torch.complex64 == fine.F.dtype
    assert (rough.wsr.double() < wanted.wsr - 0.1).any()
    assert_close(fine.wsr.double(), wanted.wsr, rtol=1e-3)
    assert (fine.sinr.double() >= gamma * (1 - 1e-5)).all()


def test_a_finish_tells_by_its_sinr_whether_a_threshold_was_reached():
    s = scenario(2)
    gamma = 0.1 * ma.largest_sinr(s, 0.01)
    r = ma.alternating_isac(s, 0.01, gamma, HALF, move=False, n_iter=6)
    near, far = (ma.finish_design(s, r, 0.01, factor * gamma, HALF) for factor in (1.2, 9.0))
    assert_close(near.sinr, 1.2 * gamma, rtol=1e-6)
    assert (far.sinr < 4.5 * gamma).all()
    assert_close(far.sinr, ma.sensing_sinr(far.u, far.F, far.w, s), rtol=1e-9)


def test_replace_keeps_defaults_that_were_filled_in():
    "As the docstring says: what follows from another field is given again as None"
    s = scenario(1)
    other = ma.line_array(24, WAVE / 2)
    assert replace(s, tx=other).rx.shape == (16, 3) and replace(s, tx=other, rx=None).rx.shape == (24, 3)
    assert replace(s, wavelength=2 * WAVE).side == 10 * WAVE
    assert replace(s, wavelength=2 * WAVE, side=None).side == 20 * WAVE
    with pytest.raises(ValueError, match="`reflection`"):
        replace(s, clutter=None)
    assert replace(s, clutter=None, reflection=None).reflection.shape == (1,)


def _opened(**options):
    return ma.alternating_isac(**(dict(scenario=scenario(2), power=0.01, sinr_min=1.0, weights=HALF, n_iter=1) | options))


KNOWN = {
    "no drops": lambda: _opened(scenario=scenario(0)),
    "a design of another array": lambda: _opened(start=_opened(scenario=scenario(2, 12), move=False), move=False),
    "a design of other drops": lambda: _opened(scenario=scenario(3), start=_opened(move=False), move=False),
    "single positions": lambda: _opened(start=ma.start_positions(scenario(2), 1)[0].float(), move=False),
    "finish of another array": lambda: ma.finish_design(scenario(2, 12), _opened(move=False), 0.01, 1.0, HALF),
    "finish for several thresholds": lambda: ma.finish_design(
        scenario(2), _opened(move=False), 0.01, torch.ones(3, 1, dtype=torch.float64), HALF
    ),
    "two users at one place": lambda: _opened(scenario=replace(scenario(2), users=scenario(2).users[:, :1].expand(-1, 2, 3))),
    "an axis without brackets": lambda: scenario(2).channels(torch.zeros(2, 2, 2, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="refused three layers down, without the argument's name")
def test_known_doors_that_do_not_say_what_is_wrong(name):
    "Work, or a ValueError or TypeError that names the argument"
    try:
        KNOWN[name]()
    except (TypeError, ValueError) as refused:
        assert "`" in str(refused)


# ---- the page --------------------------------------------------------------------------------------------------------

test_recipe = battery.recipe("movable_antenna_isac", "weighted sum rate:", "positions in wavelengths")

TOY = scenario(1)
X = ma.start_positions(TOY, 1)[0]
STEP = step_of(TOY)
WORD = "x"


def run(**options):
    return lambda: ma.alternating_isac(
        **(dict(scenario=TOY, power=0.01, sinr_min=1.0, weights=HALF, n_iter=1) | options)
    )


BAD = {
    "wavelength": (lambda: ma.nearfield_channel(TOY.tx, TOY.users[0], 0.0), ValueError, "`wavelength`"),
    "points in the plane": (lambda: ma.nearfield_channel(TOY.tx[:, :2], TOY.users[0], WAVE), ValueError, "`rx`"),
    "NaN": (lambda: ma.nearfield_channel(TOY.tx * math.nan, TOY.users[0], WAVE), ValueError, "`rx`"),
    "integers": (lambda: ma.nearfield_channel(TOY.tx.long(), TOY.users[0], WAVE), TypeError, "`rx`"),
    "amplitude": (lambda: ma.nearfield_channel(TOY.tx, TOY.users[0], WAVE, "centre"), ValueError, "center"),
    "same place": (lambda: ma.nearfield_channel(TOY.tx, TOY.tx, WAVE), ValueError, "same place"),
    "behind the array": (lambda: ma.at_angle(-1.0, 0.0), ValueError, "`distance`"),
    "no elements": (lambda: ma.line_array(0, 0.1), ValueError, "`n`"),
    "antennas": (lambda: replace(TOY, antennas=0), ValueError, "`antennas`"),
    "region": (lambda: replace(TOY, side=WAVE / 4), ValueError, "`side`"),
    "mode": (lambda: replace(TOY, sensing_mode="both"), ValueError, "`sensing_mode`"),
    "axes": (lambda: replace(TOY, axes=torch.ones(1, 3).double()), ValueError, "`axes`"),
    "reflection": (lambda: replace(TOY, reflection=TOY.reflection[:1]), ValueError, "`reflection`"),
    "no target": (lambda: replace(TOY, reflection=0 * TOY.reflection), ValueError, "`reflection`"),
    "leak": (lambda: replace(TOY, self_interference=torch.zeros(2, 2) + 0j), ValueError, "`self_interference`"),
    "scatterers alone": (lambda: replace(TOY, scatterers=TOY.users[:, :, None]), ValueError, "`scattering`"),
    "noise": (lambda: replace(TOY, noise_var=-1.0), ValueError, "`noise_var`"),
    "real channel": (lambda: ma.user_rates(STEP[0].real, STEP[1], STEP[2]), TypeError, "`H`"),
    "precoders": (lambda: ma.user_rates(STEP[0], STEP[1][..., :1, :], STEP[2]), ValueError, "`F`"),
    "beam": (lambda: ma.user_rates(STEP[0], STEP[1], STEP[2][..., :3]), ValueError, "`w`"),
    "weights": (lambda: ma.sum_rate(*STEP[:3], 1.0, HALF[:1]), ValueError, "`weights`"),
    "negative weights": (run(weights=torch.tensor([1.0, -1.0])), ValueError, "`weights`"),
    "no weights": (run(weights=torch.zeros(2)), ValueError, "`weights`"),
    "combiner": (lambda: ma.sensing_rows(torch.zeros(16) + 0j, TOY), ValueError, "`u`"),
    "tau": (lambda: ma.isac_precoder_update(*STEP[:3], STEP[3][..., :3], *STEP[4:]), ValueError, "`tau`"),
    "joint by Newton": (lambda: ma.isac_precoder_update(*STEP, mode="joint", method="newton"), ValueError, "`method`"),
    "power": (run(power=0.0), ValueError, "`power`"),
    "power in words": (run(power="10 dBm"), TypeError, "`power`"),
    "NaN power": (run(power=math.nan), ValueError, "`power`"),
    "threshold": (run(sinr_min=-1.0), ValueError, "`sinr_min`"),
    "out of reach": (run(sinr_min=1e6), ValueError, "the largest at that power"),
    "batches that do not fit": (run(power=torch.full((3,), 0.01), sinr_min=torch.ones(2)), ValueError, "`sinr_min`"),
    "rounds": (run(n_iter=0), ValueError, "`n_iter`"),
    "starts": (run(n_starts=0), ValueError, "`n_starts`"),
    "no room in the plane": (
        lambda: replace(TOY, axes=torch.eye(3).double()[:2], antennas=2, side=0.3 * WAVE),
        ValueError,
        "`side`",
    ),
    "single beams": (lambda: ma.sensing_sinr(STEP[2], STEP[1].to(torch.complex64), STEP[2], TOY), TypeError, "`F`"),
    "drops that do not fit": (
        lambda: replace(TOY, users=TOY.users.expand(3, 2, 3), clutter=TOY.clutter.expand(2, 2, 3)),
        ValueError,
        "`clutter`",
    ),
    "no design": (lambda: ma.finish_design(TOY, X, 0.01, 1.0, HALF), TypeError, "`design`"),
    "start outside": (run(start=X + 1), ValueError, "`start`"),
    "start too close": (run(start=0 * X), ValueError, "`start`"),
    "start shape": (run(start=X[..., :1, :]), ValueError, "`start`"),
    "no room": (lambda: ma.project_min_spacing(torch.zeros(3), 0.0, 1.0, 0.6), ValueError, "`hi`"),
    "gains": (lambda: ma.water_filling(-torch.ones(2), torch.tensor(1.0), torch.ones(2)), ValueError, "`gains`"),
    "too many users": (
        lambda: ma.block_diagonalization(torch.ones(4, 2, 5) + 0j, 1.0, torch.ones(4)),
        ValueError,
        "`H`",
    ),
    "multipliers": (lambda: ma.kkt_residual(*STEP[:4], 1.0, 1.0, HALF), TypeError, "`multipliers`"),
    "derivatives": (
        lambda: ma.position_gradient(STEP[0], STEP[0][..., None][..., :1, :, :], *STEP[1:3]),
        ValueError,
        "`dH`",
    ),
}

test_bad_input = battery.errors(BAD)


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the page says, what is put in its place)
BREAKS = {
    1: [
        ("wavelength / (4 * math.pi * far), -2", "wavelength / (2 * math.pi * far), -2"),
        ("far), -2 * math.pi * d", "far), 2 * math.pi * d"),
        ("onward = s.scattering[..., None] * near", "onward = s.scattering.conj()[..., None] * near"),
    ],
    2: [("fading = 1 / d if", "fading = -1 / d if"), ("* (away / d)", "* (-away / d)")],
    3: [
        (
            "return HZ, HO, noise + HZ @ HZ.mH, noise + HO @ HO.mH",
            "return HZ, HO, noise + HZ @ HZ.mH, noise + HZ @ HZ.mH / 2",
        ),
        ("HO = HZ * (user != ", "HO = HZ * (user + 1 != "),
    ],
    4: [
        ("(scenario.reflection * (b * u).sum(-1))", "(scenario.reflection * (b * u.conj()).sum(-1))"),
        ("[..., None] * a\n    return rows if leak", "[..., None] * a.conj()\n    return rows if leak"),
    ],
    5: [
        ("useful / (1 + spoils + users[..., 1:].sum(-1)", "useful / (1 + spoils + users[..., 2:].sum(-1)"),
        (
            "useful, spoils = useful + spoils, torch.zeros_like(spoils)",
            "useful, spoils = useful, torch.zeros_like(spoils)",
        ),
    ],
    6: [
        ("(b0 - V @ torch.linalg.solve(inner, V.mH @ b0))", "(b0 + V @ torch.linalg.solve(inner, V.mH @ b0))"),
        ("V.mH @ V\n    return _unit", "2 * V.mH @ V\n    return _unit"),
    ],
    7: [
        ("return torch.linalg.solve(C, HF), (W + W.mH) / 2", "return torch.linalg.solve(J, HF), (W + W.mH) / 2"),
        ("HF.mH @ torch.linalg.solve(J, HF)\n", "HF.mH @ torch.linalg.solve(C, HF)\n"),
    ],
    8: [
        ("return flat(G) @ flat(V).mH, flat(G)", "return flat(V) @ flat(V).mH, flat(G)"),
        ("G = weights[..., None, None] * (V @ W)", "G = weights[..., None, None] * V"),
    ],
    9: [
        ("-gamma * echo[..., :-1], echo", "-echo[..., :-1], echo"),
        ("echo[..., :-1] if joint else -gamma", "0 * echo[..., :-1] if joint else -gamma"),
        ("* (1 - 1e-9)\n    first = {", "* (1 + 1e-9)\n    first = {"),
        ("rows[..., 1:, :].mH @ rows[..., 1:, :], Z=Z", "rows.mH @ rows, Z=Z"), ("Z=Z, B=B)", "Z=Z, B=-1j * B)"),
    ],
    10: [
        ("push = g(nu) * t * c\n", "push = g(nu) * t * c.conj()\n"),
        ("A = Phi + g(nu * gamma) * T\n    systems", "A = Phi + g(nu) * T\n    systems"),
    ],
    11: [("F, Ty = Bi @ G, T @ y", "F, Ty = Ai @ G, T @ y"), ("F, Ty = Bi @ G, T @ y", "F, Ty = 2 * Bi @ G, T @ y")],
    12: [
        ("s + f * (f - 1) / _inner(y, A @ y)", "s + f * (f - 2) / _inner(y, A @ y)"),
        ('(nu * q["x"]).log()]', '(2 * nu * q["x"]).log()]'),
    ],
    13: [
        ("beta2 = gamma * (spill + 1) / room", "beta2 = gamma * spill / room"),
        ("x.square() - gamma * z, _inner(F, TF)", "x.square() + gamma * z, _inner(F, TF)"),
    ],
    14: [("cost / weights, math.inf", "cost, math.inf"), ("top * share - cost, 0.0", "top - cost, 0.0")],
    15: [
        ("+ 2 * (a * math.log2(2 * a)", "+ 1 * (a * math.log2(2 * a)"),
        ("a * equal[0] + (1 - a) * equal[1] + 2", "a * equal[1] + (1 - a) * equal[0] + 2"),
    ],
    16: [
        ("+ eye / power[..., None, None]", "+ eye * power[..., None, None]"),
        # where the rounds begin does not matter, what they end with does
        ("w = power.sqrt()[..., None] * _unit(torch.linalg", "w = power[..., None] * _unit(torch.linalg"),
        ("torch.linalg.solve(spoils, tau[..., :1, :].mH)", "torch.linalg.solve(spoils, tau[..., :1, :].mT)"),
        ("split(_loudest(scenario, power.expand(lead)))", "split(a[..., 0, :].conj())"),
    ],
    17: [
        ("torch.special.sinc(N * lam / 2 * gaps", "torch.special.sinc(N * lam * gaps"),
        ("gaps / (lam * d)).abs()", "gaps / (lam * d * 1.3)).abs()"),
    ],
    18: [
        ("- torch.linalg.solve(J, HO)) @", "- torch.linalg.solve(J, HZ)) @"),
        ("return 2 / math.log(2) * (Gamma.conj()", "return 1 / math.log(2) * (Gamma.conj()"),
        ("(Gamma.conj()[..., None] * dH)", "(Gamma[..., None] * dH)"),
    ],
    19: [
        ("least = torch.where(b >= a, mean, math.inf)", "least = torch.where(b == a, mean, math.inf)"),
        ("scatter(-1, order, (z + shift)", "scatter(-1, order.argsort(-1), (z + shift)"),
    ],
    20: [
        ("x + step[..., None, None] * g)", "x - step[..., None, None] * g)"),
        ("x = x.clamp(-half, half)", "x = x.clamp(-2 * half, 2 * half)"),
        ("(found >= now + 1e-4 / step * moved)", "(found >= now + 1e-4 * step * moved)"),
        (">= s.d_min * (1 - 1e-12)", ">= 0.1 * s.d_min"),
        ("F, w) @ s.axes.mT", "F, w)[..., : len(s.axes)]"),
        ("now + 1e-4 / step * moved", "now + 1.2e-4 / step * moved"),
        ("unit, pitch = _grid(s), s.side / (_abreast(s) - 1)", "unit, pitch = _grid(s), 0.2 * s.side"),
    ],
    21: [
        ("poles.abs() + (damp * size)", "poles + (damp * size)"),
        ("kappa = (-(a * g).sum(-1) / g", "kappa = ((a * g).sum(-1) / g"),
        ("(found > value) & (_margin(new, p) > -1e-9)", "(found > value)"),
        ("echoes = torch.cat([((1 - joint) * own)", "echoes = torch.cat([(joint * own)"),
    ],
    22: [
        ("return -r.nu * sinr_min * (spoils + 1) / math.log(2)", "return -r.nu * sinr_min * spoils / math.log(2)"),
        ("(spoils + 1) / math.log(2)", "(spoils + 1)"),
    ],
    23: [
        ("r = K * M + Q + 1\n", "r = K * M * (Q + 1)\n"),
        ("basis=8 * N * r**2", "basis=8 * N * r**3"),
        ("newton=5 * 8 / 3 * 5 * r**3", "newton=4 * 8 / 3 * 5 * r**3"),
    ],
}

TestBreaks = battery.breaks("movable_antenna_isac", BREAKS, until="### The race", aside=r"code-fold: true")
