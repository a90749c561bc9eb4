"""Determinantal least squares: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "race": dict(sizes=(10,), cases=(("chain", 1),), repeats=3),
    "relative_errors": dict(seed=0, family="Hermite", m=5, n=10, sampler="volume", draws=10),
    "stable_map": dict(seed=0, family="Legendre", sampler="volume", ms=(2, 4), counts=(5, 10), draws=5),
    "half_point": dict(seed=0, family="Legendre", sampler="volume", m=5, draws=10),
    "mean_excess": dict(seed=0, sampler="volume", n=10, draws=10),
    "smallest_values": dict(seed=0, family="Legendre", sampler="volume", m=5, n=5, draws=10),
    "bounded": dict(seed=0, n=20, alpha=0.5, draws=10),
    "averaging": dict(seed=0, r=2, draws=10),
    "high_errors": dict(seed=0, dim=2, sampler="volume", factor=2, draws=3),
    "rod_errors": dict(seed=0, design="Sobol", n=56, repeats=1),
    "grid_error": dict(rule="Gauss grid", k=4),
    "labelled": dict(seed=0, sampler="volume", k=2, draws=10),
    "theorem_five": dict(seed=0, family="Legendre", m=5, r=2, sampler="volume", draws=10),
    "unbiased": dict(seed=0, draws=10),
}

MOVES = {
    "recurrence, eq. (1)": ("mean_excess", "out[1] = t * start / a[0]", "out[1] = t * start * a[0]"),
    "a method of a base class": ("relative_errors", "return _three_term(t, 0 * t + 1, self._a)",
                                 "return _three_term(t, 0 * t + 2, self._a)"),
    "fit, eq. (2)": ("relative_errors", "(y / xp.sqrt(w))[..., None]", "y[..., None]"),
    "density, eq. (5)": ("bounded", "return (self(x) ** 2).sum(-1) / self.m", "return (self(x) ** 2).sum(-1)"),
    "filter, eq. (14)": ("labelled", "open_ = (u < residual) & (order >= after[:, None])",
                         "open_ = (u > residual) & (order >= after[:, None])"),
    "Hermite ensemble, eq. (15)": ("unbiased", "np.arange(m - 1.0, 0.0, -1.0)", "np.arange(1.0, m)"),
    "Legendre ensemble, eq. (16)": ("smallest_values", "rng.beta(t + 1, t + 1, size=(size, m))",
                                    "rng.beta(t + 1, t + 2, size=(size, m))"),
    "volume sampling, eq. (18)": ("averaging", "rest = _draw_density(basis, (count, n - basis.m), density, rng)",
                                  'rest = _draw_density(basis, (count, n - basis.m), "measure", rng)'),
    "stability": ("half_point", "shifted = gram_ - (1 - delta) *", "shifted = gram_ - delta *"),
    "conditioning": ("theorem_five", "min(4096, math.ceil(1.1 * missing / rate) + 8)",
                     "min(4096, math.ceil(missing / rate) + 8)"),
    "the function": ("relative_errors", "return 1 / (1 + 2 * x[..., 0] ** 2)", "return 1 / (1 + 3 * x[..., 0] ** 2)"),
    "a page helper": ("stable_map", "total += rows.swapaxes(-1, -2) @ rows", "total += 2 * rows.swapaxes(-1, -2) @ rows"),
    "a page constant": ("relative_errors", "np.linspace(-1.4, -0.1, 66)", "np.linspace(-1.4, -0.1, 65)"),
    "a table of samplers": ("rod_errors", "2 * qmc.Sobol(3, rng=rng).random(n) - 1", "2 * qmc.Sobol(3, rng=rng).random(n) - 2"),
    "a page table": ("high_errors", "SPACES = {2: 9, 4: 4, 8: 2}", "SPACES = {2: 9, 4: 4, 8: 3}"),
    "a helper kept by functools.cache": ("bounded", "np.cos(np.linspace(0, np.pi, 400))", "np.cos(np.linspace(0, np.pi, 300))"),
    "the model": ("grid_error", "bands[0, 1:], bands[1], bands[2, :-1] = -a[1:-1]",
                  "bands[0, 1:], bands[1], bands[2, :-1] = a[1:-1]"),
    "what the race runs": ("race", "rng.beta(t + 1, t + 1, size=(size, m))", "rng.beta(t + 1, t + 2, size=(size, m))"),
}

STAYS = {
    "another model": ("relative_errors", "bands[0, 1:], bands[1], bands[2, :-1] = -a[1:-1]",
                      "bands[0, 1:], bands[1], bands[2, :-1] = a[1:-1]"),
    "a bound": ("relative_errors", "return delta + (1 - delta) * math.log1p(-delta)", "return delta"),
    "degrees in several variables": ("stable_map", "rows = rows[rows.sum(1) <= degree]", "rows = rows[rows.sum(1) < degree]"),
    "a figure": ("mean_excess", "Repetition pays most at two to four points a dimension", "Repetition pays"),
    "a docstring": ("unbiased", "Squared length of the expectation of some vectors, without bias",
                    "Squared length of the expectation"),
    "the number of processes": ("relative_errors", "JOBS = S.pick(quick=None, book=-1)", "JOBS = 2"),
}

LIBRARY = {
    "a check of arguments": ("relative_errors", "weightbook.book.checks", "check_integer"),
    "the choice of a kernel": ("labelled", "weightbook.blocks.kernels", "use_triton"),
}
