"""Weighted tallying bandits against brute force, stepping, MABWiser, river and exact probabilities."""

import datetime
import importlib
import importlib.util
import itertools
import math
import pickle
import random
import sys
import types
import warnings

import battery
import chapter_code
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from weightbook.book.checks import assert_close, z_test
from weightbook.estimation import tallying_bandits as tb

LOSSES = (lambda r: 0.9 - 0.8 * r, lambda r: 0.35, lambda r: 0.2 + 0.5 * r)
UNIT = np.ones(4)


def weights_of(kind: str, m: int, seed: int) -> np.ndarray:
    if kind == "equal":
        return np.full(m, 0.7)
    return 0.8 ** np.arange(m) if kind == "geometric" else np.random.default_rng(seed).uniform(0.01, 1, m)


# ---- the model: every path is equation (1) ---------------------------------------------------------------------------

plans = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12)), min_size=1, max_size=7)


@settings(max_examples=80, deadline=None)
@given(
    plan=plans, kind=st.sampled_from(["equal", "geometric", "general"]), m=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_steps_blocks_and_sequences_agree(plan, kind, m, seed):
    w = weights_of(kind, m, seed)
    actions = np.repeat([a for a, _ in plan], [n for _, n in plan])
    tally = [sum(w[i] * (actions[t - i] == actions[t]) for i in range(min(m, t + 1))) for t in range(len(actions))]
    wanted = np.array([LOSSES[a](y / w.sum()) if a != 1 else 0.35 for a, y in zip(actions, tally, strict=True)])
    game = tb.WeightedTallyingBandit(LOSSES, w, noise="none")
    assert_close(tb.play_tallies(actions, w), np.array(tally), rtol=1e-12)
    assert_close(game.sequence_losses(actions), wanted, rtol=1e-9)
    assert_close(np.array([game.step(a).item() for a in actions]), wanted, rtol=1e-9)
    after = game.tallies
    game.reset()
    assert_close(np.concatenate([game.play_block(a, n)[0] for a, n in plan]), wanted, rtol=1e-9)
    assert_close(game.tallies, after, rtol=1e-9)
    game.reset()
    mixed = [
        game.play_block(a, n)[0] if i % 2 else np.array([game.step(a).item() for _ in range(n)])
        for i, (a, n) in enumerate(plan)
    ]
    assert_close(np.concatenate(mixed), wanted, rtol=1e-9)


def test_games_of_a_batch_are_independent():
    game = tb.WeightedTallyingBandit(LOSSES, UNIT, noise="none", n_envs=3)
    alone = [tb.WeightedTallyingBandit(LOSSES, UNIT, noise="none") for _ in range(3)]
    rng = np.random.default_rng(0)
    for t in range(40):
        a = rng.integers(3, size=3)
        if t % 5:
            together, apart = game.step(a), [g.step(int(x)).item() for g, x in zip(alone, a, strict=True)]
        else:
            together, apart = (
                game.play_block(a, 3).sum(1),
                [g.play_block(int(x), 3).sum() for g, x in zip(alone, a, strict=True)],
            )
        assert_close(together, np.array(apart), rtol=1e-12)


@pytest.mark.parametrize("warmup", [0, 2, 3, 8])
def test_stored_sums_have_the_law_of_stepping(warmup):
    count, length, m = 4000, 12, 6
    h = (lambda r: 0.9 - 0.7 * r, lambda r: 0.5)
    jumps = tb.WeightedTallyingBandit(h, np.ones(m), n_envs=count, seed=1)
    steps = tb.WeightedTallyingBandit(h, np.ones(m), n_envs=count, seed=2)
    jumps.play_block(1, 2), steps.play_block(1, 2)
    stored, expected = jumps.block_total(0, length, warmup)
    losses = np.stack([steps.step(0) for _ in range(length)], axis=1)
    means = np.array([h[0](min(j, m) / m) for j in range(1, length + 1)])
    assert_close(expected, np.full(count, means.sum()), rtol=1e-12)
    for sums in (stored, losses[:, warmup:].sum(1)):
        z_test(sums, means[warmup:].sum())
        assert_close(sums.var(), (means[warmup:] * (1 - means[warmup:])).sum(), rtol=0.12)


def test_the_state_survives_a_pickle():
    game = tb.WeightedTallyingBandit(np.random.default_rng(0).random((3, 4)), UNIT, n_envs=2, seed=3)
    game.play_block(1, 3)
    twin = pickle.loads(pickle.dumps(game))
    assert (twin.step(1) == game.step(1)).all() and (twin.tallies == game.tallies).all()


def test_a_reset_with_a_seed_repeats():
    game = tb.WeightedTallyingBandit(LOSSES, UNIT, seed=5)
    first = game.play_block(0, 50)
    game.reset(5)
    assert (game.play_block(0, 50) == first).all() and game.time == 50


def test_reachable_tallies_are_the_sums_with_the_current_play():
    w = [0.5, 0.3, 0.05, 0.2]
    sums = {round(0.5 + sum(c), 12) for k in range(4) for c in itertools.combinations(w[1:], k)}
    assert {round(y, 12) for y in tb.reachable_tallies(w)} == sums
    assert tb.reachable_tallies(np.full(40, 0.25)).tolist() == (0.25 * np.arange(1, 41)).tolist()
    long = tb.reachable_tallies(0.9 ** np.arange(30))
    assert long[0] == 1 and long[-1] == pytest.approx((1 - 0.9**30) / 0.1) and len(long) == 4001


# ---- the comparator --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(K=st.integers(1, 3), m=st.integers(1, 5), T=st.integers(1, 7), seed=st.integers(0, 999), start=st.integers(0, 4))
def test_backward_induction_is_enumeration(K, m, T, seed, start):
    rng = np.random.default_rng(seed)
    model = tb.TallyingModel(rng.random((K, 4)), rng.uniform(0.05, 1, m))
    past = rng.integers(K, size=start)
    every = np.array(list(itertools.product(range(K), repeat=T)))
    whole = np.concatenate([np.broadcast_to(past, (len(every), start)), every], axis=1)
    value, path = tb.best_sequence(model, T, start=past)
    assert_close(value, model.sequence_losses(whole)[:, start:].sum(1).min(), rtol=1e-12)
    assert_close(model.sequence_losses(np.r_[past, path])[start:].sum(), value, rtol=1e-12)


def test_regret_is_within_m_minus_one_of_complete_policy_regret():
    rng = np.random.default_rng(0)
    for _ in range(30):
        h = rng.random((2, 4))
        h[0, -1] = h.min() / 2
        model, played = tb.TallyingModel(h, np.ones(4)), rng.integers(2, size=25)
        paid = model.sequence_losses(played)
        ours = tb.complete_policy_regret(paid, model.mu_star)[-1]
        exact = paid.sum() - tb.best_sequence(model, 25)[0]
        assert ours - 3 - 1e-9 <= exact <= ours + 1e-9


# ---- policies against other packages at m = 1 ------------------------------------------------------------------------


def draws(K: int, T: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((T, K)) < np.linspace(0.2, 0.8, K)).astype(float)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ucb1_is_that_of_mabwiser_and_of_river(seed):
    mab, bandit = pytest.importorskip("mabwiser.mab"), pytest.importorskip("river.bandit")
    K, T = 4, 300
    cost = draws(K, T, seed) * 0.9 + 0.05 * np.random.default_rng(seed).random((T, K))  # no ties
    ours, theirs, third = (
        tb.UCB1Loss(K),
        mab.MAB(list(range(K)), mab.LearningPolicy.UCB1(alpha=1)),
        bandit.UCB(delta=1, seed=0),
    )
    first = np.arange(K)
    theirs.fit(first.tolist(), (-cost[first, first]).tolist())
    for x in first:
        third.pull([int(x)])
        third.update(int(x), -cost[x, x])
    for t in range(T):
        a = int(ours.select()[0])
        if t >= K:
            assert a == theirs.predict() == third.pull(list(range(K)))
            theirs.partial_fit([a], [-cost[t, a]])
            third.update(a, -cost[t, a])
        ours.update(np.array([cost[t, a]]))


def test_exp3_has_the_law_of_rivers():
    bandit = pytest.importorskip("river.bandit")
    K, T, gamma = 5, 400, 0.2
    cost, peer = draws(K, T, 3), bandit.Exp3(gamma=gamma, seed=1)
    ours = tb.EXP3Loss(K, T, rate=gamma / K, mixing=gamma, seed=0)
    for x in range(K):
        peer._weights[x] = 1.0
    for t in range(T):
        a = peer.pull(list(range(K)))
        assert_close(ours.probabilities[0], np.array([peer._probabilities[x] for x in range(K)]), rtol=1e-9)
        ours._arms, ours._chance, ours._asked = np.array([a]), ours.probabilities[0, [a]], True
        ours.update(np.array([cost[t, a]]))
        peer.update(a, -cost[t, a])


def smpybandits(module: str):
    "One policy file of SMPyBandits: its package imports a SciPy function that is gone, single files do not"
    found = importlib.util.find_spec("SMPyBandits")
    if found is None:
        pytest.skip("needs `pip install --no-deps SMPyBandits`")
    package = sys.modules.setdefault("smpybandits_policies", types.ModuleType("smpybandits_policies"))
    package.__path__ = [f"{found.submodule_search_locations[0]}/Policies"]
    return importlib.import_module(f"smpybandits_policies.{module}")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ucb1_is_that_of_smpybandits(seed):
    with np.errstate(divide="ignore", invalid="ignore"):
        K, T = 4, 400
        ours, theirs = tb.UCB1Loss(K), smpybandits("UCB").UCB(K)
        theirs.startGame()
        cost = draws(K, T, seed) * 0.9 + 0.05 * np.random.default_rng(seed).random((T, K))  # no ties
        for t in range(T):
            a = int(ours.select()[0])
            assert t < K or a == theirs.choice()
            ours.update(cost[t, [a]]), theirs.getReward(a, -cost[t, a])


def test_exp3_has_the_law_of_smpybandits():
    K, T, gamma = 5, 400, 0.2
    cost, peer = draws(K, T, 3), smpybandits("Exp3").Exp3(K, gamma=gamma)
    ours = tb.EXP3Loss(K, T, rate=gamma / K, mixing=gamma, seed=0)
    peer.startGame()
    for t in range(T):
        a = int(ours.select()[0])
        assert_close(ours.probabilities[0], peer.trusts, rtol=1e-9)
        ours.update(cost[t, [a]]), peer.getReward(a, -cost[t, a])


def test_batches_feed_exp3_their_means():
    policy, wanted = tb.BatchedEXP3(3, 60, n_envs=2, batch=3, rate=0.4, mixing=0.1, seed=0), np.zeros((2, 3))
    rng = np.random.default_rng(0)
    for _ in range(6):
        p = 0.9 * np.exp(-0.4 * wanted) / np.exp(-0.4 * wanted).sum(1, keepdims=True) + 0.1 / 3
        cost = rng.random((3, 2))
        arms = []
        for row in cost:
            arms.append(policy.select())
            policy.update(row)
        assert (np.array(arms) == arms[0]).all()
        for g, a in enumerate(arms[0]):
            wanted[g, a] += cost[:, g].mean() / p[g, a]
        assert_close(policy.estimate, wanted, rtol=1e-12)


def test_exp3_draws_from_its_law():
    policy = tb.EXP3Loss(4, 100, n_envs=40_000, mixing=0.1, seed=2)
    policy.estimate[:] = [0.0, 3.0, 9.0, 30.0]
    counts = np.bincount(policy.select(), minlength=4)
    assert stats.chisquare(counts, 40_000 * policy.probabilities[0]).pvalue > 1e-4


def test_ucb1_of_a_batch_is_that_of_each_game():
    cost = np.random.default_rng(0).random((200, 3, 4))
    batch, alone = tb.UCB1Loss(4, n_envs=3), [tb.UCB1Loss(4) for _ in range(3)]
    for row in cost:
        arms = batch.select()
        assert arms.tolist() == [int(p.select()[0]) for p in alone]
        batch.update(row[np.arange(3), arms])
        for g, p in enumerate(alone):
            p.update(row[g, arms[g : g + 1]])


# ---- elimination -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["halving", "doubling"])
@pytest.mark.parametrize("weights", ["equal", "geometric", "general"])
def test_without_noise_steps_and_blocks_are_the_same(schedule, weights):
    w, h = weights_of(weights, 7, 1), np.random.default_rng(4).random((4, 7))

    def make():
        policy = tb.SuccessiveEliminationREO(4, 1500, 5, 0.1, schedule=schedule)
        return policy, tb.WeightedTallyingBandit(h, w, noise="none")

    steps, blocks = tb.simulate(*make(), 1500), tb.simulate_blocks(*make(), 1500)
    assert (steps["actions"][0] == np.repeat(blocks["arms"], blocks["lengths"])).all()
    edges = np.cumsum([0, *blocks["lengths"][:-1]])
    assert_close(np.add.reduceat(steps["expected"][0], edges), blocks["expected"], rtol=1e-9)


def test_the_doubling_schedule_has_its_radius():
    policy = tb.SuccessiveEliminationREO(6, 20_000, 30, 0.05, schedule="doubling")
    epochs = math.ceil(math.log2(20_000 / 6 + 1))
    seen = tb.simulate_blocks(
        policy, tb.WeightedTallyingBandit(np.linspace(0.1, 0.9, 6)[:, None], np.ones(1), seed=0), 20_000
    )
    for s, _, _, radius in policy.history_:
        assert_close(radius, math.sqrt(math.log(2 * 6 * epochs / 0.05) / (2 * 2**s)), rtol=1e-12)
    assert seen["lengths"][0] == 30 + 2 and policy.active_ == [0]


def test_the_bound_has_its_four_terms():
    S = math.floor(1 + 0.5 * math.log2(10_000 / math.log(4 * 5 / 0.01)))
    L = math.log(4 * 5 * S**2 / 0.01)
    wanted = (7 - 1) * (5 * S + 1) + 4 * 5 * 12 + 8 * math.sqrt(2 * L * 5 * 10_000) + 8 * 5
    assert_close(tb.regret_bound(5, 10_000, 7, 12, 0.01), wanted, rtol=1e-12)
    assert tb.epochs_needed([0.0]).tolist() == [0] and tb.instance_bound([0.0], 3, 3, 0.1) == 2


def test_a_warm_up_of_m_minus_one_is_enough():
    h = np.random.default_rng(3).random((3, 6))
    for M, biased in ((5, False), (6, False), (4, True)):
        game = tb.WeightedTallyingBandit(h, np.ones(6), noise="none")
        game.play_block(1, 7)
        stored, _ = game.block_total(0, M + 10, M)
        assert (abs(stored[0] / 10 - h[0, -1]) > 1e-9) == biased
    assert tb.regret_bound(3, 100, 30, 29, 0.1) < tb.regret_bound(3, 100, 30, 30, 0.1)
    assert tb.regret_bound(3, 100, 1, 0, 0.1) > 0  # the ordinary bandit needs no warm-up
    assert tb.instance_bound([0.0, 0.3], 30, 29, 0.1) < tb.instance_bound([0.0, 0.3], 30, 30, 0.1)


@pytest.mark.parametrize("K", [1, 2, 6, 30, 300])
def test_the_first_of_the_least_is_taken(K):
    index = np.random.default_rng(K).integers(0, 4, (K, 500)) - 1.5
    assert (tb._first_least(index) == index.argmin(axis=0)).all()


@pytest.mark.parametrize("m, K", [(1, 2), (7, 3), (255, 2), (300, 2), (4, 300)])
def test_counts_of_equal_weights_do_not_overflow(m, K):
    h, actions = np.random.default_rng(0).random((K, m)), np.repeat([0, K - 1, 0], [m + 3, m // 2 + 1, 2 * m])
    game = tb.WeightedTallyingBandit(h, np.full(m, 0.3), noise="none", n_envs=2)
    assert_close(np.array([game.step(a)[1] for a in actions]), game.sequence_losses(actions), rtol=1e-9)


def test_totals_need_no_record():
    play = lambda **o: tb.simulate(  # noqa: E731
        tb.UCB1Loss(3, n_envs=5), tb.WeightedTallyingBandit(LOSSES, UNIT, n_envs=5, seed=1), 40, **o
    )
    kept, short = play(), play(keep=False)
    assert list(short) == ["total"] and (short["total"] == kept["total"]).all()
    assert_close(kept["expected"].sum(1), kept["total"], rtol=1e-12)


def test_the_radius_of_cycles():
    for s, K, m, P, delta in ((1, 2, 2, 16, 0.1), (3, 1, 1, 28, 0.2), (5, 3, 4, 4000, 0.01)):
        S = math.floor(math.log2(P / (4 * K * m) + 1))
        wanted = math.sqrt(32 * K * m / (2**s * P) * math.log(2 * K * m * S / delta))
        assert_close(tb.cycle_radius(s, K, m, P, delta), wanted, rtol=1e-12)


def test_the_bound_with_gaps_holds_for_two_best_arms():
    game = tb.WeightedTallyingBandit([[1.0] * 49 + [0.0]] * 2, np.ones(50), noise="none")
    paid = tb.simulate_blocks(tb.SuccessiveEliminationREO(2, 20_000, 50, 0.05), game, 20_000)["expected"].sum()
    bound = tb.instance_bound(game.gaps, 50, 50, 0.05, horizon=20_000)
    assert paid == 11 * 49 and paid <= bound < 2 * paid
    assert tb.epochs_needed([0.0, 0.0, 0.5], most=2).tolist() == [2, 2, 2]
    assert tb.epochs_needed([0.0, 0.0, 0.5], most=9).tolist() == [9, 9, 4]


def test_growing_weights_are_not_carried():
    w, actions = 0.1 * 1.25 ** np.arange(8), np.random.default_rng(0).integers(3, size=600)
    game = tb.WeightedTallyingBandit(LOSSES, w, noise="none")
    assert game.decay is None
    assert_close(np.array([game.step(a).item() for a in actions]), game.sequence_losses(actions), rtol=1e-9)


def test_reo_is_exact_to_memory_twenty_and_unknown_beyond():
    w = 0.5 ** np.arange(1, 21)
    full = w.sum() - w[-1]  # one tally of half a million
    narrow = [lambda r: np.where(abs(r * w.sum() - full) < w[-1] / 2, 0.0, 1.0), lambda r: 0.5 + 0 * r]
    assert not tb.is_reo(tb.TallyingModel(narrow, w))
    with pytest.warns(UserWarning, match="`model`"):
        tb.is_reo(tb.TallyingModel(LOSSES, 0.9 ** np.arange(25)))
    sharp = tb.TallyingModel([[0.9] * 29 + [0.4], [0.8] * 12 + [0.1] + [0.8] * 17], 0.9 ** np.arange(30))
    with pytest.warns(UserWarning, match="`model`"):
        assert_close(tb.reo_margin(sharp), -0.3, rtol=1e-9)  # a table is seen at its corners


def test_a_reset_without_a_seed_goes_on_and_arrays_are_ones_own():
    tables, w = np.full((2, 3), 0.5), np.ones(3)
    game = tb.WeightedTallyingBandit(tables, w, seed=1)
    first = game.play_block(0, 64)
    game.reset()
    assert (game.play_block(0, 64) != first).any()
    game.reset(1)
    assert (game.play_block(0, 64) == first).all()
    tables[:], w[:] = 0.9, 0.1
    assert game.losses[0].tolist() == [0.5] * 3 and game.weights.tolist() == [1.0] * 3
    quiet = tb.WeightedTallyingBandit(tables, w, noise="none")
    quiet.step(0)[:] = 7
    assert quiet.expected.tolist() == [0.9]
    policy = tb.UCB1Loss(2)
    policy.select()[:] = 1
    policy.update(np.array([0.5]))
    assert policy.counts.tolist() == [[1, 0]]


def test_a_single_arm_is_played_on():
    policy = tb.SuccessiveEliminationREO(1, 50, 3)
    run = tb.simulate_blocks(policy, tb.WeightedTallyingBandit([[0.3]], np.ones(1)), 50)
    assert run["arms"].tolist() == [0] and run["lengths"].tolist() == [50]


def test_a_horizon_full_of_warm_ups_is_warned_of():
    with pytest.warns(UserWarning, match="warm-ups"):
        tb.SuccessiveEliminationREO(5, 100, 20)


def test_explore_then_commit_takes_the_smallest_mean():
    policy = tb.ExploreThenCommit(3, 100, explore=4, warmup=2)
    taken = []
    for t in range(40):
        arm = policy.select()
        taken.append(arm)
        policy.update([0.9, 0.1, 0.5][arm] if t % 6 >= 2 else 0.0)  # what a warm-up would show does not count
    assert taken[:18] == [0] * 6 + [1] * 6 + [2] * 6 and set(taken[18:]) == {1}


def test_exploration_is_minimax_by_default():
    assert tb.minimax_exploration(6, 20_000) == 507 == tb.ExploreThenCommit(6, 20_000).explore
    assert tb.ExploreThenCommit(3, 50_000, warmup=10).block == (0, 10, 1491)
    assert tb.minimax_exploration(1, 1) == 1


@pytest.mark.parametrize("m", [256, 257, 400])
def test_long_memories_of_any_weights_are_the_definition(m):
    rng = np.random.default_rng(m)
    w, h = rng.uniform(0, 1, m), rng.random((3, 50))
    w[0] = 0.5
    game = tb.WeightedTallyingBandit(h, w, noise="none", n_envs=2)
    plan = [(0, 300), (1, 20), (0, m + 9), (0, 30), (2, m - 1), (0, m), (1, m + 1), (0, 1), (2, 3)]
    actions = np.repeat(*map(list, zip(*plan, strict=True)))
    blocks = [game.play_block(np.array([a, 2 - a]), n) for a, n in plan]
    found = np.concatenate(blocks, axis=1)
    assert_close(found[0], game.sequence_losses(actions), rtol=1e-9)
    assert_close(found[1], game.sequence_losses(2 - actions), rtol=1e-9)


@pytest.mark.parametrize("cut", [1, 3, 11, 40, 777])
def test_a_used_policy_goes_on_in_its_block(cut):
    h = np.random.default_rng(0).random((3, 5))

    def new():
        return tb.SuccessiveEliminationREO(3, 2000, 5, 0.1), tb.WeightedTallyingBandit(h, np.ones(5), noise="none")

    whole, (policy, game) = tb.simulate_blocks(*new(), 2000), new()
    parts = [tb.simulate_blocks(policy, game, n)["expected"].sum() for n in (cut, 2000 - cut)]
    assert_close(sum(parts), whole["expected"].sum(), rtol=1e-12)
    policy, game = new()
    mixed = (
        tb.simulate(policy, game, cut)["total"].item() + tb.simulate_blocks(policy, game, 2000 - cut)["expected"].sum()
    )
    assert_close(mixed, whole["expected"].sum(), rtol=1e-12)


def test_expected_losses_are_of_the_latest_plays_or_none():
    game = tb.WeightedTallyingBandit(LOSSES, UNIT)
    assert game.expected is None
    game.step(0)
    assert game.expected.shape == (1,)
    game.block_total(0, 9)
    assert game.expected is None and game.play_block(0, 3).shape == game.expected.shape
    game.reset()
    assert game.expected is None


@pytest.mark.parametrize(
    "make", [lambda: tb.UCB1Loss(2), lambda: tb.EXP3Loss(2, 99, seed=0), lambda: tb.BatchedEXP3(2, 99, batch=2, seed=0)]
)
def test_a_loss_is_taken_once(make):
    policy = make()
    for _ in range(5):
        policy.select()
        with pytest.raises(ValueError, match="`loss`"):
            policy.update(7.0)  # refused, and the arm still waits for its loss
        policy.update(0.5)
        with pytest.raises(ValueError, match="`select`"):
            policy.update(0.5)


class Cycles(tb.SETallying):
    "Two epochs of cycles at a toy size, a radius that leaves few of them"

    def _radius(self, s: int) -> float:
        return 0.05 / s


@pytest.mark.parametrize("m, horizon", [(1, 64), (2, 256)])
def test_cycles_by_the_listing(m, horizon):
    P = math.isqrt(horizon)
    policy, rng = Cycles(2, horizon, m, 0.1), np.random.default_rng(m)
    policy.epochs = 2
    policy._game = policy._play()
    policy._arm = next(policy._game)
    left = np.arange(2**P)
    for s in (1, 2):
        seen = np.zeros((2, m))
        for x, y in np.ndindex(2, m):
            cycle = policy.cycles[left[policy.occupancy[left, x, y].argmax()]]
            around = np.tile(cycle, 2)
            hit = (tb.play_tallies(around, np.ones(m))[P:] == y + 1) & (cycle == x)
            stored = []
            for t in range(2 * 2**s * P):
                assert policy.select() == cycle[t % P]
                loss = rng.random() * 0.02 + (0.3 * x + 0.1 * y) * (1 if t >= 2**s * P else -0.3) + 0.2
                policy.update(loss)
                if t >= 2**s * P and hit[t % P]:
                    stored.append(loss)
            seen[x, y] = np.mean(stored) if stored else 0.0
        assert_close(policy.means_, seen, rtol=1e-12)
        rated = (policy.occupancy[left] * seen).sum((1, 2))
        best, left = left[rated.argmin()], left[tb.survivors(rated, 0.05 / s)]
        assert (policy.active_ == left).all() and 0 < len(left) < 2**P
    for t in range(P):
        assert policy.select() == policy.cycles[best][t]
        policy.update(0.5)


def test_cycles_are_played_on_after_their_epochs():
    game = tb.WeightedTallyingBandit(np.random.default_rng(0).random((2, 2)), np.ones(2), noise="none")
    run = tb.simulate(tb.SETallying(2, 289, 2, 0.1), game, 289)  # an epoch of 272 steps, then the best cycle
    assert run["actions"].shape == (1, 289)


def test_the_plain_loop_is_the_game():
    h = np.random.default_rng(5).random((3, 4))
    ours = tb.simulate(tb.ExploreThenCommit(3, 60, 5), tb.WeightedTallyingBandit(h, UNIT, noise="none"), 15)[
        "expected"
    ].sum()
    assert_close(tb.plain_game(tb.ExploreThenCommit(3, 60, 5), h.tolist(), 15), ours, rtol=1e-12)
    plain, fast = tb._PlainUCB(3), tb.UCB1Loss(3)
    rng = random.Random(0)
    for _ in range(200):
        arm = plain.select()
        assert arm == fast.select()[0]
        loss = rng.random()
        plain.update(loss), fast.update(loss)


# ---- losses from a log -----------------------------------------------------------------------------------------------


def test_plain_means_are_the_means_of_each_tally():
    rng, m = np.random.default_rng(1), 3
    arm, loss = rng.integers(2, size=400), rng.random(400)
    fit = tb.tally_losses(dict(arm=arm, loss=loss), np.ones(m), shape="mean")
    tally = tb.play_tallies(arm, np.ones(m))
    for x in range(2):
        for y in range(1, m + 1):
            at = (arm == x) & (tally == y)
            assert fit.counts[x, y - 1] == at.sum()
            assert_close(fit.model.losses[x][y - 1], loss[at].mean(), rtol=1e-12)
        assert_close(fit.plateau[x], loss[(arm == x) & (tally == m)].mean(), rtol=1e-12)


def test_half_widths_are_those_of_four_more_losses():
    rng, m = np.random.default_rng(2), 2
    arm, loss = np.repeat([0, 1, 0], [30, 20, 9]), rng.random(59)
    fit = tb.tally_losses(dict(arm=arm, loss=loss), np.ones(m), shape="mean")
    full = tb.play_tallies(arm, np.ones(m)) == m
    for x in range(2):
        seen = loss[full & (arm == x)]
        more = np.r_[seen, 0, 0, 1, 1]
        wide = abs(more.mean() - seen.mean()) + 1.96 * stats.sem(more, ddof=0)
        assert_close(fit.half_width[x], wide, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 60])
def test_half_widths_hold_the_interval_of_wilson(n):
    for hits in range(n + 1):
        fit = tb.tally_losses(dict(arm=[0] * n, loss=[1] * hits + [0] * (n - hits)), np.ones(1))
        wilson = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert fit.plateau[0] - fit.half_width[0] <= wilson.low + 0.006
        assert fit.plateau[0] + fit.half_width[0] >= wilson.high - 0.006


def test_three_equal_losses_settle_nothing():
    fit = tb.tally_losses(dict(arm=[0, 0, 0, 1, 1, 1], loss=[0, 0, 0, 1, 1, 1]), np.ones(1))
    assert (fit.half_width > 0.6).all()


def test_a_monotone_arm_is_found_and_one_never_seen_full_is_said():
    arm = np.array([0] * 8 + [1, 0, 1, 0])
    loss = np.r_[np.linspace(0.9, 0.2, 8), 0.5, 0.3, 0.5, 0.3]
    with pytest.warns(UserWarning, match=r"`log` has no run of m = 4 plays of \[1\]"):
        fit = tb.tally_losses(dict(arm=arm, loss=loss), np.ones(4))
    assert (np.diff(fit.model.losses[0]) <= 0).all() and np.isnan(fit.plateau[1]) and np.isnan(fit.half_width[1])


def test_the_steady_loss_is_the_plateau():
    w, rng = 0.95 ** np.arange(30), np.random.default_rng(1)
    arm = np.repeat(rng.integers(2, size=3000), 40)
    full = tb.play_tallies(arm, w) > w.sum() * (1 - 1e-9)
    loss = rng.random(len(arm)) < np.where(arm == 0, np.where(full, 0.1, 1.0), 0.12)
    for shape, points in (("mean", None), ("mean", 7), ("isotonic", None), ("mean", 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the grid of 30 unequal weights
            fit = tb.tally_losses(dict(arm=arm, loss=loss), w, shape=shape, points=points)
        assert_close(fit.model.steady, fit.plateau, rtol=1e-12)
        assert fit.model.optimal_arm == 0 and abs(fit.plateau - (0.1, 0.12)).max() < 0.01
        assert hash(fit) == hash(fit)


def test_times_are_numbers_or_dates():
    day = [datetime.datetime(2024, 1, d) for d in (3, 1, 2)]
    wanted = tb.tally_losses(dict(arm=[1, 1, 0], loss=[1, 0, 0]), np.ones(2), shape="mean")
    for time in (day, np.array(day, "datetime64[s]"), [3, 1, 2], [0.3, 0.1, 0.2], [d - day[1] for d in day]):
        fit = tb.tally_losses(dict(arm=[0, 1, 1], loss=[0, 1, 0], time=np.array(time)), np.ones(2), shape="mean")
        assert_close(np.array(fit.model.losses), np.array(wanted.model.losses))


# ---- the kernel ------------------------------------------------------------------------------------------------------

ROWS = {
    "one of each": (1, 1, 1, 1, 1), "no game": (0, 5, 2, 2, 2), "no step": (3, 0, 2, 2, 2), "memory one": (2, 12, 3, 1, 7),
    "ring twice round": (3, 17, 5, 7, 3), "a power of two": (2, 18, 8, 8, 4), "more arms than steps": (2, 4, 9, 3, 2),
}  # fmt: skip


def game_case(B: int, T: int, K: int, m: int, P: int, dtype: torch.dtype, gen: torch.Generator) -> tuple:
    draw = lambda *shape: torch.rand(*shape, generator=gen, dtype=dtype)  # noqa: E731
    return draw(K, P), 0.1 + 0.9 * draw(m), draw(B, T)


test_kernel = battery.kernel(tb.ucb_games_reference, tb.ucb_games, game_case, ROWS, {torch.float64: 1e-12})


# ---- the page --------------------------------------------------------------------------------------------------------

test_recipe = battery.recipe("tallying_bandits", "recommended: quiz")

TABLES = torch.full((2, 3), 0.5, dtype=torch.float64)
NAN = [np.nan, 0.5]
BAD = {
    "weights above one": (lambda: tb.TallyingModel(LOSSES, [1, 2]), ValueError, "`weights`"),
    "no current play": (lambda: tb.TallyingModel(LOSSES, [0, 1]), ValueError, "`weights`"),
    "no weights": (lambda: tb.TallyingModel(LOSSES, []), ValueError, "`weights`"),
    "NaN weights": (lambda: tb.play_tallies([0, 1], NAN), ValueError, "`weights`"),
    "no losses": (lambda: tb.TallyingModel([], UNIT), ValueError, "`losses`"),
    "loss above one": (lambda: tb.TallyingModel([lambda r: 2 * r], UNIT), ValueError, "arm 0"),
    "NaN loss": (lambda: tb.TallyingModel([[0.1, np.nan]], UNIT), ValueError, "`losses`"),
    "noise": (lambda: tb.WeightedTallyingBandit(LOSSES, UNIT, noise="normal"), ValueError, "`noise`"),
    "games": (lambda: tb.WeightedTallyingBandit(LOSSES, UNIT, n_envs=0), ValueError, "`n_envs`"),
    "arm": (lambda: tb.WeightedTallyingBandit(LOSSES, UNIT).step(3), ValueError, "`action`"),
    "negative arm": (lambda: tb.WeightedTallyingBandit(LOSSES, UNIT).step(-1), ValueError, "`action`"),
    "arm type": (lambda: tb.WeightedTallyingBandit(LOSSES, UNIT).step(0.0), ValueError, "`action`"),
    "arms of other games": (
        lambda: tb.WeightedTallyingBandit(LOSSES, UNIT).step(np.array([0, 1])),
        ValueError,
        "`action`",
    ),
    "length": (lambda: tb.WeightedTallyingBandit(LOSSES, UNIT).play_block(0, 0), ValueError, "`length`"),
    "warm-up": (lambda: tb.WeightedTallyingBandit(LOSSES, UNIT).block_total(0, 3, -1), ValueError, "`warmup`"),
    "windows": (lambda: tb.best_sequence(tb.TallyingModel(LOSSES, np.ones(20)), 5), ValueError, "windows"),
    "start": (lambda: tb.best_sequence(tb.TallyingModel(LOSSES, UNIT), 5, start=[7]), ValueError, "`start`"),
    "horizon of a sequence": (lambda: tb.best_sequence(tb.TallyingModel(LOSSES, UNIT), 0), ValueError, "`horizon`"),
    "sequences": (lambda: tb.enumerate_sequences(tb.TallyingModel(LOSSES, UNIT), 40), ValueError, "`horizon`"),
    "occupancy": (lambda: tb.cyclic_occupancy(np.zeros(3, int), 2, 4), ValueError, "`memory`"),
    "epoch": (lambda: tb.epoch_radius(0), ValueError, "`s`"),
    "chance of failure": (lambda: tb.epoch_length(1, 3, 0.0), ValueError, "`delta`"),
    "gaps": (lambda: tb.epochs_needed([0.1, -0.1]), ValueError, "`gaps`"),
    "no best arm": (lambda: tb.epochs_needed([0.1, 0.2]), ValueError, "`gaps`"),
    "NaN gaps": (lambda: tb.instance_bound(NAN, 3, 3, 0.1), ValueError, "`gaps`"),
    "tied gaps": (lambda: tb.instance_bound([0.0, 0.0], 3, 3, 0.1), ValueError, "`gaps`"),
    "short warm-up": (lambda: tb.regret_bound(3, 100, 30, 20, 0.1), ValueError, "`memory_bound`"),
    "short warm-up, gaps": (lambda: tb.instance_bound([0.0, 0.3], 30, 20, 0.1), ValueError, "`memory_bound`"),
    "bound": (lambda: tb.regret_bound(3, 100, 3, 3, 1.5), ValueError, "`delta`"),
    "arms of a policy": (lambda: tb.SuccessiveEliminationREO(0, 10, 1), ValueError, "`n_arms`"),
    "memory bound": (lambda: tb.SuccessiveEliminationREO(2, 10, -1), ValueError, "`memory_bound`"),
    "delta": (lambda: tb.SuccessiveEliminationREO(2, 10, 1, 1.0), ValueError, "`delta`"),
    "schedule": (lambda: tb.SuccessiveEliminationREO(2, 10, 1, schedule="halve"), ValueError, "halving"),
    "loss": (lambda: tb.ExploreThenCommit(2, 10, 1).update(1.5), ValueError, "`loss`"),
    "NaN is no loss": (lambda: tb.ExploreThenCommit(2, 10, 1).update(float("nan")), ValueError, "`loss`"),
    "NaN for UCB1": (lambda: (p := tb.UCB1Loss(2)).select() is p.update(np.nan), ValueError, "`loss`"),
    "NaN for EXP3": (lambda: (p := tb.EXP3Loss(2, 9)).select() is p.update(np.nan), ValueError, "`loss`"),
    "losses of other games": (lambda: (p := tb.UCB1Loss(2)).select() is p.update(np.zeros(3)), ValueError, "`loss`"),
    "explore": (lambda: tb.ExploreThenCommit(2, 10, 0), ValueError, "`explore`"),
    "rate": (lambda: tb.EXP3Loss(2, 10, rate=0.0), ValueError, "`rate`"),
    "mixing": (lambda: tb.EXP3Loss(2, 10, mixing=2.0), ValueError, "`mixing`"),
    "batch": (lambda: tb.BatchedEXP3(2, 10, batch=-1), ValueError, "`batch`"),
    "too short to plan": (lambda: tb.ExploreThenPlan(2, 4, 2), ValueError, "`horizon`"),
    "windows to plan": (lambda: tb.ExploreThenPlan(4, 1000, 20), ValueError, "windows"),
    "one game for two": (
        lambda: tb.simulate(tb.ExploreThenCommit(3, 9, 1), tb.WeightedTallyingBandit(LOSSES, UNIT, n_envs=2), 9),
        ValueError,
        "`policy`",
    ),
    "UCB1 before a play": (lambda: tb.UCB1Loss(2).update(0.5), ValueError, "`select`"),
    "EXP3 before a play": (lambda: tb.EXP3Loss(2, 9).update(0.5), ValueError, "`select`"),
    "batches before a play": (lambda: tb.BatchedEXP3(2, 9).update(0.5), ValueError, "`select`"),
    **{
        f"{loss} for {name}": (lambda make=make, loss=loss: make().update(loss), ValueError, "`loss`")
        for name, make in (
            ("a plan", lambda: tb.ExploreThenPlan(2, 9, 2)),
            ("cycles", lambda: tb.SETallying(2, 256, 2, 0.1)),
        )
        for loss in (float("nan"), 7.0, -3)
    },
    "epoch of cycles": (lambda: tb.cycle_radius(0, 2, 2, 16, 0.1), ValueError, "`s`"),
    "no epoch of cycles": (lambda: tb.cycle_radius(1, 2, 2, 15, 0.1), ValueError, "`period`"),
    "delta of cycles": (lambda: tb.cycle_radius(1, 2, 2, 16, 0.0), ValueError, "`delta`"),
    "memory of cycles": (lambda: tb.cycle_epochs(2, 0, 16), ValueError, "`memory`"),
    "no square": (lambda: tb.SETallying(2, 255, 2, 0.1), ValueError, "square"),
    "blocks of a stepper": (
        lambda: tb.simulate_blocks(tb.UCB1Loss(3), tb.WeightedTallyingBandit(LOSSES, UNIT), 5),
        ValueError,
        "BlockPolicy",
    ),
    "log": (lambda: tb.tally_losses(dict(arm=[0, 1], loss=[0.1]), UNIT), ValueError, "`log`"),
    "NaN in a log": (lambda: tb.tally_losses(dict(arm=[0, 1], loss=NAN), UNIT), ValueError, "`log`"),
    "empty log": (lambda: tb.tally_losses(dict(arm=[], loss=[]), UNIT), ValueError, "`log`"),
    "too few times": (lambda: tb.tally_losses(dict(arm=[0, 1], loss=[0, 1], time=[0]), UNIT), ValueError, "time"),
    "NaN times": (lambda: tb.tally_losses(dict(arm=[0, 1], loss=[0, 1], time=NAN), UNIT), ValueError, "time"),
    "log without losses": (lambda: tb.tally_losses(dict(arm=[0]), UNIT), ValueError, "`log`"),
    "shape": (lambda: tb.tally_losses(dict(arm=[0], loss=[0.1]), UNIT, shape="mono"), ValueError, "isotonic"),
    "tables": (lambda: tb.ucb_games(TABLES.float(), TABLES[0], TABLES), ValueError, "`tables`"),
    "uniforms": (lambda: tb.ucb_games(TABLES, TABLES[0], TABLES[0]), ValueError, "`uniforms`"),
    "weights of a kernel": (lambda: tb.ucb_games(TABLES, 3 * TABLES[0], TABLES), ValueError, "`weights`"),
    "losses of a kernel": (lambda: tb.ucb_games(3 * TABLES, TABLES[0], TABLES), ValueError, "`tables`"),
    "no arm of a kernel": (lambda: tb.ucb_games(TABLES[:0], TABLES[0], TABLES), ValueError, "`tables`"),
    "no point of a kernel": (lambda: tb.ucb_games(TABLES[:, :0], TABLES[0], TABLES), ValueError, "`tables`"),
    **{
        f"{bad!r} in a sequence": (
            lambda bad=bad: tb.TallyingModel(LOSSES, UNIT).sequence_losses(bad),
            kind,
            "`actions`",
        )
        for bad, kind in (([0, 5, 1], ValueError), ([0, -1], ValueError), ([0.0, 1.0], TypeError), (1, ValueError))
    },
    **{
        f"{bad!r} for losses": (lambda bad=bad: tb.TallyingModel(LOSSES, UNIT).mean_losses(bad, [1, 2]), kind, text)
        for bad, kind, text in (
            ([0, 3], ValueError, "`arms`"),
            ([-1, 0], ValueError, "`arms`"),
            ([0.0, 1.0], TypeError, "`arms`"),
            (0, ValueError, "`tallies`"),
            ([0, 1, 2], ValueError, "`tallies`"),
        )
    },
    "arms of a cycle": (lambda: tb.cyclic_occupancy([0, -1], 2, 2), ValueError, "`cycles`"),
    "large arms of a cycle": (lambda: tb.cyclic_occupancy([0, 2], 2, 2), ValueError, "`cycles`"),
    "no cycle": (lambda: tb.cyclic_occupancy(0, 2, 1), ValueError, "`cycles`"),
    "plays of no sequence": (lambda: tb.play_tallies(0, UNIT), ValueError, "`actions`"),
    "empty table": (lambda: tb.TallyingModel([[]], UNIT), ValueError, "`losses`"),
    "loss of a number": (lambda: tb.TallyingModel([lambda r: math.sqrt(r)], UNIT), ValueError, "arm 0"),
    "one loss, not in a list": (lambda: tb.TallyingModel(LOSSES[0], UNIT), TypeError, "`losses`"),
    "no means": (lambda: tb.survivors([], 0.1), ValueError, "`means`"),
    "an epoch too late": (lambda: tb.epoch_length(600, 2, 0.1), ValueError, "`s`"),
    "windows times horizon": (
        lambda: tb.best_sequence(tb.TallyingModel(LOSSES[:2], np.ones(12)), 20_000),
        ValueError,
        "`horizon`",
    ),
    "a plan too long": (lambda: tb.ExploreThenPlan(2, 20_000, 12), ValueError, "`horizon`"),
    "past the plan": (
        lambda: tb.simulate(tb.ExploreThenPlan(2, 9, 2), tb.WeightedTallyingBandit(LOSSES[:2], np.ones(2)), 10),
        ValueError,
        "`horizon`",
    ),
    **{
        f"too few arms, {f.__name__}": (
            lambda f=f, make=make: f(make(1), tb.WeightedTallyingBandit(LOSSES, UNIT), 5),
            ValueError,
            "arms",
        )
        for f, make in ((tb.simulate, tb.UCB1Loss), (tb.simulate_blocks, lambda K: tb.ExploreThenCommit(K, 9)))
    },
    "a loss of seven": (lambda: tb.tally_losses(dict(arm=[0, 1], loss=[0, 7]), UNIT), ValueError, "row 1 has 7"),
    "times as texts": (
        lambda: tb.tally_losses(dict(arm=[0, 1], loss=[0, 1], time=["9", "10"]), UNIT),
        ValueError,
        "dates",
    ),
    "no time": (lambda: tb.tally_losses(dict(arm=[0, 1], loss=[0, 1], time=[1, None]), UNIT), ValueError, "time"),
    "an arm called NaN": (lambda: tb.tally_losses(dict(arm=NAN, loss=[0, 1]), UNIT), ValueError, "row 0"),
    "an arm called None": (lambda: tb.tally_losses(dict(arm=["a", None], loss=[0, 1]), UNIT), ValueError, "row 1"),
    "texts and numbers": (lambda: tb.tally_losses(dict(arm=[1, "a"], loss=[0, 1]), UNIT), ValueError, "both"),
    "race": (lambda: tb.race_arms("ucb"), ValueError, "UCB1"),
}

test_bad_input = battery.errors(BAD)


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the page says, what is put in its place)
BREAKS = {
    1: [
        (
            "tally[..., i:] += w[i] * (actions[..., i:] == actions[..., :-i])",
            "tally[..., i:] += w[i - 1] * (actions[..., i:] == actions[..., :-i])",
        ),
        ("tally = np.full(actions.shape, w[0])", "tally = np.full(actions.shape, 0 * w[0])"),
        (
            "for i in range(1, min(len(w), actions.shape[-1])):",
            "for i in range(1, min(len(w), actions.shape[-1]) - 1):",
        ),
    ],
    2: [
        ("w0 * game.decay**game.memory * gone", "w0 * game.decay ** (game.memory - 1) * gone"),
        ("tally *= game.decay\n", "tally *= 1.0\n"),
        ("tally -= gone.view(np.uint8)", "tally -= come.view(np.uint8)"),
        ("tally += w0 * come - w0", "tally += come - w0"),
        ("(game.recent == a[:, None]) @ game.weights", "(game.recent == a[:, None]) @ game.weights[::-1]"),
    ],
    3: [
        ("return game.prefix[j] + game.decay**j * sums[:, m - j]", "return game.prefix[j] + sums[:, m - j]"),
        ("return game.prefix[j] + u @ shifted.T", "return game.prefix[j] + 0 * (u @ shifted.T)"),
        ("[1 : len(j) + 1, :m]", "[0 : len(j), :m]"),
        ("late], axis=1)[:, m - j]", "late], axis=1)[:, m - j + 1]"),
        ("game.weights[None, ::-1], axes=1", "game.weights[None], axes=1"),
    ],
    4: [
        (
            "return model.sequence_losses(np.indices((model.n_arms,)",
            "return 1 - model.sequence_losses(np.indices((model.n_arms,)",
        ),
        ("lambda r: 0.5 + 0.2 * r], [1, 0.6, 0.3])", "lambda r: 0.5 + 0.2 * r], [1, 0.3, 0.6])"),
    ],
    5: [
        ("value = total.argmin(axis=1), total.min(axis=1)", "value = total.argmin(axis=1), total.max(axis=1)"),
        ("total = costs + value[following]", "total = costs + value[:, None]"),
        ("window[:, None] * base + arms", "window[:, None] * base + arms[:, ::-1]"),
    ],
    6: [
        (
            "free = (w[0] + w[1:] @ (np.asarray(pattern) == 0)) / w.sum()",
            "free = (w[0] + w[1:].sum() * (np.asarray(pattern) == 0).mean()) / w.sum()",
        ),
        (
            "np.where(free.any(2), 0, 8 - comparator[:, None])",
            "np.where(free.any(2), 0, 8 - 8 * comparator[:, None] / 8 - 1)",
        ),
    ],
    7: [
        ("return min(0.0, float(least) - model.mu_star)", "return min(0.0, model.mu_star - float(least))"),
        ("return w[0] * np.arange(1, len(w) + 1)", "return w[0] * np.arange(len(w), len(w) + 1)"),
    ],
    8: [
        (
            "over = best_sequence(model, 12)[0] - 12 * model.mu_star",
            "over = best_sequence(model, 12)[0] - 13 * model.mu_star",
        ),
        ("assert best_sequence(late, 9)[0] == 2 and", "assert best_sequence(late, 9)[0] == 3 and"),
    ],
    9: [
        ("late = self._rng.binomial(rest, steady)", "late = self._rng.binomial(rest, steady / 2)"),
        ("self._draw(means[:, warmup:])", "self._draw(means[:, : means.shape[1] - min(warmup, means.shape[1])])"),
        (
            "steady, rest = self.steady[a], max(0, length - max(j, warmup))",
            "steady, rest = self.steady[a], max(0, length - j)",
        ),
    ],
    10: [
        (
            "math.ceil(math.log(4 * n_arms * s**2 / delta) / (2 * epoch_radius(s) ** 2))",
            "math.ceil(math.log(4 * n_arms * s / delta) / (2 * epoch_radius(s) ** 2))",
        ),
        ("return 0.5 ** check_integer", "return 0.6 ** check_integer"),
    ],
    11: [
        ("means.min() + 2 * check_real", "means.min() + 1 * check_real"),
        ("means.min() + 2 * check_real", "means.min() + 3 * check_real"),
    ],
    12: [
        ("(game.memory - 1) * (1 - game.mu_star) + length * game.gaps[1] + 1e-12", "length * game.gaps[1] + 1e-12"),
        ("== 2 == (tight.memory - 1) * (1 - tight.mu_star)", "== 2 == tight.memory * (1 - tight.mu_star)"),
    ],
    13: [
        (
            "np.cumsum([min(1, 8 * epoch_radius(s)) for s in range(1, 40)])",
            "np.cumsum([min(1, 16 * epoch_radius(s)) for s in range(1, 40)])",
        ),
        ("paid / (8 * math.sqrt(2 * L * n.sum()) + 8)", "paid / (8 * math.sqrt(L * n.sum()) + 8)"),
    ],
    14: [
        ("sampling = 8 * math.sqrt(2 * L * n_arms * horizon) + 8 * n_arms", "sampling = 8 * math.sqrt(2 * L * n_arms)"),
        ("assert epochs <= 1 + 0.5 * math.log2(T", "assert epochs <= 0.5 * math.log2(T"),
    ],
    15: [
        (
            "return float((memory - 1) * (s_x.sum() + 1) + np.asarray(gaps) @ plays)",
            "return float((memory - 1) * s_x.sum() + np.asarray(gaps) @ plays)",
        ),
        (
            "s = np.floor(np.log2(4 / np.where(gaps > 0, gaps, 4)) + 1e-9).astype(int) + 1",
            "s = np.floor(np.log2(4 / np.where(gaps > 0, gaps, 4)) + 1e-9).astype(int)",
        ),
        ("s = np.where(gaps > 0, s, last)", "s = np.where(gaps > 0, s, 0)"),
        ('last = check_integer("most", most, low=1)', "pass"),
    ],
    16: [
        ("paid.mean(0) - (m - 1)).min()", "paid.mean(0) - m).min()"),
        ("np.arange(1, m + 1) < m, 1.0)", "np.arange(1, m + 1) < m - 1, 1.0)"),
        ("paid.mean(0) - (m - 1)).min()", "paid.max(0) - (m - 1)).min()"),
    ],
    17: [
        ("[1.0] * (M - 1) + [0.0]]", "[0.5] * (M - 1) + [0.0]]"),
        (
            "np.maximum(p * tested, (1 - p) * never).min() >= M / 3",
            "np.maximum(p * tested, (1 - p) * never).min() >= M / 2",
        ),
    ],
    18: [
        (
            "(np.roll(cycles, i, axis=-1) == cycles).astype(int) for i in range(memory)",
            "(np.roll(cycles, i, axis=-1) == cycles).astype(int) for i in range(1, memory + 1)",
        ),
        ("pair = cycles * memory + tally - 1", "pair = cycles + n_arms * (tally - 1)"),
    ],
    19: [
        ("self._sum += loss if self._played >= warmup else 0.0", "self._sum += loss"),
        (
            "self.epoch_, self._waiting, self._means = self.epoch_ + 1, list(self.active_), {}",
            "self.epoch_, self._waiting, self._means = self.epoch_ + 1, list(self.active_)[::-1], {}",
        ),
        ("+ sum(n)) + 3 * (m - 1) == wanted", "+ sum(n)) + 3 * m == wanted"),
    ],
    20: [
        ("-math.sqrt(2 * math.log(self.time)), out", "math.sqrt(2 * math.log(self.time)), out"),
        ("-math.sqrt(2 * math.log(self.time)), out", "-math.sqrt(math.log(self.time)), out"),
        ("paid / n, 1 / np.sqrt(n)", "paid / n, 1 / n"),
        ("+= loss / self._chance", "+= loss"),
        ("super().update(self._sum / self.batch)", "super().update(self._sum / (self.batch + 1))"),
        ("self._done + 1, self._sum + loss", "self._done + 1, 0 * self._sum + loss"),
        ("super().update(self._sum / self.batch)", "super().update(loss)"),
        (
            "tuned = math.sqrt(2 * math.log(max(2, n_arms)) / (n_arms *",
            "tuned = math.sqrt(math.log(max(2, n_arms)) / (n_arms *",
        ),
    ],
    21: [
        ("mean(axis=0)\n            seen", "mean(axis=0)[::-1]\n            seen"),
        ("start=self._actions)[1]", "start=self._actions[::-1])[1]"),
        ("best_sequence(env, T)[0], m * K + m - 1", "best_sequence(env, T)[0], m * K / 3 - 1"),
    ],
    22: [
        (
            "if step >= n * self.period and hit[step % self.period]:",
            "if hit[step % self.period] or step >= n * self.period:",
        ),
        (
            "self.ratings_ = (self.occupancy[self.active_] * self.means_).sum((1, 2))",
            "self.ratings_ = (self.occupancy[self.active_] * self.means_).mean((1, 2))",
        ),
        ("math.sqrt(32 * size / (2**s * period)", "math.sqrt(16 * size / (2**s * period)"),
        ("32 * size / (2**s * period)", "32 * size / 2**s / period**0.5"),
        ("math.log(2 * size * epochs / delta)", "math.log(2 * size / delta)"),
        ("32 * size / (2**s * period)", "32 * size / (2 * s * period)"),
        ("self.active_[survivors(self.ratings_, radius)]", "self.active_[survivors(self.ratings_, 2 * radius)]"),
    ],
    23: [
        ("1.96 * more.std() / math", "1.96 * more.std(ddof=1) / math"),
        ("1.96 * more.std() / math", "1.64 * more.std() / math"),
        ("math.sqrt(len(more))", "math.sqrt(len(full))"),
        ("np.concatenate([full, (0, 0, 1, 1)])", "np.concatenate([full, (0, 1)])"),
        ("full.mean(), abs(more.mean() - full.mean()) + 1.96", "full.mean(), 1.96"),
        ("_steady_loss(b[a > 1 - 1e-9])", "_steady_loss(b[a > 0.5])"),
    ],
    24: [
        ("== 5 * 120 * (8 + 8 + 2)", "== 5 * 120 * (8 + 8 + 8)"),
        (
            "arms, means = torch.empty(B, T, dtype=torch.int16, device=tables.device), torch.empty_like(uniforms)\n    slot",
            "arms, means = torch.empty(B, T, dtype=torch.int64, device=tables.device), torch.empty_like(uniforms)\n    slot",
        ),
    ],
}


def derivation() -> list[str]:
    "Everything before the race, without its figures"
    return chapter_code.derivation("tallying_bandits", "### The race", aside=r"\bfig_\w+\(")


TestBreaks = battery.breaks("tallying_bandits", BREAKS, sources=derivation)
