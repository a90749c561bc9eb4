"""What is derived from weights keeps no autograd graph: every layer of the library, and every model that a converter made."""

import copy
import inspect
import io
from collections.abc import Iterator, Mapping

import fuzz
import pytest
import torch
from torch import nn


def layers() -> dict[str, tuple]:
    "Every public module of the library that has a right call"
    return {name: (module, kind) for name, (module, kind) in fuzz.public().items()
            if inspect.isclass(kind) and issubclass(kind, nn.Module) and callable(fuzz.TABLE[name])}


def held(thing: object, seen: set | None = None, depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    "Every tensor that an object holds by its attributes, lists and mappings, by path; parameters are what graphs end at"
    seen = set() if seen is None else seen
    if id(thing) in seen or depth > 8:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        yield "", thing
        return
    if isinstance(thing, Mapping):
        items = thing.items()
    elif isinstance(thing, (list, tuple, set)):
        items = enumerate(thing)
    elif hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(thing) or isinstance(thing, nn.Module):
        items = vars(thing).items()
    else:
        return
    for key, value in list(items):
        for path, tensor in held(value, seen, depth + 1):
            yield f".{key}{path}", tensor


def graphs(thing: object) -> list[str]:
    return [path for path, tensor in held(thing) if tensor.grad_fn is not None]


def learning(model: nn.Module) -> nn.Module:
    for p in model.parameters():
        p.requires_grad_(p.is_floating_point())
    return model


def llama() -> nn.Module:
    return learning(fuzz.llama())


def quantised() -> nn.Module:
    from weightbook.lowbit import quantizers

    quantizers.quantize_model_(model := llama(), fuzz.ids(), 4, 8, only="*.mlp.*")
    return model


def plain(**options) -> nn.Module:
    from weightbook.lowbit import adadim

    adadim.adadim_(model := llama(), fuzz.ids(), 4, 8, pack=False, **options)
    return model


def activation_aware() -> nn.Module:
    from weightbook.lowbit import adadim

    adadim.awq_(model := llama(), fuzz.ids(), 4, 8)
    return model


def sparse(name: str, *rest) -> nn.Module:
    from weightbook.lowbit import wina

    found = getattr(wina, name)(llama(), *rest)
    return found[0] if isinstance(found, tuple) else found


def companded(shared: bool = False) -> nn.Module:
    from weightbook.reparam import compander

    compander.compand_model(model := learning(fuzz.net(4, 8, 2)))
    return model


def flat() -> nn.Module:
    from weightbook.reparam.compander import FlatCompander

    return FlatCompander(learning(fuzz.net(4, 8, 2)))


def estimated() -> nn.Module:
    from weightbook.adapting.weight_signatures import update_bn_stats

    model = learning(fuzz.conv_net())
    update_bn_stats(model, [fuzz.t(4, 1, 8, 8)])
    return model


MODELS = {  # what -> a converted model that learns
    "quantised": quantised, "AdaDim": plain, "AdaDim, GPTQ": lambda: plain(base="gptq"), "AWQ": activation_aware,
    "sparse": lambda: sparse("sparsify_", 0.5), "norms fused": lambda: sparse("fuse_norms_"),
    "rotated": lambda: sparse("rotate_decoder_"), "CATS": lambda: sparse("sparsify_cats_", 0.2, [fuzz.ids()]),
    "companded": companded, "flat": flat, "statistics": estimated,
}


def check(model: nn.Module) -> None:
    assert not graphs(model)
    twin = copy.deepcopy(model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))
    torch.save(model.state_dict(), io.BytesIO())


@pytest.mark.parametrize("what", MODELS)
def test_converted_models_keep_no_graph_before_and_after_a_step(what):
    model = MODELS[what]()
    check(model)
    inputs = {"companded": fuzz.t(3, 4), "flat": fuzz.t(3, 4), "statistics": fuzz.t(4, 1, 8, 8)}.get(what, fuzz.ids())
    if what != "flat":  # its forward takes no inputs of the network
        out = model(inputs)
        getattr(out, "logits", out).sum().backward()
    check(model)


@pytest.mark.parametrize("name", layers())
def test_every_layer_keeps_no_graph(name):
    module, kind = layers()[name]
    entry = fuzz.TABLE[name](module)
    learn = {key: value.requires_grad_() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
             for key, value in fuzz.unpacked(entry)[1].items()}
    check(learning(kind(*fuzz.unpacked(entry)[0], **learn)))


def test_a_graph_is_found():
    layer = nn.Linear(2, 2)
    layer.kept = {"scaled": [2 * layer.weight]}
    assert graphs(layer) == [".kept.scaled.0"]
