"""What would attempt the claims that need the paper's models: the pages' code, end to end on a toy model."""

import sys
import types
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("transformers")

from test_arm_keys import arm_of  # noqa: E402

from weightbook.blocks.lm import linear_layers, toy_llama  # noqa: E402

IDS = torch.randint(97, (1, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "The quick profile, and a harness whose score is read off the model"
    for name, value in {"PROFILE": "quick", "SEED": "0", "DEVICE": "cpu", "OFFLINE": "1"}.items():
        monkeypatch.setenv(f"WEIGHTBOOK_{name}", value)

    def simple_evaluate(model, tasks, **options):
        with torch.inference_mode():
            score = model["pretrained"](IDS).logits.float().softmax(-1).max().item()
        return {"results": {task: {"acc,none": score} for task in tasks}}

    harness, wrapper = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.models.huggingface")
    harness.simple_evaluate, wrapper.HFLM = simple_evaluate, lambda **options: options
    for module in (harness, types.ModuleType("lm_eval.models"), wrapper):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adadims_rung_rounds_a_model_and_scores_it():
    scored = arm_of("adadim", "scored").function
    lm = SimpleNamespace(model=toy_llama(layers=2, width=64, heads=4, kv_heads=2, mlp=96), tokenizer=None, device="cpu")
    scored.__globals__["language_model"] = lambda: lm
    found = {rule: scored(seed=0, rule=rule, bits=2, group=32, blocks=2, limit=1) for rule in ("RTN", "RTN, all per-IC")}
    assert set(found["RTN"]) == {"mmlu", "piqa", "hellaswag", "winogrande", "arc_easy"}
    assert all(0 < score < 100 for score in found["RTN"].values()) and found["RTN"] != found["RTN, all per-IC"]
    judged = linear_layers(scored.__globals__["judge"]("float32"), "model.layers.*")
    assert all(len(layer.weight[:32, 0].unique()) <= 4 for layer in judged.values())  # two bits, groups along the outputs


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_winas_rung_searches_gates_and_scores():
    task_score = arm_of("wina", "task_score").function
    space = task_score.__globals__
    space["load_lm"] = lambda repository, settings, dtype: SimpleNamespace(model=toy_llama(layers=2), tokenizer=None,
                                                                           device="cpu")
    space["token_windows"] = lambda lm, text, length: torch.randint(97, (5, length), generator=torch.Generator().manual_seed(1))
    found = {arm: task_score(seed=0, arm=arm, repository="a/b", suite="v2", limit=1) for arm in ("TEAL", "WINA", "random")}
    assert len({scores["mean"] for scores in found.values()}) == 3
    assert set(found["WINA"]) == {*space["SUITES"]["v2"], "mean"}
