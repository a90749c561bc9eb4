"""Robust weight signatures: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "raced": dict(images=1, repeats=3),
    "pretrained": dict(seed=0, batch_norm=False),
    "trained": dict(seed=0, batch_norm=False, train="fog"),
    "validations": dict(seed=0),
    "checked_signature": dict(seed=0, kind="fog"),
    "distances": dict(seed=0),
    "projections": dict(seed=0),
    "cosines": dict(seed=0),
    "worn_scores": dict(seed=0, arm="signature"),
    "kept_scores": dict(seed=0, make="signature", keep=1),
    "taken_off": dict(seed=0, kind="fog"),
    "gain_matrix": dict(seed=0),
    "composition": dict(seed=0, n=1, strength="1/n"),
    "pairs_worn": dict(seed=0, strength=0.5),
    "transferred": dict(seed=0, part="B", arm="signature from A", kinds=("fog",)),
    "updated": dict(seed=0, arm="updated"),
    "confound": dict(seed=0),
    "agreement": dict(seed=0),
    "bn_scores": dict(seed=0, arm="statistics only"),
}

MOVES = {
    "the projection, eq. (1)": (
        "worn_scores", "v.to(wide) - projection_coefficient(v, a) * a.to(wide)",
        "v.to(wide) - 0.9 * projection_coefficient(v, a) * a.to(wide)"),
    "crops of training": ("trained", "augment(x, pad=study.pad) if study.pad", "augment(x, pad=1) if study.pad"),
    "the start of a run": ("trained", 'not key.startswith("head.")', 'not key.startswith("h.")'),
    "weights of a robust model, in a figure": (
        "distances", "rate, momentum=0.9, weight_decay=study.decay", "rate, momentum=0.8, weight_decay=study.decay"),
    "the accuracy": ("kept_scores", "return 100 * right / len(y)", "return 99 * right / len(y)"),
    "the weights' way through the cache": ("cosines", "part.reshape(shape).astype(kind)", "part.reshape(shape).astype(kind) * 0"),
    "an arm of the main table": ("worn_scores", "(t + robust[key]) / 2", "(t + robust[key]) / 3"),
    "the schedule of the page": ("trained", "pre_epochs=4, epochs=2", "pre_epochs=4, epochs=3"),
    "the corruption's seed": ("gain_matrix", "corrupted(x, kind, study, 99), y", "corrupted(x, kind, study, 98), y"),
    "strengths": ("composition", '"1/n": lambda n: 1 / n,', '"1/n": lambda n: 2 / n,'),
    "what the race runs": ("raced", "[0.1] * count", "[0.2] * count"),
    "statistics": ("bn_scores", "images = corrupted(x[:1000], kind, study_bn, 5)",
                   "images = corrupted(x[:1000], kind, study_bn, 6)"),
}

STAYS = {
    "a figure": ("distances", '"Relative distance by depth, and the same over that of two clean runs"', '"By depth"'),
    "a docstring": ("worn_scores", "RA and TA in percent, one entry a corruption type", "RA and TA"),
    "the race, for the training": ("trained", "[0.1] * count", "[0.2] * count"),
    "the number of processes": ("trained", "JOBS = S.pick(quick=None, book=-1)", "JOBS = 2"),
    "the number of seeds": ("worn_scores", "keep=3, seeds=2", "keep=3, seeds=4"),
}
