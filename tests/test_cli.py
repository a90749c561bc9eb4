"""The command line, end to end, in a small book of its own in a temporary folder."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from weightbook.book import cli

TINY = '''
# A tiny chapter
> One claim, one arm
---
from pathlib import Path
from weightbook.book.ledger import Ledger
from weightbook.book.settings import load_settings
settings = load_settings()
memory = settings.memory("tiny")
---
## The slow arm
---
import time

@memory.cache
def arm(name):
    with open(settings.cache / "calls.txt", "a") as log:
        log.write(name + "\\n")
    return len(name)

first = arm("one")
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
ledger.record("C1", f"{second - first} letters", holds=second > first, scale=settings.profile)
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
    monkeypatch.chdir(tmp_path / "nbs" / "lowbit")
    return tmp_path


def run(*arguments: str, status: int = 0):
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def start(*arguments: str, **keywords) -> subprocess.Popen:
    "The installed command, in a process of its own"
    command = [sys.executable, "-c", "from weightbook.book.cli import main; main()", *arguments]
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
    assert re.search(r"C1 +three is longer than one +true +2 letters +reproduced", result.stdout)
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
