"""Promises of `weightbook.estimation.lowlight_rppg`, see tests/promise_table.py."""

from promise_reasons import HALF, MASK, READS

HOME = "estimation.lowlight_rppg"
ROWS = {}
NO = {  # columns, reason -> names
    ("compile export vmap", READS): (
        "trajectory_matrix ssa_decompose w_correlation periodogram dominant_frequency harmonic_pairs "
        "fuse_components overlap_add snr_dehaan comb_filter heart_rate"),
    ("compile", READS): "spectral_mask",
    ("grad", "the pairs of a sinusoid have nearly equal eigenvalues: their vectors turn freely in a plane"): "ssa_decompose",
    ("bfloat16", HALF): "ssa_decompose periodogram dominant_frequency snr_dehaan comb_filter heart_rate",
    ("NaN", MASK): "harmonic_pairs spectral_mask",
}  # fmt: skip
UNTRIED = {}
