"""Texts of a data set as tokens, by the number of the annotation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer
from tokenizers import Tokenizer

from polyglance.block_sums import CheckedArray
from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader
from polyglance.data.shard_table import AnnotationTable
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import EOS, PAD, encode_prompts, encode_texts
from polyglance.records import Annotation

__all__ = ["CellPool", "Frames", "MemoryTexts", "Tokens", "make_cell_pools"]

Tokens = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of its target, without the frames of a model."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Ids around prompts and targets. The defaults are those of a model with one tokenizer.

    The published models read `<s> prompt </s>` and write `<bos> target <eos>` (official code sections 1.8 and 1.9):
    `Frames(prompt_start=(0,), prompt_end=(2,), prompt_pad=1, target_start=(2,))`.
    """

    prompt_start: tuple[int, ...] = ()
    """Ids before a prompt."""
    prompt_end: tuple[int, ...] = (EOS,)
    """Ids after a prompt."""
    prompt_pad: int = PAD
    """Padding id of prompts."""
    target_start: tuple[int, ...] = ()
    """Ids before a target."""
    target_end: tuple[int, ...] = (EOS,)
    """Ids after a target."""

    def prompt(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """Return a prompt's ids in their frame, at most `max_tokens`; a prompt that is cut keeps its frame."""
        return [*self.prompt_start, *ids[: max_tokens - len(self.prompt_start + self.prompt_end)], *self.prompt_end]

    def target(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """Return a target's ids in their frame, at most `max_tokens`; a target that is cut keeps its frame."""
        return [*self.target_start, *ids[: max_tokens - len(self.target_start + self.target_end)], *self.target_end]

    def lengths(self, tokens: Int[np.ndarray, "N 2"]) -> Int[np.ndarray, "N 2"]:
        """Return the tokens of prompts and targets in their frames, before any cut.

        Args:
            tokens: their tokens without the frames.
        """
        frames = (self.prompt_start + self.prompt_end, self.target_start + self.target_end)
        return tokens + np.array([len(frame) for frame in frames])


@dataclass(frozen=True)
class CellPool:
    """Images that have annotations for one cell, and these annotations: N images, M annotations."""

    rows: Integer[np.ndarray, "N"] | CheckedArray
    """Rows of the data set, ascending."""
    first: Integer[np.ndarray, "N+1"] | CheckedArray
    """The annotations of the i-th image are `annotations[first[i] : first[i + 1]]`."""
    annotations: Integer[np.ndarray, "M"] | CheckedArray
    """Numbers of the annotations in the data set."""


class MemoryTexts:
    """Texts of a data set with all annotations in memory; each is tokenised when it is first asked for. Annotations are
    numbered in the order of the images."""

    def __init__(self, reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
        self._reader = reader
        self._table = reader.annotations()
        self._prompt_tokenizer, self._target_tokenizer = prompt_tokenizer, target_tokenizer
        self._tokens: dict[int, Tokens] = {}

    def group_starts(self) -> Int[np.ndarray, " _"]:
        """Return the first row of each row group of the data set, and the number of rows."""
        return self._reader.group_starts()

    def pools(self, cells: Sequence[Cell]) -> dict[Cell, CellPool]:
        """Return the images that can show each cell."""
        return make_cell_pools(self._table, tuple(cells))

    def tokens(self, annotations: Integer[np.ndarray, " N"]) -> list[Tokens]:
        """Return the token ids of prompt and target of annotations."""
        new = [index for index in dict.fromkeys(annotations.tolist()) if index not in self._tokens]
        if new:
            entries = [self._table.annotation(index) for index in new]
            prompts = encode_prompts(self._prompt_tokenizer, [prompt_of(entry) for entry in entries])
            targets = encode_texts(self._target_tokenizer, [entry.text for entry in entries])
            self._tokens.update(zip(new, zip(prompts, targets, strict=True), strict=True))
        return [self._tokens[index] for index in annotations.tolist()]

    def lengths(self, annotations: Integer[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """Return the number of tokens of prompt and target of each annotation."""
        return np.array([[len(prompt), len(target)] for prompt, target in self.tokens(annotations)])

    def annotation(self, row: int, annotation: int) -> Annotation:  # noqa: ARG002
        """Return an annotation as it is written in the data set; `row` is its image's."""
        return self._table.annotation(annotation)


def make_cell_pools(table: AnnotationTable, cells: tuple[Cell, ...]) -> dict[Cell, CellPool]:
    """Return, for each cell, the images that can show it."""
    entries: dict[Cell, list[tuple[int, int]]] = {cell: [] for cell in cells}
    for index, (row, task, code) in enumerate(zip(table.rows(), table.task, table.language, strict=True)):
        if (cell := Cell(task, code)) in entries:
            entries[cell].append((row, index))
    return {cell: _make_pool(np.array(pairs, dtype=np.int64).reshape(-1, 2)) for cell, pairs in entries.items()}


def _make_pool(pairs: Int[np.ndarray, "M 2"]) -> CellPool:
    """Make the pool of a cell from (row, annotation), ordered by row."""
    rows, first = np.unique(pairs[:, 0], return_index=True)
    return CellPool(rows=rows, first=np.append(first, len(pairs)), annotations=pairs[:, 1])
