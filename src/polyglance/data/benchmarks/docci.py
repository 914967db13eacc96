"""DOCCI (Onoe et al., 2024): long English descriptions of related images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import EvaluationTask, Example, ExpectedFile
from polyglance.data.benchmarks.files import (
    Needed,
    check_choice,
    check_size,
    check_unique,
    image_paths,
    non_empty,
    read_json_lines,
    require,
    text_field,
)

__all__ = ["DOCCI_SIZES", "Docci"]

DOCCI_SIZES: Mapping[str, int] = MappingProxyType({"test": 5000, "train": 9647, "qual_dev": 100, "qual_test": 100})
_DESCRIPTIONS = Needed(
    paths=("docci/docci_descriptions.jsonlines", "DOCCI/docci_descriptions.jsonlines"),
    published_at="https://google.github.io/docci (docci_descriptions.jsonlines)",
)
_IMAGES = Needed(
    paths=("docci/images", "DOCCI/images"),
    published_at="https://google.github.io/docci (docci_images.tar.gz)",
    each="<split>_<number, 5 digits>.jpg",
)


class Docci:
    """`docci_descriptions.jsonlines`, one image with one description a line.

    Args:
        sizes: split -> number of images.
    """

    name = "docci"
    task: EvaluationTask = "caption"
    splits: tuple[str, ...] = tuple(DOCCI_SIZES)
    licence = "CC BY 4.0"

    def __init__(self, *, sizes: Mapping[str, int] = DOCCI_SIZES) -> None:
        self._sizes = sizes

    def languages(self, split: str) -> tuple[str, ...]:
        check_choice(self.name, "split", split, self.splits)
        return ("en",)

    def expected_files(self, split: str, language: str) -> tuple[ExpectedFile, ...]:
        check_choice(self.name, "language", language, self.languages(split))
        return (_DESCRIPTIONS.expected, _IMAGES.expected)

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[Example]:
        """See `Benchmark.load`."""
        check_choice(self.name, "language", language, self.languages(split))
        label = f"{self.name} {split}"
        path = require(root, label, (_DESCRIPTIONS, _IMAGES) if images else (_DESCRIPTIONS,))[0]
        ids, names, references = [], [], []
        for where, record in read_json_lines(path):
            own = text_field(record, "split", where)
            check_choice(where, "split", own, self.splits)
            if own == split:
                ids.append(text_field(record, "example_id", where))
                names.append(text_field(record, "image_file", where))
                references.append(non_empty([text_field(record, "description", where)], where))
        check_size(path, len(ids), self._sizes[split], f"descriptions of {split}")
        check_unique(ids, path)
        files: Sequence[Path | None] = [None] * len(ids)
        if images:
            files = image_paths(root, label, _IMAGES, names)
        return [
            Example(id=name, image=file, references=texts)
            for name, file, texts in zip(ids, files, references, strict=True)
        ]
