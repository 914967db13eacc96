"""Fitting a law to a table of runs: `fit(FitConfig(...), table) -> Law`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from polyglance.laws.data import ALL, Rows, labels_in_order, read_rows, resolve_form
from polyglance.laws.describe import describe, frontier_of
from polyglance.laws.forms import Form
from polyglance.laws.frontier import FrontierConfig
from polyglance.laws.law import Fit, Law
from polyglance.laws.objectives import Objective, ObjectiveName
from polyglance.laws.setup import Layout, lay_out, second_start, thinned
from polyglance.laws.solve import SCAN, Solution, minimise
from polyglance.laws.table import Table
from polyglance.laws.uncertainty import Method, bootstrap, choose_method

__all__ = ["FitConfig", "fit"]

Floats = NDArray[np.float64]

NUM_POLISHED = 8
"""How many of the scanned starts are followed to the end."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What to fit, to which columns, and how."""

    form: str | Form = "product"
    """compute, product, additive, compute-v1, product-v1, or a form of your own."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name in the law -> column of the table, as in {"P": "params", "y": "loss"}; same names need no entry."""
    group: str | None = None
    """Column whose values (a split, a language) each get a law of their own."""
    cluster: str | None = None
    """Column that tells which rows belong together, such as the run that checkpoints come from."""
    weight: str | None = None
    """Column of positive weights."""
    size: str | None = None
    """Column that names the model of a row; used by the frontier's diagnosis and by held-out scores."""
    objective: ObjectiveName = "log-huber"
    """What is minimised, summed over rows."""
    delta: float = 1e-3
    """Where log-huber turns linear, in log y."""
    overestimate: float = 10.0
    """How much more an overestimate counts, asymmetric objective only."""
    offset: bool | None = None
    """Whether the form has its offset (eps, E); None leaves it to the form."""
    fix: Mapping[str, float] = field(default_factory=dict)
    """Parameters that are given, in reported units."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest value of parameters, in reported units; {"b_T": (0, inf)} constrains a sign."""
    share: tuple[str, ...] = ()
    """Parameters that all groups have in common; the groups are then fitted jointly."""
    frontier: bool = False
    """Compute law only: fit the Pareto frontier of each group, not all rows."""
    frontier_options: FrontierConfig = field(default_factory=FrontierConfig)
    """Which runs may be on the frontier."""
    bootstrap: int = 1000
    """Number of bootstrap replicates; 0 gives no intervals."""
    method: Method = "auto"
    """pairs, wild, or auto: wild where clusters are few."""
    profile: bool = False
    """Whether to add profile likelihood intervals."""
    confidence: float = 0.95
    """Of all intervals."""
    seed: int = 0
    bad_rows: Literal["error", "drop"] = "error"
    """Whether a row that cannot be used is an error, or is left out with a warning."""

    def __post_init__(self) -> None:
        if self.bootstrap < 0 or 0 < self.bootstrap < 20:
            raise ValueError(f"bootstrap is {self.bootstrap}; it must be 0 or at least 20 replicates")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; it must be at least 0.5 and below 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
        Objective(name=self.objective, delta=self.delta, overestimate=self.overestimate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the artefact; infinite bounds become null."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["form"] = self.form.name if isinstance(self.form, Form) else self.form
        plain["columns"], plain["fix"] = dict(self.columns), dict(self.fix)
        plain["bounds"] = {k: [None if np.isinf(end) else end for end in ends] for k, ends in self.bounds.items()}
        plain["frontier_options"] = vars(self.frontier_options)
        plain["share"] = list(self.share)
        return plain


def fit(config: FitConfig, table: Table) -> Law:
    """Fit a law, or one per group, with intervals and warnings.

    Raises:
        ValueError: a column is missing, rows cannot be used, too few rows, or contradictory options; one line.
    """
    form, columns = resolve_form(config)
    rows, table_warnings = read_rows(config, form, columns, table)
    if config.frontier and len(form.predictors) != 1:
        raise ValueError(f"a frontier is of loss against compute alone; form {form.name!r} has several predictors")
    groups = {label: rows.take(rows.groups == label) for label in labels_in_order(rows.groups)}
    chosen = _choose(config, groups)
    if config.share and len(groups) > 1:
        fits = _fit_together(config, form, chosen, groups)
    else:
        fits = {label: _fit_together(config, form, {label: part}, groups)[label] for label, part in chosen.items()}
    used = [name for name in (*columns.values(), config.group, config.cluster, config.weight, config.size) if name]
    return Law(
        form=form.name,
        columns=columns,
        fits=fits,
        config=config.to_dict(),
        data={
            "source": table.source,
            "fingerprint": table.fingerprint(used),
            "num_rows": len(table),
            "dropped": {str(index + 1): reason for index, reason in rows.dropped.items()},
            "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        },
        warnings=tuple(table_warnings),
    )


def _choose(config: FitConfig, groups: Mapping[str, Rows]) -> dict[str, Rows]:
    """Per group the rows to fit: all of them, or the frontier."""
    if not config.frontier:
        return dict(groups)
    return {label: rows.take(np.sort(frontier_of(config, rows))) for label, rows in groups.items()}


def _fit_together(
    config: FitConfig, form: Form, groups: Mapping[str, Rows], everything: Mapping[str, Rows]
) -> dict[str, Fit]:
    """One minimisation over the rows of all given groups."""
    layout = lay_out(config, form, groups)
    if len(layout.y) < len(layout.free):
        names = ", ".join(name for name, _ in layout.free)
        where = "" if ALL in groups else f"group {next(iter(groups))!r}: "
        raise ValueError(f"{where}{len(layout.y)} rows cannot determine {len(layout.free)} parameters ({names})")
    polished, num_starts = solve_from_starts(config, layout)
    best = polished[[int(np.argmin(polished.value))]]
    draws = _draws(config, layout, best)
    return {label: describe(config, layout, label, everything[label], polished, num_starts, draws) for label in groups}


def solve_from_starts(config: FitConfig, layout: Layout) -> tuple[Solution, int]:
    """Scan all data-driven starts, polish the best; the polished ones and the number scanned."""
    starts = layout.starts()
    part = thinned(config, layout)
    scanned = minimise(part.problem, starts, part.y[None], part.weights[None], SCAN)
    values = np.where(np.isfinite(scanned.value), scanned.value, np.inf)
    best = np.argsort(values, kind="stable")[: NUM_POLISHED if part is layout else 2]
    return minimise(layout.problem, scanned.free[best], layout.y[None], layout.weights[None]), len(starts)


def _draws(config: FitConfig, layout: Layout, best: Solution) -> Solution:
    """Bootstrap replicates of the free parameters."""
    if config.bootstrap == 0:
        return best[:0]
    return bootstrap(
        layout.problem,
        np.stack([best.free[0], second_start(layout, best.free[0])]),
        layout.y[None],
        layout.weights[None],
        layout.clusters,
        num_draws=config.bootstrap,
        method=choose_method(config.method, int(layout.clusters.max()) + 1, layout.problem.objective),
        seed=config.seed,
    )
