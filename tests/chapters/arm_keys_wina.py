"""WINA: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

GATE = dict(seed=0, arm="WINA", sparsity=0.65)

CALLS = {
    "synthetic": dict(seed=0, method="WINA", n=32),
    "sources": {},
    "rotation": {},
    "key_gate_error": dict(sparsity=0.5),
    "norms": {},
    "concentration": dict(basis="rotated"),
    "dense": dict(seed=0, rotate=True),
    "uniform_gates": GATE,
    "greedy_tables": dict(seed=0, arm="WINA"),
    "greedy_gates": GATE,
    "quantised_gates": GATE | dict(bits=8),
    "search_path": dict(seed=0, block=1),
    "drift": dict(seed=0),
    "race": dict(shapes=((64, 64),), repeats=2),
    "task_score": dict(seed=0, arm="WINA", repository="a/b", suite="v1"),
}

MOVES = {
    "a page helper": ("uniform_gates", "score_last=S.pick(quick=None, paper=512), batch_size=2", "score_last=None, batch_size=2"),
    "an arm of the table": ("uniform_gates", '"WINA": dict(rotate=True, criterion="official")',
                            '"WINA": dict(rotate=True, criterion="all")'),
    "the draw of the text": ("greedy_tables", "return every[torch.randperm(len(every)",
                             "return every[torch.randperm(len(every) - 1"),
    "the upstream arm": ("greedy_gates", "np.cumsum([len(frame) for frame in found])",
                         "np.cumsum([len(frame) + 0 for frame in found])"),
    "the rounding": ("quantised_gates", "(2 ** (bits - 1) - 1)", "(2 ** (bits - 1))"),
    "the gate": ("uniform_gates", "best = scores.topk(keep, dim=-1, sorted=False).indices",
                 "best = scores.topk(keep, dim=-1).indices"),
    "the norms": ("synthetic", "else torch.ones(n) for W in (W1, W2))", "else torch.zeros(n) for W in (W1, W2))"),
    "the rank": ("synthetic", "for f in (0.01, 0.02, 0.05, 0.10)", "for f in (0.01, 0.02, 0.05)"),
    "the probe": ("rotation", "PROBE = S.pick(quick=32", "PROBE = S.pick(quick=33"),
    "three layers": ("norms", "for i in (4, 14, 24)", "for i in (4, 14, 23)"),
    "share": ("concentration", "energy.topk(round(share * energy.shape[-1])", "energy.topk(int(share * energy.shape[-1])"),
    "the weights of the mean": ("drift", "sum(dropped[n] * size[n] for n in size)", "sum(dropped[n] for n in size)"),
    "the suite": ("task_score", '"piqa", "winogrande", "hellaswag", "arc_challenge", "mmlu", "gsm8k"', '"piqa", "winogrande"'),
    "windows": ("dense", "windows=2, length=32", "windows=2, length=33"),
}

STAYS = {
    "a figure": ("uniform_gates", '"Perplexity against sparsity, both allocations"', '"Perplexity"'),
    "the greedy search": ("uniform_gates", "np.cumsum([len(frame) for frame in found])",
                          "np.cumsum([len(frame) + 0 for frame in found])"),
    "the rounding": ("greedy_gates", "(2 ** (bits - 1) - 1)", "(2 ** (bits - 1))"),
    "the paper's numbers": ("synthetic", "TEAL=55.40, TEAL_transform", "TEAL=55.41, TEAL_transform"),
    "a docstring": ("dense", "Window losses of the dense model, or of the rotated one", "Window losses"),
}
