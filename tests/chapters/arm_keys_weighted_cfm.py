"""Weighted flow matching: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

TRAINING = dict(transport="8 Gaussians → moons", pairs=(("W-CFM", 2.0),), steps=5, batch=8, pool=16, seeds=(0,))

LAW = TRAINING["transport"]

CALLS = {
    "raced": dict(batches=(8,), image_batches=(2,), side=8, width=4, repeats=3),
    "ideal": dict(seed=0, transport=LAW, eps=2.0, points=10, steps=5),
    "rule_of": dict(transport=LAW, points=10),
    "trained": TRAINING,
    "evaluated": dict(points=10, nfe_points=10, **TRAINING),
    "sampling_floor": dict(seed=0, transport=LAW, points=10),
    "learned_paths": dict(arm="W-CFM", count=5, **TRAINING),
    "pair_length": dict(seed=0, transport=LAW, arm="W-CFM", eps=2.0, batch=8, draws=2),
    "image_weights": dict(seed=0, name="mnist", side=8, count=10),
    "features": dict(seed=0),
    "feature_floor": dict(seed=0, count=10),
    "image_rule": dict(seed=0),
    "image_sizes": {},
    "ideal_images": dict(seed=0, kappa=0.09, count=5, images=10),
    "unet": dict(seed=0, arm="W-CFM"),
    "judged": dict(seed=0, arm="W-CFM"),
    "samples": dict(seed=0, arm="W-CFM"),
}

MOVES = {
    "the upstream arm": ("evaluated", "seeds=seeds, steps=steps, batch=batch, pool=pool)",
                         "seeds=seeds, steps=steps, batch=batch, pool=pool, lr=0.1)"),
    "the classifier": ("judged", "(digits, labels, seed=seed)", "(digits, labels, seed=seed + 1)"),
    "a cached helper": ("judged", 'limit=SIZES["train"])', "limit=7)"),
    "ε": ("judged", 'quick=dict(name="mnist", eps=0.09 * SIDE', 'quick=dict(name="mnist", eps=0.10 * SIDE'),
}

STAYS = {
    "images": ("evaluated", "(digits, labels, seed=seed)", "(digits, labels, seed=seed + 1)"),
    "ideal flows": ("judged", "energy, tilt = path_energy(", "energy, tilt = 2 * path_energy("),
}
