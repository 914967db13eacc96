"""Counts of a data set, taken as the paper counts its own data (official code section 2.3, tok_counts.json)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from polyglance.coverage import TASKS, Cell
from polyglance.data.shard import read_annotations
from polyglance.languages import LANGUAGES
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.records import Annotation

__all__ = ["CellCounts", "count_like_paper"]

_BATCH_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class CellCounts:
    """Samples of one cell and their lengths in tokens, framing tokens included."""

    cell: str
    """Name of the cell."""
    samples: int
    """Annotations; an image may have many."""
    mean_encoder_tokens: float
    """Mean length of the prompts, written out as the model reads them."""
    max_encoder_tokens: int
    """Length of the longest prompt."""
    mean_decoder_tokens: float
    """Mean length of the targets."""
    max_decoder_tokens: int
    """Length of the longest target."""


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
    counts: dict[Cell, list[tuple[int, int, int, int, int]]] = {}
    waiting: dict[Cell, list[Annotation]] = {}
    for _, annotations in read_annotations(directory):
        for annotation in annotations:
            batch = waiting.setdefault(annotation.cell, [])
            batch.append(annotation)
            if len(batch) == _BATCH_SIZE:
                counts.setdefault(annotation.cell, []).append(_count_batch(encoder, decoder, batch))
                batch.clear()
    for cell, batch in waiting.items():
        if batch:
            counts.setdefault(cell, []).append(_count_batch(encoder, decoder, batch))
    cells = [cell for task in TASKS for code in LANGUAGES if (cell := Cell(task, code)) in counts]
    return [_add_up(cell, counts[cell]) for cell in cells]


def _count_batch(encoder: Tokenizer, decoder: Tokenizer, batch: Sequence[Annotation]) -> tuple[int, int, int, int, int]:
    """Return the number of samples; sum and maximum of prompt tokens; sum and maximum of target tokens."""
    prompts = [len(e.ids) for e in encoder.encode_batch_fast([prompt_of(a) for a in batch])]
    targets = [len(e.ids) for e in decoder.encode_batch_fast([a.text for a in batch])]
    return len(batch), sum(prompts), max(prompts), sum(targets), max(targets)


def _add_up(cell: Cell, batches: Sequence[tuple[int, int, int, int, int]]) -> CellCounts:
    table = np.array(batches, dtype=np.int64)
    samples = int(table[:, 0].sum())
    return CellCounts(
        cell=str(cell),
        samples=samples,
        mean_encoder_tokens=float(table[:, 1].sum() / samples),
        max_encoder_tokens=int(table[:, 2].max()),
        mean_decoder_tokens=float(table[:, 3].sum() / samples),
        max_decoder_tokens=int(table[:, 4].max()),
    )
