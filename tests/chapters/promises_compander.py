"""Promises of `weightbook.reparam.compander`, see tests/promise_table.py."""

from fuzz import net, t
from promise_reasons import READS

from weightbook.reparam import compander as m

HOME = "reparam.compander"
ROWS = {
    "PowerPropagation": lambda: (m.PowerPropagation(1.5), (t(5),)),
    "WeightCompander": lambda: (m.WeightCompander(learnable=True), (t(5),)),
    "weight_compander, its layer": lambda: (m.weight_compander(net(3, 2)[0], learnable=True), (t(4, 3),)),
    "compand_model, its model": lambda: (m.compand_model(net(3, 4, 2)), (t(4, 3),)),
    "FlatCompander": lambda: (m.FlatCompander(net(3, 4, 2)), (t(4, 3),)),
}
NO = {  # columns, reason -> names
    ("compile export vmap", READS): "compand_inverse",
}  # fmt: skip
UNTRIED = {}
