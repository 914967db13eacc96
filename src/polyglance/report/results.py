"""results.json: the page's numbers unrounded, for machines."""

import math
from collections.abc import Sequence
from typing import Any

from polyglance import config
from polyglance.laws import Law
from polyglance.report.comparisons import best_runs, seed_spread
from polyglance.report.findings import caveats, summary
from polyglance.report.folder import NUMBERS, Run, StudyFolder

__all__ = ["finite", "results"]

RESULTS_FORMAT = 1


def results(study: StudyFolder, column: str, notes: Sequence[str]) -> dict[str, Any]:
    """results.json: the page's numbers unrounded. A number that is missing is null."""
    spread, settings = seed_spread(study.runs, column)
    return {
        "format": RESULTS_FORMAT,
        "title": study.title,
        "coverage": config.to_dict(study.coverage),
        "headline": column,
        "seed_sd_nats": finite(spread),
        "seed_sd_settings": settings,
        "best": {run.family: run.id for run in best_runs(study.runs, column)},
        "summary": {finding.topic: finding.text for finding in summary(study, column)},
        "caveats": {section: list(sentences) for section, sentences in caveats(study, column).items()},
        "runs": [_run_numbers(run) for run in study.runs],
        "laws": {name: _law_numbers(law) for name, law in study.laws.items()},
        "notes": list(notes),
    }


def _run_numbers(run: Run) -> dict[str, Any]:
    names = {name: getattr(run, name) for name in ("id", "family", "size", "start", "seed")}
    return {**names, **{column: finite(run[column]) for column in NUMBERS}}


def _law_numbers(law: Law) -> dict[str, Any]:
    fits = {
        group: {
            "parameters": {
                name: None if name in fit.unidentified else finite(value) for name, value in fit.parameters.items()
            },
            "intervals": {name: [finite(end) for end in ends] for name, ends in fit.intervals.items()},
            "objective": finite(fit.objective),
            "r2_log": finite(fit.r2_log),
            "r2_raw": finite(fit.r2_raw),
            "num_rows": fit.num_rows,
            "warnings": [vars(warning) for warning in fit.warnings],
        }
        for group, fit in law.fits.items()
    }
    return {"form": law.form, "fits": fits, "warnings": [vars(warning) for warning in law.warnings]}


def finite(value: float | None) -> float | None:
    """The number, or None where it is missing or not finite (JSON knows no NaN)."""
    return value if value is not None and math.isfinite(value) else None
