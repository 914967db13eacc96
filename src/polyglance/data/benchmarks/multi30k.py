"""Multi30K (Elliott et al., 2016 and 2017; Barrault et al., 2018): translations of image captions, and captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import EvaluationTask, Example, ExpectedFile
from polyglance.data.benchmarks.coco import COCO_IMAGES
from polyglance.data.benchmarks.files import (
    Needed,
    check_choice,
    check_unique,
    image_paths,
    read_parallel_lines,
    require,
)

__all__ = ["TASK1_SIZES", "TASK2_SIZES", "Multi30kTask1", "Multi30kTask2"]

TASK1_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "test_2016_flickr": 1000,
        "test_2017_flickr": 1000,
        "test_2017_mscoco": 461,
        "test_2018_flickr": 1071,
        "val": 1014,
        "train": 29000,
    }
)
TASK2_SIZES: Mapping[str, int] = MappingProxyType({"test_2016": 1000, "val": 1014, "train": 29000})
_NUM_CAPTIONS = 5
_TEXTS_AT = "https://github.com/multi30k/dataset"
_WMT_IMAGES_AT = "https://sid.erda.dk/cgi-sid/ls.py?share_id=FxXi7Zkbvt"
_LICENCE = "no licence file; images: non-commercial research and education only"


class Multi30kTask1:
    """Translation of one English caption per image into German, French or Czech.

    Ids are the image names as the data set lists them; those of `test_2017_mscoco` carry the number of the COCO
    annotation (`COCO_train2014_000000117071.jpg#367178`). Czech exists for 2016, 2018, val and train.

    Args:
        sizes: split -> number of sentences.
    """

    name = "multi30k-task1"
    task: EvaluationTask = "translation"
    splits: tuple[str, ...] = tuple(TASK1_SIZES)
    licence = _LICENCE

    def __init__(self, *, sizes: Mapping[str, int] = TASK1_SIZES) -> None:
        self._sizes = sizes

    def languages(self, split: str) -> tuple[str, ...]:
        check_choice(self.name, "split", split, self.splits)
        return ("de", "fr") if "2017" in split else ("de", "fr", "cs")

    def expected_files(self, split: str, language: str) -> tuple[ExpectedFile, ...]:
        return tuple(file.expected for file in (*self._texts(split, language), *_images(split)))

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[Example]:
        """See `Benchmark.load`."""
        texts = self._texts(split, language)
        label = f"{self.name} {split} {language}"
        paths = require(root, label, (*texts, *_images(split)) if images else texts)[: len(texts)]
        names, sources, targets = read_parallel_lines(paths, self._sizes[split])
        check_unique(names, paths[0])
        files = _image_files(root, label, split, names) if images else [None] * len(names)
        return [
            Example(id=name, image=file, source=source, references=(target,))
            for name, file, source, target in zip(names, files, sources, targets, strict=True)
        ]

    def _texts(self, split: str, language: str) -> tuple[Needed, ...]:
        check_choice(self.name, "language", language, self.languages(split))
        return (
            _text(f"task1/image_splits/{split}.txt"),
            _text(f"task1/raw/{split}.en.gz"),
            _text(f"task1/raw/{split}.{language}.gz"),
        )


class Multi30kTask2:
    """Captions: five independent ones per image in English and in German (these are no translations).

    Args:
        sizes: split -> number of images.
    """

    name = "multi30k-task2"
    task: EvaluationTask = "caption"
    splits: tuple[str, ...] = tuple(TASK2_SIZES)
    licence = _LICENCE

    def __init__(self, *, sizes: Mapping[str, int] = TASK2_SIZES) -> None:
        self._sizes = sizes

    def languages(self, split: str) -> tuple[str, ...]:
        check_choice(self.name, "split", split, self.splits)
        return ("en", "de")

    def expected_files(self, split: str, language: str) -> tuple[ExpectedFile, ...]:
        return tuple(file.expected for file in (*self._texts(split, language), *_images(split)))

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[Example]:
        """See `Benchmark.load`."""
        texts = self._texts(split, language)
        label = f"{self.name} {split} {language}"
        paths = require(root, label, (*texts, *_images(split)) if images else texts)[: len(texts)]
        names, *captions = read_parallel_lines(paths, self._sizes[split])
        check_unique(names, paths[0])
        files = _image_files(root, label, split, names) if images else [None] * len(names)
        return [
            Example(id=name, image=file, references=references)
            for name, file, references in zip(names, files, zip(*captions, strict=True), strict=True)
        ]

    def _texts(self, split: str, language: str) -> tuple[Needed, ...]:
        check_choice(self.name, "language", language, self.languages(split))
        captions = (_text(f"task2/raw/{split}.{number}.{language}.gz") for number in range(1, _NUM_CAPTIONS + 1))
        return (_text(f"task2/image_splits/{split}_images.txt"), *captions)


def _text(path: str) -> Needed:
    folders = ("multi30k/data", "multi30k", "multi30k-dataset/data", "multi30k/dataset/data", "dataset/data")
    return Needed(paths=tuple(f"{folder}/{path}" for folder in folders), published_at=_TEXTS_AT)


def _images(split: str) -> tuple[Needed, ...]:
    """The folders of a split's images; those of the ambiguous COCO set lie in two."""
    if split == "test_2017_mscoco":
        return tuple(COCO_IMAGES.values())
    flickr = ("multi30k/flickr30k-images", "flickr30k-images", "flickr30k/flickr30k-images", "flickr30k/images")
    if split in ("test_2017_flickr", "test_2018_flickr"):
        own = f"multi30k/task1_{split.removesuffix('_flickr')}"
        return (Needed(paths=(own, f"multi30k/{split}", *flickr), published_at=_WMT_IMAGES_AT, each="<name>.jpg"),)
    return (Needed(paths=flickr, published_at="https://forms.illinois.edu/sec/229675", each="<name>.jpg"),)


def _image_files(root: Path, label: str, split: str, names: Sequence[str]) -> Sequence[Path]:
    if split != "test_2017_mscoco":
        return image_paths(root, label, _images(split)[0], names)
    files = [name.partition("#")[0] for name in names]
    found: dict[str, Path] = {}
    for part, folder in COCO_IMAGES.items():
        own = [file for file in files if f"_{part}_" in file]
        found.update(zip(own, image_paths(root, label, folder, own), strict=True))
    if foreign := [file for file in files if file not in found]:
        raise ValueError(f"{label}: {foreign[0]!r} is not the name of a COCO image of 2014")
    return [found[file] for file in files]
