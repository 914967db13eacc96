"""CLIPScore of captions: how well they fit their images, by any CLIP-like checkpoint in a folder.

Captions in other languages than English are scored as MCLIPScore, by a checkpoint that reads them. Numbers of different
checkpoints do not compare; the signature says which it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyglance.engines.clip import ClipModel
from polyglance.engines.open import Picture
from polyglance.evaluate.metrics.means import ClipScore
from polyglance.evaluate.predict import PredictConfig, Prediction, load_examples
from polyglance.evaluate.score_predictions import measured_with_model
from polyglance.evaluate.score_report import Measurement
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.progress import track_progress

__all__ = ["ClipConfig", "clip_score"]


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Which checkpoint scores, and how."""

    folder: Path
    """A CLIP-like checkpoint as transformers saves it."""
    prefix: str = ""
    """Words before every caption. The paper has none; Hessel et al. have `A photo depicts `."""
    weight: float = 2.5
    """What cosines are multiplied with (Hessel et al., 2021)."""
    batch_size: int = 32
    """Images at a time."""
    device: str = "cpu"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


def clip_score(prediction: Prediction, predicted: PredictConfig, config: ClipConfig) -> Measurement:
    """Score captions with their images. Rows without an image or a caption count as 0.

    Raises:
        ValueError: predictions of another task, or a folder without a model that can do it.
    """
    if prediction.sidecar["task"] != "caption":
        raise ValueError(f"CLIPScore is of captions; {prediction.folder} holds {prediction.sidecar['task']}")
    model = ClipModel(config.folder, device=config.device, dtype=config.dtype)
    examples = load_examples(predicted, images=True)
    values: list[float] = []
    with track_progress() as show:
        for first in range(0, len(examples), config.batch_size):
            chosen = slice(first, first + config.batch_size)
            values += _batch(model, examples[chosen], prediction.rows[chosen], config)
            show("CLIPScore", len(values), len(examples))
    english = prediction.sidecar["language"] == SOURCE_LANGUAGE
    metric = ClipScore(score="CLIPScore" if english else "MCLIPScore")
    facts = {
        "model": f"{model.kind}-{model.digest[:8]}",
        "prefix": config.prefix.strip() or "none",
        "weight": f"{config.weight:g}",
        "dtype": config.dtype,
    }
    return measured_with_model(metric, metric.of({"CLIPScore": values}), prediction, facts)


def _batch(model: ClipModel, examples: Sequence[Any], rows: Sequence[Any], config: ClipConfig) -> list[float]:
    values = [0.0] * len(rows)
    kept = [number for number, row in enumerate(rows) if "error" not in row]
    if kept:
        images = [Picture.read(examples[number].image).rgb for number in kept]
        cosines = model.cosines(images, [config.prefix + rows[number]["text"] for number in kept])
        for number, cosine in zip(kept, cosines.tolist(), strict=True):
            values[number] = config.weight * max(cosine, 0.0)
    return values
