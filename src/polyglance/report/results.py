"""results.json: the page's numbers unrounded, for machines."""

import math
from collections.abc import Sequence
from typing import Any

from polyglance import config
from polyglance.report.comparisons import best_runs, seed_spread
from polyglance.report.findings import caveats, summary
from polyglance.report.folder import NUMBERS, Run, StudyFolder
from polyglance.report.laws import law_numbers

__all__ = ["results"]

RESULTS_FORMAT = 1


def results(study: StudyFolder, column: str, notes: Sequence[str]) -> dict[str, Any]:
    """results.json: the page's numbers unrounded. A number that is missing is null."""
    spread, settings = seed_spread(study.runs, column)
    return {
        "format": RESULTS_FORMAT,
        "title": study.title,
        "coverage": config.to_dict(study.coverage),
        "headline": column,
        "seed_sd_nats": _finite(spread),
        "seed_sd_settings": settings,
        "best": {run.family: run.id for run in best_runs(study.runs, column)},
        "summary": {finding.topic: finding.text for finding in summary(study, column)},
        "caveats": {section: list(sentences) for section, sentences in caveats(study, column).items()},
        "runs": [_run_numbers(run) for run in study.runs],
        "laws": {name: law_numbers(law) for name, law in study.laws.items()},
        "notes": list(notes),
    }


def _run_numbers(run: Run) -> dict[str, Any]:
    names = {name: getattr(run, name) for name in ("id", "family", "size", "start", "seed")}
    return {**names, **{column: _finite(run[column]) for column in NUMBERS}}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
