"""AdaDim against independent oracles: NumPy rounding, brute-force selection, hand-run GPTQ, closed forms."""

import copy
import math
import sys
import types
from functools import partial

import battery
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

transformers = pytest.importorskip("transformers")

from toy_families import CONFIGS, family  # noqa: E402

from weightbook.blocks.kernels import HAS_TRITON, force_kernel  # noqa: E402
from weightbook.blocks.lm import capture_inputs, toy_llama  # noqa: E402
from weightbook.book.checks import assert_close, rms_error  # noqa: E402
from weightbook.book.settings import load_settings  # noqa: E402
from weightbook.lowbit import adadim  # noqa: E402
from weightbook.lowbit.quantizers import GPTQ, QuantLinear, load_quantized, quantize_groups, save_quantized  # noqa: E402

IDS = torch.randint(97, (4, 24), generator=torch.Generator().manual_seed(0))


def toy(**options) -> nn.Module:
    return toy_llama(**(dict(layers=2, width=64, heads=4, kv_heads=2, mlp=96) | options))


def numpy_group(v: np.ndarray, bits: int) -> np.ndarray:
    "The min-max quantiser, one group, straight from the paper"
    top = np.float32(2**bits - 1)
    step = np.float32(max(v.max() - v.min(), np.float32(1e-5)) / top)
    zero = min(max(-np.rint(v.min() / step), np.float32(0)), top)
    return (np.clip(np.rint(v / step) + zero, 0, top) - zero) * step


def numpy_round(weight: torch.Tensor, bits: int, size: int, dim: str) -> torch.Tensor:
    "Group by group, with loops"
    w, out = weight.float().numpy(), np.empty(weight.shape, dtype=np.float32)
    if dim == "oc":
        for o in range(w.shape[0]):
            for k in range(0, w.shape[1], size):
                out[o, k : k + size] = numpy_group(w[o, k : k + size], bits)
    else:
        for i in range(w.shape[1]):
            for k in range(0, w.shape[0], size):
                out[k : k + size, i] = numpy_group(w[k : k + size, i], bits)
    return torch.from_numpy(out)


# ---- rounding --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.sampled_from([1, 3, 8, 20]), bits=st.integers(1, 8),
       dim=st.sampled_from(adadim.DIMS), scale=st.sampled_from([1e-6, 1.0, 1e4]), shift=st.sampled_from([0.0, 3.0]))
def test_rounding_is_the_papers_to_the_last_bit(rows, columns, size, bits, dim, scale, shift):
    gen = torch.Generator().manual_seed(rows * 100 + columns * 10 + size)
    weight = scale * (torch.randn(rows * size, columns * size, generator=gen) + shift)
    expected = numpy_round(weight, bits, size, dim)
    assert torch.equal(adadim.minmax_round(weight, bits, size, dim, False), expected)
    assert torch.equal(adadim.minmax_round_reference(weight, bits, size, dim, False), expected)
    assert torch.equal(quantize_groups(weight, bits, size, dim, zero_in_range=False).dequantize(), expected)
    ours = adadim.minmax_round_reference(weight, bits, size, dim)
    assert torch.equal(adadim.minmax_round(weight, bits, size, dim), ours)
    assert torch.equal(quantize_groups(weight, bits, size, dim).dequantize(), ours)


@pytest.mark.skipif(not HAS_TRITON, reason="needs triton")
@pytest.mark.parametrize("dim", adadim.DIMS)
@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("shape", [(1, 1), (64, 96), (192, 32)], ids=str)
def test_the_kernel_rounds_to_the_last_bit(shape, bits, dim):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3)) + 0.5
    size = math.gcd(*shape)
    with force_kernel():
        assert torch.equal(adadim.minmax_round(weight, bits, size, dim, False), numpy_round(weight, bits, size, dim))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_dtypes_are_computed_in_float32(dtype):
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = adadim.minmax_round(weight, 3, 16, "ic")
    assert out.dtype == dtype
    assert torch.equal(out, numpy_round(weight, 3, 16, "ic").to(dtype))


@pytest.mark.parametrize("dim", adadim.DIMS)
def test_views_are_rounded_like_their_copies_and_left_alone(dim):
    base = torch.randn(48, 32, generator=torch.Generator().manual_seed(0))
    view, before = base.T, base.clone()
    assert torch.equal(adadim.minmax_round(view, 3, 16, dim), numpy_round(view.contiguous(), 3, 16, dim))
    assert torch.equal(base, before)


# ---- error model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", adadim.DIMS)
def test_the_error_model_is_its_sum(dim):
    gen = torch.Generator().manual_seed(0)
    W, h = torch.randn(12, 8, generator=gen), torch.rand(8, generator=gen)
    total = 0.0
    for o in range(12):
        for i in range(8):
            group = W[o, i // 4 * 4 : i // 4 * 4 + 4] if dim == "oc" else W[o // 4 * 4 : o // 4 * 4 + 4, i]
            total += h[i].item() * ((group.max() - group.min()).item() / 7) ** 2 / 12
    assert_close(adadim.expected_error(W, h, 3, 4, dim, zero_in_range=False), total, rtol=1e-6)


@pytest.mark.parametrize("dim", adadim.DIMS)
def test_a_group_size_of_minus_one_is_the_whole_line(dim):
    W, h = torch.randn(12, 8), torch.rand(8)
    whole = 8 if dim == "oc" else 12
    assert adadim.expected_error(W, h, 3, -1, dim) == adadim.expected_error(W, h, 3, whole, dim)
    assert torch.equal(adadim.minmax_round(W, 3, -1, dim), adadim.minmax_round(W, 3, whole, dim))


def test_output_error_is_the_error_of_the_output():
    gen = torch.Generator().manual_seed(0)
    W, Q, X = torch.randn(5, 6, generator=gen), torch.randn(5, 6, generator=gen), torch.randn(50, 6, generator=gen)
    direct = (X @ W.T - X @ Q.T).square().sum(1).mean().item()
    assert_close(adadim.output_error(W, Q, X.T @ X / 50), direct, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_model_meets_the_measured_error_for_gaussian_weights(bits, seed):
    gen = torch.Generator().manual_seed(seed)
    W, X = torch.randn(256, 256, generator=gen), torch.randn(1024, 256, generator=gen)
    for dim in adadim.DIMS:
        real = adadim.output_error(W, numpy_round(W, bits, 64, dim), X.T @ X / 1024)
        assert_close(adadim.expected_error(W, X.square().mean(0), bits, 64, dim), real, rtol=0.08 if bits == 2 else 0.05)


# ---- selection -------------------------------------------------------------------------------------------------------


def test_select_dim_against_brute_force_and_the_layer_is_left_alone():
    for seed in range(10):
        gen = torch.Generator().manual_seed(seed)
        linear = nn.Linear(32, 32, bias=True).requires_grad_(False)
        linear.weight.data = torch.randn(32, 32, generator=gen) * torch.rand(32, generator=gen)
        x, before = torch.randn(3, 7, 32, generator=gen) * 5 * torch.rand(32, generator=gen), linear.weight.data.clone()
        choice, errors = adadim.select_dim(linear, linear, x, 3, 16)
        brute = {dim: (x @ (numpy_round(before, 3, 16, dim) - before).T).square().mean().item() for dim in adadim.DIMS}
        for dim in adadim.DIMS:
            assert_close(errors[dim], brute[dim], rtol=1e-4)
        assert choice == min(brute, key=brute.get)
        assert torch.equal(linear.weight.data, before)


def test_ties_go_to_the_first_candidate():
    linear, x = nn.Linear(4, 4), torch.randn(2, 3, 4)
    same = torch.zeros(4, 4)
    winner, errors, _ = adadim.try_weights(linear, linear, {"oc": same, "ic": same.clone()}, x)
    assert winner == "oc" and torch.equal(errors["oc"], errors["ic"])


def test_the_weight_comes_back_after_an_error():
    linear = nn.Linear(4, 4)
    before = linear.weight.data.clone()
    with pytest.raises(RuntimeError):
        adadim.try_weights(linear, linear, {"bad": torch.zeros(4, 5)}, torch.randn(2, 3, 4))
    assert torch.equal(linear.weight.data, before)


def test_the_batch_size_changes_nothing():
    found = [adadim.search_dims(toy(), IDS, 3, 32, batch_size=size) for size in (1, 3, 4)]
    for other in found[1:]:
        assert (other.choice == found[0].choice).all()
        assert_close(other.err_ic.to_numpy(), found[0].err_ic.to_numpy(), rtol=1e-4)


def note_call(calls: dict, name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
    calls.setdefault(name, (args, kwargs))


def output_of(module: nn.Module, call: tuple) -> torch.Tensor:
    out = module(*call[0], **call[1])
    return out[0] if isinstance(out, tuple) else out


def brute_search(model: nn.Module, ids: torch.Tensor, bits: int, size: int, names: list[str]) -> list[str]:
    "The published algorithm with plain loops: full-precision inputs, scopes, decided layers stay rounded"
    choices = []
    exact = copy.deepcopy(model)
    for index, block in enumerate(copy.deepcopy(model).model.layers):
        calls, handles = {}, []
        for name, module in exact.model.layers[index].named_modules():
            if name in ("self_attn", "mlp", *names):
                note = partial(note_call, calls, name)
                handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
        with torch.no_grad():
            exact(ids, use_cache=False)
        for handle in handles:
            handle.remove()
        for name in names:
            short = name.rpartition(".")[2]
            own = short in ("o_proj", "down_proj")
            scope = name if own else name.rpartition(".")[0]
            linear = block.get_submodule(name)
            weight, errors = linear.weight.data, {}
            with torch.no_grad():
                reference = output_of(block.get_submodule(scope), calls[scope])
                for dim in ("oc", "ic"):
                    linear.weight.data = numpy_round(weight, bits, size, dim)
                    errors[dim] = (output_of(block.get_submodule(scope), calls[scope]) - reference).square().mean().item()
            choices.append("ic" if errors["ic"] < errors["oc"] else "oc")
            linear.weight.data = numpy_round(weight, bits, size, choices[-1])
    return choices


@pytest.mark.parametrize("name", CONFIGS)
def test_the_search_is_the_published_algorithm_in_every_family(name):
    model = family(name, num_key_value_heads=4)
    before = copy.deepcopy(model.state_dict())
    found = adadim.search_dims(model, IDS, 3, 32)
    names = found.module[found.layer == 0].tolist()  # q, k, v, o, gate, up, down, or the fused ones
    assert found.choice.tolist() == brute_search(model, IDS, 3, 32, names)
    assert len(set(found.choice)) == 2  # both directions occur, so that the comparison can fail
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    linears = {n for n, m in model.model.named_modules(prefix="model") if isinstance(m, nn.Linear)}
    assert set(found.name) == linears and len(found) == len(linears)


def test_errors_by_sequence_answer_for_subsets():
    model = toy(layers=1)
    whole, part = adadim.search_dims(model, IDS, 3, 32), adadim.search_dims(model, IDS[:2], 3, 32)
    for dim in adadim.DIMS:  # of the first layer, which no earlier decision can change
        assert whole[dim][0].shape == (4,)
        assert_close(whole[dim][0][:2], part[dim][0], rtol=1e-5)
    assert_close(whole.err_oc[0], whole.oc[0].mean(), rtol=1e-12)


def test_a_limit_searches_the_first_layers_only():
    model = toy(layers=3)
    assert adadim.search_dims(model, IDS, 3, 32, limit=1).layer.unique().tolist() == [0]


def test_another_rounder_is_asked_by_full_name():
    asked = []

    def rounder(name, weight, dim):
        asked.append((name, dim))
        return weight if dim == "ic" else torch.zeros_like(weight)

    found = adadim.search_dims(toy(layers=1), IDS, 3, 32, rounder=rounder)
    assert (found.choice == "ic").all() and (found.err_ic == 0).all()
    assert asked[0] == ("model.layers.0.self_attn.q_proj", "oc") and len(asked) == 14


# ---- the converter ---------------------------------------------------------------------------------------------------


def test_rtn_ada_leaves_the_chosen_rounding_and_nothing_else():
    model, exact = toy(), toy()
    report = adadim.adadim_(model, IDS, 3, 32, pack=False).query("fate == 'converted'")
    weights = dict(exact.named_parameters())
    for row in report.itertuples():
        key = f"model.layers.{row.layer}.{row.module}.weight"
        assert torch.equal(model.get_parameter(key), numpy_round(weights.pop(key), 3, 32, row.choice))
    assert weights and all(torch.equal(model.get_parameter(key), value) for key, value in weights.items())
    assert_close(report.bits_per_weight.to_numpy(), np.full(14, 3 + (16 + 3) / 32), rtol=1e-9)


@pytest.mark.parametrize("base", ["rtn", "gptq"])
def test_packed_and_plain_models_say_the_same_and_survive_a_file(base, tmp_path):
    packed, plain = toy(bias=True), toy(bias=True)
    adadim.adadim_(packed, IDS, 3, 32, base)
    adadim.adadim_(plain, IDS, 3, 32, base, pack=False)
    assert sum(isinstance(m, QuantLinear) for m in packed.modules()) == 14
    assert_close(packed(IDS).logits, plain(IDS).logits, rtol=1e-5)
    loaded = load_quantized(save_quantized(packed, tmp_path / "model"))
    assert torch.equal(loaded(IDS).logits, packed(IDS).logits)


def test_gptq_ada_is_gptq_in_the_chosen_direction():
    model, exact = toy(layers=1), toy(layers=1)
    report = adadim.adadim_(model, IDS, 3, 32, "gptq", pack=False).query("fate == 'converted'")
    inputs = capture_inputs(exact, IDS, "model.layers.*")
    assert set(report.choice) == {"oc", "ic"}
    for row in report.itertuples():
        name = f"model.layers.0.{row.module}"
        solver = GPTQ(exact.get_submodule(name))
        solver.add_batch(inputs[name].view(4, 24, -1))
        expected = solver.quantize(3, 32, row.choice, act_order=True, static_groups=row.choice == "oc").dequantize()
        same = (model.get_submodule(name).weight == expected).float().mean().item()
        assert same > 0.99, row.module  # Hessians are summed in another order, which may move a code at a tie


def test_more_error_feedback_means_less_error():
    exact, errors = toy(), {}
    for base in ("rtn", "gptq"):
        model = toy()
        adadim.adadim_(model, IDS, 2, 32, base)
        errors[base] = rms_error(model(IDS).logits, exact(IDS).logits)
    assert 0 < errors["gptq"] < errors["rtn"]


# ---- GPTQ's updates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("dim", adadim.DIMS)
def test_updates_against_a_hand_run_column_loop(dim, act_order):
    gen = torch.Generator().manual_seed(0)
    X = torch.randn(100, 16, generator=gen, dtype=torch.float64) @ torch.randn(16, 16, generator=gen, dtype=torch.float64)
    W = torch.randn(8, 16, generator=gen, dtype=torch.float64)
    H = 2 * X.T @ X
    solver = GPTQ.from_hessian(W, H)
    Q = solver.quantize(3, 8, dim, act_order=act_order, static_groups=dim == "oc").dequantize()
    order = np.argsort(-H.diagonal().numpy()) if act_order else np.arange(16)
    damped = H.numpy()[np.ix_(order, order)] + 0.01 * H.diagonal().mean().item() * np.eye(16)
    U = np.linalg.cholesky(np.linalg.inv(damped)).T  # numpy's is lower; H^-1 = U^T U with U upper triangular
    current, moved = W.numpy()[:, order].copy(), np.zeros((8, 16))
    for i in range(16):
        moved[:, i] = current[:, i] - W.numpy()[:, order[i]]
        error = (current[:, i] - Q.numpy()[:, order[i]]) / U[i, i]
        current[:, i:] -= np.outer(error, U[i, i:])
    ours = adadim.gptq_updates(W, Q, H, act_order=act_order)
    assert_close(ours[:, order.copy()], torch.from_numpy(moved), rtol=1e-9)


def test_a_dead_input_is_no_obstacle():
    X = torch.randn(50, 8, dtype=torch.float64)
    X[:, 3] = 0
    W, H = torch.randn(4, 8, dtype=torch.float64), 2 * X.T @ X
    Q = GPTQ.from_hessian(W, H).quantize(3, 4, "ic").dequantize()
    assert adadim.gptq_updates(W, Q, H).isfinite().all()


def test_top_share_of_a_vector():
    energy = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert [adadim.top_share(energy, s) for s in (0.01, 0.25, 0.5, 1.0)] == pytest.approx([0.4, 0.4, 0.7, 1.0])


# ---- statistics ------------------------------------------------------------------------------------------------------


def test_fisher_is_the_mean_of_squared_gradients_and_flags_come_back():
    model = toy(layers=1)
    name = "model.layers.0.self_attn.v_proj"
    found = adadim.fisher_diagonal(model, IDS, [name])
    assert not model.get_submodule(name).weight.requires_grad
    weight, squares = model.get_submodule(name).weight.requires_grad_(True), []
    for ids in IDS[:, None]:
        logits = model(ids).logits[0, :-1]
        squares.append(torch.autograd.grad(nn.functional.cross_entropy(logits, ids[0, 1:]), weight)[0].square())
    assert_close(found[name], torch.stack(squares).mean(0), rtol=1e-4)


def test_statistics_do_not_depend_on_the_batch():
    one, two = (adadim.activation_stats(toy(), IDS, "*.down_proj", batch_size=size) for size in (1, 4))
    for name in one:
        for key in ("max", "mean", "second"):
            assert_close(one[name][key], two[name][key], rtol=1e-5)


def letters(text: str, **_) -> dict:
    return {"input_ids": [ord(c) - 97 for c in text]}


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=20), length=st.integers(1, 6), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_calibration_blocks_hold_whole_short_documents_in_some_order(lengths, length, seed):
    documents = [" " + chr(97 + at) * n for at, n in enumerate(lengths)]
    kept = [n if 0 < n <= length else 0 for n in lengths]
    if sum(kept) < length:
        with pytest.raises(ValueError, match="documents"):
            adadim.calibration_blocks(letters, documents, count=None, length=length, seed=seed)
        return
    blocks = adadim.calibration_blocks(letters, documents, count=None, length=length, seed=seed)
    assert blocks.shape == (sum(kept) // length, length) and blocks.dtype == torch.int64
    flat = blocks.flatten().tolist()
    runs = [flat[0], *(b for a, b in zip(flat[:-1], flat[1:], strict=True) if a != b)]
    assert len(runs) == len(set(runs))  # no document is torn or used twice
    counts = np.bincount(flat, minlength=len(lengths))
    assert all(counts[at] <= n for at, n in enumerate(kept))


# ---- selectors and AWQ -----------------------------------------------------------------------------------------------


def test_the_predicted_direction_is_the_smaller_expected_error():
    gen = torch.Generator().manual_seed(0)
    weights = {k: torch.randn(32, 32, generator=gen) * 3 * torch.rand(32, generator=gen) for k in "abcdef"}
    h = {k: torch.rand(32, generator=gen) ** 4 for k in weights}
    found = adadim.predict_dims(weights, h, 3, 16)
    for k, W in weights.items():
        both = [adadim.expected_error(W, h[k], 3, 16, dim) for dim in ("oc", "ic")]
        assert found[k] == ("ic" if both[1] < both[0] else "oc")


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_awq_scales_are_normalised_powers(alpha):
    magnitude = torch.rand(64, generator=torch.Generator().manual_seed(0)) + 0.01
    t = adadim.awq_scale(magnitude, alpha)
    assert_close((t.max() * t.min()).item(), 1.0, rtol=1e-5)
    assert_close(t / t[0], (magnitude / magnitude[0]) ** alpha, rtol=1e-5)


def test_awq_search_finds_the_best_exponent_and_restores():
    gen = torch.Generator().manual_seed(1)
    linear = nn.Linear(32, 16, bias=False).requires_grad_(False)
    x, W = torch.randn(2, 20, 32, generator=gen) * torch.logspace(-1, 1, 32), linear.weight.data.clone()
    magnitude = x.abs().flatten(0, 1).mean(0)
    t, errors = adadim.awq_search(linear, [linear], x, magnitude, 3, 16, steps=5)
    brute = []
    for k in range(5):
        s = magnitude ** (k / 5)
        s = s / (s.max() * s.min()).sqrt()
        brute.append((x @ (numpy_round(W * s, 3, 16, "oc") / s - W).T).square().mean().item())
    assert_close(errors, brute, rtol=1e-3)
    assert_close(t, adadim.awq_scale(magnitude, int(np.argmin(brute)) / 5), rtol=1e-6)
    assert torch.equal(linear.weight.data, W)
    assert min(errors) < errors[0]  # scaling helps on these inputs


def test_awq_clip_against_brute_force():
    gen = torch.Generator().manual_seed(0)
    W, X = torch.randn(3, 8, generator=gen), torch.randn(30, 8, generator=gen)
    clipped, best = adadim.awq_clip(W, X.T @ X / 30, 2, 4, steps=10, zero_in_range=False)
    for o in range(3):
        for k in (0, 4):
            group, errors = W[o, k : k + 4].numpy(), []
            for step in range(10):
                limit = np.abs(group).max() * (1 - 0.05 * step)
                rounded = numpy_group(np.clip(group, -limit, limit), 2)
                errors.append(np.mean((X[:, k : k + 4].numpy() @ (rounded - group)) ** 2))
            assert_close(best[o, k // 4].item(), min(errors), rtol=1e-4)
            limit = np.abs(group).max() * (1 - 0.05 * int(np.argmin(errors)))
            assert_close(clipped[o, k : k + 4].numpy(), np.clip(group, -limit, limit), rtol=1e-6)


def test_awq_scales_the_output_projection_only_where_heads_are_not_shared():
    shared, own = (adadim.awq_(toy(layers=1, kv_heads=kv), IDS, 3, 32).drop_duplicates("modules").set_index("modules").passes
                   for kv in (2, 4))
    assert shared["o_proj"] == 2 and own["o_proj"] == 21
    assert shared["q_proj, k_proj, v_proj"] == shared["gate_proj, up_proj"] == 21


def test_awq_leaves_a_model_whose_weights_are_rounded_up_to_a_column_scale():
    model = toy(layers=1)
    adadim.awq_(model, IDS, 2, 32)
    weight = model.model.layers[0].self_attn.o_proj.weight  # not scaled, so on a grid of four values a group
    assert all(len(group.unique()) <= 4 for group in weight.reshape(-1, 32))


# ---- cost ------------------------------------------------------------------------------------------------------------


def test_the_cost_of_the_search_in_closed_form():
    block = toy_llama(layers=1, width=576, heads=9, kv_heads=3, mlp=1536).model.layers[0]
    names = [n for n, m in block.named_modules() if isinstance(m, nn.Linear)]
    attention, out, mlp, down = 2 * 576**2 + 2 * 576 * 192, 576**2, 3 * 576 * 1536, 576 * 1536
    wanted = (7 * attention + 3 * out + 5 * mlp + 3 * down) / (attention + mlp)
    assert_close(adadim.search_cost(block, names), wanted, rtol=1e-12)
    plain = (9 * attention + 3 * out + 6 * mlp + 3 * down) / (attention + mlp)
    assert_close(adadim.search_cost(block, names, hand_on=False), plain, rtol=1e-12)


def test_benchmark_rows_hold_both_races(tmp_path):
    options = dict(shapes=((64, 128),), group_size=64, tokens=(1, 8), repeats=3)
    rows = adadim.benchmark(load_settings(profile="quick", device="cpu"), **options)
    arms = {(row["case"].split(",")[0], row["arm"]) for row in rows}
    assert {("search", arm) for arm in ("forward", "AdaDim", "AdaDim, a reference each", "AWQ scale search")} <= arms
    assert {("round 64×128 float32", arm) for arm in ("plain", "ours", "floor")} <= arms
    assert all(row["ratio"] > 0 for row in rows)


def test_task_scores_ask_the_harness_for_the_papers_shots(monkeypatch):
    asked = []

    def simple_evaluate(*, model, tasks, num_fewshot, confirm_run_unsafe_code, **_):
        asked.append((tasks[0], num_fewshot, confirm_run_unsafe_code))
        found = {"pass@1,create_test": 0.5} if tasks[0] == "humaneval" else {"acc,none": 0.25, "acc_stderr,none": 0.01}
        return {"results": {tasks[0]: {"alias": tasks[0]} | found}}

    harness, wrapper = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.models.huggingface")
    harness.simple_evaluate, wrapper.HFLM = simple_evaluate, lambda **_: None
    for module in (harness, types.ModuleType("lm_eval.models"), wrapper):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert adadim.task_scores(None, None) == dict.fromkeys(adadim.TASKS, 25.0)
    assert asked[0] == ("mmlu", 5, False) and {(shots, code) for _, shots, code in asked[1:]} == {(0, False)}
    assert adadim.task_scores(None, None, {"humaneval": 0}, run_code=True) == {"humaneval": 50.0}
    assert asked[-1] == ("humaneval", 0, True)  # code of a model runs only where the caller says so


# ---- the page's recipe -----------------------------------------------------------------------------------------------


test_recipe = battery.recipe("adadim", "bits a weight", "A weight matrix is")


# ---- bad input -------------------------------------------------------------------------------------------------------

W, H = torch.randn(32, 64), torch.ones(64)
LINEAR = nn.Linear(64, 32)
BAD = {
    "round bits": (lambda: adadim.minmax_round(W, 0, 32, "oc"), ValueError, "bits"),
    "round size": (lambda: adadim.minmax_round(W, 3, 48, "oc"), ValueError, "group_size"),
    "round size per-ic": (lambda: adadim.minmax_round(W, 3, 64, "ic"), ValueError, "group_size"),
    "round zero": (lambda: adadim.minmax_round(W, 3, 0, "oc"), ValueError, "group_size"),
    "round dim": (lambda: adadim.minmax_round(W, 3, 32, "rows"), ValueError, "dim"),
    "round integers": (lambda: adadim.minmax_round(W.long(), 3, 32, "oc"), TypeError, "weight"),
    "round vector": (lambda: adadim.minmax_round(H, 3, 32, "oc"), ValueError, "weight"),
    "expected h": (lambda: adadim.expected_error(W, H[:3], 3, 32, "oc"), ValueError, "h"),
    "expected bits": (lambda: adadim.expected_error(W, H, 9, 32, "oc"), ValueError, "bits"),
    "updates shape": (lambda: adadim.gptq_updates(W, W.T, torch.eye(64)), ValueError, "quantized"),
    "share": (lambda: adadim.top_share(H, 0.0), ValueError, "share"),
    "share matrix": (lambda: adadim.top_share(W), ValueError, "energy"),
    "select a module": (lambda: adadim.select_dim(LINEAR, nn.ReLU(), torch.randn(1, 2, 64), 3, 32), TypeError, "linear"),
    "select size": (lambda: adadim.select_dim(LINEAR, LINEAR, torch.randn(1, 2, 64), 3, 64), ValueError, "group_size"),
    "base": (lambda: adadim.adadim_(toy(), IDS, 3, 32, "awq"), ValueError, "base"),
    "model": (lambda: adadim.adadim_(LINEAR, IDS, 3, 32), NotImplementedError, "model"),
    "search size": (lambda: adadim.search_dims(toy(), IDS, 3, 128), ValueError, "group_size"),
    "alpha": (lambda: adadim.awq_scale(H, 1.5), ValueError, "alpha"),
    "magnitude": (lambda: adadim.awq_scale(W, 0.5), ValueError, "magnitude"),
    "clip steps": (lambda: adadim.awq_clip(W, torch.eye(64), 3, 32, steps=0), ValueError, "steps"),
    "blocks length": (lambda: adadim.calibration_blocks(None, ["a"], length=0), ValueError, "length"),
    "blocks count": (lambda: adadim.calibration_blocks(None, ["a"], count=0), ValueError, "count"),
}

test_bad_input = battery.errors(BAD)


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("zero = np.clip(-np.rint(v.min() / step), 0, top)", "zero = np.clip(np.rint(v.max() / step), 0, top)"),
    2: ('quantize_groups(W.T.contiguous(), 3, 32, dim="oc").dequantize().T', 'quantize_groups(W, 3, 32, dim="oc").dequantize()'),
    3: ("z_test(loss, 8 * h.sum().item() / 12", "z_test(loss, 8 * h.sum().item() / 6"),
    4: ("step.square().flatten(1) / 12 * share", "step.square().flatten(1) / 6 * share"),
    5: ("(a**2 * 4 * 20**2 + 508) / (4 * 20**2 + 508)", "(a * 4 * 20**2 + 508) / (4 * 20**2 + 508)"),
    6: ("errors[winner].mean():", "-errors[winner].mean():"),
    7: ("quantize_groups(W * t, 3, 16, dim=dim)", "quantize_groups(W * t[:, None], 3, 16, dim=dim)"),
    8: ('plain["ic"][:, P], rtol=0)', 'plain["ic"][P], rtol=0)'),
    9: ("(Q + errors * U.diagonal() - W)", "(Q - errors * U.diagonal() - W)"),
    10: ("energy.topk(count).values", "energy.topk(count, largest=False).values"),
    11: ("8 * torch.outer(torch.tensor([1.0, 4.0, 1.0])", "8 * torch.outer(torch.tensor([1.0, 2.0, 1.0])"),
    12: ("t / (t.max() * t.min()).sqrt()", "t / (t.max() * t.min())"),
    13: ("((E @ blocks) * E).sum(2).T", "(E * E).sum(2).T"),
    14: ("(scope is not before or not hand_on)", "(scope is before or not hand_on)"),
    15: ("return 2 * itemsize * rows * columns", "return itemsize * rows * columns"),
}
TestBreaks = battery.breaks("adadim", BREAKS, until="### The race")
