"""Greedy captions of held-out images: are they in the asked language, are they right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from polyglance.data.world import read_attributes
from polyglance.evaluate.cells import CellSamples
from polyglance.evaluate.language_id import LanguageIdentifier
from polyglance.mixture.prompts import prompt_of
from polyglance.model.architecture import Polyglance
from polyglance.model.generate import GenerateConfig, generate_ids
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels

__all__ = ["CaptionScores", "attribute_accuracy", "greedy_captions", "score_captions"]


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """How the captions of one cell compare with their references, as shares of the samples."""

    samples: int
    right_language: float
    """In the language that was asked for."""
    exact_match: float
    """The same as the reference, to the character."""
    attributes: Mapping[str, float] = field(default_factory=dict)
    """In the built-in world: attribute -> share of the reference's values that stand at the same place."""


@torch.no_grad()
def greedy_captions(
    model: Polyglance, processor: Processor, samples: CellSamples, *, prefix: str, max_new_tokens: int
) -> list[str]:
    """The model's captions of a cell's images, the prefix included."""
    prompts = [prompt_of(annotation) for annotation in samples.annotations]
    features = model.encode_image(normalise_pixels(torch.from_numpy(samples.images)).to(model.device, model.dtype))
    config = GenerateConfig(num_beams=1, max_new_tokens=max_new_tokens, no_repeat_ngram_size=0)
    ids = generate_ids(model, processor, prompts, features, prefix=prefix, config=config)
    return processor.texts(ids[:, len(processor.config.target_start_ids) :])


def score_captions(
    captions: Sequence[str],
    references: Sequence[str],
    code: str,
    identifier: LanguageIdentifier,
    *,
    in_world: bool,
) -> CaptionScores:
    """Compare captions with references of the language `code`.

    Args:
        in_world: the data is the built-in world's, whose words can be read as attributes.
    """
    pairs = list(zip(captions, references, strict=True))
    return CaptionScores(
        samples=len(pairs),
        right_language=sum(identifier.identify(caption) == code for caption in captions) / len(pairs),
        exact_match=sum(caption.strip() == reference for caption, reference in pairs) / len(pairs),
        attributes=attribute_accuracy(pairs, code) if in_world else {},
    )


def attribute_accuracy(pairs: Sequence[tuple[str, str]], code: str) -> dict[str, float]:
    """For each attribute the share of the references' values that captions name at the same place in the order."""
    right: dict[str, int] = {}
    total: dict[str, int] = {}
    for caption, reference in pairs:
        said = read_attributes(caption, code)
        for name, values in read_attributes(reference, code).items():
            matches = sum(a == b for a, b in zip(values, said.get(name, ()), strict=False))
            right[name] = right.get(name, 0) + matches
            total[name] = total.get(name, 0) + len(values)
    return {name: right[name] / total[name] for name in sorted(total) if total[name]}
