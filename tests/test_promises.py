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
