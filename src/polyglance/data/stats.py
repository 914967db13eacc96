"""Statistics of a data set: texts per cell and style, and their lengths. `polyglance data stats`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from polyglance.coverage import TASKS, Cell
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_annotations
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE, Language, get_language

__all__ = ["CellStats", "DataStats", "Length", "TextStats", "count_words", "measure_data_set"]

_TOKENIZER_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class Length:
    """Mean and maximum length of texts, in one unit."""

    mean: float
    max: int


@dataclass(frozen=True, kw_only=True)
class TextStats:
    """Lengths of texts in several units."""

    chars: Length
    """Unicode code points."""
    utf8_bytes: Length
    words: Length
    """Words by the rule of the language: separated by spaces, or single characters (Chinese)."""
    tokens: Length | None
    """Tokens without special tokens; None without a tokenizer."""


@dataclass(frozen=True, kw_only=True)
class CellStats:
    """The texts of one cell."""

    cell: Cell
    num_texts: int
    styles: Mapping[str, int]
    """Style -> number of texts."""
    text: TextStats
    source: TextStats | None
    """English source texts of translations; None for captions."""


@dataclass(frozen=True, kw_only=True)
class DataStats:
    """Statistics of a data set."""

    num_images: int
    cells: tuple[CellStats, ...]
    """Captions first, languages in the order of `LANGUAGES`."""
    drops: Mapping[str, Any]
    """Reason -> count and first places, from the manifest."""

    def rows(self) -> list[dict[str, Any]]:
        """Return flat rows, one per cell, to print or to write as CSV; all rows have the same columns."""
        return [
            {"cell": str(stats.cell), "texts": stats.num_texts, "styles": dict(stats.styles)}
            | _flat("", stats.text)
            | _flat("source_", stats.source)
            for stats in self.cells
        ]


def measure_data_set(directory: str | Path, tokenizer: Tokenizer | None = None) -> DataStats:
    """Count and measure the texts of a data set; images are not read.

    Args:
        directory: a data set (the folder with manifest.json).
        tokenizer: counts tokens (`polyglance.mixture.tokenizer.load_tokenizer`); None: tokens are not counted.

    Raises:
        ValueError: not a data set, or a damaged shard.
    """
    manifest = read_manifest(directory)
    texts: dict[Cell, _Lengths] = {}
    sources: dict[Cell, _Lengths] = {}
    for _, annotations in read_annotations(directory):
        for annotation in annotations:
            cell = annotation.cell
            if cell not in texts:
                texts[cell] = _Lengths(get_language(cell.language), tokenizer)
                sources[cell] = _Lengths(get_language(SOURCE_LANGUAGE), tokenizer)
            texts[cell].add(annotation.text)
            if annotation.source is not None:
                sources[cell].add(annotation.source)
    cells = [cell for task in TASKS for code in LANGUAGES if (cell := Cell(task, code)) in texts]
    return DataStats(
        num_images=manifest.num_images,
        cells=tuple(
            CellStats(
                cell=cell,
                num_texts=texts[cell].num_texts,
                styles=manifest.rows_per_cell_and_style.get(str(cell), {}),
                text=texts[cell].stats(),
                source=sources[cell].stats() if sources[cell].num_texts else None,
            )
            for cell in cells
        ),
        drops=manifest.drops,
    )


def count_words(text: str, language: Language) -> int:
    """Count the words of a text by the rule of its language: parts between spaces, or characters but white space."""
    if language.words == "characters":
        return len("".join(text.split()))
    return len(text.split())


class _Lengths:
    """Sums and maxima of the lengths of texts in one language."""

    def __init__(self, language: Language, tokenizer: Tokenizer | None) -> None:
        self.num_texts = 0
        self._sums: Counter[str] = Counter()
        self._maxima: Counter[str] = Counter()
        self._language = language
        self._tokenizer = tokenizer
        self._untokenized: list[str] = []

    def add(self, text: str) -> None:
        self.num_texts += 1
        self._count("chars", len(text))
        self._count("utf8_bytes", len(text.encode()))
        self._count("words", count_words(text, self._language))
        if self._tokenizer is not None:
            self._untokenized.append(text)
            if len(self._untokenized) == _TOKENIZER_BATCH:
                self._tokenize()

    def stats(self) -> TextStats:
        self._tokenize()
        return TextStats(
            chars=self._length("chars"),
            utf8_bytes=self._length("utf8_bytes"),
            words=self._length("words"),
            tokens=None if self._tokenizer is None else self._length("tokens"),
        )

    def _tokenize(self) -> None:
        if self._tokenizer is not None:
            for encoding in self._tokenizer.encode_batch(self._untokenized, add_special_tokens=False):
                self._count("tokens", len(encoding.ids))
            self._untokenized.clear()

    def _count(self, unit: str, length: int) -> None:
        self._sums[unit] += length
        self._maxima[unit] = max(self._maxima[unit], length)

    def _length(self, unit: str) -> Length:
        return Length(mean=self._sums[unit] / self.num_texts, max=self._maxima[unit])


def _flat(prefix: str, stats: TextStats | None) -> dict[str, float | int | None]:
    columns: dict[str, float | int | None] = {}
    for unit in ("chars", "utf8_bytes", "words", "tokens"):
        length: Length | None = None if stats is None else getattr(stats, unit)
        columns[f"{prefix}mean_{unit}"] = None if length is None else length.mean
        columns[f"{prefix}max_{unit}"] = None if length is None else length.max
    return columns
