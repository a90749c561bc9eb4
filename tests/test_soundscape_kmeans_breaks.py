"""Every numbered result of the soundscape chapter is broken once, and its check has to fail."""

import chapter_code
import pytest

# tag of the equation -> (what the chapter says, what is put in its place)
BREAKS = {
    1: ("np.abs(axis).sum())", "np.abs(axis).max())"),
    2: ("half * (r[:, 7] - r[:, 3]) + half * (r[:, 1]", "half * (r[:, 3] - r[:, 7]) + half * (r[:, 1]"),
    3: ("expit(code * minutes / 60)", "expit(code * minutes / 1440)"),
    4: ("60 * np.log(1 / epsilon - 1)", "60 * np.log(1 / epsilon)"),
    5: ("np.tanh(exposure / 2)", "np.tanh(exposure)"),
    6: ("h = h + xp.cos(a[..., 0]) * xp.cos(b[..., 0])", "h = h + xp.cos(a[..., 0]) * xp.cos(a[..., 0])"),
    7: ("2 * 6371 * np.arcsin(np.minimum(chord / 2, 1))", "6371 * np.minimum(chord, 2)"),
    8: ("[1, math.cos(math.radians(latitude))]", "[1, 1]"),
    9: ("float(weight @ _squared_distance(", "float(weight**2 @ _squared_distance("),
    10: ("(V * V).sum(-1)[:, None] / -2", "(V * V).sum(-1)[:, None] / -1"),
    11: ("spread(m) + w.sum() * ((m - c) ** 2).sum()", "spread(m) + ((m - c) ** 2).sum()"),
    12: ("*(weight * payload[:, d] for d in range(D))", "*(payload[:, d] for d in range(D))"),
    13: ("c = weighted_means(z, points, weight, c[None])[0]", "c = 2 * c - weighted_means(z, points, weight, c[None])[0]"),
    14: ("math.sin(lat) * math.cos(lat) * var / 2", "math.sin(lat) * math.cos(lat) * var"),
    15: ("near = row if j == 0 else xp.minimum(near, row)", "near = row**0.5 if j == 0 else xp.minimum(near, row)"),
    16: ("(cdf / cdf[:, -1:] <= uniform[:, None])", "(cdf / cdf[:, -1:] <= 1 - uniform[:, None])"),
    17: ("gap / xp.where(diameter == 0, 1.0, diameter)", "gap / (gap + diameter)"),
    18: ("nearer = distances[j] < reach", "nearer = distances[j] > reach"),
    19: ("share[i] = rest * m / (i + 1)", "share[i] = rest * m / M"),
    20: ("np.subtract(np.dot(E, v, out=score), half, out=score)", "np.add(np.dot(E, v, out=score), half, out=score)"),
    21: ("n * (itemsize * (width + payload + 1) + 4)", "n * itemsize * (width + payload + 1)"),
    22: ("reach += half[a] * np.abs(v[a] - best[a])", "reach -= half[a] * np.abs(v[a] - best[a])"),
}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return chapter_code.derivation("soundscape_kmeans", "### The race", aside=r"step_case\(")


def test_every_equation_has_a_break():
    assert set(BREAKS) == chapter_code.tags("soundscape_kmeans")


def test_the_unbroken_chapter_passes(sources, monkeypatch):
    chapter_code.run("soundscape_kmeans", sources, monkeypatch)


@pytest.mark.parametrize("tag", BREAKS)
def test_a_broken_formula_fails_its_check(tag, sources, monkeypatch):
    chapter_code.assert_noticed("soundscape_kmeans", sources, *BREAKS[tag], monkeypatch)
