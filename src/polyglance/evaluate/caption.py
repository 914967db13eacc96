"""Greedy captions of held-out images, and their scores: language, exact match, attributes."""

from collections.abc import Sequence

import torch

from polyglance.data.world import read_attributes
from polyglance.evaluate.cells import CellSamples
from polyglance.language_identity import LanguageIdentifier, are_close
from polyglance.mixture.prompts import prompt_of
from polyglance.model.architecture import Polyglance
from polyglance.model.config import GenerateConfig
from polyglance.model.generate import generate_ids
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels
from polyglance.run_records import CaptionScores

__all__ = ["caption_greedily", "compare_attributes", "score_captions"]


@torch.no_grad()
def caption_greedily(
    model: Polyglance, processor: Processor, samples: CellSamples, *, prefix: str, max_new_tokens: int
) -> list[str]:
    """Generate a caption for each image of a cell, by greedy decoding. The texts include the prefix."""
    prompts = [prompt_of(annotation) for annotation in samples.annotations]
    features = model.encode_image(normalise_pixels(torch.from_numpy(samples.images)).to(model.device, model.dtype))
    config = GenerateConfig(beams=1, max_new_tokens=max_new_tokens, no_repeat_ngram_size=0)
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
    """Compare captions with references in the language `code`.

    Args:
        in_world: the data is the built-in world's, so that attributes can be read from the words.
    """
    pairs = list(zip(captions, references, strict=True))
    found = [identifier.identify(caption) for caption in captions]
    close = [other for other in found if other is not None and other != code and are_close(other, code)]
    return CaptionScores(
        samples=len(pairs),
        right_language=found.count(code) / len(pairs),
        right_language_of_references=sum(identifier.identify(text) == code for text in references) / len(pairs),
        close_language=len(close) / len(pairs),
        exact_match=sum(caption.strip() == reference for caption, reference in pairs) / len(pairs),
        attributes=compare_attributes(pairs, code) if in_world else {},
    )


def compare_attributes(pairs: Sequence[tuple[str, str]], code: str) -> dict[str, float]:
    """Return attribute -> share of the references' values that the captions name at the same place in the order.

    Args:
        pairs: caption and reference, both in the language `code`.
    """
    right: dict[str, int] = {}
    total: dict[str, int] = {}
    for caption, reference in pairs:
        named = read_attributes(caption, code)
        for name, values in read_attributes(reference, code).items():
            matches = sum(a == b for a, b in zip(values, named.get(name, ()), strict=False))
            right[name] = right.get(name, 0) + matches
            total[name] = total.get(name, 0) + len(values)
    return {name: right[name] / total[name] for name in sorted(total) if total[name]}
