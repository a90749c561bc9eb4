"""Why a public function does not do what the table of promises tries: the reasons that several chapters share."""

READS = ("refuses by value (NaN, codes out of range, …), which a trace and a map do not have; to pass that over while tracing "
         "would change `check_tensor` and so the key of every finished arm")  # fmt: skip
DEPENDS = "its steps, or the shape of its result, depend on values"
REPORT = "gives Python's numbers, a table or a text, for people"
KEPT = "detaches on purpose: its result is kept or filed, and keeps no graph"
GENERATOR = "draws from a `torch.Generator`, or through NumPy"
HALF = "PyTorch has no such operation (linear algebra, Fourier transform) in bfloat16 on the CPU"
WIDE = "answers in float32 at least: sums of many terms, or numbers that are filed"
ROUNDS = "rounds: its slope is zero or a step everywhere, and no gradient is promised"
IN_PLACE = "writes into a tensor of its own, one row after the other"
MASK = "gives a mask: NaN lies in no band"
