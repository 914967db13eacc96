"""Choice between two translations of an ambiguous sentence from the image, as in CoMMuTE, for the built-in world."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from polyglance.data.world import AmbiguousPair, render
from polyglance.evaluate.loss import encode_labels, find_limits, frame_prompts, measure_tokens
from polyglance.mixture.prompts import write_prompt
from polyglance.model.architecture import Polyglance
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels

__all__ = ["measure_disambiguation"]


@torch.no_grad()
def measure_disambiguation(
    model: Polyglance,
    processor: Processor,
    pairs: Sequence[AmbiguousPair],
    language: str,
    *,
    max_source_tokens: int | None = None,
    max_target_tokens: int,
) -> float:
    """Return the share of (sentence, picture) whose right translation costs less per token than that of the other
    picture. Each sentence is asked with both pictures, so a model that ignores them scores 0.5.

    Args:
        language: language of the translations; the world has a grammar for it.
        max_source_tokens, max_target_tokens: as in `measure_cell`.
    """
    size = processor.config.image_size
    pixels = np.stack([render(scene, size) for pair in pairs for scene in pair.scenes])
    prompts = [write_prompt("translation", language, source=pair.source) for pair in pairs for _ in pair.scenes]
    max_prompt, max_target = find_limits(model, processor, max_source_tokens, max_target_tokens)
    input_ids, mask = frame_prompts(processor, prompts, max_prompt)
    images = normalise_pixels(torch.from_numpy(pixels)).to(model.device, model.dtype)
    encoded = model.encode(images, input_ids.to(model.device), mask.to(model.device))

    def mean_nats(texts: Sequence[str]) -> Float[np.ndarray, "B"]:
        labels = encode_labels(processor, texts, "", max_target)
        return np.array([row.mean() for row in measure_tokens(model, encoded, labels)])

    right = mean_nats([text for pair in pairs for text in pair.texts(language)])
    wrong = mean_nats([text for pair in pairs for text in reversed(pair.texts(language))])
    return float(((right < wrong) + 0.5 * (right == wrong)).mean())
