"""The fuzz table: every public callable, how to call it right, and bad inputs made from the kinds of its arguments.

An entry is a function of the module that gives the arguments of a right call, made anew for each call. `Free` marks a value of
any shape, `Wide` one of any width, `Fixed` one that is not spoilt, because it is no user's number. A text in place of an entry
says why there is nothing to spoil: a record that the library fills, a step of the build, an experiment of minutes.
"""

import contextlib
import importlib
import io
import math
import pkgutil
import signal
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import weightbook

RECORD = "a record that the library fills"
BUILD = "a step of the build, on the book's own files"
EXPERIMENT = "an experiment of minutes, checked through the functions that it calls"
RACE = "a race of the book, on its own sizes"


@dataclass
class Free:
    "A value whose shape is free"

    value: object


@dataclass
class Wide:
    "A value whose last axis is free"

    value: object


@dataclass
class Fixed:
    "A value that is left as it is"

    value: object


def t(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def place(n=6, seed=0):
    return np.random.default_rng(seed).uniform(-60, 60, (n, 2))


def net(*sizes):
    torch.manual_seed(0)
    layers = [nn.Linear(i, o) for i, o in zip(sizes, sizes[1:], strict=False)]
    return nn.Sequential(*layers)


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 2)
    )


def settings():
    from weightbook.book.settings import load_settings

    return Fixed(load_settings())


# ---- what a user may get wrong ---------------------------------------------------------------------------------------


def spoilt(value):
    "Bad versions of a value, by name"
    free, wide = isinstance(value, Free), isinstance(value, Wide)
    value = value.value if free or wide else value
    if isinstance(value, Fixed) or value is None or isinstance(value, (bool, torch.Generator)):
        return
    if isinstance(value, torch.Tensor):
        yield "word", "x"
        if value.is_floating_point() and value.numel():
            bad = value.detach().clone()
            bad.view(-1)[0] = math.nan
            yield "nan", bad
        if not free:
            yield "dims", value[None, None]
        if not free and not wide:
            yield "longer", torch.cat([value, value[..., :1]], -1) if value.ndim else value[None]
    elif isinstance(value, np.ndarray):
        yield "word", "x"
        if value.dtype.kind == "f" and value.size:
            bad = value.copy()
            bad.flat[0] = math.nan
            yield "nan", bad
        if not free:
            yield "dims", value[None, None]
        if not free and not wide:
            yield "longer", np.concatenate([value, value[..., :1]], -1)
    elif isinstance(value, int):
        yield from (("negative", -1), ("fraction", 1.5), ("word", "x"))
    elif isinstance(value, float):
        yield from (("nan", math.nan), ("word", "x"))
    elif isinstance(value, str):
        yield from (("unknown", "no such thing"), ("number", 3))
    elif isinstance(value, (list, tuple)):
        yield "number", 3
        yield "words", ["x"] * len(value)
    elif isinstance(value, (nn.Module, dict)) or callable(value) or hasattr(value, "__dict__"):
        yield "number", 3


def has_nan(found, depth=0):
    "Whether NaN came out again"
    if isinstance(found, torch.Tensor):
        return found.is_floating_point() and bool(found.isnan().any())
    if isinstance(found, (float, np.floating)):
        return math.isnan(found)
    if isinstance(found, np.ndarray):
        return found.dtype.kind == "f" and bool(np.isnan(found).any())
    if hasattr(found, "to_numpy") and not callable(getattr(found, "isnull", None)):
        return has_nan(found.to_numpy())
    if callable(getattr(found, "isnull", None)):
        return bool(np.asarray(found.isnull()).any())
    if isinstance(found, dict):
        return any(has_nan(v, depth + 1) for v in found.values())
    if isinstance(found, (list, tuple)) and depth < 4:
        return any(has_nan(v, depth + 1) for v in found)
    if hasattr(found, "__dict__") and depth < 3 and not isinstance(found, nn.Module):
        return any(has_nan(v, depth + 1) for v in vars(found).values())
    if isinstance(found, nn.Module):
        return any(has_nan(v) for v in found.state_dict().values())
    return False


HOME = str(Path(weightbook.__file__).parent)


def outcome(call, name, label, others=()):
    "named, unnamed, raw, right (NaN in, NaN out) or accepted; shapes that disagree may name either argument"
    names = [name, *others] if label in ("dims", "longer") else [name]
    said = lambda error: any(f"`{n}" in str(error) for n in names)  # noqa: E731
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with quiet[0], quiet[1]:
            found = call()
            found = list(found) if hasattr(found, "__next__") else found
    except (ValueError, TypeError, FileNotFoundError) as error:
        if said(error):
            return "named"
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        return "unnamed" if last.startswith(HOME) and "`" in str(error) else "raw"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user would see
        if isinstance(error, TimeoutError):
            return "raw"
        return "named" if said(error) and "weightbook" in str(traceback.extract_tb(error.__traceback__)[-1]) else "raw"
    return "right" if label == "nan" and has_nan(found) else "accepted"


def unpacked(arguments):
    "Positional and keyword arguments of an entry"
    plain = {k: v.value if isinstance(v, (Free, Wide, Fixed)) else v for k, v in arguments.items()}
    return plain.pop("*", ()), plain


def modules():
    "The public modules"
    for found in pkgutil.walk_packages(weightbook.__path__, "weightbook."):
        if not found.ispkg and not found.name.endswith("_modidx") and "._" not in found.name:
            yield importlib.import_module(found.name)


def public():
    "full name → callable, for every callable in an `__all__`"
    return {
        f"{m.__name__.removeprefix('weightbook.')}.{name}": (m, getattr(m, name))
        for m in modules()
        for name in m.__all__
        if callable(getattr(m, name))
    }


def trials(name, module, function, entry):
    "argument, label, outcome for each bad input of one callable"
    for argument, value in entry(module).items():
        for label, _ in spoilt(value) if argument != "*" else ():
            arguments = entry(module)
            arguments[argument] = dict(spoilt(arguments[argument]))[label]
            positional, keywords = unpacked(arguments)
            yield (
                argument,
                label,
                outcome(lambda p=positional, k=keywords: function(*p, **k), argument, label, arguments),
            )


def right(name, module, function, entry):
    "The right call"
    positional, keywords = unpacked(entry(module))
    found = function(*positional, **keywords)
    return list(found) if hasattr(found, "__next__") else found


@contextlib.contextmanager
def limit(seconds):
    "TimeoutError after some seconds"

    def stop(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(only=""):
    "Outcomes of the whole table: rows of (name, argument, label, outcome)"
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (module, function) in public().items():
            entry = TABLE.get(name)
            if callable(entry) and name.startswith(only):
                with limit(20):
                    rows += [(name, *row) for row in trials(name, module, function, entry)]
    return rows


def shares(rows):
    "Per cent of each outcome; NaN in, NaN out is no fault and does not count"
    count = Counter(row[3] for row in rows)
    total = sum(count.values()) - count["right"]
    return {kind: 100 * count[kind] / max(total, 1) for kind in ("named", "unnamed", "raw", "accepted")} | {"of": total}


TABLE = {}


def table(module, **entries):
    "Enter the callables of a module"
    TABLE.update({f"{module}.{name}": entry for name, entry in entries.items()})


# ---- the table -------------------------------------------------------------------------------------------------------


def companded():
    from weightbook.reparam.compander import compand_model

    return compand_model(net(3, 4, 2))


table(
    "reparam.compander",
    compand_reference=lambda m: dict(v=Free(t(3)), a=0.7, b=0.5, shape="arctan"),
    compand_bound=lambda m: dict(a=0.7, shape="arctan"),
    compand_inverse=lambda m: dict(w=Free(0.1 * t(3)), a=0.7, b=0.5, shape="arctan"),
    compand_slope=lambda m: dict(v=Free(t(3)), a=0.7, b=0.5, shape="arctan"),
    PowerPropagation=lambda m: dict(alpha=1.5),
    effective_rate=lambda m: dict(w=Free(0.1 * t(3)), a=0.7, b=0.5),
    compander_mirror_grad=lambda m: dict(w=Free(0.1 * a(3)), a=0.7, b=0.5),
    compander_potential=lambda m: dict(w=Free(0.1 * a(3)), a=0.7, b=0.5),
    companded_flow=lambda m: dict(X=Wide(a(4, 2)), y=a(4), a=0.7, b=0.5, steps=3, rate=0.1),
    compand=lambda m: dict(v=Free(t(3)), a=0.7, b=0.5, shape="arctan"),
    WeightCompander=lambda m: dict(a=0.7, b=0.7, shape="arctan", learnable=False),
    weight_compander=lambda m: dict(module=nn.Linear(3, 2), name="weight", a=0.7, b=0.7, shape="arctan"),
    compand_model=lambda m: dict(model=net(3, 4, 2), a=0.7, b=0.7, shape="arctan", granularity="layer"),
    FlatCompander=lambda m: dict(model=net(3, 4, 2), a=0.7, b=0.7, shape="arctan"),
    Companded=RECORD,
    companded_layers=lambda m: dict(model=companded()),
    remove_weight_compander=lambda m: dict(model=companded()),
    compander_param_groups=lambda m: dict(model=companded(), weight_decay=0.1),
    decay_effective_weights=lambda m: (
        lambda model: dict(optimizer=torch.optim.SGD(m.compander_param_groups(model), lr=0.1), model=model)
    )(companded()),
    compander_optimizer=lambda m: dict(model=companded(), make=torch.optim.SGD, weight_decay=0.1, lr=0.1),
    companded_weight_penalty=lambda m: dict(model=companded()),
    CompanderAdam=lambda m: dict(model=companded(), lr=0.01, weight_decay=0.1),
    weight_percentiles=lambda m: dict(w=Free(t(9)), q=(0, 50, 100)),
    compand_bytes=lambda m: dict(count=10, itemsize=4),
    benchmark=RACE,
)


def graph(n=5):
    return dict(pos=t(n, 3), scalar=t(n, 1, seed=1), vec=t(n, 1, 3, seed=2))


def small_ponita(m):
    torch.manual_seed(0)
    return m.Ponita(1, 1, hidden=4, out_vec=1, layers=1, num_ori=3, grid="fibonacci")


def edges(m):
    return m.arrange_edges(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)


unit = lambda n, d=3: nn.functional.normalize(t(n, d), dim=-1)  # noqa: E731

table(
    "sharing.ponita",
    invariant_attributes=lambda m: dict(
        pos_i=Free(t(4, 3)), pos_j=Free(t(4, 3, seed=1)), ori_i=Free(unit(4)), ori_j=Free(unit(4))
    ),
    random_rotation=lambda m: dict(count=2, dim=3),
    scalar_to_sphere=lambda m: dict(scalar=Wide(t(4, 2)), grid=Fixed(unit(3))),
    vec_to_sphere=lambda m: dict(vec=t(4, 2, 3), grid=unit(3)),
    sphere_to_scalar=lambda m: dict(signal=Free(t(4, 3, 2))),
    sphere_to_vec=lambda m: dict(signal=Wide(t(4, 3, 2)), grid=unit(3)),
    repulsion_energy=lambda m: dict(grid=unit(4)),
    sphere_grid=lambda m: dict(n=4, dim=3, method="repulsion", steps=2, lr=0.1),
    fully_connected=lambda m: dict(batch=torch.tensor([0, 0, 1, 1])),
    knn_edges=lambda m: dict(pos=Free(t(5, 3)), k=2, batch=torch.zeros(5, dtype=torch.long)),
    radius_edges=lambda m: dict(pos=Free(t(5, 3)), radius=1.0, batch=torch.zeros(5, dtype=torch.long)),
    Edges=RECORD,
    arrange_edges=lambda m: dict(edge_index=Wide(torch.tensor([[0, 1], [1, 0]])), num_nodes=3),
    polynomial_features=lambda m: dict(x=Free(t(4, 2)), degree=2),
    PolynomialCutoff=lambda m: dict(r_max=1.0, p=6),
    depthwise_conv_reference=lambda m: dict(x=t(3, 2, 4), basis=t(3, 2, 5), weight=t(4, 5), edges=edges(m)),
    depthwise_conv=lambda m: dict(x=t(3, 2, 4), basis=t(3, 2, 5), weight=t(4, 5), edges=edges(m)),
    fiber_conv=lambda m: dict(x=t(3, 2, 4), kernel=t(2, 2, 4)),
    SeparableFiberConv=lambda m: dict(channels=4, basis_dim=5),
    PonitaBlock=lambda m: dict(channels=4, basis_dim=5, widening=2, layer_scale=0.1),
    Ponita=lambda m: dict(
        in_scalar=1,
        in_vec=1,
        hidden=4,
        out_scalar=1,
        out_vec=1,
        layers=1,
        dim=3,
        num_ori=3,
        basis_dim=4,
        degree=2,
        widening=2,
        radius=2.0,
        layer_scale=0.1,
        readout="node",
        grid="fibonacci",
    ),
    PNITA=lambda m: dict(
        in_scalar=1,
        hidden=4,
        out_scalar=1,
        layers=1,
        dim=3,
        basis_dim=4,
        degree=2,
        widening=2,
        radius=2.0,
        layer_scale=0.1,
        readout="node",
    ),
    from_official=lambda m: dict(state={"x_embedder.weight": t(2, 2)}, grid=Wide(unit(3))),
    equivariance_error=lambda m: dict(model=small_ponita(m), **graph(), rotations=2),
    forward_macs=lambda m: dict(V=5, E=20, N=4, C=8, B=8, L=2, P=14, widening=4, inputs=2, outputs=1),
    conv_bytes=lambda m: dict(V=5, E=20, N=4, C=8, B=8, itemsize=4),
    step_arms=lambda m: dict(graphs=2, n=3, num_ori=3, hidden=4, basis_dim=4, layers=1, device="cpu", seed=0),
    product_rate=RACE,
    benchmark=RACE,
    coulomb_force=lambda m: dict(pos=a(3, 4, 2), charge=a(4, 2), clip=100.0),
    Trajectories=RECORD,
    simulate_charged_particles=lambda m: dict(
        n_traj=1, n_balls=3, steps=40, sample_freq=10, seed=1, skip=0, last_frame=1
    ),
    NBodyTask=RECORD,
    nbody_task=lambda m: dict(split="train", count=1),
    EGNN=lambda m: dict(hidden=4, layers=1),
)

table(
    "estimation.soundscape_kmeans",
    Survey=RECORD,
    simulate_survey=lambda m: dict(random_state=0, participants=3),
    load_survey=lambda m: dict(settings=settings()),
    iso_coordinates=lambda m: dict(responses=np.full((3, 8), 3.0), value_range=(1, 5)),
    reliability_weight=lambda m: dict(freq_code=np.array([1.0, 2.0]), minutes=np.array([10.0, 60.0])),
    haversine=lambda m: dict(a=place(3), b=place(4), radius=1.0),
    unit_vectors=lambda m: dict(latlng=Free(place(3))),
    project_km=lambda m: dict(latlng=place(3), latitude=1.0),
    weighted_inertia=lambda m: dict(
        X=a(6, 2), centers=a(2, 2), labels=np.arange(6) % 2, sample_weight=np.ones(6), metric="euclidean"
    ),
    assign=lambda m: dict(E=a(6, 2), V=a(3, 2, 2), counts=np.array([1, 2, 2])),
    weighted_means=lambda m: dict(labels=np.zeros((1, 6), int), payload=a(6, 2), weight=np.ones(6), old=a(1, 2, 2)),
    Runs=RECORD,
    lloyd=lambda m: dict(
        points=a(6, 2), weight=np.ones(6), centers=a(1, 2, 2), metric="euclidean", mean="planar", max_iter=3, tol=0.0
    ),
    kmeans_plusplus=lambda m: dict(
        rows=lambda i: np.ones((len(i), 6)), uniforms=Wide(np.full((2, 2), 0.5)), mass=np.ones(6)
    ),
    spanning_edges=lambda m: dict(distances=m.haversine(place(4), place(4))),
    PairOrder=lambda m: dict(distances=m.haversine(place(4), place(4))),
    dunn_index=lambda m: dict(X=Free(a(6, 2)), labels=np.arange(6) % 2, metric="euclidean"),
    expected_best=lambda m: dict(values=Wide(a(5)), m=2),
    characteristic_points=lambda m: dict(X=place(6), centers=place(2, 1), metric="haversine"),
    run_reference=lambda m: dict(points=place(12), weight=np.ones(12), k=2, seed=0, max_iter=3),
    run_restarts=lambda m: dict(
        points=a(6, 2),
        weight=np.ones(6),
        squared=((a(6, 2)[:, None] - a(6, 2)) ** 2).sum(-1),
        counts=[2, 2],
        seeds=[0, 1],
        metric="euclidean",
        mean="planar",
        max_iter=3,
    ),
    Selection=RECORD,
    select_by_dunn=lambda m: dict(
        X=Wide(a(8, 2)), sample_weight=np.ones(8), ks=[2, 3], n_runs=2, seed0=0, metric="euclidean"
    ),
    WeightedKMeans=RECORD + "; scikit-learn's rule: an estimator checks in `fit` (test_soundscape_kmeans)",
    lloyd_step_bytes=lambda m: dict(n=5, width=2, payload=0, itemsize=4),
    lloyd_step_reference=lambda m: dict(E=t(6, 2), payload=Wide(t(6, 2)), weight=torch.ones(6), V=t(3, 2)),
    lloyd_step=lambda m: dict(E=t(6, 2), payload=Wide(t(6, 2)), weight=torch.ones(6), V=t(3, 2)),
    candidates=lambda m: dict(V=a(3, 2), middle=a(2, 4), half=np.ones((2, 4))),
    PrunedStep=lambda m: dict(E=Wide(a(6, 2)), payload=Wide(a(6, 2)), weight=np.ones(6), block=2),
    fit_arms=RACE,
    benchmark=RACE,
    plot_clusters=lambda m: dict(
        points=place(6), labels=np.arange(6) % 2, sites=Wide(np.array([0, 1])), weight=np.ones(6)
    ),
)

leg = lambda m: m.LegendreBasis(2)  # noqa: E731
stable = lambda m: lambda size, rng: rng.uniform(-1, 1, (size, 40, 1))  # noqa: E731

table(
    "estimation.dpp_least_squares",
    OrthonormalBasis="an interface without arguments",
    LegendreBasis=lambda m: dict(m=3),
    HermiteBasis=lambda m: dict(m=3),
    PiecewiseConstantBasis=lambda m: dict(m=3),
    Mixture=lambda m: dict(alpha=0.5, h=lambda x: x[..., 0] * 0 + 1, draw=lambda shape, rng: rng.random((*shape, 1))),
    density_values=lambda m: dict(basis=leg(m), x=Free(a(4, 1)), density="christoffel"),
    weighted_features=lambda m: dict(basis=leg(m), x=Free(a(4, 1)), density="measure"),
    gram_matrix=lambda m: dict(basis=leg(m), x=Free(a(4, 1)), density="measure"),
    fit_coefficients=lambda m: dict(basis=leg(m), x=a(4, 1), y=a(4), density="measure"),
    sample_density=lambda m: dict(basis=leg(m), n=3, density="measure", size=2, rng=0),
    sample_christoffel=lambda m: dict(basis=leg(m), n=3, size=2, rng=0),
    chernoff_rate=lambda m: dict(delta=0.5),
    chernoff_samples=lambda m: dict(m=3, delta=0.5, eta=0.1, alpha=0.5),
    mercer_mixture=lambda m: dict(basis=leg(m), eigenvalues=np.array([0.4, 0.6]), alpha=0.5),
    filter_proposals_reference=lambda m: dict(
        features=unit(6, 2)[None],
        uniforms=torch.rand(1, 6),
        frame=torch.zeros(1, 2, 2),
        count=torch.zeros(1, dtype=torch.long),
    ),
    filter_proposals=lambda m: dict(
        features=unit(6, 2)[None],
        uniforms=torch.rand(1, 6),
        frame=torch.zeros(1, 2, 2),
        count=torch.zeros(1, dtype=torch.long),
    ),
    sample_projection_dpp=lambda m: dict(basis=leg(m), size=2, method="chain", rng=0, cells=9),
    sample_volume=lambda m: dict(basis=leg(m), n=3, density="measure", size=2, method="auto", rng=0),
    sample_repeated_dpp=lambda m: dict(basis=leg(m), n=3, size=2, method="auto", rng=0),
    sample_repeated_volume=lambda m: dict(basis=leg(m), n=4, block=2, density="measure", size=2, rng=0),
    total_degree=lambda m: dict(dim=2, degree=2),
    TensorBasis=lambda m: dict(bases=[leg(m), leg(m)], multi_index=np.array([[0, 0], [0, 1]])),
    FiniteBasis=lambda m: dict(candidates=Wide(a(5, 2)), features=lambda x: x, prob=np.full(5, 0.2)),
    stability=lambda m: dict(gram=Free(np.eye(2))),
    is_stable=lambda m: dict(gram=Free(np.eye(2)), delta=0.5),
    condition=lambda m: dict(
        sampler=stable(m), basis=leg(m), delta=0.9, density="measure", size=2, max_redraws=9, rng=0
    ),
    boost=lambda m: dict(sampler=stable(m), basis=leg(m), tries=2, density="measure", size=2, rng=0),
    greedy_subsample=lambda m: dict(basis=leg(m), x=np.linspace(-1, 1, 12)[:, None], delta=0.9, density="measure"),
    greedy_design=lambda m: dict(basis=leg(m), n=2, candidates=a(9, 1)),
    WeightedLeastSquares="scikit-learn's rule: an estimator checks in `fit` (test_dpp_least_squares)",
    AveragedLeastSquares="scikit-learn's rule: an estimator checks in `fit` (test_dpp_least_squares)",
    chain_operations=lambda m: dict(m=3),
    race_arms=RACE,
    benchmark=RACE,
)


HALF = np.full((2, 3), 0.5)


def game(m, **more):
    return m.WeightedTallyingBandit(HALF, np.ones(3), seed=0, **more)


table(
    "estimation.tallying_bandits",
    loss_values=lambda m: dict(loss=[0.5, 0.2], r=Free(np.array([0.1, 0.9]))),
    play_tallies=lambda m: dict(actions=Free(np.array([0, 1, 1])), weights=Free(np.ones(3))),
    TallyingModel=lambda m: dict(losses=Free(HALF), weights=Free(np.ones(3))),
    WeightedTallyingBandit=lambda m: dict(losses=Free(HALF), weights=Free(np.ones(3)), noise="none", n_envs=2, seed=0),
    best_sequence=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3)), horizon=4, start=[0, 1]),
    enumerate_sequences=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3)), horizon=4),
    reachable_tallies=lambda m: dict(weights=Free(np.ones(3)), grid=9),
    reo_margin=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3))),
    is_reo=lambda m: dict(model=m.TallyingModel(HALF, np.ones(3)), tolerance=1e-9),
    complete_policy_regret=lambda m: dict(expected=Free(np.full(4, 0.5)), mu_star=0.5),
    epoch_radius=lambda m: dict(s=2),
    epoch_length=lambda m: dict(s=2, n_arms=3, delta=0.1),
    survivors=lambda m: dict(means=Wide(np.array([0.1, 0.9])), radius=0.1),
    regret_bound=lambda m: dict(n_arms=2, horizon=99, memory=3, memory_bound=4, delta=0.1),
    epochs_needed=lambda m: dict(gaps=Wide(np.array([0.0, 0.5]))),
    instance_bound=lambda m: dict(gaps=Wide(np.array([0.0, 0.5])), memory=3, memory_bound=4, delta=0.1),
    cyclic_occupancy=lambda m: dict(cycles=Free(np.array([0, 1, 1])), n_arms=2, memory=2),
    BlockPolicy="a base class, met through the policies below",
    SuccessiveEliminationREO=lambda m: dict(n_arms=2, horizon=99, memory_bound=3, delta=0.1, schedule="halving"),
    simulate=lambda m: dict(policy=m.UCB1Loss(2), env=game(m), horizon=5),
    simulate_blocks=lambda m: dict(policy=m.ExploreThenCommit(2, 9, 2), env=game(m), horizon=9),
    UCB1Loss=lambda m: dict(n_arms=2, n_envs=2),
    EXP3Loss=lambda m: dict(n_arms=2, horizon=9, n_envs=2, rate=0.1, mixing=0.1, seed=0),
    BatchedEXP3=lambda m: dict(n_arms=2, horizon=9, batch=3),
    ExploreThenCommit=lambda m: dict(n_arms=2, horizon=9, explore=2, warmup=1),
    ExploreThenPlan=lambda m: dict(n_arms=2, horizon=19, memory=2, sweeps=1),
    SETallying=lambda m: dict(n_arms=2, horizon=256, memory=2, delta=0.1),
    TallyFit=RECORD,
    tally_losses=lambda m: dict(
        log=dict(arm=[0, 1, 1], loss=[0.1, 0.2, 0.3]), weights=Free(np.ones(2)), shape="mean", points=2
    ),
    ucb_games_reference=lambda m: dict(
        tables=Fixed(torch.from_numpy(HALF)), weights=Fixed(torch.ones(3).double()), uniforms=Fixed(torch.rand(2, 5).double())
    ),
    ucb_games=lambda m: dict(
        tables=Wide(torch.from_numpy(HALF)), weights=Wide(torch.ones(3).double()), uniforms=Wide(torch.rand(2, 5).double())
    ),
    plain_game=RACE,
    race_arms=RACE,
    benchmark=RACE,
)


def z(*shape, seed=0):
    "Complex numbers"
    return torch.complex(*(torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)))


def near(m, **more):
    "A small scenario of the movable antennas"
    users = m.at_angle(torch.tensor([4.0, 7.0]), torch.tensor([-25.0, 25.0]))
    return m.NearFieldISACScenario(tx=m.line_array(8, 0.005), users=users, target=m.at_angle(5.0, 5.0), wavelength=0.01, **more)


def beams(**more):
    return dict(H=Free(z(2, 2, 8)), F=Free(z(2, 8, 2)), w=Free(z(8))) | more


def spots(seed=0, n=3):
    return Free(torch.rand(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + seed)


EVEN = torch.tensor([0.5, 0.5], dtype=torch.float64)

table(
    "estimation.movable_antenna_isac",
    nearfield_channel=lambda m: dict(rx=spots(0), tx=spots(5), wavelength=0.01, amplitude="element"),
    nearfield_channel_grad=lambda m: dict(rx=spots(0), tx=spots(5), wavelength=0.01, amplitude="center"),
    line_array=lambda m: dict(n=3, spacing=0.1),
    steering=lambda m: dict(p=spots(0), elems=spots(5), wavelength=0.01),
    at_angle=lambda m: dict(distance=4.0, degrees=20.0),
    user_rates=lambda m: beams(noise_var=1.0),
    sum_rate=lambda m: beams(noise_var=1.0, weights=Free(EVEN)),
    NearFieldISACScenario=lambda m: dict(
        tx=Free(m.line_array(8, 0.005)), users=Free(m.at_angle(torch.tensor([4.0, 7.0]), 0.0)),
        target=Free(m.at_angle(5.0, 5.0)), wavelength=0.01, noise_var=1e-12, sensing_noise_var=1e-12, antennas=2,
        side=0.1, d_min=0.005, sensing_mode="joint", amplitude="center",
    ),
    sensing_rows=lambda m: dict(u=Free(z(8)), scenario=near(m)),
    sensing_sinr=lambda m: dict(u=Free(z(8)), F=Free(z(2, 8, 2)), w=Free(z(8)), scenario=near(m)),
    mvdr_combiner=lambda m: dict(F=Free(z(2, 8, 2)), w=Free(z(8)), scenario=near(m)),
    wmmse_auxiliaries=lambda m: beams(noise_var=1.0),
    isac_precoder_update=lambda m: beams(
        tau=Free(z(2, 8)), power=0.1, sinr_min=0.01, weights=Free(EVEN), noise_var=1.0, mode="dedicated", method="newton"
    ),
    water_filling=lambda m: dict(gains=Free(EVEN), power=Free(torch.tensor(1.0).double()), weights=Free(EVEN)),
    block_diagonalization=lambda m: dict(H=Free(z(2, 2, 8)), power=0.1, weights=Free(EVEN), noise_var=1.0),
    isac_start=lambda m: dict(scenario=near(m), H=Free(z(2, 2, 8)), power=0.1, sinr_min=0.01, weights=Free(EVEN)),
    largest_sinr=lambda m: dict(scenario=near(m), power=0.1, n_iter=2),
    position_gradient=lambda m: beams(dH=Free(z(2, 2, 8, 3)), noise_var=1.0),
    project_min_spacing=lambda m: dict(x=Free(torch.tensor([0.3, 0.1]).double()), lo=0.0, hi=1.0, d_min=0.2),
    optimize_positions=lambda m: dict(
        scenario=near(m), positions=Free(m.start_positions(near(m), 1)[0]), F=Free(z(2, 8, 2)), w=Free(z(8)),
        n_steps=1, n_halvings=2,
    ),
    kkt_residual=lambda m: beams(
        tau=Free(z(2, 8)), multipliers=Fixed((1.0, 1.0)), sinr_min=0.1, weights=Free(EVEN), mode="dedicated"
    ),
    start_positions=lambda m: dict(scenario=near(m), n_starts=2),
    ISACResult=RECORD,
    alternating_isac=lambda m: dict(
        scenario=near(m), power=0.1, sinr_min=0.01, weights=Free(EVEN), n_iter=1, n_starts=2, tol=1e-6, method="newton"
    ),
    race_problem=RACE,
    race_arms=RACE,
    benchmark=RACE,
)


def curve(m):
    return m.tilt_curve(t(6, 2), t(6, 2, seed=1), [0.1, 1.0])


def pair(**more):
    return dict(x0=t(6, 2), x1=t(6, 2, seed=1), **more)


flat_flow = lambda time, x: -x  # noqa: E731

table(
    "weighting.weighted_cfm",
    flow_loss=lambda m: dict(prediction=t(4, 2), target=t(4, 2), weights=torch.ones(4), reduction="mean"),
    pair_cost=lambda m: pair(cost="l2"),
    cost_matrix=lambda m: pair(cost="l2"),
    sinkhorn_potentials=lambda m: pair(
        eps=1.0, cost="l2", a=torch.full((6,), 1 / 6), b=torch.full((6,), 1 / 6), n_iter=9, tol=0.1
    ),
    gibbs_weights_from_cost=lambda m: dict(cost=Wide(torch.rand(4)), eps=1.0, normalize="batch"),
    gibbs_weights=lambda m: pair(eps=1.0, cost="l2", normalize="batch"),
    TiltStatistics=RECORD,
    tilt_statistics=lambda m: pair(eps=1.0, cost="l2"),
    exact_gaussian_prior_velocity=lambda m: dict(
        t=0.5, x=t(4, 2), targets=t(5, 2), eps=1.0, weights=torch.full((5,), 0.2), cost="l2", chunk=8
    ),
    tilt_curve=lambda m: pair(kappas=[0.1, 1.0], cost="l2"),
    select_epsilon=lambda m: dict(curve=curve(m), rule="threshold", rv_max=0.05, ess_min=0.5),
    EpsilonRule="scikit-learn's rule: an estimator checks in `fit` (test_weighted_cfm)",
    path_energy=lambda m: dict(path=Wide(t(4, 3, 2)), times=torch.linspace(0, 1, 4)),
    normalized_path_energy=lambda m: dict(energy=1.0, w2=1.0),
    curvature=lambda m: dict(path=Wide(t(4, 3, 2)), times=torch.linspace(0, 1, 4)),
    wasserstein2=lambda m: dict(x=t(4, 2), y=t(5, 2)),
    weight_variance=lambda m: pair(cost="l2"),
    minibatch_plan=lambda m: pair(reg=1.0, cost="sqeuclidean", n_iter=9, tol=0.1),
    ot_minibatch_pairs=lambda m: pair(method="sinkhorn", reg=1.0, cost="sqeuclidean"),
    WeightedConditionalFlowMatcher=lambda m: dict(
        eps=1.0, sigma=0.1, cost="l2", normalize="batch", coupling="independent", reg=0.05
    ),
    bridge_reference=lambda m: pair(t=torch.rand(6), cost="l2"),
    bridge=lambda m: pair(t=torch.rand(6), cost="l2"),
    wcfm_loss=lambda m: dict(
        velocity=flat_flow,
        **pair(
            t=torch.rand(6),
            eps=1.0,
            sigma=0.1,
            cost="l2",
            normalize="batch",
            f_hat=torch.ones(6),
            g_hat=torch.ones(6),
            reduction="mean",
        ),
    ),
    Flow=RECORD,
    integrate=lambda m: dict(velocity=flat_flow, x0=Free(t(4, 2)), n_steps=2, method="euler", rtol=1e-3, atol=1e-3),
    StackedVelocity=lambda m: dict(copies=2, dim=2, width=4, depth=1, seeds=[0, 1]),
    time_embedding=lambda m: dict(t=Wide(torch.rand(4)), width=8),
    VelocityUNet=lambda m: dict(channels=1, width=4, mults=[1, 2], blocks=1),
    sample_gaussian=lambda m: dict(count=3),
    sample_circular_mog=lambda m: dict(count=3, components=4, radius=1.0, sd=0.1),
    sample_8gaussians=lambda m: dict(count=3),
    sample_moons=lambda m: dict(count=3),
    sample_funnel=lambda m: dict(count=3, dim=2, sd=3.0),
    toy_rule=lambda m: dict(transport="Gaussian → moons", points=30),
    train_arms=lambda m: dict(
        transport="Gaussian → moons", arms=[("CFM", 1.0)], seeds=[0], steps=1, batch=4, pool=8, width=4, lr=0.001
    ),
    load_stack=lambda m: dict(parameters=[p.detach().numpy() for p in m.StackedVelocity(1, width=4).layers]),
    evaluate_arms=EXPERIMENT,
    image_loss=lambda m: dict(arm="W-CFM", eps=1.0, reservoir=Wide(t(3, 1, 4, 4))),
    train_image_arm=EXPERIMENT,
    load_unet=EXPERIMENT,
    generate=lambda m: dict(net=flat_flow, count=2, shape=(1, 4, 4), seed=0, batch=2),
    train_features=EXPERIMENT,
    image_features=EXPERIMENT,
    frechet_distance=lambda m: dict(a=t(6, 2), b=t(7, 2)),
    precision_recall=lambda m: dict(real=t(6, 2), fake=t(7, 2), neighbours=2),
    image_splits=EXPERIMENT,
    evaluate_image_arm=EXPERIMENT,
    bridge_bytes=lambda m: dict(batch=4, dim=2, itemsize=4),
    training_step=lambda m: dict(arm="CFM", net=net(2, 2), x1=Free(t(4, 2)), eps=1.0, lr=0.001),
    benchmark=RACE,
)


def images(n=3):
    return torch.randint(256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def signature(m, seed=0):
    return m.WeightSignature({"0.weight": t(3, 4, seed=seed)})


states = lambda: [net(4, 3).state_dict() for _ in range(3)]  # noqa: E731

table(
    "adapting.weight_signatures",
    projection_coefficient=lambda m: dict(v=Free(t(4)), a=t(4, seed=1)),
    project_out=lambda m: dict(v=Free(t(4)), a=t(4, seed=1), eps=0.0),
    QuantizedTensor=RECORD,
    quantize=lambda m: dict(x=Free(t(4)), levels=4, scheme="linear", eps=1e-12),
    uniform_quantize=lambda m: dict(x=Free(t(4)), levels=4),
    log_quantize=lambda m: dict(x=Free(t(4)), levels=4, eps=1e-12),
    tanh_quantize=lambda m: dict(x=Free(t(4)), levels=4),
    signature_bytes=lambda m: dict(sizes=[3, 4], levels=16),
    update_bn_stats=lambda m: dict(model=conv_net(), batches=[t(2, 1, 8, 8)]),
    shallow_keys=lambda m: dict(
        model=conv_net(), n_layers=1, kinds=(nn.Conv2d,), skip=("no",), example=Fixed(t(1, 1, 8, 8))
    ),
    fingerprint=lambda m: dict(model=states()[0], keys=["0.weight"]),
    WeightSignature=RECORD,
    extract_signature=lambda m: dict(robust=states()[0], clean=states()[1], pretrained=states()[2], keys=["0.weight"]),
    quantize_signature=lambda m: dict(signature=signature(m), levels=4, scheme="linear"),
    save_signature=lambda m: dict(signature=signature(m), path=Fixed("/tmp/weightbook-fuzz.safetensors")),
    load_signature=lambda m: dict(path=m.save_signature(signature(m), "/tmp/weightbook-fuzz.safetensors")),
    apply_signatures=lambda m: dict(target=states()[0], signatures=[signature(m)], weights=0.5, pretrained=None),
    patch_tensor_reference=lambda m: dict(original=t(3), directions=t(2, 3), weights=[0.5, 0.5]),
    SignaturePatch=lambda m: dict(model=net(4, 3), signatures=[signature(m)], weights=0.5),
    patched=lambda m: dict({"*": (net(4, 3), signature(m)), "weights": Fixed(0.5)}),
    patch_tensor=lambda m: dict(original=t(3), directions=t(2, 3), weights=[0.5, 0.5]),
    remove_signatures=lambda m: dict(patched_state=states()[0], signatures=[signature(m)], weights=0.5),
    signature_similarity=lambda m: dict(signatures_a=[signature(m)], signatures_b=[signature(m, 1)]),
    layerwise_relative_difference=lambda m: dict(model=states()[0], reference=states()[1], keys=["0.weight"]),
    random_signature=lambda m: dict(like=signature(m)),
    patch_like_released=lambda m: dict(
        target=states()[0],
        robust=[states()[1]],
        clean=states()[2],
        pretrained=states()[0],
        keys=["0.weight"],
        alpha=0.5,
        special=("bn",),
    ),
    patch_bytes=lambda m: dict(numel=4, count=1, itemsize=4),
    benchmark=RACE,
    Normalize=lambda m: dict(stats="cifar10"),
    PlainVGG=lambda m: dict(widths=[4, 0, 4], channels=3, classes=2, stats="cifar10"),
    ResidualUnit=lambda m: dict(inputs=2, width=4, stride=1),
    DownsamplingResNet=lambda m: dict(depths=[1, 1], width=4, channels=3, classes=2, stats="cifar10"),
    build_network=lambda m: dict(name="vgg-5", channels=3, classes=2, stats="cifar10"),
    Study=lambda m: dict(
        source="digits",
        where=Fixed("here"),
        network="vgg-5",
        pre_images=1,
        images=1,
        validation=1,
        test=1,
        pre_epochs=1,
        epochs=1,
        rate=0.1,
        pre_rate=0.1,
        batch=2,
        decay=0.1,
        shift=1,
        severity=5,
    ),
    study_images=EXPERIMENT,
    corrupted=lambda m: dict(
        x=Wide(images()), name="contrast", study=Fixed(m.Study("digits", "here", "vgg-5", 1, 1, 1, 1, 1, 1)), seed=1
    ),
    Arm=lambda m: dict(data="A", train="clean", order=0, stats="digits"),
    accuracy_of=lambda m: dict(model=conv_net(), x=Wide(t(3, 1, 8, 8)), y=torch.tensor([0, 1, 0]), batch=2),
    run_pretraining=EXPERIMENT,
    run_arm=EXPERIMENT,
    robustness_report=lambda m: dict(model=conv_net(), datasets={"clean": (t(3, 1, 8, 8), torch.tensor([0, 1, 0]))}),
    score_state=EXPERIMENT,
)


def batches(m=None):
    from weightbook.blocks.training import make_batches

    return make_batches(t(6, 3), torch.arange(6) % 2, batch_size=2)


def fitting(m):
    model = net(3, 2)
    return dict(
        model=model,
        batches=batches(),
        loss=m.classification_loss,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        steps=1,
        clip=1.0,
        seed=0,
        accelerator=Fixed(m.make_accelerator("cpu")),
        progress=False,
    )


table(
    "blocks.training",
    make_batches=lambda m: dict({"*": (t(6, 3),), "batch_size": 2}),
    make_accelerator=lambda m: dict(device="cpu", mixed_precision="no"),
    bfloat16_pays=lambda m: dict(device="cpu"),
    History=RECORD,
    classification_loss=lambda m: dict(model=net(3, 2), batch=(t(4, 3), torch.tensor([0, 1, 0, 1]))),
    fit=fitting,
    accuracy=lambda m: dict(outputs=Wide(t(4, 2)), targets=torch.tensor([0, 1, 0, 1])),
    cross_entropy=lambda m: dict(outputs=Wide(t(4, 2)), targets=torch.tensor([0, 1, 0, 1])),
    evaluate=lambda m: dict(
        model=net(3, 2),
        batches=batches(),
        metrics={"accuracy": m.accuracy},
        accelerator=Fixed(m.make_accelerator("cpu")),
    ),
    Spread=RECORD,
    run_seeds=lambda m: dict(function=lambda seed: 1.0, seeds=2, jobs=Fixed(1)),
)

table(
    "blocks.nets",
    count_parameters=lambda m: dict(module=net(3, 2)),
    MLP=lambda m: dict(sizes=[3, 2], activation=nn.ReLU, dropout=0.1),
    make_norm=lambda m: dict(norm="group", channels=4, groups=2),
    ResidualBlock=lambda m: dict(channels=2, out_channels=4, stride=1, norm="batch"),
    SmallResNet=lambda m: dict(depth=8, classes=2, channels=1, width=2, norm="batch"),
    SmallViT=lambda m: dict(size=8, patch=4, classes=2, channels=1, width=4, depth=1, heads=2, ratio=1, dropout=0.1),
)
table(
    "blocks.study",
    Study=lambda m: dict(name=Fixed("race"), arm=lambda seed: 1.0, settings=settings(), unit=Fixed("window")),
    Results=RECORD,
)
table("blocks.corruptions", corrupt=lambda m: dict(images=Wide(images()), name="contrast", severity=5))
table(
    "blocks.data",
    Text=RECORD,
    Images=RECORD,
    fetch_file="reads the network: test_data",
    load_text=lambda m: dict(name="stdlib", settings=settings()),
    load_images=lambda m: dict(name="digits", split="train", settings=settings(), limit=3),
)


def llama(layers=1):
    from weightbook.blocks.lm import toy_llama

    return toy_llama(layers=layers, width=16, heads=2, kv_heads=1, mlp=24, vocab=31)


def ids(*shape):
    return torch.randint(31, shape or (2, 6), generator=torch.Generator().manual_seed(0))


NO_ARGUMENTS = "no arguments"
table(
    "blocks.kernels",
    jit="Triton's decorator",
    kernel_operator="a decorator for launchers: test_kernels",
    is_plain=lambda m: dict({"*": (t(3),)}),
    state_key=lambda m: dict({"*": (t(3), None)}),
    compiled_rows=BUILD,
    load_c="compiles a source of the library: test_kernels",
    use_triton=lambda m: dict({"*": (t(3),)}),
    force_kernel=NO_ARGUMENTS,
    poisoned_memory=NO_ARGUMENTS,
    poison=lambda m: dict(shape=(2, 3), like=Free(t(2))),
    Parity=RECORD,
    assert_parity="compares two functions in tests",
    scale_add_reference="the definition of scale_add, which checks its arguments",
    scale_add=lambda m: dict(x=Free(t(3)), y=t(3), alpha=1.0),
)
table(
    "blocks.lm",
    toy_llama=lambda m: dict(layers=1, width=16, heads=2, kv_heads=1, mlp=24, vocab=31, seed=0),
    LanguageModel=RECORD,
    load_lm="downloads a model: test_lm",
    token_windows="needs a tokenizer: test_lm",
    Perplexity=RECORD,
    perplexity=lambda m: dict(model=llama(), windows=Wide(ids()), score_last=2, batch_size=2),
    linear_layers=lambda m: dict(model=llama(), pattern="*q_proj"),
    replace_layers=lambda m: dict(model=llama(), pattern="*q_proj", factory=lambda name, layer: layer),
    capture_inputs=lambda m: dict(model=llama(), windows=Wide(ids()), pattern="*q_proj", batch_size=2),
)

table(
    "book.bench",
    Timing=RECORD,
    save_rows=BUILD,
    load_rows=BUILD,
    bench_table=BUILD,
    timing_rows=BUILD,
    measure_bandwidth=RACE,
    time_pairs=lambda m: dict(arms={"a": lambda: None}, repeats=1, warmup=0, device="cpu", min_time=0.001),
    floor_seconds=lambda m: dict(bytes=1, flops=1, bandwidth=1.0, peak=1.0),
    device_name=lambda m: dict(device="cpu"),
)
table(
    "book.checks",
    rms_error=lambda m: dict(actual=Free(a(3)), expected=a(3)),
    expect_fail="a context manager for tests",
    assert_close="its refusal is an AssertionError that names the difference",
    z_test=lambda m: dict(samples=Free(a(9)), expected=0.1),
    check_real=BUILD,
    check_integer=BUILD,
    check_choice=BUILD,
    check_tensor=BUILD,
    typed="a decorator",
)
table(
    "book.cli",
    **dict.fromkeys(
        (
            "app",
            "list_chapters",
            "show_ledger",
            "reproduce",
            "bench",
            "export",
            "site",
            "serve",
            "doctor",
            "check",
            "test",
            "main",
            "keep_arms",
            "stability",
            "verify",
        ),
        "a command: test_cli",
    ),
)
table(
    "book.figures",
    **dict.fromkeys(
        (
            "use_style",
            "style_of",
            "plot_band",
            "paper_line",
            "grouped_bars",
        ),
        "a figure of the book: test_figures",
    ),
)
table(
    "book.tables",
    **dict.fromkeys(
        ("Badge", "Lines", "Link", "Table", "format_value", "table", "compare_table"), "a table of the book: test_figures"
    ),
)
table(
    "book.ledger",
    **dict.fromkeys(
        ("Cost", "Ledger", "Scale", "Verdict", "ledger_table", "load_ledgers", "relative_gap", "scoreboard",
         "summary", "verdict_of"),
        BUILD,
    ),
)


def gaps(m):
    return m.estimate([1.0, 2.0, 3.0, 2.0])


table(
    "book.conditions",
    Condition=RECORD,
    Estimate=RECORD,
    State="a kind of text",
    estimate=lambda m: dict(values=[1.0, 2.0, 3.0], kind="seed", method="Student", resamples=100, seed=0),
    estimate_gap=lambda m: dict(values=[1.0, 2.0, 3.0], base=[0.5, 1.0, 1.5], ratio=False),
    above=lambda m: dict(gap=gaps(m), bound=0.0, without_control=Fixed("a toy")),
    below=lambda m: dict(gap=gaps(m), bound=9.0, without_control=Fixed("a toy")),
    contains=lambda m: dict(gap=gaps(m), value=2.0, without_control=Fixed("a toy")),
    within=lambda m: dict(gap=gaps(m), margin=5.0, around=2.0, without_control=Fixed("a toy")),
    at_least=lambda m: dict(x=2.0, bound=1.0, without_control=Fixed("a toy")),
    at_most=lambda m: dict(x=2.0, bound=3.0, without_control=Fixed("a toy")),
    exactly=lambda m: dict(ours=2.0, paper=2.0, tol=0.1, without_control=Fixed("a toy")),
    all_of=lambda m: dict(checks=Fixed([True, True]), at_least=1, without_control=Fixed("a toy")),
)
DIGEST = "a step from code to its digest: test_digest"
table(
    "book.digest",
    **dict.fromkeys(
        ("CannotDigest", "ChangedSince", "Reach", "dotted_names", "is_ours", "loaded_names", "page_digest",
         "page_imports", "plain",
         "tree_of"),
        DIGEST,
    ),
)
table(
    "book.arms",
    **dict.fromkeys(
        ("Arm", "Arms", "ArmsCost", "Finished", "arms_cost", "arms_file", "committed_arms", "cost_of", "decode", "encode",
         "finished_arms", "largest_difference", "read_arms", "report_data", "resolves_data"),
        "how results are kept: test_arms",
    ),
)
table("book.docments", document=BUILD)
table(
    "book.settings",
    Settings=RECORD,
    find_root=BUILD,
    versions=BUILD,
    write_atomic=BUILD,
    write_json=BUILD,
    resolve_device=lambda m: dict(name="cpu"),
    seed_everything=lambda m: dict(seed=1),
    require=lambda m: dict(module="json", extra="lm"),
    load_settings=lambda m: dict(profile="quick", device="cpu", seed=0),
)
table(
    "book.pages",
    **dict.fromkeys(
        ("Part", "alt_text", "chapter_name", "chapters", "checkout", "figures_of", "find_notebook", "front_matter", "notebooks",
         "planned_chapters", "read_notebook", "source_hash", "workshops", "write_notebook"),
        BUILD,
    ),
)
table(
    "book.run",
    **dict.fromkeys(
        ("ExecutionReport", "execute_notebook", "inputs_hash", "machine_paths", "refresh_pages", "stale_notebooks",
         "stamp"), BUILD
    ),
)
table(
    "book.front",
    **dict.fromkeys(
        ("Outputs", "Shown", "bibliography", "bibtex", "book_rate", "chapter_cards", "chapter_link", "fill_passport", "passport",
         "plan_table", "thumbnail_file", "write_readme"),
        BUILD,
    ),
)
table(
    "book.site",
    **dict.fromkeys(("build_site", "SiteWarning", "check_links", "remote_resources", "serve", "site_server"), BUILD),
)


def hessian(n=8):
    x = t(20, n)
    return x.T @ x + torch.eye(n)


CONVERTER = "a converter of language models: its own battery"
table(
    "lowbit.quantizers",
    fit_scale_zero=lambda m: dict(groups=Free(t(4, 8)), bits=4),
    check_group_size=lambda m: dict(group_size=4, length=8, dim="oc"),
    interval_grid="inside of the fits, which check: fit_scale_zero",
    QuantizedWeight=RECORD,
    Plan=RECORD,
    SavedLayer=RECORD,
    expand_groups=lambda m: dict(values=Free(t(4, 2)), like=Fixed(m.quantize_groups(t(4, 8), 4, 4))),
    quantize_groups=lambda m: dict(w=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    rtn=lambda m: dict(w=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    rtn_=lambda m: dict(linear=nn.Linear(8, 4), bits=4, group_size=4, dim="oc"),
    pack_codes=lambda m: dict(codes=torch.zeros(4, 8, dtype=torch.uint8), bits=4),
    unpack_codes=lambda m: dict(
        packed=Fixed(m.pack_codes(torch.zeros(4, 8, dtype=torch.uint8), 4)), bits=4, shape=(4, 8)
    ),
    Hessian=lambda m: dict(width=4),
    relative_error=lambda m: dict(weight=t(4, 8), quantized=t(4, 8, seed=1), hessian=hessian()),
    inverse_factor=lambda m: dict(hessian=hessian(), percdamp=0.01),
    gptq_reference="the loop that the fast path is checked against",
    GPTQ=lambda m: dict(linear=nn.Linear(8, 4)),
    PackedWeight=RECORD,
    QuantLinear=lambda m: dict(in_features=8, out_features=4, bits=4, group_size=4, dim="oc"),
    few_rows=lambda m: dict(x=Free(t(2, 8))),
    packed_linear_reference=CONVERTER,
    packed_linear=CONVERTER,
    decoder_layers=lambda m: dict(model=llama()),
    DecoderStep=RECORD,
    walk_decoder=lambda m: dict(model=llama(), input_ids=ids(), batch_size=2, propagate="full"),
    replace_linears=lambda m: dict(model=llama(), quantized={}),
    quantize_linear=lambda m: dict(weight=t(4, 8), bits=4, group_size=4, method="gptq", hessian=hessian()),
    quantize_model_=lambda m: dict(
        model=llama(), input_ids=ids(), bits=4, group_size=8, method="rtn", propagate="full", batch_size=2
    ),
    all_or_nothing=CONVERTER,
    matrix_fates=lambda m: dict(model=llama(), skip="*q_proj", only="*"),
    export_gguf=CONVERTER,
    save_quantized=CONVERTER,
    load_quantized=CONVERTER,
    packed_bytes=lambda m: dict(rows=4, cols=8, bits=4, group_size=4, itemsize=4),
    Int4Product=CONVERTER,
    accelerate_decoding=lambda m: dict(model=llama()),
    product_arms=RACE,
    loop_arms=RACE,
    benchmark=RACE,
)
table(
    "lowbit.adadim",
    group_ranges=lambda m: dict(weight=Free(t(4, 8)), group_size=4, dim="oc"),
    expected_error=lambda m: dict(weight=t(4, 8), h=torch.rand(8), bits=4, group_size=4, dim="oc"),
    output_error=lambda m: dict(weight=t(4, 8), quantized=t(4, 8, seed=1), second=hessian()),
    gptq_updates=lambda m: dict(weight=t(4, 8), quantized=t(4, 8, seed=1), hessian=hessian(), percdamp=0.01),
    top_share=lambda m: dict(energy=Free(torch.rand(9)), share=0.5),
    minmax_round_reference=lambda m: dict(weight=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    minmax_round=lambda m: dict(weight=Free(t(4, 8)), bits=4, group_size=4, dim="oc"),
    search_dims=lambda m: dict(model=llama(), input_ids=ids(), bits=4, group_size=8, batch_size=2),
    adadim_=lambda m: dict(
        model=llama(), input_ids=ids(), bits=4, group_size=8, base="rtn", percdamp=0.01, batch_size=2
    ),
    fixed_dims=lambda m: dict(names=["q_proj"]),
    activation_stats=lambda m: dict(model=llama(), input_ids=ids(), batch_size=2),
    awq_scale=lambda m: dict(magnitude=Free(torch.rand(8) + 0.1), alpha=0.5),
    awq_clip=lambda m: dict(weight=t(4, 8), second=hessian(), bits=4, group_size=4, steps=2),
    awq_=lambda m: dict(model=llama(), input_ids=ids(), bits=4, group_size=8, batch_size=2),
    rounding_bytes=lambda m: dict(rows=4, columns=8, itemsize=4),
    predict_dims=lambda m: dict(weights={"a": t(4, 8)}, h={"a": torch.rand(8)}, bits=4, group_size=4),
    **dict.fromkeys(
        (
            "measuring_scope",
            "scope_output",
            "try_weights",
            "select_dim",
            "search_block",
            "calibration_blocks",
            "fisher_diagonal",
            "awq_search",
            "search_cost",
            "task_scores",
        ),
        CONVERTER,
    ),
    search_arms=RACE,
    benchmark=RACE,
)
table(
    "lowbit.wina",
    column_norms=lambda m: dict(weight=Free(t(4, 8))),
    kept_count=lambda m: dict(n=8, sparsity=0.5),
    topk_mask=lambda m: dict(scores=Free(torch.rand(8)), sparsity=0.5),
    wina_mask=lambda m: dict(x=t(2, 8), norms=torch.rand(8), sparsity=0.5, mode="topk"),
    teal_mask=lambda m: dict(x=Free(t(2, 8)), sparsity=0.5),
    orthogonalise_columns=lambda m: dict(weight=t(4, 8)),
    macs_per_token=lambda m: dict(config=llama().config, sparsity=0.5),
    first_gated=lambda m: dict(length=8, dense_fraction=0.1),
    SparseLinear=lambda m: dict(linear=nn.Linear(8, 4), sparsity=0.5, criterion="wina", prefill_dense_fraction=0.1),
    decoder_blocks=lambda m: dict(model=llama()),
    fuse_norms=lambda m: dict(model=llama()),
    rotate_decoder=lambda m: dict(model=llama()),
    layer_criterion=lambda m: dict(name=Fixed("q_proj"), criterion="official"),
    gated_linears=lambda m: dict(model=llama()),
    densify=lambda m: dict(model=m.sparsify(llama())),
    sparsify=lambda m: dict(model=llama(), sparsity=0.5, criterion="official", prefill_dense_fraction=0.1),
    ScoreDistribution=NO_ARGUMENTS,
    cats_mask=lambda m: dict(gate_act=Free(t(2, 8)), sparsity=0.5),
    cats_activation_sparsity=lambda m: dict(config=llama().config, sparsity=0.3),
    apply_rotary=lambda m: dict(x=t(1, 2, 3, 4), cos=t(1, 3, 4), sin=t(1, 3, 4)),
    gemv_bytes=lambda m: dict(m=4, n=8, sparsity=0.5, itemsize=4),
    sparse_gemv_reference=lambda m: dict(x=t(8), weight_t=t(8, 4), mask=torch.ones(8, dtype=torch.bool)),
    sparse_gemv=lambda m: dict(x=t(8), weight_t=t(8, 4), norms=torch.rand(8), tau=0.1),
    accelerate_decoding=lambda m: dict(model=llama()),
    remove_cats=CONVERTER,
    gate_report=lambda m: dict(model=llama()),
    open_prefix=lambda m: dict(mask=Free(torch.ones(3, 8, dtype=torch.bool)), dense_fraction=0.1),
    **dict.fromkeys(
        (
            "block_linears",
            "RotatedBlock",
            "calibrate_thresholds",
            "CATSMLP",
            "sparsify_cats",
            "greedy_allocate",
            "allocate_model",
            "allocation_at",
            "evaluate_tasks",
        ),
        CONVERTER,
    ),
    gemv_arms=RACE,
    benchmark=RACE,
)


if __name__ == "__main__":
    import sys

    rows = measure(sys.argv[1] if len(sys.argv) > 1 else "")
    for row in rows:
        if row[3] not in ("named", "right") and len(sys.argv) > 2:
            print(*row)
    print(shares(rows))
