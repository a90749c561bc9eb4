"""Every numbered result of the W-CFM chapter is broken once, and its check has to fail."""

import json
import re
import warnings

import pytest

pytest.importorskip("ot")
pytest.importorskip("accelerate")

from weightbook.book.ledger import find_notebook  # noqa: E402

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("(prediction - target).square().flatten(1).mean(1)", "(prediction - target).square().flatten(1).sum(1)"),
    2: ("(x1 - x0)[cell == k].mean()", "x1[cell == k].mean()"),
    3: ("(mass * (grid - x0)).sum(1)", "(mass * grid).sum(1)"),
    4: ("density = torch.exp(phi[:, None] + psi - C / 0.5)", "density = torch.exp(phi[:, None] - psi - C / 0.5)"),
    5: ("psi.exp() * torch.exp(-C / 0.5) * losses", "torch.exp(-C / 0.5) * losses"),
    6: ("scaled = cost.detach() / -eps", "scaled = cost.detach() / eps"),
    7: ("scaled.softmax(0) * len(scaled)", "scaled.softmax(0)"),
    8: ("Z = w.mean()", "Z = w.sum()"),
    9: ("fields[1.5][1]), 0.0", "fields[math.inf][1]), 0.0"),
    10: ("torch.exp(log_f - log_z), torch.exp(log_g - log_z)", "torch.exp(log_f), torch.exp(log_g)"),
    11: ("2 * log_z - torch.logsumexp(2 * L.flatten(), 0)", "log_z - torch.logsumexp(2 * L.flatten(), 0)"),
    12: ("-(tilt.f.log() + tilt.log_z)[:, None]", "-tilt.f.log()[:, None]"),
    13: ("torch.exp(-phi[:, None] - psi) * pot_plan", "torch.exp(phi[:, None] + psi) * pot_plan"),
    14: ("inner, outer = ring(36, 1.0)", "inner, outer = ring(36, 1.0) + 0.5"),
    15: ("(C == C.min()).double()", "(C == C.max()).double()"),
    16: ("(torch.softmax(-fine, 0) * fine).sum().item()", "fine.mean().item()"),
    17: ("x * y - 2 / (e + 2)", "x * y - 2 / (e + 4)"),
    18: ("math.sqrt(1 + 8 / e) / (1 + 4 / e)", "(1 + 8 / e) / (1 + 4 / e)"),
    19: ("/ ((1 - t) ** power * eps)", "/ eps"),
    20: ("cost=cost), math.sqrt(x0[0].numel())", "cost=cost), float(x0[0].numel())"),
    21: ("(steps / times.diff().to(steps)[:, None])", "(steps * times.diff().to(steps)[:, None])"),
    22: ("return path_energy(path, times) - straight", "return path_energy(path, times) + straight"),
    23: ("assert w2**2 <= path_energy(straight, times)", "assert w2**2 <= curvature(straight, times)"),
    24: ("rest = C - C.mean() - rows[:, None] - columns", "rest = C - C.mean() - rows[:, None] + columns"),
    25: ("passes = 4 if fused", "passes = 3 if fused"),
}
ASIDE = re.compile(r"passport\(|show_doc\(")  # neither defines nor checks a numbered result


def derivation() -> list[str]:
    "Code of the derivation, the pairs and losses, and the cost model on the GPU, in order"
    cells = json.loads(find_notebook("weighted_cfm").read_text(encoding="utf-8"))["cells"]
    at = {title: next(i for i, cell in enumerate(cells) if title in "".join(cell["source"]))
          for title in ("### Sampling", "### What weighting costs", "### The race")}
    chosen = cells[: at["### Sampling"]] + cells[at["### What weighting costs"] : at["### The race"]]
    sources = ["".join(cell["source"]) for cell in chosen if cell["cell_type"] == "code"]
    return [source for source in sources if not ASIDE.search(source)]


def tags() -> set[int]:
    "Numbers of the chapter's equations"
    cells = json.loads(find_notebook("weighted_cfm").read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)}


def run(sources: list[str], monkeypatch) -> None:
    "Execute the cells in one namespace"
    monkeypatch.chdir(find_notebook("weighted_cfm").parent)
    monkeypatch.setenv("WEIGHTBOOK_PROFILE", "quick")
    space = {"__name__": "chapter"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources:
            exec(compile(source, "<chapter>", "exec"), space)


def test_every_equation_has_a_break():
    assert set(BREAKS) == tags()


def test_the_unbroken_chapter_passes(monkeypatch):
    run(derivation(), monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, monkeypatch):
    old, new = BREAKS[tag]
    sources = derivation()
    hits = [i for i, source in enumerate(sources) if old in source]
    assert len(hits) == 1 and sources[hits[0]].count(old) == 1
    sources[hits[0]] = sources[hits[0]].replace(old, new)
    with pytest.raises(AssertionError):
        run(sources, monkeypatch)
