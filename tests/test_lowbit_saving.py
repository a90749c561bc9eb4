"""Saving as Hugging Face saves: every kind of model comes back, other files stay, nothing half written, damage is named."""

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

from toy_families import family  # noqa: E402

from weightbook.blocks.lm import toy_llama  # noqa: E402
from weightbook.lowbit import quantizers as Q  # noqa: E402
from weightbook.lowbit import wina  # noqa: E402

IDS = torch.randint(3, 97, (2, 16), generator=torch.Generator().manual_seed(0))
MANY = torch.randint(3, 97, (8, 24), generator=torch.Generator().manual_seed(0))


def toy(**options) -> nn.Module:
    return toy_llama(**(dict(layers=2, width=64, heads=8, kv_heads=2, mlp=96) | options))


def packed(**options) -> nn.Module:
    model = toy(**options)
    Q.quantize_model_(model, IDS, 4, 16)
    return model


def rotated() -> nn.Module:
    wina.rotate_decoder_(model := toy())
    return model


def half_precision() -> nn.Module:
    "A packed model in bfloat16, its rotary frequencies in float32 as `from_pretrained` keeps them"
    model = packed(dtype=torch.bfloat16)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    return model


MODELS = {
    "packed": packed,
    "packed, act-order": lambda: Q.quantize_model_(m := toy(bias=True), IDS, 3, 16, act_order=True) is not None and m,
    "half": lambda: Q.quantize_model_(m := toy(tied=False), IDS, 4, 16, only="*.mlp.*") is not None and m,
    "rotated": rotated, "sparse": lambda: wina.sparsify_(toy(), 0.5, prefill_dense_fraction=0.0),
    "thresholds": lambda: wina.sparsify_(m := toy(), 0.5, rotate=False, thresholds=wina.calibrate_thresholds(m, [IDS])),
    "accelerated": lambda: wina.accelerate_decoding(wina.sparsify_(toy(tied=False), 0.5)),
    "cats": lambda: wina.sparsify_cats_(toy(), 0.3, [IDS]),
    "dense": toy, "phi3, sparse": lambda: wina.sparsify_(family("phi3"), 0.4),
    "rotated, packed": lambda: Q.quantize_model_(m := rotated(), IDS, 8, 16, "rtn") is not None and m,
    "bfloat16": lambda: half_precision(),
    "experts, packed": lambda: Q.quantize_model_(m := Q.split_experts_(family("mixtral")), MANY, 8, 16) is not None and m,
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_comes_back(name, tmp_path):
    model = MODELS[name]()
    again = Q.load_quantized(Q.save_quantized(model, tmp_path / "m"))
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert next(again.parameters()).dtype == next(model.parameters()).dtype
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == model.config.tie_word_embeddings
    assert {type(m).__name__ for m in model.modules()} <= {type(m).__name__ for m in again.modules()}
    if "cats" in name:
        assert type(wina.remove_cats_(again).model.layers[0].mlp).__name__ == "LlamaMLP"


def test_from_pretrained_refuses_and_draws_no_weights(tmp_path):
    folder = Q.save_quantized(packed(), tmp_path / "m")
    with pytest.raises(OSError, match="safetensors"):
        transformers.AutoModelForCausalLM.from_pretrained(folder)


def test_the_generation_config_is_kept(tmp_path):
    model = packed()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = [1, 7], 2
    assert Q.load_quantized(Q.save_quantized(model, tmp_path)).generation_config.eos_token_id == [1, 7]


def test_the_folder_of_a_user_stays_a_folder_of_a_user(tmp_path, monkeypatch):
    home, link = tmp_path / "home", tmp_path / "link"
    home.mkdir(mode=0o755)
    (home / "README.md").write_text("mine")
    link.symlink_to(home)
    Q.save_quantized(packed(), link)
    assert link.is_symlink() and (home / Q.LAYOUT_FILE).is_file() and (home / "README.md").read_text() == "mine"
    assert stat.S_IMODE(home.stat().st_mode) == 0o755 and not list(home.glob(".*"))
    monkeypatch.chdir(home)
    Q.save_quantized(toy(seed=3), ".")
    assert torch.equal(Q.load_quantized(".")(IDS).logits, toy(seed=3)(IDS).logits)
    assert len(list(home.glob("*.safetensors"))) == 1
    new = Q.save_quantized(toy(), tmp_path / "a" / "new")
    assert stat.S_IMODE(new.stat().st_mode) == 0o777 & ~umask()


def umask() -> int:
    os.umask(now := os.umask(0))
    return now


@pytest.mark.parametrize("dies_at", range(4))
def test_a_save_that_dies_leaves_the_old_model(dies_at, tmp_path, monkeypatch):
    old = packed()
    Q.save_quantized(old, tmp_path)
    left, real = [dies_at], Path.replace

    def dying(self, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError("disk full")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    with pytest.raises(OSError, match="disk full"):
        Q.save_quantized(packed(seed=1), tmp_path)
    monkeypatch.undo()
    assert torch.equal(Q.load_quantized(tmp_path)(IDS).logits, old(IDS).logits)
    assert not list(tmp_path.glob(".weightbook*"))


def weights(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def edit(folder: Path, change) -> None:
    layout = json.loads((folder / Q.LAYOUT_FILE).read_text())
    change(layout)
    (folder / Q.LAYOUT_FILE).write_text(json.dumps(layout))


DAMAGE = {  # what -> (damage, the file that is named)
    "tensors cut off": (lambda f: weights(f).write_bytes(weights(f).read_bytes()[:-100]), "safetensors"),
    "a byte changed": (lambda f: weights(f).write_bytes(weights(f).read_bytes()[:-1] + b"x"), "safetensors"),
    "tensors missing": (lambda f: weights(f).unlink(), "safetensors"),
    "config edited": (lambda f: (f / "config.json").write_text("{}"), "config.json"),
    "layout cut off": (lambda f: (f / Q.LAYOUT_FILE).write_text((f / Q.LAYOUT_FILE).read_text()[:50]), Q.LAYOUT_FILE),
    "layout of a list": (lambda f: (f / Q.LAYOUT_FILE).write_text("[]"), Q.LAYOUT_FILE),
    "an older layout": (lambda f: edit(f, lambda at: at.update(format=1)), Q.LAYOUT_FILE),
    "a foreign class": (lambda f: edit(f, lambda at: at["layers"][0].update(kind="os.system")), Q.LAYOUT_FILE),
    "no such class": (lambda f: edit(f, lambda at: at["layers"][0].update(kind="weightbook.nowhere.Thing")), Q.LAYOUT_FILE),
    "a wrong form": (lambda f: edit(f, lambda at: at["layers"][0]["form"].update(bits=99)), Q.LAYOUT_FILE),
    "an unknown form": (lambda f: edit(f, lambda at: at["layers"][0]["form"].update(shape=99)), Q.LAYOUT_FILE),
    "a wrong place": (lambda f: edit(f, lambda at: at["layers"][0].update(name="model.nowhere.q_proj")), Q.LAYOUT_FILE),
    "a layer lost": (lambda f: edit(f, lambda at: at["layers"].pop()), "does not fit"),
    "a name lost": (lambda f: edit(f, lambda at: at["alias"].clear()), "does not fit"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_files_are_named(what, tmp_path):
    damage, named = DAMAGE[what]
    damage(Q.save_quantized(packed(), tmp_path))
    with pytest.raises(ValueError, match=named):
        Q.load_quantized(tmp_path)


# ---- GGUF ------------------------------------------------------------------------------------------------------------

GRIDS = {  # what -> options of quantize_model_
    "Q4_1": dict(bits=4, group_size=32), "Q4_1 of 3 bits": dict(bits=3, group_size=32, act_order=True, static_groups=True),
    "Q8_0": dict(bits=8, group_size=32, symmetric=True), "part": dict(bits=4, group_size=32, only="*.mlp.*"),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", GRIDS)
def test_transformers_reads_what_we_write_as_gguf(name, tied, tmp_path):
    gguf = pytest.importorskip("gguf")
    model = toy(heads=4, tied=tied)
    Q.quantize_model_(model, IDS, **GRIDS[name])
    path = Q.export_gguf(model, tmp_path / "toy.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["blk.1.ffn_up.weight"] == name.split()[0].replace("part", "Q4_1")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name)
    logits, wanted = again(IDS).logits, model(IDS).logits
    assert (logits - wanted).norm() < 3e-3 * wanted.norm()  # scales in float16
    for key in ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj"):
        a, b = again.get_submodule(key).weight, model.get_submodule(key).weight
        assert (a - b).norm() < 1e-3 * b.norm(), key
    assert [p.name for p in tmp_path.iterdir()] == ["toy.gguf"]


@pytest.mark.parametrize(
    "options", [dict(bits=4, group_size=16), dict(bits=4, group_size=32, dim="ic"), dict(bits=8, group_size=32),
                                     dict(bits=4, group_size=32, act_order=True)], ids=str)
def test_grids_that_gguf_does_not_have_are_refused(options, tmp_path):
    model = toy(heads=4)
    Q.quantize_model_(model, IDS, **options)
    with pytest.raises(ValueError, match="self_attn.q_proj"):
        Q.export_gguf(model, tmp_path / "toy.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make, error", [(lambda: toy(bias=True), ValueError), (lambda: wina.sparsify_(toy(), 0.5), ValueError),
                                         (lambda: family("qwen2"), NotImplementedError)], ids=["bias", "sparse", "qwen2"])
def test_models_that_gguf_cannot_hold_are_refused(make, error, tmp_path):
    with pytest.raises(error, match="`model`"):
        Q.export_gguf(make(), tmp_path / "toy.gguf")


# ---- compressed-tensors ----------------------------------------------------------------------------------------------

LAYOUTS = {  # what -> options of quantize_model_
    "4 bits": dict(bits=4, group_size=32), "3 bits, ordered": dict(bits=3, group_size=32, act_order=True, static_groups=True),
    "8 bits a row, symmetric": dict(bits=8, group_size=-1, symmetric=True), "1 bit": dict(bits=1, group_size=32, method="rtn"),
    "5 bits, symmetric, part": dict(bits=5, group_size=16, symmetric=True, only="*.mlp.*"),
    "4 and 8 bits, symmetric": dict(bits={"*.down_proj": 8, "*": 4}, group_size=32, symmetric=True),
    "4 and 8 bits": dict(bits={"*.down_proj": 8, "*": 4}, group_size=32),
}


def exported(name: str, folder: Path, **options) -> nn.Module:
    model = toy(**options)
    Q.quantize_model_(model, IDS, **LAYOUTS[name])
    assert Q.export_compressed(model, folder) == folder
    return model


def fields(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    "Field k of a row of 32-bit words: its bits k·b to k·b + b − 1, the lowest bit of the first word first"
    whole = [sum((int(word) & 0xFFFFFFFF) << 32 * i for i, word in enumerate(row)) for row in words]
    return torch.tensor([[row >> bits * k & 2**bits - 1 for k in range(count)] for row in whole])


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_compressed_tensors_decodes_to_the_model(name, tmp_path):
    from safetensors.torch import load_file

    model = exported(name, tmp_path / "m")
    tensors, config = load_file(tmp_path / "m" / "model.safetensors"), json.loads((tmp_path / "m" / "config.json").read_text())
    groups = config["quantization_config"]["config_groups"].values()
    packed = {key: m for key, m in model.named_modules() if isinstance(m, Q.QuantLinear)}
    for key, layer in packed.items():
        scheme = next(g["weights"] for g in groups if g["targets"] == ["Linear"] or key in g["targets"])
        bits, (rows, cols) = scheme["num_bits"], tensors[f"{key}.weight_shape"].tolist()
        assert bits == layer.bits and (rows, cols) == (layer.out_features, layer.in_features)
        codes, scale = fields(tensors[f"{key}.weight_packed"], bits, cols), tensors[f"{key}.weight_scale"]
        zero = torch.full_like(scale, 2 ** (bits - 1)) if scheme["symmetric"] else \
            fields(tensors[f"{key}.weight_zero_point"].T, bits, rows).T
        assert scheme["group_size"] == (None if scheme["strategy"] == "channel" else cols // scale.shape[1])
        width = cols // scale.shape[1]
        values = (codes - zero.repeat_interleave(width, 1)) * scale.repeat_interleave(width, 1)
        assert torch.equal(values, layer.weight), key
    left = {key for key, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert set(config["quantization_config"]["ignore"]) == left


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_transformers_reads_what_we_write_as_compressed_tensors(name, tied, tmp_path):
    pytest.importorskip("compressed_tensors")
    model = exported(name, tmp_path, tied=tied, bias=True)
    if name == "4 and 8 bits":  # transformers makes room for packed zero points only while it decodes, and then for one scheme
        with pytest.raises(RuntimeError, match="mismatch"):
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
        return
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied


def test_compressed_tensors_decodes_several_schemes_by_itself(tmp_path):
    compressors = pytest.importorskip("compressed_tensors.compressors")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    from safetensors.torch import load_file

    model, key = exported("4 and 8 bits", tmp_path), "model.layers.1.mlp.down_proj"
    parts = {name.removeprefix(f"{key}."): value for name, value in load_file(tmp_path / "model.safetensors").items()
             if name.startswith(f"{key}.")}
    groups = json.loads((tmp_path / "config.json").read_text())["quantization_config"]["config_groups"].values()
    scheme = quantization.QuantizationScheme(**next(g for g in groups if key in g["targets"]))
    codec = compressors.BaseCompressor.get_value_from_registry("pack-quantized")
    assert torch.equal(codec.decompress(parts, scheme)["weight"], model.get_submodule(key).weight)


REFUSED = {  # what -> (model, message)
    "groups of outputs": (lambda: grid(dim="ic"), "self_attn.q_proj.*ic"),
    "scattered groups": (lambda: grid(act_order=True), "self_attn.q_proj.*scattered: True"),
    "gates": (lambda: wina.sparsify_(grid(only="*.mlp.*"), 0.5, skip="*.mlp.*", rotate=False), "SparseLinear"),
    "nothing packed": (toy, "quantize_model_"),
    "fused experts": (lambda: Q.quantize_model_(m := family("mixtral"), IDS, 4, 16) is not None and m, "experts.gate_up_proj"),
    "scales beyond half precision": (lambda: huge(), "float16"),
}


def grid(**options) -> nn.Module:
    model = toy()
    Q.quantize_model_(model, IDS, 4, 16, **options)
    return model


def huge() -> nn.Module:
    model = grid(method="rtn")
    model.model.layers[0].mlp.up_proj.scale.fill_(1e6)
    model.model.embed_tokens.half()
    return model


@pytest.mark.parametrize("what", REFUSED)
def test_models_that_compressed_tensors_cannot_hold_are_refused(what, tmp_path):
    make, message = REFUSED[what]
    with pytest.raises(ValueError, match=f"`model`.*{message}"):
        Q.export_compressed(make(), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_an_export_leaves_the_models_of_others_alone(tmp_path):
    model = exported("4 bits", tmp_path / "one")
    Q.save_quantized(model, tmp_path / "two")
    for folder in ("one", "two"):
        before = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        with pytest.raises(ValueError, match="`folder`"):
            Q.export_compressed(model, tmp_path / folder)
        assert before == {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
