"""Promises of `weightbook.blocks`, see tests/promise_table.py."""

from fuzz import ids, llama, t
from promise_reasons import READS, WIDE

from weightbook.blocks import kernels, nets


def small(kind, *args, **options):
    import torch

    torch.manual_seed(0)
    return kind(*args, **options).eval()


def logits(model):
    "A language model as a module that gives its logits"
    from torch import nn

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model.eval()

        def forward(self, tokens):
            return self.model(tokens, use_cache=False).logits

    return Logits()


HOME = "blocks"
ROWS = {
    "kernels.scale_add_reference": lambda: (kernels.scale_add_reference, (t(3), t(3, seed=1), 0.7)),
    "nets.MLP": lambda: (small(nets.MLP, [3, 4, 2]), (t(5, 3),)),
    "nets.ResidualBlock": lambda: (small(nets.ResidualBlock, 2, 4, stride=2), (t(2, 2, 6, 6),)),
    "nets.SmallResNet": lambda: (small(nets.SmallResNet, 8, classes=2, channels=1, width=2), (t(2, 1, 8, 8),)),
    "nets.SmallViT": lambda: (
        small(nets.SmallViT, size=8, patch=4, classes=2, channels=1, width=4, depth=1, heads=2), (t(2, 1, 8, 8),)),
    "lm.toy_llama": lambda: (logits(llama()), (ids(1, 4),)),
}  # fmt: skip
SLOW = {"lm.toy_llama"}
NO = {  # columns, reason -> names
    ("compile export vmap", READS): "training.accuracy",
    ("float64 bfloat16", WIDE): "training.accuracy",
    ("vmap", "the images of a batch are its own first axis, and it writes into them"): "corruptions.corrupt",
}  # fmt: skip
UNTRIED = {
    "kernels.use_triton": "tells which path is taken",
    "kernels.is_plain": "tells whether an operation is watched",
    "kernels.state_key": "tells whether a tensor has changed",
    "kernels.poison": "memory full of NaN, for tests",
    "lm.perplexity": "runs a model over windows",
    "lm.capture_inputs": "runs a model over windows",
}
