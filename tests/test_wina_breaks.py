"""Every numbered result of the WINA chapter is broken once, and its check has to fail."""

import chapter_code
import pytest

pytest.importorskip("transformers")

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


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return chapter_code.derivation("wina", "### The race", aside=r"_contest\(")


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags("wina")


def test_the_unbroken_chapter_passes(sources, monkeypatch):
    chapter_code.run("wina", sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed("wina", sources, *BREAKS[tag], monkeypatch)
