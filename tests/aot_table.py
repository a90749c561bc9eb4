"""The launches that are compiled ahead of time: one row, or one loop of rows, a kernel."""

import itertools

import torch
from aot import Row

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (torch.float32, *HALVES)
TABLE: list[Row] = []


def name(dtype: torch.dtype) -> str:
    return str(dtype)[6:]


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


# ---- blocks.kernels --------------------------------------------------------------------------------------------------

from weightbook.blocks.kernels import scale_add  # noqa: E402

for dtype, n in itertools.product(FLOATS, (4096, 1)):
    call = lambda dtype=dtype, n=n: scale_add(random(n, dtype=dtype), random(n, dtype=dtype), 0.5)  # noqa: E731
    TABLE.append(Row("kernels", f"{n} numbers, {name(dtype)}", call, wide=n > 1))

# ---- compander -------------------------------------------------------------------------------------------------------

from weightbook.reparam.compander import compand  # noqa: E402


def companded(dtype: torch.dtype, n: int, learnable: bool) -> None:
    v = random(n, dtype=dtype).requires_grad_()
    a, b = (torch.tensor(0.7, requires_grad=learnable) for _ in range(2))
    compand(v, a, b).backward(torch.ones_like(v))


for dtype, n, learnable in itertools.product(FLOATS, (4096, 1), (False, True)):
    call = lambda args=(dtype, n, learnable): companded(*args)  # noqa: E731
    case = f"{n} weights, {name(dtype)}{', a and b learnt' if learnable else ''}"
    TABLE.append(Row("compander", case, call, wide=n > 1))

# ---- adadim ----------------------------------------------------------------------------------------------------------

from weightbook.lowbit.adadim import minmax_round  # noqa: E402

for dtype, dim, g, zero in itertools.product(FLOATS, ("oc", "ic"), (32, 128, -1, 3), (True, False)):
    call = lambda args=(dtype, dim, g, zero): minmax_round(random(384, 384, dtype=args[0]), 4, args[2], args[1], args[3])  # noqa: E731
    case = f"{dim}, groups of {g}, {name(dtype)}" + ("" if zero else ", as published")
    TABLE.append(Row("adadim", case, call, wide=g > 3))

# ---- quantizers ------------------------------------------------------------------------------------------------------

from weightbook.lowbit import quantizers  # noqa: E402


def packed(bits: int, dim: str, cols: int, group: int, dtype: torch.dtype) -> None:
    q = quantizers.quantize_groups(random(256, cols), bits, group, dim).to(dtype=dtype)
    quantizers.packed_linear(random(1, cols, dtype=dtype), quantizers.PackedWeight.pack(q))


for bits, dim, (cols, group) in itertools.product(range(1, 9), ("oc", "ic"), ((2048, 64), (2048, 128), (576, 64))):
    if (cols, group) == (2048, 64) or bits in (3, 4) and (dim == "oc" or cols == 576):
        call = lambda args=(bits, dim, cols, group, torch.float16): packed(*args)  # noqa: E731
        count = 8 * 2 ** (4096 // (max(bits, 2) * (group if dim == "oc" else 64)) - 1).bit_length() * (
            group if dim == "oc" else 64)
        whole = cols == 2048
        case = f"product, {bits} bits, {dim}, groups of {group}, {cols} inputs, float16"
        TABLE.append(Row("quantizers", case, call, wide=whole,
                         count=count if whole else 0, bytes=(bits / 8 + 3 / group) if whole else 0))
for dtype, dim in itertools.product((torch.float32, torch.bfloat16), ("oc", "ic")):
    call = lambda args=(4, dim, 2048, 64, dtype): packed(*args)  # noqa: E731
    TABLE.append(Row("quantizers", f"product, 4 bits, {dim}, groups of 64, 2048 inputs, {name(dtype)}",
                     call, wide=True, count=8192, bytes=1 / 2 + (dtype.itemsize + 1) / 64))


def column_block(group: int) -> None:
    inputs = random(512, 256)
    found = quantizers.GPTQ(torch.nn.Linear(256, 64, bias=False).requires_grad_(False))
    found.add_batch(inputs)
    found.quantize(4, group)


for group in (-1, 128, 64, 32, 16):
    TABLE.append(Row("quantizers", f"columns of GPTQ, groups of {group}", lambda group=group: column_block(group)))

# ---- wina ------------------------------------------------------------------------------------------------------------

from weightbook.lowbit import wina  # noqa: E402


def gated(batch: int, dtype: torch.dtype) -> None:
    weight_t = random(256, 512, dtype=dtype)
    wina.sparse_gemv(random(batch, 256, dtype=dtype), weight_t, norms=weight_t.float().norm(dim=1), tau=0.5)


for dtype in FLOATS:
    call = lambda args=(1, dtype): gated(*args)  # noqa: E731
    TABLE.append(Row("wina", f"gated product, {name(dtype)}", call, wide=True, count=16 * 128, bytes=dtype.itemsize / 2))

# ---- soundscape k-means ----------------------------------------------------------------------------------------------

from weightbook.estimation import dpp_least_squares, soundscape_kmeans  # noqa: E402


def lloyd(e: int, d: int, k: int, dtype: torch.dtype) -> None:
    points = random(5000, e, dtype=dtype)
    soundscape_kmeans.lloyd_step(points, random(5000, d, dtype=dtype), random(5000, dtype=dtype).abs(), points[:k])


for (e, d), k, dtype in itertools.product(
    ((2, 2), (3, 2)), (2, 16, 64, 256), (torch.float32, torch.float64)
):
    call = lambda args=(e, d, k, dtype): lloyd(*args)  # noqa: E731
    TABLE.append(Row("soundscape_kmeans", f"{e} coordinates, {d} averaged, {k} centres, {name(dtype)}", call))

# ---- dpp least squares -----------------------------------------------------------------------------------------------


def filtered(m: int, dtype: torch.dtype) -> None:
    features = torch.nn.functional.normalize(random(2, 8, m, dtype=dtype), dim=-1)
    uniforms, frame = torch.rand(2, 8, dtype=dtype), torch.zeros(2, m, m, dtype=dtype)
    dpp_least_squares.filter_proposals(features, uniforms, frame, torch.zeros(2, dtype=torch.int64))


for m, dtype in itertools.product((10, 32, 50, 100, 200, 500, 1000), (torch.float32, torch.float64)):
    TABLE.append(Row("dpp_least_squares", f"m = {m}, {name(dtype)}", lambda args=(m, dtype): filtered(*args)))

# ---- ponita ----------------------------------------------------------------------------------------------------------

from weightbook.sharing import ponita  # noqa: E402


def convolved(n: int, c: int, b: int, dtype: torch.dtype, autocast: bool = False) -> None:
    edges = ponita.arrange_edges(ponita.fully_connected(torch.zeros(4, dtype=torch.long)), 4)
    x, basis, weight = random(4, n, c, dtype=dtype), random(12, n, b, dtype=dtype), random(c, b, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        x, basis, weight = (t.requires_grad_() for t in (x, basis.bfloat16() if autocast else basis, weight))
        out = ponita.depthwise_conv(x, basis, weight, edges)
    out.backward(torch.ones_like(out))


for (n, c, b), dtype in itertools.product(((16, 128, 256), (8, 64, 128), (32, 256, 512), (12, 24, 24), (1, 16, 3)), HALVES):
    call = lambda args=(n, c, b, dtype): convolved(*args)  # noqa: E731
    case = f"N = {n}, C = {c}, B = {b}, {name(dtype)}"
    TABLE.append(Row("ponita", case, call, product=True))
TABLE.append(Row("ponita", "autocast to bfloat16", lambda: convolved(16, 128, 256, torch.float32, True), product=True))

# ---- tallying bandits ------------------------------------------------------------------------------------------------

from weightbook.estimation.tallying_bandits import ucb_games  # noqa: E402


def games(arms: int, memory: int, points: int) -> None:
    draw = lambda *shape: torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # noqa: E731
    ucb_games(draw(arms, points), draw(memory), draw(4, 8))


for arms, memory, points in ((6, 30, 30), (24, 300, 50), (1, 1, 1)):
    call = lambda args=(arms, memory, points): games(*args)  # noqa: E731
    TABLE.append(Row("tallying_bandits", f"K = {arms}, m = {memory}, {points} points", call))
