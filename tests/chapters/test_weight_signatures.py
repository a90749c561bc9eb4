"""Robust weight signatures against independent oracles: NumPy, the explicit projector, hand-coded task arithmetic."""

import copy
import math
import types

import battery
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from weightbook.adapting import weight_signatures as ws
from weightbook.blocks.nets import SmallResNet, count_parameters
from weightbook.book.checks import assert_close, rms_error
from weightbook.book.settings import load_settings

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def draw(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def net(seed: int = 0, dtype=torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Linear(48, 5)]
        return nn.Sequential(*layers).to(dtype)


def states(count: int = 3, dtype=torch.float32) -> list[dict[str, torch.Tensor]]:
    return [copy.deepcopy(net(seed, dtype).state_dict()) for seed in range(count)]


KEYS = ws.shallow_keys(net(), 2)


def signature(seed: int = 2, **options) -> ws.WeightSignature:
    models = states(seed + 1)
    return ws.extract_signature(models[seed], models[1], models[0], **({"keys": KEYS} | options))


# ---- projection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (4, 3, 3, 3)], ids=str)
def test_projection_is_the_explicit_projector(shape, dtype):
    v, a = draw(*shape, seed=1, dtype=dtype), draw(*shape, seed=2, dtype=dtype)
    found = ws.project_out(v, a)
    flat = a.double().numpy().ravel()
    projector = np.eye(len(flat)) - np.outer(flat, flat) / (flat @ flat)
    expected = torch.from_numpy(projector @ v.double().numpy().ravel()).reshape(shape)
    assert found.dtype == dtype
    assert_close(found.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * v.double().norm().item())


@settings(max_examples=60, deadline=None)
@given(kappa=st.floats(-5, 5), scale=st.floats(-30, 30), size=st.integers(2, 40))
def test_projection_laws_at_any_scale(kappa, scale, size):
    a, w = draw(size, seed=1) * 10.0**scale, draw(size, seed=2)
    if scale > 25 or scale < -25:
        w = w * 10.0**scale
    rws = ws.project_out(kappa * a + w, a)
    inner = (rws.double() * a.double()).sum().abs()
    assert inner <= 1e-5 * max((kappa * a + w).double().norm() * a.double().norm(), 1e-300)
    assert torch.equal(ws.project_out(w, torch.zeros_like(a)), w)
    assert ws.project_out(kappa * a, a).double().norm() <= 1e-5 * a.double().norm()


def test_small_directions_can_be_declared_zero():
    v, a = draw(5), 1e-6 * draw(5, seed=1)
    assert torch.equal(ws.project_out(v, a, eps=1e-4), v) and not torch.equal(ws.project_out(v, a), v)


# ---- extraction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extraction_is_numpys_tensor_by_tensor(dtype, project):
    pre, clean, robust = states(dtype=dtype)
    found = ws.extract_signature(robust, clean, pre, keys=KEYS, project=project, corruption="fog", severity=5)
    assert list(found.tensors) == KEYS == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert found.meta["corruption"] == "fog" and found.meta["severity"] == "5"
    for key, t in found.tensors.items():
        start, two, three = (state[key].double().numpy() for state in (pre, clean, robust))
        a, v = (two - start).ravel(), (three - start).ravel()
        expected = (v - (v @ a) / (a @ a) * a if project else v - a).reshape(t.shape)
        assert t.dtype == torch.promote_types(dtype, torch.float32)
        assert_close(t.double(), torch.from_numpy(expected), rtol=1e-5)


def test_modules_and_state_dicts_give_the_same_signature():
    models = [net(seed) for seed in range(3)]
    by_module = ws.extract_signature(models[2], models[1], models[0], keys=KEYS)
    assert all(torch.equal(t, by_module.tensors[key]) for key, t in signature().tensors.items())
    assert by_module.meta == signature().meta


def test_equal_models_have_no_signature_and_an_unmoved_layer_keeps_all():
    pre, clean, robust = states()
    assert ws.extract_signature(clean, clean, pre, keys=KEYS).norm() == 0
    clean["0.weight"] = pre["0.weight"]
    found = ws.extract_signature(robust, clean, pre, keys=["0.weight"])
    assert_close(found.tensors["0.weight"], robust["0.weight"] - pre["0.weight"], rtol=1e-6)


def test_all_floating_tensors_without_projection_give_the_robust_model():
    _, clean, robust = states()
    found = ws.apply_signatures(clean, ws.extract_signature(robust, clean, project=False))
    assert "1.num_batches_tracked" in found
    for key, t in robust.items():
        assert_close(found[key].double(), t.double(), rtol=1e-6)


def test_layers_are_found_in_models_of_other_packages():
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    model = transformers.ResNetForImageClassification(config)
    keys = ws.shallow_keys(model, 3, example=torch.zeros(1, 3, 32, 32))
    assert keys[0] == "resnet.embedder.embedder.convolution.weight" and set(keys) <= set(model.state_dict()) and len(keys) == 3
    assert ws.shallow_keys(model.train(), 1, example=torch.zeros(1, 3, 32, 32)) == keys[:1] and model.training
    assert all("norm" not in key for key in ws.shallow_keys(SmallResNet(8), 7))


# ---- patching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code_compat", [False, True])
@pytest.mark.parametrize("weights", [None, 0.7, [0.9, -0.4]], ids=str)
def test_patching_is_hand_coded_task_arithmetic(weights, code_compat):
    target, one, two = net(7).state_dict(), signature(2), signature(3)
    found = ws.apply_signatures(target, [one, two], weights, code_compat=code_compat)
    lam = [0.5, 0.5] if weights is None else [weights] * 2 if isinstance(weights, float) else weights
    lam = [w * w for w in lam] if code_compat else lam
    for key, t in target.items():
        if key in KEYS:
            by_hand = t.double() + lam[0] * one.tensors[key].double() + lam[1] * two.tensors[key].double()
            assert_close(found[key].double(), by_hand, rtol=1e-6)
        else:
            assert found[key] is t


def test_signatures_over_different_layers_are_added_where_they_are():
    one, two = signature(2, keys=KEYS[:2]), signature(3, keys=KEYS[1:])
    model = net(7)
    before = copy.deepcopy(model.state_dict())
    expected = {KEYS[0]: (0.3, 0), KEYS[1]: (0.3, -2.0), KEYS[2]: (0, -2.0)}
    with ws.patched(model, one, two, weights=[0.3, -2.0]):
        for key, (w1, w2) in expected.items():
            by_hand = before[key] + sum(w * s.tensors[key] for w, s in ((w1, one), (w2, two)) if w)
            assert_close(model.state_dict()[key], by_hand, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_bit_is_back(dtype):
    model = net(7, dtype)
    before = copy.deepcopy(model.state_dict())
    patch = ws.SignaturePatch(model, [signature(2), signature(3)], [1.3, -0.2])
    for weights in (0.1, [1e4, 3.0], 0.0):
        patch.set(weights)
    assert patch.weights == [0.0, 0.0]
    patch.set([0.9, 0.1])
    assert not torch.equal(model[0].weight, before["0.weight"])
    patch.remove()
    assert patch.weights is None and all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
    patch.set(0.5)
    patch.remove()
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())


def test_strided_weights_are_patched_alike_and_keep_their_layout():
    model, plain = net(7).to(memory_format=torch.channels_last), net(7)
    before, strides = copy.deepcopy(model.state_dict()), model[0].weight.stride()
    patch = ws.SignaturePatch(model, [signature(2), signature(3)], [0.4, 0.6])
    ws.SignaturePatch(plain, [signature(2), signature(3)], [0.4, 0.6])
    assert strides != plain[0].weight.stride() and model[0].weight.stride() == strides
    for one, two in zip(model.parameters(), plain.parameters(), strict=True):
        assert_close(one.detach(), two.detach(), rtol=1e-6)
    patch.remove()
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())


def test_the_dial_counts_from_the_originals():
    model, fog = net(7), signature()
    with ws.patched(model, fog) as patch:
        for _ in range(50):
            patch.set(0.3)
            patch.set(0.9)
        assert_close(model[0].weight.detach(), net(7)[0].weight.detach() + 0.9 * fog.tensors["0.weight"], rtol=1e-6)


def test_an_error_inside_takes_the_patch_off():
    model = net(7)
    with pytest.raises(KeyError), ws.patched(model, signature()):
        raise KeyError
    assert torch.equal(model[0].weight, net(7)[0].weight)


def test_a_training_step_under_the_patch_is_not_lost():
    model = net(7)
    patch = ws.SignaturePatch(model, signature())
    model(torch.randn(2, 2, 6, 6)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    trained = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="while patched"):
        patch.remove()
    assert torch.equal(model[0].weight, trained)


def test_subtraction_is_within_two_units_in_the_last_place():
    target, fog = net(7).state_dict(), signature()
    worn = ws.apply_signatures(target, fog, 1.7)
    back = ws.remove_signatures(worn, fog, 1.7)
    for key in KEYS:
        largest = torch.maximum(worn[key].abs(), target[key].abs())
        assert ((back[key] - target[key]).abs() <= 2 * torch.finfo(torch.float32).eps * largest).all()
    exact = ws.remove_signatures(worn, fog, 1.7, originals=target)
    assert all(torch.equal(t, target[key]) for key, t in exact.items())
    squared = ws.apply_signatures(target, [fog], 1.7, code_compat=True)
    for key in KEYS:
        assert_close(ws.remove_signatures(squared, fog, 1.7, code_compat=True)[key], target[key], rtol=1e-5)


def test_algebra_of_signatures():
    one, two = signature(2, corruption="fog"), signature(3, corruption="snow")
    both = 0.5 * one + two * -2
    assert both.meta["corruption"] == "fog + snow" and both.numel == one.numel
    for key, t in both.tensors.items():
        assert_close(t, 0.5 * one.tensors[key] - 2 * two.tensors[key], rtol=1e-6)
    assert_close((3 * one).norm(), 3 * one.norm(), rtol=1e-6)
    assert (2 * ws.quantize_signature(one, 16)).levels is None
    with pytest.raises(TypeError):
        one + 1


# ---- kernel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize(("shape", "count"), [((1,), 1), ((63,), 2), ((5, 3, 3, 3), 4), ((1025,), 3), ((0,), 2)], ids=str)
def test_a_patch_into_given_memory_matches_the_definition(shape, count, dtype):
    original, rows, lam = draw(*shape, dtype=dtype), draw(count, *shape, seed=1, dtype=dtype), draw(count, seed=2)
    out = torch.full_like(original, math.nan)
    found = ws.patch_tensor(original, rows, lam, out=out)
    assert found is out and found.dtype == dtype
    if original.numel():
        wanted = ws.patch_tensor_reference(original.float(), rows.float(), lam)
        assert rms_error(found.float(), wanted) <= (1e-5 if dtype == torch.float32 else 5e-3)
        assert rms_error(ws.patch_tensor(original, rows, lam).float(), wanted) <= (1e-5 if dtype == torch.float32 else 5e-3)


def test_a_patch_is_differentiated_in_all_inputs():
    leaves = [draw(4).double().requires_grad_(), draw(3, 4, seed=1).double().requires_grad_(),
              draw(3, seed=2).double().requires_grad_()]
    assert torch.autograd.gradcheck(ws.patch_tensor, leaves)


# ---- rounding and files ----------------------------------------------------------------------------------------------


def oracle(x: np.ndarray, levels: int) -> np.ndarray:
    span = x.max() - x.min()
    return np.round((levels - 1) * (x - x.min()) / span) / (levels - 1) * span + x.min()


@settings(max_examples=60, deadline=None)
@given(levels=st.integers(2, 400), size=st.integers(2, 200), scale=st.floats(-6, 6))
def test_rounding_is_numpys(levels, size, scale):
    x = draw(size, seed=size) * 10.0**scale
    found, wide = ws.uniform_quantize(x, levels), x.double().numpy()
    step = (x.max() - x.min()).item() / (levels - 1)
    assert np.abs(found.double().numpy() - oracle(wide, levels)).max() <= 1e-4 * step + 1e-6 * np.abs(wide).max() or (
        np.abs(found.double().numpy() - wide).max() <= 0.5001 * step)  # ties may fall the other way in single precision
    assert (found - x).abs().max().item() <= 0.5 * step + 1e-6 * x.abs().max().item()
    assert found.unique().numel() <= levels and torch.equal(ws.uniform_quantize(found, levels), found)
    assert found.min() == x.min() and found.max() == x.max()


@pytest.mark.parametrize("levels", [4, 6, 16, 256])
def test_logarithmic_rounding_keeps_signs_and_relative_error(levels):
    x = draw(500) ** 3
    found = ws.log_quantize(x, levels)
    depth = np.log2(np.abs(x.double().numpy()))
    expected = np.sign(x.numpy()) * 2.0 ** oracle(depth, levels // 2)
    assert rms_error(found, expected) < 1e-5 and found.unique().numel() <= levels
    bound = 2 ** (np.ptp(depth) / (levels // 2 - 1) / 2) - 1
    assert (np.abs(found.numpy() / x.numpy() - 1) <= bound * (1 + 1e-4) + 1e-5).all()
    zeros = ws.log_quantize(torch.cat([x, torch.zeros(1)]), levels, eps=1e-3)
    assert (zeros != 0).all() and abs(zeros[-1].item()) == pytest.approx(1e-3, rel=1e-4)


def test_a_constant_tensor_is_kept():
    for scheme in ws.SCHEMES:
        x = torch.full((5,), 0.25)
        assert_close(ws.quantize(x, 8, scheme).dequantize(), x, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(bits=st.integers(1, 16), count=st.integers(1, 70), seed=st.integers(0, 99))
def test_codes_survive_packing(bits, count, seed):
    codes = torch.randint(2**bits, (count,), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    packed = ws._pack(codes, bits)
    assert packed.dtype == torch.uint8 and len(packed) == -(-count * bits // 8)
    assert torch.equal(ws._unpack(packed, bits, (count,)), codes)


@pytest.mark.parametrize("scheme", ws.SCHEMES)
@pytest.mark.parametrize("levels", [None, 4, 10, 256, 1000])
def test_files_return_every_bit_and_are_as_small_as_claimed(levels, scheme, tmp_path):
    plain = signature(2, corruption="fog", dataset="ä; \"x\"")
    kept = plain if levels is None else ws.quantize_signature(plain, levels, scheme)
    path = ws.save_signature(kept, tmp_path / "deep" / "fog.safetensors")
    again = ws.load_signature(path)
    assert again.meta == kept.meta and again.levels == levels and again.nbytes == kept.nbytes
    assert set(again.tensors) == set(kept.tensors)
    assert all(torch.equal(t, again.tensors[key]) and t.dtype == again.tensors[key].dtype for key, t in kept.tensors.items())
    raw = path.read_bytes()
    payload = len(raw) - 8 - int.from_bytes(raw[:8], "little")
    bits = 32 if levels is None else (levels - 1).bit_length()
    assert payload == sum(-(-t.numel() * bits // 8) + (0 if levels is None else 8) for t in kept.tensors.values())
    if levels in (None, 4, 256):
        assert payload == kept.nbytes
    ws.save_signature(again, tmp_path / "again.safetensors")
    twice = ws.load_signature(tmp_path / "again.safetensors")
    assert all(torch.equal(t, twice.tensors[key]) for key, t in kept.tensors.items())


def test_other_files_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    safetensors.save_file({"w": torch.zeros(2)}, str(path))
    with pytest.raises(ValueError, match="no weight signature"):
        ws.load_signature(path)
    with pytest.raises(FileNotFoundError):
        ws.load_signature(tmp_path / "absent.safetensors")


def test_storage_of_the_papers_network():
    widths = [3, 64, 64, 128, 128, 256, 256]
    sizes = [n for i, o in zip(widths, widths[1:], strict=False) for n in (9 * i * o, o)]
    assert sum(sizes) == 1_145_408 and ws.signature_bytes(sizes) == 4 * 1_145_408
    assert ws.signature_bytes(sizes, 256) == 1_145_408 + 8 * 12
    assert ws.signature_bytes([5], 2) == 1 + 8 and ws.signature_bytes([9], 3) == math.ceil(9 * math.log2(3) / 8) + 8


# ---- comparing -------------------------------------------------------------------------------------------------------


def test_similarity_is_numpys():
    found = [signature(seed) for seed in (2, 3, 4)]
    flat = np.stack([np.concatenate([s.tensors[k].double().numpy().ravel() for k in KEYS]) for s in found])
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    assert_close(ws.signature_similarity(found), torch.from_numpy(unit @ unit.T), rtol=1e-9)
    assert_close(ws.signature_similarity(found[:1], found), torch.from_numpy(unit[:1] @ unit.T), rtol=1e-9)
    layers = ws.signature_similarity(found, per_layer=True)
    one, two = (found[i].tensors[KEYS[2]].flatten().double() for i in (0, 1))
    assert layers.shape == (4, 3, 3)
    assert_close(layers[2, 0, 1], one @ two / (one.norm() * two.norm()), rtol=1e-9)
    assert ws.signature_similarity([0 * found[0]], found).abs().max() == 0


def test_relative_differences():
    one, two = states(2)
    found = ws.layerwise_relative_difference(one, two)
    assert "1.num_batches_tracked" not in found
    assert_close(found["0.weight"], ((one["0.weight"] - two["0.weight"]).norm() / two["0.weight"].norm()).item(), rtol=1e-6)
    assert found["1.running_mean"] == 0
    assert ws.layerwise_relative_difference({"w": torch.ones(2)}, {"w": torch.zeros(2)}) == {"w": math.inf}


def test_the_control_has_the_norms_and_nothing_else():
    fog = signature()
    first, again = (ws.random_signature(fog, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    for key, t in fog.tensors.items():
        assert_close(first.tensors[key].norm(), t.norm(), rtol=1e-5)
        assert torch.equal(first.tensors[key], again.tensors[key])
    assert abs(ws.signature_similarity([fog], [first]).item()) < 6 / math.sqrt(fog.numel)


# ---- batch norm ------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_all_images_whatever_the_batches():
    model, x = net(0).double(), draw(50, 2, 6, 6, dtype=torch.float64)
    model.eval()
    model[1].train()
    ws.update_bn_stats(model, x.split([7, 20, 23]))
    inner = model[0](x).detach().numpy()
    assert_close(model[1].running_mean, torch.from_numpy(inner.mean((0, 2, 3))), rtol=1e-10)
    by_batch = [part.var((0, 2, 3), ddof=1) * len(part) for part in np.split(inner, [7, 27])]
    assert_close(model[1].running_var, torch.from_numpy(sum(by_batch) / 50), rtol=1e-10)
    assert not model.training and model[1].training and model[1].momentum == 0.1


def test_the_released_way_replaces_special_tensors_and_squares():
    nets = []
    for seed in range(5):
        torch.manual_seed(seed)
        nets.append(ws.build_network("resnet-8", 3, 5))
    pre, clean, *robust = (m.state_dict() for m in nets)
    keys = ws.shallow_keys(nets[0], 3, kinds=(nn.Conv2d, ws.ResidualUnit))
    found = ws.patch_like_released(clean, robust, clean, pre, keys)
    for key, t in clean.items():
        if not t.is_floating_point():
            assert torch.equal(found[key], t)
        elif "bn" in key or "downsample" in key:
            assert_close(found[key], sum(state[key] for state in robust) / 3, rtol=1e-5)
        elif key in keys:
            total = t.double()
            for state in robust:
                a, v = ((s[key] - pre[key]).double() for s in (clean, state))
                total = total + (v - (v * a).sum() / (a * a).sum() * a) / 9  # (1/3)²
            assert_close(found[key].double(), total, rtol=1e-5)
        else:
            assert found[key] is t
    assert any("layer3" in key and not torch.equal(found[key], clean[key]) for key in clean)  # not shallow


# ---- networks and runs -----------------------------------------------------------------------------------------------

TINY = ws.Study("digits", "here", "vgg-5", 300, 100, 30, 60, 1, 2, batch=25, pad=None, half=False)
HERE = load_settings(profile="quick")


def test_parameter_counts_are_the_papers():
    with torch.device("meta"):
        assert count_parameters(ws.build_network("vgg-16", 3, 10)) == 14_719_818
        assert count_parameters(ws.build_network("resnet-50", 3, 200)) == 23_917_832
    for name in ("vgg-5", "vgg-8", "resnet-8"):
        assert ws.build_network(name, 3, 7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_input_scale_is_part_of_the_network():
    x = torch.rand(4, 3, 5, 5)
    found = ws.Normalize("cifar100")(x)
    assert_close(found[:, 1], (x[:, 1] - 0.4865) / 0.2564, rtol=1e-5)
    assert "normalize.mean" not in ws.build_network("vgg-5", 3, 5).state_dict()


def test_parts_share_no_image():
    parts = {name: ws.study_images(TINY, name, "train", HERE) for name in ("pre", "A", "B", "new")}
    ranges = {name: (int(y.min()), int(y.max())) for name, (_, y) in parts.items()}
    assert ranges == {"pre": (0, 9), "A": (0, 4), "B": (0, 4), "new": (0, 4)}
    assert len(parts["pre"][0]) == 300 and len(parts["A"][0]) == len(parts["B"][0]) == 130
    rows = [image.numpy().tobytes() for x, _ in parts.values() for image in x]
    assert len(set(rows)) == len(rows)
    with pytest.raises(ValueError, match="must hold more than"):
        ws.study_images(ws.Study("digits", "here", "vgg-5", 1437, 10, 5, 5, 1, 1), "A", "train", HERE)


def test_corrupted_images_repeat_and_differ_by_seed():
    x, _ = ws.study_images(TINY, "A", "train", HERE)
    first, again, other = (ws.corrupted(x, "gaussian_noise", TINY, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and ws.corrupted(x, "clean", TINY, 0) is x


def test_crops_and_flips_are_those_of_a_loop():
    x = torch.randint(1, 256, (2, 1, 5, 4), dtype=torch.uint8)
    padded = torch.nn.functional.pad(x, (1,) * 4)
    every = {padded[n, :, i : i + 5, j : j + 4].flip(-1 if f else ()).numpy().tobytes()
             for n in range(2) for i in range(3) for j in range(3) for f in (False, True)}
    torch.manual_seed(0)
    seen = {image.contiguous().numpy().tobytes() for _ in range(60) for image in ws.augment(x, pad=1)}
    assert seen <= every and len(seen) > 20


def test_runs_repeat_and_start_from_the_given_weights():
    pre = ws.run_pretraining(TINY, 0, HERE)
    arms = [ws.Arm(), ws.Arm(), ws.Arm(order=1), ws.Arm(train="fog+contrast"), ws.Arm("B", "fog")]
    found = [ws.run_arm(TINY, arm, 0, pre["state"], HERE)["state"] for arm in arms]
    assert all(np.array_equal(found[0][key], found[1][key]) for key in found[0])
    assert all(not np.array_equal(found[0]["head.weight"], other["head.weight"]) for other in found[2:])
    gap = {arm: np.linalg.norm(state["features.0.weight"] - pre["state"]["features.0.weight"]) for arm, state in enumerate(found)}
    assert max(gap.values()) < np.linalg.norm(pre["state"]["features.0.weight"])  # tuned, not trained from nothing
    onward = ws.run_arm(TINY, ws.Arm("new"), 0, found[0], HERE)["state"]
    assert np.linalg.norm(onward["head.weight"] - found[0]["head.weight"]) < np.linalg.norm(found[0]["head.weight"])


def test_reports_by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    x, y = torch.randint(256, (101, 1, 2, 2), dtype=torch.uint8), torch.randint(2, (101,))
    by_hand = 100 * (model(x.float() / 255).argmax(1) == y).float().mean().item()
    assert_close(ws.accuracy_of(model, x, y, batch=7), by_hand, rtol=1e-6)
    found = ws.robustness_report(model, {"clean": (x, y), "fog": (x[:50], y[:50]), "snow": (x[50:], y[50:])})
    assert found["TA"] == pytest.approx(by_hand) and found["RA"] == pytest.approx((found["fog"] + found["snow"]) / 2)
    assert model.training


def test_the_benchmark_writes_complete_rows():
    rows = ws.benchmark(types.SimpleNamespace(device="cpu"), convolutions=2, count=2, images=2, repeats=3)
    assert [row["arm"] for row in rows[:5]] == ["copy of the kept tensors", "off", "on", "dial, 2 signatures", "new state dict"]
    assert len(rows) == 11 and all(row["ratio"] > 0 and row["chapter"] == "weight_signatures" for row in rows)


test_recipe = battery.recipe("weight_signatures", "every bit is back: True")


# ---- bad input -------------------------------------------------------------------------------------------------------

V = torch.ones(4)
BAD = {
    "project lists": (lambda: ws.project_out([1.0], V), TypeError, "`v`"),
    "project shapes": (lambda: ws.project_out(V, torch.ones(2, 2)), ValueError, "`a`"),
    "project integers": (lambda: ws.project_out(V.long(), V.long()), TypeError, "`v`"),
    "project nan": (lambda: ws.project_out(V * math.nan, V), ValueError, "`v`"),
    "negative eps": (lambda: ws.project_out(V, V, eps=-1.0), ValueError, "eps"),
    "no start": (lambda: ws.extract_signature(net(1), net(0)), ValueError, "`pretrained`"),
    "no keys": (lambda: ws.extract_signature(net(1), net(0), net(2), keys=[]), ValueError, "`keys`"),
    "unknown key": (lambda: ws.extract_signature(net(1), net(0), net(2), keys=["w"]), ValueError, "'w'"),
    "other architecture": (lambda: ws.extract_signature(nn.Linear(2, 2), net(0), net(2), keys=KEYS), ValueError, "`robust`"),
    "counter": (lambda: ws.extract_signature(net(1), net(0), net(2), keys=["1.num_batches_tracked"]), TypeError, "floating"),
    "nan weights": (lambda: ws.extract_signature({"w": V * math.nan}, {"w": V}, {"w": 0 * V}), ValueError, "finite"),
    "model is a list": (lambda: ws.extract_signature([1], net(0), net(2)), TypeError, "`robust`"),
    "too many layers": (lambda: ws.shallow_keys(net(), 3), ValueError, "n_layers"),
    "no layers": (lambda: ws.shallow_keys(net(), 0), ValueError, "n_layers"),
    "nothing to apply": (lambda: ws.apply_signatures(net(), []), TypeError, "`signatures`"),
    "apply a dict": (lambda: ws.apply_signatures(net(), [{}]), TypeError, "`signatures`"),
    "count of weights": (lambda: ws.apply_signatures(net(), signature(), [1.0, 2.0]), ValueError, "`weights`"),
    "infinite weight": (lambda: ws.apply_signatures(net(), signature(), math.inf), ValueError, "weights"),
    "target lacks": (lambda: ws.SignaturePatch(nn.Linear(2, 2), signature()), ValueError, "lacks"),
    "target shape": (lambda: ws.SignaturePatch(nn.Sequential(nn.Conv2d(3, 4, 3)), signature(keys=KEYS[:1])), ValueError, "shape"),
    "wrong start": (lambda: ws.apply_signatures(net(), signature(), pretrained=net(5)), ValueError, "`pretrained`"),
    "two starts": (lambda: signature() + ws.extract_signature(net(2), net(1), net(5), keys=KEYS), ValueError, "one pre-trained"),
    "scale by text": (lambda: signature() * "2", TypeError, "factor"),
    "one level": (lambda: ws.uniform_quantize(V, 1), ValueError, "levels"),
    "odd logarithm": (lambda: ws.log_quantize(V, 5), ValueError, "even"),
    "scheme": (lambda: ws.quantize(V, 4, "cubic"), ValueError, "scheme"),
    "nothing to round": (lambda: ws.uniform_quantize(torch.empty(0), 4), ValueError, "`x`"),
    "similar to nothing": (lambda: ws.signature_similarity([]), ValueError, "signatures_a"),
    "other tensors": (lambda: ws.signature_similarity([signature()], [signature(keys=KEYS[:1])]), ValueError, "same tensors"),
    "directions": (lambda: ws.patch_tensor(V, torch.ones(2, 3), [1, 1]), ValueError, "directions"),
    "no statistics": (lambda: ws.update_bn_stats(net(), []), ValueError, "`batches`"),
    "no data sets": (lambda: ws.robustness_report(net(), {}), ValueError, "`datasets`"),
    "network": (lambda: ws.build_network("vgg-9", 3, 5), ValueError, "name"),
    "part": (lambda: ws.study_images(TINY, "D", "train", HERE), ValueError, "part"),
    "statistics name": (lambda: ws.Normalize("imagenet"), ValueError, "stats"),
    "bytes": (lambda: ws.patch_bytes(-1), ValueError, "numel"),
    "study": (lambda: ws.Study("svhn", "", "vgg-5", 1, 1, 1, 1, 1, 1), ValueError, "source"),
}

test_bad_input = battery.errors(BAD)


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("return (v.to(wide) - projection_coefficient(v, a)", "return (v.to(wide) + projection_coefficient(v, a)"),
    2: ("assert_close(project_out(robust - clean, a), rws, rtol", "assert_close(project_out(robust + clean, a), rws, rtol"),
    3: ("robust - (kappa - 1) * a, rtol", "robust - kappa * a, rtol"),
    4: ("rws.norm() ** 2 + kappa**2 * a.norm() ** 2", "rws.norm() ** 2 + kappa * a.norm() ** 2"),
    5: ("-torch.linalg.solve(C + noise, noise @ w0)", "-torch.linalg.solve(C, noise @ w0)"),
    6: ("wiener = W @ C @ torch.linalg.inv(C + noise)", "wiener = W @ torch.linalg.inv(C + noise)"),
    7: ("alone = -(g @ r) / (r @ H @ r)", "alone = (g @ r) / (r @ H @ r)"),
    8: ("joint = -torch.linalg.solve(R.T @ H @ R, R.T @ g)", "joint = -torch.linalg.solve(R.T @ R, R.T @ g)"),
    9: ("(original.to(wide) + torch.tensordot(", "(original.to(wide) - torch.tensordot("),
    10: ("value = torch.lerp(self.ends[0], self.ends[1], step)", "value = torch.lerp(self.ends[1], self.ends[0], step)"),
    11: ("* torch.exp2(value)", "* torch.exp(value)"),
    12: ("return torch.atanh(value) if", "return torch.tanh(value) if"),
    13: ("sum(math.ceil(size * bits / 8) + 8 for", "sum(math.ceil(size * bits / 8) + 4 for"),
    14: ("layer.momentum = len(x) / (seen + len(x))", "layer.momentum = 1 / (seen + len(x))"),
    15: ("z_test(d * chance**2, 1.0)", "z_test(d**2 * chance**2, 1.0)"),
    16: ('{"on": (count + 2) * size', '{"on": (count + 1) * size'),
}
TestBreaks = battery.breaks("weight_signatures", BREAKS, until="### The race")
