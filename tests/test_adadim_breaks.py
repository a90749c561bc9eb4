"""Every numbered result of the AdaDim chapter is broken once, and its check has to fail."""

import chapter_code
import pytest

pytest.importorskip("transformers")

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("zero = np.clip(-np.rint(v.min() / step), 0, top)", "zero = np.clip(np.rint(v.max() / step), 0, top)"),
    2: ('quantize_groups(W.T.contiguous(), 3, 32, dim="oc").dequantize().T', 'quantize_groups(W, 3, 32, dim="oc").dequantize()'),
    3: ("z_test(loss, 8 * h.sum().item() / 12", "z_test(loss, 8 * h.sum().item() / 6"),
    4: ("step.square().flatten(1) / 12 * share", "step.square().flatten(1) / 6 * share"),
    5: ("(a**2 * 4 * 20**2 + 508) / (4 * 20**2 + 508)", "(a * 4 * 20**2 + 508) / (4 * 20**2 + 508)"),
    6: ("errors[winner].mean():", "-errors[winner].mean():"),
    7: ("quantize_groups(W * t, 3, 16, dim=dim)", "quantize_groups(W * t[:, None], 3, 16, dim=dim)"),
    8: ('plain["ic"][:, P], rtol=0)', 'plain["ic"][P], rtol=0)'),
    9: ("(Q + errors * U.diagonal() - W)", "(Q - errors * U.diagonal() - W)"),
    10: ("energy.double().topk(count).values", "energy.double().topk(count, largest=False).values"),
    11: ("8 * torch.outer(torch.tensor([1.0, 4.0, 1.0])", "8 * torch.outer(torch.tensor([1.0, 2.0, 1.0])"),
    12: ("t / (t.max() * t.min()).sqrt()", "t / (t.max() * t.min())"),
    13: ("((E @ blocks) * E).sum(2).T", "(E * E).sum(2).T"),
    14: ("(scope is not before or not hand_on)", "(scope is before or not hand_on)"),
    15: ("return 2 * itemsize * rows * columns", "return itemsize * rows * columns"),
}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return chapter_code.derivation("adadim", "### The race")


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags("adadim")


def test_the_unbroken_chapter_passes(sources, monkeypatch):
    chapter_code.run("adadim", sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed("adadim", sources, *BREAKS[tag], monkeypatch)
