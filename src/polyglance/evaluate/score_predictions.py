"""Scores of finished predictions, with the protocols and metrics that their benchmark is published with.

report = score_predictions(predict_benchmark(config))
write_scores(report, predictions.folder)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.evaluate.metrics import Statistics
from polyglance.evaluate.metrics.model_based import DisambiguationAccuracy, ModelBasedMetric
from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.prediction_set import PredictionSet
from polyglance.evaluate.protocols import DEFAULT, RAW, find_protocol
from polyglance.evaluate.score import reads_words, score_texts
from polyglance.evaluate.score_report import Measurement, ScoreReport, make_report

__all__ = ["make_measurement", "score_predictions"]

_CAPTION_METRICS = ("cider", "bleu", "rouge")
_TRANSLATION_METRICS = ("sacrebleu", "chrf")
_COCO_BENCHMARKS = ("coco-karpathy", "multi30k-task2")
"""Benchmarks that are published with PTB tokens."""
_WRONG, _RIGHT = 1.0, 0.0
"""Losses of a row without an answer: the incorrect translation costs less, so that the row counts as wrong."""


def score_predictions(
    predictions: PredictionSet,
    *,
    metrics: Sequence[str] = (),
    protocols: Sequence[str] = (),
) -> ScoreReport:
    """Score predictions. Rows without an answer count as empty texts, or as rows decided wrongly; a warning says so.

    Args:
        metrics: metrics by name; none given: those that the benchmark is published with.
        protocols: protocols by name; none given: those that the benchmark is published with.

    Raises:
        ValueError: as `score_texts`.
    """
    info, warnings = predictions.info, _warn_of_errors(predictions)
    if info.task == "disambiguation":
        return _score_disambiguation(predictions, warnings)
    published_metrics, published_protocols = _choose_scoring(info.benchmark, info.task, info.language)
    chosen = tuple(metrics) or published_metrics
    report = score_texts(
        {row.id: row.text or "" for row in predictions.rows},
        {example.id: example.references for example in predictions.examples},
        language=info.language,
        metrics=chosen,
        protocols=tuple(protocols) or (published_protocols if reads_words(chosen) else (DEFAULT,)),
        bootstrap=0,
    )
    return make_report(
        [replace(one, parts={**one.parts, **_subset_part(predictions)}) for one in report.measurements],
        ids=report.ids,
        warnings=[*report.warnings, *warnings],
        resampling=Resampling(),
        source=str(predictions.folder),
        differences=report.differences,
    )


def make_measurement(
    metric: ModelBasedMetric, statistics: Statistics, predictions: PredictionSet, facts: Mapping[str, str]
) -> Measurement:
    """Make a measurement that needs more than texts; its signature has `facts` and the predictions' data."""
    parts = {
        "proto": RAW,
        "lang": predictions.info.language,
        "imgs": str(len(predictions.rows)),
        "scale": f"0-{metric.scale:g}",
        **facts,
        "data": fingerprint([(one.id, one.references, one.incorrect) for one in predictions.examples])[:8],
        "version": __version__,
        **_subset_part(predictions),
    }
    return Measurement(metric=metric, statistics=statistics, parts=parts)


def _score_disambiguation(predictions: PredictionSet, warnings: Sequence[str]) -> ScoreReport:
    """Compute the accuracy under every rule for ties; the first is the paper's. Ties are a warning."""
    metric, rows = DisambiguationAccuracy(), predictions.rows
    losses = [(_WRONG, _RIGHT) if row.error is not None else (row.correct, row.incorrect) for row in rows]
    correct, incorrect = ([float(loss) for loss in column if loss is not None] for column in zip(*losses, strict=True))
    statistics = metric.count_decisions(correct, incorrect)
    num_ties = sum(a == b for a, b in zip(correct, incorrect, strict=True))
    measurement = make_measurement(metric, statistics, predictions, {"loss": "mean", "ties": str(num_ties)})
    report = make_report(
        [measurement],
        ids=[row.id for row in rows],
        warnings=warnings,
        resampling=Resampling(),
        source=str(predictions.folder),
    )
    if not num_ties:
        return report
    strict, lenient, half = (score.value for score in report.scores)
    num_identical = sum(example.references[0] == example.incorrect for example in predictions.examples)
    summary = (
        f"{strict:.2f} % (ties wrong), {lenient:.2f} % (ties right), {half:.2f} % (ties half); "
        f"{num_ties} ties in {len(rows)} rows, {num_identical} rows with identical texts"
    )
    return replace(report, warnings=(summary, *report.warnings))


def _choose_scoring(benchmark: str, task: str, language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics and protocols that a benchmark is published with."""
    if task == "translation":
        return _TRANSLATION_METRICS, (DEFAULT,)
    if benchmark in _COCO_BENCHMARKS:
        return _CAPTION_METRICS, ("coco",)
    if benchmark == "xm3600":
        return ("cider",), ("paper" if _has_paper_words(language) else DEFAULT,)
    return _CAPTION_METRICS, (DEFAULT,)


def _has_paper_words(language: str) -> bool:
    """Tell whether stanza is installed with its model of the language."""
    if find_spec("stanza") is None:
        return False
    try:
        find_protocol("paper", language).make_tokenizer(language)
    except ValueError:
        return False
    return True


def _subset_part(predictions: PredictionSet) -> dict[str, str]:
    """Return the part of a signature for predictions of the first examples only."""
    limit = predictions.info.limit
    return {"subset": f"first{limit}"} if limit else {}


def _warn_of_errors(predictions: PredictionSet) -> list[str]:
    errors = predictions.count_errors()
    if not errors:
        return []
    return [
        f"{errors.total()} of {len(predictions.rows)} rows have no answer and count as wrong or empty; "
        f"the first because: {next(iter(errors))}"
    ]
