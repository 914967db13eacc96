"""How the runs of a study compare: the best ones, the ladders along one variable, the spread between seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from polyglance.report.folder import Run
from polyglance.report.wording import count

__all__ = [
    "Ladder",
    "Rung",
    "Variable",
    "best_run",
    "best_runs",
    "blind_loss",
    "families",
    "headline_column",
    "image_gain",
    "ladders",
    "seed_spread",
    "series",
]

Variable = Literal["P", "S", "T"]

_VARIED_BY: Mapping[Variable, str] = {"P": "size", "S": "S", "T": "start"}
"""Variable -> what is changed in a study to change it."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """All seeds of one setting."""

    x: float
    y: float
    """Mean over the seeds."""
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Runs that differ in one variable only, seeds averaged, in the order of that variable."""

    variable: Variable
    family: str
    name: str
    """What all its runs share, in short: `d96, 40,000 samples`."""
    rungs: tuple[Rung, ...]


def headline_column(runs: Iterable[Run]) -> str:
    """The loss that stands for a run: unseen captioning after the prefix, or the next best that was measured."""
    runs = tuple(runs)
    for column in ("UC_prefix", "UC", "SC", "ST"):
        if any(math.isfinite(run[column]) for run in runs):
            return column
    return "UC_prefix"


def best_run(runs: Iterable[Run], column: str) -> Run | None:
    """The run with the lowest loss; None where none has one."""
    measured = [run for run in runs if math.isfinite(run[column])]
    return min(measured, key=lambda run: run[column], default=None)


def families(runs: Iterable[Run]) -> tuple[str, ...]:
    """The families, in the order of runs.csv."""
    return tuple(dict.fromkeys(run.family for run in runs))


def best_runs(runs: Sequence[Run], column: str) -> tuple[Run, ...]:
    """The best run of each family that has one."""
    found = (best_run([run for run in runs if run.family == family], column) for family in families(runs))
    return tuple(run for run in found if run is not None)


def series(runs: Iterable[Run]) -> tuple[tuple[str, str], ...]:
    """Every (family, starting point), in the order of runs.csv: what has a colour and a marker of its own."""
    return tuple(dict.fromkeys((run.family, run.start) for run in runs))


def ladders(runs: Iterable[Run], variable: Variable, column: str) -> tuple[Ladder, ...]:
    """Runs grouped so that each group differs in `variable` only.

    P varies with the size, T with the starting point; both may change a little with the other, so groups go by
    the names, not by the numbers.
    """
    groups: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in runs:
        if all(math.isfinite(run[name]) and run[name] > 0 for name in (column, variable)):
            settings = {"start": run.start, "size": run.size, "S": f"{count(run['S'])} samples"}
            varied = settings.pop(_VARIED_BY[variable])
            if variable != "T":
                settings["start"] = "" if run.start in ("", "random") else f"“{run.start}”"
            name = ", ".join(text for text in settings.values() if text)
            groups.setdefault((run.family, name), {}).setdefault(varied, []).append(run)
    return tuple(
        Ladder(variable=variable, family=family, name=name, rungs=_rungs(group.values(), variable, column))
        for (family, name), group in groups.items()
    )


def _rungs(groups: Iterable[list[Run]], variable: Variable, column: str) -> tuple[Rung, ...]:
    rungs = [
        Rung(x=fmean(run[variable] for run in runs), y=fmean(run[column] for run in runs), runs=tuple(runs))
        for runs in groups
    ]
    return tuple(sorted(rungs, key=lambda rung: rung.x))


def seed_spread(runs: Iterable[Run], column: str) -> tuple[float, int]:
    """Pooled standard deviation between seeds of the same setting, and how many settings it rests on.

    NaN and 0 where no setting was run with two seeds.
    """
    groups: dict[tuple[str, str, str, float], list[float]] = {}
    for run in runs:
        if math.isfinite(run[column]):
            groups.setdefault((run.family, run.size, run.start, run["S"]), []).append(run[column])
    repeated = [values for values in groups.values() if len(values) > 1]
    if not repeated:
        return math.nan, 0
    squares = sum((value - fmean(values)) ** 2 for values in repeated for value in values)
    return math.sqrt(squares / sum(len(values) - 1 for values in repeated)), len(repeated)


def blind_loss(runs: Iterable[Run]) -> tuple[float, Run | None]:
    """The lowest loss of an untrained start on unseen captions after the prefix: what is reached without the image."""
    start = min((run for run in runs if math.isfinite(run["T_prefix"])), key=lambda run: run["T_prefix"], default=None)
    return (start["T_prefix"], start) if start else (math.nan, None)


def image_gain(run: Run) -> float:
    """Unseen captioning after the prefix: loss with other samples' images minus loss with the right ones."""
    return run["UC_prefix_shuffled"] - run["UC_prefix"]
