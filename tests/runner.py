"""What the book adds to pytest: one chapter at a time, CPU time of every item, and what notebooks and pages cost."""

import ast
import difflib
import json
import re
import resource
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "weightbook"
RECORDS = Path(__file__).resolve().parent / "records"  # one file a notebook: what its last stored test run was
FIRST = "tests/test_notebooks.py"  # the longest items begin, so that no worker ends alone


# ---- options and order -----------------------------------------------------------------------------------------------


def pytest_addoption(parser):
    group = parser.getgroup("weightbook")
    group.addoption("--chapter", help="only this notebook, its tests, breaks and recipe, and what its module imports")
    group.addoption("--tree", action="store_true", help="fail when the run changes the working tree")
    group.addoption("--times", metavar="FILE", help="print what each page costs and all planned chapters would; keep it as JSON")
    group.addoption("--store", action="store_true", help="keep cells and sizes of the notebooks that ran in tests/records")


def imports(module: Path) -> set[Path]:
    "The modules of ours that a module imports"
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found |= {p for p in (base.with_suffix(".py"), *(base / f"{a.name}.py" for a in node.names)) if p.is_file()}
    return found


def needed(chapter: str, package: Path = PACKAGE) -> set[str]:
    "Names of a chapter's module and of all that it imports, however far down"
    modules = {p.stem: p for p in package.rglob("*.py") if not p.stem.startswith("_")}
    if chapter not in modules:
        near = difflib.get_close_matches(chapter, modules, n=3)
        raise pytest.UsageError(f"--chapter: no module is named {chapter!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
    found, open_ = set(), [modules[chapter]]
    while open_:
        path = open_.pop()
        if path not in found:
            found.add(path)
            open_ += imports(path)
    return {path.stem for path in found}


def belongs(item: pytest.Item, names: set[str], chapter: str) -> bool:
    "Whether an item is about one of these notebooks; slow ones and checks of structure only for the chapter itself"
    stem = item.path.stem.removeprefix("test_")
    about = item.callspec.params.get("path") if hasattr(item, "callspec") else None
    if isinstance(about, Path):
        name = about.stem.lstrip("0123456789").lstrip("_")
        return name == chapter or (name in names and stem == "notebooks")
    if stem == chapter or stem.startswith(f"{chapter}_"):
        return True
    return stem in names and not item.get_closest_marker("slow")


def pytest_collection_modifyitems(config, items):
    if chapter := config.getoption("--chapter"):
        names = needed(chapter)
        kept = [item for item in items if belongs(item, names, chapter)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept
    items.sort(key=lambda item: (not item.nodeid.startswith(FIRST), -recorded(item).get("cells", 0)))


def recorded(item: pytest.Item) -> dict:
    "What is stored about the notebook that an item runs"
    if not item.nodeid.startswith(FIRST) or "[" not in item.nodeid:
        return {}
    return record(item.nodeid.partition("[")[2].partition("]")[0])


def record(name: str) -> dict:
    "What is stored about a notebook, as `lowbit/04_wina`; empty for a new one"
    path = RECORDS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def store(name: str, found: dict) -> None:
    path = RECORDS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


# ---- CPU time --------------------------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    "Of this process and of the children that have ended"
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    item.stash[STARTED] = cpu_seconds()
    return (yield)


STARTED = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        report.user_properties.append(("cpu", cpu_seconds() - item.stash[STARTED]))
    return report


def working_tree() -> str | None:
    "What git says about the working tree; None outside of a repository"
    if not shutil.which("git"):
        return None
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


# ---- what a page costs -----------------------------------------------------------------------------------------------

QUICK, PRETRAINED, TESTS = 45, 90, 40  # CPU seconds of a notebook, of one that loads a pretrained model, of a page's tests


def times(items: Mapping[str, Mapping], *, wall: float, workers: int) -> dict:
    "CPU seconds of each page's notebook and tests; all together, and with every chapter of the plan written"
    from weightbook.book.pages import PLAN, chapter_name, chapters, workshops

    names, shared = list(map(chapter_name, chapters())), list(map(chapter_name, workshops()))
    pages = {name: Counter(notebook=0, tests=0, wall=0) for name in ("", *shared, *names)}
    for item, cost in items.items():
        found = pages[owner(item, list(pages)[1:])]
        found["notebook" if item.startswith(f"{FIRST}::test_notebook[") else "tests"] += cost["cpu"]
        found["wall"] += cost["wall"]
    cpu = sum(page["notebook"] + page["tests"] for page in pages.values())
    spent = [pages[name]["notebook"] + pages[name]["tests"] for name in names if pages[name]["wall"]]
    planned = sum(len(part.planned) for part in PLAN)
    then = cpu + (planned - len(spent)) * sum(spent) / max(len(spent), 1)  # a new chapter costs what the others do on average
    return {"pages": {name: page for name, page in pages.items() if page["wall"]}, "workers": workers, "cpu": cpu,
            "wall": wall, "chapters": planned, "cpu then": then, "wall then": wall * then / max(cpu, 1e-9)}


def owner(item: str, names: Sequence[str]) -> str:
    "The page whose name stands in an item's; empty for the machinery and for what several pages share"
    return next((name for name in names if re.search(rf"(?<![a-z0-9]){name}(?![a-z0-9])", item)), "")


def times_table(found: Mapping) -> Iterator[str]:
    "The lines that tell what `times` found"
    from weightbook.book.pages import find_notebook

    yield f"{'':22}{'notebook':>10}{'of':>5}{'tests':>9}{'of':>5}{'wall':>9}"
    for name, page in sorted(found["pages"].items(), key=lambda pair: (pair[0] == "", -pair[1]["notebook"] - pair[1]["tests"])):
        loads = name and "load_lm(" in find_notebook(name).read_text(encoding="utf-8")
        most, tests = (PRETRAINED if loads else QUICK, TESTS) if name else ("", "")
        line = f"{name or 'all others':22}{page['notebook']:10.1f}{most:>5}{page['tests']:9.1f}{tests:>5}{page['wall']:9.1f}"
        yield line + "  over" * bool(name and (page["notebook"] > most or page["tests"] > tests))
    yield f"together, {found['workers']} workers: {found['cpu']:.0f} s CPU, {found['wall'] / 60:.1f} min wall"
    yield f"{found['chapters']} chapters: {found['cpu then']:.0f} s CPU, {found['wall then'] / 60:.1f} min wall"


class Costs:
    "Collects, in the process that reports, CPU seconds of every file and the notebooks that ran, and looks at the working tree"

    def __init__(self, config):
        self.config, self.notebooks, self.began = config, {}, time.perf_counter()
        self.items = defaultdict(Counter)  # of each: seconds of CPU time and of wall time
        self.tree = working_tree() if config.getoption("--tree") else None
        self.said = ""

    def pytest_sessionfinish(self, session):
        if self.config.getoption("--store"):
            self.said = "records stored"
        elif self.tree is not None:
            same = working_tree() == self.tree
            self.said = "working tree unchanged" if same else "the run changed the working tree: see git status"
            session.exitstatus = session.exitstatus or int(not same)

    def pytest_runtest_logreport(self, report):
        facts = dict(report.user_properties)
        self.items[report.nodeid].update({"cpu": facts.get("cpu", 0.0), "wall": report.duration})
        if report.when == "call" and "notebook" in facts:
            self.notebooks[facts["notebook"]["name"]] = facts["notebook"] | {"passed": report.passed}

    def pytest_terminal_summary(self, terminalreporter):
        say = terminalreporter.write_line
        for name, ran in sorted(self.notebooks.items(), key=lambda pair: -pair[1]["cpu"]):
            say(f"notebook {name}: {ran['cells']} cells, {ran['cpu']:.1f} s CPU, slowest {ran['slowest']}")
        files = Counter()
        for item, cost in self.items.items():
            files[item.partition("::")[0]] += cost["cpu"]
        costly = [(file, seconds) for file, seconds in files.most_common() if seconds >= 1]
        if costly:
            terminalreporter.section("CPU seconds of files", sep="-")
            for file, seconds in costly:
                say(f"{seconds:8.1f}  {file}")
            say(f"{sum(files.values()):8.1f}  all")
        if file := self.config.getoption("--times"):
            terminalreporter.section("CPU seconds of pages, beside what they may cost", sep="-")
            workers = self.config.getoption("numprocesses", None) or 1
            found = times(self.items, wall=time.perf_counter() - self.began, workers=workers)
            for line in times_table(found):
                say(line)
            (ROOT / file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if self.notebooks or self.said:
            say("; ".join(filter(None, (f"{len(self.notebooks)} notebooks ran", self.said))))
        if self.config.getoption("--store"):
            self.store()

    def store(self):
        "Keep what the notebooks that passed ran, and their sizes as the ratchet"
        from structure_rules import Notebook, measures

        for name, ran in self.notebooks.items():
            if ran["passed"]:
                store(name, {"cells": ran["cells"]} | measures(Notebook(ROOT / "nbs" / f"{name}.ipynb")))


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Costs(config), "weightbook-costs")
