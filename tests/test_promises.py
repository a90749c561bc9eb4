"""What the library promises on other people's models and data: each fault that was found once, with the right value."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from weightbook.book.checks import assert_close

F64 = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=dtype)


# ---- PONITA ----------------------------------------------------------------------------------------------------------


def ponita(**options):
    from weightbook.sharing.ponita import Ponita

    torch.manual_seed(0)
    return Ponita(1, 1, **dict(hidden=8, out_vec=1, layers=2, num_ori=4, basis_dim=6, grid="fibonacci") | options)


def test_egnn_is_the_rule_of_its_source_written_out():
    from weightbook.sharing.ponita import EGNN

    torch.manual_seed(1)
    net = EGNN(hidden=6, layers=4).double()
    for layer in net.layers:  # the source starts them near zero, where four layers would tell little
        layer["pos"][2].weight.data = torch.randn(1, 6, dtype=F64)
    pos, vel, charge = randn(2, 4, 3, dtype=F64), randn(2, 4, 3, seed=1, dtype=F64), randn(2, 4, seed=2, dtype=F64)
    for g in range(2):  # edge by edge, as the authors' graph code does
        x, h = [p for p in pos[g]], [net.embed(v.norm()[None]) for v in vel[g]]
        for layer in net.layers:
            move, heard = [torch.zeros(3, dtype=F64) for _ in x], [0 for _ in x]
            for i in range(4):
                for j in (j for j in range(4) if j != i):
                    given = ((x[i] - x[j]) ** 2).sum(), charge[g, i] * charge[g, j], ((pos[g, i] - pos[g, j]) ** 2).sum()
                    m = layer["edge"](torch.cat([h[i], h[j], torch.stack(given)]))
                    move[i], heard[i] = move[i] + (x[i] - x[j]) * layer["pos"](m), heard[i] + m
            x = [x[i] + move[i] / 3 + layer["vel"](h[i]) * vel[g, i] for i in range(4)]
            h = [h[i] + layer["node"](torch.cat([h[i], heard[i]])) for i in range(4)]
        assert_close(net(pos, vel, charge)[g], torch.stack(x), rtol=1e-9)


@pytest.mark.parametrize("first", ["zero features", "an empty batch", "one number"])
def test_calibration_waits_for_a_batch_with_spread(first):
    net = ponita().train()
    pos, scalar, vec = randn(5, 3), randn(5, 1, seed=1), randn(5, 1, 3, seed=2)
    if first == "zero features":
        net(pos, 0 * scalar, 0 * vec)
    elif first == "an empty batch":
        net(pos[:0], scalar[:0], vec[:0])
    else:
        net = ponita(hidden=1, num_ori=1, basis_dim=1).train()
        net(pos[:1], scalar[:1], vec[:1])
    assert all(p.isfinite().all() for p in net.parameters()) and not net.blocks[0].conv.calibrated
    net(pos, scalar, vec)
    assert all(b.conv.calibrated for b in net.blocks) and all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("radius", [None, 2.0])
@pytest.mark.parametrize("way", ["autocast", "bfloat16", "bfloat16, wide inputs"])
def test_ponita_in_bfloat16(way, radius):
    net = ponita(layer_scale=0.5, radius=radius)
    given = randn(6, 3), randn(6, 1, seed=1), randn(6, 1, 3, seed=2)
    wanted = copy.deepcopy(net).eval()(*given)[1]
    if way != "autocast":
        net = net.bfloat16()
        given = given if "wide" in way else [g.bfloat16() for g in given]
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        found = net.train()(*given)[1]
        again = net.eval()(*given)[1]
    found.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in net.blocks.parameters())
    assert again.isfinite().all() and (found.detach().float() - wanted).norm() < 0.05 * wanted.norm() + 0.02


def test_a_grid_with_a_gradient_leaves_the_model_copyable():
    grid = F.normalize(randn(4, 3), dim=-1).requires_grad_()
    assert not copy.deepcopy(ponita(grid=grid * 1.0)).grid.requires_grad


def test_repeated_edges_count_once():
    net = ponita().eval()
    given = randn(5, 3), randn(5, 1, seed=1), randn(5, 1, 3, seed=2)
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    assert_close(net(*given, edge_index=torch.cat([edges, edges[:, :2]], 1))[1], net(*given, edge_index=edges)[1], rtol=1e-6)


def test_neighbour_graphs_equal_brute_force_and_stay_small():
    import tracemalloc

    from weightbook.sharing.ponita import knn_edges, radius_edges

    pos, batch = randn(60, 3), torch.arange(3).repeat_interleave(torch.tensor([10, 30, 20]))
    pos[3] = pos[4] = pos[5]  # coinciding points
    far = torch.cdist(pos.double(), pos.double()) + torch.where(batch[:, None] == batch, 0, math.inf)
    far.fill_diagonal_(math.inf)
    senders, receivers = knn_edges(pos, 4, batch)
    assert torch.equal(receivers, torch.arange(60).repeat(4)) and (senders != receivers).all()
    assert_close(far[receivers, senders].view(4, 60).T.sort(1).values, far.sort(1).values[:, :4], rtol=1e-6)
    found = radius_edges(pos, 0.8, batch)
    assert torch.equal(found, (far < 0.8).nonzero().T.flip(0))
    tracemalloc.start()
    knn_edges(randn(4000, 3), 8)
    assert tracemalloc.get_traced_memory()[1] < 3e6  # of NumPy; all pairs would be 16 million numbers
    tracemalloc.stop()
    with pytest.raises(ValueError, match="`k`"):
        knn_edges(pos, 10, batch)


def test_the_force_between_particles_at_whole_numbers():
    from weightbook.sharing.ponita import coulomb_force

    pos = np.array([[0, 2], [0, 0], [0, 0]])[..., None]  # two apart: a force of 1/4
    assert_close(coulomb_force(pos, np.ones((2, 1), int))[0, :, 0].astype(float), np.array([-0.25, 0.25]), rtol=1e-6)


# ---- Weight Compander ------------------------------------------------------------------------------------------------


def small(seed: int = 0, dtype=F64) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)


@pytest.mark.parametrize("learnable", [False, True])
def test_frozen_weights_stay_frozen_and_where_they_are(learnable):
    from weightbook.reparam.compander import FlatCompander, compand_model, remove_weight_compander

    for wrap in (compand_model, FlatCompander):
        model = small()
        model[0].requires_grad_(False)
        before, x = copy.deepcopy(model), randn(5, 4, dtype=F64)
        wrapped = wrap(model, 0.8, 0.5, learnable=learnable)
        assert_close(wrapped(x), before(x), rtol=1e-12)
        loss = wrapped(x).square().sum()
        loss.backward()
        torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], 0.1).step()
        baked = remove_weight_compander(wrapped)
        assert_close(baked[0].weight, before[0].weight, rtol=1e-12)
        assert [p.requires_grad for p in baked.parameters()] == [False, False, True, True]
        assert (baked[2].weight - before[2].weight).norm() > 1e-3


def test_a_frozen_buffer_bakes_into_frozen_weights():
    from weightbook.reparam.compander import FlatCompander

    flat = FlatCompander(small())
    flat.v.requires_grad_(False)
    baked = flat.bake()
    assert not baked[0].weight.requires_grad and not baked[2].weight.requires_grad and baked[0].bias.requires_grad


def test_a_layer_that_is_used_twice_stays_one_layer():
    from weightbook.reparam.compander import FlatCompander, compand_model, remove_weight_compander

    for wrap in (compand_model, FlatCompander):
        layer = nn.Linear(4, 4).double()
        model = nn.Sequential(layer, nn.Tanh(), layer)
        x = randn(3, 4, dtype=F64)
        wanted = model(x).detach()
        wrapped = wrap(model)
        assert_close(wrapped(x).detach(), wanted, rtol=1e-12)
        baked = remove_weight_compander(wrapped)
        assert baked[0].weight is baked[2].weight and len(list(baked.parameters())) == 2
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="share"):
        compand_model(tied)


def stepped(make, maximize=False, steps=2, touch=None, closure=False, sign=1.0, decay=0.3):
    "Effective weights of the two layers after some steps of an optimiser; `touch` may exchange model and optimiser"
    from weightbook.reparam.compander import compand_model

    model, x = compand_model(small(), 0.8, 0.5), randn(5, 4, dtype=F64)
    optimizer = make(model, weight_decay=decay, maximize=maximize)
    for k in range(steps):
        if k == 1 and touch:
            model, optimizer = touch(model, optimizer)

        def loss(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            value = sign * model(x).square().mean()
            value.backward()
            return value

        if closure:
            optimizer.step(loss)
        else:
            loss()
            optimizer.step()
    return torch.cat([model[k].weight.detach().flatten() for k in (0, 2)])


def sgd(model, **options):
    from weightbook.reparam.compander import compander_optimizer

    return compander_optimizer(model, lr=0.1, momentum=0.9, **options)


def adam(model, **options):
    from weightbook.reparam.compander import CompanderAdam

    return CompanderAdam(model, lr=0.05, **options)


def pickled(model, optimizer):
    return pickle.loads(pickle.dumps((model, optimizer)))


def reloaded(model, optimizer):
    "The state through a file and back, as a resumed run does"
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    return model, optimizer


@pytest.mark.parametrize("make", [sgd, adam])
@pytest.mark.parametrize("touch", [lambda *pair: copy.deepcopy(pair), pickled, reloaded], ids=["deepcopy", "pickle", "state"])
def test_an_optimiser_keeps_its_decay_through_copies(make, touch):
    if touch is pickled:  # parametrized modules do not pickle, whatever the optimiser; the weights do
        from weightbook.reparam.compander import FlatCompander

        torch.manual_seed(0)
        model = FlatCompander(nn.Linear(3, 2).double())
        pair = model, make(model, weight_decay=0.3)
        runs = []
        for net, optimizer in (pickled(*pair), pair):
            net(torch.ones(1, 3, dtype=F64)).sum().backward()
            optimizer.step()
            runs.append(net.v.detach().clone())
        assert_close(runs[0], runs[1], rtol=1e-12)
        return
    assert_close(stepped(make, touch=touch), stepped(make), rtol=1e-12)


@pytest.mark.parametrize("make", [sgd, adam])
def test_ascending_the_negative_is_descending_and_decay_shrinks(make):
    assert_close(stepped(make, maximize=True, sign=-1.0), stepped(make), rtol=1e-12)


@pytest.mark.parametrize("make", [sgd, adam])
def test_a_closure_makes_no_difference(make):
    assert_close(stepped(make, closure=True), stepped(make), rtol=1e-12)


@pytest.mark.parametrize("make", [sgd, adam])
def test_the_decay_rate_of_a_group_is_followed(make):
    def off(model, optimizer):
        state = optimizer.state_dict()
        for group in state["param_groups"]:
            group["effective_decay"] = 0.0
            group["weight_decay"] = 0.0
        optimizer.load_state_dict(state)
        return model, optimizer

    one = stepped(make, steps=1)
    assert not torch.allclose(stepped(make, touch=off), stepped(make), rtol=1e-6) and one.isfinite().all()


@pytest.mark.parametrize("learnable", [False, True])
def test_decoupled_decay_shrinks_by_its_own_formula(learnable):
    from weightbook.reparam.compander import CompanderAdam, compand_model, companded_layers

    def after(decay):
        model = compand_model(small(), 0.8, 0.5, learnable=learnable)
        start = {x.name: (x.original.detach().clone(), x.compander.slope(x.original), x.compander(x.original).detach())
                 for x in companded_layers(model)}
        optimizer = CompanderAdam(model, lr=0.05, weight_decay=decay, decoupled_weight_decay=True)
        model(randn(5, 4, dtype=F64)).square().mean().backward()
        optimizer.step()
        return {x.name: x.original.detach() for x in companded_layers(model)}, start

    (with_decay, start), (without, _) = after(0.3), after(0.0)
    for name, (v, slope, w) in start.items():
        assert_close(without[name] - with_decay[name], 0.05 * 0.3 * (v if learnable else slope * w), rtol=1e-9)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adadelta", "Adagrad", "RMSprop", "Rprop",
                                  "Adafactor", "LBFGS"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_adaptive_optimisers_are_refused(name, wrapped):
    from functools import partial

    from weightbook.reparam.compander import compand_model, compander_optimizer

    make = getattr(torch.optim, name)
    with pytest.raises(ValueError, match="`make` must not be adaptive"):
        compander_optimizer(compand_model(small()), partial(make, lr=0.1) if wrapped else make)


@pytest.mark.parametrize("shape", ["arctan", "arsinh", "erf"])
def test_bfloat16_companding_rounds_once(shape):
    from weightbook.reparam.compander import compand

    v, a, b = 2 * randn(4000), torch.tensor(0.7, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    narrow = v.bfloat16().requires_grad_()
    wide = narrow.detach().float().requires_grad_()
    grads = []
    for x in (narrow, wide):
        compand(x, a, b, shape=shape).float().square().sum().backward()
        grads.append((x.grad.float(), a.grad.clone(), b.grad.clone()))
        a.grad = b.grad = None
    exact = compand(wide, a, b, shape=shape)
    assert (compand(narrow, a, b, shape=shape).float() - exact).abs().max() <= 2**-8 * exact.abs().max()
    for found, wanted in zip(*grads, strict=True):
        assert_close(found, wanted, rtol=4e-3)


def test_companding_under_autocast():
    from weightbook.reparam.compander import compand_model, compander_optimizer

    model = compand_model(small(dtype=torch.float32), 0.8, 0.5, learnable=True)
    optimizer = compander_optimizer(model, lr=0.1, weight_decay=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        model(randn(5, 4)).float().square().mean().backward()
    optimizer.step()
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())
    assert parametrize.is_parametrized(model[0])


# ---- weighted k-means ------------------------------------------------------------------------------------------------


def kmeans(*args, **options):
    from weightbook.estimation.soundscape_kmeans import WeightedKMeans

    return WeightedKMeans(*args, **options)


@pytest.mark.parametrize("options", [{}, {"init": "random"}, {"weighted_init": False}], ids=str)
def test_points_without_weight_never_hold_a_centre(options):
    X = np.array([[0.0, 0], [0, 1], [10, 0], [10, 1], [500, 500], [-500, 500], [900, 0]])
    weight = np.array([1.0, 1, 1, 1, 0, 0, 0])
    for seed in range(20):
        model = kmeans(2, n_init=5, random_state=seed, **options).fit(X, sample_weight=weight)
        assert model.inertia_ == pytest.approx(1.0) and model.cluster_centers_.max() < 11
        assert model.labels_.tolist() == model.predict(X).tolist() and model.labels_.shape == (7,)


@pytest.mark.parametrize("metric", ["euclidean", "haversine"])
def test_a_weight_of_three_is_a_point_three_times(metric):
    rng = np.random.default_rng(0)
    X, weight = rng.uniform(-60, 60, (40, 2)), rng.integers(0, 4, 40)
    order = rng.permutation(weight.sum())
    for seed in range(5):
        one = kmeans(6, metric=metric, random_state=seed).fit(X, sample_weight=weight)
        many = kmeans(6, metric=metric, random_state=seed).fit(X.repeat(weight, axis=0)[order])
        assert_close(one.cluster_centers_, many.cluster_centers_, rtol=1e-9)
        assert one.inertia_ == pytest.approx(many.inertia_)


def test_score_transform_and_restarts_are_scikit_learns():
    from sklearn.cluster import KMeans
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(60, 3)), rng.uniform(0.5, 2, 60)
    ours = kmeans(4, init=X[:4]).fit(X, sample_weight=weight)
    theirs = KMeans(4, init=X[:4], n_init=1, tol=0).fit(X, sample_weight=weight)
    assert_close(ours.transform(X), theirs.transform(X), rtol=1e-9)
    assert_close(ours.score(X, sample_weight=weight), theirs.score(X, sample_weight=weight), rtol=1e-9)
    assert_close(ours.score(X), theirs.score(X), rtol=1e-9)
    assert ours.get_feature_names_out().tolist() == [f"weightedkmeans{k}" for k in range(4)]
    again = kmeans(4, init="random", n_init=10, random_state=0).fit(X)
    assert kmeans(4, init="random", random_state=0).fit(X).inertia_ == again.inertia_
    make_pipeline(StandardScaler(), kmeans(3, random_state=0)).fit(X).score(X)
    degrees = rng.uniform(-60, 60, (30, 2))
    globe = kmeans(3, metric="haversine", random_state=0).fit(degrees)
    assert_close(globe.transform(degrees).min(1) ** 2, -np.array([globe.score(d[None]) for d in degrees]), rtol=1e-9)


def test_one_partitions_dunn_index_costs_what_its_definition_costs():
    import time

    from weightbook.estimation.soundscape_kmeans import dunn_index

    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 2))
    labels = rng.integers(0, 9, 900)
    D = np.linalg.norm(X[:, None] - X[None], axis=-1)

    def two_masks():
        same = labels[:, None] == labels[None]
        return D[~same].min() / D[same].max()

    calls, times = (two_masks, lambda: dunn_index(D, labels, metric="precomputed")), ([], [])
    for _ in range(9):
        for call, spent in zip(calls, times, strict=True):
            start = time.thread_time()
            call()
            spent.append(time.thread_time() - start)
    assert calls[1]() == pytest.approx(calls[0](), rel=1e-12) and min(times[1]) < 4 * min(times[0])  # it was 25


# ---- nothing finite from NaN -----------------------------------------------------------------------------------------


def bad(values, at=(0, 0), what=math.nan):
    values = values.clone() if isinstance(values, torch.Tensor) else np.array(values, dtype=float)
    values[at if values.ndim > 1 else 0] = what
    return values


def swallowing(what):
    "name → a call whose input holds `what`, and the arguments that the error names"
    from weightbook.adapting import weight_signatures as ws
    from weightbook.blocks.training import accuracy
    from weightbook.estimation import dpp_least_squares as dpp
    from weightbook.estimation import soundscape_kmeans as s5
    from weightbook.weighting import weighted_cfm as cfm

    x, X, labels = randn(6, 2), np.random.default_rng(0).normal(size=(6, 2)), np.arange(6) % 2
    sign = ws.WeightSignature({"w": randn(3, 2)})
    broken = ws.WeightSignature({"w": bad(randn(3, 2), what=what)})
    basis = dpp.LegendreBasis(2)
    curve = cfm.tilt_curve(x, x, [0.1, 1.0])
    return {
        "wasserstein2": (lambda: cfm.wasserstein2(bad(x, what=what), x), "x"),
        "wasserstein2, second": (lambda: cfm.wasserstein2(x, bad(x, what=what)), "y"),
        "frechet_distance": (lambda: cfm.frechet_distance(bad(x, what=what), x), "a"),
        "precision_recall": (lambda: cfm.precision_recall(bad(x, what=what), x), "real"),
        "sinkhorn": (lambda: cfm.sinkhorn_potentials(bad(x, what=what), x, 1.0), "x0"),
        "pairs": (lambda: cfm.ot_minibatch_pairs(bad(x, what=what), x, method="sinkhorn"), "x0"),
        "pairs, exact": (lambda: cfm.ot_minibatch_pairs(x, bad(x, what=what)), "x1"),
        "select_epsilon": (lambda: cfm.select_epsilon(curve.assign(rv=what)), "curve"),
        "dunn": (lambda: s5.dunn_index(bad(X, what=what), labels), "X"),
        "dunn, distances": (lambda: s5.dunn_index(bad(np.ones((6, 6)), what=what), labels, metric="precomputed"), "X"),
        "assign": (lambda: s5.assign(bad(X, what=what), X[None, :2]), "E"),
        "assign, tensors": (lambda: s5.assign(x, bad(x, what=what)[None]), "V"),
        "means": (lambda: s5.weighted_means(labels[None], X, bad(np.ones(6), what=what), X[None, :2]), "weight"),
        "lloyd": (lambda: s5.lloyd(bad(X, what=what), np.ones(6), X[None, :2], metric="euclidean"), "points"),
        "seeds": (lambda: s5.kmeans_plusplus(lambda i: bad(np.ones((1, 6)), what=what), np.ones((1, 2)) / 2, np.ones(6)), "rows"),
        "sites": (lambda: s5.characteristic_points(bad(X, what=what), X[:2], metric="euclidean"), "X"),
        "tree": (lambda: s5.spanning_edges(bad(np.ones((6, 6)), what=what)), "distances"),
        "selection": (lambda: s5.select_by_dunn(X, ks=(2,), metric="euclidean", distances=bad(np.ones((6, 6)), what=what)),
                      "distances"),
        "pruned": (lambda: s5.PrunedStep(bad(X, what=what), X, np.ones(6)), "E"),
        "inertia": (lambda: s5.weighted_inertia(bad(X, what=what), X[:2], labels), "X"),
        "projection": (lambda: ws.projection_coefficient(randn(3), bad(randn(3), what=what)), "a"),
        "similarity": (lambda: ws.signature_similarity([sign], [broken]), "signatures_b"),
        "boost": (lambda: dpp.boost(lambda size, rng: bad(np.zeros((size, 3, 1)), (0, 0, 0), what), basis, 2), "sampler"),
        "accuracy": (lambda: accuracy(bad(x, what=math.nan), torch.zeros(6, dtype=torch.long)), "outputs"),
        "accuracy_of": (lambda: ws.accuracy_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.full((3, 1, 2, 2), math.nan),
                                               torch.zeros(3, dtype=torch.long)), "model"),
    }


@pytest.mark.parametrize("what", [math.nan, math.inf])
@pytest.mark.parametrize("name", list(swallowing(1.0)))
def test_no_finite_answer_from_what_is_not_finite(name, what):
    call, argument = swallowing(what)[name]
    with pytest.raises(ValueError, match=f"`{argument}"):
        call()


def test_a_window_passes_nan_on():
    from weightbook.sharing.ponita import PolynomialCutoff

    found = PolynomialCutoff(2.0)(torch.tensor([math.nan, 0.0, 3.0, math.inf]))
    assert found[0].isnan() and found[1:].tolist() == [1.0, 0.0, 0.0]


# ---- numbers without a fraction --------------------------------------------------------------------------------------


def test_bases_at_whole_numbers():
    from weightbook.estimation import dpp_least_squares as dpp

    pairs = [(np.array([[-1], [0], [1]]), np.array([[-1.0], [0], [1]]))]
    pairs += [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in pairs]
    for basis in (dpp.LegendreBasis(4), dpp.HermiteBasis(4), dpp.TensorBasis([dpp.HermiteBasis(3)], np.array([[0], [2]])),
                  dpp.FiniteBasis(np.array([[-1.0], [0.5], [1.0]]))):
        for whole, real in pairs:
            for call in (basis, basis.direction):
                if "Finite" in str(type(basis)) and call == basis.direction:
                    continue  # no direction at zero
                found = np.asarray(call(whole))
                assert np.abs(found - np.asarray(call(real))).max() < 1e-6 and found.dtype.kind == "f"


def test_a_time_embedding_at_whole_numbers_and_in_bfloat16():
    from weightbook.weighting.weighted_cfm import time_embedding

    t = torch.tensor([0.0, 1.0])
    assert_close(time_embedding(t.long(), 8), time_embedding(t, 8), rtol=1e-6)
    half = torch.tensor([0.25, 0.7109375])  # both are bfloat16 numbers
    assert (time_embedding(half.bfloat16(), 8).float() - time_embedding(half, 8)).abs().max() < 0.01


# ---- weight signatures -----------------------------------------------------------------------------------------------


def test_batch_norm_statistics_are_all_or_nothing():
    from weightbook.adapting.weight_signatures import update_bn_stats

    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3))
    net.train()(randn(8, 1, 4, 4))
    before = copy.deepcopy(net.state_dict())

    def broken():
        yield randn(4, 1, 4, 4, seed=1)
        raise RuntimeError("the disk is gone")

    for batches, error in (([], ValueError), (broken(), RuntimeError), ([randn(4, 1, 4, 4), randn(4, 7, 4, 4)], RuntimeError)):
        with pytest.raises(error):
            update_bn_stats(net, batches)
        assert all(torch.equal(t, before[key]) for key, t in net.state_dict().items()) and net[1].momentum == 0.1
    update_bn_stats(net, [randn(4, 1, 4, 4)])
    assert not torch.equal(net[1].running_mean, before["1.running_mean"])


def tied_net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4), "norm": nn.BatchNorm1d(4)})
    net["second"].weight = net["first"].weight
    return net


def test_signatures_of_tied_models():
    from weightbook.adapting.weight_signatures import SignaturePatch, WeightSignature, extract_signature

    robust, clean, start = (tied_net(seed) for seed in range(3))
    signature = extract_signature(robust, clean, start)
    target = tied_net(3)
    before = target["first"].weight.detach().clone()
    patch = SignaturePatch(target, signature, 0.5)
    assert_close(target["second"].weight.detach(), before + 0.5 * signature.tensors["first.weight"], rtol=1e-6)
    patch.remove()
    assert torch.equal(target["first"].weight, before) and target["first"].weight is target["second"].weight
    torn = WeightSignature(dict(signature.tensors) | {"second.weight": randn(4, 4)})
    with pytest.raises(ValueError, match="tied"):
        SignaturePatch(target, torn)


def test_patches_nest():
    from weightbook.adapting.weight_signatures import WeightSignature, patched

    net = nn.Linear(3, 2)
    one, two = (WeightSignature({"weight": randn(2, 3, seed=k)}) for k in (0, 1))
    before = net.weight.detach().clone()
    with patched(net, one, weights=0.5) as outer:
        worn = net.weight.detach().clone()
        with patched(net, two, weights=2.0):
            assert_close(net.weight.detach(), worn + 2 * two.tensors["weight"], rtol=1e-6)
        assert torch.equal(net.weight, worn)
        outer.set(1.0)
        assert_close(net.weight.detach(), before + one.tensors["weight"], rtol=1e-6)
    assert torch.equal(net.weight, before)
    with pytest.raises(RuntimeError, match="changed while patched"):
        with patched(net, one):
            net.weight.data.add_(1)
            net.weight.detach().add_(0)


@pytest.mark.parametrize("as_states", [False, True])
def test_running_statistics_are_no_part_of_a_signature(as_states):
    from weightbook.adapting.weight_signatures import extract_signature

    models = [tied_net(seed) for seed in range(3)]
    signature = extract_signature(*[m.state_dict() for m in models] if as_states else models)
    assert "norm.weight" in signature.tensors and not [key for key in signature.tensors if "running" in key]


def test_half_precision_only_where_the_device_has_it(monkeypatch):
    from weightbook.adapting.weight_signatures import accuracy_of
    from weightbook.blocks.training import bfloat16_pays

    seen = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    net[1].register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert bfloat16_pays("cpu") is able and bfloat16_pays("cuda")
        accuracy_of(net, torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.long), half=True)
    assert seen == [torch.bfloat16, torch.float32]


# ---- flows in bfloat16 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["autocast", "bfloat16"])
def test_flow_matching_in_bfloat16(way):
    from weightbook.weighting.weighted_cfm import VelocityUNet, integrate, wcfm_loss

    torch.manual_seed(0)
    net = VelocityUNet(1, width=8)
    for p in net.parameters():  # the last convolutions start at zero
        p.data += 0.05 * randn(*p.shape)
    x0, x1, t = randn(8, 1, 8, 8), randn(8, 1, 8, 8, seed=1), torch.linspace(0.1, 0.9, 8)
    wanted = wcfm_loss(net, x0, x1, t, eps=5.0).item()
    end = integrate(net, x0, n_steps=4).x
    if way == "bfloat16":
        net, x0, x1, t = net.bfloat16(), x0.bfloat16(), x1.bfloat16(), t.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        loss = wcfm_loss(net, x0, x1, t, eps=5.0)
        found = integrate(net, x0, n_steps=4).x
    loss.backward()
    assert loss.dtype == torch.float32 and abs(loss.item() - wanted) < 0.02 * wanted
    assert (found.float() - end).norm() < 0.05 * end.norm()


def test_times_in_bfloat16_are_not_256_numbers():
    from weightbook.weighting.weighted_cfm import WeightedConditionalFlowMatcher

    x = torch.zeros(20_000, 2, dtype=torch.bfloat16)
    t = WeightedConditionalFlowMatcher().sample_location_and_conditional_flow(x, x, generator=gen())[0]
    assert t.dtype == torch.bfloat16 and len(t.unique()) > 500


# ---- regressors ------------------------------------------------------------------------------------------------------


def rows(count: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (count, 1))
    return X, np.exp(X[:, 0]) + 0.1 * rng.normal(size=count)


def test_the_bare_regressor_is_ordinary_least_squares():
    from sklearn.linear_model import LinearRegression

    from weightbook.estimation.dpp_least_squares import AveragedLeastSquares, WeightedLeastSquares

    X, y = rows()
    X = np.column_stack([X, X**3 + np.arange(30) ** 2])
    weight = np.random.default_rng(1).uniform(0, 3, 30) * (np.arange(30) % 5 > 0)
    for w in (None, weight):
        theirs = LinearRegression().fit(X, y, sample_weight=w).predict(X)
        assert_close(WeightedLeastSquares().fit(X, y, sample_weight=w).predict(X), theirs, rtol=1e-9)
        assert_close(AveragedLeastSquares(blocks=1).fit(X, y, sample_weight=w).predict(X), theirs, rtol=1e-9)


def test_sample_weights_are_repetitions_beside_the_sampling_density():
    from weightbook.estimation.dpp_least_squares import LegendreBasis, WeightedLeastSquares

    X, y = rows()
    weight = np.arange(30) % 4
    one = WeightedLeastSquares(LegendreBasis(4)).fit(X, y, sample_weight=weight)
    many = WeightedLeastSquares(LegendreBasis(4)).fit(X.repeat(weight, axis=0), y.repeat(weight))
    assert_close(one.coef_, many.coef_, rtol=1e-9)
    assert_close([one.lambda_min_, one.lambda_max_], [many.lambda_min_, many.lambda_max_], rtol=1e-9)


def test_points_outside_of_the_law_are_refused():
    from weightbook.estimation import dpp_least_squares as dpp

    X, y = rows()
    square = dpp.TensorBasis([dpp.LegendreBasis(2)] * 2, np.array([[0, 0], [1, 0], [0, 1]]))
    model = dpp.WeightedLeastSquares(dpp.LegendreBasis(3)).fit(X, y)
    for call in (
        lambda: dpp.WeightedLeastSquares(dpp.LegendreBasis(3)).fit(2 * X, y), lambda: model.predict([[1.5]]),
        lambda: dpp.WeightedLeastSquares(dpp.PiecewiseConstantBasis(3)).fit(X, y),
        lambda: dpp.WeightedLeastSquares(square).fit(np.column_stack([X, 3 * X]), y),
    ):
        with pytest.raises(ValueError, match="`X` must lie"):
            call()
    dpp.WeightedLeastSquares(dpp.HermiteBasis(3)).fit(9 * X, y).predict([[100.0]])


# ---- documentation where people look ---------------------------------------------------------------------------------


def test_help_shows_parameters_results_and_errors():
    import inspect
    import subprocess
    import sys

    from weightbook.adapting.weight_signatures import WeightSignature
    from weightbook.estimation.soundscape_kmeans import WeightedKMeans, haversine
    from weightbook.reparam.compander import FlatCompander

    for text, parts in (
        (haversine.__doc__, ("a : Sequence\n    (N, 2): latitude", "radius : float, default EARTH_RADIUS",
                             "Returns\n-------\nnp.ndarray", "TypeError")),
        (FlatCompander.__doc__, ("model : nn.Module\n    an initialised model", "default 'arctan'")),
        (WeightedKMeans.fit.__doc__, ("sample_weight", "(N,): weights >= 0; default: ones")),
        (WeightSignature.__doc__, ("tensors : Mapping[str, Tensor]\n    floating point",)),
        (WeightSignature.numel.__doc__, ("number of scalars",)),
    ):
        assert all(part in inspect.cleandoc(text) for part in parts), text
    quick = "import sys, time; a = time.process_time(); import weightbook; b = time.process_time(); "
    quick += "assert b - a < 0.2 and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", quick], check=True)
