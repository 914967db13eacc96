"""Detection of scores given in place of losses, by range and direction: a law of a loss is wrong for scores."""

from collections.abc import Mapping

import numpy as np

from polyglance.laws.equations.form import Form
from polyglance.laws.fitting.rows import Rows, correlate_ranks
from polyglance.laws.law import LawWarning

__all__ = ["notice_scores"]

_RISING = 0.3
"""Rank correlation of y and the product of the predictors above which y rises with scale."""
_FEWEST = 5
"""Smallest number of rows from which the direction is judged."""


def notice_scores(form: Form, groups: Mapping[str, Rows]) -> tuple[LawWarning, ...]:
    """Return a warning if y lies within 0 and 1 or 0 and 100 and rises with scale, as accuracies do, or if a y that is
    fitted as a score falls with scale."""
    for rows in groups.values():
        is_score, top = rows.transform.is_score, 1.0 if rows.y.max() <= 1 else 100.0
        if not form.logarithmic or len(rows) < _FEWEST or np.ptp(rows.y) == 0 or (rows.y.max() > top and not is_score):
            continue
        scale = np.log(rows.x).sum(axis=1)
        if np.ptp(scale) == 0:
            continue
        correlation = correlate_ranks(scale, rows.y)
        if correlation > _RISING and is_score:
            return (
                LawWarning(
                    "loss-like",
                    "warning",
                    f"y falls with scale (rank correlation {-correlation:.2f}), which a score does not: is it a loss? "
                    "Fit a loss without `transform`.",
                ),
            )
        if correlation > _RISING:
            return (
                LawWarning(
                    "score-like",
                    "warning",
                    f"y lies between {rows.y.min():.4g} and {rows.y.max():.4g} and rises with scale (rank correlation "
                    f"{correlation:.2f}): is it a score? A law of a score passes its ceiling, and plans look for a "
                    f"lower y. Fit its distance to the ceiling: --transform error or log-odds, --ceiling {top:g}.",
                ),
            )
    return ()
