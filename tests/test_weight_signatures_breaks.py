"""Every numbered result of the chapter on robust weight signatures is broken once, and its check has to fail."""

import chapter_code
import pytest

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("return (v.to(wide) - projection_coefficient(v, a)", "return (v.to(wide) + projection_coefficient(v, a)"),
    2: ("assert_close(project_out(robust - clean, a), rws, rtol", "assert_close(project_out(robust + clean, a), rws, rtol"),
    3: ("robust - (kappa - 1) * a, rtol", "robust - kappa * a, rtol"),
    4: ("rws.norm() ** 2 + kappa**2 * a.norm() ** 2", "rws.norm() ** 2 + kappa * a.norm() ** 2"),
    5: ("-torch.linalg.solve(C + noise, noise @ w0)", "-torch.linalg.solve(C, noise @ w0)"),
    6: ("wiener = W @ C @ torch.linalg.inv(C + noise)", "wiener = W @ torch.linalg.inv(C + noise)"),
    7: ("alone = -(g @ r) / (r @ H @ r)", "alone = (g @ r) / (r @ H @ r)"),
    8: ("joint = -torch.linalg.solve(R.T @ H @ R, R.T @ g)", "joint = -torch.linalg.solve(R.T @ R, R.T @ g)"),
    9: ("(original.to(wide) + torch.tensordot(", "(original.to(wide) - torch.tensordot("),
    10: ("value = torch.lerp(self.ends[0], self.ends[1], step)", "value = torch.lerp(self.ends[1], self.ends[0], step)"),
    11: ("* torch.exp2(value)", "* torch.exp(value)"),
    12: ("return torch.atanh(value) if", "return torch.tanh(value) if"),
    13: ("sum(math.ceil(size * bits / 8) + 8 for", "sum(math.ceil(size * bits / 8) + 4 for"),
    14: ("layer.momentum = len(x) / (seen + len(x))", "layer.momentum = 1 / (seen + len(x))"),
    15: ("z_test(d * chance**2, 1.0)", "z_test(d**2 * chance**2, 1.0)"),
    16: ('{"on": (count + 2) * size', '{"on": (count + 1) * size'),
}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return chapter_code.derivation("weight_signatures", "### The race")


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags("weight_signatures")


def test_the_unbroken_chapter_passes(sources, monkeypatch):
    chapter_code.run("weight_signatures", sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed("weight_signatures", sources, *BREAKS[tag], monkeypatch)
