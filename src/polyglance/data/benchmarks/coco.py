"""COCO captions in Karpathy's splits (Karpathy and Fei-Fei, CVPR 2015): the English headline of captioning."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from polyglance.data.benchmarks.benchmark import EvaluationTask, Example, ExpectedFile
from polyglance.data.benchmarks.files import (
    Needed,
    check_choice,
    check_unique,
    image_paths,
    non_empty,
    read_json,
    require,
    text_field,
)

__all__ = ["COCO_IMAGES", "COCO_SIZES", "CocoKarpathy"]

COCO_SIZES: Mapping[str, int] = MappingProxyType({"test": 5000, "val": 5000, "train": 82783, "restval": 30504})
"""Images of each split. Training sets that are called "Karpathy train" in papers are mostly `train` and `restval`."""
COCO_IMAGES = {
    part: Needed(
        paths=(f"coco/{part}", f"coco/images/{part}", f"coco/{part}/{part}"),
        published_at=f"http://images.cocodataset.org/zips/{part}.zip",
        each=f"COCO_{part}_<cocoid, 12 digits>.jpg",
    )
    for part in ("train2014", "val2014")
}
_MIN_REFERENCES = 5


class CocoKarpathy:
    """`dataset_coco.json`, whose images name their split; five references each, a few have up to seven.

    Args:
        sizes: split -> number of images.
    """

    name = "coco-karpathy"
    task: EvaluationTask = "caption"
    splits: tuple[str, ...] = tuple(COCO_SIZES)
    licence = "CC BY 4.0 (captions); images: Flickr terms of use"

    def __init__(self, *, sizes: Mapping[str, int] = COCO_SIZES) -> None:
        self._sizes = sizes

    def languages(self, split: str) -> tuple[str, ...]:
        check_choice(self.name, "split", split, self.splits)
        return ("en",)

    def expected_files(self, split: str, language: str) -> tuple[ExpectedFile, ...]:
        return tuple(needed.expected for needed in self._needed(split, language))

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[Example]:
        """See `Benchmark.load`."""
        needed = self._needed(split, language)
        label = f"{self.name} {split}"
        path = require(root, label, needed if images else needed[:1])[0]
        rows = self._rows(path, split)
        ids = [str(row["cocoid"]) for _, row in rows]
        check_unique(ids, path)
        references = [_references(row, where) for where, row in rows]
        files: Sequence[Path | None] = [None] * len(rows)
        if images:
            files = image_paths(root, label, needed[1], [text_field(row, "filename", where) for where, row in rows])
        return [
            Example(id=name, image=file, references=texts)
            for name, file, texts in zip(ids, files, references, strict=True)
        ]

    def _needed(self, split: str, language: str) -> tuple[Needed, Needed]:
        check_choice(self.name, "language", language, self.languages(split))
        names = ("coco_karpathy.json", "dataset_coco.json")
        folders = ("coco/annotations", "coco", "coco/caption_datasets", "caption_datasets")
        return (
            Needed(
                paths=tuple(f"{folder}/{name}" for folder in folders for name in names),
                published_at="https://github.com/Delphboy/karpathy-splits (dataset_coco.json)",
            ),
            COCO_IMAGES["train2014" if split == "train" else "val2014"],
        )

    def _rows(self, path: Path, split: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Place and row of each image of the split, once the file is seen to be Karpathy's."""
        content = read_json(path)
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list):
            raise ValueError(f"{path}: not Karpathy's split file (no list 'images')")
        rows = [(f"{path}: image {index}", row) for index, row in enumerate(images, 1)]
        _check_splits(path, Counter(text_field(row, "split", where) for where, row in rows), self._sizes)
        chosen = [(where, row) for where, row in rows if row["split"] == split]
        for where, row in chosen:
            if not isinstance(row.get("cocoid"), int):
                raise ValueError(f"{where}: the field 'cocoid' is missing or not a number")
            folder = "train2014" if split == "train" else "val2014"
            if text_field(row, "filepath", where) != folder:
                raise ValueError(f"{where}: images of {split} are in {folder}, not in {row['filepath']!r}")
        return chosen


def _check_splits(path: Path, found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    if dict(found) == dict(expected):
        return
    counts = ", ".join(f"{name} {count:,}" for name, count in sorted(found.items()))
    if "restval" not in found and found.get("train") == expected["train"] + expected["restval"]:
        raise ValueError(
            f"{path}: this is a split of neuraltalk2's kind ({counts}), which has other test images than Karpathy's"
        )
    wanted = ", ".join(f"{name} {count:,}" for name, count in sorted(expected.items()))
    raise ValueError(f"{path}: images per split are {counts or 'none'}, but Karpathy's are {wanted}")


def _references(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The raw texts; their ends often hold blanks and line breaks."""
    sentences = row.get("sentences")
    if not isinstance(sentences, list):
        raise ValueError(f"{where}: the field 'sentences' is missing or not a list")
    texts = non_empty([text_field(sentence, "raw", where) for sentence in sentences], where)
    if len(texts) < _MIN_REFERENCES:
        raise ValueError(f"{where}: {len(texts)} references, but each image has at least {_MIN_REFERENCES}")
    return texts
