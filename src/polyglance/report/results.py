"""results.json: the numbers of the page, unrounded, for machines."""

import math
from collections.abc import Sequence
from typing import Any

from polyglance.config import to_dict
from polyglance.laws import Law
from polyglance.report.comparisons import find_best_runs, measure_seed_spread
from polyglance.report.findings import find_caveats, summarise
from polyglance.report.folder import StudyFolder
from polyglance.report.predictions import check_predictions
from polyglance.run_records import NUMBER_COLUMNS, RunRow

__all__ = ["collect_results"]

_RESULTS_FORMAT = 1


def collect_results(study: StudyFolder, column: str, notes: Sequence[str]) -> dict[str, Any]:
    """Return the content of results.json. A number that is missing is null.

    Args:
        column: headline column.
        notes: sentences on what is missing.
    """
    spread, settings = measure_seed_spread(study.runs, column)
    return {
        "format": _RESULTS_FORMAT,
        "title": study.title,
        "coverage": to_dict(study.coverage),
        "headline": column,
        "seed_sd_nats": _finite_or_none(spread),
        "seed_sd_settings": settings,
        "best": {run.family: run.id for run in find_best_runs(study.runs, column)},
        "summary": {finding.topic: finding.text for finding in summarise(study, column)},
        "caveats": {section: list(sentences) for section, sentences in find_caveats(study, column).items()},
        "runs": [_run_values(run) for run in study.runs],
        "laws": {name: _law_values(law) for name, law in study.laws.items()},
        "predictions": [
            {**to_dict(one.made), "measured": one.measured, "error": one.error, "inside": one.is_inside}
            for one in check_predictions(study)
        ],
        "prediction_forms": [to_dict(form) for form in (study.predictions.forms if study.predictions else ())],
        "notes": list(notes),
    }


def _run_values(run: RunRow) -> dict[str, Any]:
    names = {"id": run.id, "family": run.family, "size": run.size, "start": run.start}
    seed = "" if run.seed is None else str(run.seed)
    return {**names, "seed": seed, **{column: _finite_or_none(run[column]) for column in NUMBER_COLUMNS}}


def _law_values(law: Law) -> dict[str, Any]:
    fits = {
        group: {
            "parameters": {
                name: None if name in fit.unidentified else _finite_or_none(value)
                for name, value in fit.parameters.items()
            },
            "intervals": {name: [_finite_or_none(end) for end in ends] for name, ends in fit.intervals.items()},
            "objective": _finite_or_none(fit.objective),
            "r2_log": _finite_or_none(fit.r2_log),
            "r2_raw": _finite_or_none(fit.r2_raw),
            "num_rows": fit.num_rows,
            "warnings": [vars(warning) for warning in fit.warnings],
        }
        for group, fit in law.fits.items()
    }
    return {"form": law.form, "fits": fits, "warnings": [vars(warning) for warning in law.warnings]}


def _finite_or_none(value: float | None) -> float | None:
    """Return the number, or None where it is missing or not finite (JSON has no NaN)."""
    return value if value is not None and math.isfinite(value) else None
