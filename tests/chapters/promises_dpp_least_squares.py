"""Promises of `weightbook.estimation.dpp_least_squares`, see tests/promise_table.py."""

from promise_reasons import DEPENDS, HALF, IN_PLACE, READS

HOME = "estimation.dpp_least_squares"
ROWS = {}
NO = {  # columns, reason -> names
    ("compile export", READS): "fit_coefficients filter_proposals_reference stability is_stable",
    ("vmap", READS): "filter_proposals_reference stability is_stable",
    ("vmap", "uses `torch.moveaxis`, which has no rule for vmap; its own leading axes do the same"): (
        "density_values weighted_features gram_matrix fit_coefficients"),
    ("compile export vmap", DEPENDS): "filter_proposals",
    ("grad", IN_PLACE): "filter_proposals_reference",
    ("bfloat16", HALF): "fit_coefficients stability is_stable",
    ("NaN", "a proposal with NaN is not accepted: no comparison with NaN is true"): "filter_proposals",
}  # fmt: skip
UNTRIED = {}
