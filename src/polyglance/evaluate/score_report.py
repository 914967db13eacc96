"""Scores with everything that says what they are: signatures, intervals, and the statistics they were made from.

`scores.json` holds values, signatures and warnings, and `scores.npz` beside it the statistics of each segment, so that
intervals, subsets and comparisons are made from the files alone.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np

from polyglance.evaluate.metrics import Metric, Statistics, metric
from polyglance.evaluate.metrics.resampling import bootstrap_intervals
from polyglance.evaluate.predictions import Id
from polyglance.files import write_atomically

__all__ = [
    "Measurement",
    "Resampling",
    "Score",
    "ScoreReport",
    "as_dict",
    "load_scores",
    "make_report",
    "signature",
    "subset",
    "write_scores",
]

_FORMAT = "polyglance scores 1"
_FILE, _STATISTICS_FILE = "scores.json", "scores.npz"
_USED_UP = {"df", "df_resampled", "ids", "sources"}
"""Options of metrics that matter to statistics only, and so not to what is kept of them."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number, and what it is the number of."""

    metric: str
    """As asked for: `bleu`."""
    name: str
    """Of the number: `Bleu_4`."""
    value: float
    scale: str
    """From 0 to what a perfect text has, roughly: `0-1`, `0-100`; CIDEr `0-10`."""
    protocol: str
    """What made the tokens; `raw` for metrics that read texts as they are."""
    language: str
    signature: str
    interval: tuple[float, float] | None
    """Bootstrap percentile interval; None where it was not asked for."""
    num_segments: int


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals are made."""

    num_samples: int = 1000
    """Bootstrap draws of segments; 0 for no intervals."""
    seed: int = 0
    level: float = 0.95
    """Share of draws inside an interval."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A metric's statistics of every segment under one protocol."""

    metric: Metric
    protocol: str
    language: str
    factor: float
    """What the protocol multiplies scores with."""
    statistics: Statistics
    parts: Mapping[str, str]
    """Key -> value of the signature, in order, without what says how intervals were made."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells measurements of one report apart."""
        return self.metric.name, self.protocol

    def values(self) -> dict[str, float]:
        """Score name -> value, on the protocol's scale."""
        sums = self.statistics.values.sum(axis=0)
        found = self.metric.scores(sums, len(self.statistics.values))
        return {name: float(value) * self.factor for name, value in found.items()}

    def scores(self, resampling: Resampling) -> list[Score]:
        """The measurement's scores with their intervals."""
        intervals = self._intervals(resampling) if resampling.num_samples else {}
        boot = {"boot": f"{resampling.num_samples},seed:{resampling.seed}"} if intervals else {}
        return [
            Score(
                metric=self.metric.name,
                name=name,
                value=value,
                scale=self.parts["scale"],
                protocol=self.protocol,
                language=self.language,
                signature=signature(name, {**self.parts, **boot}),
                interval=intervals.get(name),
                num_segments=len(self.statistics.values),
            )
            for name, value in self.values().items()
        ]

    def _intervals(self, resampling: Resampling) -> dict[str, tuple[float, float]]:
        found = bootstrap_intervals(
            self.metric,
            self.statistics,
            num_samples=resampling.num_samples,
            seed=resampling.seed,
            level=resampling.level,
        )
        return {name: (low * self.factor, high * self.factor) for name, (low, high) in found.items()}


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """All scores of one set of predictions."""

    scores: tuple[Score, ...]
    warnings: tuple[str, ...]
    """One line each: what a reader of the scores has to know."""
    ids: tuple[Id, ...] = ()
    """Of the segments, as the references spell them; row i of every statistics is segment i."""
    measurements: tuple[Measurement, ...] = field(default=(), repr=False)
    source: str = "predictions"
    """The file of predictions, for tables and messages."""


def signature(name: str, parts: Mapping[str, str]) -> str:
    """`CIDEr|proto:coco|tok:ptb-3.4.1|...`: all that moves the number, in the manner of sacrebleu."""
    return "|".join([name, *(f"{key}:{value}" for key, value in parts.items())])


def make_report(
    measurements: Sequence[Measurement],
    *,
    ids: Sequence[Id],
    warnings: Sequence[str],
    resampling: Resampling,
    source: str,
) -> ScoreReport:
    """The scores of measurements, with their intervals."""
    return ScoreReport(
        scores=tuple(score for measured in measurements for score in measured.scores(resampling)),
        warnings=tuple(dict.fromkeys(warnings)),
        ids=tuple(ids),
        measurements=tuple(measurements),
        source=source,
    )


def subset(report: ScoreReport, ids: Sequence[str] | None, resampling: Resampling | None = None) -> ScoreReport:
    """The scores of some of the segments (of all: None), from the statistics alone.

    CIDEr keeps the document frequencies of the whole set, which makes it comparable with the whole set's; scoring the
    subset's files anew would take others.

    Raises:
        ValueError: the report holds no statistics, or none of some id.
    """
    rows = {str(name): row for row, name in enumerate(report.ids)}
    unknown = [name for name in ids or () if name not in rows]
    if unknown or not report.measurements:
        what = f"no segment {unknown[0]!r}" if unknown else "no statistics"
        raise ValueError(f"{report.source}: its scores hold {what}")
    chosen = list(range(len(rows))) if ids is None else [rows[name] for name in dict.fromkeys(ids)]
    return make_report(
        [_rows(measured, chosen) for measured in report.measurements],
        ids=[report.ids[row] for row in chosen],
        warnings=report.warnings,
        resampling=resampling or Resampling(),
        source=report.source,
    )


def _rows(measured: Measurement, chosen: Sequence[int]) -> Measurement:
    """The measurement of some segments; its signature says of how many."""
    statistics, whole = measured.statistics, len(measured.statistics.values)
    images = measured.parts["imgs"] if len(chosen) == whole else f"{len(chosen)}/{measured.parts['imgs']}"
    return replace(
        measured,
        statistics=Statistics(values=statistics.values[list(chosen)], names=statistics.names),
        parts={**measured.parts, "imgs": images},
    )


def as_dict(report: ScoreReport) -> dict[str, Any]:
    """The report for machines: `scores` -> protocol -> name -> value, then details and warnings."""
    values: dict[str, dict[str, float]] = {}
    for score in report.scores:
        values.setdefault(score.protocol, {})[score.name] = score.value
    details = [asdict(score) for score in report.scores]
    return {"source": report.source, "scores": values, "details": details, "warnings": list(report.warnings)}


def write_scores(report: ScoreReport, out_dir: str | Path) -> Path:
    """Write `scores.npz`, then `scores.json`; returns the path of the second."""
    out_dir = Path(out_dir)
    arrays = {str(i): measured.statistics.values for i, measured in enumerate(report.measurements)}
    content = BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    values = {
        "format": _FORMAT,
        **as_dict(report),
        "measurements": [_described(one) for one in report.measurements],
        "ids": list(report.ids),
    }
    write_atomically(out_dir / _STATISTICS_FILE, content.getvalue())
    write_atomically(out_dir / _FILE, json.dumps(values, indent=1) + "\n")
    return out_dir / _FILE


def load_scores(path: str | Path) -> ScoreReport:
    """Read what `write_scores` wrote: the file, or its folder.

    Raises:
        ValueError: missing, damaged or written by something else.
    """
    path = Path(path) / _FILE if Path(path).is_dir() else Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise ValueError(f"{path}: not a file of scores (its `format` is not {_FORMAT!r})")
    try:
        scores = [Score(**{**entry, "interval": _pair(entry["interval"])}) for entry in values["details"]]
        arrays = _arrays(path.with_name(_STATISTICS_FILE))
        described = values["measurements"]
        measurements = [_measurement(one, arrays[str(i)]) for i, one in enumerate(described)]
        return ScoreReport(
            scores=tuple(scores),
            warnings=tuple(values["warnings"]),
            ids=tuple(values["ids"]),
            measurements=tuple(measurements),
            source=values["source"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged file of scores ({error!r})") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: statistics of scores that cannot be read ({error})") from None


def _described(measured: Measurement) -> dict[str, Any]:
    """What `_measurement` needs, beside the array."""
    names = {option.name for option in fields(cast(Any, measured.metric))} - _USED_UP
    options = {name: getattr(measured.metric, name) for name in sorted(names)}
    return {
        "metric": measured.metric.name,
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
        "protocol": measured.protocol,
        "language": measured.language,
        "factor": measured.factor,
        "names": list(measured.statistics.names),
        "signature": dict(measured.parts),
    }


def _measurement(described: Mapping[str, Any], values: np.ndarray) -> Measurement:
    return Measurement(
        metric=metric(described["metric"], **described["options"]),
        protocol=described["protocol"],
        language=described["language"],
        factor=float(described["factor"]),
        statistics=Statistics(values=np.asarray(values, dtype=np.float64), names=tuple(described["names"])),
        parts=described["signature"],
    )


def _pair(interval: Any) -> tuple[float, float] | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))
