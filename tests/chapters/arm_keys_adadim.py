"""AdaDim: what its arms reach, and what they do not; read by `test_arm_keys.py`."""

AT = dict(seed=0, bits=3, group=64, blocks=4)
LAYER = "model.layers.1.self_attn.v_proj"

CALLS = {
    "race": dict(shapes=((64, 64),), tokens=(1, 8), repeats=2),
    "sources": {},
    "sensitivity": dict(seed=0, shown=1),
    "searched": AT,
    "choices": AT,
    "cheap_choices": AT,
    "rounded": AT | dict(rule="RTN-ada"),
    "unrounded": dict(seed=0),
    "gptq": AT | dict(variant="GPTQ-ada"),
    "awq": AT,
    "update_shares": AT | dict(name=LAYER),
    "update_maps": AT | dict(name=LAYER),
    "stability": AT | dict(sizes=(1, 2)),
    "scored": AT | dict(rule="RTN"),
}

MOVES = {
    "a page helper": ("rounded", "weights().items():\n        model.get_submodule(name).weight.data = changed",
                      "[]:\n        model.get_submodule(name).weight.data = changed"),
    "a page table": ("rounded", '"RTN, down per-IC": ("down_proj",)', '"RTN, down per-IC": ("up_proj",)'),
    "the control": ("rounded", "np.random.default_rng([seed, draw])", "np.random.default_rng([draw, seed])"),
    "the windows": ("unrounded", "count, length = SIZES[\"evaluation\"]", "length, count = SIZES[\"evaluation\"]"),
    "the calibration text": ("awq", '"wikitext-2/valid", settings=S).text.splitlines()',
                             '"wikitext-2/test", settings=S).text.splitlines()'),
    "the upstream arm": ("choices", "found.drop(columns=list(DIMS))", "found.drop(columns=[*DIMS])"),
    "a variant of GPTQ": ("gptq", '"GPTQ-ic": dict(dim="ic", act_order=True', '"GPTQ-ic": dict(dim="ic", act_order=False'),
    "the control of Figure 6": ("update_shares", "generator=torch.Generator().manual_seed(seed))\n    return {dim",
                                "generator=torch.Generator().manual_seed(1))\n    return {dim"),
    "tiles": ("update_maps", "avg_pool2d(moved.abs()[None], (4, 8))", "avg_pool2d(moved.abs()[None], (4, 4))"),
    "regret": ("stability", "np.where(took, ic.mean(1), oc.mean(1))", "np.where(took, oc.mean(1), ic.mean(1))"),
    "leaders": ("cheap_choices", '"v_proj": "q_proj", "up_proj"', '"v_proj": "k_proj", "up_proj"'),
    "sizes": ("sensitivity", 'small=2, fisher=(1, 64)', 'small=2, fisher=(1, 32)'),
    "an argument's default": ("stability", "sizes: tuple[int, ...], draws: int = 20", "sizes: tuple[int, ...], draws: int = 21"),
    "the tasks": ("scored", '"winogrande": 0', '"winogrande": 1'),
}

STAYS = {
    "a figure": ("rounded", '"Figure 3: perplexity of the main arms"', '"Figure 3"'),
    "another arm": ("rounded", ".alpha.median()))", ".alpha.mean()))"),
    "the tiles of a map": ("update_shares", "avg_pool2d(moved.abs()[None], (4, 8))", "avg_pool2d(moved.abs()[None], (4, 4))"),
    "a variant of GPTQ": ("rounded", '"GPTQ-ic": dict(dim="ic", act_order=True', '"GPTQ-ic": dict(dim="ic", act_order=False'),
    "a docstring": ("unrounded", "Window losses of the model as it is", "Losses of the model"),
}

QUANTIZERS = "weightbook.lowbit.quantizers"
