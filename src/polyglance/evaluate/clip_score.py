"""CLIPScore of captions: how well they fit their images, by any CLIP-like checkpoint in a folder.

Captions in other languages than English are scored as MCLIPScore, by a checkpoint that reads them. Numbers of different
checkpoints do not compare; the signature names the checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyglance.data.benchmarks import BenchmarkExample
from polyglance.engines import EngineConfig, Picture, Scorer, open_scorer
from polyglance.evaluate.config import PredictConfig
from polyglance.evaluate.metrics.model_based import ClipScore
from polyglance.evaluate.prediction_job import load_examples
from polyglance.evaluate.prediction_set import PredictionRow, PredictionSet
from polyglance.evaluate.score_predictions import make_measurement
from polyglance.evaluate.score_report import Measurement
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.progress import track_progress

__all__ = ["ClipConfig", "measure_clip_score"]


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """A checkpoint that scores captions, and how it does it."""

    folder: Path
    """Folder of a CLIP-like checkpoint as transformers saves it."""
    prefix: str = ""
    """Words before every caption. The paper has none; Hessel et al. have `A photo depicts `."""
    weight: float = 2.5
    """Factor of cosines (Hessel et al., 2021)."""
    batch_size: int = 32
    """Number of images at a time."""
    device: str = "auto"
    """Device that it runs on: cpu, cuda, cuda:1; auto: a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the weights."""


def measure_clip_score(predictions: PredictionSet, predicted: PredictConfig, config: ClipConfig) -> Measurement:
    """Score captions with their images. Rows without an image or a caption count as 0.

    Args:
        predicted: configuration that the predictions were made with.

    Raises:
        ValueError: predictions of another task, or a folder without a model that can do it.
    """
    if predictions.info.task != "caption":
        raise ValueError(f"{predictions.folder}: predictions of {predictions.info.task}; CLIPScore is for captions")
    model = open_scorer(EngineConfig(kind="clip", path=config.folder, device=config.device, dtype=config.dtype))
    examples = load_examples(predicted, images=True)
    values: list[float] = []
    with track_progress() as show:
        for first in range(0, len(examples), config.batch_size):
            batch = slice(first, first + config.batch_size)
            values += _score_batch(model, examples[batch], predictions.rows[batch], config)
            show("CLIPScore", len(values), len(examples))
    english = predictions.info.language == SOURCE_LANGUAGE
    metric = ClipScore(score="CLIPScore" if english else "MCLIPScore")
    facts = {
        "model": f"{model.model_type}-{model.digest[:8]}",
        "prefix": config.prefix.strip() or "none",
        "weight": f"{config.weight:g}",
        "dtype": config.dtype,
    }
    return make_measurement(metric, metric.keep_values(values), predictions, facts)


def _score_batch(
    model: Scorer, examples: Sequence[BenchmarkExample], rows: Sequence[PredictionRow], config: ClipConfig
) -> list[float]:
    """Compute the weighted cosine of each row, not below 0."""
    values = [0.0] * len(rows)
    answered = [number for number, row in enumerate(rows) if row.error is None]
    images = []
    for number in answered:
        image = examples[number].image
        assert image is not None
        images.append(Picture.read(image))
    if answered:
        cosines = model.cosines(images, [f"{config.prefix}{rows[number].text}" for number in answered])
        for number, cosine in zip(answered, cosines, strict=True):
            values[number] = config.weight * max(cosine, 0.0)
    return values
