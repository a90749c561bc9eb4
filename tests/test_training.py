"""The training loop: one and two processes, interruption, precision, evaluation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from weightbook.blocks import training
from weightbook.blocks.training import (
    accuracy,
    classification_loss,
    cross_entropy,
    evaluate,
    fit,
    make_accelerator,
    make_batches,
)
from weightbook.book.checks import assert_close

SCRIPT = '''
import json, os, sys
import torch
from torch import nn
from weightbook.blocks.training import accuracy, classification_loss, evaluate, fit, make_accelerator, make_batches

g = torch.Generator().manual_seed(0)
x, y = torch.randn(96, 6, generator=g, dtype=torch.float64), torch.randint(0, 3, (96,), generator=g)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
accelerator = make_accelerator("cpu")
history = fit(model, make_batches(x, y, batch_size=16), loss=classification_loss, epochs=3, seed=1, clip=1.0,
              optimizer=torch.optim.AdamW(model.parameters(), lr=0.05), accelerator=accelerator,
              checkpoint=sys.argv[2] if len(sys.argv) > 2 else None)
scores = evaluate(model, make_batches(x[:91], y[:91], batch_size=16, shuffle=False), {"accuracy": accuracy},
                  accelerator=accelerator)
if accelerator.is_main_process:
    found = {"processes": accelerator.num_processes, "loss": history.loss, "resumed_at": history.resumed_at, **scores}
    found["weight"] = model[0].weight.tolist()
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
accelerator.wait_for_everyone()
os._exit(0)  # no teardown: now and then the threads of the process group abort in it, after all is done
'''


def launch(folder: Path, processes: int, *arguments: str) -> dict:
    "What the script finds on so many processes"
    script, found = folder / "script.py", folder / f"found{processes}.json"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *torchrun, str(script), str(found), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(found.read_text())


def test_two_processes_give_the_loss_of_one(tmp_path):
    one, two = launch(tmp_path, 1), launch(tmp_path, 2, str(tmp_path / "checkpoint"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert_close(two["loss"], one["loss"], rtol=1e-9)
    assert_close(two["weight"], one["weight"], rtol=1e-9)
    assert_close(two["accuracy"], one["accuracy"], rtol=1e-12)
    again = launch(tmp_path, 1, str(tmp_path / "checkpoint"))
    assert again["resumed_at"] == len(one["loss"]) and again["weight"] == two["weight"]


def problem(count: int = 64):
    g = torch.Generator().manual_seed(3)
    return torch.randn(count, 5, generator=g), torch.randint(0, 3, (count,), generator=g)


def train(loss=classification_loss, lr=0.02, accelerator=None, **keywords):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
    keywords = {"epochs": 3, "accelerator": accelerator or make_accelerator("cpu")} | keywords
    return model, fit(model, make_batches(*problem(), batch_size=8), loss=loss, optimizer=optimizer, scheduler=scheduler,
                      **keywords)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


class Stop(Exception):
    pass


def stops(at: int):
    seen = []

    def loss(model, batch):
        seen.append(1)
        if len(seen) > at:
            raise Stop
        return classification_loss(model, batch)

    return loss


@pytest.mark.parametrize("at", [0, 1, 7, 8, 11, 16, 23])
def test_an_interrupted_run_ends_like_a_whole_one(at, tmp_path):
    whole, expected = train()
    with pytest.raises(Stop):
        train(stops(at), checkpoint=tmp_path, every=3)
    resumed, found = train(checkpoint=tmp_path, every=3)
    assert found.resumed_at <= at and (found.resumed_at > 0 or at < 3)
    assert found.loss == expected.loss and found.lr == expected.lr and same(whole, resumed)


def test_a_run_can_be_made_longer(tmp_path):
    whole, expected = train(epochs=4)
    train(epochs=2, checkpoint=tmp_path)
    longer, found = train(epochs=4, checkpoint=tmp_path)
    assert found.resumed_at == 16 and found.loss == expected.loss and same(whole, longer)
    with pytest.raises(ValueError, match="`steps` must be at least 32"):
        train(epochs=2, checkpoint=tmp_path)


def test_a_finished_run_is_not_trained_again(tmp_path):
    model, first = train(checkpoint=tmp_path)
    other, again = train(stops(0), checkpoint=tmp_path)
    assert same(model, other) and again.loss == first.loss and again.resumed_at == again.steps == 24


def test_checkpoints_are_whole_and_only_the_last_is_kept(tmp_path):
    train(checkpoint=tmp_path, every=3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000024"]
    assert {path.name for path in (tmp_path / "step-00000024").iterdir()} == {"model.safetensors", "state.pt", "run.json"}
    assert torch.load(tmp_path / "step-00000024" / "state.pt", weights_only=True).keys() == {"optimizer", "scheduler"}


def test_a_half_written_checkpoint_is_ignored(tmp_path):
    with pytest.raises(Stop):
        train(stops(8), checkpoint=tmp_path)
    (tmp_path / ".step-00000016.tmp").mkdir()
    (tmp_path / ".step-00000016.tmp" / "run.json").write_text("{")
    assert train(checkpoint=tmp_path)[1].resumed_at == 8


@pytest.mark.parametrize("change, named", [({"seed": 5}, "seed"), ({"lr": 0.5}, "optimizer")], ids=["seed", "lr"])
def test_the_checkpoint_of_another_run_is_refused(change, named, tmp_path):
    train(checkpoint=tmp_path)
    with pytest.raises(ValueError, match=f"another {named}"):
        train(checkpoint=tmp_path, **change)


def test_another_model_is_named(tmp_path):
    train(checkpoint=tmp_path)
    model = nn.Linear(5, 3)
    with pytest.raises(ValueError, match="another .*model"):
        fit(model, make_batches(*problem(), batch_size=8), loss=classification_loss, epochs=1, checkpoint=tmp_path,
            optimizer=torch.optim.Adam(model.parameters(), lr=0.02), accelerator=make_accelerator("cpu"))


def test_the_seed_decides():
    assert train(seed=1)[1].loss == train(seed=1)[1].loss != train(seed=2)[1].loss


def test_the_callers_random_state_stays():
    model, batches, state = nn.Linear(5, 3), make_batches(*problem(), batch_size=8), torch.random.get_rng_state()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, batches, loss=classification_loss, optimizer=optimizer, steps=2, accelerator=make_accelerator("cpu"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_epoch_sees_every_example_in_another_order():
    x = torch.arange(12.0)[:, None]
    seen = []

    def loss(model, batch):
        seen.extend(batch[0][:, 0].int().tolist())
        return model(batch[0]).mean()

    model = nn.Linear(1, 1)
    fit(model, make_batches(x, batch_size=4), loss=loss, epochs=2, optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        accelerator=make_accelerator("cpu"))
    first, second = seen[:12], seen[12:]
    assert sorted(first) == sorted(second) == list(range(12)) and first != second


def test_clip_bounds_the_step():
    model = nn.Linear(5, 3)
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    fit(model, make_batches(*problem(), batch_size=64), loss=lambda m, b: 1e4 * classification_loss(m, b), steps=1,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0), clip=0.25, accelerator=make_accelerator("cpu"))
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert_close(float((after - before).norm()), 0.25, rtol=1e-4)


def test_steps_and_callbacks():
    calls = []
    _, history = train(epochs=None, steps=11, callbacks=[lambda model, history: calls.append(history.steps)])
    assert history.steps == 11 and calls == [8, 11]
    assert [row["epoch"] for row in history.metrics] == [1, 2]


def test_bf16_trains_and_gives_the_model_back_in_float32():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        model, history = train(accelerator=make_accelerator("cpu", mixed_precision="bf16"))
        assert history.final_loss() < history.loss[0]
        assert all(p.dtype == torch.float32 for p in model.parameters())
        assert model(problem()[0]).dtype == torch.float32
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    exact = train()[1].loss[0]
    assert 0 < abs(history.loss[0] - exact) < 0.01 * exact


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 17))
def test_evaluate_is_the_plain_mean_whatever_the_batches(count, batch_size):
    x, y = problem(count)
    model = nn.Linear(5, 3)
    batches = make_batches(x, y, batch_size=batch_size, shuffle=False)
    found = evaluate(model, batches, {"hits": accuracy, "nats": cross_entropy}, accelerator=make_accelerator("cpu"))
    with torch.no_grad():
        assert_close(found["nats"], F.cross_entropy(model(x), y).item(), rtol=1e-5)
        assert_close(found["hits"], (model(x).argmax(1) == y).double().mean().item())


def fit_with(**keywords):
    model = nn.Linear(5, 3)
    keywords = {"loss": classification_loss, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)} | keywords
    return fit(model, make_batches(*problem(), batch_size=8), accelerator=make_accelerator("cpu"), **keywords)


BAD = {
    "neither": (lambda: fit_with(), ValueError, "`epochs` and `steps`"),
    "both": (lambda: fit_with(epochs=1, steps=1), ValueError, "`epochs` and `steps`"),
    "epochs": (lambda: fit_with(epochs=-1), ValueError, "`epochs`"),
    "optimizer": (lambda: fit_with(epochs=1, optimizer="adam"), TypeError, "`optimizer`"),
    "loss": (lambda: fit_with(epochs=1, loss=1.0), TypeError, "`loss`"),
    "clip": (lambda: fit_with(epochs=1, clip=0.0), ValueError, "`clip`"),
    "every": (lambda: fit_with(epochs=1, every=5), ValueError, "`checkpoint`"),
    "seed": (lambda: fit_with(epochs=1, seed=-1), ValueError, "`seed`"),
    "device": (lambda: make_accelerator("gpu"), ValueError, "`device`"),
    "precision": (lambda: make_accelerator("cpu", mixed_precision="fp4"), ValueError, "`mixed_precision`"),
    "batch size": (lambda: make_batches(torch.ones(3), batch_size=0), ValueError, "`batch_size`"),
    "nothing": (lambda: make_batches(batch_size=1), ValueError, "`tensors`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    call, kind, text = BAD[case]
    with pytest.raises(kind) as caught:
        call()
    assert text in str(caught.value)


def test_nothing_of_a_diverged_run_is_kept(tmp_path):
    def diverge(model, batch):
        return classification_loss(model, batch) * float("nan")

    with pytest.raises(FloatingPointError, match="nan at step 1"):
        train(diverge, checkpoint=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"weightbook\[lm\]"):
        training.make_accelerator("cpu")
