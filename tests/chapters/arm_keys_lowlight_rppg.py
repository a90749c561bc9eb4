"""Pulse from dark video: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "still": dict(lux=4.0, methods=("GREEN", "SSA top2"), seed=0),
    "without_pulse": dict(lux=4.0, seed=0),
    "filmed": dict(lux=4.0, seed=0),
    "film_and_trace": dict(lux=4.0, seed=0),
    "moving": dict(lux=4.0, motion=0.01, seed=0),
    "real_waves": dict(lux=4.0, draws=1, seed=0),
    "doubted": dict(lux=4.0, seed=0),
    "race": dict(repeats=2),
    "race_alike": dict(L=60, repeats=1, batch=4),
}

MOVES = {
    "the light, eq. (1)": (
        "still",
        "white = camera.sensor.electrons * camera.lux / 100",
        "white = camera.sensor.electrons * camera.lux / 90",
    ),
    "the noise, eq. (2)": ("still", "self.read_noise**2 + self.level_width", "self.level_width"),
    "the film": ("filmed", "caught + sensor.read_noise * read", "caught + 2 * sensor.read_noise * read"),
    "convolution, eq. (7)": (
        "moving",
        "torch.fft.rfft(U.mT, n=n) * torch.fft.rfft(V.mT, n=n)",
        "torch.fft.rfft(V.mT, n=n)",
    ),
    "the basis, eq. (8)": (
        "doubted",
        "torch.linalg.eigh(X @ X.mT).eigenvectors.flip(-1)",
        "torch.linalg.eigh(X @ X.mT).eigenvectors",
    ),
    "the peak, eq. (12)": ("still", "series * hann, n=n", "series, n=n"),
    "pairs, eq. (13)": ("still", "double &= (f <= highest)[..., :, None]", "double &= (f <= highest)[..., None, :]"),
    "the mask, eq. (15)": ("without_pulse", "<= delta + 1e-12", "<= 2 * delta + 1e-12"),
    "weights, eq. (16)": ("film_and_trace", "        return share**power\n", "        return share\n"),
    "overlap, eq. (17)": ("moving", "total[start : start + m] += hann", "total[start : start + m] += 1"),
    "the score, eq. (18)": ("doubted", "((freqs - 2 * rate).abs() <= 0.2)", "((freqs - 2 * rate).abs() <= 0.1)"),
    "a baseline": ("still", "h = S1 + S2 * (_spread(S1) / _spread(S2))", "h = S1 - S2 * (_spread(S1) / _spread(S2))"),
    "a constant": ("still", "BAND = (0.7, 4.0)", "BAND = (0.8, 4.0)"),
    "a default of the scene": ("still", "sway: float = 0.004", "sway: float = 0.003"),
    "the subjects": ("still", "uniform(50, 110, subjects)", "uniform(50, 100, subjects)"),
    "the windows": ("moving", "(x)), 30.0, 10.0, 1.0)[0]", "(x)), 30.0, 8.0, 1.0)[0]"),
    "the rule, eq. (14)": ("still", "(f_ref - middle).abs() > most", "(f_ref - middle).abs() >= most"),
    "a reading": ("real_waves", "[..., None]).abs() <= 0.3", "[..., None]).abs() <= 0.2"),
    "a rate that is given": ("still", '"1 Hz off": 60.0', '"1 Hz off": 50.0'),
    "a variant": ("still", '"PPG-G": dict(layout="global"', '"PPG-G": dict(layout="segment"'),
    "the beats": ("real_waves", "distance=round(0.4 * fs)", "distance=round(0.3 * fs)"),
    "what the race runs": ("race", "        s[i] * np.outer", "        np.outer"),
}

STAYS = {
    "a figure": ("still", "windows within 5 bpm [%]", "windows [%]"),
    "a formula of the page": (
        "still",
        "noise = sensor.variance(electrons) / electrons**2",
        "noise = sensor.variance(electrons)",
    ),
    "a loader": ("still", "`root` must hold recordings", "`root` must have recordings"),
    "a docstring": ("still", "Every method on every subject under one light, nobody moving", "All methods"),
    "operations, eq. (21)": ("moving", '"eigenvectors": 9 * L**3', '"eigenvectors": 10 * L**3'),
}

LIBRARY = {"a check of arguments": ("still", "weightbook.book.checks", "check_integer")}
