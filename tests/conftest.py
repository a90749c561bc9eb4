"""Fixtures that several test files share."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from runner import (  # noqa: F401  pytest finds its hooks here
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
)

if not shutil.which("nvidia-smi"):  # before any test imports Triton by way of another package
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parents[1]
PROJECT = '[project]\nname = "tiny"\nversion = "0.1"\n\n[tool.nbdev]\nlib_path = "weightbook"\n'
QUARTO = """
project: {type: website, output-dir: _docs, resources: ["**/*_files/**"]}
website: {title: tiny, navbar: {left: [{text: Home, href: index.ipynb}]}}
format: {html: {theme: {light: default, dark: darkly}, toc: true}}
"""


def write_cells(path: Path, *cells: str) -> Path:
    "A notebook from texts; one that begins with `# `, `## ` or `Prose` is Markdown"
    make = lambda text: (new_markdown_cell if text.startswith(("# ", "## ", "Prose")) else new_code_cell)(text)  # noqa: E731
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[make(text) for text in cells], metadata=kernel), path)
    return path


@pytest.fixture
def tiny_book(tmp_path, monkeypatch) -> Path:
    "A book with a front page, one chapter and its ledger, in a folder of its own that is also the working folder"
    root = tmp_path / "tiny"
    nbs = root / "nbs"
    write_cells(nbs / "index.ipynb", "# Tiny\n> A small book\n\n- live: true", "Prose with a [page](lowbit/01_gate.ipynb).",
                "#| hide\nfrom weightbook.book.front import book_rate, chapter_cards", "#| echo: false\nbook_rate()",
                "#| echo: false\nchapter_cards()")
    write_cells(nbs / "lowbit" / "01_gate.ipynb",
                '# Gate\n> Keep the large ones\n\n- paper: "Gates: a study"\n- by: A. Author, B. Author\n- year: 2025\n'
                "- arxiv: 2501.00010\n- code: owner/gates\n- thumbnail: fig-line",
                "#| hide\nfrom weightbook.book.front import passport", '#| echo: false\npassport("gate")',
                "#| hide\nimport matplotlib.pyplot as plt\nfrom matplotlib_inline.backend_inline import set_matplotlib_formats",
                'set_matplotlib_formats("svg")',
                "Prose: $x$ and\n\n$$y = Wx \\tag{1}$$", "#| label: fig-line\n#| fig-alt: A line: it rises\nplt.plot([1, 2]);")
    claim = {"id": "C1", "claim": "gates work", "where": "Tab. 1", "paper": "2", "ours": "2", "scale": "reduced",
             "at": "a toy", "verdict": "reproduced", "note": "", "command": "", "cost": None,
             "conditions": [{"sentence": "2 = 2", "state": "true", "control": "no control: a toy"}]}
    ledger = {"format": 2, "arms": None, "chapter": "gate", "title": "Gates", "arxiv": "", "profile": "book", "device": "cpu", "versions": {},
              "seed": 0, "date": "2026-01-01", "source_hash": "", "claims": [claim]}
    (nbs / "ledger").mkdir()
    (nbs / "ledger" / "gate.json").write_text(json.dumps(ledger), encoding="utf-8")
    (nbs / "_quarto.yml").write_text(QUARTO, encoding="utf-8")
    (root / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def built_site(tmp_path_factory) -> Path:
    "The book's own site, built once a test run, whatever the number of workers"
    import fcntl

    from weightbook.book.site import build_site

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "index.html").exists():
            build_site(root=ROOT, out=folder, refresh=False, renderer="smalldocs")
    return folder
