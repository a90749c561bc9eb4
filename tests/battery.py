"""Shared batteries: what every optimiser, layer, converter … of the book promises. A chapter's test file gives the tables.

Each function returns a test, or a class of tests, to be bound to a name that pytest collects:

    test_bad_input = battery.errors({"zero rate": (lambda: step(0.0), ValueError, "rate")})
    TestBreaks = battery.breaks("wina", {1: (".norm(dim=0)", ".norm(dim=1)")}, until="### The race")
"""

import copy
import fcntl
import io
import json
import os
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chapter_code
import pytest
import torch
from torch import Tensor, nn

from weightbook.blocks.kernels import HAS_TRITON, assert_parity
from weightbook.book.checks import assert_close

Break = tuple[str, str]  # what the page says, what is put in its place


# ---- bad input -------------------------------------------------------------------------------------------------------


def _known(tests: type, defects: Mapping[str, str] | None) -> type:
    "Mark tests that a known defect fails, by name with its reason; one that passes after all fails, so that the mark goes"
    for name, reason in (defects or {}).items():
        mark = pytest.mark.xfail(strict=True, reason=reason)
        setattr(tests, f"test_{name}", mark(getattr(tests, f"test_{name}")))
    return tests


def errors(
    table: Mapping[str, tuple[Callable[[], Any], type | tuple, str]],  # case -> call, error, pattern in its message
) -> Callable:
    "Each call is refused by its error, with that text in the message"

    @pytest.mark.parametrize("case", table)
    def test_bad_input_is_refused_at_the_door(case):
        call, error, text = table[case]
        with pytest.raises(error, match=text):
            call()

    return test_bad_input_is_refused_at_the_door


# ---- the page --------------------------------------------------------------------------------------------------------


def recipe(
    chapter: str,                             # name of the chapter
    *printed: str,                            # what the recipe must print
    check: Callable[[str], None] | None = None,  # a further check of what it printed
    leaves: Sequence[str] = (),               # files that it may leave in its folder
) -> Callable:
    "The cells under «Use it» run when they are copied into a file, and print what they should"

    @pytest.mark.slow
    def test_the_recipe_runs_as_it_stands(tmp_path):
        try:
            found = chapter_code.run_recipe(chapter, tmp_path)
        except chapter_code.Absent as absent:
            pytest.skip(str(absent))
        assert [text for text in printed if text not in found] == [], found
        if check:
            check(found)
        assert {path.name for path in tmp_path.iterdir()} <= {"recipe.py", *leaves}

    return test_the_recipe_runs_as_it_stands


def breaks(
    chapter: str,                            # name of the chapter
    table: Mapping[int, Break | list[Break]],  # tag of an equation -> what is broken, in one way or several
    until: str | None = None,                # text of the cell where the derivation ends
    aside: str | None = None,                # pattern of cells that neither define nor check a numbered result
    sources: Callable[[], list[str]] | None = None,  # the cells, where `until` does not say it
    cpu: int = chapter_code.CPU_SECONDS,     # limit of each run
) -> type:
    "Every numbered result is broken, and an assertion of the page has to fail in the broken cell or after it"
    rows = {
        f"{tag}{'abcdefgh'[i] if isinstance(ways, list) else ''}": way
        for tag, ways in table.items() for i, way in enumerate(ways if isinstance(ways, list) else [ways])
    }  # fmt: skip

    class TestBreaks:
        @pytest.fixture(scope="class")
        @classmethod
        def found(cls, tmp_path_factory):
            "One derivation serves all tests, whatever the number of workers"
            from weightbook.book.pages import find_notebook

            own = tmp_path_factory.getbasetemp()
            kept = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"breaks of {chapter}.json"
            with open(f"{kept}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not kept.exists():
                    cells = sources() if sources else chapter_code.derivation(chapter, until, aside)
                    kept.write_text(json.dumps(chapter_code.run_breaks(cells, rows, find_notebook(chapter).parent, cpu)))
            return json.loads(kept.read_text())

        def test_every_equation_has_a_break(self):
            assert set(table) == chapter_code.tags(chapter)

        def test_the_unbroken_chapter_passes(self, found):
            assert found["sound"]["outcome"] == "passed", found["sound"]["text"]

        @pytest.mark.parametrize("row", rows)
        def test_a_broken_formula_fails_its_check(self, row, found):
            assert found[row]["outcome"] == "noticed", f"{found[row]['outcome']}: {found[row]['text']}"

    return TestBreaks


# ---- torch -----------------------------------------------------------------------------------------------------------


def _same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def _same_parameters(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def _through_a_file(module: nn.Module) -> dict[str, Tensor]:
    "The state as it comes back from a file, read without unpickling code"
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _first(out: Any) -> Tensor:
    "A tensor of what a module returns"
    if isinstance(out, Tensor):
        return out
    if hasattr(out, "logits"):
        return out.logits
    return next(x for x in out if isinstance(x, Tensor))


def optimiser(
    make: Callable[[], tuple[nn.Module, torch.optim.Optimizer]],  # a fresh model with its optimiser, always the same
    loss: Callable[[nn.Module], Tensor],                          # a loss of the model; no chance in it
    steps: int = 4,
    known: Mapping[str, str] | None = None,  # name of a test without `test_` -> the defect that fails it
) -> type:
    "The contract of `torch.optim.Optimizer`"

    def train(model, optimizer, count=steps):
        for _ in range(count):
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()
        return model

    class TestOptimiser:
        def test_the_loss_falls_and_runs_repeat(self):
            (model, optimizer), (twin, other) = make(), make()
            before = loss(model).item()
            assert loss(train(model, optimizer)).item() < before
            assert _same_parameters(model, train(twin, other))

        def test_a_restored_state_goes_on_alike(self):
            model, optimizer = make()
            train(model, optimizer)
            twin, restored = make()
            twin.load_state_dict(model.state_dict())
            restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            train(model, optimizer), train(twin, restored)
            for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
                assert_close(ours.detach(), theirs.detach(), rtol=1e-12)

        def test_a_closure_gives_the_loss_before_the_step(self):
            (model, optimizer), (twin, other) = make(), make()

            def closure():
                optimizer.zero_grad()
                value = loss(model)
                value.backward()
                return value

            before = loss(model).item()
            assert optimizer.step(closure).item() == before
            assert _same_parameters(model, train(twin, other, 1))

        def test_parameters_without_a_gradient_stay(self):
            model, optimizer = make()
            before = copy.deepcopy(model)
            optimizer.zero_grad(set_to_none=True)
            optimizer.step()
            assert _same(model, before)

        def test_a_scheduler_reaches_every_group(self):
            model, optimizer = make()
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.0 if epoch else 1.0)
            train(model, optimizer, 1)
            schedule.step()
            before = copy.deepcopy(model)
            train(model, optimizer, 1)
            for ours, theirs in zip(model.parameters(), before.parameters(), strict=True):
                assert torch.equal(ours, theirs), "a rate of zero moves nothing"

    return _known(TestOptimiser, known)


def parametrisation(
    make: Callable[[], nn.Module],          # a plain model, always the same
    attach: Callable[[nn.Module], nn.Module],  # parametrises it
    remove: Callable[[nn.Module], nn.Module],  # bakes the values
    x: Tensor,                              # an input
    rtol: float = 1e-12,                    # of the outputs, before and after attaching
) -> type:
    "The contract of `torch.nn.utils.parametrize`"

    class TestParametrisation:
        def test_attaching_preserves_the_function_and_baking_restores_the_form(self):
            plain = make().eval()
            expected, names = plain(x), set(plain.state_dict())
            attached = attach(plain)
            assert_close(attached(x).detach(), expected.detach(), rtol=rtol)
            values = attached(x).detach()
            baked = remove(attached)
            assert torch.equal(baked(x).detach(), values) and set(baked.state_dict()) == names
            assert remove(baked) is baked and torch.equal(baked(x).detach(), values)  # nothing is left to do

        def test_gradients_reach_every_trainable_parameter(self):
            attached = attach(make())
            attached(x).square().sum().backward()
            assert [n for n, p in attached.named_parameters() if p.requires_grad and p.grad is None] == []

        def test_states_and_copies_carry_the_function(self):
            one, other = attach(make()).eval(), attach(make())
            with torch.no_grad():
                for p in one.parameters():
                    p.mul_(0.9)
            other.load_state_dict(_through_a_file(one))
            assert torch.equal(other.eval()(x), one(x)) and torch.equal(copy.deepcopy(one)(x), one(x))

        def test_frozen_stays_frozen(self):
            plain = make().requires_grad_(False)
            assert not any(p.requires_grad for p in remove(attach(plain)).parameters())

    return TestParametrisation


def layer(
    make: Callable[[], nn.Module],  # a fresh layer; other weights at every call where it has weights of chance
    inputs: Callable[[torch.dtype], tuple],  # arguments of a call
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
    trainable: bool = True,         # False: it has no parameters to train
) -> type:
    "The contract of a drop-in `nn.Module`"

    class TestLayer:
        @pytest.mark.parametrize("dtype", dtypes, ids=str)
        def test_the_dtype_is_kept(self, dtype):
            out = _first(make().to(dtype)(*inputs(dtype)))
            assert out.dtype == dtype and bool(torch.isfinite(out).all())

        def test_states_copies_and_pickles_carry_the_function(self):
            one, other = make().eval(), make().eval()
            expected = _first(one(*inputs(dtypes[0])))
            other.load_state_dict(_through_a_file(one))
            for twin in (other, copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
                assert torch.equal(_first(twin(*inputs(dtypes[0]))), expected)

        def test_calls_repeat_and_leave_their_inputs(self):
            one, args = make().eval(), inputs(dtypes[0])
            before = copy.deepcopy(args)
            assert torch.equal(_first(one(*args)), _first(one(*args)))
            for ours, theirs in zip(args, before, strict=True):
                assert not isinstance(ours, Tensor) or torch.equal(ours, theirs)

        @pytest.mark.skipif(not trainable, reason="nothing to train")
        def test_gradients_reach_every_parameter(self):
            one = make()
            _first(one(*inputs(dtypes[0]))).square().sum().backward()
            assert [n for n, p in one.named_parameters() if p.requires_grad and p.grad is None] == []

    return TestLayer


def converter(
    make: Callable[[], nn.Module],              # a model, always the same
    convert: Callable[[nn.Module], Any],        # changes it in place
    x: Tensor,                                  # an input
    undo: Callable[[nn.Module], Any] | None = None,  # takes the conversion back
    refused: Callable[[nn.Module], Any] | None = None,  # a conversion that raises
    rtol: float = 1e-4,                         # of the outputs after `undo`
    known: Mapping[str, str] | None = None,     # name of a test without `test_` -> the defect that fails it
) -> type:
    "The contract of `model = method(model, …)`: complete or not at all, and the state follows"

    class TestConverter:
        def test_it_changes_the_function_and_repeats_itself(self):
            model, twin, plain = make(), make(), make()
            convert(model), convert(twin)
            out = _first(model(x)).detach()
            assert torch.equal(out, _first(twin(x)).detach())
            assert not torch.allclose(out, _first(plain(x)).detach(), rtol=1e-6)

        def test_copies_and_states_carry_the_function(self):
            model, other = make(), make()
            with torch.no_grad():
                for weight in other.parameters():
                    weight.copy_(weight.flip(-1))
            convert(model), convert(other)
            out = _first(model(x)).detach()
            assert torch.equal(_first(copy.deepcopy(model)(x)).detach(), out)
            assert not torch.equal(_first(other(x)).detach(), out)
            other.load_state_dict(_through_a_file(model))
            assert torch.equal(_first(other(x)).detach(), out)

        def test_modes_are_kept(self):
            for mode in (True, False):
                model = make().train(mode)
                convert(model)
                assert {m.training for m in model.modules()} == {mode}

        @pytest.mark.skipif(undo is None, reason="the conversion cannot be taken back")
        def test_undoing_gives_the_function_back(self):
            model = make()
            expected = _first(model(x)).detach()
            convert(model), undo(model)
            assert_close(_first(model(x)).detach(), expected, rtol=rtol)

        @pytest.mark.skipif(refused is None, reason="no refused conversion is given")
        def test_a_refused_model_is_left_as_it_was(self):
            model, before = make(), make()
            with pytest.raises((ValueError, TypeError, NotImplementedError)):
                refused(model)
            assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()] and _same(model, before)
            assert torch.equal(_first(model(x)), _first(before(x)))

    return _known(TestConverter, known)


def kernel(
    reference: Callable,                           # plain PyTorch, the definition
    function: Callable,                            # the public function
    args: Callable[..., Sequence],                 # (*row, dtype, generator) -> the arguments of both
    rows: Mapping[str, tuple],                     # awkward sizes: name -> what `args` takes first
    bounds: Mapping[torch.dtype, float],           # dtype -> largest relative RMS error
    grads: Sequence[int] = (),                     # positions of arguments whose gradients are compared too
) -> Callable:
    "Values and gradients of the kernel are the reference's, with poisoned memory; on a GPU where there is one"

    @pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
    @pytest.mark.parametrize("dtype", bounds, ids=str)
    @pytest.mark.parametrize("row", rows)
    def test_the_kernel_agrees_with_the_reference(row, dtype):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        given = args(*rows[row], dtype, torch.Generator().manual_seed(0))
        given = [a.to(device) if isinstance(a, Tensor) and a.ndim else a for a in given]
        before = [a.clone() if isinstance(a, Tensor) else a for a in given]
        parity = assert_parity(reference, function, given, rtol=bounds[dtype], grads=grads)
        assert parity.path == ("compiled" if device == "cuda" else "interpreted")
        assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True) if isinstance(a, Tensor))

    return test_the_kernel_agrees_with_the_reference


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


def estimator(
    make: Callable[[], Any],             # an estimator
    exempt: Mapping[str, str] | None = None,  # checks it need not pass -> why
    fitted: Callable[[Any], Any] | None = None,  # fits it on data of its own; the fitted estimator
    at_least: int = 30,                  # checks that must have run
) -> type:
    "scikit-learn's own checks, cloning and pickling"

    class TestEstimator:
        def test_scikit_learns_checks_pass(self):
            from sklearn.utils.estimator_checks import estimator_checks_generator

            ran = 0
            for one, check in estimator_checks_generator(make(), expected_failed_checks=dict(exempt or {}), mark="skip"):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        check(one)
                    ran += 1
                except pytest.skip.Exception:
                    pass
                except Exception as error:
                    if type(error).__name__ != "SkipTest":
                        raise
            assert ran >= at_least, f"only {ran} checks ran"

        def test_clones_have_the_parameters(self):
            from sklearn.base import clone

            one = make()
            twin = clone(one)
            assert twin is not one and repr(twin.get_params()) == repr(one.get_params())

        @pytest.mark.skipif(fitted is None, reason="no fit is given")
        def test_a_fitted_one_survives_pickling(self):
            one = fitted(make())
            twin = pickle.loads(pickle.dumps(one))
            learned = [n for n in vars(one) if n.endswith("_") and not n.startswith("_")]
            assert learned and all(repr(getattr(twin, n)) == repr(getattr(one, n)) for n in learned)

    return TestEstimator
