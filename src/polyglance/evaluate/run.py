"""From model and benchmark to scores: predict, score, write, for one language after the other."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polyglance.data.benchmarks import benchmark
from polyglance.engines import EvaluatedModel, open_model
from polyglance.evaluate.predict import PredictConfig, Prediction, predict
from polyglance.evaluate.score_predictions import score_prediction
from polyglance.evaluate.score_report import Resampling, Score, ScoreReport, make_report, write_scores

__all__ = ["Evaluated", "ScoringConfig", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """How predictions are scored."""

    score: bool = True
    """Whether they are."""
    metrics: tuple[str, ...] = ()
    """None given: those that the benchmark is published with."""
    protocols: tuple[str, ...] = ()
    """None given: those that the benchmark is published with."""
    clip: Path | None = None
    """CLIP-like checkpoint that also scores captions; None: none does."""
    clip_prefix: str = ""
    """Words before every caption that it reads."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One language's result."""

    language: str
    folder: str
    """Where predictions.jsonl, prediction.json and scores.json are."""
    num_rows: int
    num_errors: int
    """Rows without an answer."""
    scores: tuple[Score, ...]
    warnings: tuple[str, ...]


def evaluate(config: PredictConfig, languages: Sequence[str], scoring: ScoringConfig) -> list[Evaluated]:
    """Predict and score a benchmark in these languages.

    Args:
        config: `language` is put in for each.
        languages: none given: all of the benchmark's that the model knows.

    Raises:
        ValueError: as `predict` and `score_prediction`.
    """
    model = open_model(config.model)
    asked = languages or _all_languages(config, model)
    return [_evaluate(replace(config, language=code), model, scoring) for code in asked]


def _all_languages(config: PredictConfig, model: EvaluatedModel) -> list[str]:
    chosen = benchmark(config.benchmark)
    known = chosen.languages(config.split or chosen.splits[0])
    able = model.languages.get(config.task)
    left = [code for code in known if able is not None and code not in able]
    if left and len(left) < len(known):
        print(f"{model.name} does not know {', '.join(left)}: left out", file=sys.stderr)
        return [code for code in known if code not in left]
    return list(known)


def _evaluate(config: PredictConfig, model: EvaluatedModel, scoring: ScoringConfig) -> Evaluated:
    prediction = predict(config, model)
    report = _scored(prediction, config, scoring) if scoring.score else ScoreReport(scores=(), warnings=())
    return Evaluated(
        language=config.language,
        folder=str(prediction.folder),
        num_rows=len(prediction.rows),
        num_errors=sum(prediction.errors.values()),
        scores=report.scores,
        warnings=report.warnings,
    )


def _scored(prediction: Prediction, config: PredictConfig, scoring: ScoringConfig) -> ScoreReport:
    report = score_prediction(prediction, metrics=scoring.metrics, protocols=scoring.protocols)
    if scoring.clip is not None:
        from polyglance.evaluate.clip_score import ClipConfig, clip_score

        chosen: Any = {"folder": scoring.clip, "prefix": scoring.clip_prefix}
        measured = clip_score(prediction, config, ClipConfig(**chosen, device=config.model.device))
        report = make_report(
            [*report.measurements, measured],
            ids=report.ids,
            warnings=report.warnings,
            resampling=Resampling(),
            source=report.source,
        )
    write_scores(report, prediction.folder)
    return report
