"""Run the code of a chapter's page: its derivation with one formula broken, and its recipe as it stands."""

import itertools
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from weightbook.book.ledger import find_notebook

ASIDE = re.compile(r"passport\(|show_doc\(")  # neither defines nor checks a numbered result


def _cells(chapter: str) -> list[dict]:
    return json.loads(find_notebook(chapter).read_text(encoding="utf-8"))["cells"]


def tags(chapter: str) -> set[int]:
    "Numbers of the chapter's equations"
    text = "".join("".join(cell["source"]) for cell in _cells(chapter) if cell["cell_type"] == "markdown")
    return {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)}


def derivation(chapter: str, until: str, aside: str | None = None) -> list[str]:
    "Code of the chapter before the cell that holds `until`, in order; cells that match `aside` are left out too"
    cells = _cells(chapter)
    end = next(i for i, cell in enumerate(cells) if until in "".join(cell["source"]))
    sources = ["".join(cell["source"]) for cell in cells[:end] if cell["cell_type"] == "code"]
    return [s for s in sources if not ASIDE.search(s) and not (aside and re.search(aside, s))]


def run(chapter: str, sources: Sequence[str], monkeypatch) -> None:
    "Execute cells in one namespace, in the quick profile"
    monkeypatch.chdir(find_notebook(chapter).parent)
    monkeypatch.setenv("WEIGHTBOOK_PROFILE", "quick")
    space = {"__name__": "chapter"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources:
            exec(compile(source, "<chapter>", "exec"), space)


def assert_noticed(chapter: str, sources: Sequence[str], old: str, new: str, monkeypatch) -> None:
    "With `old` replaced by `new`, at its only place, an assertion of the chapter fails"
    hits = [i for i, source in enumerate(sources) if old in source]
    assert len(hits) == 1 and sources[hits[0]].count(old) == 1, f"{old!r} is in {len(hits)} cells"
    broken = [source.replace(old, new) for source in sources]
    with pytest.raises(AssertionError):
        run(chapter, broken, monkeypatch)


def run_recipe(chapter: str, folder: Path) -> str:
    "What the cells under «Use it» print when they are copied into a file of their own"
    cells = _cells(chapter)
    start = next(i for i, cell in enumerate(cells) if "## Use it" in "".join(cell["source"]))
    later = itertools.dropwhile(lambda cell: cell["cell_type"] != "code", cells[start + 1 :])
    codes = itertools.takewhile(lambda cell: cell["cell_type"] == "code", later)
    recipe = folder / "recipe.py"
    recipe.write_text("\n".join("".join(cell["source"]) for cell in codes), encoding="utf-8")
    headless = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, str(recipe)], capture_output=True, text=True, cwd=folder, env=headless)
    assert done.returncode == 0, done.stderr
    return done.stdout
