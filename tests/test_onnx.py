"""Converted models in ONNX: what the exporter of torch writes, ONNX Runtime computes to the same numbers."""

import pytest
import torch
from torch import nn

pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("transformers")

from weightbook.blocks.lm import toy_llama  # noqa: E402
from weightbook.book.checks import assert_close  # noqa: E402
from weightbook.lowbit import quantizers as Q  # noqa: E402
from weightbook.lowbit import wina  # noqa: E402
from weightbook.reparam.compander import compand_model  # noqa: E402

IDS = torch.randint(3, 97, (2, 16), generator=torch.Generator().manual_seed(0))
X = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))


class Logits(nn.Module):
    "A language model from token ids to logits, without a cache"

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(input_ids=ids, use_cache=False).logits


def toy(**options) -> nn.Module:
    return toy_llama(**dict(layers=1, width=64, heads=8, kv_heads=2, mlp=96) | options)


def packed(dim: str, **options) -> nn.Module:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    return Q.QuantLinear.from_quantized(Q.quantize_groups(weight, 3, 32, dim), **options)


def quantised() -> nn.Module:
    model = toy()
    Q.quantize_model_(model, IDS, 4, 16)
    return Logits(model)


def companded() -> nn.Module:
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    compand_model(model)
    return model


MODELS = {  # what -> model, inputs
    "packed along inputs": lambda: (packed("oc", bias=torch.arange(32.0)), X),
    "packed along outputs": lambda: (packed("ic"), X),
    "a packed language model": lambda: (quantised(), IDS),
    "a sparse language model": lambda: (Logits(wina.sparsify_(toy(), 0.5)), IDS),
    "companded weights": lambda: (companded(), X),
}


@pytest.mark.parametrize("what", MODELS)
def test_onnx_runtime_computes_what_the_model_does(what, tmp_path):
    model, x = MODELS[what]()
    path = tmp_path / "model.onnx"
    torch.onnx.export(model.eval(), (x,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert_close(torch.from_numpy(found), model(x).detach(), rtol=1e-5)
