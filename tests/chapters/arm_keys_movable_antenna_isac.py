"""Movable antennas: what their arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "race": dict(repeats=1, sizes=((2, 2, 16, 4),)),
    "design": dict(seed=0, who="MA"),
    "sensed": dict(seed=0, below=4),
    "histories": dict(gamma=30.0, rounds=2, drops=2, seed=0),
}

MOVES = {
    "the channel, eq. (1)": (
        "design",
        "torch.broadcast_tensors(wavelength / (4 * math.pi * far)",
        "torch.broadcast_tensors(wavelength / (2 * math.pi * far)",
    ),
    "its gradient, eq. (2)": (
        "design",
        'fading = 1 / d if amplitude == "element"',
        'fading = 2 / d if amplitude == "element"',
    ),
    "the rate, eq. (3)": (
        "histories",
        "(torch.linalg.slogdet(C)[1] - torch.linalg.slogdet(J)[1]) / math.log(2)",
        "torch.linalg.slogdet(C)[1] - torch.linalg.slogdet(J)[1]",
    ),
    "sensing, eq. (5)": ("sensed", "useful / (1 + spoils + users[..., 1:]", "useful / (2 + spoils + users[..., 1:]"),
    "receivers, eq. (7)": (
        "design",
        "torch.linalg.solve(C, HF), (W + W.mH) / 2",
        "torch.linalg.solve(J, HF), (W + W.mH) / 2",
    ),
    "the quadratic, eq. (8)": ("histories", "G = weights[..., None, None] * (V @ W)", "G = V @ W"),
    "zero forcing": ("design", "return H - (H @ Q) @ Q.mH", "return H"),
    "places, eq. (18)": (
        "design",
        "2 / math.log(2) * (Gamma.conj()[..., None] * dH)",
        "1 / math.log(2) * (Gamma.conj()[..., None] * dH)",
    ),
    "distances, eq. (19)": ("design", "clamp(lo, lo + max(room, 0.0))", "clamp(lo, lo + room)"),
    "the price, eq. (21)": (
        "sensed",
        "return -r.nu * sinr_min * (spoils + 1) / math.log(2)",
        "return -r.nu * sinr_min * spoils / math.log(2)",
    ),
    "the users": (
        "design",
        "torch.tensor([-25.0, 25.0]) + 10 * turn - 5",
        "torch.tensor([-25.0, 25.0]) + 9 * turn - 5",
    ),
    "the scatterers": ("design", "0.7 / 3**0.5 * direct / path", "0.6 / 3**0.5 * direct / path"),
    "a constant of the page": ("sensed", "lam = 299_792_458 / 28e9", "lam = 299_792_458 / 29e9"),
    "a helper of the page": ("sensed", "return 10 ** (torch.as_tensor(x", "return 20 ** (torch.as_tensor(x"),
    "a default of the page": ("design", "quick=dict(drops=3, starts=2", "quick=dict(drops=4, starts=2"),
    "the blockwise control": ("histories", "power = 0.01 - _inner(beam, beam)", "power = 0.02 - _inner(beam, beam)"),
    "what the race runs": ("race", "G = weights[..., None, None] * (V @ W)", "G = V @ W"),
}

STAYS = {
    "the price, for the rounds": (
        "histories",
        "return -r.nu * sinr_min * (spoils + 1) / math.log(2)",
        "return -r.nu * sinr_min * spoils / math.log(2)",
    ),
    "the scatterers, for the race": ("race", "0.7 / 3**0.5 * direct / path", "0.6 / 3**0.5 * direct / path"),
    "the blockwise control, for designs": (
        "design",
        "power = 0.01 - _inner(beam, beam)",
        "power = 0.02 - _inner(beam, beam)",
    ),
    "a label of a figure": ("histories", "joint step, zero-forcing start", "joint step"),
    "a docstring": ("design", "Weighted sum rate, sensing and convergence of every drop", "All"),
    "sizes of another profile": ("design", "paper=dict(drops=500, starts=4", "paper=dict(drops=600, starts=4"),
}
