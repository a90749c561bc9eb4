"""What an arm of a chapter reaches moves its key when it changes; what it does not reach leaves the key alone.

A chapter's rows lie in `chapters/arm_keys_<chapter>.py`:

    CALLS = {"selection": dict(seed=0)}                                  # arm -> the arguments of a call
    MOVES = {"the weights": ("selection", "expit(code", "tanh(code")}    # what -> arm, text of the page, what replaces it
    STAYS = {"a check": ("selection", "…", "…")}                         # the same, of what the arm does not reach
    LIBRARY = {"the loader": ("selection", "weightbook.blocks.data", "fetch_file")}   # what -> arm, module, name
"""

import ast
import importlib
import importlib.util
import linecache
from collections.abc import Iterator
from pathlib import Path

import chapter_code
import pytest

from weightbook.book.digest import loaded_names

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


def needed(cells: list[list[ast.stmt]], name: str) -> Iterator[tuple[int, list[ast.stmt]]]:
    "The statements of each cell that `name` comes from, by way of what they read; a function's name means the function"
    binds: dict[str, list[ast.stmt]] = {}
    for statement in (statement for cell in cells for statement in cell):
        for one in bound(statement):
            binds.setdefault(one, []).append(statement)
    functions = {one: [s for s in found if isinstance(s, ast.FunctionDef)] for one, found in binds.items()}
    kept, waiting, seen = set(), [name], set()
    while waiting:
        if (one := waiting.pop()) not in seen:
            seen.add(one)
            for statement in functions.get(one) or binds.get(one, ()):
                kept.add(id(statement))
                waiting += needs(statement)
    for index, cell in enumerate(cells):
        if chosen := [statement for statement in cell if id(statement) in kept]:
            yield index, chosen


def arm_of(chapter: str, name: str, old: str = "", new: str = "", at: str = "page"):
    "An arm as its page defines it, with one text replaced; nothing of the page runs but what the arm needs"
    sources = ["".join(cell["source"]) for cell in chapter_code.cells(chapter) if cell["cell_type"] == "code"]
    if old:
        index = chapter_code.place(sources, old)
        sources[index] = sources[index].replace(old, new)
    space = {"__name__": "__main__"}
    for index, statements in needed([ast.parse(source).body for source in sources], name):
        file, text = f"<ipython-{chapter}-{index}-{at}>", sources[index]
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(ast.Module(statements, []), file, "exec"), space)
    return space[name]


def key_of(chapter: str, name: str, *change: str) -> str:
    return arm_of(chapter, name, *change).key(**rows_of(chapter, "CALLS")[name])


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


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("chapter", "arm", "module", "name"), every("LIBRARY"))
def test_a_change_of_the_library_moves_the_key(chapter, arm, module, name, sound, monkeypatch):
    before = sound(chapter, arm)
    home = importlib.import_module(module)
    original = getattr(home, name)
    monkeypatch.setattr(home, name, lambda *args, **kwargs: original(*args, **kwargs))  # the page still needs its data
    assert key_of(chapter, arm) != before


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
