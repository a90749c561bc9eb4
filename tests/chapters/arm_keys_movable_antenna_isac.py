"""Movable antennas: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "race": dict(repeats=1, sizes=((2, 2, 8, 2),)),
    "growth": dict(repeats=1, batch=2),
    "design": dict(seed=0, who="MA"),
    "sensed": dict(seed=0, below=4.0),
    "histories": dict(gamma=30.0, rounds=2, drops=2, seed=0),
    "deaf_history": dict(below=4.0, rounds=2, drops=2, seed=0),
    "plane_waves": dict(who="FA", plane=True, distance=1.0, drops=2, seed=0),
    "unguarded": dict(rounds=2, drops=2, seed=0),
    "continued": dict(high=2.0, low=1.0, which=(0,), rounds=2, drops=2, seed=0),
}

MOVES = {
    "channel, eq. (1)": ("design", "wavelength / (4 * math.pi * far), -2", "wavelength / (2 * math.pi * far), -2"),
    "scattered paths": ("design", "onward = s.scattering[..., None]", "onward = s.scattering.conj()[..., None]"),
    "beam, eq. (13)": ("race", "beta2 = gamma * (spill + 1) / room", "beta2 = gamma * spill / room"),
    "rule of the steps, eq. (20)": ("design", "now + 1e-4 / step * moved", "now + 1e-3 / step * moved"),
    "finish, eq. (21)": ("sensed", "damp / 5, torch", "damp / 4, torch"),
    "price, eq. (22)": ("sensed", "(spoils + 1) / math.log(2)", "spoils / math.log(2)"),
    "drops of the page": ("histories", "torch.tensor([4.0, 7.0]) * (0.9", "torch.tensor([4.0, 6.0]) * (0.9"),
    "a control": ("deaf_history", "jointly(H, F, 0 * w, tau, gamma)", "jointly(H, F, w, tau, gamma)"),
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
    "the quadratic, eq. (8)": ("histories", "G = weights[..., None, None] * (V @ W)", "G = V @ W"),
    "zero forcing": ("design", "return H - (H @ Q) @ Q.mH", "return H"),
    "places, eq. (18)": (
        "design",
        "2 / math.log(2) * (Gamma.conj()[..., None] * dH)",
        "1 / math.log(2) * (Gamma.conj()[..., None] * dH)",
    ),
    "a constant of the page": ("sensed", "lam = 299_792_458 / 28e9", "lam = 299_792_458 / 29e9"),
    "what the race runs": ("race", "G = weights[..., None, None] * (V @ W)", "G = V @ W"),
}

STAYS = {
    "finish": ("design", "damp / 5, torch", "damp / 4, torch"),
    "operations, eq. (23)": ("sensed", "basis=8 * N * r**2", "basis=8 * N * r**3"),
    "a figure": ("design", "look = style_of(label) | {", "look = {} | {"),
}
