"""The command line, end to end, in a small book of its own in a temporary folder."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from weightbook.book import cli, pages

TINY = '''
# A tiny chapter
> One claim, one arm
---
from weightbook.book.arms import Arms
from weightbook.book.conditions import above, estimate
from weightbook.book.ledger import Ledger
from weightbook.book.settings import load_settings
settings = load_settings()
arms = Arms("tiny", settings=settings)
---
## The slow arm
---
import time

@arms
def arm(name):
    settings.cache.mkdir(exist_ok=True)
    with open(settings.cache / "calls.txt", "a") as log:
        log.write(name + "\\n")
    return len(name)

first, SIGN = arm("one"), -4
---
if (settings.cache / "wait").exists():
    (settings.cache / "waiting").touch()
    time.sleep(60)
second = arm("three")
---
## Ledger
---
ledger = Ledger("tiny", title="Tiny", arxiv="", settings=settings)
ledger.claim("C1", "three is longer than one", where="text", paper="true")
gaps = estimate([second - first + SIGN * (seed // 1000 == 1) for seed in settings.seeds(3)])
ledger.record("C1", f"{second - first} letters", holds=above(gaps, 0, without_control="a toy"), scale="reduced",
              at=settings.profile)
ledger.save();
'''
PROJECT = '[project]\nname = "tiny-book"\n\n[tool.nbdev]\nlib_path = "weightbook"\n'


def make_notebook(path: Path, text: str) -> None:
    "A notebook from cells separated by lines of dashes; a cell that begins with # or > is Markdown"
    cells = [part.strip() for part in text.strip().split("\n---\n")]
    make = lambda cell: (new_markdown_cell if cell.startswith(("# ", "## ")) else new_code_cell)(cell)  # noqa: E731
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[make(cell) for cell in cells], metadata=kernel), path)


@pytest.fixture
def book(tmp_path, monkeypatch):
    "A clone with one chapter; the working folder, and the cache inside it"
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    make_notebook(tmp_path / "nbs" / "lowbit" / "01_tiny.ipynb", TINY)
    for name in [name for name in os.environ if name.startswith(("WEIGHTBOOK_", "HF_HUB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WEIGHTBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WEIGHTBOOK_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, status: int = 0):
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def start(*arguments: str, **keywords) -> subprocess.Popen:
    "The installed command, in a process of its own; `-P` since the command does not search the working folder either"
    command = [sys.executable, "-P", "-c", "from weightbook.book.cli import main; main()", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **keywords)


def calls(book: Path) -> list[str]:
    return (book / "cache" / "calls.txt").read_text().split()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_list_names_chapter_part_and_title(book):
    shown = run("list").stdout
    assert re.search(r"tiny +lowbit +A tiny chapter +no ledger yet", shown) and "1 chapter" in shown


def test_reproduce_runs_and_leaves_the_book_as_it_was(book):
    before = files(book / "nbs")
    result = run("reproduce", "tiny")
    assert re.search(r"C1 +three is longer than one +true +2 letters +reduced +reproduced", result.stdout)
    assert "1 claims: 1 reproduced" in result.stdout
    assert "quick profile on cpu, seed 0" in result.stderr and "The slow arm" in result.stderr
    assert files(book / "nbs") == before
    assert json.loads((book / "cache" / "ledger" / "tiny.json").read_text())["profile"] == "quick"


def test_reproduce_save_stores_outputs_ledger_and_stamp(book):
    run("reproduce", "lowbit/tiny", "--save", "--profile", "book", "--seed", "3")
    ledger = json.loads((book / "nbs" / "ledger" / "tiny.json").read_text())
    assert (ledger["profile"], ledger["seed"], ledger["device"]) == ("book", 3, "cpu")
    stamp = nbformat.read(book / "nbs" / "lowbit" / "01_tiny.ipynb", 4).metadata["weightbook"]
    assert (stamp["profile"], stamp["seed"]) == ("book", 3) and stamp["code_hash"] == ledger["source_hash"]
    assert "1 reproduced" in run("list").stdout
    assert "three is longer" in run("ledger", "tiny").stdout
    assert re.search(r"tiny +1 +0 +0 +0", run("ledger").stdout)


def test_an_interrupted_run_goes_on_behind_its_finished_arms(book):
    (book / "cache").mkdir()
    (book / "cache" / "wait").touch()
    running = start("reproduce", "tiny")
    for _ in range(600):
        if (book / "cache" / "waiting").exists() or running.poll() is not None:
            break
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted in section “The slow arm”" in said and "goes on from there" in said
    assert calls(book) == ["one"]
    (book / "cache" / "wait").unlink()
    run("reproduce", "tiny")
    assert calls(book) == ["one", "three"]


@pytest.mark.parametrize("command", ["reproduce", "ledger", "bench"])
def test_an_unknown_chapter_is_a_usage_error_that_names_what_is_near(command, book):
    shown = run(command, "tny", status=2)
    assert "nearest: " in shown.stderr and "tiny" in shown.stderr and shown.stdout == ""


WRONG = {
    "profile": (("reproduce", "tiny", "--profile", "large"), "quick, book, paper"),
    "device": (("reproduce", "tiny", "--device", "tpu"), "auto, cpu, cuda"),
    "seed": (("reproduce", "tiny", "--seed", "-1"), "`seed`"),
    "command": (("reprodce",), "No such command"),
    "option": (("list", "--colour"), "No such option"),
    "port": (("serve", "--port", "70000"), "65535"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_is_a_usage_error(case, book):
    arguments, text = WRONG[case]
    assert text in run(*arguments, status=2).stderr


def test_outside_of_a_clone_the_command_says_so(book, monkeypatch):
    monkeypatch.setattr(pages, "find_root", lambda: None)
    assert "no clone of the book" in run("check", status=2).stderr


def test_a_wrong_settings_file_is_named(book):
    (book / "settings.ini").write_text("[weightbook]\nprofile = large\n")
    assert "settings.ini" in run("reproduce", "tiny", status=2).stderr


def break_cell(book: Path, old: str, new: str) -> None:
    path = book / "nbs" / "lowbit" / "01_tiny.ipynb"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_failing_cell_fails_the_run_and_stores_nothing(book):
    break_cell(book, "second - first} letters", "1 / 0}")
    before = files(book / "nbs")
    shown = run("reproduce", "tiny", "--save", status=1)
    assert "Ledger, cell" in shown.stderr and "ZeroDivisionError" in shown.stderr and files(book / "nbs") == before


def test_a_chapter_that_saves_no_ledger_fails(book):
    run("reproduce", "tiny")
    break_cell(book, "ledger.save();", "None")
    assert "saved no ledger" in run("reproduce", "tiny", status=1).stderr


def test_a_claim_that_does_not_hold_is_a_result_and_no_failure(book):
    break_cell(book, "holds=above(gaps, 0, without", "holds=above(gaps, 9, without")
    assert "1 claims: 1 not reproduced" in run("reproduce", "tiny").stdout


def test_verify_makes_chosen_arms_anew(book):
    assert "must have committed arms" in run("verify", "tiny", status=2).stderr
    run("reproduce", "tiny", "--save", "--profile", "book")
    assert calls(book) == ["one", "three"]
    shown = run("verify", "tiny", "--arms", "2").stdout
    assert calls(book) == ["one", "three", "one", "three"]
    assert "2 of 2 arms made anew" in shown and shown.count("equal") == 2
    path = book / "nbs" / "arms" / "tiny.json"
    path.write_text(path.read_text().replace('"value": 5', '"value": 6'))
    wrong = run("verify", "tiny", "--arms", "2", status=1)
    assert re.search(r"three.* 0\.2", wrong.stdout) and "not all arms are within 1e-06" in wrong.stderr


def test_stability_shows_which_verdicts_flip(book):
    shown = run("stability", "tiny", "--seeds", "0", "1", "2").stdout
    assert re.search(r"C1 +reproduced +not reproduced +reproduced +flips", shown) and "1 of 1 verdicts flip" in shown
    assert "0 of 1 verdicts flip" in run("stability", "tiny", "--seeds", "0", "2").stdout
    assert calls(book) == ["one", "three"] * 3  # the seed reaches every arm


def test_fresh_makes_all_arms_anew(book):
    run("reproduce", "tiny")
    run("reproduce", "tiny")
    assert calls(book) == ["one", "three"]
    run("reproduce", "tiny", "--fresh")
    assert calls(book) == ["one", "three"] * 2


def test_finished_arms_are_kept_before_the_chapter_is(book):
    break_cell(book, "second - first} letters", "1 / 0}")
    run("reproduce", "tiny", "--profile", "book", status=1)
    assert "2 arms added to 0" in run("arms", "tiny").stderr
    assert (book / "nbs" / "arms" / "tiny.json").read_text().count('"arm": "arm"') == 2


def test_a_chapter_without_stored_ledger(book):
    assert "reproduce tiny --save" in run("ledger", "tiny", status=1).stderr


ROWS = [{"case": "64×64", "arm": arm, "ratio": ratio, "ratio_low": ratio, "ratio_high": ratio} for arm, ratio in
        (("dense", 1.0), ("sparse", 0.5))]


def test_bench_files_the_rows_and_prints_them(book, monkeypatch):
    monkeypatch.setattr(cli, "_benchmark_of", lambda path: lambda settings: ROWS)
    shown = run("bench", "tiny")
    assert re.search(r"64×64 +sparse .*0\.500.* 2\.00×", shown.stdout)
    stored = json.loads((book / "cache" / "bench" / "cpu" / "tiny.json").read_text())["rows"]
    assert [(row["chapter"], row["arm"]) for row in stored] == [("tiny", "dense"), ("tiny", "sparse")]
    run("bench", "--save")
    assert (book / "bench" / "cpu" / "tiny.json").is_file()


def broken(how):
    "A benchmark that files one race and then ends as told"
    def run(settings):
        from weightbook.book import bench

        rows = bench.timing_rows("tiny", "first", bench.time_pairs({"dense": list, "sparse": list}, repeats=1, min_time=0))
        how()
        return [*rows, *ROWS]

    return run


def raises():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(("how", "said"), [(lambda: time.sleep(60), "cut after 1 s"), (raises, "RuntimeError: CUDA error")])
def test_what_a_cut_or_broken_race_had_is_filed(book, monkeypatch, how, said):
    monkeypatch.setattr(cli, "_benchmark_of", lambda path: broken(how))
    assert f"tiny: {said}" in run("bench", "tiny", "--seconds", "1", status=1).stderr
    stored = json.loads((book / "cache" / "bench" / "cpu" / "tiny.json").read_text())["rows"]
    assert [(row["case"], row["arm"]) for row in stored] == [("first", "dense"), ("first", "sparse")]


def test_a_session_runs_parity_then_the_races_by_value_until_its_time_is_up(book, monkeypatch, capsys):
    clock, called = [0.0], []

    def child(code, *arguments, seconds):
        called.append((arguments[1] if arguments[0] == "bench" else "parity", seconds))
        clock[0] += seconds if arguments[0] != "bench" else 200
        return arguments[1] != "wina"

    monkeypatch.setattr(cli.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(cli, "_child", child)
    monkeypatch.setattr("weightbook.book.bench.device_name", lambda device: "nvidia-none")
    settings = cli.replace(cli.load_settings(device="cpu"), device="cuda", save=True)
    with pytest.raises(cli.typer.Exit):
        cli._session(["dpp_least_squares", "wina", "adadim", "quantizers", "ponita"], settings, 600)
    assert called == [("parity", 180.0), ("quantizers", 415.0), ("wina", 215.0)]  # nothing is left for ponita and adadim
    assert "not in this session: dpp_least_squares\n" in capsys.readouterr().err
    assert json.loads((book / "bench" / "nvidia-none" / "parity.json").read_text()) == {
        "device": "nvidia-none", "rows": [], "tests": {}}


def test_a_child_is_interrupted_when_its_time_is_up(book, tmp_path):
    ends = ("import sys, time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
            "    open(sys.argv[1], 'w').write('kept')\n    sys.exit(1)")
    start = time.monotonic()
    assert not cli._child(ends, str(tmp_path / "report"), seconds=6) and time.monotonic() - start < 30
    assert (tmp_path / "report").read_text() == "kept" and cli._child("pass", seconds=60)


def test_a_report_of_pytest_is_read(tmp_path):
    (tmp_path / "r.xml").write_text('<testsuites><testsuite><testcase classname="a" name="b"/><testcase classname="a" name="c">'
                                    '<failure>no</failure></testcase><testcase classname="a" name="d"><skipped/></testcase>'
                                    '</testsuite></testsuites>')
    assert cli._outcomes(tmp_path / "r.xml") == {"a.b": "passed", "a.c": "failed", "a.d": "skipped"}
    assert cli._outcomes(tmp_path / "none.xml") == {}


def test_bench_without_a_benchmark(book, monkeypatch):
    monkeypatch.setattr(cli, "_benchmark_of", lambda path: None)
    assert "tiny has no benchmark" in run("bench", "tiny", status=1).stderr
    assert "no chapter has a benchmark" in run("bench", status=1).stderr


def test_doctor_tells_what_is_there_and_what_is_missing(book, monkeypatch):
    (book / "data" / "mnist").mkdir(parents=True)
    monkeypatch.setenv("WEIGHTBOOK_DATA", str(book / "data"))
    needed = {"": ["torch", "numpy"], "lm": ["transformers", "no-such-package"]}
    monkeypatch.setattr(cli, "_requirements", lambda: needed)
    shown = run("doctor").stdout
    assert "no-such-package (pip install 'weightbook[lm]')" in shown
    assert re.search(r"data +\S+data \(mnist\)", shown) and re.search(r"device +cpu", shown)
    needed[""].append("no-core-package")
    run("doctor", status=1)


def test_check_names_what_failed(book, monkeypatch):
    monkeypatch.setattr(cli, "_CHECKS", {"one": lambda: "", "two": lambda: "line 3 is wrong"})
    shown = run("check", status=1)
    assert re.search(r"ok +one", shown.stdout) and re.search(r"failed +two", shown.stdout)
    assert "line 3 is wrong" in shown.stderr and "1 of 2 checks failed: two" in shown.stderr


def test_the_real_book_is_checked_by_all_five():
    assert len(cli._CHECKS) == 5
    assert (Path(__file__).parents[1] / cli._EXPORT_TEST.partition("::")[0]).is_file()


@pytest.fixture
def tested(book, monkeypatch):
    "The book as a repository with one test file, and without what else `weightbook test` would find"
    (book / "tests").mkdir()
    for name in ("conftest.py", "runner.py", "run_notebook.py", "test_notebooks.py", "structure_rules.py"):
        shutil.copy(Path(__file__).parent / name, book / "tests")
    (book / "tests" / "test_one.py").write_text("def test_one():\n    pass\n")
    (book / ".gitignore").write_text("cache/\n__pycache__/\n.pytest_cache/\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(book)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "start"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return book


def finish(book: Path, *arguments: str) -> tuple[int, str]:
    running = start("test", "--workers", "1", *arguments, cwd=book)
    out, err = running.communicate(timeout=120)
    return running.returncode, out + err


def test_test_runs_notebooks_and_pytest_and_ends_with_its_closing_line(tested):
    status, said = finish(tested)
    assert status == 0, said
    assert "1 notebooks ran; working tree unchanged" in said
    assert re.search(r"^notebook lowbit/01_tiny: 4 cells, [\d.]+ s CPU", said, re.MULTILINE)
    assert re.fullmatch(r"4 passed in [\d.]+s", said.strip().splitlines()[-1].strip("= "))


def test_test_tells_what_pages_cost_and_what_all_chapters_would(tested):
    (tested / "tests" / "test_tiny.py").write_text("def test_one():\n    assert sum(range(5_000_000))\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tested)]
    subprocess.run([*git, "add", "."], check=True)
    status, said = finish(tested, "--", "--times", "cache/times.json")
    found = json.loads((tested / "cache" / "times.json").read_text())
    mine, others = found["pages"]["tiny"], found["pages"][""]
    assert status == 0 and mine["notebook"] > 0.1 and mine["tests"] > 0.05 and others["tests"] > 0, said
    assert found["cpu"] == pytest.approx(mine["notebook"] + mine["tests"] + others["tests"])
    new = mine["notebook"] + mine["tests"]
    assert found["cpu then"] == pytest.approx(found["cpu"] + (found["chapters"] - 1) * new) and found["workers"] == 1
    assert re.search(r"^tiny +[\d.]+ +45 +[\d.]+ +40 +[\d.]+$", said, re.MULTILINE) and "24 chapters: " in said


def test_test_fails_with_a_notebook_and_notices_one_that_was_passed_over(tested):
    break_cell(tested, "second - first} letters", "1 / 0}")
    make_notebook(tested / "nbs" / "lowbit" / "02_idle.ipynb", "# Idle\n---\nprint(1)")
    idle = nbformat.read(tested / "nbs" / "lowbit" / "02_idle.ipynb", 4)
    idle.cells.insert(0, nbformat.v4.new_raw_cell("---\nskip_exec: true\n---"))
    nbformat.write(idle, tested / "nbs" / "lowbit" / "02_idle.ipynb")
    status, said = finish(tested)
    assert status == 1 and "passed over: the notebook holds code" in said and "ZeroDivisionError" in said
    assert "2 failed, 3 passed" in said.strip().splitlines()[-1]


def test_a_stored_run_is_what_later_ones_are_compared_with(tested):
    status, said = finish(tested, "--store")
    record = tested / "tests" / "records" / "lowbit" / "01_tiny.json"
    assert status == 0 and "records stored" in said
    assert json.loads(record.read_text())["cells"] == 4
    record.write_text(record.read_text().replace('"cells": 4', '"cells": 5'))
    status, said = finish(tested)
    assert status == 1 and "4 cells ran, the last stored run had 5" in said


def test_test_notices_a_changed_working_tree(tested):
    (tested / "tests" / "test_one.py").write_text("def test_one():\n    open('left-over', 'w')\n")
    status, said = finish(tested, "--no-notebooks")
    assert status == 1 and "the run changed the working tree" in said and "0 notebooks ran" in said


def test_slow_tests_wait_until_asked_and_one_chapter_takes_what_it_imports(tested):
    package = tested / "weightbook" / "lowbit"
    package.mkdir(parents=True)
    (package / "tiny.py").write_text("from . import gate\n")
    (package / "gate.py").touch()
    (package / "other.py").touch()
    slow = "import pytest\n@pytest.mark.slow\ndef test_slow():\n    pass\ndef test_quick():\n    pass\n"
    for name in ("tiny", "gate", "other"):
        (tested / "tests" / f"test_{name}.py").write_text(slow)
    for arguments, line in (((), "4 passed, 3 deselected"), (("--chapter", "tiny"), "3 passed, 4 deselected")):
        status, said = finish(tested, "--no-notebooks", *arguments)
        assert status == 0 and said.strip().splitlines()[-1].strip("= ").startswith(line), said


def test_serve_needs_a_site(book):
    assert "make site" in run("serve", "--port", "0", status=1).stderr


def test_help_is_quick():
    seconds = []
    for _ in range(3):
        before = children_cpu()
        running = start("--help")
        assert "reproduce" in running.communicate(timeout=30)[0]
        seconds.append(children_cpu() - before)
    assert min(seconds) < 1.0  # of computing: a busy machine makes nobody slow


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_version(book):
    assert re.fullmatch(r"weightbook \d+\.\d+\.\d+\n", run("--version").stdout)
