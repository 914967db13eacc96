"""The texts of a data set as tokens, by the number of the annotation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Integer
from tokenizers import Tokenizer

from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader
from polyglance.data.shard_table import AnnotationTable
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import EOS, PAD, encode
from polyglance.records import Annotation

__all__ = ["CellPool", "Frames", "MemoryTexts", "Texts", "Tokens", "cell_pools"]

Tokens = tuple[Sequence[int], Sequence[int]]
"""Ids of a prompt and of the text that answers it, without the frames of a model."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The ids around prompts and targets. The defaults are those of a model with one tokenizer.

    The published models read `<s> prompt </s>` and write `<bos> target <eos>` (official code sections 1.8 and 1.9):
    `Frames(prompt_start=(0,), prompt_end=(2,), prompt_pad=1, target_start=(2,))`.
    """

    prompt_start: tuple[int, ...] = ()
    prompt_end: tuple[int, ...] = (EOS,)
    prompt_pad: int = PAD
    target_start: tuple[int, ...] = ()
    target_end: tuple[int, ...] = (EOS,)

    def prompt(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """A prompt's ids in their frame; a prompt that is cut keeps it."""
        return [*self.prompt_start, *ids[: max_tokens - len(self.prompt_start + self.prompt_end)], *self.prompt_end]

    def target(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """A target's ids in their frame; a target that is cut keeps it."""
        return [*self.target_start, *ids[: max_tokens - len(self.target_start + self.target_end)], *self.target_end]


@dataclass(frozen=True)
class CellPool:
    """The images that have annotations for one cell, and which those are."""

    rows: Integer[np.ndarray, "N"]
    """Rows of the data set, ascending."""
    first: Integer[np.ndarray, "N+1"]
    """Annotations of the i-th image are `annotations[first[i] : first[i + 1]]`."""
    annotations: Integer[np.ndarray, "M"]
    """Numbers of annotations of the data set."""


@runtime_checkable
class Texts(Protocol):
    """What a mixture asks of the texts of a data set. Annotations are numbered in the order of the images."""

    def group_starts(self) -> Int[np.ndarray, " _"]:
        """First row of each row group of the data set, and the number of rows."""

    def pools(self, cells: Sequence[Cell]) -> dict[Cell, CellPool]:
        """For each cell the images that can show it."""

    def tokens(self, annotations: Integer[np.ndarray, " N"]) -> list[Tokens]:
        """Token ids of the prompts and texts of annotations."""

    def lengths(self, annotations: Integer[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """Number of tokens of prompt and text of each annotation."""

    def annotation(self, row: int, annotation: int) -> Annotation:
        """An annotation, whole; `row` is its image's."""


class MemoryTexts:
    """All annotations in memory; each is tokenised when it is first asked for."""

    def __init__(self, reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
        self._reader = reader
        self._table = reader.annotations()
        self._prompt_tokenizer, self._target_tokenizer = prompt_tokenizer, target_tokenizer
        self._tokens: dict[int, Tokens] = {}

    def group_starts(self) -> Int[np.ndarray, " _"]:
        """First row of each row group of the data set, and the number of rows."""
        return self._reader.group_starts()

    def pools(self, cells: Sequence[Cell]) -> dict[Cell, CellPool]:
        """For each cell the images that can show it."""
        return cell_pools(self._table, tuple(cells))

    def tokens(self, annotations: Integer[np.ndarray, " N"]) -> list[Tokens]:
        """Token ids of the prompts and texts of annotations."""
        new = [index for index in dict.fromkeys(annotations.tolist()) if index not in self._tokens]
        if new:
            entries = [self._table.annotation(index) for index in new]
            prompts = encode(self._prompt_tokenizer, [prompt_of(entry) for entry in entries])
            targets = encode(self._target_tokenizer, [entry.text for entry in entries])
            self._tokens.update(zip(new, zip(prompts, targets, strict=True), strict=True))
        return [self._tokens[index] for index in annotations.tolist()]

    def lengths(self, annotations: Integer[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """Number of tokens of prompt and text of each annotation."""
        return np.array([[len(prompt), len(target)] for prompt, target in self.tokens(annotations)])

    def annotation(self, row: int, annotation: int) -> Annotation:  # noqa: ARG002
        """An annotation, whole."""
        return self._table.annotation(annotation)


def cell_pools(table: AnnotationTable, cells: tuple[Cell, ...]) -> dict[Cell, CellPool]:
    """For each cell the images that can show it."""
    entries: dict[Cell, list[tuple[int, int]]] = {cell: [] for cell in cells}
    for index, entry in enumerate(zip(table.rows(), table.task, table.language, strict=True)):
        row, cell = entry[0], Cell(entry[1], entry[2])
        if cell in entries:
            entries[cell].append((row, index))
    return {cell: _pool(np.array(found, dtype=np.int64).reshape(-1, 2)) for cell, found in entries.items()}


def _pool(found: Int[np.ndarray, "M 2"]) -> CellPool:
    rows, first = np.unique(found[:, 0], return_index=True)
    return CellPool(rows=rows, first=np.append(first, len(found)), annotations=found[:, 1])
