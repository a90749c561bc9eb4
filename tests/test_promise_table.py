"""The table of promises is whole and true: every public function or module that takes tensors is a row, and what does not work
has its reason; a reason that is no longer needed fails. `python tests/promise_table.py` prints the table."""

import inspect

import fuzz
import promise_table as table
import pytest
import torch
from promise_reasons import READS
from torch import nn

CHAPTERS = sorted({name.rpartition(".")[0] for name in table.names()})
ELSEWHERE = {fuzz.RECORD, fuzz.RACE, fuzz.EXPERIMENT}  # no function of tensors, or one whose parts are rows


def has_row(name: str) -> bool:
    return any(row == name or row.startswith(f"{name},") for row in table.names()) or name in table.UNTRIED


def kinds(function) -> str:
    "The annotations of a function's parameters"
    return " ".join(str(p.annotation) for p in inspect.signature(function).parameters.values())


def test_every_public_function_or_module_that_takes_tensors_is_a_row():
    missing = []
    for name, (_, function) in fuzz.public().items():
        if name.startswith("book.") or fuzz.TABLE[name] in ELSEWHERE:
            continue
        layer = inspect.isclass(function) and issubclass(function, nn.Module)
        of_tensors = not inspect.isclass(function) and "Tensor" in kinds(function) and "Module" not in kinds(function)
        changes = name.endswith("_") and "Module" in kinds(function)
        if (layer or changes or of_tensors or table.takes_tensors(name)) and not has_row(name):
            missing.append(name)
    assert not missing, "enter these in `ROWS` or `UNTRIED` of tests/chapters/promises_<chapter>.py"


def test_nothing_is_entered_twice_or_for_nothing():
    public = fuzz.public()
    rows = {name.partition(",")[0] for name in table.ROWS}
    assert {*rows, *table.UNTRIED} <= set(public) and not rows & set(table.UNTRIED)
    assert {name for name, _ in table.NO} | table.SLOW <= set(table.names()) and table.SLOW
    assert all(reason and len(reason) < 240 for reason in [*table.NO.values(), *table.UNTRIED.values()])


def check(names: list[str]) -> None:
    seen = {(name, column): said for name in names for column, said in table.properties(name).items() if said.startswith("no")}
    known = {key for key in table.NO if key[0] in names}
    assert not {key: said for key, said in seen.items() if key not in known}, "mend it, or give the reason in `NO`"
    assert not known - set(seen), "these work now: take their reasons out of `NO`"


# what estimates is mostly NumPy's, and half a minute of refused traces: with the long runs
@pytest.mark.parametrize("chapter", [
    pytest.param(chapter, marks=[pytest.mark.slow] * chapter.startswith("estimation.")) for chapter in CHAPTERS])
def test_what_does_not_work_has_its_reason(chapter):
    check([name for name in table.names() if name.startswith(f"{chapter}.") and name not in table.SLOW])


@pytest.mark.slow
def test_what_does_not_work_has_its_reason_in_long_runs():
    check(sorted(table.SLOW))


# ---- the trials themselves -------------------------------------------------------------------------------------------


def reads(x):
    if x.isnan().any():
        raise ValueError("`x` must not be NaN")
    return x.sin()


class Half(nn.Module):
    "Loses half of the slope of its weight"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x):
        return x * (self.weight + self.weight.detach()) / 2


TOYS = {
    "sine": (torch.sin, {}),
    "reads": (reads, {"compile": "no", "export": "no", "vmap": "no", "NaN": "refused"}),
    "numbers": (lambda x: float(x.sum()), {"grad": "–", "export": "no", "vmap": "no"}),
    "single": (lambda x: x.float().sin(), {"float64": "no", "bfloat16": "no"}),
    "deaf": (lambda x: x.nan_to_num(nan=0.0).sin(), {"NaN": "no"}),
    "detached": (lambda x: x.detach().sin() * x, {"grad": "no"}),
    "half": (Half(), {"grad": "no"}),
    "in place": (lambda x: torch.zeros(3).copy_(x), {"vmap": "no"} | dict.fromkeys(("float64", "bfloat16"), "no")),
    "mask": (lambda x: ~(x <= 0), {"grad": "–"}),
}


@pytest.mark.parametrize("name", TOYS)
def test_trials_see_what_is_wrong(name, monkeypatch):
    function, wanted = TOYS[name]
    monkeypatch.setitem(table.ROWS, f"toy.{name}", lambda: (function, (torch.tensor([0.5, -1.0, 2.0]),)))
    found = table.properties.__wrapped__(f"toy.{name}")
    assert {column: said.partition(":")[0] for column, said in found.items()} == dict.fromkeys(table.COLUMNS, "yes") | wanted


def test_the_table_is_printed_with_its_reasons_and_counts():
    name = next(name for (name, column), reason in table.NO.items() if reason == READS and column == "compile")
    said = table.markdown({name: dict.fromkeys(table.COLUMNS, "yes") | {"compile": "no: seen"}})
    assert f"| {name} | yes | no (1) | yes |" in said and f"\n1. {READS}\n" in said and "| yes | 1 | 0 | 1 |" in said
