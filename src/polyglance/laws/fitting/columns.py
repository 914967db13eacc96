"""Detection of tables that are not what a law is fitted to: perplexities, points of learning curves, copied rows."""

import re
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from polyglance.laws.fitting.rows import Rows
from polyglance.laws.law import LawWarning
from polyglance.laws.tables.table import Table, list_rows

__all__ = ["notice_columns", "notice_copies"]

_PERPLEXITY = re.compile(r"(?:^|[^a-z])(?:ppl|perplexity|perplexities)(?:$|[^a-z])", re.I)
_STEPS = frozenset({"step", "steps", "globalstep", "trainstep", "iteration", "iterations", "iter", "epoch", "epochs"})
_FEWEST_RUNS = 3
_FALLING = 0.9
"""Share of the runs whose y falls from the first to the last step above which the rows are points of curves."""


def notice_columns(
    columns: Mapping[str, str], used: Collection[str], table: Table, rows: Rows
) -> tuple[LawWarning, ...]:
    """Return a warning if y is a perplexity by its name, or if rows are several steps of the same runs.

    Args:
        columns: name in the law -> column.
        used: columns that the law uses in any way.
    """
    return (*_notice_perplexity(columns["y"], rows), *_notice_curves(used, table, rows))


def notice_copies(rows: Rows) -> Iterator[LawWarning]:
    """Yield a warning if rows of a group repeat another one."""
    _, first, counts = np.unique(np.column_stack([rows.x, rows.y]), axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        doubled = rows.indices[np.sort(first[counts > 1])].tolist()
        yield LawWarning(
            "duplicate-rows",
            "warning",
            f"{int((counts - 1).sum())} rows repeat another one exactly (see {list_rows(doubled)}); a copy is not "
            "independent evidence and makes intervals too narrow.",
        )


def _notice_perplexity(name: str, rows: Rows) -> Iterator[LawWarning]:
    if _PERPLEXITY.search(name) and rows.y.min() > 1 and not rows.transform.is_score:
        column = name if name.isidentifier() else f'"{name}"'
        yield LawWarning(
            "perplexity",
            "warning",
            f"{name!r} is a perplexity by its name, and the forms are laws of a loss, which is its logarithm: --derive "
            f"'loss=log({column})' and y=loss.",
        )


def _notice_curves(used: Collection[str], table: Table, rows: Rows) -> Iterator[LawWarning]:
    """Yield a warning if rows with equal predictors have several steps, along which y falls."""
    _, runs, counts = np.unique(rows.x, axis=0, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts > 1)
    names = [name for name in table.columns if re.sub(r"[\W_]", "", name).lower() in _STEPS and name not in used]
    if len(repeated) < _FEWEST_RUNS or not names:
        return
    steps = table.numbers(names[0])[0][rows.indices]
    falls = []
    for run in repeated:
        of_run = np.flatnonzero(runs.ravel() == run)
        known = of_run[np.isfinite(steps[of_run])]
        if len(known) > 1 and np.ptp(steps[known]) > 0:
            falls.append(rows.y[known[np.argmax(steps[known])]] < rows.y[known[np.argmin(steps[known])]])
    if len(falls) >= _FEWEST_RUNS and np.mean(falls) >= _FALLING:
        yield LawWarning(
            "learning-curves",
            "warning",
            f"{len(falls)} combinations of predictors have rows of several {names[0]!r}, along which y falls: points "
            "of learning curves, of which the law describes the middle. For a law of what runs reach, keep the last "
            f"row of each run, or make {names[0]!r} (or the data seen until then) a predictor.",
        )
