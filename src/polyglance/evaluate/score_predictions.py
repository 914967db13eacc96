"""Scores of finished predictions, with the protocols and metrics that their benchmark is published with.

report = score_prediction(predict(config))
write_scores(report, prediction.folder)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.evaluate.disambiguation import disambiguation_accuracy
from polyglance.evaluate.metrics import Statistics
from polyglance.evaluate.metrics.means import DisambiguationAccuracy, SegmentMeans
from polyglance.evaluate.predict import Prediction
from polyglance.evaluate.protocols import DEFAULT, protocol
from polyglance.evaluate.score import RAW, score_texts
from polyglance.evaluate.score_report import Measurement, Resampling, ScoreReport, make_report

__all__ = ["measured_with_model", "score_prediction"]

_CAPTION_METRICS = ("cider", "bleu", "rouge")
_TRANSLATION_METRICS = ("sacrebleu", "chrf")
_COCO_BENCHMARKS = ("coco-karpathy", "multi30k-task2")
"""Published with PTB tokens."""
_WRONG, _RIGHT = 1.0, 0.0
"""Losses of a row that has none: its wrong translation costs less."""


def score_prediction(
    prediction: Prediction,
    *,
    metrics: Sequence[str] = (),
    protocols: Sequence[str] = (),
    resampling: Resampling | None = None,
) -> ScoreReport:
    """Score predictions. Rows without an answer count as empty texts, or as rows decided wrongly; a warning says so.

    Args:
        metrics, protocols: None given: those of the benchmark.

    Raises:
        ValueError: as `score_texts`.
    """
    resampling = resampling or Resampling()
    task, language = str(prediction.sidecar["task"]), str(prediction.sidecar["language"])
    warnings = _warnings(prediction)
    if task == "disambiguation":
        return _accuracy(prediction, resampling, warnings)
    by_default, chosen = _defaults(str(prediction.sidecar["benchmark"]), task, language)
    report = score_texts(
        {row["id"]: row["text"] for row in prediction.rows},
        {example.id: example.references for example in prediction.examples},
        language=language,
        metrics=tuple(metrics) or by_default,
        protocols=tuple(protocols) or chosen,
        num_bootstrap=0,
    )
    return make_report(
        [replace(one, parts={**one.parts, **_subset(prediction)}) for one in report.measurements],
        ids=report.ids,
        warnings=[*report.warnings, *warnings],
        resampling=resampling,
        source=str(prediction.folder),
    )


def measured_with_model(
    metric: SegmentMeans, statistics: Statistics, prediction: Prediction, facts: Mapping[str, str]
) -> Measurement:
    """A measurement that texts alone do not give, signed with `facts` and the predictions' data."""
    parts = {
        "proto": RAW,
        "lang": str(prediction.sidecar["language"]),
        "imgs": str(len(prediction.rows)),
        "scale": f"0-{metric.scale:g}",
        **facts,
        "data": fingerprint([(one.id, one.references, one.incorrect) for one in prediction.examples])[:8],
        "version": __version__,
        **_subset(prediction),
    }
    return Measurement(
        metric=metric, protocol=RAW, language=parts["lang"], factor=1.0, statistics=statistics, parts=parts
    )


def _accuracy(prediction: Prediction, resampling: Resampling, warnings: Sequence[str]) -> ScoreReport:
    """Disambiguation accuracy under every rule for ties; the first is the paper's."""
    correct = [row.get("correct", _WRONG) for row in prediction.rows]
    incorrect = [row.get("incorrect", _RIGHT) for row in prediction.rows]
    texts = [(example.references[0], example.incorrect or "") for example in prediction.examples]
    counted = disambiguation_accuracy(correct, incorrect, texts=texts)
    pairs = list(zip(correct, incorrect, strict=True))
    wins, ties = [float(a < b) for a, b in pairs], [float(a == b) for a, b in pairs]
    metric = DisambiguationAccuracy()
    columns = (
        wins,
        [w + t for w, t in zip(wins, ties, strict=True)],
        [w + t / 2 for w, t in zip(wins, ties, strict=True)],
    )
    statistics = metric.of(dict(zip(metric.names, columns, strict=True)))
    facts = {"loss": "mean", "ties": str(counted.ties)}
    return make_report(
        [measured_with_model(metric, statistics, prediction, facts)],
        ids=[row["id"] for row in prediction.rows],
        warnings=[counted.summary(), *warnings] if counted.ties else warnings,
        resampling=resampling,
        source=str(prediction.folder),
    )


def _defaults(benchmark: str, task: str, language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Metrics and protocols of a benchmark."""
    if task == "translation":
        return _TRANSLATION_METRICS, (DEFAULT,)
    if benchmark in _COCO_BENCHMARKS:
        return _CAPTION_METRICS, ("coco",)
    if benchmark == "xm3600":
        return ("cider",), ("paper" if _has_paper_words(language) else DEFAULT,)
    return _CAPTION_METRICS, (DEFAULT,)


def _has_paper_words(language: str) -> bool:
    """Whether stanza is here with its model of the language."""
    if find_spec("stanza") is None:
        return False
    try:
        protocol("paper", language).tokenizer(language)
    except ValueError:
        return False
    return True


def _subset(prediction: Prediction) -> dict[str, str]:
    limit = prediction.sidecar["limit"]
    return {"subset": f"first{limit}"} if limit else {}


def _warnings(prediction: Prediction) -> list[str]:
    errors = prediction.errors
    if not errors:
        return []
    first = next(iter(errors))
    return [
        f"{sum(errors.values())} of {len(prediction.rows)} rows have no answer and count as wrong or empty; "
        f"the first because: {first}"
    ]
