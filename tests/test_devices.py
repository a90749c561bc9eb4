"""Every public function that takes tensors or modules, called on devices that are not there: CUDA, and Apple's MPS.

The right calls are those of the fuzz table, with their tensors on the device of tests/devices.py. A function must work or refuse
by name. `EXCEPTIONS` are those that do neither, `COPIES` those that go through the CPU, `HOT` the launches in which no host may
wait for a value; each exception has its reason, and one that is no longer needed fails.
"""

import contextlib
import functools
import importlib
import io
import warnings
from collections import Counter
from pathlib import Path

import devices
import fuzz
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from weightbook.blocks.kernels import HAS_TRITON, force_kernel, scale_add
from weightbook.book.checks import rms_error
from weightbook.estimation import dpp_least_squares, soundscape_kmeans, tallying_bandits
from weightbook.lowbit import adadim, quantizers, wina
from weightbook.reparam import compander
from weightbook.sharing import ponita

for found in sorted(Path(__file__).with_name("chapters").glob("fuzz_*.py")):
    importlib.import_module(f"chapters.{found.stem}")

MINUTES = "half a minute of small steps through the stand-in; its steps are walked one by one"
LATER = "needs float64, says so in PyTorch's words only; mending it moves the keys of the page's finished arms"
EXCEPTIONS = {
    "cuda": {},
    "mps": {
        "estimation.tallying_bandits.ucb_games_reference": "the definition, in float64; `ucb_games` refuses by name",
        **dict.fromkeys((
            "lowbit.quantizers.relative_error", "lowbit.quantizers.quantize_linear", "lowbit.quantizers.quantize_model_",
            "reparam.compander.weight_percentiles", "weighting.weighted_cfm.wasserstein2",
            "weighting.weighted_cfm.weight_variance", "weighting.weighted_cfm.integrate",
            "weighting.weighted_cfm.frechet_distance", "weighting.weighted_cfm.precision_recall"), LATER),
    },
}  # fmt: skip
UNSEEN = {
    "estimation.movable_antenna_isac.alternating_isac": MINUTES,
    "estimation.movable_antenna_isac.finish_design": "`torch.func` hides the device: its wrappers say that they lie on the CPU",
}
COPIES = {  # what goes through the CPU, and why; none of them lies in a step of training or decoding
    "adadim._sequence_errors": "one number a calibration sequence, for a report in float64",
    "compander.weight_percentiles": "NumPy's percentiles, for a figure",
    "lm._window_nll": "one number a window, in float64",
    "ponita._tree": "the neighbours are found by SciPy's tree",
    "ponita.equivariance_error": "a test of a model, in float64",
    "training._Run.__init__": "the state that a run goes back to when a loss is not finite",
    "training._evaluating": "the same, of the modes and buffers",
    "weight_signatures._one_signature.<locals>.<genexpr>": "a signature is a file: its tensors lie on the CPU",
    "weight_signatures.accuracy_of": "one comparison of labels a batch of images",
    "weight_signatures.fingerprint": "a digest of the weights' bytes",
    "weighted_cfm.wasserstein2": "SciPy's assignment problem",
}


def takes_tensors(name: str) -> bool:
    module, _ = fuzz.public()[name]
    entry = fuzz.TABLE.get(name)
    if not callable(entry) or name.startswith("book.") or name in UNSEEN:
        return False
    return any(isinstance(v, torch.Tensor | nn.Module) for v in tree_leaves(fuzz.unpacked(entry(module))))


def outcome(name: str, kind: str) -> tuple[str, Counter]:
    "What a right call does on the device: \"\" where it works or refuses by name, else the error; and what was noted"
    module, function = fuzz.public()[name]
    positional, keywords = fuzz.unpacked(fuzz.TABLE[name](module))
    quiet = io.StringIO()
    with devices.device(kind) as place, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        try:
            out = function(*place.put(tuple(positional)), **place.put(keywords))
            list(out) if hasattr(out, "__next__") else None
            said = ""
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            said = "" if str(error).startswith("`") else f"{type(error).__name__}: {error}"
    return said, place.notes


@functools.cache
def walk(kind: str) -> dict[str, tuple[str, Counter]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: outcome(name, kind) for name in filter(takes_tensors, fuzz.public())}


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_public_functions_work_there_or_refuse_by_name(kind):
    seen = walk(kind)
    wrong = {name: said for name, (said, _) in seen.items() if said}
    differ = {name: wrong.get(name, "works") for name in set(wrong) ^ set(EXCEPTIONS[kind])}
    assert len(seen) > 120 and not differ


def test_copies_to_the_cpu_are_those_with_a_reason():
    found = {where for _, notes in walk("cuda").values() for what, where in notes if what == "to the CPU"}
    assert found == set(COPIES), found ^ set(COPIES)


# ---- hot launches ----------------------------------------------------------------------------------------------------


def r(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def layer(dim: str = "oc") -> quantizers.QuantLinear:
    return quantizers.QuantLinear.from_quantized(quantizers.quantize_groups(r(64, 64), 3, 32, dim))


def companded() -> nn.Module:
    made = nn.Linear(8, 4)
    compander.weight_compander(made)
    return made


EDGES = ponita.arrange_edges(ponita.fully_connected(torch.zeros(3, dtype=torch.long)), 3)
HOT = {
    "scale_add": (scale_add, (r(63), r(63), 0.7)),
    "compand": (compander.compand, (r(63), torch.tensor(0.7), torch.tensor(0.5))),
    "companded layer": (companded, (r(2, 8),)),
    "packed_linear oc": (quantizers.packed_linear, (r(1, 64), layer().packed_weight)),
    "packed_linear ic": (quantizers.packed_linear, (r(1, 64), layer("ic").packed_weight)),
    "QuantLinear": (layer, (r(1, 1, 64),)),
    "sparse_gemv": (lambda x, w, c: wina.sparse_gemv(x, w, norms=c, tau=0.5), (r(2, 9), r(9, 40), r(9).abs())),
    "sparse_gemv, mask": (wina.sparse_gemv, (r(2, 9), r(9, 40), r(2, 9) > 0)),
    "SparseLinear": (lambda: wina.SparseLinear(nn.Linear(64, 32), 0.5), (r(1, 1, 64),)),
    "SparseLinear, threshold": (lambda: wina.SparseLinear(nn.Linear(64, 32), 0.5, threshold=0.3), (r(1, 1, 64),)),
    "minmax_round": (lambda w: adadim.minmax_round(w, 4, 8, "oc"), (r(6, 16),)),
    "lloyd_step": (soundscape_kmeans.lloyd_step, (r(20, 2), r(20, 2), r(20).abs(), r(20, 2)[:3].clone())),
    "depthwise_conv": (ponita.depthwise_conv, (r(3, 4, 6).bfloat16(), r(6, 4, 5).bfloat16(), r(6, 5).bfloat16(), EDGES)),
    "filter_proposals, its launcher": (dpp_least_squares._filter_triton, (
        nn.functional.normalize(r(2, 12, 5), dim=-1), r(2, 12).sigmoid(), torch.zeros(2, 5, 5),
        torch.zeros(2, dtype=torch.int64))),
    "ucb_games": (tallying_bandits.ucb_games, (r(3, 4).double().sigmoid(), r(4).double().sigmoid(), r(2, 8).double().sigmoid())),
}  # fmt: skip
WAITING = {  # a launch plays whole games: its arguments are looked at once, at the door
    "ucb_games": ("checks.check_tensor", "tallying_bandits._check_games"),
}


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton")
@pytest.mark.parametrize("name", HOT)
@pytest.mark.filterwarnings("ignore")
def test_no_host_waits_in_a_hot_launch(name):
    call, args = HOT[name]
    call = call() if call in (companded, layer) or name.startswith("SparseLinear") else call
    with devices.device("cuda") as place, force_kernel():
        call, args = place.put(call), place.put(args)
        out = call(*args)
        place.notes.clear()
        again = call(*args)
    assert {where for _, where in place.notes} == set(WAITING.get(name, ())), place.notes
    for a, b in zip(tree_leaves(out), tree_leaves(again), strict=True):
        assert not isinstance(a, torch.Tensor) or a.device.type == "cpu" or torch.equal(a.held, b.held)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", HOT)
def test_values_on_a_gpu(name):
    call, args = HOT[name]
    call = call() if call in (companded, layer) or name.startswith("SparseLinear") else call
    wanted = tree_leaves(call(*args))
    call, args = (devices.moved(v, lambda t: t.cuda()) for v in (call, args))
    call(*args)
    torch.cuda.set_sync_debug_mode("warn" if name in WAITING else "error")
    try:
        found = tree_leaves(call(*args))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(found, wanted, strict=True):
        if isinstance(b, torch.Tensor) and b.is_floating_point():
            assert rms_error(a.cpu().float(), b.float()) < (1e-2 if b.dtype == torch.bfloat16 else 2e-5)


# ---- the stand-in itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_stand_in_forgives_no_more_than_a_device(kind):
    with devices.device(kind) as place:
        x = place.put(torch.ones(2, 3))
        assert x.device.type == (x @ x.T).device.type == torch.zeros(2, device=x.device).device.type == kind
        for wrong in (lambda: x + torch.ones(3), lambda: torch.randn(2, device=kind, generator=torch.Generator()),
                      lambda: x.normal_(generator=torch.Generator()), lambda: x.numpy(), lambda: nn.Linear(3, 2)(x)):
            with pytest.raises((RuntimeError, TypeError), match=r"device|generator"):
                wrong()
        assert not place.notes and nn.Linear(3, 2).to(kind)(x).device.type == kind
        torch.randn(2, device=kind, generator=torch.Generator(kind)), x.sum().item(), bool(x[0, 0] > 0), x.nonzero(), x.cpu()
        assert {what: sum(n for (w, _), n in place.notes.items() if w == what) for what, _ in place.notes} == {
            "waits": 3, "to the CPU": 1}
        if kind == "mps":
            with pytest.raises(TypeError, match="MPS"):
                x.double()
            with pytest.raises(TypeError, match="MPS"):
                torch.zeros(2, dtype=torch.float64, device=kind)


def test_gradients_cross_to_the_device_and_back():
    leaf = torch.ones(3, requires_grad=True)
    with devices.device("cuda"):
        (leaf.to("cuda") * 2).sum().cpu().backward()
    assert torch.equal(leaf.grad, torch.full((3,), 2.0))


# ---- the races of `weightbook bench --device cuda`, at small sizes ----------------------------------------------------

RACES = {
    "lowbit.quantizers": dict(shapes=((64, 64),), widths=(3,), group_size=32, repeats=1, loops=((32, 64),)),
    "lowbit.wina": dict(shapes=((64, 32),), sparsities=(0.5,), batches=(1, 4), repeats=1),
    "lowbit.adadim": dict(shapes=((64, 64),), group_size=32, repeats=1),
    "sharing.ponita": dict(points=(3,), orientations=(4,), channels=(8,), total=6, repeats=1),
    "estimation.soundscape_kmeans": dict(points=400, clusters=(4,), repeats=1),
    "reparam.compander": dict(depth=8, batch=2, repeats=1),
    "weighting.weighted_cfm": dict(batches=(8,), image_batches=(2,), side=8, width=8, repeats=1),
    "adapting.weight_signatures": dict(convolutions=1, count=2, images=2, repeats=1),
}


@pytest.mark.parametrize("name", RACES)
@pytest.mark.filterwarnings("ignore")
def test_a_race_runs_on_the_device(name, monkeypatch, tmp_path):
    from dataclasses import replace

    from weightbook.book import bench, cli
    from weightbook.book.settings import load_settings

    module = importlib.import_module(f"weightbook.{name}")
    chapter = name.rpartition(".")[2]
    for place, what, new in (
        (bench, "device_name", lambda device: "nvidia-none"), (bench, "_SCRATCH_BYTES", 64), (torch, "compile", lambda f, **_: f),
        (bench, "measure_bandwidth", lambda device, **_: 1e12), (adadim, "search_arms", lambda **_: {"forward": list}),
        (bench, "time_pairs", functools.partial(quick_pairs, bench.time_pairs)),
    ):
        monkeypatch.setattr(place, what, new)
    monkeypatch.setitem(bench._SAMPLERS, "cuda", bench._cpu_sample)
    assert {short.rpartition(".")[2] for short in RACES} == set(cli._BY_VALUE)
    settings = replace(load_settings(device="cpu"), device="cuda", cache=tmp_path)
    with devices.device("cuda") as place:
        rows = module.benchmark(settings, **RACES[name])
        assert place.kind == "cuda" and rows
    file = bench.save_rows(chapter, rows, settings=settings)
    assert file.parts[-2:] == ("nvidia-none", f"{chapter}.json") and any("seconds" in row for row in rows)


def quick_pairs(time_pairs, arms, **options):
    return time_pairs(arms, **options | dict(repeats=1, warmup=0, min_time=0.0))
