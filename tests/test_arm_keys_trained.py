"""Which changes move the key of a chapter's arms: everything that the arm reaches, and nothing else."""

import arm_keys

# ---- compander -------------------------------------------------------------------------------------------------------

COMPANDER = "weightbook.reparam.compander"
TestCompander = arm_keys.key_tests(
    "compander",
    arm=lambda page: page["compared"].key(seed=0, task=page["TASKS"]["noisy digits"], way={"kind": "compander"}),
    edits={
        "learning rate": ("lr=task.rate, momentum=0.9", "lr=task.rate, momentum=0.8"),
        "split": ("torch.rand(len(y), generator=gen) < task.noise", "torch.rand(len(y), generator=gen) > task.noise"),
        "crop": ("columns = torch.where(flip, width - 1 - columns, columns)", "columns = columns + 0"),
        "what is kept": ("rates < 0.9", "rates < 0.8"),
        "a page constant": ("NEAR = (0.003,", "NEAR = (0.004,"),
        "a class": ("if found >= self.best", "if found > self.best"),
        "a default": ("alpha: float = 1.5 ", "alpha: float = 1.6 "),
        "a network": ("nn.init.kaiming_uniform_(module.weight)", "nn.init.zeros_(module.weight)"),
        "the loss": ("return F.cross_entropy(model(x), y)", "return 2 * F.cross_entropy(model(x), y)"),
    },
    library={
        "arctan becomes another shape": (COMPANDER, "_SHAPES"),
        "forward gives zeros": (COMPANDER, "_Compand.forward"),
        "no decay": (COMPANDER, "decay_effective_weights"),
        "powers": (COMPANDER, "PowerPropagation.forward"),
        "the loader": (COMPANDER, "load_images"),
        "the step of the loop": ("weightbook.blocks.training", "_take_step"),
        "the score": ("weightbook.blocks.training", "_evaluating"),
        "the residual network": ("weightbook.blocks.nets", "SmallResNet.forward"),
    },
    apart={
        "a docstring": ("    \"Prepare a freshly initialised model, in place\"", "    \"Prepare a model\""),
        "another case": ("def at_hand(case: str) -> bool:", "def at_hand(case: str, more=None) -> bool:"),
    },
    apart_library={
        "the potential": (COMPANDER, "compander_potential"),
        "the race": (COMPANDER, "benchmark"),
        "the flow": (COMPANDER, "companded_flow"),
    },
)

# ---- weighted flow matching ------------------------------------------------------------------------------------------

WCFM = "weightbook.weighting.weighted_cfm"
TRAINING = dict(transport="8 Gaussians → moons", pairs=(("W-CFM", 2.0),), steps=5, batch=8, pool=16, seeds=(0,))
TestNetworks = arm_keys.key_tests(
    "weighted_cfm",
    arm=lambda page: page["evaluated"].key(points=10, nfe_points=10, **TRAINING),
    edits={"the upstream arm": ("seeds=seeds, steps=steps, batch=batch, pool=pool)",
                                "seeds=seeds, steps=steps, batch=batch, pool=pool, lr=0.1)")},
    library={
        "the plan": (WCFM, "_coupled"), "the potentials": (WCFM, "_sinkhorn"), "the tilt": (WCFM, "_tilt"),
        "the samples": (WCFM, "_Pools.draw"), "the network": (WCFM, "StackedVelocity.forward"),
        "a table of laws": (WCFM, "TRANSPORTS"), "the solver": (WCFM, "integrate"), "the metric": (WCFM, "wasserstein2"),
    },
    apart={"images": ("(digits, labels, seed=seed)", "(digits, labels, seed=seed + 1)")},
    apart_library={"the U-Net": (WCFM, "VelocityUNet.forward"), "the race": (WCFM, "benchmark")},
)
TestImages = arm_keys.key_tests(
    "weighted_cfm",
    arm=lambda page: page["judged"].key(seed=0, arm="W-CFM"),
    edits={
        "the classifier": ("(digits, labels, seed=seed)", "(digits, labels, seed=seed + 1)"),
        "a cached helper": ("limit=SIZES[\"train\"])", "limit=7)"),
        "ε": ("quick=dict(name=\"mnist\", eps=0.09 * SIDE", "quick=dict(name=\"mnist\", eps=0.10 * SIDE"),
    },
    library={
        "the network": (WCFM, "VelocityUNet.forward"), "the loss": (WCFM, "flow_loss"),
        "the distance": (WCFM, "frechet_distance"),
        "the weight": (WCFM, "gibbs_weights_from_cost"), "the step of the loop": ("weightbook.blocks.training", "_take_step"),
    },
    apart={"ideal flows": ("energy, tilt = path_energy(", "energy, tilt = 2 * path_energy(")},
    apart_library={"the toys' trainer": (WCFM, "train_arms"), "the rule": (WCFM, "EpsilonRule.fit")},
)
