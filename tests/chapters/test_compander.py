"""Weight Compander against independent oracles: NumPy and SciPy, autograd, hand-written optimisers, brute-force crops."""

import copy
import dataclasses
import itertools
import math
import types

import battery
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special
from test_arm_keys import space_of
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from weightbook.blocks.kernels import HAS_TRITON, force_kernel
from weightbook.blocks.nets import MLP, SmallResNet
from weightbook.book.checks import assert_close, rms_error
from weightbook.reparam import compander as wc

ORACLE = {
    "arctan": (np.arctan, lambda u: 1 / (1 + u**2), np.tan),
    "arsinh": (np.arcsinh, lambda u: 1 / np.sqrt(1 + u**2), np.sinh),
    "erf": (special.erf, lambda u: 2 / np.sqrt(np.pi) * np.exp(-(u**2)), special.erfinv),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(),
            nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3),
        ).double()


X = torch.randn(16, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randint(3, (16,), generator=torch.Generator().manual_seed(1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3, penalty: float = 0.0) -> torch.Tensor:
    "Logits after some steps"
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        (loss + penalty * wc.companded_weight_penalty(model) if penalty else loss).backward()
        optimizer.step()
    return model.eval()(X).detach()


# ---- the function ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", wc.SHAPES)
@pytest.mark.parametrize("function", [wc.compand_reference, wc.compand])
def test_values_and_slopes_are_numpys(function, shape, dtype):
    v = torch.linspace(-4, 4, 301, dtype=torch.float64)
    value, slope, _ = ORACLE[shape]
    w = function(v.to(dtype), 0.8, 0.5, shape=shape)
    assert w.dtype == dtype and w.shape == v.shape
    assert_close(w.double(), torch.from_numpy(0.8 * value(v.numpy() / 0.5)), rtol=TOLERANCE[dtype])
    found = wc.compand_slope(v.to(dtype), 0.8, 0.5, shape=shape)
    assert_close(found.double(), torch.from_numpy(1.6 * slope(v.numpy() / 0.5)), rtol=2 * TOLERANCE[dtype])


@settings(max_examples=80, deadline=None)
@given(
    a=st.floats(0.05, 20), b=st.floats(0.05, 20), share=st.floats(1e-6, 0.99), shape=st.sampled_from(wc.SHAPES)
)
def test_round_trip_inside_the_bound(a, b, share, shape):
    edge = min(wc.compand_bound(a, shape=shape), 3 * a)
    w = torch.tensor([share * edge, -share * edge], dtype=torch.float64)
    v = wc.compand_inverse(w, a, b, shape=shape)
    assert_close(v, torch.from_numpy(b * ORACLE[shape][2](w.numpy() / a)), rtol=1e-9)
    assert_close(wc.compand(v, a, b, shape=shape), w, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_huge_parameters_stay_within_the_rounded_bound_and_stop(dtype):
    v = torch.tensor([-6e4, -1e3, 1e3, 6e4], dtype=dtype).requires_grad_()
    w = wc.compand(v, 0.8, 0.5)
    w.sum().backward()
    assert (w.abs() <= torch.tensor(0.4 * math.pi, dtype=dtype)).all() and torch.isfinite(v.grad).all()
    assert (v.grad >= 0).all() and v.grad.max() < 1e-5


def test_works_under_vmap_and_functional_gradients():
    v, pairs = torch.randn(5, dtype=torch.float64), torch.tensor([[0.8, 0.5], [1.0, 2.0]], dtype=torch.float64)
    loss = lambda v, a, b: wc.compand(v, a, b).square().sum()  # noqa: E731
    by_vmap = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(v, *pairs.T)
    for row, (a, b) in zip(by_vmap, pairs, strict=False):
        assert_close(row, 2 * wc.compand_reference(v, a, b) * wc.compand_slope(v, a, b), rtol=1e-12)


def test_a_companded_model_compiles_as_one_graph():
    model = wc.compand_model(net(), 0.9, 0.6)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for m in (model, compiled):
        F.cross_entropy(m(X), Y).backward()
    for ours, expected in zip(compiled.parameters(), model.parameters(), strict=True):
        assert_close(ours.grad, expected.grad, rtol=1e-10)


# ---- kernel ----------------------------------------------------------------------------------------------------------


def kernel_arguments(shape, dtype, generator):
    v = (4 * torch.randn(shape, generator=generator)).to(dtype)
    return v, torch.tensor(0.8), torch.tensor(0.5)


test_kernel = battery.kernel(
    wc.compand_reference, wc.compand, kernel_arguments, grads=(0, 1, 2),
    rows={"one": ((1,),), "odd": ((63,),), "three axes": ((7, 11, 3),), "over a block": ((1025,),), "empty": ((0,),)},
    bounds={torch.float32: 1e-5, torch.bfloat16: 5e-3, torch.float16: 5e-3},
)


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
@pytest.mark.parametrize(("a", "b"), [(-0.8, 0.5), (0.8, -0.5), (3.0, 0.01), (0.01, 3.0)])
def test_kernel_takes_learned_pairs_of_any_sign_and_strided_tensors(a, b):
    v = torch.randn(6, 10).T.requires_grad_()
    scalars = torch.tensor(a), torch.tensor(b)
    with force_kernel():
        w = wc.compand(v, *scalars)
        grad, = torch.autograd.grad(w.sum(), v)
    assert_close(w.detach(), wc.compand_reference(v.detach(), *scalars), rtol=1e-5)
    assert_close(grad, wc.compand_slope(v.detach(), *scalars), rtol=1e-5)


# ---- converters ------------------------------------------------------------------------------------------------------


TestParametrisation = battery.parametrisation(
    net, lambda model: wc.compand_model(model, 0.9, 0.6), wc.remove_weight_compander, X)
TestLearnablePair = battery.parametrisation(
    net, lambda model: wc.compand_model(model, 0.9, 0.6, granularity="layer", learnable=True), wc.remove_weight_compander, X)


@pytest.mark.parametrize("shape, granularity, learnable", [
    ("arctan", "layer", False), ("arctan", "global", True), ("arsinh", "layer", True), ("erf", "global", False),
])  # fmt: skip
def test_conversion_preserves_the_function_and_baking_keeps_it(shape, granularity, learnable):
    model = net()
    expected = model.eval()(X)
    wc.compand_model(model, 0.9, 0.6, shape=shape, granularity=granularity, learnable=learnable)
    assert_close(model(X), expected, rtol=1e-12)
    companders = {layer.compander for layer in wc.companded_layers(model)}
    assert len(companders) == (1 if granularity == "global" else 3)
    assert all(isinstance(c.a, nn.Parameter) == learnable for c in companders)
    companded = model(X)
    baked = wc.remove_weight_compander(model)
    assert torch.equal(baked(X), companded)
    assert all(isinstance(m.weight, nn.Parameter) for m in baked.modules() if isinstance(m, (nn.Linear, nn.Conv1d)))


def test_biases_and_norms_stay_plain():
    model = wc.compand_model(net(), 0.9, 0.6)
    plain = {name for name, p in model.named_parameters() if "parametrizations" not in name}
    assert plain == {"0.bias", "1.weight", "1.bias", "4.bias", "6.bias"}


@pytest.mark.parametrize("learnable", [False, True])
def test_state_dicts_and_deep_copies(learnable):
    model = wc.compand_model(net(0), 0.9, 0.6, learnable=learnable)
    train(model, wc.compander_optimizer(model, lr=0.1))
    other = wc.compand_model(net(1), 1.2, 0.7, learnable=learnable)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(X), model.eval()(X)) and torch.equal(copy.deepcopy(model)(X), model(X))


def test_half_precision_layers_keep_exact_scalars():
    layer = wc.weight_compander(nn.Linear(8, 8).bfloat16(), a=0.7, b=0.3)
    pair = layer.parametrizations.weight[0]
    assert pair.a.dtype == torch.float32 and layer.weight.dtype == torch.bfloat16
    assert_close(pair.a.item(), 0.7, rtol=1e-6)


def test_a_huge_scale_is_plain_training():
    plain, companded = SmallResNet(8, width=4), SmallResNet(8, width=4)
    companded.load_state_dict(plain.state_dict())
    wc.compand_model(companded, 1e3, 1e3)
    x, y = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
    for model in (plain, companded):
        sgd = wc.compander_optimizer(model, lr=0.05, momentum=0.9, weight_decay=1e-3)
        for _ in range(5):
            sgd.zero_grad()
            F.cross_entropy(model(x), y).backward()
            sgd.step()
    assert rms_error(companded.eval()(x), plain.eval()(x)) <= 1e-4


def test_a_refused_model_is_left_as_it_was():
    model = net()
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match="0"):
        wc.compand_model(model, 1e-3, 0.5)
    assert before.keys() == dict(model.named_parameters()).keys()


def test_tied_weights_are_refused():
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="untie"):
        wc.compand_model(tied)


# ---- flat buffer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learnable", [False, True])
def test_the_flat_buffer_trains_like_the_global_parametrization(learnable):
    flat = wc.FlatCompander(net(), 0.9, 0.6, learnable=learnable)
    pairwise = wc.compand_model(net(), 0.9, 0.6, learnable=learnable, granularity="global")
    found = [train(m, wc.compander_optimizer(m, lr=0.1, momentum=0.9, weight_decay=0.01)) for m in (flat, pairwise)]
    assert_close(*found, rtol=1e-10)
    assert_close(wc.remove_weight_compander(flat)(X), found[0], rtol=1e-14)


def test_the_flat_buffer_inside_a_model():
    model = nn.Sequential(wc.FlatCompander(net(), 0.9, 0.6), nn.Linear(3, 3).double())
    assert [layer.name for layer in wc.companded_layers(model)] == ["0.v"]
    restored = nn.Sequential(wc.FlatCompander(net(1), 0.9, 0.6), nn.Linear(3, 3).double())
    restored.load_state_dict(model.state_dict())
    assert torch.equal(restored.eval()(X), model.eval()(X))
    with pytest.raises(ValueError, match="bake"):
        wc.remove_weight_compander(model)


# ---- optimisers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("granularity", ["layer", "global"])
def test_groups_hold_every_parameter_once(learnable, granularity):
    model = wc.compand_model(net(), 0.9, 0.6, learnable=learnable, granularity=granularity)
    groups = wc.compander_param_groups(model, weight_decay=0.1)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    decay = {id(p): (g["weight_decay"], g["effective_decay"]) for g in groups for p in g["params"]}
    for layer in wc.companded_layers(model):
        assert decay[id(layer.original)] == ((0.1, 0.0) if learnable else (0.0, 0.1))
        assert all(decay[id(p)] == (0.0, 0.0) for p in layer.compander.parameters())
    assert decay[id(model[1].weight)] == (0.1, 0.0)


def test_sgd_with_momentum_written_out():
    model, lam, lr, mu = wc.compand_model(net(), 0.9, 0.6), 0.05, 0.1, 0.9
    twin = copy.deepcopy(model)
    train(model, wc.compander_optimizer(model, lr=lr, momentum=mu, weight_decay=lam), steps=4)
    companders = {id(layer.original): layer.compander for layer in wc.companded_layers(twin)}
    buffers = {}
    for _ in range(4):
        twin.zero_grad()
        F.cross_entropy(twin(X), Y).backward()
        with torch.no_grad():
            for p in twin.parameters():
                c = companders.get(id(p))
                g = p.grad + (lam * p if c is None else lam * 0.9 * torch.atan(p / 0.6) * 0.9 * 0.6 / (0.36 + p**2))
                buffers[id(p)] = m = mu * buffers[id(p)] + g if id(p) in buffers else g
                p -= lr * m
    for ours, expected in zip(model.parameters(), twin.parameters(), strict=False):
        assert_close(ours.detach(), expected.detach(), rtol=1e-11)


@pytest.mark.parametrize(("learnable", "decay"), [(False, 0.0), (False, 0.03), (True, 0.03)])
def test_adam_written_out(learnable, decay):
    model = wc.compand_model(net(), 0.9, 0.6, learnable=learnable)
    twin, lr = copy.deepcopy(model), 0.01
    train(model, wc.CompanderAdam(model, lr, weight_decay=decay), steps=5)
    state = {}
    for step in range(1, 6):
        twin.zero_grad()
        F.cross_entropy(twin(X), Y).backward()
        layers = {id(layer.original): layer.compander for layer in wc.companded_layers(twin)}
        scalars = {id(p) for c in layers.values() for p in c.parameters()}
        slopes = {key: (c.a * c.b).item() for key, c in layers.items()}, {key: c.b.item() for key, c in layers.items()}
        effective = {key: (c.a.item(), c.b.item()) for key, c in layers.items()}
        with torch.no_grad():
            for p in twin.parameters():
                slope, g = 1.0, p.grad
                if id(p) in layers:
                    slope = slopes[0][id(p)] / (slopes[1][id(p)] ** 2 + p**2)
                    a, b = effective[id(p)]
                    g = (g + decay * p) / slope if learnable else g / slope + decay * a * torch.atan(p / b)
                elif id(p) not in scalars:
                    g = g + decay * p
                m, s = state.get(id(p), (torch.zeros_like(p), torch.zeros_like(p)))
                m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
                state[id(p)] = m, s
                p -= lr * slope * (m / (1 - 0.9**step)) / ((s / (1 - 0.999**step)).sqrt() + 1e-8)
    for ours, expected in zip(model.parameters(), twin.parameters(), strict=False):
        assert_close(ours.detach(), expected.detach(), rtol=1e-9)


def with_optimizer(make, **options):
    def made():
        model = wc.compand_model(net(), 0.9, 0.6, **options)
        return model, make(model)

    return made


def cross_entropy(model):
    return F.cross_entropy(model(X), Y)


TestSGD = battery.optimiser(
    with_optimizer(lambda m: wc.compander_optimizer(m, lr=0.05, momentum=0.9, weight_decay=0.01)), cross_entropy)
TestAdam = battery.optimiser(with_optimizer(lambda m: wc.CompanderAdam(m, 0.01, weight_decay=0.01)), cross_entropy)
TestLearnableAdam = battery.optimiser(with_optimizer(lambda m: wc.CompanderAdam(m, 0.01), learnable=True), cross_entropy)


def test_removing_the_hook_takes_the_decay_away():
    found = []
    for keep in (True, False):
        model = wc.compand_model(net(), 0.9, 0.6)
        sgd = torch.optim.SGD(wc.compander_param_groups(model, weight_decay=0.5), lr=0.1)
        handle = wc.decay_effective_weights(sgd, model)
        if not keep:
            handle.remove()
        found.append(train(model, sgd))
    assert rms_error(*found) > 1e-3


# ---- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.4, 1.0])
def test_the_flow_ends_where_an_interior_point_method_does(a):
    random = np.random.RandomState(1)
    X, y = random.randn(3, 8), 0.5 * random.randn(3)
    w = wc.companded_flow(X, y, a, 0.7, steps=30_000)
    oracle = optimize.minimize(
        lambda w: wc.compander_potential(w, a, 0.7).sum(), np.zeros(8), jac=lambda w: wc.compander_mirror_grad(w, a, 0.7),
        method="trust-constr", constraints=optimize.LinearConstraint(X, y, y), options=dict(gtol=1e-12, xtol=1e-14, maxiter=3000),
        bounds=optimize.Bounds(-0.999 * a * np.pi / 2, 0.999 * a * np.pi / 2, keep_feasible=True),
    )
    assert rms_error(w, oracle.x) < 1e-3


def test_the_potential_integrates_the_mirror_gradient():
    w = np.linspace(-1.2, 1.2, 49)
    for value, at in zip(wc.compander_potential(w, 0.8, 0.5), w, strict=False):
        area, error = integrate.quad(lambda x: wc.compander_mirror_grad(x, 0.8, 0.5), 0, at)
        assert abs(value - area) <= error + 1e-9


# ---- experiments -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHTBOOK_PROFILE", "quick")
        names = "S Task Way _left _note _split at_hand augment build_network paper_task reparameterise run"
        space = space_of("compander", names.split())
    space.update((name, value) for name, value in vars(wc).items() if not name.startswith("__"))
    return space


def test_weight_normalisation_is_pytorchs(page):
    layer = nn.Linear(5, 3).double()
    w = layer.weight.detach().clone()
    weight_norm(layer)
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    assert_close(g * v / v.norm(dim=1, keepdim=True), w, rtol=1e-12)
    sgd = page["reparameterise"](MLP((5, 4, 3)), page["Way"]("weight norm"), task(page))
    assert {p.shape for group in sgd.param_groups for p in group["params"]} >= {torch.Size([4, 1]), torch.Size([4, 5])}


def task(page, **changes):
    small = dict(images=60, noise=0.2, epochs=2, batch=16, augment=False, half=False)
    return page["Task"](**dict(data="digits", network="digit-net") | small | changes)


@pytest.mark.parametrize("kind", ["plain", "compander", "weight norm", "power"])
def test_arms_start_alike_and_repeat(kind, page):
    train = lambda kind: page["run"](task(page, curves=True), page["Way"](kind, 0.8, 0.5), 3)  # noqa: E731
    found = [train(kind) for _ in range(2)]
    assert found[0]["test"] == found[1]["test"] and found[0]["size"] == found[1]["size"]
    assert_close(found[0]["fan"][0], train("plain")["fan"][0], rtol=1e-5, atol=2e-5)  # rounded to five digits
    assert found[0]["fan"].shape == (3, 9) and np.array_equal(found[0]["fan"], found[1]["fan"])


def test_what_a_run_leaves_is_what_its_weights_say(page):
    from weightbook.book.arms import encode

    way = page["Way"]("compander", 0.8, 0.5)
    left = page["run"](task(page, curves=True), way, 3)
    content, large = encode(left)
    assert not large and left["largest"] <= wc.compand_bound(0.8) and 0 < left["used"] <= 1
    assert_close(left["used"], left["largest"] / wc.compand_bound(0.8), rtol=1e-6)
    assert left["first, ever"] == pytest.approx(np.abs(left["fan"]).max(), abs=1e-5)
    model = wc.compand_model(page["build_network"]("digit-net", 1, 10), 0.8, 0.5)
    found = page["_left"](model, way, [page["_note"](model)], False)
    flat = torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]).double()
    rates = torch.cos(flat / 0.8) ** 4  # eq. (8) over its value at zero
    assert_close(found["slowed"], 100 * (rates < 0.9).double().mean().item(), rtol=1e-9)
    assert_close(found["size"], flat.norm().item(), rtol=1e-6)
    assert_close(found["rates"].sum(), 1.0, rtol=1e-12)


def test_data_that_the_book_lacks_come_from_an_archive(page, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    parts = {f"{part}_x": generator.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8) for part in ("train", "test")}
    parts |= {f"{part}_y": np.arange(40) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "cifar100.npz", **parts)
    settings_ = dataclasses.replace(page["S"], data=tmp_path)
    monkeypatch.setitem(page, "S", settings_)
    assert page["at_hand"]("CIFAR-100 ResNet-18") and not page["at_hand"]("TinyImageNet ResNet-50")
    assert not page["at_hand"]("ImageNet ResNet-50") and not page["at_hand"]("CIFAR-100 WRN-28-10")
    real = page["paper_task"]("CIFAR-100 VGG16")
    assert real["network"] == "vgg-16" and real["images"] == 50_000
    small = real | dict(network="resnet-8", images=30, validation=10, epochs=1, batch=10)
    left = page["run"](page["Task"](**small), page["Way"]("compander", 0.7, 1.0), 0)
    assert 0 <= left["test"] <= 100 and left["used"] > 0


def test_the_matched_rate_moves_weights_and_nothing_else(page):
    model = MLP((5, 4, 3))
    sgd = page["reparameterise"](model, page["Way"](rate=2.5), task(page, rate=0.1))
    rates = {id(p): group["lr"] for group in sgd.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in model.named_parameters()} == {
        name: 0.25 if name.endswith("weight") else 0.1 for name, _ in model.named_parameters()
    }


def test_noise_hits_the_asked_share_and_the_test_labels_stay(page):
    clean, noisy = (page["_split"](task(page, images=1000, noise=noise), 5) for noise in (0.0, 0.3))
    wrong = (clean["train"][1] != noisy["train"][1]).double().mean().item()
    assert abs(wrong - 0.3) < 4 * math.sqrt(0.21 / 1000)
    assert torch.equal(clean["test"][1], noisy["test"][1])


def test_crops_and_flips_are_those_of_a_loop(page):
    x = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4) + 1
    padded = F.pad(x, (2,) * 4)
    every = {
        padded[n, :, top : top + 5, left : left + 4].flip(-1 if flip else ()).numpy().tobytes()
        for n, top, left, flip in itertools.product(range(2), range(5), range(5), (False, True))
    }
    torch.manual_seed(0)
    seen = {image.contiguous().numpy().tobytes() for _ in range(40) for image in page["augment"](x, pad=2)}
    assert seen <= every and len(seen) > 40


def test_the_benchmark_writes_complete_rows():
    rows = wc.benchmark(types.SimpleNamespace(device="cpu"), depth=8, batch=4, repeats=3)
    assert [row["arm"] for row in rows] == ["plain", "fused", "flat", "weight norm", "unfused", "Ψ alone"]
    assert all(row["chapter"] == "compander" and row["ratio"] > 0 for row in rows)


# ---- recipe ----------------------------------------------------------------------------------------------------------


test_recipe = battery.recipe("compander", "bit for bit: True")


# ---- bad input -------------------------------------------------------------------------------------------------------

V = torch.randn(4)
BAD = {
    "parameter list": (lambda: wc.compand([0.1], 1.0, 1.0), TypeError, "v"),
    "integer parameter": (lambda: wc.compand(torch.ones(2, dtype=torch.long), 1.0, 1.0), (TypeError, ValueError), "v"),
    "zero scale": (lambda: wc.compand(V, 0.0, 1.0), ValueError, "`a`"),
    "infinite stretch": (lambda: wc.compand(V, 1.0, math.inf), ValueError, "`b`"),
    "vector scale": (lambda: wc.compand(V, torch.ones(2), 1.0), ValueError, "`a`"),
    "shape": (lambda: wc.compand(V, 1.0, 1.0, shape="tanh"), ValueError, "shape"),
    "slope shape": (lambda: wc.compand_slope(V, 1.0, 1.0, shape="tanh"), ValueError, "shape"),
    "bound shape": (lambda: wc.compand_bound(1.0, shape="relu"), ValueError, "shape"),
    "outside": (lambda: wc.compand_inverse(torch.tensor([2.0]), 1.0, 1.0), ValueError, "larger `a`"),
    "inverse of nan": (lambda: wc.compand_inverse(torch.tensor([math.nan]), 1.0, 1.0), ValueError, "w"),
    "rate of a list": (lambda: wc.effective_rate([0.1], 1.0, 1.0), TypeError, "w"),
    "potential outside": (lambda: wc.compander_potential(np.array([2.0]), 1.0, 1.0), ValueError, "`w`"),
    "mirror scale": (lambda: wc.compander_mirror_grad(np.zeros(2), -1.0, 1.0), ValueError, "`a`"),
    "flow shapes": (lambda: wc.companded_flow(np.zeros((2, 3)), np.zeros(3), 1.0, 1.0), ValueError, "`X`"),
    "flow steps": (lambda: wc.companded_flow(np.zeros((2, 3)), np.zeros(2), 1.0, 1.0, steps=0), ValueError, "steps"),
    "negative scale": (lambda: wc.WeightCompander(-1.0), ValueError, "`a`"),
    "text scale": (lambda: wc.WeightCompander("1"), TypeError, "`a`"),
    "power": (lambda: wc.PowerPropagation(0.9), ValueError, "alpha"),
    "no such tensor": (lambda: wc.weight_compander(nn.Linear(2, 2), "kernel"), TypeError, "name"),
    "twice": (lambda: wc.weight_compander(wc.weight_compander(nn.Linear(2, 2))), ValueError, "already"),
    "model twice": (lambda: wc.compand_model(wc.compand_model(nn.Linear(2, 2))), ValueError, "already"),
    "nothing to compand": (lambda: wc.compand_model(nn.ReLU()), ValueError, "model"),
    "granularity": (lambda: wc.compand_model(nn.Linear(2, 2), granularity="row"), ValueError, "granularity"),
    "too small": (lambda: wc.compand_model(nn.Linear(2, 2), 0.01), ValueError, "model"),
    "decay": (lambda: wc.compander_param_groups(nn.Linear(2, 2), weight_decay=-1.0), ValueError, "weight_decay"),
    "adaptive": (lambda: wc.compander_optimizer(nn.Linear(2, 2), torch.optim.Adam, lr=0.1), ValueError, "CompanderAdam"),
    "adam of a plain model": (lambda: wc.CompanderAdam(nn.Linear(2, 2)), ValueError, "compand_model"),
    "no percentiles": (lambda: wc.weight_percentiles(torch.empty(0)), ValueError, "w"),
    "bytes": (lambda: wc.compand_bytes(-1), ValueError, "count"),
}

test_bad_input = battery.errors(BAD)


@pytest.mark.parametrize(("call", "named"), [
    (lambda page: page["build_network"]("resnet-9", 3, 10), "name"), (lambda page: page["Way"]("wc"), "kind"),
    (lambda page: page["Way"]("compander", rate=2.0), "rate"), (lambda page: page["run"](task(page), page["Way"](), -1), "seed"),
], ids=["network", "kind", "rate", "seed"])
def test_bad_input_of_the_experiments(call, named, page):
    with pytest.raises(ValueError, match=named):
        call(page)


def test_a_parametrization_of_another_kind_is_no_compander():
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    assert wc.companded_layers(layer) == []


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("return a * _SHAPES[check_choice", "return -a * _SHAPES[check_choice"),
    2: ("return (b * _SHAPES[shape].inverse(wide / a))", "return (_SHAPES[shape].inverse(wide / a))"),
    3: ("return (a / b) * _SHAPES", "return (b / a) * _SHAPES"),
    4: ("-(g * a * v / (b**2 + v**2)).sum()", "(g * a * v / (b**2 + v**2)).sum()"),
    5: ("self.alpha * v.abs().pow(self.alpha - 1)", "v.abs().pow(self.alpha - 1)"),
    6: ("(g + decay * compand_reference(v, 0.8, 0.5)) * compand_slope", "(g + decay * v) * compand_slope"),
    7: ("decay * (0.5 / 0.8) ** 2 * w, rtol", "decay * (0.8 / 0.5) ** 2 * w, rtol"),
    8: ("torch.cos(w / a) ** 4", "torch.cos(w / a) ** 2"),
    9: ("trajectory(0.8, c * 0.5, c**2 * 0.02)", "trajectory(0.8, c * 0.5, c * 0.02)"),
    10: ("v**3 / 3, rtol=1 / c**2", "v**3 / 6, rtol=1 / c**2"),
    11: ("1 / effective_rate(w, 0.8, 0.5), rtol", "effective_rate(w, 0.8, 0.5), rtol"),
    12: ("b**2 / a * (tan + tan**3 / 3)", "b**2 / a * (tan - tan**3 / 3)"),
    13: ("(a * b / (b * b + v * v))", "1.0"),
    14: ("v.mul_(slope).add_(start)", "v.add_(start)"),
    15: ("return 5 * check_integer", "return 4 * check_integer"),
}
TestBreaks = battery.breaks("compander", BREAKS, until="### The race")
