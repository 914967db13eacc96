"""Counts of a data set, taken as the paper counts its own data (official code section 2.3, tok_counts.json)."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from polyglance.coverage import TASKS, Cell
from polyglance.data.shard import read_annotations
from polyglance.languages import LANGUAGES
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import load_tokenizer

__all__ = ["CellCounts", "count_like_paper"]

_BATCH_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class CellCounts:
    """Samples of one cell and their lengths in tokens, framing tokens included."""

    cell: str
    samples: int
    """Annotations; an image may have many."""
    mean_encoder_tokens: float
    """Mean length of the prompts, written out as the model reads them."""
    max_encoder_tokens: int
    mean_decoder_tokens: float
    """Mean length of the targets."""
    max_decoder_tokens: int


def count_like_paper(
    directory: str | Path, encoder_tokenizer: str | Path, decoder_tokenizer: str | Path | None = None
) -> list[CellCounts]:
    """Count every cell of a data set, captions first; images are not read.

    Args:
        encoder_tokenizer: tokenizer.json of the prompts (published: Florence-2's).
        decoder_tokenizer: tokenizer.json of the targets (published: Gemma's); None: the same one.

    Raises:
        ValueError: not a data set, or not tokenizers.
    """
    encoder = load_tokenizer(encoder_tokenizer)
    decoder = encoder if decoder_tokenizer is None else load_tokenizer(decoder_tokenizer)
    annotations = (annotation for _, of_image in read_annotations(directory) for annotation in of_image)
    prompt_lengths: dict[Cell, Counter[int]] = defaultdict(Counter)
    target_lengths: dict[Cell, Counter[int]] = defaultdict(Counter)
    while batch := list(islice(annotations, _BATCH_SIZE)):
        prompts = encoder.encode_batch_fast([prompt_of(annotation) for annotation in batch])
        targets = decoder.encode_batch_fast([annotation.text for annotation in batch])
        for annotation, prompt, target in zip(batch, prompts, targets, strict=True):
            prompt_lengths[annotation.cell][len(prompt)] += 1
            target_lengths[annotation.cell][len(target)] += 1
    return [
        CellCounts(
            cell=str(cell),
            samples=prompt_lengths[cell].total(),
            mean_encoder_tokens=_mean(prompt_lengths[cell]),
            max_encoder_tokens=max(prompt_lengths[cell]),
            mean_decoder_tokens=_mean(target_lengths[cell]),
            max_decoder_tokens=max(target_lengths[cell]),
        )
        for cell in (Cell(task, code) for task in TASKS for code in LANGUAGES)
        if cell in prompt_lengths
    ]


def _mean(lengths: Counter[int]) -> float:
    return sum(length * count for length, count in lengths.items()) / lengths.total()
