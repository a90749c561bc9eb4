"""PONITA: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

NET = dict(num_ori=4, hidden=4, basis_dim=4, layers=1, steps=1)
BODY = dict(seed=0, arm="PONITA", rotations="random rotations", **NET)

CALLS = {
    "nbody_arrays": dict(split="test", count=1),
    "references": {},
    "trained_predictor": BODY,
    "nbody_arm": BODY,
    "kernel_arm": dict(seed=0, **NET),
    "trained_digits": dict(seed=0, arm="PONITA", steps=1),
    "digit_arm": dict(seed=0, arm="PONITA", steps=1),
    "molecule_data": dict(chains=1, frames=1, every=1, burn=1, seed=0),
    "molecule_facts": {},
    "trained_forces": dict(seed=0, arm="PONITA", num_ori=4, steps=1),
    "force_arm": dict(seed=0, arm="PONITA", num_ori=4, steps=1),
    "raced": dict(points=(5,), orientations=(4,), channels=(16,), total=10, repeats=2),
}

MOVES = {
    "force of the simulator, eq. (26)": ("references", "(offset * offset).sum(0) ** -1.5", "(offset * offset).sum(0) ** -1.0"),
    "integration, eq. (27)": ("nbody_arrays", "pos += dt * vel", "pos += 2 * dt * vel"),
    "EGNN, eq. (28)": ("nbody_arm", "pos + pull + layer", "pos - pull + layer"),
    "a learning rate of the page": ("nbody_arm", 'LR = {"EGNN": 5e-4}', 'LR = {"EGNN": 6e-4}'),
    "a schedule of the page": ("digit_arm", "0.5 * (1 + math.cos(math.pi * step", "0.4 * (1 + math.cos(math.pi * step"),
    "the loss of the page": (
        "nbody_arm", "(model(pos, vel, charge) - target).square().mean()", "(model(pos, vel, charge) - target).abs().mean()"),
    "the weights' way through the cache": ("digit_arm", "part.view(t.shape).to(t.dtype)", "part.view(t.shape).to(t.dtype) * 0"),
    "the score": ("nbody_arm", "mse=float(errors.mean())", "mse=float(errors.max())"),
    "kernels that a figure shows": ("kernel_arm", "torch.linspace(-3, 3, 41)", "torch.linspace(-2, 3, 41)"),
    "a table of the page": ("molecule_facts", '"COH": (55, 108.5)', '"COH": (56, 108.5)'),
    "the rough conformation": ("force_arm", "ROUGH = [(-1.2, -0.2, 0)", "ROUGH = [(-1.3, -0.2, 0)"),
    "the step of the dynamics": ("molecule_data", "dt: float = 0.5, kelvin", "dt: float = 0.4, kelvin"),
    "the clouds": ("digit_arm", "(image > 0.2)", "(image > 0.3)"),
    "what the race runs": ("raced", "total = total + readout(x)", "total = total - readout(x)"),
}

STAYS = {
    "a fourth invariant": (
        "nbody_arm", "return torch.cat([label, _fourth_invariant", "return torch.cat([2 * label, _fourth_invariant"),
    "a figure": ("nbody_arm", '"Learning curves, and a test case with its predictions"', '"Curves"'),
    "a docstring": ("force_arm", "Test errors of an energy model with one and with five rotated passes", "Errors"),
    "sizes of another experiment": ("digit_arm", "BONDS = {(0, 1): (340, 1.09)", "BONDS = {(0, 1): (341, 1.09)"),
    "the number of seeds": ("nbody_arm", "forces=dict(num_ori=6, steps=4), seeds=2", "forces=dict(num_ori=6, steps=4), seeds=3"),
    "the score, for the training": ("trained_predictor", "mse=float(errors.mean())", "mse=float(errors.max())"),
}
