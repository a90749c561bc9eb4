"""Print what public functions promise: gradient, compile, export, vmap, float64, bfloat16, NaN.

`python tests/promise_table.py` tries every function with a fast path, kernel forced; `--all` adds, without compile, export and
vmap, every public function that takes floating-point tensors, with the right call of the fuzz table. `yes` and `no` were seen;
`refused` is an error that names its argument; `–` means that there is nothing to try.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten  # noqa: E402

COLUMNS = ("grad", "compile", "export", "vmap", "float64", "bfloat16", "NaN")


def tried(call) -> str:
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            return {True: "yes", False: "no", None: "–"}[call()]
    except NotImplementedError as error:
        return "refused" if "`" in str(error) else "no"
    except Exception as error:  # whatever is raised is the answer
        return "refused" if str(error).startswith("`") else "no"


def floats(value) -> list[Tensor]:
    return [v for v in tree_leaves(value) if isinstance(v, Tensor) and v.is_floating_point()]


def properties(function, args, trace: bool, again) -> dict[str, str]:
    "`args` are positional and keyword arguments in one tree; `again` makes them anew"

    def with_floats(change):
        flat, form = tree_flatten(again())
        flat = [change(v) if isinstance(v, Tensor) and v.is_floating_point() else v for v in flat]
        positional, keywords = tree_unflatten(flat, form)
        out = function(*positional, **keywords)
        return list(out) if hasattr(out, "__next__") else out

    def spoilt(v):
        v = v.detach().clone()
        v.view(-1)[:1] = torch.nan
        return v

    def typed(dtype):
        found = floats(with_floats(lambda v: v.to(dtype)))
        return None if not found else all(v.dtype == dtype for v in found)

    def gradient():
        found = floats(with_floats(lambda v: v.detach().clone().requires_grad_()))
        return None if not found else any(v.requires_grad for v in found)

    def not_a_number():
        import fuzz

        found = with_floats(spoilt)
        return None if not floats(found) and not isinstance(found, float | dict) else fuzz.has_nan(found)

    row = dict.fromkeys(COLUMNS, "–")
    row |= {"grad": tried(gradient), "float64": tried(lambda: typed(torch.float64)),
            "bfloat16": tried(lambda: typed(torch.bfloat16)), "NaN": tried(not_a_number)}  # fmt: skip
    if trace:
        inputs = args[0]

        class Module(nn.Module):
            def forward(self, *given):
                return function(*given)

        def compiled():
            torch._dynamo.reset()
            return torch.compile(function, fullgraph=True, backend="aot_eager")(*inputs) is not None

        row["compile"] = tried(compiled)
        row["export"] = tried(lambda: torch.export.export(Module(), inputs).module()(*inputs) is not None)
        row["vmap"] = tried(lambda: torch.vmap(function)(*(torch.stack([v, v]) for v in inputs)) is not None)
    return row


def fast() -> dict[str, dict]:
    import test_kernel_rules as rules

    with rules.forced():
        return {name: properties(f, (args, {}), True, lambda args=args: (args, {}))
                for name, (f, _, args) in rules.FUNCTIONS.items()}  # fmt: skip


def everything() -> dict[str, dict]:
    import fuzz

    for found in sorted((ROOT / "tests" / "chapters").glob("fuzz_*.py")):
        importlib.import_module(f"chapters.{found.stem}")
    rows = {}
    for name, (module, function) in fuzz.public().items():
        entry = fuzz.TABLE.get(name)
        if callable(entry) and not name.startswith("book.") and floats(fuzz.unpacked(entry(module))):
            again = lambda entry=entry, module=module: fuzz.unpacked(entry(module))  # noqa: E731
            with fuzz.limit(60):
                rows[name] = properties(function, again(), False, again)
    return rows


def main() -> None:
    warnings.simplefilter("ignore")
    rows = fast() | (everything() if "--all" in sys.argv else {})
    print("| function |", " | ".join(COLUMNS), "|\n|---|", "---|" * len(COLUMNS), sep="")
    for name, row in rows.items():
        print(f"| {name} |", " | ".join(row[c] for c in COLUMNS), "|")


if __name__ == "__main__":
    main()
