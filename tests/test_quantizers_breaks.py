"""Every numbered result of the quantisers' workshop is broken once, and its check has to fail."""

import chapter_code
import pytest

pytest.importorskip("transformers")

# tag of the equation -> (what the workshop says, what is put in its place)
BREAKS = {
    1: ("return (values / scale).round_().add_(zero)", "return (values / scale).floor_().add_(zero)"),
    2: ("torch.round(low / scale).neg_().clamp_(0, top)", "torch.floor(low / scale).neg_().clamp_(0, top)"),
    3: ("high = torch.maximum(-low, high)", "high = torch.minimum(-low, high)"),
    4: (".abs_().pow_(2.4).sum(1)", ".abs_().pow_(1.2).sum(1)"),
    5: ("rows = w if check_choice(", "rows = w.roll(1, 0) if check_choice("),
    6: ("return self.bits + extra / self.codes.numel()", "return self.bits + extra / self.codes.shape[0]"),
    7: ("parts.append((fields << shifts)", "parts.append((fields << shifts.flip(0))"),
    8: ("columns = math.sqrt(2 / self.samples)", "columns = math.sqrt(1 / self.samples)"),
    9: ("delta = -(w[i] - qi) / inverse[i, i] * inverse[:, i]", "delta = -(w[i] - qi) / H[i, i] * H[:, i]"),
    10: ("torch.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])", "torch.outer(inverse[:, 0], inverse[0]))"),
    11: ("torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)", "torch.linalg.cholesky_ex(damped, upper=True)"),
    12: ("-= torch.outer(E[:, i], U[i, i + 1 :])", "-= torch.outer(E[:, i], U[i, i + 1 :]) / U[i, i]"),
    13: ("E[:, i] = (W[:, i] - q) / U[i, i]", "E[:, i] = W[:, i] - q"),
    14: ("y = (x[:, None] * s * q.codes).sum(-1) - (x[:, None] * s * z).sum(-1)", "y = (x[:, None] * s * q.codes).sum(-1)"),
    15: ("(bits / 8 + (itemsize + 1) / group_size)", "(bits / 8 + itemsize / group_size)"),
}
# what runs the real model, or only shows something
ASIDE = r"quantise_real|\bpaired\b|fig_\w+\(|^table\("


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return chapter_code.derivation("quantizers", "### The kernel", aside=ASIDE)


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags("quantizers")


def test_the_unbroken_workshop_passes(sources, monkeypatch):
    chapter_code.run("quantizers", sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed("quantizers", sources, *BREAKS[tag], monkeypatch)
