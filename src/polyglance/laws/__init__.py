"""Scaling laws from a table of runs: fit, compare, predict, plan. Needs numpy and scipy only, no torch.

    table = Table.read("runs.csv")
    law = fit_law(FitConfig(form="product", columns={"P": "params", "S": "samples", "T": "t0", "y": "loss"}), table)
    predict_with_law(law, {"P": 1e9, "S": 1e7, "T": 6.02})

Functions: `fit_law`, `make_law`, `compare_laws`, `predict_with_law`, `predict_new_group`, `plan_with_law`,
`spend_budget`; their settings are the `...Config` classes and `Budget`. Inputs are a `Table` of runs and `Candidate`
models (`read_candidates`). A `Law` has a `Fit` per group and is saved as a file (`load_law` reads it). Forms of laws:
`make_form` for the built-in ones, a `PowerSum` of `Term`s, or a subclass of `Form`. `polyglance.laws.text` prints
results, `polyglance.laws.plot` draws them.

Folders and files, from the lowest to the highest (imports point to earlier ones only):
    arrays, intervals   array types; intervals from draws
    equations/          what columns count (roles), the terms of a law, the built-in forms, scores with a ceiling
    tables/             files and frames as tables of runs, computed columns and conditions, the table that is fitted
    config, law         settings; records of a fit, and the law file
    fitting/            rows, solver, bootstrap, held-out errors, warnings: `fit_law`, `compare_laws`
    predict             predictions of a law
    planning/           candidates and their costs, what a target needs, what a budget buys
    constants/          laws from constants, and the catalogue (published.toml)
    text, plot          output
"""

from polyglance.laws.config import Budget, CompareConfig, FitConfig, FormConfig, PlanConfig, PrepareConfig
from polyglance.laws.constants.make import MakeConfig, make_law
from polyglance.laws.constants.published import PUBLISHED_LAWS, PublishedLaw, list_published_laws, load_law
from polyglance.laws.equations.form import Form, Term
from polyglance.laws.equations.forms import make_form
from polyglance.laws.equations.power_sum import PowerSum
from polyglance.laws.fitting.compare import LawComparison, compare_laws
from polyglance.laws.fitting.fit import fit_law
from polyglance.laws.fitting.frontier import find_pareto_frontier
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, HeldOut, Law, LawWarning, Prediction
from polyglance.laws.planning.costs import Candidate, read_candidates
from polyglance.laws.planning.plan import LawPlan, plan_with_law
from polyglance.laws.planning.spend import BudgetPlan, spend_budget
from polyglance.laws.predict import predict_new_group, predict_with_law
from polyglance.laws.tables.describe import TableDescription, describe_table
from polyglance.laws.tables.table import Table

__all__ = [
    "PUBLISHED_LAWS",
    "Budget",
    "BudgetPlan",
    "Candidate",
    "CompareConfig",
    "Estimate",
    "Fit",
    "FitConfig",
    "Form",
    "FormConfig",
    "HeldOut",
    "Law",
    "LawComparison",
    "LawPlan",
    "LawWarning",
    "MakeConfig",
    "PlanConfig",
    "PowerSum",
    "Prediction",
    "PrepareConfig",
    "PublishedLaw",
    "Table",
    "TableDescription",
    "Term",
    "compare_laws",
    "describe_table",
    "find_pareto_frontier",
    "fit_law",
    "list_published_laws",
    "load_law",
    "make_form",
    "make_law",
    "plan_with_law",
    "predict_new_group",
    "predict_with_law",
    "read_candidates",
    "spend_budget",
]
