"""Promises of `weightbook.adapting.weight_signatures`, see tests/promise_table.py."""

from chapters.fuzz_weight_signatures import signature
from fuzz import t
from promise_reasons import GENERATOR, KEPT, READS, REPORT, ROUNDS, WIDE
from promises_blocks import small

from weightbook.adapting import weight_signatures as m


def patched(model):
    m.SignaturePatch(model, [signature(m)], 0.5).apply()
    return model


HOME = "adapting.weight_signatures"
ROWS = {
    "Normalize": lambda: (m.Normalize("cifar10"), (t(2, 3, 4, 4),)),
    "PlainVGG": lambda: (small(m.PlainVGG, [4, 0, 4], channels=3, classes=2), (t(2, 3, 8, 8),)),
    "ResidualUnit": lambda: (small(m.ResidualUnit, 2, 4, 1), (t(2, 2, 6, 6),)),
    "DownsamplingResNet": lambda: (
        small(m.DownsamplingResNet, [1, 1], width=4, channels=3, classes=2), (t(2, 3, 8, 8),)),
}  # fmt: skip
NO = {  # columns, reason -> names
    ("compile export vmap", READS): "projection_coefficient project_out quantize uniform_quantize log_quantize tanh_quantize",
    ("compile export vmap", "a signature is named by a digest of weights' bytes"): "extract_signature patch_like_released",
    ("compile export vmap", REPORT): "layerwise_relative_difference",
    ("grad", ROUNDS): "quantize uniform_quantize log_quantize tanh_quantize",
    ("grad", KEPT): "extract_signature apply_signatures remove_signatures patch_like_released",
    ("float64 bfloat16", WIDE): "quantize uniform_quantize log_quantize tanh_quantize",
    ("bfloat16", WIDE): "extract_signature",
    ("NaN", "looks at the tensors of the signature only: NaN elsewhere is not its matter"): (
        "extract_signature layerwise_relative_difference patch_like_released"),
    ("compile", GENERATOR): "corrupted",
    ("vmap", "the images of a batch are its own first axis, and it writes into them"): "corrupted",
}  # fmt: skip
UNTRIED = {}
