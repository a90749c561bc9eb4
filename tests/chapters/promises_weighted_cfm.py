"""Promises of `weightbook.weighting.weighted_cfm`, see tests/promise_table.py."""

import torch
from fuzz import t
from promise_reasons import GENERATOR, READS, REPORT, WIDE
from promises_blocks import small

from weightbook.weighting import weighted_cfm as m

HOME = "weighting.weighted_cfm"
ROWS = {
    "StackedVelocity": lambda: (
        small(m.StackedVelocity, 2, dim=2, width=4, depth=1), (torch.tensor([[0.1, 0.5], [0.3, 0.9]]), t(2, 2, 2))),
    "VelocityUNet": lambda: (
        small(m.VelocityUNet, 1, width=4, mults=[1, 2], blocks=1), (torch.tensor([0.1, 0.7]), t(2, 1, 4, 4))),
    "WeightedConditionalFlowMatcher": lambda: (
        m.WeightedConditionalFlowMatcher(1.0).sample_location_and_conditional_flow,
        (t(4, 2), t(4, 2, seed=1), torch.tensor([0.1, 0.4, 0.6, 0.9]))),
}  # fmt: skip
SLOW = {"VelocityUNet"}
NO = {  # columns, reason -> names
    ("compile export", READS): "sinkhorn_potentials exact_gaussian_prior_velocity minibatch_plan ot_minibatch_pairs",
    ("vmap", READS): "minibatch_plan ot_minibatch_pairs",
    ("export vmap", REPORT): "tilt_statistics weight_variance",
    ("compile export vmap", REPORT): "wasserstein2 frechet_distance precision_recall",
    ("compile export vmap", "steps through torchdiffeq, whose steps depend on values, in float64"): "integrate",
    ("grad", REPORT): "wasserstein2",
    ("grad", "weights are constants of a loss and are detached on purpose"): (
        "gibbs_weights_from_cost gibbs_weights tilt_statistics wcfm_loss WeightedConditionalFlowMatcher"),
    ("grad", "samples: no gradient is kept through a flow"): "integrate",
    ("bfloat16", WIDE): (
        "pair_cost cost_matrix sinkhorn_potentials gibbs_weights tilt_statistics minibatch_plan "
        "bridge_reference bridge integrate WeightedConditionalFlowMatcher"),
    ("bfloat16", "times or distances are rounded before they are amplified"): "exact_gaussian_prior_velocity time_embedding",
    ("float64", GENERATOR): "ot_minibatch_pairs",
}  # fmt: skip
UNTRIED = {}
