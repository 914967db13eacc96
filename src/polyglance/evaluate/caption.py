"""Greedy captions of held-out images: are they in the asked language, are they right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer

from polyglance.data.world import attributes
from polyglance.evaluate.cells import CellSamples
from polyglance.evaluate.language_id import LanguageIdentifier
from polyglance.mixture.collate import collate, target_ids
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import BOS
from polyglance.model.architecture import Polyglance
from polyglance.model.vision import pixel_values

__all__ = ["CaptionScores", "attribute_accuracy", "greedy_captions", "score_captions"]


_MAX_PROMPT_TOKENS = 96
"""More than a request for a caption has."""


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


def greedy_captions(
    model: Polyglance, tokenizer: Tokenizer, samples: CellSamples, *, prefix: str, max_new_tokens: int
) -> list[str]:
    """The model's captions of a cell's images, the prefix included."""
    batch = collate(
        samples.images,
        target_ids(tokenizer, [prompt_of(annotation) for annotation in samples.annotations], _MAX_PROMPT_TOKENS),
        [[0]] * len(samples.annotations),
        torch.zeros(len(samples.annotations), dtype=torch.long).numpy(),
    )
    start = torch.tensor([[BOS, *tokenizer.encode(prefix).ids]]).expand(len(samples.annotations), -1)
    ids = model.generate(
        pixel_values(batch.images),
        batch.input_ids,
        batch.attention_mask,
        decoder_input_ids=start,
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    return tokenizer.decode_batch(ids.tolist(), skip_special_tokens=True)


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
        said = attributes(caption, code)
        for name, values in attributes(reference, code).items():
            matches = sum(a == b for a, b in zip(values, said.get(name, ()), strict=False))
            right[name] = right.get(name, 0) + matches
            total[name] = total.get(name, 0) + len(values)
    return {name: right[name] / total[name] for name in sorted(total) if total[name]}
