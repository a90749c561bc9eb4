"""Compile the book's kernels ahead of time, on a machine without a GPU.

`python tests/aot.py --target sm_90` calls the public functions of `TABLE` on small CPU tensors. Triton is loaded for a
stand-in device, so that every launch comes with the signature and the constants of a real one, is compiled by the real
compiler (which needs no driver), and is never run. What the compiler says of each goes into `bench/aot/<target>/<chapter>.json`.
A new kernel joins by a row of `TABLE` in tests/chapters/aot_<chapter>.py.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}
STORE = ROOT / "bench" / "aot"


@dataclass(frozen=True)
class Row:
    "One launch, or a few, of a public function"

    chapter: str                  # name of the file
    case: str                     # what is called
    call: Callable[[], object]    # calls it
    wide: bool = False            # its kernels must read or write 16 bytes an instruction
    product: bool = False         # its kernels must multiply on tensor cores
    count: int = 0                # weights that one program handles, for instructions a weight; 0: not counted
    bytes: float = 0              # bytes a weight that have to be moved, for the expected share of the floor
    skip: tuple[str, ...] = ()    # targets whose compiler cannot do it, said in the table
    only: str = ""                # kernels that `wide`, `product` and `count` are about; empty: all


# ---- launches are recorded, not run ----------------------------------------------------------------------------------


@dataclass
class Launch:
    "A launch as the compiler sees it"

    row: Row
    function: object
    signature: dict
    constexprs: dict
    attrs: dict
    options: object

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def constants(self) -> dict[str, object]:
        "Named constants, those that Triton makes of equal-to-one integers included"
        names = self.function.arg_names
        return {names[path[0]]: getattr(v, "value", v) for path, v in self.constexprs.items()}

    @property
    def key(self) -> str:
        "Of the kernel's source with what it calls, of the compiler and of the launch"
        import triton

        parts = [triton.__version__, source(self.function), sorted(self.signature.items(), key=str)]
        parts += [sorted((k, str(v)) for k, v in self.constants.items()), sorted(self.attrs.items(), key=str)]
        parts += [self.options.num_warps, self.options.num_stages]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def source(function, seen: frozenset = frozenset()) -> str:
    "Normalised source of a kernel and of the kernels and constants that it names"
    from triton.runtime import JITFunction

    tree = ast.parse(function.src)
    text = ast.dump(tree)
    for name in sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}):
        value = function.fn.__globals__.get(name)
        if isinstance(value, JITFunction) and value.__name__ not in seen | {function.__name__}:
            text += source(value, seen | {function.__name__})
        elif isinstance(value, int | float | str | bool):
            text += f"{name}={value!r}"
    return text


def stand_in(target: str):
    "A driver with a device, a stream and a target, and nothing behind them"
    from triton.backends.compiler import GPUTarget
    from triton.backends.driver import DriverBase

    class StandIn(DriverBase):
        def get_current_target(self):
            return GPUTarget(*TARGETS[target])

        def get_current_device(self):
            return 0

        def get_current_stream(self, device):
            return 0

        def set_current_device(self, device):
            return None

        def get_active_torch_device(self):
            return None

        def get_benchmarker(self):
            return None

        def map_python_to_cpp_type(self, kind):
            return kind

        @staticmethod
        def is_active():
            return True

    return StandIn()


@contextmanager
def recording(found: list[Launch], row: Row) -> Iterator[None]:
    "Within this context every launch is noted in `found`, and nothing is compiled or run"
    from triton.runtime import JITFunction

    def note(self, key, signature, device, constexprs, options, attrs, warmup):
        found.append(Launch(row, self, signature, constexprs, attrs, options))
        return None

    run, compile_ = JITFunction.run, JITFunction._do_compile
    JITFunction.run = lambda self, *args, grid, warmup, **kwargs: run(self, *args, grid=grid, warmup=True, **kwargs)
    JITFunction._do_compile = note
    try:
        yield
    finally:
        JITFunction.run, JITFunction._do_compile = run, compile_


# ---- what the compiler says ------------------------------------------------------------------------------------------


def compile_launch(launch: Launch, target: str) -> dict:
    "Compile, and read registers, shared memory, spills, widths and instructions from the result"
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    spec = ASTSource(launch.function, launch.signature, launch.constexprs, launch.attrs)
    built = triton.compile(spec, target=GPUTarget(*TARGETS[target]), options=launch.options.__dict__)
    read = _read_amd if TARGETS[target][0] == "hip" else _read_nvidia
    return dict(shared=built.metadata.shared, warps=built.metadata.num_warps) | read(built)


def _tool(name: str, *args: str) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([str(path), *args], capture_output=True, text=True, check=True).stdout


def _read_nvidia(built) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(built.asm["cubin"])
        usage, code = _tool("cuobjdump", "-res-usage", str(path)), _tool("cuobjdump", "-sass", str(path))
    lines = [(int(at, 16), line) for at, line in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);", code)]
    body = [(at, re.sub(r"^@!?U?P\w+\s+", "", line)) for at, line in lines]
    end = next((i for i, (at, op) in enumerate(body) if re.match(r"BRA 0x", op) and int(op.split()[-1], 16) == at), len(body))
    body = [(at, op) for at, op in body[:end] if not op.startswith("NOP")]

    def number(name: str) -> int:
        return int(re.search(rf"{name}:(\d+)", usage).group(1))

    ops = [op for _, op in body]
    spills = sum(op.startswith(("LDL", "STL")) for op in ops)
    return dict(
        registers=number("REG"), stack=number("STACK"), spills=spills, instructions=len(ops), loop=_loop(body),
        loads=_widths(ops, r"LDG\S*"), stores=_widths(ops, r"STG\S*"),
        tensor=sum(bool(re.match(r"(HMMA|HGMMA|IMMA|IGMMA|QGMMA|DMMA)", op)) for op in ops),
    )


def _loop(body: list[tuple[int, str]]) -> int:
    "Instructions of the longest innermost loop; 0 without a loop"
    jumps = [(int(op.split()[-1], 16), at) for at, op in body if re.match(r"BRA\b.*0x", op) and int(op.split()[-1], 16) < at]
    inner = [(a, b) for a, b in jumps if not any(a <= c and d < b for c, d in jumps if (c, d) != (a, b))]
    return max((sum(a <= at <= b for at, _ in body) for a, b in inner), default=0)


def _widths(ops: list[str], pattern: str) -> dict[str, int]:
    "Number of global accesses by width in bits"
    found: dict[str, int] = {}
    for op in ops:
        if match := re.match(pattern, op):
            name = match.group(0)
            width = next((w for w in ("128", "64", "16", "8") if re.search(rf"\.[SU]?{w}\b", name)), "32")
            found[width] = found.get(width, 0) + 1
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _read_amd(built) -> dict:
    code = built.asm["amdgcn"]

    def number(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", code).group(1))

    ops = [op for line in code.splitlines() if (op := line.strip()) and re.match(r"[vs]_|global_|buffer_|flat_|ds_|scratch_", op)]
    sizes = {"dwordx4": "128", "dwordx3": "96", "dwordx2": "64", "dword": "32", "short": "16", "ushort": "16", "byte": "8"}

    def widths(kind: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for op in ops:
            if match := re.match(rf"(?:global|buffer)_{kind}_(?:[usd]+16_|[su]|d16_|hi_)*(\w+?)(?:_d16\w*)?\s", op):
                width = next((w for n, w in sizes.items() if match.group(1).endswith(n)), "32")
                found[width] = found.get(width, 0) + 1
        return dict(sorted(found.items(), key=lambda item: int(item[0])))

    return dict(
        registers=number("vgpr_count"), stack=number("private_segment_fixed_size"),
        spills=number("vgpr_spill_count"), instructions=len(ops), loop=0,
        loads=widths("load"), stores=widths("store"), tensor=sum("mfma" in op for op in ops),
    )


# ---- all of it -------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    "What one run found"

    rows: dict[str, list[dict]] = field(default_factory=dict)  # by chapter
    failed: list[str] = field(default_factory=list)            # launches that do not compile, with the reason
    compiled: int = 0                                          # how many were compiled, not read from the store


def launches(target: str, wanted: Callable[[Row], bool], failed: list[str]) -> Iterator[Launch]:
    "The distinct launches of the table; what a call raises is noted in `failed`"
    from triton.runtime import driver

    from weightbook.blocks import kernels

    driver.set_active(stand_in(target))
    kernels._check_forced = lambda tensors: None
    seen = set()
    for row in filter(wanted, table()):
        found: list[Launch] = []
        with recording(found, row), kernels.force_kernel():
            try:
                row.call()
            except Exception as error:
                failed.append(f"{row.chapter}: {row.case}: {type(error).__name__}: {str(error)[:200]}")
        if not found:
            failed.append(f"{row.chapter}: {row.case}: no kernel was launched")
        for launch in found:
            if (launch.name, launch.key) not in seen:
                seen.add((launch.name, launch.key))
                yield launch


def compile_all(target: str, wanted: Callable[[Row], bool] = lambda row: True, fresh: bool = False) -> Report:
    "Compile every launch of the table, or read it from the store where source, compiler and launch are the same"
    stored = {} if fresh else {row["key"]: row for chapter in read_store(target).values() for row in chapter}
    report = Report()
    for launch in launches(target, wanted, report.failed):
        row = launch.row
        if target in row.skip:
            continue
        about = dict(kernel=launch.name, case=row.case, key=launch.key)
        known = {k: v for k, v in stored.get(launch.key, {}).items() if k not in about}
        if not known:
            try:
                known = compile_launch(launch, target)
                report.compiled += 1
            except Exception as error:  # whatever the compiler raises is the finding
                first = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
                report.failed.append(f"{row.chapter}: {launch.name}: {row.case}: {first[-1][:200]}")
                continue
        constants = {k: v for k, v in launch.constants.items() if k.isupper() or isinstance(v, bool)}
        about |= dict(constants=constants, types=[t for t in launch.signature.values() if t.startswith("*")])
        about |= _duties(row, launch.name)
        report.rows.setdefault(row.chapter, []).append(about | known)
    return report


def _duties(row: Row, name: str) -> dict:
    mine = not row.only or name == row.only
    out = {key: True for key in ("wide", "product") if mine and getattr(row, key)}
    return out | {key: getattr(row, key) for key in ("count", "bytes") if mine and getattr(row, key)}


SWEPT = {  # kernel -> the case that is compiled with several numbers of warps
    "_minmax_round_kernel": "oc, groups of 128, float16", "_compand_kernel": "4096 weights, float16",
    "_compand_backward_kernel": "4096 weights, float16", "_filter_kernel": "m = 10, float64",
    "_scale_add_kernel": "4096 numbers, float16", "_conv_kernel": "N = 16, C = 128, B = 256, float16",
    "_packed_linear_kernel": "product, 4 bits, oc, groups of 64, 2048 inputs, float16",
    "_gptq_block_kernel": "columns of GPTQ, groups of -1", "_sparse_gemv_kernel": "gated product, float16",
    "_lloyd_kernel": "3 coordinates, 2 averaged, 2 centres, float64", "_ucb_kernel": "K = 6, m = 30, 30 points",
}


def sweep_warps(target: str = "sm_90") -> list[dict]:
    "What the compiler says of one case of each kernel with 1, 2, 4 and 8 warps"
    rows = []
    for launch in launches(target, lambda row: row.case in SWEPT.values(), []):
        for warps in (1, 2, 4, 8) if SWEPT[launch.name] == launch.row.case else ():
            found = compile_launch(replace(launch, options=replace(launch.options, num_warps=warps)), target)
            rows.append({
                "kernel": launch.name, "case": launch.row.case, "warps": warps, "used": warps == launch.options.num_warps,
                "registers": found["registers"], "stack": found["stack"],
                "widest access": max(map(int, found["loads"] | found["stores"]), default=0),
                "thread instructions": (found["loop"] or found["instructions"]) * 32 * warps,
            })  # fmt: skip
    return rows


def read_store(target: str) -> dict[str, list[dict]]:
    "Rows by chapter"
    return {p.stem: json.loads(p.read_text())["rows"] for p in sorted((STORE / target).glob("*.json"))}


def write_store(target: str, rows: dict[str, list[dict]]) -> None:
    import triton

    folder = STORE / target
    folder.mkdir(parents=True, exist_ok=True)
    for chapter, found in rows.items():
        lines = ",\n  ".join(json.dumps(row, sort_keys=True) for row in found)
        head = json.dumps(dict(target=target, triton=triton.__version__))[1:-1]
        (folder / f"{chapter}.json").write_text(f'{{{head}, "rows": [\n  {lines}\n]}}\n')


def write_launches(rows: list[dict]) -> None:
    import triton

    lines = ",\n  ".join(json.dumps(row, sort_keys=True) for row in rows)
    head = json.dumps(dict(target="sm_90", triton=triton.__version__))[1:-1]
    (STORE / "launches.json").write_text(f'{{{head}, "rows": [\n  {lines}\n]}}\n')


def faults(row: dict) -> list[str]:
    "What is wrong with one compiled launch"
    found = []
    if row["stack"] or row["spills"]:
        found.append(f"spills: {row['stack']} bytes of stack")
    if row.get("wide") and "128" not in row["loads"] | row["stores"]:
        found.append(f"no access of 16 bytes: {row['loads']}, {row['stores']}")
    if row.get("product") and not row["tensor"]:
        found.append("no tensor-core instruction")
    return [f"{row['kernel']}: {row['case']}: {fault}" for fault in found]


def table() -> list[Row]:
    "All rows; imported late, after the driver is set"
    from aot_table import TABLE

    return TABLE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=TARGETS, default="sm_90")
    parser.add_argument("--chapter", default=None, help="only this chapter's rows")
    parser.add_argument("--case", default=None, help="only rows whose case matches this pattern")
    parser.add_argument("--fresh", action="store_true", help="compile everything, whatever is stored")
    parser.add_argument("--save", action="store_true", help="write bench/aot")
    parser.add_argument("--warps", action="store_true", help="compile one case of each kernel with 1, 2, 4 and 8 warps instead")
    args = parser.parse_args()
    os.environ["TRITON_INTERPRET"] = "0"
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

    def wanted(row) -> bool:
        return args.chapter in (None, row.chapter) and re.search(args.case or "", row.case) is not None

    if args.warps:
        rows = sweep_warps()
        if args.save:
            write_launches(rows)
        return print(json.dumps(rows))
    report = compile_all(args.target, wanted, args.fresh)
    if args.save:
        write_store(args.target, report.rows)
    wrong = report.failed + [fault for rows in report.rows.values() for row in rows for fault in faults(row)]
    print(json.dumps(dict(target=args.target, rows=report.rows, faults=wrong, compiled=report.compiled)))


if __name__ == "__main__":
    main()
