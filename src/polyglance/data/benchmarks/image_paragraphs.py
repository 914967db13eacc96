"""Stanford image paragraphs (Krause et al., CVPR 2017): English paragraphs of Visual Genome images."""

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
    read_json,
    require,
    text_field,
)

__all__ = ["IMAGE_PARAGRAPHS_SIZES", "ImageParagraphs"]

IMAGE_PARAGRAPHS_SIZES: Mapping[str, int] = MappingProxyType({"test": 2489, "val": 2487, "train": 14575})
_PUBLISHED_AT = "https://cs.stanford.edu/people/ranjaykrishna/im2p"
_IMAGES = Needed(
    paths=(
        "image_paragraphs/images",
        *(f"{folder}/{part}" for part in ("VG_100K", "VG_100K_2") for folder in ("image_paragraphs", "visual_genome")),
        *(f"image_paragraphs/images/{part}" for part in ("VG_100K", "VG_100K_2")),
    ),
    published_at="https://homes.cs.washington.edu/~ranjay/visualgenome (images.zip, images2.zip)",
    each="<image_id>.jpg or VG_100K(_2)_<image_id>.jpg",
)


class ImageParagraphs:
    """`paragraphs_v1.json` with lists of image ids per split. An image with several paragraphs has several references.

    Args:
        sizes: split -> number of images.
    """

    name = "image-paragraphs"
    task: EvaluationTask = "caption"
    splits: tuple[str, ...] = tuple(IMAGE_PARAGRAPHS_SIZES)
    licence = "CC BY 4.0 (Visual Genome)"

    def __init__(self, *, sizes: Mapping[str, int] = IMAGE_PARAGRAPHS_SIZES) -> None:
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
        split_path, paragraphs_path = require(root, label, needed if images else needed[:2])[:2]
        ids = _split_ids(split_path)
        check_size(split_path, len(ids), self._sizes[split], "images")
        check_unique(ids, split_path)
        paragraphs = _paragraphs(paragraphs_path)
        if unknown := [name for name in ids if name not in paragraphs]:
            raise ValueError(f"{paragraphs_path}: no paragraph of {len(unknown)} images of {split}, first {unknown[0]}")
        files = _image_files(root, label, ids) if images else [None] * len(ids)
        return [
            Example(id=name, image=file, references=tuple(dict.fromkeys(paragraphs[name])))
            for name, file in zip(ids, files, strict=True)
        ]

    def _needed(self, split: str, language: str) -> tuple[Needed, ...]:
        check_choice(self.name, "language", language, self.languages(split))
        texts = (f"image_paragraphs/{name}.json" for name in (f"{split}_split", "paragraphs_v1"))
        return (*(Needed(paths=(path,), published_at=_PUBLISHED_AT) for path in texts), _IMAGES)


def _split_ids(path: Path) -> list[str]:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(item, int) for item in content):
        raise ValueError(f"{path}: expected a list of image ids (numbers)")
    return [str(item) for item in content]


def _paragraphs(path: Path) -> dict[str, list[str]]:
    """Image id -> its paragraphs."""
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of objects with image_id and paragraph")
    paragraphs: dict[str, list[str]] = {}
    for index, record in enumerate(content, 1):
        where = f"{path}: entry {index}"
        if not isinstance(record, dict) or not isinstance(record.get("image_id"), int):
            raise ValueError(f"{where}: the field 'image_id' is missing or not a number")
        paragraphs.setdefault(str(record["image_id"]), []).extend(
            non_empty([text_field(record, "paragraph", where)], where)
        )
    return paragraphs


def _image_files(root: Path, label: str, ids: Sequence[str]) -> Sequence[Path]:
    """The published evaluation keeps all images in one folder, with their first folder's name in front."""
    present = {path.name for folder in _IMAGES.found(root) for path in folder.iterdir()}
    names = []
    for name in ids:
        spellings = (f"{name}.jpg", f"VG_100K_{name}.jpg", f"VG_100K_2_{name}.jpg")
        names.append(next((spelling for spelling in spellings if spelling in present), spellings[0]))
    return image_paths(root, label, _IMAGES, names)
