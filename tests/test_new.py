"""A chapter is begun out of its brief, and two that are begun side by side meet in no file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import structure_rules as rules
from structure_rules import Notebook

from weightbook.book import new
from weightbook.book.pages import PLAN

ROOT = Path(__file__).resolve().parents[1]
BRIEF = """# METHOD — Toy: keep what is large

*Toys for weights.* Ann Author, Bo Writer (Somewhere), May 2025, arXiv 2505.00001, preprint.
Official code: `owner/toys` (MIT).

## Claims
| id | claim | where | paper's value | conditions |
|---|---|---|---|---|
| C1 | toys win | Tab. 1 [V] | 56.9 → **66.9** % | 3 seeds |
| C2 | toys are small | §2 | – | – |

## Method
"""


@pytest.fixture
def brief(tmp_path):
    path = tmp_path / "toy.md"
    path.write_text(BRIEF, encoding="utf-8")
    return path


@pytest.fixture
def begun(tmp_path, brief):
    "The skeleton of a chapter in a folder of its own"
    for folder in ("nbs", "tests/chapters"):
        (tmp_path / folder).mkdir(parents=True)
    return new.new_chapter("lowbit", "d2quant", brief, root=tmp_path)


def test_a_skeleton_keeps_the_rules_of_a_chapter(begun):
    nb = Notebook(begun[0])
    assert begun[0].name == "02_d2quant.ipynb"
    assert [line for rule in (*rules.EVERY, *rules.CHAPTER, rules.cell_characters) for line in rule(nb)] == []
    assert rules.claims_recorded(nb, begun[0].parent) == [], "it is pending: a ledger is not asked for yet"
    code = "\n".join(cell.source for cell in nb.code)
    assert re.findall(r'PAPER\["(\w+)"\]', code) == ["C1", "C2"] and 'paper="56.9 → 66.9 %"' in code


def test_a_placeholder_may_not_stay(begun):
    assert rules.no_placeholder(Notebook(begun[0])) == []
    text = begun[0].read_text(encoding="utf-8")
    begun[0].write_text(re.sub(r'.*- pending: .*\n', "", text), encoding="utf-8")
    said = "\n".join(rules.no_placeholder(Notebook(begun[0])))
    assert "exports the placeholder" in said and "'To be written'" in said, "sections, figures"
    cost = next(cell for cell in Notebook(begun[0]).code if "Cost(" in cell.source and "import" not in cell.source)
    assert f"cell {cost.index} says 'to be said'" in said, "what a claim would cost"
    assert len(re.findall(r"(?i)to be |measured yet|attempted yet", text)) > 10 and said.count("\n") >= 12


BROKEN = {
    "no claims": (BRIEF.replace("## Claims", "## Results"), "section `## Claims`"),
    "no table": (BRIEF.replace("| id |", "| no |"), "column `id`"),
    "no such id": (BRIEF.replace("| C2 |", "| second |"), "must call its claims C1, C2"),
    "twice": (BRIEF.replace("| C2 |", "| C1 |"), "each once"),
    "a gap": (BRIEF.replace("| C2 |", "| C3 |"), "each once"),
    "nothing claimed": (BRIEF.replace("toys are small", ""), "what C2 claims"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_brief_that_cannot_be_read_is_refused_with_a_reason(case, brief):
    text, reason = BROKEN[case]
    brief.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        new.read_brief(brief)


@pytest.mark.parametrize(
    ("line", "by", "code"),
    [
        ("Paper: *Toys for weights*, Ann Author et al. (MIT), 2025, arXiv 2505.00001.\nOfficial code: none found.",
         "Ann Author et al", "none found"),
        ('"Toys for all weights", A. B. Author, C. Writer — 2025, arXiv 2505.00001. Code: `o/t` (x).',
         "A. B. Author, C. Writer", "o/t"),
        ("Something else.", "not in the brief", "none found"),
    ],
)
def test_facts_are_found_in_the_forms_that_briefs_have(line, by, code, brief):
    brief.write_text(f"# METHOD — Toy\n\n{line}\n\n" + BRIEF[BRIEF.index("## Claims"):], encoding="utf-8")
    found = new.read_brief(brief)
    assert (found.by, found.code) == (by, code)


def git(folder, *arguments):
    name = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.attributesFile=/dev/null")
    done = subprocess.run(["git", *name, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def side_by_side() -> list[tuple[str, str]]:
    "Two chapters of the plan that are not begun, of one part where there are two"
    begun = {Notebook(path).name for path in (ROOT / "nbs").glob("*/[0-9]*.ipynb")}
    left = {part.folder: [name for name in part.planned if name not in begun] for part in PLAN}
    part = max(left, key=lambda folder: len(left[folder]))
    return [(part, name) for name in left[part][:2]]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no repository")
@pytest.mark.skipif(len(side_by_side()) < 2, reason="every chapter is begun")
def test_two_chapters_in_two_branches_merge_without_a_conflict(tmp_path, brief):
    book = tmp_path / "book"
    git(tmp_path, "clone", "-q", "--shared", str(ROOT), str(book))
    start = git(book, "rev-parse", "HEAD").strip()
    environment = {k: v for k, v in os.environ.items() if k != "IN_TEST"} | {"PYTHONPATH": str(book), "GIT_ATTR_NOSYSTEM": "1"}
    run = lambda *command: subprocess.run(  # noqa: E731
        [sys.executable, *command], cwd=book, env=environment, capture_output=True, text=True)
    for part, name in side_by_side():
        git(book, "checkout", "-q", "-b", name, start)
        done = run("-c", "from weightbook.book.cli import main; main()", "new", part, name, str(brief))
        assert done.returncode == 0, done.stderr
        git(book, "add", "-A")
        git(book, "commit", "-q", "-m", name)
    (_, first), (_, second) = side_by_side()
    git(book, "merge", "-q", "--no-edit", first)
    assert run("-c", "from weightbook.book.cli import main; main()", "export").returncode == 0
    changed = git(book, "diff", "--name-only", start).split()
    assert [path for path in changed if first not in path and second not in path] in ([], ["weightbook/_modidx.py"])
    tests = ("tests/test_structure.py", "tests/test_fuzz.py", *(f"tests/chapters/test_{n}.py" for n in (first, second)))
    done = run("-m", "pytest", "-q", "-m", "not slow", *tests, "-k", f"{first} or {second} or left_over")
    assert done.returncode == 0, done.stdout[-3000:]
