"""Tallying bandits: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "race": dict(repeats=2, horizons=(2000,), batches=(16,), sizes=((6, 30),)),
    "games_of": dict(policy="elimination", horizon=100, games=2, seed=0),
    "worst_case": dict(policy="elimination", power=6, games=2, seed=0),
    "without_reo": dict(policy="explore", reo=True, games=2, seed=0, m=4, T=64),
    "cycle_regret": dict(policy="SE-TB", power=5, games=2, seed=0, gaps=(0.5,)),
    "least_regret": dict(K=2, m=1, T=4),
    "practice_curves": dict(batches=2, size=2, repeats=1, seed=0),
}

MOVES = {
    "decaying tallies, eq. (2)": (
        "games_of",
        "tally += w0 * come - w0 * game.decay**game.memory * gone",
        "tally += w0 * come - w0 * gone",
    ),
    "tallies of a block, eq. (3)": (
        "games_of",
        "game.prefix[j] + game.decay**j * sums[:, m - j]",
        "game.prefix[j] + sums[:, m - j]",
    ),
    "the comparator, eq. (5)": ("least_regret", "total = costs + value[following]", "total = costs"),
    "the radius, eq. (10)": (
        "worst_case",
        'return 0.5 ** check_integer("s", s, low=1, high=500)',
        'return 0.4 ** check_integer("s", s, low=1, high=500)',
    ),
    "the length of an epoch, eq. (10)": (
        "games_of",
        "math.log(4 * n_arms * s**2 / delta)",
        "math.log(4 * n_arms * s / delta)",
    ),
    "who stays, eq. (11)": ("games_of", "means <= means.min() + 2 * check_real", "means <= means.min() + check_real"),
    "the losses that are forgotten": (
        "worst_case",
        "return self._waiting.pop(0), self.memory_bound, stored",
        "return self._waiting.pop(0), 0, stored",
    ),
    "a rival in a table of the page": (
        "games_of",
        "-math.sqrt(2 * math.log(self.time))",
        "-math.sqrt(math.log(self.time))",
    ),
    "commit": ("without_reo", "return int(np.argmin(self.means_)), 0, self.horizon", "return 0, 0, self.horizon"),
    "an instance of the page": ("worst_case", "[0.5 - gap]] + [[0.5] * m]", "[0.5 - gap]] + [[0.6] * m]"),
    "the opponent": ("without_reo", "(abs(r - free) > w[-1] / 2) * 1.0", "(abs(r - free) > w[-1]) * 1.0"),
    "the radius of cycles, eq. (22)": (
        "cycle_regret",
        "math.sqrt(32 * size / (2**s * period)",
        "math.sqrt(16 * size / (2**s * period)",
    ),
    "what a step of a cycle costs": ("cycle_regret", "(h[0, 0] + h[1, 0]) / 2)", "(h[0, 0] + h[1, 0]))"),
    "the best learner": ("least_regret", "0.5 - gap * odds[p] / sum(odds)", "0.5 - gap / len(odds)"),
    "gaps by default": ("least_regret", "LEARNER_GAPS = (0.1, 0.15,", "LEARNER_GAPS = (0.1, 0.16,"),
    "a constant of the page": ("practice_curves", "PAIRS = ((0, 1), (3, 5)", "PAIRS = ((0, 1), (3, 6)"),
    "the learner of the digits": ("practice_curves", "eta0=0.02", "eta0=0.03"),
    "what the race runs": ("race", "tally *= game.decay\n", "tally *= 1.0\n"),
}

STAYS = {
    "a docstring of another arm": (
        "games_of",
        "Held-out error after 1, ..., `batches` batches, shape (pairs, batches)",
        "Error",
    ),
    "the radius of cycles, for elimination": (
        "games_of",
        "math.sqrt(32 * size / (2**s * period)",
        "math.sqrt(16 * size / (2**s * period)",
    ),
    "an instance, for the digits": ("practice_curves", "[0.5 - gap]] + [[0.5] * m]", "[0.5 - gap]] + [[0.6] * m]"),
    "a rival, for the best learner": (
        "least_regret",
        "-math.sqrt(2 * math.log(self.time))",
        "-math.sqrt(math.log(self.time))",
    ),
    "a docstring": ("worst_case", "Regret of each game for each gap of the grid, shape (gaps, games)", "Regrets"),
    "sizes of another profile": ("race", "horizons=(10_000, 100_000, 1_000_000)", "horizons=(10_000, 100_000)"),
}
