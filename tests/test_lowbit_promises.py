"""What the converters of the low-bit part promise on other people's models: right grids, all or nothing, no silence."""

import copy

import pandas as pd
import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

from toy_families import CONFIGS, MIXTURES, family  # noqa: E402

from weightbook.blocks.lm import toy_llama  # noqa: E402
from weightbook.book.checks import assert_close, rms_error  # noqa: E402
from weightbook.lowbit import adadim  # noqa: E402
from weightbook.lowbit import quantizers as Q  # noqa: E402

IDS = torch.randint(97, (5, 24), generator=torch.Generator().manual_seed(0))


def toy(**options) -> nn.Module:
    return toy_llama(**(dict(layers=2, width=64, heads=4, kv_heads=2, mlp=96) | options))


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    after = model.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


# ---- groups of one sign ----------------------------------------------------------------------------------------------

RISING = torch.tensor([[10.5, 11, 11.5, 12, 12.5, 13, 13.5, 14]])
GROUPS = {  # group -> bits
    "all positive": (RISING, 8), "all negative": (-RISING, 8), "constant": (torch.full((1, 8), 0.5), 8), "one level": (RISING, 1),
    "tiny": (1e-7 * torch.linspace(-1, 1, 8)[None], 8), "tiny, positive": (1e-7 * RISING, 8), "zero": (torch.zeros(1, 8), 3),
    "huge": (torch.tensor([[-3e38, 3e38, 0, 1e38, 2e38, -1e38, 1e37, 3e37]]), 8),
    "below the smallest normal": (torch.tensor([[1e-40, -1e-40, 0, 0, 0, 0, 0, 0]]), 4),
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_no_weight_is_further_than_half_a_step(name, symmetric):
    v, bits = GROUPS[name]
    reach = v.double().abs().max() if symmetric else (v.double().clamp(min=0).amax() - v.double().clamp(max=0).amin())
    step = (2 if symmetric else 1) * reach / (2**bits - 1)
    worst = (Q.rtn(v, bits, 8, symmetric=symmetric).double() - v.double()).abs().max()
    # the symmetric grid has one level less above zero than below
    assert worst <= (1.01 if symmetric else 0.501) * step + 1e-37


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("dim", adadim.DIMS)
def test_every_rounding_of_the_part_is_the_same(name, dim):
    v, bits = GROUPS[name]
    weight = v.T.contiguous() if dim == "ic" else v
    expected = Q.rtn(weight, bits, 8, dim)
    assert torch.equal(adadim.minmax_round(weight, bits, 8, dim), expected)
    assert torch.equal(adadim.minmax_round_reference(weight, bits, 8, dim), expected)


def test_exact_values_of_the_reported_cases():
    assert Q.rtn(torch.full((1, 8), 0.5), 8, 8).eq(0.5).all()
    assert (Q.rtn(RISING, 8, 8) - RISING).abs().max() < 0.5 * 14 / 255 + 1e-5
    s, z = Q.fit_scale_zero(RISING, 3, symmetric=True)
    assert_close(s, torch.tensor([28 / 7]), rtol=1e-6)  # eq. (3): 2 · max |v| / N_q
    assert z.tolist() == [4]


def test_the_published_defects_stay_behind_their_switch():
    assert Q.rtn(RISING, 8, 8, zero_in_range=False).unique().tolist() == [3.5]
    assert_close(Q.rtn(torch.full((1, 8), 0.5), 8, 8, zero_in_range=False), torch.full((1, 8), 1e-5), rtol=1e-4)
    assert Q.rtn(1e-7 * torch.linspace(-1, 1, 8)[None], 3, 8, zero_in_range=False).eq(0).all()
    assert Q.rtn(RISING, 3, 8, symmetric=True, zero_in_range=False).max() == 6  # half of the grid lies below zero
    assert torch.equal(adadim.minmax_round(RISING, 8, 8, "oc", zero_in_range=False), torch.full((1, 8), 3.5))


@pytest.mark.parametrize("dim", adadim.DIMS)
def test_gptq_serves_groups_of_one_sign(dim):
    gen = torch.Generator().manual_seed(0)
    weight, x = 10 + torch.rand(16, 32, generator=gen), torch.randn(4, 40, 32, generator=gen)
    solver = Q.GPTQ(weight)
    solver.add_batch(x)
    assert Q.relative_error(weight, solver.quantize(8, 16, dim).dequantize(), solver.inputs.matrix) < 0.01
    published = solver.quantize(8, 16, dim, zero_in_range=False).dequantize()
    assert Q.relative_error(weight, published, solver.inputs.matrix) > 0.3


# ---- the walk leaves the model as it was -----------------------------------------------------------------------------


def test_forwards_of_single_layers_survive_the_walk():
    model = toy()
    layer = model.model.layers[1]
    plain, calls = layer.forward, []
    layer.forward = lambda *args, **options: (calls.append(1), plain(*args, **options))[1]
    own = layer.forward
    list(Q.walk_decoder(model, IDS, batch_size=2))
    assert layer.__dict__["forward"] is own and "forward" not in model.model.layers[0].__dict__
    assert len(calls) == 3  # one call a batch: the walk ran through the patch too


def test_accelerates_hooks_survive_the_walk():
    hooks = pytest.importorskip("accelerate.hooks")
    model, seen = toy(), []

    class Note(hooks.ModelHook):
        def pre_forward(self, module, *args, **options):
            seen.append(module)
            return args, options

    hooks.add_hook_to_module(model.model.layers[0], Note())
    Q.quantize_model_(model, IDS, 8, 32, "rtn")
    seen.clear()
    model(IDS)
    assert len(seen) == 1


def test_modes_survive_the_walk():
    model = toy().train()
    model.model.layers[0].eval()
    modes = {name: m.training for name, m in model.named_modules()}
    Q.quantize_model_(model, IDS, 8, 32, "rtn")
    assert {name: m.training for name, m in model.named_modules()} == modes


# ---- an incomplete last batch, masks, precision ----------------------------------------------------------------------

MASKED = {
    "eager": lambda: family("llama", attn_implementation="eager", num_key_value_heads=4),
    "sliding window": lambda: family("mistral", sliding_window=8, num_key_value_heads=4),
}


@pytest.mark.parametrize("method", ["adadim", "awq", "search"])
@pytest.mark.parametrize("kind", MASKED)
def test_an_incomplete_last_batch_changes_nothing(kind, method):
    run = {
        "adadim": lambda model, size: adadim.adadim_(model, IDS, 3, 32, batch_size=size).choice.dropna().tolist(),
        "awq": lambda model, size: adadim.awq_(model, IDS, 3, 32, batch_size=size, limit=1).alpha.dropna().tolist(),
        "search": lambda model, size: adadim.search_dims(model, IDS, 3, 32, batch_size=size).choice.tolist(),
    }[method]
    assert run(MASKED[kind](), 2) == run(MASKED[kind](), 5)  # 2, 2 and 1 sequences against one batch


@pytest.mark.parametrize("run", [
    lambda m: adadim.awq_(m, IDS, 4, 32, limit=1), lambda m: adadim.adadim_(m, IDS, 4, 32, "gptq"),
    lambda m: Q.quantize_model_(m, IDS, 4, 32),
], ids=["awq", "adadim", "gptq"])
def test_half_precision_and_autocast(run):
    before = toy(bias=True)(IDS).logits
    model = toy(bias=True, dtype=torch.bfloat16)
    run(model)
    assert rms_error(model(IDS).logits.float(), before) < 0.5
    model = toy(bias=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(model)
    assert rms_error(model(IDS).logits, before) < 0.5


# ---- all or nothing --------------------------------------------------------------------------------------------------

CONVERTERS = {
    "quantize_model_": lambda m, **o: Q.quantize_model_(m, IDS, **dict(bits=4, group_size=32) | o),
    "quantize_model_, rtn": lambda m, **o: Q.quantize_model_(m, IDS, **dict(bits=4, group_size=32, method="rtn", pack=False) | o),
    "adadim_": lambda m, **o: adadim.adadim_(m, IDS, **dict(bits=4, group_size=32) | o),
    "adadim_, plain": lambda m, **o: adadim.adadim_(m, IDS, **dict(bits=4, group_size=32, pack=False) | o),
    "awq_": lambda m, **o: adadim.awq_(m, IDS, **dict(bits=4, group_size=32) | o),
    "search_dims": lambda m, **o: adadim.search_dims(m, IDS, **dict(bits=4, group_size=32) | o),
}


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_layer_that_does_not_fit_leaves_the_model_alone(name):
    model = toy(mlp=80)  # 32 divides the width, not the 80 inner channels of the last layer of a block
    before, modules = state(model), list(model.modules())
    with pytest.raises(ValueError, match="group_size.*mlp"):
        CONVERTERS[name](model)
    assert same(model, before) and all(a is b for a, b in zip(model.modules(), modules, strict=True))


@pytest.mark.parametrize("name", CONVERTERS)
def test_an_interruption_is_undone(name, monkeypatch):
    model, count = toy(), [0]
    before, modules = state(model), list(model.modules())
    real = Q.quantize_groups if name.startswith(("quantize", "adadim")) else adadim.minmax_round

    def fails_late(*args, **options):
        count[0] += 1
        if count[0] == (150 if name == "awq_" else 9):
            raise KeyboardInterrupt
        return real(*args, **options)

    for module in (Q, adadim):
        monkeypatch.setattr(module, real.__name__, fails_late, raising=False)
    if name == "quantize_model_":
        monkeypatch.setattr(Q.GPTQ, "quantize", lambda self, *a, **o: fails_late(self.weight, 4, 32))
    with pytest.raises(KeyboardInterrupt):
        CONVERTERS[name](model)
    assert same(model, before) and all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_rounded_weights_stay_in_their_storage():
    model = toy()
    where = {name: p.data_ptr() for name, p in model.named_parameters()}
    Q.quantize_model_(model, IDS, 4, 32, "rtn", pack=False)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == where


# ---- the fate of every matrix ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quantize_model_", "adadim_", "awq_"])
def test_the_report_lists_every_matrix(name):
    model = toy(tied=False)
    matrices = {key.removesuffix(".weight") for key, p in model.named_parameters() if p.ndim > 1}
    report = CONVERTERS[name](model, skip="*.o_proj", only=["*.self_attn.*", "*.down_proj"])
    full = [row.module if row.layer is pd.NA else f"model.layers.{row.layer}.{row.module}" for row in report.itertuples()]
    assert sorted(full) == sorted(matrices)
    fates = dict(zip(full, report.fate, strict=True))
    assert fates["model.layers.0.self_attn.o_proj"] == "kept: named in `skip`"
    assert fates["model.layers.1.mlp.up_proj"] == "kept: not named in `only`"
    assert fates["lm_head"] == fates["model.embed_tokens"] == "kept: outside of the decoder layers"
    converted = {key for key, fate in fates.items() if fate == "converted"}
    assert len(converted) == 8
    if name != "awq_":  # whose weights stay in their layers
        assert {key for key, m in model.named_modules() if isinstance(m, Q.QuantLinear)} == converted


def test_awq_names_what_its_limit_leaves():
    model = toy()
    before = state(model)
    report = adadim.awq_(model, IDS, 4, 32, limit=1)
    fates = fates_of(report)
    changed = {key.removesuffix(".weight") for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert changed == {key for key, fate in fates.items() if fate == "converted"} and len(changed) == 7
    assert all(fate == "kept: beyond `limit`" for key, fate in fates.items() if key.startswith("model.layers.1."))
    one = report[report.layer.eq(0)]
    assert one.modules.notna().all() and one.drop_duplicates("modules").passes.tolist() == [21, 2, 21, 21]


def test_bits_by_pattern():
    model = toy()
    report = Q.quantize_model_(model, IDS, {"*.down_proj": 8, "*.mlp.*": 3, "*.q_proj": 2}, 32, "rtn")
    bits = {n.split(".", 2)[2]: m.bits for n, m in model.named_modules() if isinstance(m, Q.QuantLinear)}
    assert bits == {f"{i}.{k}": b for i in "01" for k, b in
                    {"self_attn.q_proj": 2, "mlp.gate_proj": 3, "mlp.up_proj": 3, "mlp.down_proj": 8}.items()}
    assert (report.fate == "kept: no pattern of `bits` names it").sum() == 6
    other = toy()
    assert set(adadim.adadim_(other, IDS, {"*.up_proj": 2, "*": 4}, 32).bits_per_weight.dropna().round(3)) == {2.562, 4.625}
    adadim.awq_(other := toy(), IDS, {"*.up_proj": 2, "*": 8}, 32)
    assert other.model.layers[0].mlp.up_proj.weight[0, :32].unique().numel() <= 32


def test_a_second_quantisation_is_refused_or_named():
    model = toy()
    Q.quantize_model_(model, IDS, 4, 32, "rtn", only="*.mlp.*")
    before = state(model)
    for run in CONVERTERS.values():
        with pytest.raises(ValueError, match="quantised already"):
            run(model)
    assert same(model, before)
    Q.quantize_model_(model, IDS, 8, 32, "rtn", skip="*.mlp.*")
    assert sum(isinstance(m, Q.QuantLinear) for m in model.modules()) == 14


class Adapter(nn.Module):
    "The shape of a PEFT adapter"

    def __init__(self, base):
        super().__init__()
        self.base_layer, self.lora_A = base, nn.ModuleDict({"default": nn.Linear(base.in_features, 4, bias=False)})

    def forward(self, x):
        return self.base_layer(x)


REFUSED = {  # what -> (model, exception, message)
    "adapters": (lambda: with_layer(Adapter), ValueError, "merge"),
    "Conv1D of GPT-2": (lambda: family("gpt2"), NotImplementedError, "gpt2"),
    "no weights": (lambda: toy().to("meta"), ValueError, "meta"),
    "integers": (lambda: with_weight(lambda w: w.to(torch.int8)), TypeError, "floating"),
    "infinite": (lambda: with_weight(lambda w: w / 0), ValueError, "finite"),
}


def with_layer(make) -> nn.Module:
    model = toy()
    model.model.layers[0].mlp.up_proj = make(model.model.layers[0].mlp.up_proj)
    return model


def with_weight(change) -> nn.Module:
    model = toy()
    model.model.layers[1].mlp.down_proj.weight = nn.Parameter(change(model.model.layers[1].mlp.down_proj.weight.data), False)
    return model


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_meant_is_refused(what):
    make, error, message = REFUSED[what]
    for run in CONVERTERS.values():
        with pytest.raises(error, match=message):
            run(make())


@pytest.mark.parametrize("options, error, message", [
    (dict(skip="*.upp_proj"), ValueError, "`skip`.*nearest"), (dict(only="model.layer.*"), ValueError, "`only`"),
    (dict(bits={"*.nothing": 3}), ValueError, "`bits`"),
    (dict(bits=9), ValueError, "`bits`"), (dict(bits=2.5), TypeError, "`bits`"),
    (dict(only="lm_head"), ValueError, "`model`"), (dict(static_group=True), TypeError, "`options`"),
    (dict(scale_dtype=torch.int8), ValueError, "`scale_dtype`"), (dict(method="gtpq"), ValueError, "`method`"),
], ids=str)
def test_arguments_are_refused_before_anything_changes(options, error, message):
    model = toy()
    before = state(model)
    with pytest.raises(error, match=message):
        CONVERTERS["quantize_model_"](model, **options)
    assert same(model, before)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_converts(name):
    model = family(name, num_key_value_heads=4)
    before = model(IDS).logits
    report = Q.quantize_model_(model, IDS, 8, 32, "rtn")
    assert rms_error(model(IDS).logits, before) < 0.05
    assert (report.fate == "converted").sum() == sum(isinstance(m, Q.QuantLinear) for m in model.modules())
    assert copy.deepcopy(model)(IDS).logits.equal(model(IDS).logits)


# ---- mixtures of experts ---------------------------------------------------------------------------------------------

MANY = torch.randint(3, 97, (8, 24), generator=torch.Generator().manual_seed(0))  # every expert gets tokens
ONE_OUTPUT = "*.shared_expert_gate"  # has no group of sixteen outputs


def skipped(name: str) -> dict:
    return dict(skip=ONE_OUTPUT) if name == "qwen2_moe" else {}


def fates_of(report: pd.DataFrame) -> dict[str, str]:
    "Full name -> fate"
    names = [row.module if row.layer is pd.NA else f"model.layers.{row.layer}.{row.module}" for row in report.itertuples()]
    assert len(set(names)) == len(names)
    return dict(zip(names, report.fate, strict=True))


@pytest.mark.parametrize("name", MIXTURES)
def test_fused_experts_are_kept_by_name(name):
    model = family(name)
    before = model(MANY).logits
    fates = fates_of(Q.quantize_model_(model, MANY, 8, 16, "rtn"))
    assert rms_error(model(MANY).logits, before) < 0.1
    assert set(fates) == {key.removesuffix(".weight") for key, p in family(name).named_parameters() if p.ndim > 1}
    for layer in "01":
        for part in ("gate_up_proj", "down_proj"):
            assert "split_experts_" in fates[f"model.layers.{layer}.mlp.experts.{part}"]
        assert fates[f"model.layers.{layer}.mlp.gate"].startswith("kept: ")
        assert fates[f"model.layers.{layer}.self_attn.q_proj"] == "converted"


@pytest.mark.parametrize("name", MIXTURES)
def test_split_experts_give_the_same_answers(name):
    model = family(name)
    before, flags = model(MANY).logits, {p.requires_grad for p in model.parameters()}
    assert Q.split_experts_(model) is model
    assert_close(model(MANY).logits, before, rtol=1e-6)
    assert {p.requires_grad for p in model.parameters()} == flags and not any(m.training for m in model.modules())
    assert not any(p.ndim > 2 for p in model.parameters())
    assert Q.split_experts_(copy.deepcopy(model))(MANY).logits.equal(model(MANY).logits)


MIXED = {  # converter -> how a model is converted
    "gptq": lambda m, **o: Q.quantize_model_(m, MANY, 8, 16, **o),
    "adadim": lambda m, **o: adadim.adadim_(m, MANY, 8, 16, **o),
    "awq": lambda m, **o: adadim.awq_(m, MANY, 8, 16, **o),
}


@pytest.mark.parametrize("method", MIXED)
@pytest.mark.parametrize("name", MIXTURES)
def test_split_experts_convert_like_all_other_layers(name, method):
    model = Q.split_experts_(family(name))
    before, old = model(MANY).logits, state(model)
    report = MIXED[method](model, **skipped(name))
    assert rms_error(model(MANY).logits, before) < 0.1
    changed = {key for key, value in old.items() if key not in model.state_dict() or not model.state_dict()[key].equal(value)}
    experts = {key for key in old if ".experts." in key}
    assert len(experts) == 16 and experts <= changed  # 2 layers, 4 experts, 2 matrices
    converted = {key for key, fate in fates_of(report).items() if fate == "converted"}
    assert {key.removesuffix(".weight") for key in experts} <= converted


def test_an_expert_that_no_token_comes_to_is_named():
    model = Q.split_experts_(family("mixtral"))
    before = state(model)
    with pytest.raises(ValueError, match=r"`input_ids` must reach every layer.*experts\.\d"):
        Q.quantize_model_(model, MANY[:1, :1], 8, 16)
    assert same(model, before)


def test_wina_names_the_families_that_it_knows():
    from weightbook.lowbit import wina

    with pytest.raises(NotImplementedError, match="mixtral"):
        wina.sparsify_(family("mixtral"), 0.5)
