"""Kernel plumbing: parity that bites, the choice of path, and machines without Triton."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weightbook.blocks import kernels
from weightbook.blocks.kernels import (
    HAS_TRITON,
    INTERPRETED,
    assert_parity,
    force_kernel,
    poison,
    poisoned_memory,
    scale_add,
    scale_add_reference,
    use_triton,
)

BOUND = {torch.float32: 1e-5, torch.float64: 1e-5, torch.float16: 5e-3, torch.bfloat16: 5e-3}
NO_TRITON = "import sys; sys.modules['triton'] = None\n"
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")


def run(code: str, **variables: str) -> str:
    "What a fresh interpreter prints, with TRITON_INTERPRET unset unless given"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_", "WEIGHTBOOK_"))} | variables
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def pair(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(shape))
    x, y = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(2))
    return x, y


# ---- the example kernel ----------------------------------------------------------------------------------------------


@needs_triton
@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("shape", [(1,), (63,), (1000,), (1024,), (1025,), (0,), (0, 3), (), (3, 5, 7)], ids=str)
def test_scale_add_parity(shape, dtype):
    seen = assert_parity(scale_add_reference, scale_add, [*pair(*shape, dtype=dtype), -1.5], rtol=BOUND[dtype], grads=(0, 1))
    assert seen.path == "interpreted" if not torch.cuda.is_available() else "compiled"
    assert set(seen.grads) == {0, 1} and len(seen.outputs) == 1


@needs_triton
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 70), st.integers(0, 70), st.floats(-3, 3), st.booleans())
def test_scale_add_parity_on_any_layout(rows, columns, alpha, turned):
    args = [t.T if turned else t[::2] for t in pair(rows, columns)]
    assert_parity(scale_add_reference, scale_add, [*args, alpha], rtol=1e-5, grads=(0, 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("size", [1, 63, 1000, 0, 10**6])
def test_scale_add_parity_on_a_gpu(size, dtype):
    args = [*pair(size, dtype=dtype, device="cuda"), 0.7]
    seen = assert_parity(scale_add_reference, scale_add, args, rtol=BOUND[dtype], grads=(0, 1))
    assert seen.path == "compiled" and use_triton(args[0])


@pytest.mark.parametrize(
    "y", [torch.ones(4), torch.ones(3, dtype=torch.float64), torch.ones(3, device="meta")], ids=["shape", "dtype", "device"]
)
def test_scale_add_refuses_what_does_not_fit(y):
    with pytest.raises(ValueError, match="`y` must have the shape"):
        scale_add(torch.ones(3), y, 1.0)


def test_scale_add_refuses_integers():
    with pytest.raises(ValueError, match="floating-point"):
        scale_add(torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64), 1.0)


# ---- parity bites ----------------------------------------------------------------------------------------------------


def forgets_last(x, y, alpha):
    out = torch.empty_like(x)
    out[:-1] = (alpha * x + y)[:-1]
    return out


def stale_rows(x, y, alpha):
    return torch.cat([(alpha * x + y)[:-1], x.new_empty(1)])


def writes_input(x, y, alpha):
    return x.mul_(alpha).add_(y)


def in_double(x, y, alpha):
    return (alpha * x + y).double()


def too_many(x, y, alpha):
    return alpha * x + y, y


def flat(x, y, alpha):
    return (alpha * x + y)[:1]


def slightly_off(x, y, alpha):
    return alpha * x + y * (1 + 1e-4)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (forgets_last, "output 0"), (stale_rows, "output 0"), (writes_input, "`writes_input` changed its argument 0"),
        (in_double, "dtype float64"), (too_many, "returns 2 outputs, the reference 1"), (flat, "shape"),
        (slightly_off, "output 0"),
    ],
)  # fmt: skip
def test_a_wrong_kernel_fails(kernel, message):
    with pytest.raises(AssertionError, match=message):
        assert_parity(scale_add_reference, kernel, [*pair(63), 0.7], rtol=1e-5)


def test_a_wrong_gradient_fails():
    def half_gradient(x, y, alpha):
        return alpha * x + y.detach() + 0.5 * (y - y.detach())

    args = [*pair(63), 0.7]
    assert_parity(scale_add_reference, half_gradient, args, rtol=1e-5, grads=(0,))
    with pytest.raises(AssertionError, match="gradient of argument 1"):
        assert_parity(scale_add_reference, half_gradient, args, rtol=1e-5, grads=(0, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_must_come_back_in_half_precision(dtype):
    with pytest.raises(AssertionError, match="dtype torch.float32 differs"):
        assert_parity(scale_add_reference, lambda x, y, a: (a * x + y).float(), [*pair(63, dtype=dtype), 0.7], rtol=5e-3)


def test_the_arguments_are_not_touched():
    x, y = pair(63)
    before = x.clone(), y.clone()
    with pytest.raises(AssertionError):
        assert_parity(scale_add_reference, writes_input, [x, y, 0.7], rtol=1e-5)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1]) and not x.requires_grad


@pytest.mark.parametrize("grads", [(2,), (3,), (-1,)])
def test_gradients_of_what_has_none_are_refused(grads):
    with pytest.raises(ValueError, match="`grads` must hold positions"):
        assert_parity(scale_add_reference, scale_add, [*pair(3), 0.7], rtol=1e-5, grads=grads)


def test_several_outputs_are_compared_one_by_one():
    def both(x, y):
        return x + y, x * y

    seen = assert_parity(both, both, pair(9), rtol=0, grads=(0, 1))
    assert seen.outputs == (0.0, 0.0) and seen.grads == {0: 0.0, 1: 0.0}
    with pytest.raises(AssertionError, match="output 1"):
        assert_parity(both, lambda x, y: (x + y, x), pair(9), rtol=1e-5)


# ---- poison ----------------------------------------------------------------------------------------------------------


def test_poison_reaches_every_way_to_allocate():
    x = torch.ones(2, 3)
    with poisoned_memory():
        fresh = [torch.empty(3), torch.empty_like(x), x.new_empty(4), torch.empty_strided((2,), (1,))]
        fresh.append(torch.ones(1).resize_(9)[1:])
    assert all(t.isnan().all() for t in fresh)


def test_poison_ends_with_its_context_also_after_an_error():
    torch.use_deterministic_algorithms(False)
    with pytest.raises(KeyError), poisoned_memory():
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with poisoned_memory():
            pass
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.complex64, torch.uint8, torch.int64], ids=str)
def test_poison_takes_dtype_from_its_model(dtype):
    made = poison((2, 3), torch.zeros(1, dtype=dtype))
    expected = torch.iinfo(dtype).max if dtype in (torch.uint8, torch.int64) else None
    assert made.dtype == dtype and made.shape == (2, 3)
    assert (made == expected).all() if expected else made.isnan().all()


# ---- the choice of path ----------------------------------------------------------------------------------------------


def test_cpu_tensors_take_the_plain_path():
    assert not use_triton(torch.ones(1)) and not use_triton()


@needs_triton
@pytest.mark.skipif(not INTERPRETED, reason="Triton compiles here")
def test_forcing_ends_with_its_context(monkeypatch):
    with force_kernel():
        assert use_triton(torch.ones(1))
    with pytest.raises(KeyError), force_kernel():
        raise KeyError
    assert not use_triton(torch.ones(1))
    monkeypatch.setenv("WEIGHTBOOK_FORCE_KERNEL", "1")
    assert use_triton(torch.ones(1))


def test_compiled_triton_takes_cuda_tensors_only(monkeypatch):
    class Fake:
        def __init__(self, is_cuda: bool, dtype: torch.dtype = torch.float32, device: str = "cuda:0"):
            self.is_cuda, self.dtype, self.device = is_cuda, dtype, torch.device(device)

    monkeypatch.setattr(kernels, "HAS_TRITON", True)
    monkeypatch.setattr(kernels, "INTERPRETED", False)
    assert use_triton(Fake(True), Fake(True)) and not use_triton(Fake(True), Fake(False))
    assert not use_triton(Fake(True), Fake(True, device="cuda:1"))
    assert not use_triton(Fake(True, torch.float64)) and use_triton(Fake(True, torch.float64), double=True)
    monkeypatch.setattr(kernels, "HAS_TRITON", False)
    assert not use_triton(Fake(True))


def test_everything_imports_and_falls_back_without_triton():
    out = run(NO_TRITON + """
import torch
from weightbook.blocks.kernels import *
from weightbook.blocks.kernels import triton
x = torch.arange(3.0)
print(HAS_TRITON, INTERPRETED, use_triton(x), scale_add(x, x, 2.0).tolist(), triton.cdiv(5, 2), triton.next_power_of_2(5))
print(assert_parity(scale_add_reference, scale_add, [x, x, 2.0], rtol=1e-5, grads=(0,)).path)
try:
    with force_kernel():
        scale_add(x, x, 2.0)
except RuntimeError as error:
    print(error)
""")
    first, path, error = out.splitlines()
    assert first == "False False False [0.0, 3.0, 6.0] 3 8" and path == "fallback"
    assert "`triton` is missing: pip install 'weightbook[gpu]'" in error


def test_kernels_written_with_options_import_without_triton():
    out = run(NO_TRITON + """
from weightbook.blocks.kernels import jit, tl, triton
@triton.autotune(configs=[triton.Config({"B": 64}, num_warps=4)], key=["n"])
@triton.heuristics({"EVEN": lambda args: True})
@jit(do_not_specialize=["n"])
def kernel(n, B: tl.constexpr):
    return n + B
print(kernel(1, 2))
""")
    assert out == "3"


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_the_interpreter_is_chosen_before_triton_is_imported():
    code = "from weightbook.blocks.kernels import *; import os; print(INTERPRETED, os.environ['TRITON_INTERPRET'])"
    assert run(code) == "True 1"
    assert run(code, TRITON_INTERPRET="0") == "False 0"


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_triton_imported_too_early_is_named():
    out = run("""
import triton, torch
from weightbook.blocks.kernels import *
from weightbook.blocks.kernels import triton
x = torch.ones(3)
print(HAS_TRITON, INTERPRETED, scale_add(x, x, 2.0).tolist())
try:
    assert_parity(scale_add_reference, scale_add, [x, x, 2.0], rtol=1e-5)
except RuntimeError as error:
    print(error)
""")
    first, error = out.splitlines()
    assert first == "True False [3.0, 3.0, 3.0]" and "import weightbook.blocks.kernels first" in error
