"""Every kernel compiles for real GPUs, without one: no spills, wide accesses, tensor cores where a product is the point.

What traces is marked `slow`. Results are read from `bench/aot/<target>` where kernel, compiler and launch are as they were; a
change of a kernel compiles its launches again: for an H100 (sm_90) always, for an A100 (sm_80) and an MI300 (gfx942) when
`WEIGHTBOOK_AOT` names them. `KNOWN` lists the faults that are left, to the byte: a new one fails, and so does one that is mended.
What is stored for the three targets is looked at in every run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from weightbook.blocks.kernels import HAS_TRITON

pytestmark = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
HERE = Path(__file__).resolve().parent
KNOWN = {
    # 16 rows of 16 doubles on 128 threads; the launcher is part of the keys of 2 903 finished arms, and 8 bytes are no time
    "sm_90": {"_filter_kernel: m = 10, float64: spills: 8 bytes of stack"},
    # three planes of fields a word and scaled inputs: 255 registers, of which an H100's compiler needs no more and an A100's does
    "sm_80": {"_packed_linear_kernel: product, 3 bits, ic, groups of 64, 2048 inputs, float16: spills: 400 bytes of stack"},
    # 1024 numbers on 4 waves of 64 lanes are 4 numbers a lane: 8 bytes in half precision
    "gfx942": {f"{kernel}, {dtype}{learnt}: no access of 16 bytes: {loads}, {stores}" for kernel, learnt, loads, stores in (
        ("_scale_add_kernel: 4096 numbers", "", {"64": 2}, {"64": 1}),
        ("_compand_kernel: 4096 weights", "", {"64": 1}, {"64": 1}),
        ("_compand_backward_kernel: 4096 weights", "", {"64": 2}, {"64": 1}),
        ("_compand_backward_kernel: 4096 weights", ", a and b learnt", {"64": 2}, {"32": 2, "64": 1}),
    ) for dtype in ("float16", "bfloat16")},
}  # fmt: skip


def compiled(target: str, *options: str) -> dict:
    "What the child process that compiles says"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_", "WEIGHTBOOK_FORCE"))}
    env |= {"TRITON_INTERPRET": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "aot.py"), "--target", target, *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report() -> dict:
    return compiled("sm_90")


@pytest.mark.slow
def test_every_kernel_compiles_for_an_h100_with_no_faults_but_the_known(report):
    assert set(report["faults"]) == KNOWN["sm_90"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "gfx942"])
def test_every_kernel_compiles_for_others_with_no_faults_but_the_known(target):
    if target not in os.environ.get("WEIGHTBOOK_AOT", ""):
        pytest.skip(f"traces every launch once more: WEIGHTBOOK_AOT={target} asks for it")
    assert set(compiled(target)["faults"]) == KNOWN[target]


def stored(target: str) -> dict[str, list[dict]]:
    return {p.stem: json.loads(p.read_text())["rows"] for p in (HERE.parent / "bench/aot" / target).glob("*.json")}


@pytest.mark.parametrize("target", KNOWN)
def test_what_is_stored_has_no_faults_but_the_known_and_the_same_launches(target, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import aot

    launches = lambda rows: sorted((r["kernel"], r["case"], str(r["constants"])) for r in rows)  # noqa: E731
    found = stored(target)
    assert {fault for rows in found.values() for row in rows for fault in aot.faults(row)} == KNOWN[target]
    assert {c: launches(rows) for c, rows in found.items()} == {c: launches(rows) for c, rows in stored("sm_90").items()}


@pytest.mark.slow
def test_every_kernel_of_the_library_has_a_row(report):
    import re

    written = "".join(p.read_text(encoding="utf-8") for p in (HERE.parent / "weightbook").rglob("*.py"))
    kernels = set(re.findall(r"^@(?:triton\.)?jit\ndef (_\w+_kernel)\(", written, re.MULTILINE))
    assert kernels == {row["kernel"] for rows in report["rows"].values() for row in rows}


@pytest.mark.slow
def test_the_stored_results_are_those_of_the_code(report):
    keys = lambda rows: {row["key"] for row in rows}  # noqa: E731
    assert {c: keys(rows) for c, rows in stored("sm_90").items()} == {c: keys(rows) for c, rows in report["rows"].items()}


@pytest.mark.slow
def test_a_stored_result_is_found_again(report):
    fresh = compiled("sm_90", "--chapter", "kernels", "--case", "4096 numbers, float32", "--fresh")
    assert fresh["compiled"] == 1
    row, = fresh["rows"]["kernels"]
    assert row in report["rows"]["kernels"]


def test_the_warps_of_every_kernel_have_a_reason_and_are_those_of_the_launches():
    from weightbook.blocks.kernels import LAUNCH_REASONS, launch_rows

    launched = {row["kernel"]: row for rows in stored("sm_90").values() for row in rows}
    used = {row["kernel"]: row for row in launch_rows() if row["used"]}
    assert set(launched) == set(LAUNCH_REASONS) == set(used)
    of = {(row["kernel"], row["case"]): row for rows in stored("sm_90").values() for row in rows}
    for kernel, row in used.items():
        known = of[kernel, row["case"]]
        assert (row["warps"], row["registers"], row["stack"]) == (known["warps"], known["registers"], known["stack"])


FAULTY = """
import sys
sys.path.insert(0, "tests")
import aot
row = dict(kernel="k", case="c", stack=0, spills=0, loads={"32": 1}, stores={}, tensor=0)
more = ({}, {"stack": 8}, {"wide": True}, {"product": True}, {"wide": True, "loads": {"128": 1}})
print([len(aot.faults(row | one)) for one in more])
"""


def test_the_faults_are_seen():
    done = subprocess.run([sys.executable, "-c", FAULTY], capture_output=True, text=True, cwd=HERE.parent)
    assert done.stdout.strip() == "[0, 1, 1, 1, 0]", done.stderr
