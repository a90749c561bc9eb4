"""Every notebook runs, cell by cell, in a fresh interpreter: quick profile, no network, one thread."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import runner

from weightbook.book.pages import notebooks, read_notebook

HERE = Path(__file__).resolve().parent
NBS = HERE.parent / "nbs"
CPU_SECONDS = int(os.environ.get("WEIGHTBOOK_TEST_CPU", 360))  # of one notebook; a busy machine does not lengthen them
HANGS = 20  # a notebook that waits for something, without computing, is given up after so many times as long


def key(path: Path) -> str:
    return path.relative_to(NBS).with_suffix("").as_posix()


def code_cells(path: Path) -> list[dict]:
    return [c for c in read_notebook(path)["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def run(path: Path, folder: Path, cpu: int = CPU_SECONDS) -> tuple[dict, str]:
    "The report of a notebook's run, and what it said"
    mine = {"WEIGHTBOOK_PROFILE": "quick", "WEIGHTBOOK_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "WEIGHTBOOK_SAVE": "0"}
    mine |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    log, before = folder / "cells.log", runner.cpu_seconds()
    command = [sys.executable, str(HERE / "run_notebook.py"), str(path), str(cpu), str(log)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, env=kept | mine, cwd=NBS, capture_output=True, text=True, timeout=HANGS * cpu)
    lines = log.read_text(encoding="utf-8") if log.exists() else ""
    found = {"cells": re.findall(rf"^{re.escape(path.name)}:([\w-]+): ([\d.]+)s$", lines, re.MULTILINE)}
    found |= {"passed": done.returncode == 0, "limit": done.returncode == -signal.SIGXCPU}
    return found | {"cpu": runner.cpu_seconds() - before}, done.stdout + done.stderr


def complaint(path: Path, found: dict, said: str) -> str:
    "What is wrong with a run; empty when nothing is"
    ran, before = len(found["cells"]), runner.record(key(path)).get("cells", 0)
    if found["limit"]:
        return f"more than {CPU_SECONDS} s of CPU time, after {ran} cells (last {found['cells'][-1:]}):\n{said}"
    if not found["passed"]:
        return said or "the interpreter died"
    if not ran and code_cells(path):
        return "passed over: the notebook holds code, and no cell ran"
    return f"{ran} cells ran, the last stored run had {before}; `weightbook test --store` keeps the new number" * (ran < before)


BOOK = [path for path in notebooks(HERE.parent) if code_cells(path)]


@pytest.mark.parametrize("path", BOOK, ids=key)
def test_notebook(path, tmp_path, record_property):
    found, said = run(path, tmp_path)
    slowest = max(found["cells"], key=lambda cell: float(cell[1]), default=("none", "0"))
    facts = {"cells": len(found["cells"]), "cpu": found["cpu"], "slowest": f"{slowest[0]} {float(slowest[1]):.1f} s"}
    record_property("notebook", {"name": key(path), **facts})
    if wrong := complaint(path, found, said):
        pytest.fail(wrong, pytrace=False)


def test_no_notebook_of_the_last_stored_run_is_missing():
    stored = {p.relative_to(runner.RECORDS).with_suffix("").as_posix() for p in runner.RECORDS.rglob("*.json")}
    assert stored <= set(map(key, BOOK)), "renamed or removed: remove its record too"


def test_nbdevs_own_runner_would_run_the_same_notebooks():
    from nbdev.doclinks import nbglob

    found = {Path(path).resolve() for path in nbglob(NBS, as_path=True)}
    assert {path for path in found if code_cells(path)} == {path.resolve() for path in BOOK}
