"""Scaling laws from a table of runs: fit, compare, predict, plan. Needs numpy and scipy only, no torch.

    table = Table.read("runs.csv")
    law = fit(FitConfig(form="product", columns={"P": "params", "S": "samples", "T": "t0", "y": "loss"}), table)
    law["all"].predict({"P": 1e9, "S": 1e7, "T": 6.02})
"""

from polyglance.laws.downstream import Downstream
from polyglance.laws.fit import FitConfig, fit
from polyglance.laws.forms import Form, PowerSum, Term, additive, compute, product
from polyglance.laws.frontier import FrontierConfig, pareto_frontier
from polyglance.laws.law import Fit, Law, Prediction, Warning
from polyglance.laws.table import Table

__all__ = [
    "Downstream",
    "Fit",
    "FitConfig",
    "Form",
    "FrontierConfig",
    "Law",
    "PowerSum",
    "Prediction",
    "Table",
    "Term",
    "Warning",
    "additive",
    "compute",
    "fit",
    "pareto_frontier",
    "product",
]
