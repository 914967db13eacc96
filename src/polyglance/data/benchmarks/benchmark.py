"""What a benchmark is: examples with images, sources and references, read from the files people have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from polyglance.coverage import EvaluationTask

__all__ = ["Benchmark", "EvaluationTask", "Example", "ExpectedFile"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One segment to be predicted and scored."""

    id: str
    """Unique within (benchmark, split, language); as the data set names it."""
    image: Path | bytes | None
    """Image file, or an encoded image (the project's own shards). None where only the texts were asked for."""
    references: tuple[str, ...]
    """Captions or translations by people; for disambiguation the one correct translation."""
    source: str | None = None
    """English text to translate; None for captions."""
    incorrect: str | None = None
    """Disambiguation: the translation that does not fit the image."""


@dataclass(frozen=True, kw_only=True)
class ExpectedFile:
    """A file that a benchmark needs."""

    path: str
    """Below the benchmarks' root folder; may hold a pattern such as `<key>.jpg`."""
    published_at: str
    """Where its publishers offer it."""


@runtime_checkable
class Benchmark(Protocol):
    """A set that models are compared on."""

    name: str
    """As asked for on the command line: `coco-karpathy`, `multi30k-task1`, `xm3600`, `commute`."""
    task: EvaluationTask
    splits: tuple[str, ...]
    """First the one that is meant where none is named."""
    licence: str

    def languages(self, split: str) -> tuple[str, ...]: ...

    def expected_files(self, split: str, language: str) -> tuple[ExpectedFile, ...]: ...

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[Example]:
        """The examples, in the order of the files.

        Args:
            root: folder of all benchmarks (`eval_datasets_root` of the published code; official code section 4.3).
            images: the image files are needed, and looked for before anything is read.

        Raises:
            ValueError: files that are missing (all of them, with where they are published), rows that do not fit each
                other, a split of the wrong size: one line with file and row.
        """
        ...
