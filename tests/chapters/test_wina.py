"""WINA against independent oracles: brute force, transformers, counted weights, NumPy quantiles, dense products."""

import copy
import itertools
import sys
import types

import battery
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

transformers = pytest.importorskip("transformers")

from toy_families import CONFIGS, family  # noqa: E402

from weightbook.blocks.kernels import HAS_TRITON, force_kernel  # noqa: E402
from weightbook.blocks.lm import toy_llama  # noqa: E402
from weightbook.book.checks import assert_close, rms_error  # noqa: E402
from weightbook.lowbit import wina  # noqa: E402

IDS = torch.randint(97, (2, 40), generator=torch.Generator().manual_seed(0))


# ---- gates -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), rows=st.integers(0, 4), sparsity=st.floats(0, 1), seed=st.integers(0, 2**20))
def test_topk_keeps_exactly_k_and_the_largest(n, rows, sparsity, seed):
    scores = torch.rand(rows, n, generator=torch.Generator().manual_seed(seed))
    mask = wina.topk_mask(scores, sparsity)
    keep = int(np.floor(np.float64(n) * (1 - sparsity) + 1e-9))
    assert mask.dtype == torch.bool and (mask.sum(-1) == keep).all()
    kept, dropped = scores.masked_fill(~mask, 2).amin(-1), scores.masked_fill(mask, -1).amax(-1)
    assert (kept >= dropped).all()


@pytest.mark.parametrize("keep", [0, 1, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_the_mask_is_optimal_among_all_masks(keep, seed):
    gen = torch.Generator().manual_seed(seed)
    weight, _ = wina.orthogonalise_columns(torch.randn(5, 6, generator=gen, dtype=torch.float64))
    x = torch.randn(6, generator=gen, dtype=torch.float64)

    def error(kept):
        gate = torch.zeros(6, dtype=torch.float64)
        gate[list(kept)] = 1
        return (weight @ x - weight @ (gate * x)).norm().item()

    best = min(error(kept) for kept in itertools.combinations(range(6), keep))
    mask = wina.wina_mask(x, weight.norm(dim=0), 1 - keep / 6)
    assert error(mask.nonzero().flatten().tolist()) <= best + 1e-12


def test_masks_know_their_special_cases():
    x, c = torch.randn(3, 10), torch.rand(10) + 0.1
    assert_close(wina.wina_mask(x, torch.ones(10), 0.4), wina.teal_mask(x, 0.4))
    assert_close(wina.cats_mask(x, 0.4), wina.teal_mask(x, 0.4))
    assert wina.wina_mask(x, c, 0.0).all() and not wina.wina_mask(x, c, 1.0).any()
    assert_close(wina.wina_mask(x / c, c, 0.3), wina.teal_mask(x, 0.3))
    assert not wina.wina_mask(torch.zeros(10), c, mode="threshold", tau=0.0).any()  # strict


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), sparsity=st.floats(0.01, 0.99))
def test_quantiles_agree_with_numpy(seed, sparsity):
    scores = torch.randn(5000, generator=torch.Generator().manual_seed(seed)).abs()
    dist = wina.ScoreDistribution()
    dist.add(scores.view(50, 100))
    assert dist.counts.sum() == 5000
    below = (scores.half().float() <= dist.quantile(sparsity)).double().mean().item()
    assert abs(below - sparsity) <= 0.02
    assert abs(dist.quantile(sparsity) - np.quantile(scores.numpy(), sparsity)) <= 0.02 * np.quantile(scores.numpy(), 0.99)


# ---- rotation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_rotation_leaves_the_logits_of_every_family(name):
    model = family(name)
    dense = model(IDS).logits
    _, residuals = wina.rotate_decoder_(model)
    assert rms_error(model(IDS).logits, dense) < 1e-4
    identity = torch.eye(64, dtype=torch.float64)
    for pair in residuals:
        for rotation in pair:
            assert_close(rotation.mT @ rotation, identity, rtol=1e-10)
    for block in wina.decoder_blocks(model):
        parts = wina.block_linears(block)
        for key in ("k_proj", "gate_proj", "qkv_proj", "gate_up_proj"):
            if key in parts:
                gram = parts[key].weight.mT @ parts[key].weight
                assert_close(gram, torch.diag(gram.diagonal()), rtol=1e-4)


def test_rotation_unties_the_head_and_keeps_the_norms_singular_values():
    model = toy_llama(layers=1, width=64, heads=8, kv_heads=2, tied=True)
    block = model.model.layers[0]
    fused = block.self_attn.k_proj.weight.double() * block.input_layernorm.weight.double()
    expected = torch.linalg.svdvals(fused).float()
    wina.rotate_decoder_(model)
    assert not model.config.tie_word_embeddings
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()
    norms = wina.column_norms(model.model.layers[0].self_attn.k_proj.weight)
    assert rms_error(norms[:16], expected) < 1e-5 and norms[16:].max() < 1e-5


def test_a_rotated_model_survives_its_state_dict_and_generates():
    model = toy_llama()
    wina.rotate_decoder_(model)
    other = toy_llama(seed=5)
    wina.rotate_decoder_(other)
    other.load_state_dict(model.state_dict())
    assert_close(other(IDS).logits, model(IDS).logits, rtol=1e-7)
    dense = toy_llama().generate(IDS[:1], max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(model.generate(IDS[:1], max_new_tokens=8, do_sample=False, pad_token_id=0), dense)


# ---- converter -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", wina.CRITERIA)
@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_zero_sparsity_is_the_dense_model_and_densify_undoes(name, criterion):
    model = family(name)
    dense = model(IDS).logits
    assert rms_error(wina.sparsify_(model, 0.0, criterion=criterion)(IDS).logits, dense) < 1e-4
    assert rms_error(wina.sparsify_(model, 0.6, criterion=criterion)(IDS).logits, dense) > 1e-3
    assert rms_error(wina.densify_(model)(IDS).logits, dense) < 1e-4
    assert not any(isinstance(m, wina.SparseLinear) for m in model.modules())


TestConverter = battery.converter(
    lambda: family("llama"), lambda model: wina.sparsify_(model, 0.6), IDS, undo=wina.densify_,
    refused=lambda model: wina.sparsify_(model, {"model.layers.1.mlp.down_proj": 0.5, "lm_head": 0.5}))


def test_a_gated_layer_is_a_masked_product_with_a_dense_start():
    linear, x = nn.Linear(20, 7), torch.randn(2, 300, 20)
    layer = wina.SparseLinear(linear, 0.7)
    scores = x.abs() * linear.weight.norm(dim=0)
    gate = scores > scores.kthvalue(14, dim=-1, keepdim=True).values  # 6 of 20 stay
    gate[:, :3] = True
    assert_close(layer(x), F.linear(x * gate, linear.weight, linear.bias), rtol=1e-5)


def test_the_mapping_gates_only_what_it_names():
    model = toy_llama()
    wina.sparsify_(model, {"model.layers.1.mlp.down_proj": 0.5}, criterion="magnitude")
    gated = [n for n, m in wina.gated_linears(model).items() if isinstance(m, wina.SparseLinear)]
    assert gated == ["model.layers.1.mlp.down_proj"]


def test_cached_decoding_equals_the_full_pass():
    model = wina.accelerate_decoding(wina.sparsify_(toy_llama(), 0.5, prefill_dense_fraction=0.0))
    whole = model(IDS).logits
    state, steps = None, []
    for t in range(IDS.shape[1]):
        out = model(IDS[:, t : t + 1], past_key_values=state, use_cache=True)
        state = out.past_key_values
        steps.append(out.logits)
    assert rms_error(torch.cat(steps, 1), whole) < 1e-4


def test_random_gates_follow_their_generator():
    def logits(seed):
        generator = torch.Generator().manual_seed(seed)
        return wina.sparsify_(toy_llama(), 0.5, criterion="random", generator=generator)(IDS).logits

    assert torch.equal(logits(1), logits(1)) and not torch.equal(logits(1), logits(2))


# ---- search ----------------------------------------------------------------------------------------------------------


def gated_block_error(model, hidden, rotary, shares, dists, criterion):
    "Block error with `SparseLinear` gates and transformers' own attention: slow and plain"
    dense = model.model.layers[0](hidden, position_embeddings=rotary, attention_mask=None)
    twin = copy.deepcopy(model)
    for name, share in shares.items():
        where = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
        parent = getattr(twin.model.layers[0], where)
        kind = wina.layer_criterion(name, criterion)
        gate = wina.SparseLinear(getattr(parent, name), share, criterion=kind, threshold=dists[name].quantile(share))
        setattr(parent, name, gate)
    out = twin.model.layers[0](hidden, position_embeddings=rotary, attention_mask=None)
    tail = slice(-(hidden.shape[1] // 4), None)
    return (out - dense)[:, tail].norm(dim=1).mean(-1).sum().item()


@pytest.mark.parametrize("criterion", ["official", "magnitude", "all"])
@pytest.mark.parametrize("rotate", [False, True])
def test_the_search_makes_the_plain_searchs_moves(criterion, rotate):
    model = toy_llama(layers=1, width=64, heads=8, kv_heads=2, mlp=96)
    if rotate:
        wina.rotate_decoder_(model)
    hidden = model.model.embed_tokens(IDS)
    rotary = model.model.rotary_emb(hidden, torch.arange(40)[None])
    dists = wina.calibrate_thresholds(model, [IDS], criterion=criterion)
    dists = {name.rsplit(".", 1)[1]: d for name, d in dists.items()}
    frame = wina.greedy_allocate(model.model.layers[0], hidden, rotary, criterion=criterion, step=0.2, target=0.3)
    parts = wina.block_linears(model.model.layers[0])
    weight = {n: m.weight.numel() / parts["q_proj"].weight.numel() for n, m in parts.items()}
    shares = dict.fromkeys(parts, 0.0)
    for _, row in frame.iterrows():
        trials = {n: {**shares, n: shares[n] + 0.2 / weight[n]} for n in shares if shares[n] + 0.2 / weight[n] <= 1}
        errors = {n: gated_block_error(model, hidden, rotary, t, dists, criterion) for n, t in trials.items()}
        shares = trials[min(errors, key=errors.get)]
        assert dict(row[list(shares)]) == pytest.approx(shares)
        assert row.error == pytest.approx(min(errors.values()), rel=1e-4)


# ---- operations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_operations_equal_the_counted_weights(name):
    model = family(name)
    linear = sum(m.weight.numel() for m in wina.gated_linears(model).values())
    head = model.lm_head.weight.numel()
    assert wina.macs_per_token(model.config) == linear + head
    assert wina.macs_per_token(model.config, 0.5) == round(0.5 * linear) + head
    rotation = sum(r.numel() for pair in wina.rotate_decoder_(model)[1] for r in pair)
    assert wina.macs_per_token(model.config, include_rotation=True) == linear + head + rotation


# ---- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 63, 1000), (2, 1000, 63), (5, 130, 257)], ids=str)
@pytest.mark.parametrize("tau", [0.0, 1.0, 1e9])
def test_products_agree_with_the_reference(shape, dtype, tau):
    batch, n, m = shape
    gen = torch.Generator().manual_seed(7)
    x, weight_t = torch.randn(batch, n, generator=gen).to(dtype), torch.randn(n, m, generator=gen).to(dtype)
    norms = wina.column_norms(weight_t.T)
    mask = x.abs() * norms > tau
    expected = (x.double() * mask) @ weight_t.double()
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    products = [wina.sparse_gemv(x, weight_t, mask), wina.sparse_gemv(x, weight_t, norms=norms, tau=tau)]
    if HAS_TRITON:
        with force_kernel():
            products.append(wina.sparse_gemv(x, weight_t, norms=norms, tau=tau))
    for out in products:
        assert out.shape == (batch, m) and out.dtype == dtype
        assert (out.double() - expected).norm() <= bound * max(expected.norm(), 1e-30)
    assert wina.sparse_gemv(x[0], weight_t, mask[0]).shape == (m,)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(0, 4), n=st.integers(1, 70), m=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 2**20)
)
def test_products_by_packed_rows_are_masked_products(batch, n, m, share, seed):
    gen = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(m, n, generator=gen), torch.randn(batch, n, generator=gen)
    mask = torch.rand(batch, n, generator=gen) > share
    packed = weight.T.contiguous()
    assert torch.equal(packed.T, weight)
    out = wina.sparse_gemv(x, packed, mask)
    assert out.shape == (batch, m)
    assert torch.allclose(out, F.linear(x * mask, weight), atol=1e-4)


def test_layers_hold_the_weight_once_and_by_input():
    linear = nn.Linear(12, 5)
    before = linear.weight.detach().clone()
    gated = wina.SparseLinear(linear, 0.5)
    assert gated.linear is linear and linear.weight.T.is_contiguous() and torch.equal(linear.weight, before)
    token = torch.randn(3, 1, 12)
    assert_close(gated(token), linear(token.masked_fill(~gated.mask(token), 0)), rtol=1e-5)
    assert gated.state_dict()["linear.weight"].is_contiguous()


def test_the_benchmark_writes_complete_rows():
    settings = types.SimpleNamespace(device="cpu")
    rows = wina.benchmark(settings, shapes=((32, 64),), sparsities=(0.65,), batches=(1, 4), repeats=3)
    assert {r["arm"] for r in rows} == {"dense", "gather", "TEAL-style", "WINA", "floor"}
    assert {r["batch"] for r in rows} == {1, 4} and all(r["chapter"] == "wina" and r["ratio"] > 0 for r in rows)


# ---- harness ---------------------------------------------------------------------------------------------------------


def test_task_scores_prefer_normalised_accuracy(monkeypatch):
    found = {
        "piqa": {"alias": "piqa", "acc,none": 0.5, "acc_norm,none": 0.75},
        "winogrande": {"acc,none": 0.5},
        "gsm8k": {"exact_match,strict-match": 0.1, "exact_match,flexible-extract": 0.25},
    }
    package, models = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.models.huggingface")
    package.simple_evaluate = lambda **arguments: {"results": {task: found[task] for task in arguments["tasks"]}}
    models.HFLM = lambda **arguments: arguments
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    scores = wina.evaluate_tasks(toy_llama(), None, list(found))
    assert scores == {"piqa": 75.0, "winogrande": 50.0, "gsm8k": 25.0, "mean": 50.0}


# ---- recipe ----------------------------------------------------------------------------------------------------------


test_recipe = battery.recipe("wina", "A weight matrix is", "sparse")


# ---- bad input -------------------------------------------------------------------------------------------------------

X, C, W = torch.randn(4), torch.ones(4), torch.randn(3, 4)
TOY = toy_llama(layers=1)
HIDDEN = torch.randn(1, 8, 64)
ROTARY = (torch.ones(1, 8, 16), torch.zeros(1, 8, 16))
BAD = {
    "norms of a vector": (lambda: wina.column_norms(X), ValueError, "weight"),
    "norms of integers": (lambda: wina.column_norms(torch.ones(2, 2, dtype=torch.long)), (TypeError, ValueError), "weight"),
    "norms of a list": (lambda: wina.column_norms([[1.0]]), TypeError, "weight"),
    "kept above one": (lambda: wina.kept_count(4, 1.5), ValueError, "sparsity"),
    "kept of nothing": (lambda: wina.kept_count(0, 0.5), ValueError, "n"),
    "topk nan": (lambda: wina.topk_mask(X, float("nan")), ValueError, "sparsity"),
    "mask shape": (lambda: wina.wina_mask(torch.ones(3), C, 0.5), ValueError, "x"),
    "mask mode": (lambda: wina.wina_mask(X, C, 0.5, mode="best"), ValueError, "mode"),
    "mask without threshold": (lambda: wina.wina_mask(X, C, mode="threshold"), TypeError, "tau"),
    "mask without sparsity": (lambda: wina.wina_mask(X, C), TypeError, "sparsity"),
    "teal integers": (lambda: wina.teal_mask(torch.ones(3, dtype=torch.long), 0.5), (TypeError, ValueError), "x"),
    "cats negative": (lambda: wina.cats_mask(X, tau=-1.0), ValueError, "tau"),
    "orthogonalise nan": (lambda: wina.orthogonalise_columns(W * float("nan")), ValueError, "weight"),
    "macs of nothing": (lambda: wina.macs_per_token({}), ValueError, "config"),
    "macs at one": (lambda: wina.macs_per_token(TOY.config, 1.0), ValueError, "sparsity"),
    "layer of a module": (lambda: wina.SparseLinear(nn.ReLU()), TypeError, "linear"),
    "layer criterion": (lambda: wina.SparseLinear(nn.Linear(2, 2), criterion="teal"), ValueError, "criterion"),
    "family": (lambda: wina.decoder_blocks(nn.Linear(2, 2)), NotImplementedError, "model_type"),
    "sparsify_ above one": (lambda: wina.sparsify_(toy_llama(layers=1), 1.0), ValueError, "sparsity"),
    "sparsify_ criterion": (lambda: wina.sparsify_(TOY, 0.5, criterion="best"), ValueError, "criterion"),
    "sparsify_ names": (lambda: wina.sparsify_(toy_llama(layers=1), {"lm_head": 0.5}), ValueError, "lm_head"),
    "sparsify_ thresholds": (lambda: wina.sparsify_(toy_llama(layers=1), 0.5, thresholds={}), ValueError, "thresholds"),
    "quantile of nothing": (lambda: wina.ScoreDistribution().quantile(0.5), ValueError, "add"),
    "cats share": (lambda: wina.cats_activation_sparsity(TOY.config, 0.99), ValueError, "CATS"),
    "greedy step": (lambda: wina.greedy_allocate(TOY.model.layers[0], HIDDEN, ROTARY, step=-1), ValueError, "step"),
    "greedy inputs": (lambda: wina.greedy_allocate(TOY.model.layers[0], HIDDEN[0], ROTARY), ValueError, "inputs"),
    "greedy fused": (lambda: wina.greedy_allocate(family("phi3").model.layers[0], HIDDEN, ROTARY), NotImplementedError, "block"),
    "allocation": (lambda: wina.allocation_at([], 1.5), ValueError, "sparsity"),
    "bytes": (lambda: wina.gemv_bytes(2, 2, -0.1), ValueError, "sparsity"),
    "product without a gate": (lambda: wina.sparse_gemv(X, W.T.contiguous()), ValueError, "mask"),
    "product dtype": (lambda: wina.sparse_gemv(X.double(), W.T.contiguous(), X > 0), ValueError, "dtype"),
    "product layout": (lambda: wina.sparse_gemv(X, W.T, X > 0), ValueError, "contiguous"),
    "product shape": (lambda: wina.sparse_gemv(torch.ones(3), W.T.contiguous(), X > 0), ValueError, "x"),
}

test_bad_input = battery.errors(BAD)


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: (".norm(dim=0)", ".norm(dim=1)"),
    2: ("scores.topk(keep, dim=-1, sorted=False)", "scores.topk(keep, dim=-1, sorted=False, largest=False)"),
    3: ("gram.diagonal().sum() + (gram.sum() - gram.trace())", "gram.diagonal().sum() - (gram.sum() - gram.trace())"),
    4: ("(z * column_norms(W_hat)) ** 2", "z**2 * column_norms(W_hat)"),
    5: (".Vh.mT", ".Vh"),
    6: ("column_norms(W_hat * a)", "column_norms(W_hat / a)"),
    7: ("column_norms(W)[dropped] ** 2", "column_norms(W)[dropped]"),
    8: ("-W2 @ (z1 - y1)", "W2 @ (z1 - y1)"),
    9: ("<= (1 + alpha) * u.square().sum() + (1 + 1 / alpha)", "<= (1 - alpha) * u.square().sum() + (1 - 1 / alpha)"),
    10: ("A = W2 @ W1", "A = W1 @ W2"),
    11: ("h.square().mean(-1, keepdim=True)", "h.abs().mean(-1, keepdim=True)"),
    12: ("middle.mT @ after", "after.mT @ middle"),
    13: ("toy_size = dict(layers=3, width=64, heads=8, kv_heads=2", "toy_size = dict(layers=3, width=64, heads=8, kv_heads=4"),
    14: ("3 * d * f", "2 * d * f"),
    15: ("np.interp(sparsity, cdf", "np.interp(1 - sparsity, cdf"),
    16: ("~(gate_act.abs() <= check_real", "(gate_act.abs() <= check_real"),
    17: ("n: s[n] + step / weight[n]}", "n: s[n] + step}"),
    18: ("(m * n * (1 - sparsity) + m + n)", "(m * n * sparsity + m + n)"),
    19: ("z_test(draws, 1 - 0.65**4", "z_test(draws, 0.65**4"),
}
TestBreaks = battery.breaks("wina", BREAKS, until="### The race", aside=r"_contest\(")
