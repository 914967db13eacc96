"""Scores with their signatures and intervals, and the statistics that they were computed from.

`scores.json` holds values, signatures and warnings, and `scores.npz` beside it the statistics of each segment, so that
intervals, subsets and comparisons are made from the files alone. This module alone reads and writes both.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np

from polyglance.data.texts.text_set import Id
from polyglance.error_text import first_line
from polyglance.evaluate.checks import SegmentTexts
from polyglance.evaluate.metrics import Metric, Statistics, make_metric
from polyglance.evaluate.metrics.resampling import Resampling, bootstrap_intervals
from polyglance.evaluate.text_differences import FormWarning
from polyglance.files import check_digest, read_json, seal_files, write_atomically

__all__ = [
    "OUTPUT_NAMES",
    "SCORES_NAME",
    "Measurement",
    "MetricScore",
    "ScoreReport",
    "make_report",
    "read_metric_scores",
    "read_scores",
    "scale_interval",
    "select_segments",
    "write_scores",
]

SCORES_NAME = "scores.json"
_STATISTICS_NAME = "scores.npz"
OUTPUT_NAMES = (_STATISTICS_NAME, SCORES_NAME)
"""Names of the files that `write_scores` writes."""
_FORMAT = "polyglance scores 1"
_STATISTICS_OPTIONS = {"df", "df_resampled", "ids", "sources"}
"""Options of metrics that affect only the statistics. They are not stored with the statistics."""


@dataclass(frozen=True, kw_only=True)
class MetricScore:
    """One score, with everything that identifies it."""

    metric: str
    """Name of the metric on the command line: `bleu`."""
    name: str
    """Name of the score: `Bleu_4`."""
    value: float
    scale: str
    """Range from 0 to the score of a perfect text, roughly: `0-1`, `0-100`; CIDEr `0-10`."""
    protocol: str
    """Protocol that made the tokens; `raw` for metrics that read texts as they are."""
    language: str
    signature: str
    interval: tuple[float, float] | None
    """Bootstrap percentile interval; None where it was not asked for."""
    num_segments: int

    def format(self) -> str:
        """Return value and interval for people: `0.6123 (0.5901 to 0.6345)`."""
        digits = 2 if self.scale in ("0-100", "0-1000") else 4
        value = f"{self.value:.{digits}f}"
        if self.interval is None:
            return value
        return f"{value} ({self.interval[0]:.{digits}f} to {self.interval[1]:.{digits}f})"

    @classmethod
    def parse(cls, values: Any, where: str) -> "MetricScore":
        """Check the fields of a score that was read from a file.

        Raises:
            ValueError: not an object, or a field is missing or of the wrong type.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{where} is not an object")
        texts = {key: values.get(key) for key in ("name", "metric", "scale", "protocol", "language", "signature")}
        wrong = next((key for key, value in texts.items() if not isinstance(value, str)), None)
        where = f"{where}, {texts['name']}"
        if wrong is not None:
            raise ValueError(f"{where}: the {wrong} is {texts[wrong]!r}, not text")
        if not _is_finite(values.get("value")):
            raise ValueError(f"{where}: the value is missing or not a finite number")
        if type(values.get("num_segments")) is not int or values["num_segments"] < 0:
            raise ValueError(f"{where}: num_segments is missing or not a whole number from 0 up")
        interval = values.get("interval")
        if interval is not None and not (isinstance(interval, list) and [*map(_is_finite, interval)] == [True, True]):
            raise ValueError(f"{where}: the interval is {interval!r}, not two numbers or null")
        return cls(
            value=float(values["value"]),
            interval=None if interval is None else (float(interval[0]), float(interval[1])),
            num_segments=values["num_segments"],
            **cast(dict[str, str], texts),
        )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A metric's statistics of every segment under one protocol."""

    metric: Metric
    statistics: Statistics
    parts: Mapping[str, str]
    """Key -> value of the signature, in order, without the key of the bootstrap: `proto` (the protocol), `lang`, `imgs`
    (number of segments), `scale` and more."""
    factor: float = 1.0
    """Factor that the protocol multiplies scores with."""

    @property
    def key(self) -> tuple[str, ...]:
        """Protocol, metric and names of its statistics (chrF and chrF++ are one metric): unique in a report."""
        return (self.parts["proto"], self.metric.name, *self.statistics.names)

    def scores(self, resampling: Resampling) -> list[MetricScore]:
        """Compute the scores with their intervals, on the protocol's scale."""
        values, intervals = self.statistics.values, {}
        keys = dict(self.parts)
        if resampling.num_samples and len(values) > 1:
            intervals = bootstrap_intervals(self.metric, self.statistics, resampling)
            keys["boot"] = f"{resampling.num_samples},seed:{resampling.seed}"
        return [
            MetricScore(
                metric=self.metric.name,
                name=name,
                value=float(value) * self.factor,
                scale=self.parts["scale"],
                protocol=self.parts["proto"],
                language=self.parts["lang"],
                signature="|".join([name, *(f"{key}:{part}" for key, part in keys.items())]),
                interval=scale_interval(intervals.get(name), self.factor),
                num_segments=len(values),
            )
            for name, value in self.metric.scores(values.sum(axis=0), len(values)).items()
        ]


_FEW_SEGMENTS = 20
"""Below this number of segments, intervals come with a warning: of the mean of 5 normal values the 95 % interval holds
the truth 83 times in 100, of 10 values 91 times (`tests/evaluate/metrics/test_resampling.py` measures it)."""


def scale_interval(interval: tuple[float, float] | None, factor: float) -> tuple[float, float] | None:
    """Multiply both ends of an interval."""
    return None if interval is None else (interval[0] * factor, interval[1] * factor)


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """All scores of one set of predictions."""

    scores: tuple[MetricScore, ...]
    warnings: tuple[str, ...]
    """Notes that a reader of the scores needs, one line each."""
    differences: tuple[FormWarning, ...] = ()
    """Differences of form between predictions and references, by code; each is also one of the warnings."""
    ids: tuple[Id, ...] = ()
    """Ids of the segments, as the references spell them; row i of every statistics is segment i."""
    measurements: tuple[Measurement, ...] = field(default=(), repr=False)
    source: str = "predictions"
    """File of predictions, for tables and messages."""
    segments: SegmentTexts | None = field(default=None, repr=False, compare=False)
    """The texts that were scored; None for scores that were read from a file."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report for machines: `scores` -> protocol -> name -> value, then details and warnings."""
        values: dict[str, dict[str, float]] = {}
        for score in self.scores:
            values.setdefault(score.protocol, {})[score.name] = score.value
        details = [asdict(score) for score in self.scores]
        return {
            "source": self.source,
            "scores": values,
            "details": details,
            "warnings": list(self.warnings),
            "coded_warnings": [asdict(one) for one in self.differences],
        }


def make_report(
    measurements: Sequence[Measurement],
    *,
    ids: Sequence[Id],
    warnings: Sequence[str],
    resampling: Resampling,
    source: str,
    differences: Sequence[FormWarning] = (),
    segments: SegmentTexts | None = None,
) -> ScoreReport:
    """Compute the scores of measurements, with their intervals. One segment has none."""
    if resampling.num_samples and len(ids) < _FEW_SEGMENTS:
        warnings = [*warnings, _warn_of_few(len(ids))]
    return ScoreReport(
        scores=tuple(score for measurement in measurements for score in measurement.scores(resampling)),
        warnings=tuple(dict.fromkeys(warnings)),
        ids=tuple(ids),
        measurements=tuple(measurements),
        source=source,
        differences=tuple(differences),
        segments=segments,
    )


def _warn_of_few(num_segments: int) -> str:
    if num_segments == 1:
        return "1 segment: no interval can be computed from it"
    return f"{num_segments} segments: intervals computed from so few are too narrow"


def select_segments(report: ScoreReport, ids: Sequence[str] | None, resampling: Resampling) -> ScoreReport:
    """Compute the scores of some of the segments (None: of all) from the statistics alone.

    CIDEr keeps the document frequencies of the whole set, so that it is comparable with the score of the whole set.
    Scoring the subset's files would give other frequencies.

    Raises:
        ValueError: the report holds no statistics, or an id is not in it.
    """
    rows = {str(name): row for row, name in enumerate(report.ids)}
    unknown = [name for name in ids or () if name not in rows]
    if unknown or not report.measurements:
        missing = f"no segment {unknown[0]!r}" if unknown else "no statistics"
        raise ValueError(f"{report.source}: its scores hold {missing}")
    chosen = list(range(len(rows))) if ids is None else [rows[name] for name in dict.fromkeys(ids)]
    return make_report(
        [_select_rows(measurement, chosen) for measurement in report.measurements],
        ids=[report.ids[row] for row in chosen],
        warnings=report.warnings,
        resampling=resampling,
        source=report.source,
        differences=report.differences,
    )


def _select_rows(measurement: Measurement, chosen: list[int]) -> Measurement:
    """Keep some segments; the signature then says how many of how many."""
    statistics, images = measurement.statistics, measurement.parts["imgs"]
    if len(chosen) < len(statistics.values):
        images = f"{len(chosen)}/{images}"
    return replace(
        measurement,
        statistics=Statistics(values=statistics.values[chosen], names=statistics.names),
        parts={**measurement.parts, "imgs": images},
    )


def write_scores(report: ScoreReport, out_dir: str | Path) -> Path:
    """Write `scores.npz`, then `scores.json`; return the path of the second."""
    out_dir = Path(out_dir)
    arrays = {str(i): measurement.statistics.values for i, measurement in enumerate(report.measurements)}
    content = BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    values = {
        "format": _FORMAT,
        **report.as_dict(),
        "measurements": [_describe_measurement(one) for one in report.measurements],
        "ids": list(report.ids),
    }
    write_atomically(out_dir / _STATISTICS_NAME, content.getvalue())
    write_atomically(out_dir / SCORES_NAME, json.dumps(values, indent=1) + "\n")
    seal_files(out_dir, OUTPUT_NAMES)
    return out_dir / SCORES_NAME


def read_scores(path: str | Path) -> ScoreReport:
    """Read a report with its statistics.

    Args:
        path: scores.json, or its folder.

    Raises:
        ValueError: missing, damaged or written by something else.
    """
    path = Path(path) / SCORES_NAME if Path(path).is_dir() else Path(path)
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise ValueError(f"{path}: not a file of scores (its `format` is not {_FORMAT!r})")
    scores = _parse_details(values, path)
    arrays = _read_arrays(path.with_name(_STATISTICS_NAME))
    try:
        measurements = [_make_measurement(one, arrays[str(i)]) for i, one in enumerate(values["measurements"])]
        report = ScoreReport(
            scores=scores,
            warnings=tuple(map(_check_text, values["warnings"])),
            ids=tuple(map(_check_id, values["ids"])),
            measurements=tuple(measurements),
            source=_check_text(values["source"]),
            differences=tuple(FormWarning(**one) for one in values.get("coded_warnings", ())),
        )
        for measurement in measurements:
            if measurement.statistics.values.shape != (len(report.ids), len(measurement.statistics.names)):
                raise ValueError("its statistics are of other segments")
            measurement.scores(Resampling(num_samples=0))  # fails if the statistics do not fit the metric
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged file of scores ({first_line(error)})") from None
    return report


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.100} is not text")
    return value


def _check_id(value: Any) -> Id:
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise TypeError(f"{value!r:.100} is not an id")
    return value


def read_metric_scores(path: str | Path) -> tuple[MetricScore, ...]:
    """Read the scores of scores.json, without the statistics.

    Raises:
        ValueError: missing, not JSON, or damaged: one line with file and entry.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return _parse_details(values, path)


def _parse_details(values: Mapping[str, Any], path: str | Path) -> tuple[MetricScore, ...]:
    details = values.get("details")
    if not isinstance(details, list):
        raise ValueError(f"{path}: no list 'details'; was it written by `polyglance score`?")
    return tuple(
        MetricScore.parse(entry, f"{path}: entry {number} of 'details'") for number, entry in enumerate(details, 1)
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        check_digest(path)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except _UNREADABLE as error:
        raise ValueError(f"{path}: statistics of scores that cannot be read ({first_line(error)})") from None


_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zlib.error, zipfile.BadZipFile)
"""Errors of numpy, of zipfile and of zlib for an archive that is damaged, encrypted or too large."""


def _describe_measurement(measurement: Measurement) -> dict[str, Any]:
    """Return plain values of a measurement, without the statistics."""
    names = {option.name for option in fields(cast(Any, measurement.metric))} - _STATISTICS_OPTIONS
    options = {name: getattr(measurement.metric, name) for name in sorted(names)}
    return {
        "metric": measurement.metric.name,
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
        "protocol": measurement.parts["proto"],
        "language": measurement.parts["lang"],
        "factor": measurement.factor,
        "names": list(measurement.statistics.names),
        "signature": dict(measurement.parts),
    }


def _make_measurement(described: Mapping[str, Any], values: np.ndarray) -> Measurement:
    """Make a measurement from its description and its statistics."""
    return Measurement(
        metric=make_metric(described["metric"], **described["options"]),
        factor=float(described["factor"]),
        statistics=Statistics(values=np.asarray(values, dtype=np.float64), names=tuple(described["names"])),
        parts={_check_text(key): _check_text(part) for key, part in described["signature"].items()},
    )


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
