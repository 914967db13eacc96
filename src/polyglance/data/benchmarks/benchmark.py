"""Benchmarks: sets of examples (image, source, references) that models are compared on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyglance.data.benchmarks.files import PublishedFile

__all__ = ["Benchmark", "BenchmarkExample", "EvaluationTask"]

EvaluationTask = Literal["caption", "translation", "disambiguation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkExample:
    """One segment to be predicted and scored."""

    id: str
    """Name in the data set, unique within (benchmark, split, language)."""
    image: Path | bytes | None
    """Image file, or an encoded image (the project's own shards). None where only the texts were asked for."""
    references: tuple[str, ...]
    """Captions or translations by people. Disambiguation: the one correct translation."""
    source: str | None = None
    """English text to translate; None for captions."""
    incorrect: str | None = None
    """Disambiguation: the translation that does not fit the image."""


class Benchmark(ABC):
    """A set of examples that models are compared on."""

    name: str
    """Name on the command line: `coco-karpathy`, `multi30k-task1`, `xm3600`."""
    task: EvaluationTask
    licence: str

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits. The first is the default."""

    @abstractmethod
    def languages(self, split: str) -> tuple[str, ...]:
        """Return the codes of the languages of a split."""

    @abstractmethod
    def num_examples(self, split: str, language: str) -> int | None:
        """Return the published number of examples; None where it is not fixed."""

    @abstractmethod
    def expected_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:
        """Return the files that `load` needs."""

    @abstractmethod
    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[BenchmarkExample]:
        """Read the examples, in the order of the files.

        Args:
            root: folder of all benchmarks (`eval_datasets_root` of the published code; official code section 4.3).
            images: find the image of each example, too. Images that are missing are an error then.

        Raises:
            ValueError: an unknown split or language; files that are missing (all of them, with where they are
                published); rows that do not fit each other; a split of the wrong size: one line with file and row.
        """
