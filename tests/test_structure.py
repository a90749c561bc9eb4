"""The structure of the book: every notebook keeps the rules, and every rule is seen to fail on a broken notebook."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import runner
import structure_rules as rules
from structure_rules import Notebook

from weightbook.book.pages import PARTS, chapters, front_matter, source_hash, workshops
from weightbook.book.settings import find_root

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"


def key(path: Path) -> str:
    return path.relative_to(NBS).with_suffix("").as_posix()


NOTEBOOKS = sorted(p for p in [*NBS.glob("*.ipynb"), *NBS.glob("[!_.]*/*.ipynb")] if not p.name.startswith(("_", ".")))
NUMBERED = [path for path in NOTEBOOKS if path.parent != NBS and path.name[0].isdigit()]
WORKSHOPS = [path for path in NUMBERED if path.name.startswith("00_")]  # what the chapters of a part share
CHAPTERS = [path for path in NUMBERED if path not in WORKSHOPS]
MODULES = sorted(p for p in (ROOT / "weightbook").rglob("*.py") if not p.name.startswith("_"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=key)
@pytest.mark.parametrize("rule", rules.EVERY, ids=lambda rule: rule.__name__)
def test_every_notebook(rule, path):
    assert rule(Notebook(path)) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=key)
@pytest.mark.parametrize("rule", rules.CHAPTER, ids=lambda rule: rule.__name__)
def test_chapter(rule, path):
    assert rule(Notebook(path)) == []


@pytest.mark.parametrize("path", WORKSHOPS, ids=key)
@pytest.mark.parametrize("rule", rules.WORKSHOP, ids=lambda rule: rule.__name__)
def test_workshop(rule, path):
    assert rule(Notebook(path)) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=key)
def test_every_claim_has_a_verdict(path):
    assert rules.claims_recorded(Notebook(path), NBS / "ledger") == []


def test_chapters_are_all_in_a_part():
    assert find_root(ROOT) == ROOT
    assert sorted(path for path in chapters() if path.is_relative_to(NBS)) == CHAPTERS != []
    assert workshops() == WORKSHOPS


def test_no_ledger_without_its_chapter():
    names = {Notebook(path).name for path in CHAPTERS if not front_matter(path).get("pending")}
    assert {path.stem for path in (NBS / "ledger").glob("*.json")} == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=key)
def test_cells_are_short_in_characters_too(path):
    assert rules.cell_characters(Notebook(path), runner.record(key(path))) == []


def test_outputs_are_fresh():
    "Pages that show all ledgers are written by the build: a branch of one chapter leaves them, so that branches can merge"
    print_stale = "from weightbook.book.run import *; print([x for x in stale_notebooks() if 'title cell changed' not in x])"
    done = subprocess.run([sys.executable, "-c", print_stale], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_code_is_clean():
    command = [sys.executable, "-m", "ruff", "check", "weightbook", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_names_are_documented(path):
    assert rules.public_docs(path) == []


METHODS = [path for path in MODULES if path.parent.name in PARTS]
WAITS: dict[str, set[str]] = {}  # chapters that wait for their next stored run: a directive is part of a page's code


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_public_names_are_the_method(path):
    assert {line.partition(" ")[0] for line in rules.no_scaffold(path)} == WAITS.get(path.stem, set())


# ---- the rules are seen to fail --------------------------------------------------------------------------------------


def code(source, outputs=()):
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {}, "execution_count": None}


def markdown(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


PICTURE = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": "<svg/>"}}
ALT = "#| fig-alt: The measured curve falls from 4 to 1 and stays there"
SOUND = [
    code("#| default_exp lowbit.toy"),
    markdown("# Toy\n\n> A chapter in miniature"),
    code('passport("toy")'),
    markdown("## The problem\n\nA short text."),
    markdown("## Derivation\n\n$$a=b \\tag{1}$$"),
    code("assert_close(a, b)"),
    markdown("$$c=d \\tag{2}$$"),
    code("x = 1\nx"),
    markdown("## Implementation"),
    code('#| exports\ndef double(x):\n    "Twice `x`, eq. (2)"\n    return 2 * x'),
    code("assert double(2) == 4  # eq. (2)"),
    markdown("## On the GPU"),
    markdown("## Reproduction"),
    code(f"{ALT}\nfig_curve()", [PICTURE]),
    markdown("## Ledger"),
    code('ledger.claim("C1", "it is", where="here", paper="1")\nledger.record("C1", "1", holds=True, scale="all")'),
    markdown("## Use it"),
    markdown("## What we learned"),
]


@pytest.fixture
def write(tmp_path):
    "Write cells as the stamped chapter `lowbit/01_toy`, with a ledger beside it"

    def write(cells, *, stamp=None, metadata=None, ledger=None):
        path = tmp_path / "lowbit" / "01_toy.ipynb"
        path.parent.mkdir(exist_ok=True)
        content = {"cells": cells, "metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(content))
        content["metadata"]["weightbook"] = {"profile": "book", "code_hash": source_hash(path)} | (stamp or {})
        path.write_text(json.dumps(content))
        claims = [{"id": "C1", "verdict": "reproduced"}]
        stored = {"claims": claims, "profile": "book", "source_hash": source_hash(path)} | (ledger or {})
        (tmp_path / "toy.json").write_text(json.dumps(stored))
        return Notebook(path)

    return write


def test_the_sound_chapter_breaks_no_rule(write, tmp_path):
    nb = write(SOUND)
    assert [complaint for rule in rules.EVERY + rules.CHAPTER for complaint in rule(nb)] == []
    assert rules.claims_recorded(nb, tmp_path) == []


def test_a_workshop_has_the_sections_but_no_paper(write):
    paper = ("passport", "## Reproduction", "fig_curve", "## Ledger", "ledger.claim")
    cells = [cell for cell in SOUND if not any(part in cell["source"] for part in paper)]
    assert rules.workshop_anatomy(write(cells)) == []
    assert "section 'Ledger' is none of the anatomy" in rules.workshop_anatomy(write(SOUND))
    assert any("sections must be" in line for line in rules.workshop_anatomy(write(cells[:-1])))
    found = rules.workshop_anatomy(write([*cells, code('ledger = Ledger("toy")'), code('passport("toy")')]))
    assert found == ["a workshop has no passport", "a workshop has no ledger"]


def replace(at, cell):
    cells = copy.deepcopy(SOUND)
    cells[at] = cell
    return cells


def without(at):
    return [cell for index, cell in enumerate(copy.deepcopy(SOUND)) if index != at]


PICTURE = {"output_type": "execute_result", "data": {"image/svg+xml": "<svg/>"}, "metadata": {}, "execution_count": None}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
WIDGET = {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}}
BROKEN = [
    ("summary_line", replace(1, markdown("# Toy\n\n> Gains $\\times 2$")), "summary holds"),
    ("summary_line", replace(1, markdown("# Toy\n\nno summary")), "one `>` summary"),
    ("summary_line", replace(1, markdown("## Toy\n\n> summary")), "H1"),
    ("cell_sizes", replace(7, code("x = 1\n" * 41)), "41 lines"),
    ("cell_sizes", [*SOUND, *[code("x = 1\n" * 9)] * 20], "median of 9"),
    ("cell_sizes", [*SOUND, *[code("x = 1\n" * 21)] * 5], "nine of ten"),
    ("cell_characters", [*SOUND, *[code("x" * 50 + "\n" + "y" * 100 + "\n" + "z = 1\n" * 100)] * 3], "752 characters"),
    ("cell_characters", replace(7, code("x = " + "1" * 107)), "1 lines of code are above 110"),
    ("outputs", replace(7, code("plot()", [PICTURE, {**PICTURE, "output_type": "display_data"}])), "twice"),
    ("outputs", replace(7, code("1 / 0", [ERROR])), "stores an error"),
    ("outputs", replace(7, code("bar()", [WIDGET])), "widget"),
    ("file_size", replace(7, code("x", [{"output_type": "stream", "name": "stdout", "text": "x" * 1_600_000}])), "MB"),
    ("figure_alt", replace(13, code("fig_curve()", [PICTURE])), "fig-alt"),
    ("figure_alt", replace(13, code("#| fig-alt:\nfig_curve()", [PICTURE])), "fig-alt"),
    ("figure_alt", replace(13, code("#| fig-alt: a curve\nfig_curve()", [PICTURE])), "20 characters"),
    ("figure_alt", replace(13, code(f"{ALT}\n#| and more words\nfig_curve()", [PICTURE])), "second line"),
    ("nothing_skipped", replace(5, code("#| eval: false\nassert_close(a, b)")), "never run"),
    ("nothing_skipped", replace(5, code("#| notest\nassert_close(a, b)")), "never run"),
    ("nothing_skipped", replace(0, markdown("---\nskip_exec: true\n---")), "skipped"),
    ("anatomy", replace(0, code("#| default_exp lowbit.other")), "must export to lowbit.toy"),
    ("anatomy", without(2), "passport"),
    ("anatomy", without(11), "On the GPU"),
    ("anatomy", [*SOUND[:11], SOUND[12], SOUND[11], *SOUND[13:]], "sections must be"),
    ("anatomy", [*SOUND, markdown("## Appendix")], "none of the anatomy"),
    ("equations_checked", without(5), "equation (1)"),
    ("equations_checked", replace(5, code("print(a - b)")), "equation (1)"),
    ("equations_checked", replace(5, code("#| exports\nassert a == b")), "equation (1)"),
    ("equations_checked", replace(10, code("assert double(2) == 4  # eq. (3)")), "equation (2)"),
    ("equations_checked", replace(4, markdown("$$a=b \\tag{1}$$\n\n$$a=c \\tag{3}$$")), "equation (3)"),
    ("equations_checked", replace(6, markdown("$$c=d \\tag{1}$$")), "twice"),
    ("numbered_equations", replace(6, markdown("$$c=d \\tag{3}$$")), "1, 3"),
    ("numbered_equations", replace(4, markdown("$$a=b$$")), "tags run 2"),
    ("markdown_sizes", replace(3, markdown("word " * 201)), "201 words"),
    ("markdown_sizes", [*SOUND, *[code("x")] * 20], "Markdown cells for"),
    ("source_shown", replace(9, code("#| export\ndef double(x):\n    return 2 * x")), "0 of 1"),
    ("source_shown", replace(9, code("x = 1")), "nothing is exported"),
    ("chapter_stamp", replace(13, code("fig_curve()")), "no outputs"),
]


@pytest.mark.parametrize(("rule", "cells", "complaint"), BROKEN)
def test_a_broken_notebook_is_noticed(write, rule, cells, complaint):
    found = getattr(rules, rule)(write(cells))
    assert any(complaint in line for line in found), found


def test_what_an_older_notebook_has_above_the_limits_may_only_fall(write):
    wide = write([*SOUND, *[code("x = " + "1" * 107 + "\n" * 700)] * 3])
    found = rules.measures(wide)
    assert found == {"characters": 811, "wide": 3} and len(rules.cell_characters(wide)) == 2
    assert rules.cell_characters(wide, found) == []
    assert len(rules.cell_characters(wide, {"characters": 810, "wide": 2})) == 2
    assert rules.measures(write(SOUND))["wide"] == 0


def test_a_stale_stamp_is_noticed(write):
    stale = write(SOUND, stamp={"code_hash": "0" * 16})
    assert rules.fresh_stamp(stale) == ["the code changed since its outputs were made"]
    assert rules.chapter_stamp(write(SOUND, stamp={"profile": "quick"})) == ["outputs are from the quick profile"]
    nb = write(SOUND)
    del nb.metadata["weightbook"]
    assert rules.fresh_stamp(nb) == ["outputs without a stamp"]
    assert rules.outputs(write(SOUND, metadata={"widgets": {}})) == ["widget state is stored"]


@pytest.mark.parametrize(
    ("ledger", "complaint"),
    [
        ({"claims": []}, "claim C1"),
        ({"claims": [{"id": "C2", "verdict": "partly"}]}, "claim C2"),
        ({"claims": [{"id": "C1", "verdict": "mostly"}]}, "'mostly'"),
        ({"claims": [{"id": "C1", "verdict": "partly"}, {"id": "C3", "verdict": "partly"}]}, "must run C1"),
        ({"source_hash": "0" * 16}, "other code"),
        ({"profile": "quick"}, "quick profile"),
    ],
)
def test_a_broken_ledger_is_noticed(write, tmp_path, ledger, complaint):
    found = rules.claims_recorded(write(SOUND, ledger=ledger), tmp_path)
    assert any(complaint in line for line in found), found


def test_a_missing_ledger_is_noticed(write, tmp_path):
    nb = write(SOUND)
    (tmp_path / "toy.json").unlink()
    assert rules.claims_recorded(nb, tmp_path) == ["no ledger toy.json for 1 claims"]


def test_an_experiment_among_the_public_names_is_noticed(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('__all__ = ["compand", "run_arm", "Study", "NBodyTask", "run_restarts", "benchmark", "train_arms"]\n')
    assert [line.split()[0] for line in rules.no_scaffold(path)] == ["run_arm", "Study", "NBodyTask", "benchmark", "train_arms"]


def test_missing_documentation_is_noticed(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '__all__ = ["f", "K"]\n'
        'def f(a,  # a number\n      b):\n    return a\n\n'
        'class K:\n    "A thing"\n    def g(self, c): return c\n    def _h(self, d): return d\n'
    )
    assert sorted(rules.public_docs(path)) == [
        "K.g has no docstring",
        "K: parameter `c` has no comment",
        "f has no docstring",
        "f: parameter `b` has no comment",
    ]
