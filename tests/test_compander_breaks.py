"""Every numbered result of the Weight Compander chapter is broken once, and its check has to fail."""

import chapter_code
import pytest

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("return a * _SHAPES[check_choice", "return -a * _SHAPES[check_choice"),
    2: ("return b * _SHAPES[shape].inverse(w / a)", "return _SHAPES[shape].inverse(w / a)"),
    3: ("return (a / b) * _SHAPES", "return (b / a) * _SHAPES"),
    4: ("-(g * a * v / (b**2 + v**2)).sum()", "(g * a * v / (b**2 + v**2)).sum()"),
    5: ("self.alpha * v.abs().pow(self.alpha - 1)", "v.abs().pow(self.alpha - 1)"),
    6: ("(g + decay * compand_reference(v, 0.8, 0.5)) * compand_slope", "(g + decay * v) * compand_slope"),
    7: ("decay * (0.5 / 0.8) ** 2 * w, rtol", "decay * (0.8 / 0.5) ** 2 * w, rtol"),
    8: ("torch.cos(w / a) ** 4", "torch.cos(w / a) ** 2"),
    9: ("trajectory(0.8, c * 0.5, c**2 * 0.02)", "trajectory(0.8, c * 0.5, c * 0.02)"),
    10: ("v**3 / 3, rtol=1 / c**2", "v**3 / 6, rtol=1 / c**2"),
    11: ("1 / effective_rate(w, 0.8, 0.5), rtol", "effective_rate(w, 0.8, 0.5), rtol"),
    12: ("b**2 / a * (tan + tan**3 / 3)", "b**2 / a * (tan - tan**3 / 3)"),
    13: ("(a * b / (b * b + v * v))", "1.0"),
    14: ("v.mul_(slope).add_(start)", "v.add_(start)"),
    15: ("return 5 * check_integer", "return 4 * check_integer"),
}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return chapter_code.derivation("compander", "### The race")


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags("compander")


def test_the_unbroken_chapter_passes(sources, monkeypatch):
    chapter_code.run("compander", sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed("compander", sources, *BREAKS[tag], monkeypatch)
