"""Finished arms: what makes them anew, what they are stored as, and that a run stores everything or nothing."""

import hashlib
import json
import math
import multiprocessing
import os
import pickle
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st

from weightbook.book import arms as own
from weightbook.book.arms import (
    Arms,
    arms_file,
    committed_arms,
    decode,
    encode,
    finished_arms,
    largest_difference,
    read_arms,
)
from weightbook.book.settings import load_settings

CALLS = sys.__dict__.setdefault("_arm_calls", [])  # in another module: what an arm reads must not change
RATE = 0.5


def measure(seed: int, size: int = 3) -> dict:
    sys._arm_calls.append(seed)
    return {"loss": [RATE * seed] * size, "array": np.arange(size) + seed}


def outer(seed: int) -> float:
    return float(sum(inner_arm(seed)["loss"]))


def slow(seed: int) -> dict:
    if seed == 2:
        raise KeyboardInterrupt
    return {"seed": seed}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.delenv("WEIGHTBOOK_DATA", raising=False)
    CALLS.clear()
    return load_settings(profile="quick", device="cpu", seed=0, cache=tmp_path / "cache", offline=True)


inner_arm = None


# --- when an arm is made anew


def test_many_calls_digest_their_function_once(settings, monkeypatch):
    from weightbook.book import digest

    arm, seen, old = Arms("c", settings=settings)(measure), [], digest._digest_function
    calls = [dict(seed=seed) for seed in range(5)]
    made = arm.many(calls)
    assert [found.stamp["key"] for found in made] == [arm.key(**call) for call in calls]
    monkeypatch.setattr(digest, "_digest_function", lambda f, reach: seen.append(f) or old(f, reach))
    assert [found.stamp["key"] for found in arm.many(calls)] == [found.stamp["key"] for found in made]
    assert not seen  # nothing has changed since
    monkeypatch.setattr(sys.modules[__name__], "RATE", 2.0)
    arm.many(calls)
    assert seen.count(measure) == 1


def test_a_finished_arm_is_read(settings):
    arm = Arms("c", settings=settings)(measure)
    first = arm(3)
    again = Arms("c", settings=settings)(measure)(seed=3, size=3)
    assert CALLS == [3] and again["loss"] == first["loss"] and (again["array"] == first["array"]).all()


@pytest.mark.parametrize("change", [dict(seed=1), dict(profile="book"), dict(device="mps"), dict(device="cuda:1")], ids=str)
def test_another_run_has_another_key(settings, change):
    assert Arms("c", settings=replace(settings, **change))(measure).key(0) != Arms("c", settings=settings)(measure).key(0)


def test_which_gpu_does_not_matter(settings):
    keys = {Arms("c", settings=replace(settings, device=device))(measure).key(0) for device in ("cuda", "cuda:0", "cuda:1")}
    assert len(keys) == 1


@pytest.mark.parametrize("call", [((1,), {}), ((0, 4), {}), ((), {"seed": 0, "size": 2})], ids=str)
def test_another_argument_has_another_key(settings, call):
    arm = Arms("c", settings=settings)(measure)
    assert arm.key(*call[0], **call[1]) != arm.key(0)


def test_a_page_variable_moves_the_key(settings, monkeypatch):
    arm = Arms("c", settings=settings)(measure)
    before, first = arm.key(1), arm(1)
    monkeypatch.setattr(sys.modules[__name__], "RATE", 2.0)
    assert arm.key(1) != before and arm(1)["loss"] == [2.0] * 3 != first["loss"]


def test_an_arm_inside_an_arm_moves_the_key(settings, monkeypatch):
    arms = Arms("c", settings=settings)
    monkeypatch.setattr(sys.modules[__name__], "inner_arm", arms(measure))
    arm = arms(outer)
    before = arm.key(1)
    arm(1), arm(1)
    assert CALLS == [1] and set(arms.used) == {before, inner_arm.key(1)}
    monkeypatch.setattr(sys.modules[__name__], "RATE", 2.0)
    assert arm.key(1) != before


def counts(seed):
    COUNTED.append(seed)
    return len(COUNTED)


COUNTED: list = []


def test_an_arm_that_changes_what_it_reads_is_refused(settings):
    with pytest.raises(RuntimeError, match="`counts` changed while it ran"):
        Arms("c", settings=settings)(counts)(0)


def test_a_result_whose_code_changed_while_it_ran_is_not_kept(settings, monkeypatch):
    def edits(seed):
        sys.modules[__name__].RATE = RATE + 1
        return RATE

    monkeypatch.setattr(sys.modules[__name__], "RATE", 0.5)
    with pytest.raises(RuntimeError, match="`edits` changed while it ran: its result is not kept"):
        Arms("c", settings=settings)(edits)(0)
    assert not list(settings.cache.rglob("*.json"))


def test_fresh_makes_every_arm_once_more(settings, monkeypatch):
    arm = Arms("c", settings=settings)(measure)
    arm(1), arm(2)
    own._MADE.clear()
    monkeypatch.setenv("WEIGHTBOOK_FRESH", "all")
    arm(1), arm(1)
    monkeypatch.setenv("WEIGHTBOOK_FRESH", arm.key(2))
    arm(1), arm(2)
    assert CALLS == [1, 2, 1, 2]


# --- the content of the data


@pytest.fixture
def folder(tmp_path, settings):
    from weightbook.blocks.data import load_text

    def words(seed: int) -> int:
        return len(load_text("wikitext-2/test", settings=arms.settings).text)

    own._LOADED.clear()
    arms = Arms("c", settings=settings)
    data = tmp_path / "data"
    (data / "wikitext-2").mkdir(parents=True)
    return arms, arms(words), data


def test_a_stand_in_is_not_served_when_the_data_appear(folder, monkeypatch):
    from weightbook.blocks import data as blocks

    arms, arm, data = folder
    text = data / "wikitext-2" / "test.txt"
    text.write_text("three short words")
    file = blocks._FILES["wikitext-2/test.txt"]
    known = replace(file, size=text.stat().st_size, sha256=blocks.pooch.file_hash(text))
    monkeypatch.setitem(blocks._FILES, file.name, known)
    with pytest.warns(UserWarning, match="in place of"):
        stand_in = arm(0)
    arms.settings = replace(arms.settings, data=data)
    with pytest.warns(UserWarning, match="made anew: file wikitext-2/test.txt changed"):
        assert arm(0) == 17 != stand_in
    assert arm(0) == 17
    arms.settings = replace(arms.settings, data=None)  # a machine without the data does not contradict the number
    assert arm(0) == 17


def test_other_images_make_an_arm_anew(settings, tmp_path):
    from weightbook.blocks.data import _content

    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "cifar10.zip").write_bytes(place.encode())
    found = {_content("images cifar10", replace(settings, data=tmp_path / place)) for place in ("one", "two")}
    assert len(found) == 2 and _content("images cifar10", settings) is None


# --- as data


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.text(max_size=4) | st.integers() | st.tuples(st.integers(), st.text(max_size=2))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
                      | st.tuples(inner, inner), max_leaves=8)


@given(VALUES)
@rules(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
def test_values_come_back_as_they_were(value):
    content, large = encode(value)
    back = decode(json.loads(json.dumps(content, allow_nan=False)), large)
    assert repr(back) == repr(value)


ARRAYS = {
    "float32": np.float32([0.1, np.nan, -np.inf]), "int8": np.int8([[1, -2]]), "bool": np.array([True, False]),
    "empty": np.zeros((0, 3)), "scalar": np.float32(0.1), "text": np.array(["a", "bc"]),
    "large": np.arange(10_000, dtype=np.int16).reshape(100, -1),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_they_were(name):
    content, large = encode(ARRAYS[name])
    back = decode(json.loads(json.dumps(content)), large)
    assert type(back) is type(ARRAYS[name]) and back.dtype == ARRAYS[name].dtype and back.shape == ARRAYS[name].shape
    np.testing.assert_array_equal(back, ARRAYS[name])
    assert bool(large) == (name == "large")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_tensors_come_back_as_they_were(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    back = decode(*encode(tensor))
    assert back.dtype == dtype and torch.equal(back, tensor)


def test_tables_come_back_as_they_were():
    table = pd.DataFrame({"arm": ["a", "b"], 3: [0.5, math.nan], ("loss", 1): [1, 2]}, index=[7, 9])
    content, large = encode(table)
    back = decode(json.loads(json.dumps(content)), large)
    assert list(back.columns) == list(table.columns) and list(back.index) == [7, 9]
    assert back.astype(str).values.tolist() == table.astype(str).values.tolist()


NO_DATA = [({"a": [object()]}, r"value\['a'\]\[0\]"), (torch.nn.Linear(1, 1), "value"), (len, "value"),
           (np.array([object()]), "value"), (Path("x"), "value")]


@pytest.mark.parametrize(("value", "where"), NO_DATA, ids=range(len(NO_DATA)))
def test_what_is_no_data_is_refused_by_its_place(value, where):
    with pytest.raises(TypeError, match=f"`{where}` must be numbers"):
        encode(value)


class Planted:
    def __reduce__(self):
        return os.mkdir, (str(Planted.place),)


def test_a_planted_pickle_is_not_executed(settings, tmp_path):
    Planted.place = tmp_path / "executed"
    arm = Arms("c", settings=settings)(measure)
    arm(1)
    record = next(settings.cache.rglob("*.json"))
    record.write_bytes(pickle.dumps(Planted()))
    with pytest.warns(UserWarning, match="is damaged and is made anew"):
        assert arm(1)["loss"] == [0.5] * 3
    (record.parent / "measure" / "output").mkdir(parents=True)
    (record.parent / "measure" / "output" / "output.pkl").write_bytes(pickle.dumps(Planted()))
    arm(1), finished_arms("c", settings=settings)
    assert not Planted.place.exists() and CALLS == [1, 1]


def large_arm(seed: int) -> np.ndarray:
    sys._arm_calls.append(seed)
    return np.full(5000, float(seed))


def test_damaged_arrays_are_made_anew(settings):
    arm = Arms("c", settings=settings)(large_arm)
    arm(1)
    file = next(settings.cache.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match="arrays are damaged"):
        assert (arm(1) == 1).all()
    file.unlink()
    assert (arm(1) == 1).all() and CALLS == [1, 1, 1]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_folder_is_the_users_alone(settings):
    folder = settings.cache / "arms" / "c"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    Arms("c", settings=settings)(measure)(1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}


# --- many, other processes, two writers


def test_an_interrupted_run_keeps_what_was_finished(settings):
    arm = Arms("c", settings=settings)(slow)
    with pytest.raises(KeyboardInterrupt):
        arm.many([dict(seed=s) for s in range(4)])
    assert {record["arguments"]["seed"] for record in finished_arms("c", settings=settings)} == {"0", "1"}


NESTED = """
from weightbook.book.arms import Arms
from weightbook.book.settings import load_settings
from functools import cache, cached_property
class Basis:
    @cached_property
    def factor(self):
        return FACTOR
arms, FACTOR = Arms("gate", settings=load_settings()), 2
@cache
def at_hand():
    return Basis().factor
@arms
def inner(seed):
    return at_hand() * seed
"""
OUTER = """
@arms
def outer(seed):
    return inner(seed) + 1
found = [f.value for f in outer.many([dict(seed=s) for s in (3, 1, 3, 2)], jobs=2)]
assert found == [7, 3, 7, 5] == [outer(s) for s in (3, 1, 3, 2)], found
assert set(arms.used) >= {outer.key(s) for s in (1, 2, 3)}
"""


def test_arms_of_a_page_that_call_arms_run_in_other_processes(tiny_book, settings):
    from conftest import write_cells

    from weightbook.book.run import execute_notebook

    path = write_cells(tiny_book / "nbs" / "lowbit" / "01_gate.ipynb", "# Gate\n> Keep", NESTED, OUTER)
    report = execute_notebook(path, settings=settings)
    assert report.ok, report.traceback
    assert sorted(record["arm"] for record in finished_arms("gate", settings=settings)) == ["inner"] * 3 + ["outer"] * 3


KERNEL = """
import os, torch, triton, triton.language as tl
from torch import Tensor
from weightbook.blocks.kernels import INTERPRETED, jit, kernel_operator
from weightbook.book.arms import Arms
from weightbook.book.settings import load_settings
arms = Arms("gate", settings=load_settings())
@jit(do_not_specialize=["n"])
def _double_kernel(x, out, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, 2 * tl.load(x + at, mask=at < n), mask=at < n)
def double_reference(x: Tensor) -> Tensor:
    return 2 * x
@kernel_operator(double_reference)
def _launch_double(x: Tensor) -> Tensor:
    out = torch.empty(x.shape) if INTERPRETED else 2 * x
    if INTERPRETED:
        _double_kernel[(1,)](x, out, x.numel(), BLOCK=4)
    return out
@arms
def doubled(seed):
    x = torch.full((3,), float(seed), requires_grad=True)
    out = _launch_double(x)
    return [os.getpid(), *out.tolist(), *torch.autograd.grad(out.sum(), x)[0].tolist()]
"""
SPREAD = """
for start in (0, 4):
    found = doubled.many([dict(seed=s) for s in range(start, start + 4)], jobs=2)
    pids = {f.value.pop(0) for f in found}
    assert os.getpid() not in pids, pids
    assert [f.value for f in found] == [[2.0 * s] * 3 + [2.0] * 3 for s in range(start, start + 4)], found
"""


@pytest.mark.parametrize("interpret", ["1", "0"])
def test_arms_that_reach_an_operator_of_the_page_run_in_other_processes(interpret, tiny_book, settings, monkeypatch):
    from conftest import write_cells

    from weightbook.book.run import execute_notebook

    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", interpret)
    report = execute_notebook(write_cells(tiny_book / "nbs" / "lowbit" / "01_gate.ipynb", "# Gate\n> Keep", KERNEL, SPREAD),
                              settings=settings)
    assert report.ok, report.traceback


def _write_many(cache: str, worker: int) -> None:
    arms = Arms("c", settings=load_settings(profile="quick", device="cpu", seed=0, cache=cache, offline=True))
    for seed in range(20):
        assert (arms(large_arm)(seed) == seed).all(), worker


def test_two_writers_do_not_disturb_each_other(settings):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(str(settings.cache), i)) for i in range(2)]
    [w.start() for w in workers], [w.join() for w in workers]
    assert [w.exitcode for w in workers] == [0, 0] and len(finished_arms("c", settings=settings)) == 20


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"value": 1, "stamp": {}}'])
def test_a_file_of_another_version_is_passed_over_by_name(text, settings):
    arm = Arms("c", settings=settings)(measure)
    arm(1), arm(2)
    file = next(settings.cache.rglob("*.json"))
    file.write_text(text)
    with pytest.warns(UserWarning, match=f"{file.name} is damaged"):
        assert len(finished_arms("c", settings=settings)) == 1
    with pytest.warns(UserWarning, match=f"{file.name} is damaged"):
        arm(1), arm(2)


# --- committed arms


@pytest.fixture
def clone(tiny_book, settings):
    arm = Arms("gate", settings=settings)(measure)
    arm(1), arm(2)
    target = tiny_book / "nbs" / "arms" / "gate.json"
    target.parent.mkdir()
    target.write_text(arms_file(finished_arms("gate", settings=settings)))
    return tiny_book


def test_a_fresh_clone_finds_the_committed_arms(clone, settings, tmp_path):
    CALLS.clear()
    arms = Arms("gate", settings=replace(settings, cache=tmp_path / "other"))
    assert arms(measure)(2)["loss"] == [1.0] * 3 and CALLS == []
    arms(measure)(5)
    assert CALLS == [5] and len(committed_arms("gate")) == 2 and len(arms.used) == 2
    assert arms.oldest and arms.seconds >= 0


def test_committed_arms_are_one_a_line_and_named_when_damaged(clone):
    file = clone / "nbs" / "arms" / "gate.json"
    text = file.read_text()
    assert len(text.splitlines()) == 7 and text.count('"torch"') == 1  # what all arms share is told once
    assert arms_file(read_arms(text)) == text
    file.write_text("{")
    with pytest.raises(ValueError, match="gate.json is no file of arms"):
        committed_arms("gate")


def test_large_arrays_are_not_committed_and_are_made_anew(clone, settings, tmp_path):
    Arms("gate", settings=settings)(large_arm)(1)
    (clone / "nbs" / "arms" / "gate.json").write_text(arms_file(finished_arms("gate", settings=settings)))
    assert (clone / "nbs" / "arms" / "gate.json").stat().st_size < 5000
    CALLS.clear()
    assert (Arms("gate", settings=replace(settings, cache=tmp_path / "other"))(large_arm)(1) == 1).all() and CALLS == [1]


DIFFERENCES = [
    (1.0, 1.0, 0.0), (1.0, 1.1, 0.1 / 1.1), ([1, 2], [1, 2.2], 0.2 / 2.2), ([1], [1, 1], math.inf),
    ({"a": 1, "seconds": 1}, {"a": 1, "seconds": 2}, 0.0),
    ({"a": 1}, {"b": 1}, math.inf), ("x", "y", math.inf), (True, 1, 0.0), (None, 0.0, math.inf), (0.0, 1e-3, 1.0),
]


@pytest.mark.parametrize(("old", "new", "gap"), DIFFERENCES, ids=str)
def test_largest_difference(old, new, gap):
    assert largest_difference(old, new) == pytest.approx(gap)


# --- everything or nothing


CHAPTER = """
import json
from weightbook.book.arms import Arms
from weightbook.book.bench import save_rows
from weightbook.book.settings import load_settings, write_json
S = load_settings()
arms = Arms("gate", settings=S)
@arms
def measured(seed):
    return seed / 2
measured(4)
"""
LEDGER = """
path = write_json(S.output("nbs/ledger") / "gate.json", dict(json.loads(TEXT), date="2026-02-02"))
"""


@pytest.fixture
def storing(tiny_book, settings):
    from conftest import write_cells

    text = (tiny_book / "nbs" / "ledger" / "gate.json").read_text()

    def write(*more: str) -> Path:
        path, title = tiny_book / "nbs" / "lowbit" / "01_gate.ipynb", "# Gate\n> Keep the large ones\n\n- thumbnail: fig-line"
        return write_cells(path, title, CHAPTER, f"TEXT = {text!r}", LEDGER, *more)

    def run(*more: str, **options):
        from weightbook.book.run import execute_notebook

        return execute_notebook(write(*more), settings=settings, save=True, **options)

    run.write = write
    return tiny_book, run


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_run_that_succeeds_stores_everything(storing):
    root, run = storing
    report = run("1 + 1")
    assert report.ok and report.saved, report.traceback
    assert json.loads((root / "nbs" / "ledger" / "gate.json").read_text())["date"] == "2026-02-02"
    assert [r["value"] for r in committed_arms("gate").values()] == [2.0]
    mark = json.loads((root / "nbs" / "lowbit" / "01_gate.ipynb").read_text())["metadata"]["weightbook"]
    assert mark["cells"] == 4 and mark["reaches"] and mark["code_hash"]


def test_a_run_that_fails_after_the_ledger_stores_nothing(storing, settings):
    root, run = storing
    before = None

    def snapshot(*_):
        nonlocal before
        before = before or tree(root)

    report = run("1 / 0", progress=snapshot)
    assert "ZeroDivisionError" in report.error and not report.saved and tree(root) == before
    assert not list((settings.cache / "stages").iterdir()) and finished_arms("gate", settings=settings)


# with them a run leaves one file of each kind
MORE = """
_ = write_json(S.output("bench") / "cpu" / "gate.json", [dict(ratio=2.0)])
"""
FIGURE = """
#| label: fig-line
from IPython.display import SVG
SVG('<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><path d="M0 0h4"/></svg>')
"""
KINDS = {"nbs/arms/gate.json", "nbs/ledger/gate.json", "bench/cpu/gate.json", "nbs/thumbnails/gate.svg"}
# how a run is refused late -> its last cell; PAGE is the notebook
LATE = {
    "a failing last cell": "1 / 0",
    "an edit of the page": "p = __import__('pathlib').Path(PAGE); p.write_text(p.read_text().replace('seed / 2', 'seed / 3'))",
    "an output that names a folder of this machine": "print(__import__('pathlib').Path.home() / 'data')",
    "a kill before the moves": "1 + 1",
}


def killed(call) -> bool:
    "Whether a child that makes the call is killed in it"
    child = os.fork()
    if not child:
        try:
            call()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("late", LATE)
def test_a_run_that_is_refused_late_changes_nothing(late, storing, settings, monkeypatch):
    from weightbook.book import run as runs

    root, run = storing
    page = root / "nbs" / "lowbit" / "01_gate.ipynb"
    run.write(MORE, FIGURE, LATE[late].replace("PAGE", repr(str(page))))
    before, go = tree(root), lambda: runs.execute_notebook(page, settings=settings, save=True)
    if late == "a failing last cell":
        assert not go().saved
    elif late == "a kill before the moves":
        with monkeypatch.context() as patch:
            patch.setattr(runs, "_stage_notebook", lambda *a: os.kill(os.getpid(), signal.SIGKILL))
            assert killed(go)
    else:
        with pytest.raises((RuntimeError, ValueError), match="nothing (is|was) stored"):
            go()
    after = tree(root)
    same = set(after) - ({"nbs/lowbit/01_gate.ipynb"} if late == "an edit of the page" else set())
    assert set(after) == set(before) and all(after[name] == before[name] for name in same)
    assert '"outputs": []' in page.read_text() and "stdout" not in page.read_text()
    if late == "a kill before the moves":  # and the next run stores one file of each kind
        assert go().saved
        after = tree(root)
        assert KINDS | {"nbs/lowbit/01_gate.ipynb"} == {name for name in after if after[name] != before.get(name)}


@pytest.fixture
def stopped(storing, monkeypatch):
    "A storing run that is stopped when one of its files has arrived"
    from weightbook.book import run as runs

    root, run = storing

    def stop(how: type[BaseException]) -> list[Path]:
        write, moved = runs.write_atomic, []

        def dies(path, content):
            if Path(path).is_relative_to(root) and "nbs" in Path(path).parts:
                moved.append(path)
                if len(moved) == 2:
                    raise how
            return write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(runs, "write_atomic", dies)
            with pytest.raises(how):
                run("1 + 1")
        return moved

    return root, stop


def date_of(root: Path) -> str:
    return json.loads((root / "nbs" / "ledger" / "gate.json").read_text())["date"]


def test_a_move_that_failed_is_finished_by_the_next_run(stopped, settings):
    from weightbook.book import run as runs

    root, stop = stopped
    stop(OSError)
    assert committed_arms("gate") and date_of(root) != "2026-02-02"
    runs._finish_moves(settings.cache / "stages")
    assert date_of(root) == "2026-02-02" and not list((settings.cache / "stages").iterdir())


def test_moves_are_not_finished_in_a_checkout_that_has_changed_since(stopped, settings):
    from weightbook.book import run as runs

    root, stop = stopped
    stop(OSError)
    (root / "nbs" / "arms" / "gate.json").unlink()
    path = root / "nbs" / "ledger" / "gate.json"
    path.write_text(path.read_text().replace("2026-01-01", "2026-03-03"))
    runs._finish_moves(settings.cache / "stages")
    assert date_of(root) == "2026-03-03" and not committed_arms("gate") and not list((settings.cache / "stages").iterdir())


def test_an_interruption_waits_until_all_files_have_arrived(stopped, settings):
    root, stop = stopped
    assert len(stop(KeyboardInterrupt)) > 3
    assert date_of(root) == "2026-02-02" and committed_arms("gate") and not list((settings.cache / "stages").iterdir())


def test_two_storing_runs_of_a_notebook_exclude_each_other(storing, settings):
    from weightbook.book.run import _lock

    root, run = storing
    place = hashlib.sha256(str(root / "nbs" / "lowbit" / "01_gate.ipynb").encode()).hexdigest()[:8]
    lock = _lock(f"lowbit-01_gate-{place}", settings, wait=0)
    with pytest.raises(RuntimeError, match="another run is storing its results"):
        run()
    lock.release()
    assert run().saved


def test_an_edit_during_the_run_stores_nothing(storing):
    from weightbook.book.digest import ChangedSince

    root, run = storing
    path = root / "nbs" / "lowbit" / "01_gate.ipynb"
    edit = f"p = __import__('pathlib').Path({str(path)!r}); p.write_text(p.read_text().replace('seed / 2', 'seed / 3'))"
    with pytest.raises(ChangedSince, match="edited while it ran: nothing is stored"):
        run(edit)
    assert not committed_arms("gate")


def test_a_change_of_the_library_makes_outputs_stale(monkeypatch):
    from weightbook.blocks import training
    from weightbook.book.digest import page_digest
    from weightbook.book.pages import find_notebook, read_notebook
    from weightbook.book.run import _sources

    cells = _sources(read_notebook(find_notebook("compander")))
    before = page_digest(cells)
    old = training._take_step
    monkeypatch.setattr(training, "_take_step", lambda run, batch: old(run, batch))
    assert page_digest(cells) != before
