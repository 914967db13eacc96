"""COCO captions in Karpathy's splits (Karpathy and Fei-Fei, CVPR 2015): the English headline of captioning."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from polyglance.coverage import EvaluationTask
from polyglance.data.benchmarks.files import PublishedFile, check_references, get_text
from polyglance.data.benchmarks.published import PublishedBenchmark, PublishedRow
from polyglance.data.texts.json_forms import get_karpathy_sentences
from polyglance.data.texts.text_set import TextFile

__all__ = ["COCO_IMAGES", "CocoKarpathy"]

COCO_IMAGES = {
    folder: PublishedFile(
        paths=(f"coco/{folder}", f"coco/images/{folder}", f"coco/{folder}/{folder}"),
        published_at=f"http://images.cocodataset.org/zips/{folder}.zip",
        each=f"COCO_{folder}_<cocoid, 12 digits>.jpg",
    )
    for folder in ("train2014", "val2014")
}
"""Folder of COCO -> where its images are."""
_MIN_REFERENCES = 5


class CocoKarpathy(PublishedBenchmark):
    """`dataset_coco.json`, whose images name their split; five references each, a few have up to seven.

    Training sets that papers call "Karpathy train" are mostly `train` and `restval`.
    """

    name = "coco-karpathy"
    task: EvaluationTask = "caption"
    licence = "CC BY 4.0 (captions); images: Flickr terms of use"
    sizes = MappingProxyType({"test": 5000, "val": 5000, "train": 82783, "restval": 30504})
    texts = (
        PublishedFile(
            paths=tuple(
                f"{folder}/{name}"
                for folder in ("coco/annotations", "coco", "coco/caption_datasets", "caption_datasets")
                for name in ("coco_karpathy.json", "dataset_coco.json")
            ),
            published_at="https://github.com/Delphboy/karpathy-splits (dataset_coco.json)",
        ),
    )

    def image_folders(self, split: str) -> tuple[PublishedFile, ...]:
        return (COCO_IMAGES[_image_folder(split)],)

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:  # noqa: ARG002
        (path,) = paths
        content = TextFile(path).json
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list):
            raise ValueError(f"{path}: not Karpathy's split file (no list 'images')")
        rows = [(f"{path}: image {index}", row) for index, row in enumerate(images, 1)]
        _check_splits(path, Counter(get_text(row, "split", where) for where, row in rows), self.sizes)
        for where, row in rows:
            if row["split"] == split:
                yield _read_row(row, where, split)


def _image_folder(split: str) -> str:
    return "train2014" if split == "train" else "val2014"


def _check_splits(path: Path, counts: Mapping[str, int], expected: Mapping[str, Any]) -> None:
    """Refuse a file whose splits have other sizes than Karpathy's."""
    if dict(counts) == dict(expected):
        return
    listed = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    if "restval" not in counts and counts.get("train") == expected["train"] + expected["restval"]:
        raise ValueError(
            f"{path}: this is a split of neuraltalk2's kind ({listed}), which has other test images than Karpathy's"
        )
    right = ", ".join(f"{name} {count:,}" for name, count in sorted(expected.items()))
    raise ValueError(f"{path}: images per split are {listed or 'none'}, but Karpathy's are {right}")


def _read_row(row: Mapping[str, Any], where: str, split: str) -> PublishedRow:
    """Read one image with its raw texts, whose ends often hold blanks and line breaks."""
    if not isinstance(row.get("cocoid"), int):
        raise ValueError(f"{where}: the field 'cocoid' is missing or not a number")
    folder = _image_folder(split)
    if get_text(row, "filepath", where) != folder:
        raise ValueError(f"{where}: images of {split} are in {folder}, not in {row['filepath']!r}")
    references = check_references(get_karpathy_sentences(row, where), where)
    if len(references) < _MIN_REFERENCES:
        raise ValueError(f"{where}: {len(references)} references, but each image has at least {_MIN_REFERENCES}")
    return PublishedRow(id=str(row["cocoid"]), image_names=(get_text(row, "filename", where),), references=references)
