"""Soundscape k-means: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "published": dict(q=0),
    "regions_found": {},
    "in_plane": dict(q=0),
    "selection": dict(seed=0, n_runs=10),
    "yardstick": dict(seed=0, single=True, draws=3),
    "scikit_learn": dict(n_runs=10),
    "selected_by": dict(q=0, rule="silhouette", every=20),
    "race": dict(points=1000, clusters=(5,), steps=5, runs=10, repeats=3),
}

MOVES = {
    "weights, eq. (3)": ("selection", "expit(code * minutes / 60)", "expit(code * minutes / 1440)"),
    "arc, eq. (6)": ("published", "h = h + xp.cos(a[..., 0]) * xp.cos(b[..., 0])",
                     "h = h + xp.cos(a[..., 0]) * xp.cos(a[..., 0])"),
    "plane, eq. (8)": ("in_plane", "[1, math.cos(math.radians(latitude))]", "[1, 1]"),
    "labels, eq. (10)": ("published", "(V * V).sum(-1)[:, None] / -2", "(V * V).sum(-1)[:, None] / -1"),
    "means, eq. (12)": ("selection", "*(weight * payload[:, d] for d in range(D))", "*(payload[:, d] for d in range(D))"),
    "seeding, eq. (16)": ("selection", "(cdf / cdf[:, -1:] <= uniform[:, None])", "(cdf / cdf[:, -1:] <= 1 - uniform[:, None])"),
    "Dunn index, eq. (17)": ("scikit_learn", "gap / xp.where(diameter == 0, 1.0, diameter)", "gap / (gap + diameter)"),
    "tree, eq. (18)": ("selection", "nearer = distances[j] < reach", "nearer = distances[j] > reach"),
    "sites, eq. (20)": ("published", "np.subtract(np.dot(E, v, out=score), half, out=score)", "np.dot(E, v, out=score)"),
    "a check of the input": ("published", "latitudes within ±{pole:g}", "latitudes in ±{pole:g}"),
    "the stand-in": ("selection", "p=(0.5, 0.3, 0.2)", "p=(0.4, 0.4, 0.2)"),
    "a page helper": ("selection", "chance.integers(67, size=67)", "chance.integers(66, size=67)"),
    "a page table": ("selection", 'dict(weighting="none")', 'dict(weighting="exposure")'),
    "a page constant": ("selection", "KS = range(2, 21)", "KS = range(2, 20)"),
    "the seeds of a replicate": ("yardstick", "7600 * (1 + seed % 500_000)", "7600 * (2 + seed % 500_000)"),
    "the arm it is measured with": ("selection", "dunn_here=t.dunn[here]", "dunn_here=2 * t.dunn[here]"),
    "a table of functions": ("selected_by", "-davies_bouldin_score(flat, labels)", "davies_bouldin_score(flat, labels)"),
    "a page helper of the map": ("regions_found", "np.hypot(*(point - kept[-1])) >= least",
                                 "np.hypot(*(point - kept[-1])) > least"),
    "what the race runs": ("race", "(V * V).sum(-1)[:, None] / -2", "(V * V).sum(-1)[:, None] / -1"),
    "a default argument": ("selection", 'change: str = "paper", n_runs: int = 100',
                           'change: str = "no weights", n_runs: int = 100'),
}

STAYS = {
    "circumplex, eq. (1)": ("selection", "np.abs(axis).sum())", "np.abs(axis).max())"),
    "best of m, eq. (19)": ("published", "share[i] = rest * m / (i + 1)", "share[i] = rest * m / M"),
    "bytes, eq. (21)": ("selection", "n * (itemsize * (width + payload + 1) + 4)", "n * itemsize * (width + payload + 1)"),
    "a figure": ("published", "Half the range of a weight is out of reach", "Half the range"),
    "a docstring": ("selection", "Kilometres from each site of the paper to the nearest",
                    "Distance from each site to the nearest"),
    "a rule of selection": ("selection", "-davies_bouldin_score(flat, labels)", "davies_bouldin_score(flat, labels)"),
    "the number of processes": ("selection", "JOBS = S.pick(quick=None, book=-1)", "JOBS = 2"),
}
