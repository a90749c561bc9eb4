"""Right calls of the public names of `weightbook.sharing.ponita`, see tests/fuzz.py."""

import torch
from fuzz import RACE, RECORD, Fixed, Free, Wide, a, t, table, unit


def graph(n=5):
    return dict(pos=t(n, 3), scalar=t(n, 1, seed=1), vec=t(n, 1, 3, seed=2))


def small_ponita(m):
    torch.manual_seed(0)
    return m.Ponita(1, 1, hidden=4, out_vec=1, layers=1, num_ori=3, grid="fibonacci")


def edges(m):
    return m.arrange_edges(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)


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
