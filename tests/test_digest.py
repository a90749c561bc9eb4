"""What moves the digest of what runs, and what leaves it alone."""

import ast
import functools
import importlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from weightbook.book.digest import CannotDigest, ChangedSince, Reach, _holds, page_digest, walk

ROOT = Path(__file__).resolve().parents[1]

# what is edited -> old text, new text; all of it is reached from `arm` of the module below
MODULE = '''
"""A module"""
import functools
import random
from dataclasses import dataclass
import numpy as np
from scipy.stats import norm

RATE = 0.5
TABLE = {}
GRID = np.arange(4.0)


def entry(name):
    "Fill the table"
    def put(function):
        TABLE[name] = function
        return function
    return put


@entry("double")
def double(x, scale=2.0):
    return x * scale  # twice


@entry("square")
def square(x):
    return x * x


class Base:
    gain = 3.0

    def run(self, x):
        return self.gain * x


@dataclass(frozen=True)
class Child(Base):
    shift: float = 1.0

    def call(self, x):
        """Shifted"""
        return self.run(x) + self.shift


def make(k):
    def inner(x):
        return x + k
    return inner


add = make(4)
part = functools.partial(double, scale=5.0)


@functools.lru_cache(maxsize=8)
def slow(x):
    return x - 6


def recursive(n):
    return n if n < 1 else recursive(n - 1)


def unreached(x):
    return x


CHANCE = random.Random(0)


def random_arm(seed):
    return CHANCE.random()


def arm(seed, *, jobs=1):
    child = Child()
    table = [f(seed) for f in TABLE.values()]
    return child.call(seed) + sum(table) + add(seed) + part(seed) + slow(seed) + recursive(2) + RATE + GRID[0] + norm.cdf(0)
'''
EDITS = {
    "a function in a table": ("return x * x", "return x * x * x"),
    "a function that a decorator registers": ('@entry("square")\ndef', '@entry("cube")\ndef'),
    "a default argument": ("scale=2.0", "scale=2.5"),
    "a constant": ("RATE = 0.5", "RATE = 0.6"),
    "an array": ("np.arange(4.0)", "np.arange(5.0)"),
    "a base class": ("return self.gain * x", "return self.gain * x * x"),
    "a class attribute": ("gain = 3.0", "gain = 3.5"),
    "a default of a dataclass": ("shift: float = 1.0", "shift: float = 1.5"),
    "how a dataclass is made": ("@dataclass(frozen=True)", "@dataclass(frozen=True, order=True)"),
    "a method": ("self.run(x) + self.shift", "self.run(x) - self.shift"),
    "the value in a closure": ("add = make(4)", "add = make(5)"),
    "the code of a closure": ("return x + k", "return x - k"),
    "an argument of a partial": ("scale=5.0", "scale=5.5"),
    "a cached function": ("return x - 6", "return x - 7"),
    "a recursive function": ("n if n < 1", "n if n < 2"),
    "the arm": ("+ RATE", "- RATE"),
}
SAME = {
    "a comment": ("  # twice", "  # by two"),
    "a docstring": ('"""Shifted"""', '"""Moved"""'),
    "a docstring of the module": ('"""A module"""', '"""The module"""'),
    "an annotation": ("def square(x):", "def square(x: float) -> float:"),
    "layout": ("return x * x\n", "return (x *\n            x)\n"),
    "a function that is not reached": ("def unreached(x):\n    return x", "def unreached(x):\n    return -x"),
    "how many at once": ("jobs=1", "jobs=2"),
}


def load(folder: Path, text: str, monkeypatch):
    "The text as a freshly imported module"
    monkeypatch.syspath_prepend(folder)
    (folder / "edited_module.py").write_text(text)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    sys.modules.pop("edited_module", None)
    importlib.invalidate_caches()
    return importlib.import_module("edited_module")


@pytest.fixture
def before(tmp_path, monkeypatch) -> str:
    return Reach()(load(tmp_path, MODULE, monkeypatch).arm)


def edited(old: str, new: str) -> str:
    assert MODULE.count(old) == 1
    return MODULE.replace(old, new)


@pytest.mark.parametrize("edit", EDITS)
def test_what_runs_moves_the_digest(edit, before, tmp_path, monkeypatch):
    assert Reach()(load(tmp_path, edited(*EDITS[edit]), monkeypatch).arm) != before


@pytest.mark.parametrize("edit", SAME)
def test_what_does_not_run_leaves_it(edit, before, tmp_path, monkeypatch):
    assert Reach()(load(tmp_path, edited(*SAME[edit]), monkeypatch).arm) == before


def test_a_table_whose_functions_change_places_moves_it(before, tmp_path, monkeypatch):
    module = load(tmp_path, MODULE, monkeypatch)
    module.TABLE.update(double=module.square, square=module.double)
    assert Reach()(module.arm) != before


def test_a_patched_function_moves_it(before, tmp_path, monkeypatch):
    module = load(tmp_path, MODULE, monkeypatch)
    monkeypatch.setattr(module, "recursive", lambda n: 0)
    assert Reach()(module.arm) != before


LEADS_ON = '''
import contextvars, functools
import numpy as np
import torch

LIST, TABLE, NESTED, SET, FREE = [1, 2], {"a": 1}, {"deep": [{"deeper": (3, [4])}]}, {1, 2}, 5
ARRAY, TENSOR, LIMIT = np.arange(3), torch.zeros(2), contextvars.ContextVar("limit", default=1)

class Base:
    gain = 1

class Thing(Base):
    def __init__(self):
        self.state = [1]
    def call(self):
        return self.gain

class Slotted:
    __slots__ = ("value",)

class Kept:
    said = "a"
    def __digest__(self):
        return self.said, 1

THING, SLOTTED, KEPT = Thing(), Slotted(), Kept()
SLOTTED.value = 1

def add(x, y=1, *, z=2):
    return x + y + z

def other(x):
    return x

def make(k):
    def inner(x):
        return x + k
    return inner

added, part = make([1]), functools.partial(add, LIST, y=TABLE)

@functools.cache
def kept(x):
    return x + FREE

def arm(seed):
    found = LIST, TABLE, NESTED, SET, ARRAY, TENSOR, LIMIT, THING, SLOTTED, KEPT, undefined_yet, sorted
    return found, add(seed), added(seed), part(), kept(seed), Thing().call()
'''
# what is put in the place of something, after a walk that came by it
PUT = {
    "a list": lambda m: m.LIST.append(3), "a table": lambda m: m.TABLE.update(a=2), "a set": lambda m: m.SET.add(3),
    "a table's order": lambda m: (m.TABLE.update(b=1), m.TABLE.update(a=m.TABLE.pop("a"))),
    "deep inside": lambda m: m.NESTED["deep"][0]["deeper"][1].append(5),
    "an array": lambda m: m.ARRAY.__setitem__(0, 9), "a tensor": lambda m: m.TENSOR.fill_(1.0),
    "a context": lambda m: m.LIMIT.set(2), "a variable": lambda m: setattr(m, "FREE", 6),
    "a variable of the same worth": lambda m: setattr(m, "FREE", 5.0), "a new name": lambda m: setattr(m, "undefined_yet", 1),
    "a builtin": lambda m: setattr(m, "sorted", list), "a function": lambda m: setattr(m, "add", m.other),
    "the code of a function": lambda m: setattr(m.add, "__code__", m.other.__code__),
    "a default": lambda m: setattr(m.add, "__defaults__", (2,)), "a keyword": lambda m: m.add.__kwdefaults__.update(z=3),
    "a closure": lambda m: setattr(m.added.__closure__[0], "cell_contents", [2]),
    "in a closure": lambda m: m.added.__closure__[0].cell_contents.append(2),
    "an attribute of a class": lambda m: setattr(m.Base, "gain", 2), "a method": lambda m: setattr(m.Thing, "call", m.other),
    "an attribute": lambda m: setattr(m.THING, "state", [2]), "in an attribute": lambda m: m.THING.state.append(2),
    "a new attribute": lambda m: setattr(m.THING, "more", 1), "a slot": lambda m: setattr(m.SLOTTED, "value", 2),
    "what it says of itself": lambda m: setattr(m.KEPT, "said", "b"), "a partial": lambda m: setattr(m, "part", m.kept),
    "a base": lambda m: setattr(m.Thing, "__bases__", (m.Kept,)),
}


@pytest.mark.parametrize("change", PUT)
def test_a_walk_holds_until_something_is_put_in_the_place_of_something(change, tmp_path, monkeypatch):
    module = load(tmp_path, LEADS_ON, monkeypatch)
    reach, before = walk(module.arm)
    assert _holds(reach) and walk(module.arm)[0] is reach and before == Reach()(module.arm)
    PUT[change](module)
    assert not _holds(reach)
    assert walk(module.arm)[1] == Reach()(module.arm) != before


def test_a_walk_does_not_hold_when_its_file_was_written(tmp_path, monkeypatch):
    module = load(tmp_path, LEADS_ON, monkeypatch)
    reach, before = walk(module.arm)
    (tmp_path / "edited_module.py").write_text(LEADS_ON)
    assert not _holds(reach) and walk(module.arm)[1] == before
    (tmp_path / "edited_module.py").write_text(LEADS_ON.replace("x + y", "x - y"))
    with pytest.raises(ChangedSince):
        walk(module.arm)


def test_a_file_that_was_edited_after_its_import_is_refused(tmp_path, monkeypatch):
    module = load(tmp_path, MODULE, monkeypatch)
    (tmp_path / "edited_module.py").write_text(edited(*EDITS["a method"]))
    with pytest.raises(ChangedSince, match="edited_module.py changed since `Child.call` was imported: restart the kernel"):
        Reach()(module.arm)


def test_what_has_no_content_is_refused_by_name(tmp_path, monkeypatch):
    module = load(tmp_path, MODULE, monkeypatch)
    with pytest.raises(CannotDigest, match="`CHANCE.random`: a random.Random has no content.*pass what it is made from"):
        Reach()(module.random_arm)


@pytest.mark.parametrize("value", [torch.Generator(), open(os.devnull), object.__subclasses__, iter([])], ids=type)
def test_things_without_content(value):
    if callable(value):
        Reach()(value)
    else:
        with pytest.raises(CannotDigest):
            Reach()(value)


PAIRS = [
    (1, 1.0), (1, True), ("1", 1), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (0.0, -0.0),
    (torch.zeros(2), torch.zeros(2, dtype=torch.float64)), (torch.zeros(2, 1), torch.zeros(2)),
    (float("nan"), float("inf")),
    (functools.partial(max, 1), functools.partial(max, 2)), (int, float), ({1, 2}, {1, 3}), (torch.float32, torch.bfloat16),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=str)
def test_values_that_differ(one, other):
    assert Reach()(one) == Reach()(one) != Reach()(other)


def test_sets_have_no_order():
    assert Reach()({"b", "a", "c"}) == Reach()({"c", "a", "b"})


SCRIPT = """
import sys
sys.path[:0] = {places!r}
from weightbook.book.digest import Reach
import edited_module
print(Reach()(edited_module.arm))
"""


def other_pythons() -> list[str]:
    names = [f"python3.{minor}" for minor in range(11, 15)]
    found = {shutil.which(name) for name in names} | {str(p) for p in Path.home().glob(".pyenv/versions/3.1[1-9]*/bin/python")}
    works = lambda python: subprocess.run([python, "-c", ""], capture_output=True).returncode == 0  # noqa: E731
    return sorted(filter(works, found - {None}))


@pytest.mark.parametrize("python", other_pythons(), ids=lambda path: Path(path).parts[-3])
def test_the_digest_is_the_same_under_every_python(python, tmp_path):
    plain = MODULE.replace("import numpy as np\nfrom scipy.stats import norm\n", "").replace("np.arange(4.0)", "(0.0,)")
    plain = plain.replace(" + norm.cdf(0)", ' + len(f"{seed:>{3}} {x!r}" if seed else "")')
    plain = plain.replace("child = Child()", "child, x = Child(), 1")
    (tmp_path / "edited_module.py").write_text(plain)
    script = SCRIPT.format(places=[str(ROOT), str(tmp_path)])
    digests = []
    for program in (sys.executable, python):
        done = subprocess.run([program, "-c", script], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        digests.append(done.stdout)
    assert digests[0] == digests[1]


# a change in the library -> where, and what it is replaced by; each left a finished arm "fresh" before
LIBRARY = {
    "arctan becomes tanh": ("weightbook.reparam.compander", "_SHAPES"),
    "forward gives zeros": ("weightbook.reparam.compander", "_Compand.forward"),
    "twice the loss": ("weightbook.blocks.training", "_take_step"),
}


def _broken(place: tuple[str, str], monkeypatch) -> None:
    module = importlib.import_module(place[0])
    owner, _, name = f".{place[1]}".rpartition(".")
    target = functools.reduce(getattr, filter(None, owner.split(".")), module)
    old = getattr(target, name)
    if isinstance(old, dict):
        monkeypatch.setitem(old, "arctan", old["tanh"] if "tanh" in old else next(v for k, v in old.items() if k != "arctan"))
    else:
        monkeypatch.setattr(target, name, staticmethod(lambda *a, **k: 0.0) if owner else lambda *a, **k: 0.0)


@pytest.mark.parametrize("change", LIBRARY)
def test_a_change_of_the_library_moves_what_reaches_it(change, monkeypatch):
    from weightbook.reparam import compander

    arm = lambda: (compander.weight_compander, importlib.import_module("weightbook.blocks.training").fit)  # noqa: E731
    before = Reach()(arm())
    _broken(LIBRARY[change], monkeypatch)
    assert Reach()(arm()) != before


RACES = ["adapting.weight_signatures", "estimation.dpp_least_squares", "estimation.soundscape_kmeans", "lowbit.adadim",
         "lowbit.quantizers", "lowbit.wina", "reparam.compander", "sharing.ponita", "weighting.weighted_cfm"]


@pytest.mark.parametrize("name", RACES)
def test_the_digest_of_a_race_covers_how_it_is_timed(name, monkeypatch):
    from weightbook.book import bench

    race = importlib.import_module(f"weightbook.{name}").benchmark
    before = walk(race)[1]
    sample = bench._cpu_sample
    monkeypatch.setattr(bench, "_cpu_sample", lambda call, calls: sample(call, calls))
    assert walk(race)[1] != before


IMPORTS = """
def arm(x):
    from weightbook.book.checks import rms_error as apart
    import weightbook.book.tables
    return apart(x, x)


def table(rows):
    from weightbook.book import tables
    return tables.table(rows)
"""


def test_a_name_that_a_function_imports_for_itself_is_followed(tmp_path, monkeypatch):
    from weightbook.book import checks

    module = load(tmp_path, IMPORTS, monkeypatch)
    before, other = walk(module.arm)[1], walk(module.table)[1]
    assert "weightbook.book.checks.rms_error" in walk(module.arm)[0].names
    monkeypatch.setattr(checks, "rms_error", lambda a, b: 0.0)
    assert walk(module.arm)[1] != before and walk(module.table)[1] == other


MACHINES = {"interpreted": "1", "compiled": "0", "without Triton": "1"}
REACHES_KERNELS = """
import sys
if {name!r} == "without Triton":
    sys.modules["triton"] = None
from weightbook.blocks import kernels
from weightbook.book.digest import Reach
from weightbook.estimation import soundscape_kmeans
from weightbook.lowbit import adadim
from weightbook.sharing import ponita
print(kernels.HAS_TRITON, kernels.INTERPRETED)
for thing in (kernels.use_triton, kernels.assert_parity, soundscape_kmeans.benchmark, adadim.benchmark, ponita.benchmark):
    print(Reach()(thing))
"""


def test_how_kernels_run_here_is_no_part_of_a_digest():
    "A machine with a GPU, or one without Triton, finds what was made on CPUs: the device is in the key already"
    found = {}
    for name, interpret in MACHINES.items():
        place = {"TRITON_INTERPRET": interpret, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", REACHES_KERNELS.format(name=name)], capture_output=True,
                              text=True, env=os.environ | place)  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[name], *digests = done.stdout.splitlines()
        assert digests == found.setdefault("digests", digests) and len(set(digests)) == 5
    if importlib.util.find_spec("triton"):
        assert [found[name] for name in MACHINES] == ["True True", "True False", "False False"]


def test_a_switch_of_a_page_with_another_value_moves_its_key(tmp_path, monkeypatch):
    digests = [Reach()(load(tmp_path, f"INTERPRETED = {value!r}\ndef arm():\n    return INTERPRETED\n", monkeypatch).arm)
               for value in ("yes", "no")]
    assert digests[0] != digests[1]


# filled when modules are imported; what they hold is what runs
REGISTRIES = {"corruptions._CORRUPT", "quantizers.SAVED"}


def test_no_module_that_an_arm_can_reach_keeps_a_cache_of_its_own():
    "A session that fills it would move the key; `functools.cache` is followed to the function, not to what it holds"
    grows = {"append", "add", "update", "setdefault", "pop", "clear", "extend"}
    found = set()
    for path in sorted((ROOT / "weightbook").glob("*/*.py")):
        if path.stem in ("arms", "digest"):  # they are not followed
            continue
        tree = ast.parse(path.read_text())
        held = {t.id for s in tree.body if isinstance(s, ast.Assign | ast.AnnAssign)
                for t in (s.targets if isinstance(s, ast.Assign) else [s.target]) if isinstance(t, ast.Name)}
        for f in ast.walk(tree):
            for node in ast.walk(f) if isinstance(f, ast.FunctionDef) else ():
                target = node.value if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del) else None
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in grows:
                    target = node.func.value
                if isinstance(target, ast.Name) and target.id in held - {a.arg for a in f.args.args}:
                    found.add(f"{path.stem}.{target.id}")
                if isinstance(node, ast.Global):
                    found |= {f"{path.stem}.{name}" for name in node.names}
    assert found <= REGISTRIES, found - REGISTRIES


def test_one_corruption_moves_the_whole_table(monkeypatch):
    from weightbook.blocks import corruptions

    before = Reach()(corruptions.corrupt)
    monkeypatch.setitem(corruptions._CORRUPT, "gaussian_noise", lambda x, strength, generator: x * 0)
    assert Reach()(corruptions.corrupt) != before


def test_the_digest_of_a_page_follows_its_imports(monkeypatch):
    from weightbook.blocks import training

    imports = "from weightbook.blocks.training import fit\nimport weightbook.blocks.nets as nets"
    cells = [imports, "fit; nets.MLP", "%matplotlib inline"]
    before = page_digest(cells)
    assert page_digest([*cells, "1 + 1"]) == before
    monkeypatch.setattr(training, "_settle", lambda *a: None)
    assert page_digest(cells) != before


def test_every_public_callable_of_the_library_can_be_digested():
    failed = []
    for path in sorted((ROOT / "weightbook").glob("*/*.py")):
        if path.stem == "__init__" or path.parent.name == "book":
            continue
        module = importlib.import_module(f"weightbook.{path.parent.name}.{path.stem}")
        for name in module.__all__:
            try:
                Reach()(getattr(module, name))
            except CannotDigest as error:
                failed.append(f"{path.stem}.{name}: {error}")
    assert not failed, textwrap.shorten("; ".join(failed), 2000)
