"""What WINA's converters promise on other people's models: nothing half done, gates that gate, batches that change nothing."""

import copy

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

from toy_families import family  # noqa: E402

from weightbook.blocks.lm import toy_llama  # noqa: E402
from weightbook.book.checks import assert_close  # noqa: E402
from weightbook.lowbit import quantizers as Q  # noqa: E402
from weightbook.lowbit import wina  # noqa: E402

IDS = torch.randint(3, 97, (3, 24), generator=torch.Generator().manual_seed(0))


def toy(**options) -> nn.Module:
    return toy_llama(**(dict(layers=2, width=64, heads=8, kv_heads=2, mlp=96) | options))


def quantised(**options) -> nn.Module:
    model = toy(**options)
    Q.quantize_model_(model, IDS, 8, 16, "rtn", only="*.layers.1.mlp.up_proj")
    return model


def broken() -> nn.Module:
    model = toy()
    model.model.layers[1].mlp.gate_proj.weight[3, 4] = torch.nan
    return model


def hooked() -> nn.Module:
    model = toy()
    model.model.layers[1].register_forward_hook(lambda *args: None)
    return model


def gated(**options) -> nn.Module:
    return wina.sparsify_(toy(), 0.5, criterion="magnitude")


HALF_DONE = {  # what is tried -> (model, converter, exception, message)
    "rotate a quantised model": (quantised, wina.rotate_decoder_, TypeError, "model.layers.1.mlp.up_proj"),
    "fuse a quantised model": (quantised, wina.fuse_norms_, TypeError, "QuantLinear"),
    "sparsify_ a quantised model": (quantised, lambda m: wina.sparsify_(m, 0.5), TypeError, "model.layers.1.mlp.up_proj"),
    "gate a quantised model": (quantised, lambda m: wina.sparsify_(m, 0.5, criterion="magnitude"), TypeError, "up_proj"),
    "rotate a sparse model": (gated, wina.rotate_decoder_, ValueError, "densify_"),
    "rotate NaN": (broken, wina.rotate_decoder_, ValueError, "finite"),
    "sparsify_ NaN": (broken, lambda m: wina.sparsify_(m, 0.5), ValueError, "finite"),
    "rotate hooked blocks": (hooked, wina.rotate_decoder_, ValueError, "hooks"),
    "a share of two": (toy, lambda m: wina.sparsify_(m, 2.0), ValueError, "`sparsity`"),
    "a typing error": (toy, lambda m: wina.sparsify_(m, {"*.upp_proj": 0.5}), ValueError, "`sparsity`.*nearest"),
    "thresholds missing": (toy, lambda m: wina.sparsify_(m, 0.5, thresholds={}), ValueError, "`thresholds`"),
    "thresholds without scores": (
        toy, lambda m: wina.sparsify_(
            m, 0.5, thresholds=dict.fromkeys(wina.gated_linears(m), wina.ScoreDistribution())), ValueError, "add"),
    "a dense share of two": (gated, lambda m: wina.sparsify_(m, 0.5, prefill_dense_fraction=2.0),
                             ValueError, "`prefill_dense_fraction`"),
    "CATS too sparse": (toy, lambda m: wina.sparsify_cats_(m, 0.9, [IDS]), ValueError, "`sparsity`"),
    "CATS without batches": (toy, lambda m: wina.sparsify_cats_(m, 0.2, []), ValueError, "add"),
    "CATS of Phi": (lambda: family("phi3"), lambda m: wina.sparsify_cats_(m, 0.2, [IDS]), NotImplementedError, "gate and up"),
    "another family": (lambda: family("gpt2"), lambda m: wina.sparsify_(m, 0.5), NotImplementedError, "gpt2"),
}


@pytest.mark.parametrize("what", HALF_DONE)
def test_what_fails_changes_nothing(what):
    make, convert, error, message = HALF_DONE[what]
    model = make()
    before, modules = {k: v.clone() for k, v in model.state_dict().items()}, [type(m) for m in model.modules()]
    tied = model.config.tie_word_embeddings
    with pytest.raises(error, match=message):
        convert(model)
    after = model.state_dict()
    assert [type(m) for m in model.modules()] == modules and model.config.tie_word_embeddings == tied
    assert all(torch.equal(after[key].nan_to_num(7), before[key].nan_to_num(7)) for key in before)


def test_threshold_gates_gate_the_keys_of_a_rotated_grouped_query_model():
    model = toy(layers=1)
    wina.rotate_decoder_(model)
    dists = wina.calibrate_thresholds(model, [IDS])
    for share in (0.25, 0.5, 0.7, 0.9):
        wina.sparsify_(model, share, thresholds=dists, prefill_dense_fraction=0.0)
        kept, hooks = {}, []
        for name, gate in wina.gated_linears(model).items():
            note = lambda m, a, name=name, kept=kept: kept.update({name: m.mask(a[0]).float().mean().item()})  # noqa: E731
            hooks.append(gate.register_forward_pre_hook(note))
        model(IDS)
        for hook in hooks:
            hook.remove()
        for name in ("k_proj", "q_proj", "v_proj"):  # no gate stands before these
            assert abs(kept[f"model.layers.0.self_attn.{name}"] - (1 - share)) < 0.02, (share, name)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1.0, 1e6, 1e30])
def test_quantiles_do_not_depend_on_the_unit(scale):
    scores = torch.rand(4000, generator=torch.Generator().manual_seed(0)) + 0.1
    dist = wina.ScoreDistribution()
    dist.add(scores * scale)
    assert_close(dist.quantile(0.3) / scale, scores.quantile(0.3).item(), rtol=2e-3)


@pytest.mark.parametrize("bad", [torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf]), torch.tensor([-1.0])], ids=str)
def test_scores_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="`scores`"):
        wina.ScoreDistribution().add(bad)


def test_distributions_can_be_added_to_after_calibration():
    dists = wina.calibrate_thresholds(toy(), [IDS])
    next(iter(dists.values())).add(torch.rand(3))
    with pytest.raises(ValueError, match="`batches`"):
        wina.calibrate_thresholds(toy(), [])


@pytest.mark.parametrize("options", [dict(), dict(criterion="all"), dict(rotate=False)], ids=str)
def test_models_that_learn_can_be_gated_and_copied(options):
    model = toy(tied=False).requires_grad_(True)
    wina.sparsify_(model, 0.5, **options)
    assert all(not b.requires_grad for b in model.buffers())
    twin = copy.deepcopy(model)
    assert torch.equal(twin(IDS).logits, model(IDS).logits)
    assert all(p.requires_grad for p in model.parameters())


def test_frozen_stays_frozen_and_modes_stay():
    model = toy().train()
    model.model.layers[1].eval()
    frozen = {name: p.requires_grad for name, p in model.named_parameters(remove_duplicate=False)}
    wina.sparsify_(model, 0.5)
    assert not any(p.requires_grad for p in model.parameters()) and not any(frozen.values())
    assert [block.training for block in model.model.layers] == [True, False]
    assert model.model.layers[0].mlp.up_proj.training and not model.model.layers[1].mlp.up_proj.training


def test_every_matrix_has_a_fate():
    model = wina.sparsify_(toy(tied=False), {"*.o_proj": 0.7, "*": 0.4}, skip="*.0.mlp.*", only=["*.mlp.*", "*.self_attn.*"])
    report = wina.gate_report(model).set_index("name")
    matrices = {n.removesuffix(".weight").removesuffix(".linear") for n, p in model.named_parameters() if p.ndim > 1}
    assert matrices == set(report.index) - {n for n in report.index if n.endswith("residual")} and report.index.is_unique
    assert report.sparsity["model.layers.0.self_attn.o_proj"] == 0.7 and report.sparsity["model.layers.1.mlp.up_proj"] == 0.4
    assert (report.fate == "gated").sum() == 11 and report.fate["model.layers.0.mlp.up_proj"] == "dense: not named"
    assert report.fate["lm_head"].startswith("dense: outside")


# ---- batches ---------------------------------------------------------------------------------------------------------

SPARSE = {
    "top-k": lambda m: wina.sparsify_(m, 0.5, prefill_dense_fraction=0.0),
    "thresholds": lambda m: wina.sparsify_(m, 0.5, rotate=False,
                                          thresholds=wina.calibrate_thresholds(m, [IDS]), prefill_dense_fraction=0.0),
    "cats": lambda m: wina.sparsify_cats_(m, 0.3, [IDS], prefill_dense_fraction=0.0),
}


@pytest.mark.parametrize("kind", SPARSE)
def test_padding_chunks_and_batches_give_the_single_run(kind):
    model = SPARSE[kind](toy(dtype=torch.float64))
    alone = [model(row[None]).logits[0] for row in IDS]
    assert_close(model(IDS).logits, torch.stack(alone), rtol=1e-9)
    padded = torch.cat([torch.full((3, 5), 2), IDS], 1)  # pads on the left
    mask = torch.cat([torch.zeros(3, 5, dtype=torch.long), torch.ones_like(IDS)], 1)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    assert_close(model(padded, attention_mask=mask, position_ids=position).logits[:, 5:], torch.stack(alone), rtol=1e-9)
    cache, parts = transformers.DynamicCache(), []
    for chunk in IDS[:1].split((10, 5, 1, 8), dim=1):  # chunked prefill, a decoding step, a speculative step
        parts.append(model(chunk, past_key_values=cache, use_cache=True).logits[0])
    assert_close(torch.cat(parts), alone[0], rtol=1e-9)


@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 5, 64), (2, 2, 5, 64), (0, 64)], ids=str)
@pytest.mark.parametrize("threshold", [None, 0.1])
def test_inputs_of_any_number_of_dimensions(shape, threshold):
    linear = nn.Linear(64, 8, dtype=torch.float64)
    gate = wina.SparseLinear(linear, 0.5, threshold=threshold, prefill_dense_fraction=0.0)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = [linear(r * wina.wina_mask(r, gate.norms, 0.5) if threshold is None else r * (r.abs() * gate.norms > threshold))
            for r in x.reshape(-1, 64)]
    assert_close(gate(x), torch.stack(rows).view(*shape[:-1], 8) if rows else x.new_zeros(*shape[:-1], 8), rtol=1e-9)


def test_a_gate_keeps_no_graph():
    gate = wina.SparseLinear(nn.Linear(8, 8))
    assert not gate.norms.requires_grad and copy.deepcopy(gate).norms.equal(gate.norms)
