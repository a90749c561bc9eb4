"""Promises of `weightbook.lowbit.adadim`, see tests/promise_table.py."""

from chapters.promises_quantizers import converted
from fuzz import ids
from promise_reasons import READS, REPORT, ROUNDS, WIDE

from weightbook.lowbit import adadim as m

HOME = "lowbit.adadim"
ROWS = {
    "adadim_, its model": lambda: converted(lambda model: m.adadim_(model, ids(), 4, 8)),
    "awq_, its model": lambda: converted(lambda model: m.awq_(model, ids(), 4, 8)),
}
SLOW = set(ROWS)  # language models
NO = {  # columns, reason -> names
    ("compile export vmap", READS): "expected_error awq_clip gptq_updates",
    ("export vmap", REPORT): "output_error top_share",
    ("grad", ROUNDS): "awq_clip",
    ("bfloat16", WIDE): "gptq_updates",
}  # fmt: skip
UNTRIED = {}
