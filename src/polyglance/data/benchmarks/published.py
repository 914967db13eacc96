"""Base class of the benchmarks that are read from the files of their publishers.

A new benchmark is one class that names its files and yields its rows:

    class Docci(PublishedBenchmark):
        name, task, licence = "docci", "caption", "CC BY 4.0"
        sizes = {"test": 5000, "train": 9647}
        texts = (PublishedFile(paths=("docci/docci_descriptions.jsonlines",), published_at="https://..."),)
        images = (PublishedFile(paths=("docci/images",), published_at="https://...", each="<name>.jpg"),)

        def read_rows(self, paths, split, language):
            yield PublishedRow(id="...", image_names=("1.jpg",), references=("...",))

`text_files`, `image_folders` and `language_codes` are overridden where they depend on split or language.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyglance.data.benchmarks.benchmark import Benchmark, BenchmarkExample
from polyglance.data.benchmarks.files import (
    PublishedFile,
    check_choice,
    check_size,
    check_unique,
    find_files,
    find_images,
)

__all__ = ["PublishedBenchmark", "PublishedRow"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """An example as its publishers' files hold it, before its image file is found."""

    id: str
    image_names: tuple[str, ...]
    """Names that the image file may have, the usual one first."""
    references: tuple[str, ...]
    source: str | None = None
    incorrect: str | None = None


class PublishedBenchmark(Benchmark):
    """A benchmark in the layout that its publishers offer.

    Args:
        sizes: split -> number of examples (or language -> number), where not the published ones.
    """

    sizes: Mapping[str, int | Mapping[str, int]]
    """Split -> number of examples, or language -> number of examples where it depends on the language. The first split
    is the default."""
    texts: tuple[PublishedFile, ...] = ()
    """Files of texts, where they are the same for all splits and languages."""
    images: tuple[PublishedFile, ...] = ()
    """Folders of images, where they are the same for all splits."""

    def __init__(self, *, sizes: Mapping[str, int | Mapping[str, int]] | None = None) -> None:
        if sizes is not None:
            self.sizes = sizes

    @abstractmethod
    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:
        """Read the rows of a split, in the order of the files.

        Args:
            paths: path of each of `text_files`.

        Raises:
            ValueError: damaged files, or rows that do not fit each other: one line with file and row.
        """

    def text_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:  # noqa: ARG002
        """Return the files of texts for a split and language."""
        return self.texts

    def image_folders(self, split: str) -> tuple[PublishedFile, ...]:  # noqa: ARG002
        """Return the folders of images for a split."""
        return self.images

    def language_codes(self, split: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the codes of the languages of a split; English where a benchmark does not say otherwise."""
        return ("en",)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def languages(self, split: str) -> tuple[str, ...]:
        check_choice(self.name, "split", split, self.splits)
        return self.language_codes(split)

    def num_examples(self, split: str, language: str) -> int:
        check_choice(self.name, "language", language, self.languages(split))
        size = self.sizes[split]
        return size if isinstance(size, int) else size[language]

    def expected_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:
        check_choice(self.name, "language", language, self.languages(split))
        return (*self.text_files(split, language), *self.image_folders(split))

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[BenchmarkExample]:
        size = self.num_examples(split, language)
        texts, folders = self.text_files(split, language), self.image_folders(split)
        label = f"{self.name} {split} {language}"
        paths = find_files(root, label, (*texts, *folders) if images else texts)[: len(texts)]
        rows = list(self.read_rows(paths, split, language))
        check_size(paths[0], len(rows), size)
        check_unique([row.id for row in rows], paths[0])
        files: Sequence[Path | None] = [None] * len(rows)
        if images:
            files = find_images(root, label, folders, [row.image_names for row in rows])
        return [
            BenchmarkExample(
                id=row.id, image=file, references=row.references, source=row.source, incorrect=row.incorrect
            )
            for row, file in zip(rows, files, strict=True)
        ]
