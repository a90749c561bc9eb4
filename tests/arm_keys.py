"""The definitions of a chapter's page in one namespace, and which changes move the key of one of its arms.

A page is run without its outputs: imports, settings and everything that defines; cells that train or show are left out. So
an arm of the page can be asked for its key, or called with tiny sizes, in a second."""

import importlib
import itertools
import json
import linecache
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from weightbook.book.pages import find_notebook


@dataclass(frozen=True)
class Page:
    "Which cells of a chapter make its arms"

    module: str              # of the exported code, as in "weightbook.reparam.compander"
    cells: tuple[str, ...]   # texts, each in the one cell that is run, in the order of the page


PAGES = {
    "compander": Page("weightbook.reparam.compander", (
        "import gradcheck", "import Arms", "S = load_settings()", "SIZES = S.pick(", "arms = Arms(", "TABLE_1 = {",
        "def _vgg(",
        "class _Logits", "def _resnet(", "NETWORKS = (", "def _digit_net(", "def build_network(", "class Task:",
        "class Way:", "def reparameterise(", "def _split(",
        "def augment(", "def _weights(", "def _note(", "def _class_loss(", "def _score(", "class _Watch:",
        "NEAR = (", "def _left(", "def run(task", "def compared(",
        "TASKS = {", "FILES = {", "def paper_task(", "def at_hand(",
    )),
    "weighted_cfm": Page("weightbook.weighting.weighted_cfm", (
        "import show_doc", "import Arms", "S = load_settings()", "SIZES = S.pick(", "arms = Arms(", "def ideal(seed",
        "def trained(", "def evaluated(", "SIDE = SIZES", "def image_data(", "def features(", "FEATURES = S.",
        "def truth(",
        "def uneven(", "SAMPLERS = S.", "def unet(", "def judged(",
    )),
}
_RUNS = itertools.count()


def page(chapter: str, cache: Path, edits: Mapping[str, str] | None = None) -> dict:
    "The namespace of a chapter's arms in the quick profile; `edits` are texts of its cells and what is put in their place"
    from weightbook.book.settings import load_settings

    about, found = PAGES[chapter], []
    cells = json.loads(find_notebook(chapter).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for text in about.cells:
        hits = [source for source in sources if text in source]
        assert len(hits) == 1, f"{text!r} is in {len(hits)} cells"
        found += hits
    module = importlib.import_module(about.module)
    space = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    space |= {"__name__": f"page_{chapter}", "own": module}
    for old, new in (edits or {}).items():
        hits = [i for i, source in enumerate(found) if old in source]
        assert len(hits) == 1, f"{old!r} is in {len(hits)} cells"
        found[hits[0]] = found[hits[0]].replace(old, new)
    run = next(_RUNS)
    for index, source in enumerate(found):
        _execute(source, f"<ipython-{chapter}-{run}-{index}>", space)
        if "load_settings()" in source:
            space["S"] = load_settings(profile="quick", seed=0, cache=cache)
    return space


def _execute(source: str, name: str, space: dict) -> None:
    "One cell, without the magic and the calls that end it"
    source = re.sub(r"^use_style\(\)$", "", source, flags=re.MULTILINE)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), space)


def key_tests(
    chapter: str,
    arm: Callable[[dict], str],                 # the key of an arm of the page
    edits: Mapping[str, tuple[str, str]],       # what is broken on the page -> text of a cell, and what is put in its place
    library: Mapping[str, tuple[str, str]],     # what is broken in the library -> module and name
    apart: Mapping[str, tuple[str, str]],       # changes that the arm does not reach: of the page
    apart_library: Mapping[str, tuple[str, str]],  # and of the library
) -> type:
    "Every change that an arm reaches moves its key, and no other does"

    class TestKeys:
        @pytest.fixture(scope="class")
        def sound(self, tmp_path_factory):
            return page(chapter, tmp_path_factory.mktemp("cache"))

        def edited(self, change, tmp_path):
            return arm(page(chapter, tmp_path, dict([change])))

        @pytest.mark.parametrize("name", edits)
        def test_a_change_of_the_page_moves_the_key(self, name, sound, tmp_path):
            assert self.edited(edits[name], tmp_path) != arm(sound)

        @pytest.mark.parametrize("name", apart)
        def test_a_change_elsewhere_on_the_page_does_not(self, name, sound, tmp_path):
            assert self.edited(apart[name], tmp_path) == arm(sound)

        @pytest.mark.parametrize("name", library)
        def test_a_change_of_the_library_moves_the_key(self, name, sound, monkeypatch):
            before = arm(sound)
            break_it(*library[name], monkeypatch)
            assert arm(sound) != before

        @pytest.mark.parametrize("name", apart_library)
        def test_a_change_elsewhere_in_the_library_does_not(self, name, sound, monkeypatch):
            before = arm(sound)
            break_it(*apart_library[name], monkeypatch)
            assert arm(sound) == before

    return TestKeys


def break_it(module: str, name: str, monkeypatch) -> None:
    "Put something else in the place of a definition: a function, a method, or the first entry of a table"
    owner = importlib.import_module(module)
    *inner, last = name.split(".")
    for part in inner:
        owner = getattr(owner, part)
    old = getattr(owner, last)
    if isinstance(old, dict):
        first, other = list(old)[:2]
        monkeypatch.setitem(old, first, old[other])
    else:
        put = lambda *args, **kwargs: 0.0  # noqa: E731
        monkeypatch.setattr(owner, last, staticmethod(put) if isinstance(owner, type) else put)
