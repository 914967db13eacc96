"""Comparisons of a study's runs: the best ones, ladders along one variable, the spread between seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from polyglance.report.wording import format_count
from polyglance.run_records import RunRow

__all__ = [
    "Ladder",
    "MonotoneFit",
    "Rung",
    "Variable",
    "choose_headline",
    "find_best_run",
    "find_best_runs",
    "find_blind_loss",
    "find_ladders",
    "fit_monotone",
    "list_series",
    "measure_image_gain",
    "measure_seed_spread",
    "runs_by_family",
]

Variable = Literal["P", "S", "T"]

_VARIED_BY: Mapping[Variable, str] = {"P": "size", "S": "S", "T": "start"}
"""Variable -> setting of a study that determines it."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """All seeds of one setting."""

    x: float
    """Mean of the variable."""
    y: float
    """Mean of the loss, in nats per token."""
    runs: tuple[RunRow, ...]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Runs that differ in one variable only, seeds averaged, in the order of that variable."""

    variable: Variable
    family: str
    name: str
    """Settings that all its runs share, in short: `d96, 40,000 samples`."""
    rungs: tuple[Rung, ...]


def choose_headline(runs: Sequence[RunRow]) -> str:
    """Return the column of the loss that runs are ranked by: UC after the prefix, or the next that was measured."""
    columns = ("UC_prefix", "UC", "SC", "ST")
    return next((column for column in columns if any(math.isfinite(run[column]) for run in runs)), columns[0])


def runs_by_family(runs: Iterable[RunRow]) -> dict[str, list[RunRow]]:
    """Group runs by family, in the order of runs.csv."""
    groups: dict[str, list[RunRow]] = {}
    for run in runs:
        groups.setdefault(run.family, []).append(run)
    return groups


def list_series(runs: Iterable[RunRow]) -> tuple[tuple[str, str], ...]:
    """List every (family, starting point), in the order of runs.csv: each has a colour and a marker."""
    return tuple(dict.fromkeys((run.family, run.start) for run in runs))


def find_best_run(runs: Iterable[RunRow], column: str) -> RunRow | None:
    """Return the run with the lowest loss; None where none has one."""
    measured = [run for run in runs if math.isfinite(run[column])]
    return min(measured, key=lambda run: run[column], default=None)


def find_best_runs(runs: Iterable[RunRow], column: str) -> tuple[RunRow, ...]:
    """Return the best run of each family that has one."""
    best = (find_best_run(group, column) for group in runs_by_family(runs).values())
    return tuple(run for run in best if run is not None)


def find_ladders(runs: Iterable[RunRow], variable: Variable, column: str) -> tuple[Ladder, ...]:
    """Group runs so that each group differs in `variable` only.

    P varies with the size, and T with the starting point. Each also changes a little with the other setting, so groups
    are made by the names of the settings, not by the numbers.
    """
    groups: dict[tuple[str, str], dict[str, list[RunRow]]] = {}
    for run in runs:
        if all(math.isfinite(run[name]) and run[name] > 0 for name in (column, variable)):
            settings = {"start": run.start, "size": run.size, "S": f"{format_count(run['S'])} samples"}
            varied = settings.pop(_VARIED_BY[variable])
            if variable != "T":
                settings["start"] = "" if run.start in ("", "random") else f"“{run.start}”"
            name = ", ".join(text for text in settings.values() if text)
            groups.setdefault((run.family, name), {}).setdefault(varied, []).append(run)
    return tuple(
        Ladder(variable=variable, family=family, name=name, rungs=_make_rungs(group.values(), variable, column))
        for (family, name), group in groups.items()
    )


def _make_rungs(groups: Iterable[list[RunRow]], variable: Variable, column: str) -> tuple[Rung, ...]:
    rungs = [
        Rung(x=fmean(run[variable] for run in runs), y=fmean(run[column] for run in runs), runs=tuple(runs))
        for runs in groups
    ]
    return tuple(sorted(rungs, key=lambda rung: rung.x))


def measure_seed_spread(runs: Iterable[RunRow], column: str) -> tuple[float, int]:
    """Return the pooled standard deviation between seeds of the same setting, and the number of settings with several
    seeds; NaN and 0 where there is none."""
    groups: dict[tuple[str, str, str, float], list[float]] = {}
    for run in runs:
        if math.isfinite(run[column]):
            groups.setdefault((run.family, run.size, run.start, run["S"]), []).append(run[column])
    repeated = [values for values in groups.values() if len(values) > 1]
    if not repeated:
        return math.nan, 0
    squares = sum((value - fmean(values)) ** 2 for values in repeated for value in values)
    return math.sqrt(squares / sum(len(values) - 1 for values in repeated)), len(repeated)


def find_blind_loss(runs: Iterable[RunRow]) -> tuple[float, RunRow | None]:
    """Return the lowest loss, on unseen captions after the prefix, of a start that is a language model, and its run: a
    model that knows the texts reaches this loss without the image. NaN and None where all starts are random."""
    start = find_best_run([run for run in runs if run.start not in ("", "random")], "T_prefix")
    return (start["T_prefix"], start) if start else (math.nan, None)


@dataclass(frozen=True, kw_only=True)
class MonotoneFit:
    """The decreasing function of a loss that fits a score best, in least squares."""

    x: tuple[float, ...]
    """Losses of the runs, in ascending order."""
    y: tuple[float, ...]
    """Value of the function at each."""
    rank_correlation: float
    """Spearman's rank correlation of loss and score: -1 if the score falls with every increase of the loss."""


def fit_monotone(runs: Iterable[RunRow], loss: str, score: str) -> MonotoneFit | None:
    """Fit a decreasing function of a loss to a score; None for fewer than three runs, or if either is constant."""
    pairs = sorted((run[loss], -run[score]) for run in runs if math.isfinite(run[loss]) and math.isfinite(run[score]))
    if len(pairs) < 3 or len({x for x, _ in pairs}) < 2 or len({y for _, y in pairs}) < 2:
        return None
    x, y = np.array(pairs).T
    ranks = rankdata(x), rankdata(-y)
    return MonotoneFit(
        x=tuple(x.tolist()),
        y=tuple((-isotonic_regression(y).x).tolist()),
        rank_correlation=float(np.corrcoef(*ranks)[0, 1]),
    )


def measure_image_gain(run: RunRow) -> float:
    """Return the loss with other samples' images minus the loss with the right ones, for unseen captioning after the
    prefix, in nats per token."""
    return run["UC_prefix_shuffled"] - run["UC_prefix"]
