"""Promises of `weightbook.estimation.tallying_bandits`, see tests/promise_table.py."""

from promise_reasons import IN_PLACE, READS

HOME = "estimation.tallying_bandits"
ROWS = {}
NO = {  # columns, reason -> names
    ("compile export", READS): "ucb_games",
    ("vmap", IN_PLACE): "ucb_games_reference",
    ("NaN", "the definition, without checks: NaN becomes an index; `ucb_games` refuses by name"): "ucb_games_reference",
}  # fmt: skip
UNTRIED = {}
