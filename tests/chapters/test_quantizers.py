"""Quantisers against independent oracles: NumPy in float64, SciPy's Cholesky, brute-force surgery, transformers."""

import copy
import itertools

import battery
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import cholesky
from torch import nn

transformers = pytest.importorskip("transformers")

from weightbook.blocks.kernels import HAS_TRITON, force_kernel  # noqa: E402
from weightbook.blocks.lm import toy_llama  # noqa: E402
from weightbook.book.checks import assert_close, rms_error  # noqa: E402
from weightbook.lowbit import quantizers as Q  # noqa: E402

IDS = torch.randint(97, (5, 24), generator=torch.Generator().manual_seed(0))


def layer(rows=48, cols=64, seed=0, dtype=torch.float64, tokens=300):
    "A weight and correlated inputs with two loud channels"
    gen = torch.Generator().manual_seed(seed)
    X = torch.randn(4, tokens // 4, cols, generator=gen, dtype=torch.float64)
    X = X @ torch.randn(cols, cols, generator=gen, dtype=torch.float64) / cols**0.5
    X[..., [3, 17]] *= 20
    return torch.randn(rows, cols, generator=gen, dtype=torch.float64).to(dtype), X.to(dtype)


# ---- an implementation of its own, in NumPy ---------------------------------------------------------------------------


def grid_np(v, bits, zero_in_range=True, symmetric=False):
    "Scale and zero point of the rows of `v`; the published rules where zero need not be in range"
    top, low, high = 2**bits - 1, v.min(1), v.max(1)
    if not (zero_in_range or symmetric):
        s = np.maximum(high - low, 1e-5) / top
        return s, np.clip(-np.rint(low / s), 0, top)
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high if zero_in_range else np.where(low < 0, -high, low)
    both = (low == 0) & (high == 0)
    low, high = np.where(both, -1, low), np.where(both, 1, high)
    s = (high - low) / top
    return s, np.full_like(s, (top + 1) / 2) if symmetric else np.rint(-low / s)


def quantise_np(v, s, z, bits):
    return s * (np.clip(np.rint(v / s) + z, 0, 2**bits - 1) - z)


def gptq_np(W, H, bits, g, dim="oc", act_order=False, static=False, percdamp=0.01):
    "GPTQ without blocks, every column against all that follow"
    W, H = W.copy(), H.copy()
    rows, cols = W.shape
    whole = grid_np(W, bits, True)
    dead = np.diag(H) == 0
    H[dead, dead], W[:, dead] = 1, 0
    fixed = [grid_np(W[:, k : k + g], bits, True) for k in range(0, cols, g)] if static else None
    order = np.argsort(-np.diag(H), kind="stable") if act_order else np.arange(cols)
    W, H = W[:, order], H[np.ix_(order, order)]
    H[np.diag_indices(cols)] += percdamp * np.diag(H).mean()
    U = cholesky(np.linalg.inv(H))
    out = np.empty_like(W)
    for i in range(cols):
        w = W[:, i]
        if dim == "ic":
            s, z = (np.repeat(v, g) for v in grid_np(w.reshape(-1, g), bits, False))
        elif g == cols:
            s, z = whole
        elif static:
            s, z = fixed[order[i] // g]
        elif i % g == 0:
            s, z = grid_np(W[:, i : i + g], bits, True)
        out[:, i] = quantise_np(w, s, z, bits)
        W[:, i:] -= np.outer((w - out[:, i]) / U[i, i], U[i, i:])
    return out[:, np.argsort(order)]


# ---- rounding --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(1, 8), blocks=st.integers(1, 4), g=st.integers(1, 20), rows=st.integers(1, 5),
    mode=st.sampled_from([{}, {"zero_in_range": False}, {"symmetric": True}, {"symmetric": True, "zero_in_range": False}]), seed=st.integers(0, 2**20),
)
def test_rounding_equals_numpy(bits, blocks, g, rows, mode, seed):
    w = torch.randn(rows, g * blocks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    v = w.numpy().reshape(-1, g)
    s, z = grid_np(v, bits, **mode)
    expected = torch.from_numpy(quantise_np(v, s[:, None], z[:, None], bits)).view(w.shape)
    q = Q.quantize_groups(w, bits, g, **mode)
    assert_close(q.dequantize(), expected, rtol=1e-12, atol=1e-14)
    assert int(q.codes.max()) < 2**bits and (q.zero == q.zero.round()).all() and q.zero.max() < 2**bits
    assert_close(Q.rtn(w.T, bits, g, "ic", **mode).T, q.dequantize(), rtol=1e-15)


def test_all_positive_groups_are_clipped_by_the_min_max_rule_only():
    w = torch.linspace(1, 2, 8)[None]
    assert (Q.rtn(w, 3, 8, zero_in_range=False) - w).abs().max() > 0.9
    assert (Q.rtn(w, 3, 8) - w).abs().max() < 0.15


def test_constant_and_zero_groups():
    assert torch.equal(Q.rtn(torch.zeros(4, 8), 3, 8), torch.zeros(4, 8))
    assert torch.equal(Q.rtn(torch.zeros(4, 8), 3, 8, zero_in_range=False), torch.zeros(4, 8))
    assert torch.equal(Q.rtn(torch.zeros(4, 8), 3, 8, symmetric=True), torch.zeros(4, 8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_weights_are_fitted_in_float32(dtype):
    w = torch.randn(16, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    q = Q.quantize_groups(w, 3, 16)
    assert q.scale.dtype == torch.float32
    assert torch.equal(q.codes, Q.quantize_groups(w.float(), 3, 16).codes)
    assert Q.rtn(w, 3, 16).dtype == dtype
    linear = nn.Linear(32, 16, bias=False, dtype=dtype)
    linear.weight.data.copy_(w)
    Q.rtn_(linear, 3, 16)
    assert torch.equal(linear.weight.detach(), Q.rtn(w, 3, 16))


# ---- packing ---------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(bits=st.integers(1, 8), n=st.integers(0, 70), lead=st.lists(st.integers(0, 3), max_size=2), seed=st.integers(0, 999))
def test_packing_round_trip_and_size(bits, n, lead, seed):
    codes = torch.randint(2**bits, (*lead, n), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    packed = Q.pack_codes(codes, bits)
    assert packed.shape == (*lead, bits * -(-n // 8)) and packed.dtype == torch.uint8
    assert torch.equal(Q.unpack_codes(packed, bits, codes.shape), codes)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("dim", ["oc", "ic"])
def test_bits_a_weight_are_the_bytes_that_are_held(bits, dim):
    q = Q.quantize_groups(torch.randn(64, 96, generator=torch.Generator().manual_seed(0)), bits, 32, dim)
    held = Q.PackedWeight.pack(q.to(dtype=torch.float16)).nbytes()
    assert held * 8 == pytest.approx(q.bits_per_weight(zero_bits=8) * 64 * 96)
    assert q.bits_per_weight() == pytest.approx(bits + (16 + bits) / 32)


# ---- GPTQ ------------------------------------------------------------------------------------------------------------

KINDS = [
    dict(group_size=-1), dict(group_size=-1, act_order=True), dict(group_size=16), dict(group_size=16, act_order=True),
    dict(group_size=16, static_groups=True), dict(group_size=16, act_order=True, static_groups=True),
    dict(group_size=16, dim="ic"), dict(group_size=16, dim="ic", act_order=True),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_equals_numpy(kind, bits):
    W, X = layer()
    X[..., 5] = 0
    gptq = Q.GPTQ(W)
    for batch in X.split((1, 3)):
        gptq.add_batch(batch)
    flat = X.flatten(0, 1).numpy()
    H = 2 / 4 * flat.T @ flat
    assert_close(gptq.inputs.matrix, torch.from_numpy(H), rtol=1e-12)
    g = kind["group_size"] if kind["group_size"] > 0 else 64
    rest = {key.replace("static_groups", "static"): v for key, v in kind.items() if key != "group_size"}
    expected = torch.from_numpy(gptq_np(W.numpy(), H, bits, g, **rest))
    for block in (16, 24, 128):
        assert_close(gptq.quantize(bits, block_size=block, **kind).dequantize(), expected, rtol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_gptq_equals_brute_force_surgery(seed):
    W, X = layer(16, 24, seed)
    gptq = Q.GPTQ(W)
    gptq.add_batch(X)
    q = gptq.quantize(3, -1)
    H = gptq.inputs.matrix + gptq.damping * torch.eye(24, dtype=torch.float64)
    s, z = q.scale[:, 0], q.zero[:, 0]
    for o in range(16):
        w = W[o].clone()
        for i in range(24):
            inverse = torch.linalg.inv(H[i:, i:])
            level = s[o] * ((w[i] / s[o]).round().add(z[o]).clamp(0, 7) - z[o])
            w[i:] -= (w[i] - level) / inverse[0, 0] * inverse[:, 0]
            w[i] = level
        assert_close(q.dequantize()[o], w, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_loss_is_the_damped_output_error(kind):
    W, X = layer()
    gptq = Q.GPTQ(W)
    gptq.add_batch(X)
    D = W - gptq.quantize(3, **kind).dequantize()
    H = gptq.inputs.matrix + gptq.damping * torch.eye(64, dtype=torch.float64)
    assert gptq.loss == pytest.approx(torch.trace(D @ H @ D.T).item(), rel=1e-9)


def test_feedback_beats_rounding_and_order_of_sizes():
    W, X = layer(128, 128, tokens=2000)
    gptq = Q.GPTQ(W)
    gptq.add_batch(X)
    H = gptq.inputs.matrix

    def error(W_hat):
        return Q.relative_error(W, W_hat, H)

    for dim in ("oc", "ic"):
        assert error(gptq.quantize(3, 32, dim).dequantize()) < 0.8 * error(Q.rtn(W, 3, 32, dim))
    assert error(gptq.quantize(4, 32).dequantize()) < error(gptq.quantize(3, 32).dequantize())


def test_one_calibration_serves_many_settings_and_nothing_is_changed():
    W, X = layer(dtype=torch.float32)
    linear = nn.Linear(64, 48)
    linear.weight.data.copy_(W)
    first = Q.GPTQ(linear)
    first.add_batch(X)
    H = first.inputs.matrix.clone()
    a, b = first.quantize(3, 16, act_order=True), Q.GPTQ.from_hessian(linear, H).quantize(3, 16, act_order=True)
    assert torch.equal(a.codes, b.codes) and torch.equal(a.group_index, b.group_index)
    assert torch.equal(first.inputs.matrix, H) and torch.equal(linear.weight, W)
    again = first.quantize(3, 16, act_order=True)
    assert torch.equal(a.codes, again.codes)
    wide = Q.GPTQ.from_hessian(linear, 8 * H).quantize(3, 16, act_order=True)  # a power of two changes no rounding
    assert torch.equal(a.codes, wide.codes)


def test_damping_grows_until_the_factorisation_works():
    singular = torch.ones(16, 16, dtype=torch.float64)
    U, damping = Q.inverse_factor(singular, 0.0)
    assert damping > 0
    one = torch.eye(16, dtype=torch.float64)
    assert_close(U.T @ U @ (singular + damping * one), one, rtol=1e-6)
    with pytest.raises(ValueError, match="positive semi-definite"):
        Q.inverse_factor(-singular)


def test_a_column_permutation_of_the_layer_permutes_the_result():
    W, X = layer()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    one, two = Q.GPTQ(W), Q.GPTQ(W[:, order])
    one.add_batch(X)
    two.add_batch(X[..., order])
    for kind in (dict(group_size=-1), dict(group_size=16, dim="ic")):
        a, b = (g.quantize(3, act_order=True, **kind).dequantize() for g in (one, two))
        assert_close(b, a[:, order], rtol=1e-8)


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is missing")
@pytest.mark.parametrize("kind", [k for k in KINDS if k.get("dim") != "ic"], ids=str)
@pytest.mark.parametrize("rows", [1, 40])
def test_the_block_kernel_gives_the_same_codes(kind, rows):
    W, X = layer(rows, dtype=torch.float32)
    gptq = Q.GPTQ(W)
    gptq.add_batch(X)
    plain = gptq.quantize(3, **kind)
    with force_kernel():
        launched = gptq.quantize(3, **kind)
    assert (plain.codes == launched.codes).float().mean() > 0.99
    assert_close(launched.scale, plain.scale, rtol=1e-2)


# ---- packed layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("dim", "g"), [("oc", 8), ("oc", -1), ("ic", 16), ("ic", -1)])
@pytest.mark.parametrize("kernel", [False, pytest.param(True, marks=pytest.mark.skipif(not HAS_TRITON, reason="no Triton"))])
def test_packed_layer_equals_the_dequantised_product(bits, dim, g, kernel):
    gen = torch.Generator().manual_seed(bits)
    q = Q.quantize_groups(torch.randn(80, 72, generator=gen), bits, g, dim)
    bias, x = torch.randn(80, generator=gen), torch.randn(2, 3, 72, generator=gen)
    made = Q.QuantLinear.from_quantized(q, bias)
    assert torch.equal(made.packed_weight.unpack().codes, q.codes)
    if kernel:
        with force_kernel():
            y = made(x)
    else:
        y = made(x)
    assert_close(y, F.linear(x, q.dequantize(), bias), rtol=1e-5)
    assert made(torch.randn(0, 72)).shape == (0, 80)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_packed_layer_keeps_the_dtype_of_its_input(dtype):
    q = Q.quantize_groups(torch.randn(32, 64, generator=torch.Generator().manual_seed(0)), 4, 32)
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    y = Q.QuantLinear.from_quantized(q)(x)
    assert y.dtype == dtype
    assert rms_error(y.double(), x.double() @ q.dequantize().double().T) < 5e-3


@pytest.mark.parametrize("act_order", [False, True])
def test_state_dict_round_trip_through_safetensors(tmp_path, act_order):
    from safetensors.torch import load_file, save_file

    W, X = layer(dtype=torch.float32)
    gptq = Q.GPTQ(W)
    gptq.add_batch(X)
    made = Q.QuantLinear.from_quantized(gptq.quantize(3, 16, act_order=act_order), torch.ones(48))
    save_file(made.state_dict(), tmp_path / "layer.safetensors")
    empty = Q.QuantLinear(64, 48, 3, 16, bias=True, indexed=act_order)
    empty.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    assert torch.equal(empty(X), made(X))
    assert set(made.state_dict()) == {"packed", "scale", "zero", "bias"} | ({"group_index"} if act_order else set())
    assert copy.deepcopy(made).half().zero.dtype == torch.uint8


def test_int4_product_for_scattered_groups():
    W, X = layer(dtype=torch.float32)
    gptq = Q.GPTQ(W)
    gptq.add_batch(X)
    q = gptq.quantize(3, 32, act_order=True)
    assert q.group_index is not None
    x = X[0, :2]
    assert rms_error(Q.Int4Product(Q.PackedWeight.pack(q))(x), x @ q.dequantize().T) < 1e-2


def test_the_layer_compiles():
    q = Q.quantize_groups(torch.randn(32, 64, generator=torch.Generator().manual_seed(0)), 3, 32)
    made, x = Q.QuantLinear.from_quantized(q), torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    compiled = torch.compile(made, backend="eager", fullgraph=True)
    assert_close(compiled(x), made(x), rtol=1e-5)


# ---- decoders --------------------------------------------------------------------------------------------------------

SIZE = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=97, bos_token_id=0, eos_token_id=1, pad_token_id=2, max_position_embeddings=128,
)
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZE, tie_word_embeddings=True),
    "mistral": lambda: transformers.MistralConfig(**SIZE, sliding_window=8),
    "qwen2": lambda: transformers.Qwen2Config(**SIZE),
    "qwen3": lambda: transformers.Qwen3Config(**SIZE, head_dim=16),
    "phi3": lambda: transformers.Phi3Config(**SIZE),
    "gemma2": lambda: transformers.Gemma2Config(**SIZE, head_dim=16, sliding_window=8, attn_implementation="eager"),
}


def family(name):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval().requires_grad_(False)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_walk_is_the_forward_pass(name):
    model = family(name)
    expected = model.model(input_ids=IDS, use_cache=False).last_hidden_state
    *_, last = Q.walk_decoder(model, IDS, batch_size=2)
    assert_close(model.model.norm(torch.cat(last.outputs)), expected, rtol=1e-5)
    assert last.full_name("mlp.down_proj") == "model.layers.1.mlp.down_proj"
    assert all("forward" not in block.__dict__ for block in model.model.layers)


def test_the_walk_collects_inputs_calls_and_propagates_what_it_is_told():
    model = toy_llama()
    steps = Q.walk_decoder(model, IDS, batch_size=2, collect="inputs")
    first = next(steps)
    x = first.linear_inputs
    assert x["self_attn.q_proj"] is x["self_attn.k_proj"] and x["self_attn.q_proj"].shape == (5, 24, 64)
    (args, kwargs), *_ = first.calls("self_attn")
    assert torch.equal(kwargs["hidden_states"], x["self_attn.q_proj"][:2])
    before = [y.clone() for y in first.outputs]
    first.module.mlp.down_proj.weight.zero_()
    second = next(steps)
    assert all(torch.equal(a, b) for a, b in zip(second.inputs, before, strict=True))
    model = toy_llama()
    steps = Q.walk_decoder(model, IDS, propagate="quantized")
    first = next(steps)
    first.module.mlp.down_proj.weight.zero_()
    changed, second = first.run(), next(steps)
    assert torch.equal(second.inputs[0], changed[0]) and not torch.equal(changed[0], before[0][:1])


@pytest.mark.parametrize("name", ["llama", "qwen2", "phi3"])
@pytest.mark.parametrize("options", [dict(method="rtn"), dict(act_order=True), dict(dim="ic", act_order=True)], ids=str)
def test_quantise_save_load_generate(name, options, tmp_path):
    model = family(name)
    before = model(IDS).logits
    report = Q.quantize_model_(model, IDS, 8, 32, **options)
    assert (report.fate == "converted").sum() == len([m for m in model.modules() if isinstance(m, Q.QuantLinear)])
    assert report.error.max() < 0.02 and rms_error(model(IDS).logits, before) < 0.05
    folder = Q.save_quantized(model, tmp_path / "model")
    Q.save_quantized(model, folder)  # replaced in place
    again = Q.load_quantized(folder)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert not [p for p in [*again.parameters(), *again.buffers()] if p.is_meta]
    told = again.generate(IDS[:1], max_new_tokens=4, do_sample=False, pad_token_id=2)
    assert torch.equal(told, model.generate(IDS[:1], max_new_tokens=4, do_sample=False, pad_token_id=2))
    assert not list(folder.glob(".weightbook*")) and len(list(folder.glob("*.safetensors"))) == 1


def test_fewer_bits_lose_more_and_gptq_loses_less_than_rounding():
    error = {}
    for bits, method in itertools.product((2, 3, 4), ("rtn", "gptq")):
        model = toy_llama()
        error[bits, method] = Q.quantize_model_(model, IDS, bits, 32, method, pack=False).error.mean()
        assert not any(isinstance(m, Q.QuantLinear) for m in model.modules())
    assert all(error[b, "gptq"] < error[b, "rtn"] for b in (2, 3, 4))
    assert error[2, "gptq"] > error[3, "gptq"] > error[4, "gptq"]


def test_accelerated_decoding_stays_close():
    model = toy_llama(width=64, mlp=128)
    Q.quantize_model_(model, IDS, 4, 32)
    token = IDS[:1, :1]
    slow = model(token).logits
    assert all(m.fast is not None for m in Q.accelerate_decoding(model).modules() if isinstance(m, Q.QuantLinear))
    assert 0 < rms_error(model(token).logits, slow) < 0.02
    assert torch.equal(model(IDS).logits, Q.replace_linears(model, {})(IDS).logits)


# ---- bad input -------------------------------------------------------------------------------------------------------

W, X = layer(dtype=torch.float32)
BAD = {
    "bits": (lambda: Q.quantize_groups(W, 9, 16), ValueError, "`bits`"),
    "bits of no integer": (lambda: Q.quantize_groups(W, 3.0, 16), TypeError, "`bits`"),
    "group": (lambda: Q.quantize_groups(W, 3, 24), ValueError, "divide the 64 inputs"),
    "group of outputs": (lambda: Q.quantize_groups(W, 3, 64, "ic"), ValueError, "divide the 48 outputs"),
    "group of zero": (lambda: Q.quantize_groups(W, 3, 0), ValueError, "`group_size`"),
    "direction": (lambda: Q.rtn(W, 3, 16, "row"), ValueError, "`dim`"),
    "vector": (lambda: Q.rtn(W[0], 3, 16), ValueError, "2 dimensions"),
    "integers": (lambda: Q.rtn(W.int(), 3, 16), TypeError, "floating"),
    "nan": (lambda: Q.rtn(W / 0, 3, 16), ValueError, "finite"),
    "code too large": (lambda: Q.pack_codes(torch.tensor([9], dtype=torch.uint8), 3), ValueError, "below"),
    "codes of int64": (lambda: Q.pack_codes(torch.tensor([1]), 3), TypeError, "uint8"),
    "packed shape": (lambda: Q.unpack_codes(torch.zeros(4, dtype=torch.uint8), 3, (8,)), ValueError, "`packed`"),
    "no calibration": (lambda: Q.GPTQ(W).quantize(3, 16), ValueError, "add_batch"),
    "inputs of another width": (lambda: Q.GPTQ(W).add_batch(X[..., :3]), ValueError, "`x`"),
    "hessian": (lambda: Q.GPTQ.from_hessian(W, torch.eye(3)), ValueError, "`hessian`"),
    "damping": (lambda: Q.GPTQ.from_hessian(W, torch.eye(64)).quantize(3, 16, percdamp=-1), ValueError, "`percdamp`"),
    "block": (lambda: Q.GPTQ.from_hessian(W, torch.eye(64)).quantize(3, 16, block_size=0), ValueError, "`block_size`"),
    "static ic": (
        lambda: Q.GPTQ.from_hessian(W, torch.eye(64)).quantize(3, 16, "ic", static_groups=True), ValueError, "`static_groups`"),
    "method": (lambda: Q.quantize_linear(W, 3, 16, "awq"), ValueError, "`method`"),
    "gptq without hessian": (lambda: Q.quantize_linear(W, 3, 16), ValueError, "`hessian`"),
    "wrong width": (lambda: Q.QuantLinear(64, 48, 3, 16)(torch.ones(2, 60)), ValueError, "`x`"),
    "not a decoder": (lambda: Q.decoder_layers(nn.Linear(2, 2)), NotImplementedError, "Llama family"),
    "ids": (lambda: next(Q.walk_decoder(toy_llama(), torch.ones(2, 3))), ValueError, "`input_ids`"),
    "collect": (lambda: next(Q.walk_decoder(toy_llama(), IDS, collect="all")), ValueError, "`collect`"),
    "name": (lambda: Q.replace_linears(toy_llama(), {"model.norm": Q.quantize_groups(W, 3, 16)}), ValueError, "model.norm"),
}

test_bad_input = battery.errors(BAD)


def test_parts_that_do_not_fit_are_refused():
    q = Q.quantize_groups(W, 3, 16)
    for change in (dict(zero=q.zero[:, :2]), dict(group_size=32), dict(group_index=torch.zeros(3, dtype=torch.int32))):
        with pytest.raises(ValueError):
            Q.QuantizedWeight(**{**q.__dict__, **change})
    with pytest.raises(TypeError, match="uint8"):
        Q.QuantizedWeight(**{**q.__dict__, "codes": q.codes.int()})


def test_saving_never_overwrites_a_strange_folder(tmp_path):
    toy_llama().save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="`folder`"):
        Q.save_quantized(toy_llama(), tmp_path)
    with pytest.raises(ValueError, match="weightbook_quantized"):
        Q.load_quantized(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


test_recipe = battery.recipe("quantizers", "bits a weight")


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the workshop says, what is put in its place)
BREAKS = {
    1: ("return (values / scale).round_().add_(zero)", "return (values / scale).floor_().add_(zero)"),
    2: ("torch.round(low / scale).neg_().clamp_(0, top)", "torch.floor(low / scale).neg_().clamp_(0, top)"),
    3: ("high = torch.maximum(-low, high)", "high = torch.minimum(-low, high)"),
    4: (".abs_().pow_(2.4).sum(1)", ".abs_().pow_(1.2).sum(1)"),
    5: ("rows = w if check_choice(", "rows = w.roll(1, 0) if check_choice("),
    6: ("return self.bits + extra / self.codes.numel()", "return self.bits + extra / self.codes.shape[0]"),
    7: ("parts.append((fields << shifts)", "parts.append((fields << shifts.flip(0))"),
    8: ("columns = math.sqrt(2 / self.samples)", "columns = math.sqrt(1 / self.samples)"),
    9: ("delta = -(w[i] - qi) / inverse[i, i] * inverse[:, i]", "delta = -(w[i] - qi) / H[i, i] * H[:, i]"),
    10: ("torch.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])", "torch.outer(inverse[:, 0], inverse[0]))"),
    11: ("torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)", "torch.linalg.cholesky_ex(damped, upper=True)"),
    12: ("-= torch.outer(E[:, i], U[i, i + 1 :])", "-= torch.outer(E[:, i], U[i, i + 1 :]) / U[i, i]"),
    13: ("E[:, i] = (W[:, i] - q) / U[i, i]", "E[:, i] = W[:, i] - q"),
    14: ("y = (x[:, None] * s * q.codes).sum(-1) - (x[:, None] * s * z).sum(-1)", "y = (x[:, None] * s * q.codes).sum(-1)"),
    15: ("(bits / 8 + (itemsize + 1) / group_size)", "(bits / 8 + itemsize / group_size)"),
}
# what runs the real model, or only shows something
ASIDE = r"quantise_real|\breal\.|\bpaired\b|fig_\w+\(|^table\("
TestBreaks = battery.breaks("quantizers", BREAKS, until="### The kernel", aside=ASIDE)
