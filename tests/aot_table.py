"""The launches that are compiled ahead of time: one row, or one loop of rows, a kernel; a chapter's in a file of its own."""

import importlib
import itertools
from pathlib import Path

import torch
from aot import Row

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (torch.float32, *HALVES)
TABLE: list[Row] = []


def name(dtype: torch.dtype) -> str:
    return str(dtype)[6:]


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


# ---- blocks.kernels --------------------------------------------------------------------------------------------------

from weightbook.blocks.kernels import scale_add  # noqa: E402

for dtype, n in itertools.product(FLOATS, (4096, 1)):
    call = lambda dtype=dtype, n=n: scale_add(random(n, dtype=dtype), random(n, dtype=dtype), 0.5)  # noqa: E731
    TABLE.append(Row("kernels", f"{n} numbers, {name(dtype)}", call, wide=n > 1))

# ---- the chapters: tests/chapters/aot_<chapter>.py -------------------------------------------------------------------

for found in sorted(Path(__file__).with_name("chapters").glob("aot_*.py")):
    importlib.import_module(f"chapters.{found.stem}")
