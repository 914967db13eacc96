"""How often each warning of a fit is said of clean tables, and of tables with the fault that it is for.

    OMP_NUM_THREADS=1 python benchmarks/laws_warnings.py [--tables 100] [--objective log-huber]

Clean tables follow a known law with normal noise, in designs that determine it: 4 x 4 x 3 runs of a product law, 8 x 8
of an additive one, 40 runs of a compute law, 20 on its frontier, 40 scores fitted by their errors. Faulty ones have one
fault, drawn anew for each table.
Goals: a warning in at most 5 % of clean tables, and in at least 80 % of those with its fault.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polyglance.laws import FitConfig, Form, Table, fit_law
from polyglance.laws.arrays import Floats
from polyglance.laws.fitting.objectives import OBJECTIVES

Columns = dict[str, Any]
Random = np.random.Generator


@dataclass(frozen=True)
class Case:
    """A kind of tables, and how a law is fitted to them."""

    make: Callable[[Random], Columns]
    options: dict[str, Any] = field(default_factory=dict)
    form: Form | None = None
    """A form that is not built in."""


def cross(*axes: Any) -> Any:
    return np.array(np.meshgrid(*axes)).reshape(len(axes), -1)


def noisy(y: Any, rng: Random, noise: float = 0.01) -> Any:
    return y * np.exp(noise * rng.standard_normal(len(y)))


def product(rng: Random, p: Any = None, s: Any = None, t: Any = None) -> Columns:
    if p is None:
        p, s, t = cross(np.geomspace(1e7, 1e11, 4), np.geomspace(1e5, 1e9, 4), [1.5, 4.0, 12.0])
    return {"P": p, "S": s, "T": t, "y": noisy(60 * p**-0.12 * s**-0.2 * t**0.4 + 0.8, rng)}


def additive(rng: Random) -> Columns:
    n, d = cross(np.geomspace(5e7, 1.6e10, 8), np.geomspace(1e9, 5e11, 8))
    return {"N": n, "D": d, "y": noisy(1.8 + 480 / n**0.35 + 2100 / d**0.37, rng, 0.005)}


def compute(
    rng: Random, rows: int = 40, low: float = 3, high: float = 9, a1: float = -0.2, eps: float = 0.5
) -> Columns:
    c = np.logspace(low, high, rows)
    return {"C": c, "y": noisy(20 * c**a1 + eps, rng, 0.005)}


def frontier(rng: Random) -> Columns:
    c = np.repeat(np.logspace(3, 9, 20), 4)
    sizes = np.tile(["a", "b", "c", "d"], 20)
    return {"C": c, "size": sizes, "y": (20 * c**-0.2 + 0.5) * (1 + 0.2 * rng.random(80))}


def with_wrong_row(rng: Random) -> Columns:
    columns = product(rng)
    columns["y"][rng.integers(len(columns["y"]))] *= np.exp(rng.choice([-1, 1]) * 0.1)
    return columns


def with_copies(rng: Random) -> Columns:
    columns, twice = product(rng), rng.integers(0, 48, 3)
    return {name: np.concatenate([column, column[twice]]) for name, column in columns.items()}


def with_checkpoints(rng: Random) -> Columns:
    p, s = np.repeat(np.geomspace(1e8, 1e10, 4), 12), np.tile(np.geomspace(1e5, 1e8, 12), 4)
    runs = 0.01 * rng.standard_normal(4)[np.repeat(np.arange(4), 12)]
    return {"P": p, "S": s, "y": (60 * p**-0.12 * s**-0.2 + 0.8) * np.exp(runs + 0.002 * rng.standard_normal(48))}


def with_runs(rng: Random) -> Columns:
    return {**with_checkpoints(rng), "run": np.repeat(np.arange(4), 12)}


def with_families(rng: Random) -> Columns:
    p = np.repeat([0.4e9, 1.0e9, 3.5e9, 11.2e9], 6)
    return product(rng, p, np.tile(np.geomspace(0.5e6, 1e8, 6), 4), np.where(p < 2e9, 10.44, 6.02))


def with_constant(rng: Random) -> Columns:
    return product(rng, *cross(np.geomspace(1e7, 1e11, 6), np.geomspace(1e5, 1e9, 6), [4.0]))


def with_two_levels(rng: Random) -> Columns:
    return product(rng, *cross(np.geomspace(1e7, 1e11, 5), np.geomspace(1e5, 1e9, 5), [1.5, 12.0]))


def with_no_effect(rng: Random) -> Columns:
    p, s, t = cross(np.geomspace(1e7, 1e11, 4), np.geomspace(1e5, 1e9, 4), [1.5, 4.0, 12.0])
    return {"P": p, "S": s, "T": t, "y": noisy(60 * p**-0.12 * s**-0.2 + 0.8, rng)}


def with_bumps(rng: Random) -> Columns:
    c = np.repeat(np.logspace(3, 6, 8), 4)
    return {"C": c, "y": noisy((50 * c**-0.3 + 1) * (1 + 0.05 * np.sin(2 * np.log(c))), rng)}


def without_growth(rng: Random) -> Columns:
    return {"C": np.logspace(3, 9, 40), "y": np.exp(0.1 * rng.standard_normal(40))}


def with_end(rng: Random) -> Columns:
    """Model a is the best one up to a compute at which its runs end."""
    columns = frontier(rng)
    is_first = columns["size"] == "a"
    chosen = is_first & (columns["C"] > 1e5)
    columns["y"] = np.where(is_first, 20 * columns["C"] ** -0.2 + 0.5, columns["y"])
    return {name: np.asarray(column)[~chosen] for name, column in columns.items()}


def with_harm(rng: Random) -> Columns:
    """More data does harm, which a term with a positive exponent cannot say."""
    columns = additive(rng)
    return {**columns, "y": columns["y"] - 2100 / columns["D"] ** 0.37 + 0.05 * np.log10(columns["D"])}


def with_alike_sizes(rng: Random) -> Columns:
    columns = product(rng)
    shift = dict(zip(np.unique(columns["P"]), 0.03 * rng.standard_normal(4), strict=True))
    return {**columns, "y": columns["y"] * np.exp([shift[p] for p in columns["P"]])}


def scores(rng: Random) -> Columns:
    c = np.logspace(3, 9, 40)
    return {"C": c, "y": 1 - noisy(3 * c**-0.2 + 0.1, rng, 0.02)}


class WrongDerivative(Form):
    """A user's form, y = a / (x + shift), with the wrong sign of its derivative."""

    name = "wrong-derivative"
    predictors = ("C",)
    parameters = ("log_a", "log_shift")
    logarithmic = False

    def log_mean(self, theta: Floats, design: Any) -> Floats:
        return np.asarray(theta[:, :1] - np.log(design[:, 0] + np.exp(theta[:, 1:])))

    def jacobian(self, theta: Floats, design: Any) -> Floats:
        return -super().jacobian(theta, design)

    def starts(self, z: Floats, log_y: Floats) -> Floats:
        del z, log_y
        return np.array([[0.0, 0.0], [1.0, 1.0]])


def one_size(rng: Random) -> Columns:
    columns = frontier(rng)
    return {**columns, "y": np.where(columns["size"] == "a", 0.8, 1.0) * columns["y"]}


PRODUCT: dict[str, Any] = {"columns": {"P": "P", "S": "S", "T": "T"}}
TWO: dict[str, Any] = {"columns": {"P": "P", "S": "S"}}
ADDITIVE: dict[str, Any] = {"form": "additive", "columns": {"N": "N", "D": "D"}}
COMPUTE: dict[str, Any] = {"form": "compute", "columns": {"C": "C"}}
FRONTIER = {**COMPUTE, "frontier": True, "size": "size"}
CLEAN = {
    "product": Case(product, PRODUCT),
    "additive": Case(additive, ADDITIVE),
    "compute": Case(compute, COMPUTE),
    "frontier": Case(frontier, FRONTIER),
    "scores": Case(scores, {**COMPUTE, "transform": "error"}),
}
FAULTY = {
    "influential-row": Case(with_wrong_row, PRODUCT),
    "duplicate-rows": Case(with_copies, PRODUCT),
    "checkpoints-as-rows": Case(with_checkpoints, TWO),
    "few-clusters": Case(
        lambda rng: {**with_checkpoints(rng), "run": np.repeat(np.arange(4), 12)}, {**TWO, "cluster": "run"}
    ),
    "confounded": Case(with_families, PRODUCT),
    "nested": Case(with_families, PRODUCT),
    "few-levels": Case(with_two_levels, PRODUCT),
    "constant-predictor": Case(with_constant, PRODUCT),
    "narrow-range": Case(lambda rng: compute(rng, low=3, high=3.2), COMPUTE),
    "exponent-near-zero": Case(with_no_effect, PRODUCT),
    "too-few-rows": Case(lambda rng: compute(rng, rows=4), COMPUTE),
    "no-interval": Case(lambda rng: compute(rng, rows=3), COMPUTE),
    "offset-at-zero": Case(lambda rng: compute(rng, eps=-0.05), COMPUTE),
    "offset-uncertain": Case(lambda rng: compute(rng, low=3, high=4, a1=-0.05), COMPUTE),
    "offset-against-exponent": Case(lambda rng: compute(rng, low=3, high=6), COMPUTE),
    "bound-hit": Case(compute, {**COMPUTE, "bounds": {"a1": (-0.1, 0.0)}}),
    "term-vanished": Case(with_harm, {**ADDITIVE, "bounds": {"beta": (0.1, 2.0)}}),
    "alike-levels": Case(with_alike_sizes, PRODUCT),
    "score-like": Case(scores, COMPUTE),
    "loss-like": Case(lambda rng: {**scores(rng), "y": 1 - scores(rng)["y"]}, {**COMPUTE, "transform": "error"}),
    "unmoved-start": Case(compute, {"form": "compute", "columns": {"C": "C"}}, WrongDerivative()),
    "not-converged": Case(compute, {"form": "compute", "columns": {"C": "C"}}, WrongDerivative()),
    "lack-of-fit": Case(with_bumps, COMPUTE),
    "poor-fit": Case(without_growth, COMPUTE),
    "dominated-rows": Case(frontier, COMPUTE),
    "frontier-short": Case(lambda rng: compute(rng, rows=4), {**COMPUTE, "frontier": True}),
    "frontier-one-size": Case(one_size, FRONTIER),
    "frontier-edge": Case(with_end, FRONTIER),
}
"""Code -> tables with its fault. The other codes speak of what the solver did, and are expected of no table:
starts-disagree, failed-refits."""


def count(case: Case, objective: str, num_tables: int, num_draws: int) -> Counter[str]:
    """Return the number of tables in which each code is said; those of severity info are marked."""
    said: Counter[str] = Counter()
    for seed in range(num_tables):
        config = FitConfig(objective=objective, bootstrap=num_draws, **case.options)  # type: ignore[arg-type]
        law = fit_law(config, Table.from_columns(case.make(np.random.default_rng(seed))), form=case.form)
        severities = {warning.code: warning.severity for warning in (*law.warnings, *law.only.warnings)}
        said.update(code if severity != "info" else f"{code} (info)" for code, severity in severities.items())
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--bootstrap", type=int, default=100)
    parser.add_argument("--objective", choices=OBJECTIVES, default="log-huber")
    options = parser.parse_args()
    print(f"{options.objective}, {options.tables} tables of each kind, {options.bootstrap} refits")
    for name, case in CLEAN.items():
        said = count(case, options.objective, options.tables, options.bootstrap)
        shares = ", ".join(f"{code} {100 * number / options.tables:.0f} %" for code, number in sorted(said.items()))
        print(f"clean {name:10s} {shares or 'nothing'}", flush=True)
    for code, case in FAULTY.items():
        said = count(case, options.objective, options.tables, options.bootstrap)
        power = (said[code] + said[f"{code} (info)"]) / options.tables
        print(f"fault {code:24s} {100 * power:.0f} %{'' if power >= 0.8 else '  below the goal'}", flush=True)


if __name__ == "__main__":
    main()
