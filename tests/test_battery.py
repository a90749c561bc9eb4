"""The shared batteries are seen to fail, on small things that break one promise each."""

import time

import battery
import chapter_code
import pytest
import torch
from torch import nn

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def fails(test, *arguments) -> bool:
    "Whether a test of a battery complains"
    try:
        test(*arguments)
    except (Exception, pytest.fail.Exception):
        return True
    return False


def failing(tests: type, *names: str) -> set[str]:
    "The tests of a battery that fail, of those without arguments"
    marks = {n: str(getattr(method, "pytestmark", "")) for n, method in vars(tests).items() if n.startswith("test_")}
    methods = names or [name for name, mark in marks.items() if "args=(True,)" not in mark and "parametrize" not in mark]
    return {name.removeprefix("test_") for name in methods if fails(getattr(tests(), name))}


# ---- breaks ----------------------------------------------------------------------------------------------------------

PAGE = ["import time\ncount = 0", "def area(r):\n    return 3 * r * r", "assert area(2) == 12", "count += 1",
        "side = 4\nassert count == 1", "def idle():\n    return 0"]
WAYS = {
    "noticed": ("3 * r * r", "3 * r"), "noticed in its own cell": ("assert area(2)", "assert area(3)"),
    "later": ("count += 1", "count += 2"), "passed": ("return 0", "return 1"), "error": ("side = 4", "side = undefined"),
    "endless": ("count = 0", "count = 0\nwhile True: pass"), "twice": ("count", "number"), "nowhere": ("volume", "area"),
    "leaves": ("return 3 * r * r", "import os; os._exit(3)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return chapter_code.run_breaks(PAGE, WAYS, tmp_path_factory.mktemp("page"), cpu=3)


@pytest.mark.parametrize(("way", "outcome"), [
    ("sound", "passed"), ("noticed", "noticed"), ("noticed in its own cell", "noticed"), ("later", "noticed"),
    ("passed", "passed"), ("error", "error"), ("endless", "died"), ("leaves", "died"), ("twice", "misplaced"),
    ("nowhere", "misplaced"),
])  # fmt: skip
def test_what_became_of_a_broken_formula(way, outcome, outcomes):
    assert outcomes[way]["outcome"] == outcome, outcomes[way]


def test_outcomes_say_where_and_why(outcomes):
    assert outcomes["noticed"]["text"].startswith("<ipython-cell 2>")
    assert outcomes["later"]["text"].startswith("<ipython-cell 4>")
    assert "NameError" in outcomes["error"]["text"] and "3 s of CPU time" in outcomes["endless"]["text"]
    assert "must be there once" in outcomes["twice"]["text"]


def test_cells_are_ours_so_that_a_broken_one_moves_what_reaches_it():
    from weightbook.book.digest import Reach

    digests = []
    for text in ("return x", "return 2 * x", "return x"):
        space = {"__name__": "chapter"}
        chapter_code._execute([f"def helper(x):\n    {text}", "def arm(x):\n    return helper(x)"], 0, space)
        digests.append(Reach()(space["arm"]))
    assert digests[0] == digests[2] != digests[1]


def test_a_broken_formula_changes_nothing_for_the_next(tmp_path):
    page = ["state = []", "state.append(1)", "assert len(state) == 1", "assert state == [1]"]
    ways = {"a": ("append(1)", "extend([1, 1])"), "b": ("== [1]", "== [2]"), "c": ("state = []", "state = [0]")}
    found = chapter_code.run_breaks(page, ways, tmp_path)
    assert [how["outcome"] for how in found.values()] == ["passed", "noticed", "noticed", "noticed"]


def test_a_page_that_fails_unbroken_is_no_proof(tmp_path):
    found = chapter_code.run_breaks(["assert False", "x = 1", "assert x == 1"], {"a": ("x = 1", "x = 2")}, tmp_path)
    assert found["sound"]["outcome"] == "noticed" and found["a"]["outcome"] == "not run"


def test_the_battery_fails_where_a_break_goes_unnoticed(monkeypatch):
    tests = battery.breaks("wina", {1: ("a", "b"), 2: [("c", "d"), ("e", "f")]}, until="")
    rows = tests.test_a_broken_formula_fails_its_check.pytestmark[0].args[1]
    assert list(rows) == ["1", "2a", "2b"]
    found = {"sound": {"outcome": "passed", "text": ""}, "1": {"outcome": "passed", "text": ""}, "2a": {"outcome": "noticed"}}
    assert fails(tests().test_a_broken_formula_fails_its_check, "1", found)
    assert not fails(tests().test_a_broken_formula_fails_its_check, "2a", found)
    assert fails(tests().test_every_equation_has_a_break)  # the chapter has more equations than two


# ---- bad input, recipe -----------------------------------------------------------------------------------------------


def test_bad_input_must_be_refused_by_its_error_and_name():
    def refuse():
        raise ValueError("`rate` must be > 0, got -1")

    table = {"right": (refuse, ValueError, "`rate`"), "name": (refuse, ValueError, "`step`"), "none": (list, ValueError, "`")}
    test = battery.errors(table)
    assert [case for case in table if fails(test, case)] == ["name", "none"]


@pytest.mark.parametrize(("call", "skipped"), [
    ("fetch_file('a/b.csv', size=1, sha256='0' * 64, urls=('https://example.org/b.csv',), settings=S)", True),
    ("open('nowhere.csv')", False), ("1 / 0", False)])  # fmt: skip
def test_a_recipe_is_skipped_by_name_where_its_data_are_missing_and_for_no_other_reason(call, skipped, monkeypatch, tmp_path):
    monkeypatch.setenv("WEIGHTBOOK_OFFLINE", "1")
    source = "from weightbook.blocks.data import fetch_file\nfrom weightbook.book.settings import load_settings\n"
    page = [("markdown", "## Use it"), ("code", f"{source}S = load_settings()\n{call}")]
    monkeypatch.setattr(chapter_code, "cells", lambda chapter: [{"cell_type": k, "source": t} for k, t in page])
    ends, words = (pytest.skip.Exception, "the recipe of toy: a/b.csv") if skipped else (AssertionError, None)
    with pytest.raises(ends, match=words):
        battery.recipe("toy")(tmp_path)


def test_a_recipe_must_print_and_leave_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(chapter_code, "run_recipe", lambda chapter, folder: "loss 0.5")
    assert not fails(battery.recipe("wina", "loss"), tmp_path)
    assert fails(battery.recipe("wina", "gain"), tmp_path)
    (tmp_path / "model.bin").touch()
    assert fails(battery.recipe("wina", "loss"), tmp_path) and not fails(battery.recipe("wina", leaves=["model.bin"]), tmp_path)


# ---- torch -----------------------------------------------------------------------------------------------------------


def linear(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(3, 2).double()


def square(model):
    return model(X).square().mean()


class Forgetful(torch.optim.SGD):
    "Loses its momentum with its state"

    def state_dict(self):
        return super().state_dict() | {"state": {}}


class Deaf(torch.optim.SGD):
    "Takes no closure, moves what has no gradient and keeps its first rate"

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p -= 0.1 * (p if p.grad is None else p.grad)
        return torch.tensor(0.0)


def test_optimisers_are_held_to_their_contract():
    tests = lambda kind, **options: battery.optimiser(lambda: (m := linear(), kind(m.parameters(), lr=0.1, **options)), square)  # noqa: E731
    assert failing(tests(torch.optim.SGD, momentum=0.9)) == set()
    assert failing(tests(Forgetful, momentum=0.9)) == {"a_restored_state_goes_on_alike"}
    assert failing(tests(Deaf)) == {
        "a_closure_gives_the_loss_before_the_step", "parameters_without_a_gradient_stay", "a_scheduler_reaches_every_group"}
    assert "the_loss_falls_and_runs_repeat" in failing(tests(torch.optim.SGD, maximize=True))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight

    def right_inverse(self, weight):
        return weight / 2


class Shifted(Doubled):
    "Does not start at the value that it is given"

    def right_inverse(self, weight):
        return weight


def test_parametrisations_are_held_to_their_contract():
    from torch.nn.utils import parametrize

    def attach(kind):
        def attached(model):
            parametrize.register_parametrization(model, "weight", kind())
            return model

        return attached

    def remove(model):
        return parametrize.remove_parametrizations(model, "weight") if parametrize.is_parametrized(model) else model

    assert failing(battery.parametrisation(linear, attach(Doubled), remove, X)) == set()
    wrong = failing(battery.parametrisation(linear, attach(Shifted), remove, X))
    assert wrong == {"attaching_preserves_the_function_and_baking_restores_the_form"}
    kept = failing(battery.parametrisation(linear, attach(Doubled), lambda model: model.requires_grad_(), X))
    assert kept == {"attaching_preserves_the_function_and_baking_restores_the_form", "frozen_stays_frozen"}


class Hidden(nn.Module):
    "Keeps its weight outside of the state, in one dtype, adds to its input, and trains only half of it"

    def __init__(self, seed=0):
        super().__init__()
        self.weight = [linear(seed).weight.detach().float()]
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return x.add_(1).float() @ self.weight[0].T


def test_layers_are_held_to_their_contract():
    seeds = iter(range(100))
    inputs = lambda dtype: (X.to(dtype, copy=True),)  # noqa: E731
    tests = battery.layer(lambda: linear(next(seeds)).float(), inputs)
    assert failing(tests) == set()
    assert not fails(tests().test_the_dtype_is_kept, torch.float64)
    wrong = battery.layer(lambda: Hidden(next(seeds)), inputs)
    assert fails(wrong().test_the_dtype_is_kept, torch.float64)
    assert failing(wrong) == {
        "states_copies_and_pickles_carry_the_function", "calls_repeat_and_leave_their_inputs", "gradients_reach_every_parameter"}


class Scaled(nn.Module):
    "A layer that multiplies its output by the norm of its weight: fresh, or as it was when it was made"

    def __init__(self, inner, stale):
        super().__init__()
        self.inner, self.stale, self.norm = inner, stale, inner.weight[:, 0].norm().item()

    def forward(self, x):
        return self.inner(x) * (self.norm if self.stale else self.inner.weight[:, 0].norm())


def test_converters_are_held_to_their_contract():
    make = lambda: nn.Sequential(linear(), nn.Tanh()).eval()  # noqa: E731

    def convert(stale=False, mode=True):
        def converted(model):
            model[0] = Scaled(model[0], stale).train(model.training if mode else True)

        return converted

    def undo(model):
        model[0] = model[0].inner

    def refuse(model, first):
        if first:
            convert()(model)
        raise ValueError("no such layer")

    tests = lambda **o: battery.converter(make, o.pop("convert", convert()), X, **({"undo": undo} | o))  # noqa: E731
    assert failing(tests(refused=lambda m: refuse(m, False))) == set()
    assert failing(tests(refused=lambda m: refuse(m, True))) == {"a_refused_model_is_left_as_it_was"}
    assert failing(tests(convert=convert(stale=True))) == {"copies_and_states_carry_the_function"}
    assert failing(tests(convert=convert(mode=False))) == {"modes_are_kept"}
    assert failing(tests(convert=lambda m: None, undo=lambda m: None)) == {"it_changes_the_function_and_repeats_itself"}
    assert failing(tests(undo=lambda m: None)) == {"undoing_gives_the_function_back"}


def test_a_known_defect_is_marked_strictly():
    tests = battery.converter(nn.ReLU, print, X, known={"modes_are_kept": "it forgets"})
    mark, = tests.test_modes_are_kept.pytestmark
    assert mark.name == "xfail" and mark.kwargs == {"strict": True, "reason": "it forgets"}


def test_kernels_are_held_to_their_reference():
    from weightbook.blocks.kernels import HAS_TRITON, scale_add, scale_add_reference

    if not HAS_TRITON:
        pytest.skip("Triton is not installed")
    args = lambda n, dtype, gen: (torch.randn(n, generator=gen).to(dtype), torch.randn(n, generator=gen).to(dtype), 0.5)  # noqa: E731
    make = lambda function: battery.kernel(scale_add_reference, function, args, {"odd": (63,)}, {torch.float32: 1e-5})  # noqa: E731
    assert not fails(make(scale_add), "odd", torch.float32)
    assert fails(make(lambda x, y, a: scale_add(x, y, 2 * a)), "odd", torch.float32)
    assert fails(make(lambda x, y, a: scale_add(x.mul_(1), y.add_(0), a) + x.zero_()), "odd", torch.float32)


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


def test_estimators_are_held_to_their_contract():
    from sklearn.linear_model import LinearRegression

    class Odd(LinearRegression):
        def fit(self, X, y, sample_weight=None):
            self.fit_intercept = False  # a parameter is not the estimator's to change
            return super().fit(X, y, sample_weight)

    fitted = lambda model: model.fit(X.numpy(), X.numpy()[:, 0])  # noqa: E731
    assert failing(battery.estimator(LinearRegression, fitted=fitted)) == set()
    assert failing(battery.estimator(LinearRegression, at_least=1000, fitted=fitted)) == {"scikit_learns_checks_pass"}
    assert failing(battery.estimator(Odd, fitted=fitted)) == {"scikit_learns_checks_pass", "a_fitted_one_survives_pickling"}


# ---- one notebook ----------------------------------------------------------------------------------------------------


def test_a_notebook_is_stopped_by_its_computing_and_not_by_a_busy_machine(tiny_book, monkeypatch):
    import test_notebooks
    from conftest import write_cells

    path = write_cells(tiny_book / "nbs" / "busy.ipynb", "# Busy\n> b", "import time\ntime.sleep(3)", "while True: pass")
    begin = time.perf_counter()
    found, said = test_notebooks.run(path, tiny_book, cpu=6)
    assert found["limit"] and len(found["cells"]) == 1 and time.perf_counter() - begin > 6, said
    monkeypatch.setattr(test_notebooks, "NBS", tiny_book / "nbs")
    assert "more than" in test_notebooks.complaint(path, found, said)
