"""One word for one thing: what changes its argument ends in an underscore and returns it, and chance has one name a kind."""

import inspect
import re
import typing

import fuzz
import numpy as np
import pytest
import torch
from torch import nn

ARMS = "a rename moves the keys of finished arms: at their next run"
PAGE = "its page is being run: with the next change of that page"
LATER = {  # what does not follow the rules yet, and why
    "reparam.compander.compand_model": ARMS,
    "reparam.compander.remove_weight_compander": "the counterpart of `compand_model`, together with it",
    "weighting.weighted_cfm.training_step": ARMS,
    "lowbit.quantizers.replace_linears": PAGE,
    "lowbit.quantizers.accelerate_decoding": PAGE,
    "lowbit.quantizers.quantize_model_ returns": PAGE,
    "lowbit.adadim.adadim_ returns": "as `quantize_model_`, together with it",
    "lowbit.adadim.awq_ returns": "as `quantize_model_`, together with it",
    "lowbit.wina.accelerate_decoding": "as in `quantizers`, together with it",
    "blocks.training.fit": "training changes what it trains, and returns how it went",
    "blocks.training.fit returns": "training changes what it trains, and returns how it went",
    "lowbit.quantizers.rtn_ returns": "the counterpart of `rtn`: what the weight is now",
    "blocks.lm.replace_layers": "with the next change of that page",
    "blocks.lm.replace_layers returns": "the names that were replaced: with the next change of that page",
    "adapting.weight_signatures.update_bn_stats": "named after torch's `update_bn`",
}
RNG = {name: ARMS for name in (
    "sample_density", "sample_christoffel", "sample_projection_dpp", "sample_volume", "sample_repeated_dpp",
    "sample_repeated_volume", "condition", "boost", "FiniteBasis", "HermiteBasis", "LegendreBasis", "PiecewiseConstantBasis",
    "TensorBasis")}


def written() -> list[tuple[str, typing.Callable]]:
    "The public functions, constructors and methods of everything but the machinery, by full name"
    found = []
    for name, (_, thing) in fuzz.public().items():
        if name.startswith("book."):
            continue
        if inspect.isclass(thing):
            found += [(f"{name}.{key}", value) for key, value in vars(thing).items()
                      if inspect.isfunction(value) and (key == "__init__" or not key.startswith("_"))]
        else:
            found.append((name, inspect.unwrap(thing)))
    return found


def changed(function: typing.Callable) -> list[str]:
    "Parameters whose comment says that they are changed in place"
    head = inspect.getsource(function).partition('"""')[0]
    return re.findall(r"^\s+(?:\*, ?)?(\w+)\b[^#\n]*#[^\n]*(?:changed|trained|is reset|estimated again|are reset)[^\n]*in place",
                      head, re.MULTILINE)


def is_context(function: typing.Callable) -> bool:
    return "@contextmanager" in inspect.getsource(function) or "@contextlib.contextmanager" in inspect.getsource(function)


def test_functions_that_change_their_argument_end_in_an_underscore():
    functions = [(name, f) for name, f in written() if name.count(".") == 2]  # contexts and constructors say it in the comment
    inplace = {name for name, f in functions if changed(f) and not is_context(f)}
    assert len(inplace) > 15
    assert {name for name in inplace if not name.endswith("_")} == {name for name in LATER if not name.endswith("returns")}
    silent = {name for name, _ in functions if name.endswith("_")} - inplace
    assert not silent, "the comment of a parameter says that it is changed in place"


def test_what_changes_a_model_returns_it():
    wrong = set()
    for name, function in written():
        kinds = typing.get_type_hints(function)
        if name.count(".") == 2 and changed(function)[:1] in (["model"], ["linear"]) and not is_context(function):
            found = kinds.get("return")
            first = typing.get_args(found)[0] if typing.get_origin(found) is tuple else found
            if not (isinstance(first, type) and issubclass(first, nn.Module)):
                wrong.add(f"{name} returns")
    assert wrong == {name for name in LATER if name.endswith("returns")}


KINDS = {  # name of a parameter -> kinds that it may be of, or may hold
    "generator": (torch.Generator, type(None)),
    "random_state": (int, np.random.RandomState, np.random.Generator, object, type(None)),
    "seed": (int, type(None)),
}
HOLDS = (torch.Generator, np.random.Generator, np.random.RandomState)


def test_chance_has_one_name_a_kind():
    "`generator`: torch's; `random_state`: NumPy's, as in scikit-learn; `seed`: a number that everything is drawn from"
    wrong, rng = [], set()
    for name, function in written():
        kinds = typing.get_type_hints(function)
        for p in inspect.signature(function).parameters:
            parts = {kind for kind in typing.get_args(kinds.get(p)) or (kinds.get(p),) if isinstance(kind, type)}
            if p == "rng" and name.startswith("estimation.dpp_least_squares."):
                rng.add(name.split(".")[2])
            elif p in KINDS and not parts <= {*KINDS[p]} or p not in KINDS and parts & {*HOLDS}:
                wrong.append(f"{name}: {p}: {kinds.get(p)}")
    assert rng == set(RNG)
    # S5's argument is a way to make generators, and its arms are finished
    assert [w.partition(": collections")[0] for w in wrong] == ["estimation.soundscape_kmeans.run_restarts: generator"]


@pytest.mark.parametrize("name", sorted({name.split()[0] for name in LATER}))
def test_an_exception_is_a_name_that_there_is(name):
    assert name in fuzz.public()
