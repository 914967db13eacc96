"""Multi30K (Elliott et al., 2016 and 2017; Barrault et al., 2018): translations of image captions, and captions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import EvaluationTask
from polyglance.data.benchmarks.coco import COCO_IMAGES
from polyglance.data.benchmarks.files import PublishedFile, read_parallel_lines
from polyglance.data.benchmarks.published import PublishedBenchmark, PublishedRow

__all__ = ["Multi30kTask1", "Multi30kTask2"]

_NUM_CAPTIONS = 5
_TEXTS_AT = "https://github.com/multi30k/dataset"
_WMT_IMAGES_AT = "https://sid.erda.dk/cgi-sid/ls.py?share_id=FxXi7Zkbvt"
_LICENCE = "no licence file; images: non-commercial research and education only"
_FLICKR_FOLDERS = ("multi30k/flickr30k-images", "flickr30k-images", "flickr30k/flickr30k-images", "flickr30k/images")


class Multi30kTask1(PublishedBenchmark):
    """Translation of one English caption per image into German, French or Czech.

    Ids are the image names as the data set lists them; those of `test_2017_mscoco` carry the number of the COCO
    annotation (`COCO_train2014_000000117071.jpg#367178`). Czech exists for 2016, 2018, val and train.
    """

    name = "multi30k-task1"
    task: EvaluationTask = "translation"
    licence = _LICENCE
    sizes = MappingProxyType(
        {
            "test_2016_flickr": 1000,
            "test_2017_flickr": 1000,
            "test_2017_mscoco": 461,
            "test_2018_flickr": 1071,
            "val": 1014,
            "train": 29000,
        }
    )

    def language_codes(self, split: str) -> tuple[str, ...]:
        return ("de", "fr") if "2017" in split else ("de", "fr", "cs")

    def text_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:
        return (
            _text_file(f"task1/image_splits/{split}.txt"),
            _text_file(f"task1/raw/{split}.en.gz"),
            _text_file(f"task1/raw/{split}.{language}.gz"),
        )

    def image_folders(self, split: str) -> tuple[PublishedFile, ...]:
        if split == "test_2017_mscoco":
            return tuple(COCO_IMAGES.values())
        return (_flickr_images(split),)

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:  # noqa: ARG002
        for name, source, target in zip(*read_parallel_lines(paths), strict=True):
            image = name.partition("#")[0]
            yield PublishedRow(id=name, image_names=(image,), source=source, references=(target,))


class Multi30kTask2(PublishedBenchmark):
    """Captions: five independent ones per image in English and in German (these are no translations)."""

    name = "multi30k-task2"
    task: EvaluationTask = "caption"
    licence = _LICENCE
    sizes = MappingProxyType({"test_2016": 1000, "val": 1014, "train": 29000})

    def language_codes(self, split: str) -> tuple[str, ...]:  # noqa: ARG002
        return ("en", "de")

    def text_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:
        numbers = range(1, _NUM_CAPTIONS + 1)
        captions = (_text_file(f"task2/raw/{split}.{number}.{language}.gz") for number in numbers)
        return (_text_file(f"task2/image_splits/{split}_images.txt"), *captions)

    def image_folders(self, split: str) -> tuple[PublishedFile, ...]:
        return (_flickr_images(split),)

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:  # noqa: ARG002
        for name, *captions in zip(*read_parallel_lines(paths), strict=True):
            yield PublishedRow(id=name, image_names=(name,), references=tuple(captions))


def _text_file(path: str) -> PublishedFile:
    folders = ("multi30k/data", "multi30k", "multi30k-dataset/data", "multi30k/dataset/data", "dataset/data")
    return PublishedFile(paths=tuple(f"{folder}/{path}" for folder in folders), published_at=_TEXTS_AT)


def _flickr_images(split: str) -> PublishedFile:
    """Name the folder of a split's Flickr images; WMT published those of 2017 and 2018 apart."""
    if split in ("test_2017_flickr", "test_2018_flickr"):
        wmt = (f"multi30k/task1_{split.removesuffix('_flickr')}", f"multi30k/{split}")
        return PublishedFile(paths=(*wmt, *_FLICKR_FOLDERS), published_at=_WMT_IMAGES_AT, each="<name>.jpg")
    return PublishedFile(paths=_FLICKR_FOLDERS, published_at="https://forms.illinois.edu/sec/229675", each="<name>.jpg")
