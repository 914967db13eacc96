"""Scaling laws from a table of runs: fit, compare, predict, plan. Needs numpy and scipy only, no torch.

table = Table.read("runs.csv")
law = fit(FitConfig(form="product", columns={"P": "params", "S": "samples", "T": "t0", "y": "loss"}), table)
law["all"].predict({"P": 1e9, "S": 1e7, "T": 6.02})
"""

from polyglance.laws.compare import CompareConfig, Comparison, Score, compare
from polyglance.laws.costs import Budget, Candidate, read_candidates
from polyglance.laws.downstream import Downstream
from polyglance.laws.fit import FitConfig, fit
from polyglance.laws.forms import Form, PowerSum, Term, additive, compute, product
from polyglance.laws.frontier import FrontierConfig, pareto_frontier
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, Law, Prediction, Warning
from polyglance.laws.plan import Gain, NextRun, Option, Plan, PlanConfig, expected_new_group, plan
from polyglance.laws.published import PUBLISHED, published
from polyglance.laws.table import Table

__all__ = [
    "PUBLISHED",
    "Budget",
    "Candidate",
    "CompareConfig",
    "Comparison",
    "Downstream",
    "Estimate",
    "Fit",
    "FitConfig",
    "Form",
    "FrontierConfig",
    "Gain",
    "Law",
    "NextRun",
    "Option",
    "Plan",
    "PlanConfig",
    "PowerSum",
    "Prediction",
    "Score",
    "Table",
    "Term",
    "Warning",
    "additive",
    "compare",
    "compute",
    "expected_new_group",
    "fit",
    "pareto_frontier",
    "plan",
    "product",
    "published",
    "read_candidates",
]
