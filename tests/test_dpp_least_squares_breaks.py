"""Every numbered result of the chapter on determinantal samples is broken once, and its check has to fail."""

import chapter_code
import pytest

CHAPTER = "dpp_least_squares"

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("return k / np.sqrt(4.0 * k**2 - 1)", "return k / np.sqrt(4.0 * k**2 + 1)"),
    2: (
        "out = xp.linalg.solve(r, q.swapaxes(-1, -2) @ values)",
        "out = xp.linalg.solve(r.swapaxes(-1, -2), q.swapaxes(-1, -2) @ values)",
    ),
    3: ("assert_close(e2 + ((a - c) ** 2).sum(-1)", "assert_close(e2 + (a**2 - c**2).sum(-1)"),
    4: ("<= lam**-1.0 * g_n", "<= lam * g_n"),
    5: ("return basis.m**0.5 * basis.direction(x)", "return basis.direction(x)"),
    6: ("z_test(g_n, 1.0 * e2", "z_test(g_n, 1.1 * e2"),
    7: ("(error <= (1 + lam**-0.5 * zeta**0.5) * minimax)", "(error <= (lam**0.5 * zeta**0.5) * minimax)"),
    8: ("return delta + (1 - delta) * math.log1p(-delta)", "return delta - (1 - delta) * math.log1p(-delta)"),
    9: ("z_test((b_g**2).sum(-1), 6 / 40 * e2", "z_test((b_g**2).sum(-1), 7 / 40 * e2"),
    10: (
        "return density.alpha * basis.christoffel(x) + (1 - density.alpha) * h",
        "return density.alpha * basis.christoffel(x) + h",
    ),
    11: ("phi.swapaxes(-1, -2)) / math.factorial(3)", "phi.swapaxes(-1, -2)) / 3**3"),
    12: ("np.diag(K3)) - K3**2)", "np.diag(K3)) + K3**2)"),
    13: ("** 2).sum(-1) / (6 - k + 1)", "** 2).sum(-1) / (6 - k + 2)"),
    14: ("harmonic = 6 * sum(1 / i for i in range(1, 7))", "harmonic = 6 * sum(1 / i for i in range(2, 7))"),
    15: ("np.arange(m - 1.0, 0.0, -1.0)", "np.arange(m - 1.5, -0.5, -1.0)"),
    16: ("rng.beta(t[:-1], t[1:] + 2", "rng.beta(t[:-1], t[1:] + 1"),
    17: ("constant = math.factorial(n - m) * n**m", "constant = math.factorial(n - m) * m**n"),
    18: (
        "rest = _draw_density(basis, (count, n - basis.m), density, rng)",
        'rest = _draw_density(basis, (count, n - basis.m), "measure", rng)',
    ),
    19: (
        'z_test(fit_coefficients(leg, x, f(x), w), c, name="eq. (19)")',
        'z_test(fit_coefficients(leg, x, f(x), "measure"), c, name="eq. (19)")',
    ),
    20: ("mean = (1 - 5 / 12) * np.eye(5) + 5 / 12", "mean = (1 - 4 / 12) * np.eye(5) + 4 / 12"),
    21: ("12 / (12 - 5 + 1) * np.eye(5)", "12 / (12 - 5) * np.eye(5)"),
    22: ("(inverse > n / (n - 6) / (1 - delta)).mean()", "(inverse < n / (n - 6) / (1 - delta)).mean()"),
    23: ("<= 6 / n * norms[0]", "<= 3 / n * norms[0]"),
    24: ("6 / (n * left**2 * share**2)", "6 / (n * share**2) / 100"),
    25: ("theorem = 4 * 6 / (n * 0.25**2) + 0.1", "theorem = 4 * 6 / n * 0.25**2"),
    26: ("single.reshape(-1, 4).mean(1) / 4", "single.reshape(-1, 4).mean(1) / 2"),
    27: ("(10 - 6) / 10 * e2", "(10 - 5) / 10 * e2"),
    28: ("z_test((deviation**2).sum(-1), 6 * e2", "z_test((deviation**2).sum(-1), 12 * e2"),
    29: ("assert second <= first + 4", "assert second >= first + 4"),
    30: ("5 / (12 - 5 + 1) * (five", "5 / (12 - 5) * (five"),
    31: ("assert (error[stable] <= factor * minimax).all()", "assert (error[stable] >= factor * minimax).all()"),
    32: ("(leg(block) ** 2).sum(-1)[..., None, None]).sum(1)", "(leg(block) ** 2).sum(-1)[..., None, None]).mean(1)"),
    33: ("(e2 - repulsion) / r", "(e2 + repulsion) / r"),
    34: ("bound = min(1 / (1 - delta), 1 / (r * (1 - delta) ** 2)) / stable.mean()", "bound = (1 - delta) ** 2 / r"),
    35: (
        "assert failing <= 10 * np.exp(-6 * chernoff_rate(0.75)) <=",
        "assert failing >= 10 * np.exp(-6 * chernoff_rate(0.75)) >=",
    ),
    36: ("return (above(dpp) - above(iid)).max()", "return (above(iid) - above(dpp)).max()"),
    37: ("np.exp(-144 * 7 / 12 * chernoff_rate(0.75) / 6)", "np.exp(-144 / 12 * 7 / 12 * chernoff_rate(0.75) / 6)"),
    38: ("<= beta / (stable.mean() * 0.25)", "<= beta * stable.mean() * 0.025"),
    39: ("return 2 * m**3 * (harmonic - 1) + 4 * m**3", "return 2 * m**3 * harmonic + 4 * m**3"),
}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    "The derivation, and what eq. (39) needs: its function and its check"
    cells = chapter_code.derivation(CHAPTER, "### Several variables and data")
    later = chapter_code.derivation(CHAPTER, "### The kernel")
    return cells + [s for s in later if "def chain_operations" in s or 'name="eq. (39)"' in s]


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags(CHAPTER)


def test_the_unbroken_chapter_passes(sources, monkeypatch):
    chapter_code.run(CHAPTER, sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed(CHAPTER, sources, *BREAKS[tag], monkeypatch)
