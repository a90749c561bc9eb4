"""Weight compander: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

CALLS = {
    "raced": dict(depth=2, batch=4, repeats=3),
    "raced_once": dict(width=8, repeats=3),
    "compared": "dict(seed=0, task=TASKS['noisy digits'], way=dict(kind='compander'))",
    "photographed": "dict(seed=0, task=TASKS['noisy digits'], way=dict(kind='compander'))",
    "swept": "dict(seed=0, task=TASKS['noisy digits'], family=next(iter(FAMILIES)), rate=1.0)",
}

MOVES = {
    "learning rate": ("compared", "lr=task.rate, momentum=0.9", "lr=task.rate, momentum=0.8"),
    "split": ("compared", "torch.rand(len(y), generator=gen) < task.noise", "torch.rand(len(y), generator=gen) > task.noise"),
    "what is kept": ("compared", "rates < 0.9", "rates < 0.8"),
    "a page constant": ("compared", "NEAR = (0.003,", "NEAR = (0.004,"),
    "a class": ("compared", "if found >= self.best", "if found > self.best"),
    "a default": ("compared", "alpha: float = 1.5 ", "alpha: float = 1.6 "),
    "a network": (
        "compared", '"resnet" and isinstance(module, nn.Conv2d)', '"resnet" and isinstance(module, nn.Conv1d)'),
    "the loss": ("compared", "return F.cross_entropy(model(x), y)", "return 2 * F.cross_entropy(model(x), y)"),
}

STAYS = {
    "a docstring": ("compared", '    "Prepare a freshly initialised model, in place"', '    "Prepare a model"'),
    "another case": ("compared", "def at_hand(case: str) -> bool:", "def at_hand(case: str, more=None) -> bool:"),
}
