"""Evaluation of a model on a benchmark: predict, score, write, for one language after the other."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyglance.data.benchmarks import find_benchmark
from polyglance.distributed import Runtime, is_main_process, join_for_messages
from polyglance.engines import EvaluatedModel
from polyglance.evaluate.config import PredictConfig, ScoringConfig
from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.predict import open_local_model, predict_benchmark
from polyglance.evaluate.prediction_set import PredictionSet
from polyglance.evaluate.score_predictions import score_predictions
from polyglance.evaluate.score_report import MetricScore, ScoreReport, make_report, write_scores
from polyglance.files import check_output_folder
from polyglance.language_tags import find_codes

__all__ = ["LanguageResult", "choose_known_languages", "evaluate_benchmark", "score_language"]


@dataclass(frozen=True, kw_only=True)
class LanguageResult:
    """Result of a benchmark in one language."""

    language: str
    folder: str
    """Folder of predictions.jsonl, prediction.json and scores.json."""
    num_rows: int
    num_errors: int
    """Number of rows without an answer."""
    scores: tuple[MetricScore, ...]
    warnings: tuple[str, ...]


def evaluate_benchmark(config: PredictConfig, languages: Sequence[str], scoring: ScoringConfig) -> list[LanguageResult]:
    """Predict and score a benchmark in these languages.

    Args:
        config: its `language` is replaced by each.
        languages: as people write them; none given: all of the benchmark's that the model knows.

    Returns:
        The results in the first process that torchrun has started, or the only one; nothing in the others.

    Raises:
        ValueError: as `predict_benchmark` and `score_predictions`, or a setting without effect.
    """
    scoring.check_task(config.task)
    check_output_folder(config.out, "`out`")
    named = find_codes(languages)
    model = open_local_model(config)
    chosen = named or choose_known_languages(config, model)
    with join_for_messages() as runtime:
        results = [_evaluate_language(replace(config, language=code), model, scoring, runtime) for code in chosen]
    return [result for result in results if result is not None]


def choose_known_languages(config: PredictConfig, model: EvaluatedModel) -> list[str]:
    """Return the benchmark's languages that the model knows; all where it knows none, which is refused later."""
    languages = find_benchmark(config.benchmark).languages(config.used_split)
    of_model = model.languages.get(config.task)
    unknown = [code for code in languages if of_model is not None and code not in of_model]
    if unknown and len(unknown) < len(languages):
        if is_main_process():
            print(f"{model.name} does not know {', '.join(unknown)}: left out", file=sys.stderr)
        return [code for code in languages if code not in unknown]
    return list(languages)


def _evaluate_language(
    config: PredictConfig, model: EvaluatedModel, scoring: ScoringConfig, runtime: Runtime
) -> LanguageResult | None:
    """Predict in all processes, score in the first."""
    predictions = predict_benchmark(config, model)
    if not runtime.is_main:
        return None
    return score_language(predictions, config, scoring)


def score_language(predictions: PredictionSet, config: PredictConfig, scoring: ScoringConfig) -> LanguageResult:
    """Score finished predictions in one language as asked, and write the scores beside them."""
    report = _score(predictions, config, scoring) if scoring.score else ScoreReport(scores=(), warnings=())
    return LanguageResult(
        language=config.language,
        folder=str(predictions.folder),
        num_rows=len(predictions.rows),
        num_errors=predictions.count_errors().total(),
        scores=report.scores,
        warnings=report.warnings,
    )


def _score(predictions: PredictionSet, config: PredictConfig, scoring: ScoringConfig) -> ScoreReport:
    """Score predictions and write the scores beside them."""
    report = score_predictions(predictions, metrics=scoring.metrics, protocols=scoring.protocol)
    if scoring.clip is not None:
        from polyglance.evaluate.clip_score import ClipConfig, measure_clip_score

        clip = ClipConfig(folder=scoring.clip, prefix=scoring.clip_prefix, device=config.model.device)
        report = make_report(
            [*report.measurements, measure_clip_score(predictions, config, clip)],
            ids=report.ids,
            warnings=report.warnings,
            resampling=Resampling(),
            source=report.source,
        )
    write_scores(report, predictions.folder)
    return report
