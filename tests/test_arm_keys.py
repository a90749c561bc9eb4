"""What an arm of a chapter reaches moves its key when it changes; what it does not reach leaves the key alone.

A chapter's rows lie in `chapters/arm_keys_<chapter>.py`:

    CALLS = {"selection": dict(seed=0)}                                  # arm -> the arguments of a call
    MOVES = {"the weights": ("selection", "expit(code", "tanh(code")}    # what -> arm, text of the page, what replaces it
    STAYS = {"a check": ("selection", "…", "…")}                         # the same, of what the arm does not reach

Arguments may be a text, which the page evaluates. Functions and classes need no rows: each one that an arm reaches is broken
once, and all that no arm reaches are broken together.
"""

import ast
import importlib
import importlib.util
import linecache
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType

import chapter_code
import pytest

from weightbook.book.digest import is_ours, loaded_names, walk

HERE = Path(__file__).parent / "chapters"
CHAPTERS = sorted(path.stem.removeprefix("arm_keys_") for path in HERE.glob("arm_keys_*.py"))


def rows_of(chapter: str, table: str) -> dict:
    spec = importlib.util.spec_from_file_location(f"arm_keys_{chapter}", HERE / f"arm_keys_{chapter}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, table, {})


def every(table: str) -> list:
    return [pytest.param(chapter, *row, id=f"{chapter}-{name}")
            for chapter in CHAPTERS for name, row in rows_of(chapter, table).items()]


# ---- the part of a page that an arm needs ----------------------------------------------------------------------------


def bound(statement: ast.stmt) -> set[str]:
    "Names that a statement binds, or whose attributes it sets"
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else ()
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def needs(statement: ast.stmt) -> set[str]:
    "Global names that a statement reads, in the functions inside it too"
    return loaded_names(compile(ast.Module([statement], []), "<statement>", "exec"))


def needed(cells: list[list[ast.stmt]], names: Iterable[str]) -> Iterator[tuple[int, list[ast.stmt]]]:
    "The statements of each cell that names come from, by way of what they read; a function's name means the function"
    binds: dict[str, list[ast.stmt]] = {}
    for statement in (statement for cell in cells for statement in cell):
        for one in bound(statement):
            binds.setdefault(one, []).append(statement)
    functions = {one: [s for s in found if isinstance(s, ast.FunctionDef)] for one, found in binds.items()}
    kept, waiting, seen = set(), list(names), set()
    while waiting:
        if (one := waiting.pop()) not in seen:
            seen.add(one)
            for statement in functions.get(one) or binds.get(one, ()):
                kept.add(id(statement))
                waiting += needs(statement)
    for index, cell in enumerate(cells):
        if chosen := [statement for statement in cell if id(statement) in kept]:
            yield index, chosen


def recipe_at(cells: list[dict]) -> int:
    "Code cells before the recipe, which imports from the library what the page has defined"
    sections = ["".join(cell["source"]).startswith("## Use it") for cell in cells]
    return sum(cell["cell_type"] == "code" for cell in cells[: sections.index(True) if any(sections) else None])


def space_of(chapter: str, names: Iterable[str], old: str = "", new: str = "") -> dict:
    "The page's names, with one text replaced; nothing of the page runs but what they need"
    cells = chapter_code.cells(chapter)
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    if old:
        index = chapter_code.place(sources, old)
        sources[index] = sources[index].replace(old, new)
    space = {"__name__": "__main__"}
    for index, statements in needed([ast.parse(source).body for source in sources[: recipe_at(cells)]], names):
        file, text = f"<ipython-{chapter}-{index}-page>", sources[index]
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(ast.Module(statements, []), file, "exec"), space)
    return space


def arm_of(chapter: str, name: str, *change: str):
    "An arm as its page defines it"
    return space_of(chapter, [name], *change)[name]


def call_of(chapter: str, name: str, *change: str) -> tuple:
    "An arm, and the arguments of its call"
    call = rows_of(chapter, "CALLS")[name]
    if not isinstance(call, str):
        return arm_of(chapter, name, *change), call
    space = space_of(chapter, [name, *needs(ast.parse(call).body[0])], *change)
    return space[name], eval(call, space)


def key_of(chapter: str, name: str, *change: str) -> str:
    arm, call = call_of(chapter, name, *change)
    return arm.key(**call)


# ---- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in {"PROFILE": "quick", "SEED": "0", "DEVICE": "cpu", "OFFLINE": "1"}.items():
        monkeypatch.setenv(f"WEIGHTBOOK_{name}", value)


@pytest.fixture(scope="session")
def sound():
    "Keys of the page as it stands, each computed once"
    found: dict[tuple[str, str], str] = {}

    def key(chapter: str, name: str) -> str:
        if (chapter, name) not in found:
            found[chapter, name] = key_of(chapter, name)
        return found[chapter, name]

    return key


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("chapter", "arm", "old", "new"), every("MOVES"))
def test_what_an_arm_reaches_moves_its_key(chapter, arm, old, new, sound):
    assert key_of(chapter, arm, old, new) != sound(chapter, arm)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("chapter", "arm", "old", "new"), every("STAYS"))
def test_what_an_arm_does_not_reach_leaves_its_key(chapter, arm, old, new, sound):
    assert key_of(chapter, arm, old, new) == sound(chapter, arm)


def other_code(free: Sequence[str]):
    "The code of another function that closes over the same names"
    held = "".join(f"{name}, " for name in free)
    file, space = f"<ipython-broken-{'-'.join(free)}>", {}
    text = f"def make({held}):\n    def broken(*args, **kwargs):\n        return ({held})\n    return broken\n"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), space)
    return space["make"](*free).__code__


@contextmanager
def broken(things: Iterable[Callable]) -> Iterator[None]:
    "Within this context functions do nothing, and classes have an attribute more"
    kept = [(thing, thing.__code__) for thing in things if isinstance(thing, FunctionType)]
    kinds = [thing for thing in things if isinstance(thing, type)]
    try:
        for f, code in kept:
            f.__code__ = other_code(code.co_freevars)
        for kind in kinds:
            kind.broken = 1
        yield
    finally:
        for f, code in kept:
            f.__code__ = code
        for kind in kinds:
            del kind.broken


def defined(module: ModuleType) -> Iterator[FunctionType]:
    "The functions and methods of a module, without what it holds of others"
    for holder in (module, *(v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__)):
        for value in vars(holder).values():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__ and is_ours(value.__code__.co_filename):
                yield value


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_definition_that_an_arm_reaches_moves_its_key_and_no_other_does(chapter):
    calls = {name: call_of(chapter, name) for name in rows_of(chapter, "CALLS")}
    keys = {name: arm.key(**call) for name, (arm, call) in calls.items()}
    ours = lambda thing: is_ours(thing.__code__.co_filename) if isinstance(thing, FunctionType) else isinstance(thing, type)  # noqa: E731
    walks = {name: walk(arm.function)[0] for name, (arm, _) in calls.items()}
    seen = {id(thing): (thing, name) for name, reach in walks.items() for thing, _ in reach._seen.values() if ours(thing)}
    classes = {id(kind) for reach in walks.values() for kind in reach.names.values()}
    reached = {at: found for at, found in seen.items() if isinstance(found[0], FunctionType) or at in classes}
    stuck = []
    for thing, name in reached.values():
        with broken([thing]):
            arm, call = calls[name]
            stuck += [thing.__qualname__] if arm.key(**call) == keys[name] else []
    assert len(reached) > 5 and not stuck
    found = re.search(r"default_exp +([\w.]+)", "".join(chapter_code.cells(chapter)[0]["source"]))
    homes = [importlib.import_module(f"weightbook.{name}") for name in (found[1], "blocks.training", "blocks.lm", "book.checks")]
    apart = [f for home in homes for f in defined(home) if id(f) not in reached]
    with broken(apart):
        assert len(apart) > 20 and {name: arm.key(**call) for name, (arm, call) in calls.items()} == keys


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("setting", [("SEED", "1"), ("PROFILE", "book")], ids=" ".join)
@pytest.mark.parametrize(("chapter", "arm"), [(chapter, arm) for chapter in CHAPTERS for arm in rows_of(chapter, "CALLS")])
def test_seed_and_profile_move_every_key(chapter, arm, setting, sound, monkeypatch):
    before = sound(chapter, arm)
    monkeypatch.setenv(f"WEIGHTBOOK_{setting[0]}", setting[1])
    assert key_of(chapter, arm) != before


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_arm_of_the_page_has_a_row(chapter):
    marked = [node.name for cell in chapter_code.cells(chapter) if cell["cell_type"] == "code"
              for node in ast.walk(ast.parse("".join(cell["source"]))) if isinstance(node, ast.FunctionDef)
              and any(isinstance(d, ast.Name) and d.id == "arms" for d in node.decorator_list)]
    assert sorted(marked) == sorted(rows_of(chapter, "CALLS"))
