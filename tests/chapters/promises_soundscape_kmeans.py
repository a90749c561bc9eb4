"""Promises of `weightbook.estimation.soundscape_kmeans`, see tests/promise_table.py."""

from promise_reasons import READS

HOME = "estimation.soundscape_kmeans"
ROWS = {}
NO = {  # columns, reason -> names
    ("compile export vmap", READS): "lloyd_step_reference lloyd_step",
}  # fmt: skip
UNTRIED = {}
