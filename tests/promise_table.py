"""What every public function and module that takes tensors promises: gradient, compile, export, vmap, float64, bfloat16, NaN.

Right calls are those of the fuzz table; modules, converted models and functions without an entry there have theirs in
tests/chapters/promises_<chapter>.py, as `ROWS`. A cell compares values with the plain call:

- `grad`: autograd's slope in float64 along a random direction of all inputs (and parameters) is the one of two plain calls;
- `compile`: `torch.compile(fullgraph=True, backend="eager")`; `export`: `torch.export.export`; `vmap`: two inputs at once;
- `float64`, `bfloat16`: the result keeps the dtype, and its value within 1e-3 and 10 % of the largest;
- `NaN`: one NaN in each input in turn comes out again, or is refused by name.

`yes` was seen, `refused` is an error that names an argument, `–` has nothing to try, everything else is `no` and must stand
with its reason in `NO` of the chapter's file. `python tests/promise_table.py [beginnings of names]` prints the table as
Markdown, and those with a fast path once more with the kernel forced.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import inspect
import io
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import fuzz  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten  # noqa: E402

COLUMNS = ("grad", "compile", "export", "vmap", "float64", "bfloat16", "NaN")
for found in sorted((ROOT / "tests" / "chapters").glob("fuzz_*.py")):
    importlib.import_module(f"chapters.{found.stem}")
FILES = [importlib.import_module(".".join(f.relative_to(ROOT / "tests").with_suffix("").parts))
         for f in sorted((ROOT / "tests").rglob("promises_*.py"))]  # fmt: skip
# name -> () -> callable, arguments[, keywords]
ROWS = {f"{f.HOME}.{name}": make for f in FILES for name, make in f.ROWS.items()}
NO = {(f"{f.HOME}.{name}", column): reason for f in FILES for (columns, reason), names in f.NO.items()
      for column in columns.split() for name in names.split()}  # fmt: skip
SLOW = {f"{f.HOME}.{name}" for f in FILES for name in getattr(f, "SLOW", ())}
UNTRIED = {f"{f.HOME}.{name}": reason for f in FILES for name, reason in f.UNTRIED.items()}



# ---- rows ------------------------------------------------------------------------------------------------------------


def right_call(name: str) -> tuple[Callable, tuple]:
    "A function and its positional and keyword arguments, made anew; arrays become tensors where the function takes those too"
    if name in ROWS:
        function, args, *keywords = ROWS[name]()
        return function, (args, keywords[0] if keywords else {})
    module, function = fuzz.public()[name]
    positional, keywords = fuzz.unpacked(fuzz.TABLE[name](module))
    for parameter in inspect.signature(function).parameters.values():
        value = keywords.get(parameter.name)
        if isinstance(value, np.ndarray) and "Tensor" in str(parameter.annotation):
            keywords[parameter.name] = torch.from_numpy(value.copy())
    return function, (tuple(positional), keywords)


def is_input(value) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)


def smooth(value) -> bool:
    return value.is_floating_point() or value.is_complex()


def takes_tensors(name: str) -> bool:
    "Whether the right call of the fuzz table has tensors; what takes a model has a row for the model that it makes"
    module, function = fuzz.public()[name]
    if name.startswith("book.") or not callable(fuzz.TABLE.get(name)) or inspect.isclass(function):
        return False
    leaves = tree_leaves(right_call(name)[1])
    return any(map(is_input, leaves)) and not any(isinstance(v, nn.Module) for v in leaves)


@functools.cache
def names() -> tuple[str, ...]:
    return tuple(n for n in dict.fromkeys([*filter(takes_tensors, fuzz.public()), *ROWS]) if n not in UNTRIED)


def tensors(found, depth: int = 0) -> list[Tensor]:
    "Every tensor and number of a result, in order"
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, float) or isinstance(found, int) and not isinstance(found, bool):
        return [torch.tensor(float(found))]
    if isinstance(found, dict):
        found = list(found.values())
    elif isinstance(found, nn.Module):
        found = list(found.state_dict().values())
    elif hasattr(found, "__dataclass_fields__") and depth < 3:
        found = [getattr(found, field) for field in found.__dataclass_fields__]
    return [v for part in found for v in tensors(part, depth + 1)] if isinstance(found, (list, tuple)) else []


def agree(found: list[Tensor], wanted: list[Tensor], within: float) -> bool:
    if [f.shape for f in found] != [w.shape for w in wanted]:
        return False
    for f, w in zip(found, wanted, strict=True):
        if not smooth(w):
            if not torch.equal(f, w):
                return False
            continue
        f, w = (v.detach().to(torch.complex128 if w.is_complex() else torch.float64) for v in (f, w))
        least = within * float(w.abs().nan_to_num().max()) if w.numel() else 0.0
        if not torch.allclose(f, w, rtol=within, atol=least, equal_nan=True):
            return False
    return True


def seed() -> None:
    torch.manual_seed(0), np.random.seed(0)


class Row:
    "A right call, with its tensors in the open"

    def __init__(self, name: str):
        self.function, (positional, keywords) = right_call(name)
        self.flat, self.form = tree_flatten((positional, keywords))
        self.at = [i for i, v in enumerate(self.flat) if is_input(v)]
        self.inputs = [self.flat[i] for i in self.at]
        self.floating = [i for i, v in enumerate(self.inputs) if smooth(v)]
        # where all tensors are arguments themselves a trace need not follow `tree_unflatten`
        self.positional = [None if is_input(v) else v for v in positional]
        self.keywords = {key: None if is_input(v) else v for key, v in keywords.items()}
        self.places = [*(i for i, v in enumerate(positional) if is_input(v)), *(k for k, v in keywords.items() if is_input(v))]

    def run(self, *inputs: Tensor, function: Callable | None = None):
        call = self.function if function is None else function
        if len(self.places) == len(self.at):
            positional, keywords = list(self.positional), dict(self.keywords)
            for place, value in zip(self.places, inputs, strict=True):
                (keywords if isinstance(place, str) else positional)[place] = value
            return call(*positional, **keywords)
        flat = list(self.flat)
        for i, value in zip(self.at, inputs, strict=True):
            flat[i] = value
        positional, keywords = tree_unflatten(flat, self.form)
        return call(*positional, **keywords)

    def __call__(self, *inputs: Tensor, function: Callable | None = None) -> list[Tensor]:
        "Tensors of a call that finds the random numbers of all other calls"
        seed()
        return tensors(self.run(*inputs, function=function))

    def typed(self, dtype: torch.dtype) -> tuple[Callable, list[Tensor]]:
        "The function with its parameters, and the inputs, in a dtype; complex inputs stay complex"
        function = copy.deepcopy(self.function).to(dtype) if isinstance(self.function, nn.Module) else self.function
        wide = lambda v: torch.complex128 if v.is_complex() else dtype  # noqa: E731
        return function, [v.detach().to(wide(v)).clone() if smooth(v) else v for v in self.inputs]


def grad(row: Row) -> bool | str | None:
    function, inputs = row.typed(torch.float64)
    given = [inputs[i].requires_grad_() for i in row.floating]
    if isinstance(function, nn.Module):
        given += [p.requires_grad_() for p in function.parameters() if p.is_floating_point()]
    draw = lambda v, seed: torch.randn(v.shape, dtype=v.dtype, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    found = [v for v in row(*inputs, function=function) if smooth(v)]
    if not given or all(v.dtype == torch.float32 and not v.ndim for v in found):  # numbers of Python, that `tensors` wrapped
        return None
    dot = lambda a, b: (a * b.conj()).real.sum() if a.is_complex() else (a * b).sum()  # noqa: E731
    loss = lambda found: sum(dot(v, draw(v, 5).to(v.dtype)) for v in found)  # noqa: E731
    if not any(v.requires_grad for v in found):
        slopes = [None] * len(given)
    else:
        slopes = torch.autograd.grad(loss([v for v in found if v.requires_grad]), given, allow_unused=True)
    ways = [draw(v, 7 + i) for i, v in enumerate(given)]
    ways = [w + w.mT if v.ndim == 2 and v.shape[0] == v.shape[1] and torch.equal(v, v.mT) else w
            for v, w in zip(given, ways, strict=True)]  # a symmetric matrix stays one
    ours = sum(float(dot(g, w)) for g, w in zip(slopes, ways, strict=True) if g is not None)

    def at(step: float) -> float:
        with torch.no_grad():
            for sign in (1, -1):
                for v, w in zip(given, ways, strict=True):
                    v += sign * step * w
                if sign > 0:
                    value = float(loss([v for v in row(*inputs, function=function) if smooth(v)]))
        return value

    for step, within in ((1e-6, 1e-4), (1e-5, 0.05), (1e-3, 0.01)):  # the longer ones for what is computed in float32 inside
        slope = (at(step) - at(-step)) / (2 * step)
        if abs(slope - ours) <= within * max(abs(slope), abs(ours), 1e-2):
            return True
    return f"slope {ours:.3g}, by differences {slope:.3g}"


def compiled(row: Row) -> bool:
    torch._dynamo.reset()
    wanted = row(*row.inputs)
    if isinstance(row.function, nn.Module):
        return agree(row(*row.inputs, function=torch.compile(row.function, fullgraph=True, backend="eager")), wanted, 1e-5)
    fast = torch.compile(row.run, fullgraph=True, backend="eager")
    seed()
    return agree(tensors(fast(*row.inputs)), wanted, 1e-5)


def exported(row: Row) -> bool:
    torch._dynamo.reset()

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.function = row.function

        def forward(self, *inputs):
            return tuple(tensors(row.run(*inputs, function=self.function)))

    wanted = row(*row.inputs)
    program = torch.export.export(Program(), tuple(row.inputs)).module()
    seed()
    return agree(list(program(*row.inputs)), wanted, 1e-5)


def mapped(row: Row) -> bool:
    chosen = row.floating or range(len(row.inputs))
    many = [torch.stack([row.inputs[i], row.inputs[i] * 1.25 if row.floating else row.inputs[i]]) for i in chosen]

    def one(*some):
        inputs = list(row.inputs)
        for i, v in zip(chosen, some, strict=True):
            inputs[i] = v
        return tensors(row.run(*inputs))

    def seeded(*some):
        seed()
        return one(*some)

    wanted = [seeded(*(m[k] for m in many)) for k in range(2)]
    seed()
    return agree(torch.func.vmap(one, randomness="same")(*many), [torch.stack(pair) for pair in zip(*wanted, strict=True)], 1e-5)


def kept(dtype: torch.dtype, within: float, row: Row) -> bool | str | None:
    if not row.floating and not isinstance(row.function, nn.Module):
        return None
    if dtype == torch.bfloat16 and any(v.is_complex() for v in [*row.inputs, *row(*row.inputs)]):
        return None
    function, inputs = row.typed(dtype)
    found, wanted = row(*inputs, function=function), row(*row.inputs)
    wrong = {v.dtype for v, w in zip(found, wanted, strict=True) if v.is_floating_point() and v.dtype != dtype and w.ndim}
    return f"gives {wrong}" if wrong else agree(found, wanted, within) or "another value"


def not_a_number(row: Row) -> bool | str | None:
    said = []
    for i in row.floating:
        inputs = [v.detach().clone() for v in row.inputs]
        if inputs[i].numel():
            inputs[i][(0,) * inputs[i].ndim] = torch.nan
            try:
                seed()
                out = row.run(*inputs)
                seen = fuzz.has_nan(out) or fuzz.keeps_nan(out, inputs[i]) or any(bool(v.isnan().any()) for v in tensors(out))
                said.append(seen or f"input {i} is swallowed")
            except Exception as error:
                if not str(error).startswith("`"):
                    raise
                said.append("refused")
    wrong = [s for s in said if s is not True and s != "refused"]
    return None if not said else wrong[0] if wrong else "refused" if "refused" in said else True


TRIALS = {
    "grad": grad, "compile": compiled, "export": exported, "vmap": mapped,
    "float64": functools.partial(kept, torch.float64, 1e-3), "bfloat16": functools.partial(kept, torch.bfloat16, 0.1),
    "NaN": not_a_number,
}  # fmt: skip


def tried(call: Callable) -> str:
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            found = call()
            return {True: "yes", False: "no: another value", None: "–", "refused": "refused"}.get(found) or f"no: {found}"
    except TimeoutError:
        raise
    except Exception as error:  # whatever else is raised is the answer
        text = " ".join(str(error).split())
        return "refused" if text.startswith("`") else f"no: in {place(error)}, {type(error).__name__}: {text}"[:300]


def place(error: Exception) -> str:
    "The function of ours in which something failed; a compiler tells it in its message"
    frames = [f.name for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(ROOT / "weightbook"))]
    told = re.findall(r'File "[^"]*/weightbook/[^"]*", line \d+, in (\w+)', str(error))
    return (told or frames or ["none of ours"])[-1]


@functools.cache
def properties(name: str) -> dict[str, str]:
    "column -> yes, refused, – or no with what was seen"
    with warnings.catch_warnings(), fuzz.limit(900):
        warnings.simplefilter("ignore")
        row = Row(name)
        if not row(*row.inputs):
            return dict.fromkeys(COLUMNS, "–")
        return {column: tried(lambda trial=trial: trial(Row(name))) for column, trial in TRIALS.items()}


# ---- the table -------------------------------------------------------------------------------------------------------


def forced() -> dict[str, dict[str, str]]:
    "The functions with a fast path, with the kernel forced"
    import test_kernel_rules as rules

    rows = {}
    with rules.forced():
        for name, (function, _, args) in rules.FUNCTIONS.items():
            ROWS[key := f"{name}, kernel forced"] = lambda function=function, args=args: (function, args)
            rows[key] = properties(key)
            del ROWS[key]
    return rows


def markdown(rows: dict[str, dict[str, str]]) -> str:
    "The table, the reasons of every `no` as notes below it, and counts"
    reasons = list(dict.fromkeys(reason for key, reason in NO.items() if key[0] in rows))
    lines = [f"| function | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for name, row in rows.items():
        cells = [said if not said.startswith("no") else f"no ({reasons.index(NO[name, c]) + 1})" if (name, c) in NO else said
                 for c, said in row.items()]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(f"{i}. {reason}" for i, reason in enumerate(reasons, 1)), "", f"| {len(rows)} rows | {' | '.join(COLUMNS)} |",
              "|---|" + "---|" * len(COLUMNS)]  # fmt: skip
    for word in ("yes", "refused", "–", "no"):
        count = Counter(c for row in rows.values() for c, said in row.items() if said.split(":")[0] == word)
        lines.append(f"| {word} | {' | '.join(str(count[c]) for c in COLUMNS)} |")
    return "\n".join(lines)


def main() -> None:
    begin = tuple(sys.argv[1:]) or ("",)
    rows = {name: properties(name) for name in names() if name.startswith(begin)}
    print(markdown(rows if sys.argv[1:] else rows | forced()))


if __name__ == "__main__":
    main()
