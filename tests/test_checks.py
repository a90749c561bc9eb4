"""The comparison all tests use, and the refusal of bad arguments: what passes, what does not, and what is said."""

import decimal
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from weightbook.book.checks import (
    assert_close,
    check_choice,
    check_integer,
    check_real,
    check_tensor,
    expect_fail,
    rms_error,
    z_test,
)

FLOATS = arrays(np.float64, array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e6, 1e6))


def fails(call, contains=""):
    with pytest.raises(AssertionError) as failed:
        call()
    assert contains in str(failed.value)
    return str(failed.value)


# ---- rms_error -------------------------------------------------------------------------------------------------------


@given(FLOATS, st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_rms_error_is_the_ratio_of_norms_and_ignores_scale(values, scale):
    expected = values + 1.0
    by_norm = np.linalg.norm(values - expected) / np.linalg.norm(expected) if expected.any() else math.inf
    assert rms_error(values, expected) == pytest.approx(by_norm, rel=1e-9)
    assert rms_error(values * scale, expected * scale) == pytest.approx(by_norm, rel=1e-6)
    assert rms_error(values, values) == 0.0


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        (0.0, 0.0, 0.0),
        (1e-30, 0.0, math.inf),
        ([], [], 0.0),
        ([3e200, 5e200], [3e200, 4e200], 0.2),
        ([3e-200, 5e-200], [3e-200, 4e-200], 0.2),
        ([math.inf, 1.0], [math.inf, 1.0], 0.0),
        ([math.inf, 1.0], [-math.inf, 1.0], math.inf),
        ([math.inf, 2.0], [math.inf, 1.0], 1.0),
        ([1.0, 1.0], [math.inf, 1.0], math.inf),
        (3 + 5j, 3 + 4j, 0.2),
        ([True, False], [True, True], 1 / math.sqrt(2)),
    ],
)
def test_rms_error_by_hand(actual, expected, error):
    assert rms_error(actual, expected) == pytest.approx(error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.bool])
def test_rms_error_takes_every_dtype(dtype):
    tensor = torch.tensor([[1, 0], [1, 1]]).to(dtype)
    assert rms_error(tensor, tensor.tolist()) == 0.0
    assert rms_error(tensor.to_sparse(), tensor) == 0.0


def test_rms_error_takes_tensors_with_a_graph():
    x = torch.ones(3, requires_grad=True)
    assert rms_error(2 * x, [2.0] * 3) == 0.0


def test_rms_error_refuses():
    with pytest.raises(ValueError, match="must have the shape"):
        rms_error([1.0], 1.0)
    for wrong in ("text", None, [[1.0], [1.0, 2.0]], [decimal.Decimal(1)]):
        with pytest.raises(TypeError, match="`actual`"):
            rms_error(wrong, 1.0)


# ---- assert_close ----------------------------------------------------------------------------------------------------


@given(FLOATS)
@settings(max_examples=40, deadline=None)
def test_equal_passes_and_one_stray_element_fails(values):
    assert_close(values, values.copy())
    stray = values.copy()
    stray.flat[-1] += 1.0 + 1e-3 * np.abs(values).max()
    fails(lambda: assert_close(stray, values, rtol=1e-6), "relative RMS error")


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (np.ones(3), np.ones((3, 1))),
        (np.ones((1, 3)), np.ones(3)),
        (np.ones(2), np.ones(3)),
        (1.0, [1.0]),
        (torch.ones(0), torch.ones(0, 1)),
    ],
)
def test_shape_comes_first(actual, expected):
    fails(lambda: assert_close(actual, expected, rtol=1e9), "differs from the expected")


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        (torch.ones(2), np.ones(2, np.float32), True),
        (torch.ones(2), np.ones(2), False),
        (torch.ones(2), torch.ones(2, dtype=torch.bfloat16), False),
        (torch.ones(2, dtype=torch.int32), torch.ones(2, dtype=torch.int64), False),
        (torch.ones(2), [1.0, 1.0], True),
        (np.float32(1.0), 1.0, True),
        (True, torch.tensor(True), True),
    ],
)
def test_dtype_comes_second(actual, expected, same):
    if same:
        assert_close(actual, expected)
    else:
        fails(lambda: assert_close(actual, expected, rtol=1e9), "dtype")


@pytest.mark.parametrize("value", [math.nan, [1.0, math.nan], torch.full((2, 2), math.nan)])
def test_nan_never_passes(value):
    fails(lambda: assert_close(value, value, rtol=1e30, atol=1e30), "nan")
    fails(lambda: assert_close(value, torch.ones(torch.as_tensor(value).shape).tolist(), rtol=math.inf))


def test_tolerances():
    assert_close(1.0 + 1e-10, 1.0)
    fails(lambda: assert_close(1.0 + 1e-8, 1.0))
    assert_close([1e-12, 1e-12], [0.0, 0.0], atol=2e-12)
    fails(lambda: assert_close([1e-12, 1e-12], [0.0, 0.0], atol=5e-13))
    fails(lambda: assert_close([1e-12], [0.0], rtol=1e9), "relative RMS error inf")


def test_the_message_names_size_and_place():
    actual = torch.zeros(2, 3)
    actual[1, 2] = 0.5
    message = fails(lambda: assert_close(actual, torch.zeros(2, 3), name="gate"))
    for part in ("gate: ", "shape (2, 3)", "float32", "at (1, 2)", "got 0.5", "expected 0"):
        assert part in message
    message = fails(lambda: assert_close([30.0, 10.0, 50.0], [30.0, 20.0, 40.0]))
    assert "relative RMS error 0.263 " in message and "absolute 8.16" in message
    assert "at (2,)" in fails(lambda: assert_close([30.0, 10.0, 51.0], [30.0, 20.0, 40.0]))


# ---- expect_fail -----------------------------------------------------------------------------------------------------


def test_expect_fail():
    with expect_fail((KeyError, ValueError), contains="one") as refused:
        raise ValueError("one two")
    assert refused.message == repr(refused) == "one two"
    with pytest.raises(AssertionError, match="nothing was raised"), expect_fail(ValueError):
        pass
    with pytest.raises(AssertionError, match="expected ValueError, got KeyError"), expect_fail(ValueError):
        raise KeyError("one")
    with pytest.raises(AssertionError, match="expected 'three' in the message"), expect_fail(contains="three"):
        raise ValueError("one two")
    with pytest.raises(KeyboardInterrupt), expect_fail():
        raise KeyboardInterrupt


# ---- z_test ----------------------------------------------------------------------------------------------------------


def test_z_scores_of_a_true_mean_are_standard_normal():
    generator = np.random.default_rng(0)
    scores = np.array([z_test(generator.exponential(size=400), 1.0, limit=8.0) for _ in range(2000)])
    assert 0.025 < (scores > 2).mean() < 0.07
    assert abs(np.median(scores) - 0.674) < 0.06


def test_a_bias_of_five_standard_errors_fails():
    samples = np.tile([-1.0, 1.0], 50)
    error = samples.std(ddof=1) / 10
    assert z_test(samples, 3.9 * error) == pytest.approx(3.9)
    message = fails(lambda: z_test(samples, 5 * error, name="sign"), "5 standard errors")
    assert message.startswith("sign: ") and "100 samples" in message
    assert z_test(samples, 5 * error, limit=6.0) == pytest.approx(5.0)


@pytest.mark.parametrize("shape", [(50,), (50, 3), (50, 2, 3)])
def test_every_component_is_tested(shape):
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(shape[1:])
    z_test(samples, 0.0)
    z_test(samples, expected)
    expected.view(-1)[-1] = 2.0
    fails(lambda: z_test(samples, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, np.float32])
def test_constant_samples(dtype):
    samples = np.full(8, 0.1, dtype) if dtype is np.float32 else torch.full((8,), 0.1, dtype=dtype)
    assert z_test(samples, 0.1) == 0.0
    fails(lambda: z_test(samples, 0.11), "standard errors")


def test_nan_and_infinite_samples_fail():
    for bad in (math.nan, math.inf):
        samples = np.zeros(20)
        samples[3] = bad
        fails(lambda samples=samples: z_test(samples, 0.0))
        fails(lambda samples=samples, bad=bad: z_test(samples, bad))


def test_z_test_refuses():
    for wrong in (np.zeros(7), 0.0, np.zeros((0, 3))):
        with pytest.raises(ValueError, match="at least 8 samples"):
            z_test(wrong, 0.0)
    with pytest.raises(ValueError, match=r"`expected` must be a number or have shape \(3,\)"):
        z_test(np.zeros((9, 3)), np.zeros((3, 1)))
    with pytest.raises(TypeError, match="must be real"):
        z_test(np.zeros(9, complex), 0.0)


# ---- argument checks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.25), np.int64(0)])
def test_check_real_passes(value):
    assert check_real("p", value, low=0, high=1, open_high=True) is value


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (1.0, dict(low=0, high=1, open_high=True), "`p` must be in [0, 1), got 1.0"),
        (0, dict(low=0, high=1, open_low=True), "`p` must be in (0, 1], got 0"),
        (0.0, dict(low=0, open_low=True), "`p` must be > 0, got 0.0"),
        (-1, dict(low=0), "`p` must be >= 0, got -1"),
        (3, dict(high=2), "`p` must be <= 2, got 3"),
        (2, dict(high=2, open_high=True), "`p` must be < 2, got 2"),
        (math.nan, {}, "`p` must be finite, got nan"),
        (math.inf, dict(low=0), "`p` must be >= 0, got inf"),
    ],
)
def test_check_real_refuses_values(value, bounds, message):
    with pytest.raises(ValueError) as refused:
        check_real("p", value, **bounds)
    assert str(refused.value) == message


@pytest.mark.parametrize("check", [check_real, check_integer])
@pytest.mark.parametrize("value", [True, np.True_, "1", None, [1], 1j, np.zeros(3), torch.tensor(1)])
def test_numbers_of_the_wrong_kind(check, value):
    with pytest.raises(TypeError, match="`n` must be a"):
        check("n", value)


def test_check_integer():
    assert check_integer("n", 3, low=3, high=3) == 3
    for value, bounds, message in (
        (0, dict(low=1, high=8), "`n` must be an integer between 1 and 8, got 0"),
        (0, dict(low=1), "`n` must be an integer >= 1, got 0"),
        (9, dict(high=8), "`n` must be an integer <= 8, got 9"),
    ):
        with pytest.raises(ValueError) as refused:
            check_integer("n", value, **bounds)
        assert str(refused.value) == message
    with pytest.raises(TypeError, match="must be an integer, got 3.0 of type float"):
        check_integer("n", 3.0)


def test_check_choice():
    assert check_choice("mode", "a", ("a", "b")) == "a"
    assert check_choice("bits", 2, (2, 4, 8)) == 2
    for value in ("A", None, ["a"], np.zeros(3), 1):
        with pytest.raises(ValueError, match="`mode` must be one of 'a', 'b', got"):
            check_choice("mode", value, ("a", "b"))
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        check_choice("mode", "unifrom", ("uniform", "greedy"))


@pytest.mark.parametrize(
    "demand",
    [dict(ndim=2), dict(min_ndim=1), dict(shape=(3, 4)), dict(shape=("O", None)), dict(floating=True, finite=True)],
)
def test_check_tensor_passes(demand):
    tensor = torch.zeros(3, 4)
    assert check_tensor("w", tensor, **demand) is tensor


@pytest.mark.parametrize(
    ("value", "demand", "kind", "message"),
    [
        (np.zeros(3), {}, TypeError, "`w` must be a torch.Tensor, got ndarray of shape (3,), float64"),
        ("x" * 200, {}, TypeError, "... of type str"),
        (torch.zeros(3, dtype=torch.int64), dict(floating=True), TypeError, "floating-point dtype, got int64"),
        (torch.zeros(3), dict(ndim=2), ValueError, "`w` must have 2 dimensions, got shape (3,)"),
        (torch.zeros(()), dict(min_ndim=1), ValueError, "at least 1 dimensions, got shape ()"),
        (torch.zeros(3), dict(shape=("N", 4)), ValueError, "`w` must have shape (N, 4), got (3,)"),
        (torch.zeros(3), dict(shape=(4,)), ValueError, "`w` must have shape (4,), got (3,)"),
        (torch.zeros(3, 4), dict(shape=("N", "N")), ValueError, "`w` must have shape (N, N), got (3, 4)"),
        (torch.zeros(3, 4), dict(shape=(None, 5)), ValueError, "`w` must have shape (*, 5), got (3, 4)"),
        (torch.tensor([1.0, math.nan]), dict(finite=True), ValueError, "got 1 NaN or infinite entries of 2"),
    ],
)
def test_check_tensor_refuses(value, demand, kind, message):
    with pytest.raises(kind) as refused:
        check_tensor("w", value, **demand)
    assert message in str(refused.value)
