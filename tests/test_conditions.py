"""Estimates with their intervals, and the comparisons that make conditions with three states."""

import copy
import dataclasses
import math
import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from weightbook.book import conditions
from weightbook.book.conditions import (
    COMPARISONS,
    Condition,
    Estimate,
    above,
    all_of,
    at_least,
    at_most,
    below,
    contains,
    estimate,
    estimate_gap,
    exactly,
    within,
)

FREE = {"without_control": "a toy"}


def interval(low, high, n=5, neutral=0.0, **options):
    return Estimate((low + high) / 2, low, high, n, neutral=neutral, **options)


# ---- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_the_interval_is_that_of_the_t_tests(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(3, 2, n), rng.normal(1, 1, n)
    ours, theirs = estimate_gap(a, b), stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert ours.mean == pytest.approx(np.mean(a - b), rel=1e-12) and ours.n == n
    single, theirs = estimate(a), stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert (single.low, single.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert single.half == pytest.approx((theirs.high - theirs.low) / 2, rel=1e-12)


def coverage(draw, truth, runs, **options):
    "How far the share of intervals that hold the truth is from 95 %, in standard errors"
    found = [estimate(draw(), **options) for _ in range(runs)]
    held = np.mean([one.low <= truth <= one.high for one in found])
    return (held - 0.95) / math.sqrt(0.95 * 0.05 / runs)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_interval_covers_the_truth_in_95_of_100_studies(n):
    rng = np.random.default_rng(n)
    assert abs(coverage(lambda: rng.normal(1.5, 2, n), 1.5, 4000)) < 4


def test_the_bootstrap_covers_the_truth_with_many_windows():
    rng = np.random.default_rng(1)
    assert abs(coverage(lambda: rng.gamma(2, 1, 300), 2.0, 400, method="bootstrap", resamples=600)) < 4


def test_the_bootstrap_has_a_generator_of_its_own():
    values = np.random.default_rng(0).gamma(2, 1, 50)
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    one = estimate(values, kind="window", method="bootstrap")
    assert np.array_equal(before, np.random.get_state()[1]) and one == estimate(values, kind="window", method="bootstrap")
    other = estimate(values, kind="window", method="bootstrap", seed=1)
    assert one.low != other.low and one.low == pytest.approx(other.low, abs=0.05)
    resampled = values[np.random.default_rng(5).integers(50, size=(20_000, 50))].mean(axis=1)
    assert [one.low, one.high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.02)
    assert "95 % bootstrap over 50 windows" in str(one)


def test_a_ratio_is_a_geometric_mean():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([2.0, 2.0, 3.0])
    ours, logs = estimate_gap(a, b, ratio=True), stats.ttest_rel(np.log(a), np.log(b)).confidence_interval(0.95)
    assert ours.mean == pytest.approx(stats.gmean(a / b)) and ours.neutral == 1
    assert (ours.low, ours.high) == pytest.approx((math.exp(logs.low), math.exp(logs.high)))
    for wrong in ([0.0, 1, 1], [-1.0, 1, 1]):
        with pytest.raises(ValueError, match="must be positive for a ratio"):
            estimate_gap(wrong, b, ratio=True)


def test_map_moves_the_interval_to_another_scale():
    gap = estimate_gap([1.0, 2.0, 4.0], [1.5, 1.0, 2.0])
    assert gap.map(math.exp).low == math.exp(gap.low) and gap.map(math.exp).neutral == 1
    flipped = gap.map(lambda v: -100 * v, label="points")
    assert (flipped.low, flipped.high, flipped.label) == (-100 * gap.high, -100 * gap.low, "points")
    assert flipped.neutral == 0 and flipped.low < flipped.mean < flipped.high
    with pytest.raises(ValueError, match="must be monotone"):
        gap.map(lambda v: v * v)
    one = estimate([2.0]).map(math.exp)
    assert one.mean == math.exp(2) and (one.low, one.high) == (-math.inf, math.inf)


def test_rounding_errors_are_no_difference():
    values = np.random.default_rng(0).normal(size=20)
    shifted = (values + 0.1) - 0.1
    assert not np.array_equal(values, shifted)
    gap = estimate_gap(shifted * 3, values * 3)
    assert not above(gap, **FREE).state == "true" and not below(gap, **FREE).state == "true"
    assert estimate_gap([0.1 + 0.2] * 3, [0.3] * 3).mean == 0


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([], ValueError, "one number for each replicate"),
        ([[1.0, 2.0]], ValueError, "one number for each replicate"),
        (1.0, ValueError, "one number for each replicate"),
        (["1"], TypeError, "real numbers"),
        ([True, False], TypeError, "real numbers"),
        ([1 + 2j], TypeError, "real numbers"),
        ([None, 1.0], TypeError, "real numbers"),
    ],
)
def test_what_is_no_list_of_replicates(values, kind, message):
    with pytest.raises(kind, match=f"`values` must hold {message}"):
        estimate(values)


def test_estimates_refuse_the_rest():
    with pytest.raises(ValueError, match="`method` must be one of"):
        estimate([1.0, 2.0], method="student")
    with pytest.raises(ValueError, match="must have the 2 replicates of `values`, got 3"):
        estimate_gap([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate([1.0, 2.0]).low = 0.0
    assert estimate(torch.tensor([1.0, 3.0], requires_grad=True)).mean == 2


# ---- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "spec", "text"),
    [
        (interval(11.9, 12.7), ".1f", "12.3 ± 0.4 (95 %, 5 seeds)"),
        (interval(11.9, 12.7), "+.1f", "+12.3 ± 0.4 (95 %, 5 seeds)"),
        (interval(0.119, 0.127), ".1%", "12.3% ± 0.4% (95 %, 5 seeds)"),
        (interval(11.914, 12.732), "", "+12.32 ± 0.41 (95 %, 5 seeds)"),
        (interval(11.914, 12.732, neutral=math.nan), "", "12.32 ± 0.41 (95 %, 5 seeds)"),
        (interval(1000, 3000, neutral=math.nan), "", "2000 ± 1000 (95 %, 5 seeds)"),
        (interval(1, 3, kind="window", method="bootstrap", detail="one run"), ".0f",
         "2 [1, 3] (95 % bootstrap over 5 windows, one run)"),
        (Estimate(2.0, 1.0, 2.5, 7, "draw"), ".1f", "2.0 [1.0, 2.5] (95 %, 7 draws)"),
        (estimate([2.0]), ".1f", "2.0 (1 seed, no interval)"),
        (estimate([2.0, math.nan]), ".1f", "nan (2 seeds, not finite)"),
        (estimate([2.0, 2.0]), "", "2 ± 0 (95 %, 2 seeds)"),
    ],
)  # fmt: skip
def test_the_text_says_how_it_was_made(made, spec, text):
    assert format(made, spec) == text
    assert made.short(spec) == text.rpartition(" (")[0]
    assert str(made) == format(made, "")


# ---- comparisons -----------------------------------------------------------------------------------------------------

LEFT, RIGHT, ACROSS, INSIDE = interval(-3, -1), interval(1, 3), interval(-1, 2), interval(-0.2, 0.1)


@pytest.mark.parametrize(
    ("compare", "states"),  # for LEFT, RIGHT, ACROSS, INSIDE
    [
        (lambda e: below(e, **FREE), "true false undecided undecided"),
        (lambda e: above(e, **FREE), "false true undecided undecided"),
        (lambda e: below(e, 2.5, **FREE), "true undecided true true"),
        (lambda e: above(e, -2, **FREE), "undecided true true true"),
        (lambda e: within(e, 0.5, **FREE), "false false undecided true"),
        (lambda e: within(e, 5, **FREE), "true true true true"),
        (lambda e: within(e, 1, around=2, **FREE), "false true undecided false"),
        (lambda e: contains(e, 0, **FREE), "false false true true"),
        (lambda e: contains(e, 2, **FREE), "false true true false"),
    ],
)
def test_where_an_interval_lies(compare, states):
    assert [compare(e).state for e in (LEFT, RIGHT, ACROSS, INSIDE)] == states.split()


def test_the_edges():
    touching = interval(0, 2)
    assert above(touching, **FREE).state == "undecided" and below(touching, **FREE).state == "false"
    assert within(interval(-1, 1), 1, **FREE).state == "true"
    point = estimate_gap([1.0, 2.0], [1.0, 2.0])
    assert (point.low, point.high) == (0, 0)
    assert below(point, **FREE).state == above(point, **FREE).state == "false"
    assert below(interval(0.4, 0.8, neutral=1.0), **FREE).state == "true"  # a ratio is compared with 1
    with pytest.raises(ValueError, match="`bound` must be given"):
        below(interval(1, 2, neutral=math.nan), **FREE)


UNKNOWN = {
    "one seed": estimate_gap([1.0], [0.0]),
    "NaN": estimate_gap([math.nan, 1.0, 1.0], [0.0, 0.0, 0.0]),
    "infinite": estimate_gap([math.inf, 1.0, 1.0], [0.0, 0.0, 0.0]),
    "inf - inf": estimate_gap([math.inf, 1.0], [math.inf, 0.0]),
    "minus infinity": estimate_gap([-math.inf, 1.0], [0.0, 0.0]),
    "one NaN": estimate_gap([math.nan], [0.0]),
    "NaN ratio": estimate_gap([math.nan, 1.0], [1.0, 1.0], ratio=True),
    "bootstrap NaN": estimate([math.nan, 1.0], method="bootstrap", neutral=0.0),
    "bootstrap of one": estimate([1.0], method="bootstrap", neutral=0.0),
}
OF_ESTIMATES = {
    "below": lambda e, **k: below(e, **k),
    "below, far": lambda e, **k: below(e, 1e300, **k),
    "above": lambda e, **k: above(e, **k),
    "above, far": lambda e, **k: above(e, -1e300, **k),
    "within": lambda e, **k: within(e, 1e300, **k),
    "contains": lambda e, **k: contains(e, 1.0, **k),
}


@pytest.mark.parametrize("compare", OF_ESTIMATES.values(), ids=OF_ESTIMATES)
@pytest.mark.parametrize("unknown", UNKNOWN.values(), ids=UNKNOWN)
def test_without_an_interval_nothing_is_decided(compare, unknown):
    assert compare(unknown, **FREE).state == "undecided"
    sound = interval(-2, -1) if compare(interval(-2, -1), **FREE).state == "true" else interval(0.9, 2)
    assert compare(sound, **FREE).state == "true"
    guarded = compare(sound, control=unknown)
    assert guarded.state == "undecided" and "not measured well enough" in guarded.control


@pytest.mark.parametrize(
    ("compare", "state"),
    [
        (lambda: exactly(3, 3, **FREE), "true"),
        (lambda: exactly(3.0, 3.1, **FREE), "false"),
        (lambda: exactly(3.0, 3.1, 0.2, **FREE), "true"),
        (lambda: exactly([1, 2], [1, 2], **FREE), "true"),
        (lambda: exactly(np.array([1, 2]), 1, **FREE), "false"),
        (lambda: exactly(torch.tensor([1.0, 1.0]), 1, **FREE), "true"),
        (lambda: exactly(math.nan, 1, **FREE), "undecided"),
        (lambda: exactly([1, math.nan], 1, **FREE), "undecided"),
        (lambda: exactly([2, math.nan], 1, **FREE), "false"),
        (lambda: at_most(1, 1, **FREE), "true"),
        (lambda: at_most(1.1, 1, **FREE), "false"),
        (lambda: at_most([0.5, 1.1], [1, 2], **FREE), "true"),
        (lambda: at_most([0.5, 2.1], [1, 2], **FREE), "false"),
        (lambda: at_most(math.nan, 1, **FREE), "undecided"),
        (lambda: at_most(math.inf, 1, **FREE), "false"),
        (lambda: at_most(-math.inf, 1, **FREE), "undecided"),
        (lambda: at_least(1, 1, **FREE), "true"),
        (lambda: at_least(0.9, 1, **FREE), "false"),
        (lambda: at_least(math.inf, 1, **FREE), "undecided"),
        (lambda: at_least([math.nan, 0.0], 1, **FREE), "false"),
    ],
)
def test_exact_numbers(compare, state):
    assert compare().state == state


YES, NO, OPEN = at_most(1, 2, **FREE), at_most(3, 2, **FREE), at_most(math.nan, 2, **FREE)


@pytest.mark.parametrize(
    ("checks", "at_least", "state"),
    [
        ([True] * 24, None, "true"),
        ([True] * 23 + [False], None, "false"),
        ([True] * 23 + [None], None, "undecided"),
        ([False, None], None, "false"),
        ([True, True, False], 2, "true"),
        ([True, None, False], 2, "undecided"),
        ([None, False, False], 2, "false"),
        ([YES, YES], None, "true"),
        ([YES, NO], None, "false"),
        ([YES, OPEN], None, "undecided"),
        ([YES, True, np.True_, torch.tensor(True)], None, "true"),
        (np.array([1, 2]) > 0, None, "true"),
        (torch.tensor([1, 2]) > 1, None, "false"),
    ],
)
def test_many_checks(checks, at_least, state):
    assert all_of(checks, at_least, **FREE).state == state


# ---- controls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compare", "passing", "failing"),
    [
        (lambda q, **k: below(q, **k), LEFT, RIGHT),
        (lambda q, **k: above(q, **k), RIGHT, LEFT),
        (lambda q, **k: within(q, 0.5, **k), INSIDE, RIGHT),
        (lambda q, **k: contains(q, 2, **k), RIGHT, LEFT),
        (lambda q, **k: exactly(q, 3, **k), 3, 4),
        (lambda q, **k: at_most(q, 3, **k), 2.5, 4),
        (lambda q, **k: at_least(q, 3, **k), [4, 3], [4, 2]),
        (lambda q, **k: all_of(q, **k), [True, YES], [False, YES]),
    ],
)
def test_a_control_that_passes_too_decides_nothing(compare, passing, failing):
    good = compare(passing, control=failing)
    assert good.state == "true" and good.control.startswith("the control fails: ")
    empty = compare(passing, control=passing)
    assert empty.state == "undecided" and empty.control.startswith("the control passes too: ")
    refuted = compare(failing, control=passing)
    assert refuted.state == "false" and "passes too" in refuted.control  # a claim that fails is refuted either way
    told = compare(passing, without_control="by proof")
    assert (told.state, told.control) == ("true", "no control: by proof")
    for wrong in ({}, {"control": failing, "without_control": "both"}):
        with pytest.raises(TypeError, match="`control` must be the same quantity"):
            compare(passing, **wrong)
    with pytest.raises(ValueError, match="`without_control` must say why"):
        compare(passing, without_control=" ")
    with pytest.raises(TypeError, match="`without_control` must be text"):
        compare(passing, without_control=True)


def test_a_control_without_an_effect_does_not_pass():
    condition = below(LEFT, control=ACROSS, says="dsq below rtn")
    assert condition.state == "true" and condition.control.startswith("the control does not pass: +0.5 ± 1.5")
    assert condition.sentence == "dsq below rtn: -2.0 ± 1.0 (95 %, 5 seeds) below 0"


@pytest.mark.parametrize("unknown", [math.nan, math.inf, [4.0, math.nan], [4.0, math.inf]])
def test_a_control_of_nan_decides_nothing(unknown):
    assert at_least(5, 3, control=unknown).state == "undecided"
    assert all_of([True, True], control=[True, None]).state == all_of([YES, YES], control=[YES, OPEN]).state == "undecided"


# ---- no way around ---------------------------------------------------------------------------------------------------


def test_only_comparisons_make_conditions():
    for make in (lambda: Condition("it holds", "true", "none"), lambda: dataclasses.replace(NO, state="true")):
        with pytest.raises(TypeError, match="made by a comparison, one of below, above"):
            make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        NO.state = "true"
    with pytest.raises(TypeError, match="three states, not two"):
        bool(YES)
    with pytest.raises(TypeError, match="three states"):
        all([YES, NO])
    assert copy.deepcopy(YES) == YES == pickle.loads(pickle.dumps(YES)) and YES != NO
    assert all(callable(getattr(conditions, name)) for name in COMPARISONS)


@pytest.mark.parametrize("truth", [True, False, np.True_, torch.tensor(True), [True, False], np.array([True])])
def test_truth_values_are_no_quantities(truth):
    for compare in (
        lambda: below(truth, **FREE),
        lambda: above(truth, **FREE),
        lambda: within(truth, 1, **FREE),
        lambda: contains(truth, 1, **FREE),
        lambda: exactly(truth, 1, **FREE),
        lambda: exactly(1, truth, **FREE),
        lambda: at_most(truth, 1, **FREE),
        lambda: at_least(truth, 1, **FREE),
    ):
        with pytest.raises(TypeError, match="must"):
            compare()


@pytest.mark.parametrize("checks", [True, np.True_, [True], [], "yes", 3, None, {"a": True}, np.array([[True, True]])])
def test_one_truth_value_is_no_list_of_checks(checks):
    with pytest.raises(TypeError, match="`checks` must"):
        all_of(checks, **FREE)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: all_of([True, 1], **FREE), TypeError, "truth values, conditions or None, got 1"),
        (lambda: all_of([True, True], 3, **FREE), ValueError, "`at_least` must be a number from 1 to 2, got 3"),
        (lambda: all_of([True, True], 0, **FREE), ValueError, "`at_least` must"),
        (lambda: within(LEFT, 0, **FREE), ValueError, "`margin` must"),
        (lambda: within(LEFT, math.inf, **FREE), ValueError, "`margin` must"),
        (lambda: below(LEFT, math.nan, **FREE), ValueError, "`bound` must"),
        (lambda: contains(LEFT, math.nan, **FREE), ValueError, "`value` must"),
        (lambda: at_most(1, math.nan, **FREE), ValueError, "`bound` must be finite"),
        (lambda: at_least(1, -math.inf, **FREE), ValueError, "`bound` must be finite"),
        (lambda: exactly(1, math.nan, **FREE), ValueError, "`paper` must be finite"),
        (lambda: exactly(1, 1, -1, **FREE), ValueError, "`tol` must"),
        (lambda: at_most([], 1, **FREE), (ValueError, TypeError), "`x` must hold"),
        (lambda: at_most(LEFT, 1, **FREE), TypeError, "compare it with `below`"),
        (lambda: at_most(1, 2, control=LEFT), TypeError, "compare it with `below`"),
        (lambda: below(LEFT, control=3.0), TypeError, "`control` must be an Estimate"),
        (lambda: at_most("1", 2, **FREE), TypeError, "`x` must hold real numbers"),
        (lambda: at_most(1, 2, says=3, **FREE), TypeError, "`says` must be text"),
    ],
)
def test_comparisons_refuse(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# ---- properties ------------------------------------------------------------------------------------------------------

REAL = st.floats(-1e6, 1e6)
RUNS = st.lists(st.tuples(REAL, REAL), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(RUNS, st.randoms(use_true_random=False))
def test_the_order_of_replicates_does_not_matter(runs, random):
    mixed = random.sample(runs, len(runs))
    for options in ({}, {"method": "bootstrap", "resamples": 200}):
        assert estimate_gap(*zip(*runs, strict=True), **options) == estimate_gap(*zip(*mixed, strict=True), **options)


@settings(max_examples=60, deadline=None)
@given(RUNS, REAL)
def test_below_and_above_mirror_each_other(runs, bound):
    a, b = zip(*runs, strict=True)
    gap, turned = estimate_gap(a, b), estimate_gap(b, a)
    assert below(gap, bound, **FREE).state == above(turned, -bound, **FREE).state
    states = {below(gap, bound, **FREE).state, above(gap, bound, **FREE).state}
    assert states in ({"true", "false"}, {"undecided"}, {"false"}, {"undecided", "false"})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([True, False, None]), min_size=2, max_size=9), st.randoms(use_true_random=False), st.data())
def test_counting_does_not_depend_on_the_order(checks, random, data):
    needed = data.draw(st.integers(1, len(checks)))
    found = all_of(checks, needed, **FREE).state
    assert found == all_of(random.sample(checks, len(checks)), needed, **FREE).state
    settled = {all_of([fill if c is None else c for c in checks], needed, **FREE).state for fill in (True, False)}
    assert settled == {found} if found != "undecided" else settled == {"true", "false"}


def test_the_module_needs_no_building_blocks():
    assert not any(name.startswith("weightbook.blocks") for name in vars(sys.modules["weightbook.book.conditions"]))
    assert "blocks" not in open(conditions.__file__, encoding="utf-8").read()
