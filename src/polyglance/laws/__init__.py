"""Scaling laws from a table of runs: fit, compare, predict, plan. Needs numpy and scipy only, no torch.

    table = Table.read("runs.csv")
    law = fit_law(FitConfig(form="product", columns={"P": "params", "S": "samples", "T": "t0", "y": "loss"}), table)
    predict_with_law(law, {"P": 1e9, "S": 1e7, "T": 6.02})

Functions: `fit_law`, `make_law`, `compare_laws`, `predict_with_law`, `predict_new_group`, `plan_with_law`,
`spend_budget`; their settings are the `...Config` classes and `Budget`. Inputs are a `Table` of runs and `Candidate`
models (`read_candidates`). A `Law` has a `Fit` per group and is saved as a file (`load_law` reads it). Forms of laws:
`make_form` for the built-in ones, a `PowerSum` of `Term`s, or a subclass of `Form`. `polyglance.laws.text` prints
results, `polyglance.laws.plot` draws them.

Files, from the lowest to the highest (imports point to earlier ones only):
    arrays, numerals, table_frames, table_files, table    types, numbers as people write them, tables of runs
    roles, form, power_sum, forms               what columns count, equations
    objectives, intervals, transforms           objectives, intervals, scores with a ceiling
    config, frontier                            settings, Pareto frontier
    expressions, prepare, describe              computed columns and conditions, the table that is fitted, what it holds
    law, rows, scores                           records and the law file; the rows that are fitted; scores noticed
    solve, layout, levels, uncertainty          solver; free parameters; runs that are alike; bootstrap
    accuracy, held_out, diagnose, fit           R^2 and held-out errors; warnings; `fit_law`
    make, paper_laws, published                 laws from constants; the catalogue (published.toml)
    compare, predict                            uses of a law
    costs, limits, question, gains, plan        candidates and their costs; limits; what a target needs
    budget_line, continuum, spend               what a budget buys: the best size and candidate
    text, plot                                  output
"""

from polyglance.laws.compare import LawComparison, compare_laws
from polyglance.laws.config import Budget, CompareConfig, FitConfig, FormConfig, PlanConfig, PrepareConfig
from polyglance.laws.costs import Candidate, read_candidates
from polyglance.laws.describe import TableDescription, describe_table
from polyglance.laws.fit import fit_law
from polyglance.laws.form import Form, Term
from polyglance.laws.forms import make_form
from polyglance.laws.frontier import find_pareto_frontier
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, HeldOut, Law, LawWarning, Prediction
from polyglance.laws.make import MakeConfig, make_law
from polyglance.laws.plan import LawPlan, plan_with_law
from polyglance.laws.power_sum import PowerSum
from polyglance.laws.predict import predict_new_group, predict_with_law
from polyglance.laws.published import PUBLISHED_LAWS, PublishedLaw, list_published_laws, load_law
from polyglance.laws.spend import BudgetPlan, spend_budget
from polyglance.laws.table import Table

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
