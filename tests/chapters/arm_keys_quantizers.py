"""Quantisers: what the arm reaches, and what it does not; read by `test_arm_keys.py`."""

CALLS = {"quantise_real": dict(seed=0, setting="GPTQ, 3 bits")}

MOVES = {
    "the settings": ("quantise_real", '"GPTQ, 3 bits": dict(bits=3, method="gptq", act_order=True',
                     '"GPTQ, 3 bits": dict(bits=3, method="gptq", act_order=False'),
    "the draw of the text": ("quantise_real", "return every[torch.randperm(len(every)",
                             "return every[torch.randperm(len(every) - 1"),
    "layers": ("quantise_real", "evaluation=(2, 128), layers=2", "evaluation=(2, 128), layers=3"),
    "the error": ("quantise_real", "error = relative_error(linear.weight, q.dequantize(), hessian.matrix)", "error = 0.0"),
}

STAYS = {
    "a figure": ("quantise_real", '"Output error over depth, nearest and GPTQ"', '"Output error"'),
    "bytes": ("quantise_real", "(bits / 8 + (itemsize + 1) / group_size)", "(bits / 8 + itemsize / group_size)"),
    "a docstring": ("quantise_real", "Window losses, and the output error of every layer in the order of the walk",
                    "Window losses"),
}
