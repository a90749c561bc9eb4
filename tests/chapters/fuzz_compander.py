"""Right calls of the public names of `weightbook.reparam.compander`, see tests/fuzz.py."""

import torch
from fuzz import RACE, RECORD, Free, Wide, a, net, t, table
from torch import nn


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
