"""Every numbered result of the WINA chapter is broken once, and its check has to fail."""

import json
import re
import warnings

import pytest

pytest.importorskip("transformers")

from weightbook.book.ledger import find_notebook  # noqa: E402

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
    16: ("gate_act.abs() > check_real", "gate_act.abs() <= check_real"),
    17: ("n: s[n] + step / weight[n]}", "n: s[n] + step}"),
    18: ("(m * n * (1 - sparsity) + m + n)", "(m * n * sparsity + m + n)"),
    19: ("z_test(draws, 1 - 0.65**4", "z_test(draws, 0.65**4"),
}
ASIDE = re.compile(r"passport\(|show_doc\(|_contest\(")  # neither defines nor checks a numbered result


def derivation() -> list[str]:
    "Code of the chapter up to its benchmark, in order"
    cells = json.loads(find_notebook("wina").read_text(encoding="utf-8"))["cells"]
    end = next(i for i, cell in enumerate(cells) if "### The race" in "".join(cell["source"]))
    sources = ["".join(cell["source"]) for cell in cells[:end] if cell["cell_type"] == "code"]
    return [source for source in sources if not ASIDE.search(source)]


def tags() -> set[int]:
    "Numbers of the chapter's equations"
    cells = json.loads(find_notebook("wina").read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)}


def run(sources: list[str], monkeypatch) -> None:
    "Execute the cells in one namespace"
    monkeypatch.chdir(find_notebook("wina").parent)
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
