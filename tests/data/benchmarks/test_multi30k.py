"""Multi30K, task 1 and 2: the published test set of 2016, and made-up rows in the same format."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from polyglance.data.benchmarks import find_benchmark
from polyglance.data.benchmarks.multi30k import Multi30kTask1, Multi30kTask2

NAMES = {
    "test_2016_flickr": ["1.jpg", "2.jpg"],
    "test_2017_flickr": ["7.jpg", "8.jpg"],
    "test_2017_mscoco": ["COCO_train2014_000000000003.jpg#77", "COCO_val2014_000000000004.jpg#78"],
}
IMAGES = (
    "multi30k/flickr30k-images/1.jpg",
    "multi30k/flickr30k-images/2.jpg",
    "multi30k/task1_test_2017/7.jpg",
    "multi30k/task1_test_2017/8.jpg",
    "coco/train2014/COCO_train2014_000000000003.jpg",
    "coco/val2014/COCO_val2014_000000000004.jpg",
)
SIZES = dict.fromkeys(Multi30kTask1().splits, 2)


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


@pytest.fixture(params=["multi30k/data", "multi30k"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Made-up rows in the published layouts: the repository's own, and its `data` folder moved up."""
    data = tmp_path / request.param
    for split, names in NAMES.items():
        write_lines(data / f"task1/image_splits/{split}.txt", names)
        for language in ("en", "de", "fr"):
            write_lines(data / f"task1/raw/{split}.{language}.gz", [f"{language} {split} {row} " for row in (1, 2)])
    write_lines(data / "task2/image_splits/test_2016_images.txt", NAMES["test_2016_flickr"])
    for number in range(1, 6):
        write_lines(data / f"task2/raw/test_2016.{number}.de.gz", [f"Bild {row}, Text {number}" for row in (1, 2)])
    for image in IMAGES:
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / image).touch()
    return tmp_path


def load(root: Path, split: str = "test_2016_flickr", language: str = "de", **options: Any) -> Any:
    return Multi30kTask1(sizes=SIZES).load(root, split=split, language=language, **options)


def test_translations_belong_to_their_images(root: Path) -> None:
    first, second = load(root, language="fr")
    assert (first.id, first.source, first.references) == ("1.jpg", "en test_2016_flickr 1", ("fr test_2016_flickr 1",))
    assert second.image == root / "multi30k/flickr30k-images/2.jpg"
    assert load(root, "test_2017_flickr")[0].image == root / "multi30k/task1_test_2017/7.jpg"


def test_ambiguous_coco_has_images_in_two_folders(root: Path) -> None:
    examples = load(root, "test_2017_mscoco")
    assert [example.id for example in examples] == NAMES["test_2017_mscoco"]
    assert [example.image for example in examples] == [root / IMAGES[4], root / IMAGES[5]]


def test_five_captions_per_image(root: Path) -> None:
    examples = Multi30kTask2(sizes={"test_2016": 2}).load(root, split="test_2016", language="de")
    assert examples[1].references == tuple(f"Bild 2, Text {number}" for number in range(1, 6))
    assert examples[1].source is None
    assert examples[1].image == root / "multi30k/flickr30k-images/2.jpg"


def test_a_name_that_is_no_coco_image_is_missing(root: Path) -> None:
    data = root / "multi30k/data" if (root / "multi30k/data").is_dir() else root / "multi30k"
    write_lines(data / "task1/image_splits/test_2017_mscoco.txt", ["COCO_train2014_000000000003.jpg#77", "1.jpg#5"])
    with pytest.raises(ValueError, match=r"1 of 2 images .*: 1\.jpg; looked in coco/train2014, coco/val2014"):
        load(root, "test_2017_mscoco")


def test_czech_exists_for_some_years_only() -> None:
    task = find_benchmark("multi30k-task1")
    assert task.languages("test_2018_flickr") == ("de", "fr", "cs")
    with pytest.raises(ValueError, match="no language 'cs'"):
        task.expected_files("test_2017_flickr", "cs")
    with pytest.raises(ValueError, match="did you mean 'test_2016_flickr'"):
        task.languages("test_2016")
    assert [file.path for file in task.expected_files("test_2017_flickr", "de")] == [
        "multi30k/data/task1/image_splits/test_2017_flickr.txt",
        "multi30k/data/task1/raw/test_2017_flickr.en.gz",
        "multi30k/data/task1/raw/test_2017_flickr.de.gz",
        "multi30k/task1_test_2017/<name>.jpg",
    ]


def test_published_test_set_of_2016(shared: Path) -> None:
    root = shared / "data/eval"
    de, fr = (
        find_benchmark("multi30k-task1").load(root, split="test_2016_flickr", language=code, images=False)
        for code in ("de", "fr")
    )
    assert len(de) == len(fr) == 1000
    assert [x.source for x in de] == [x.source for x in fr]
    assert de[0].id == "1007129816.jpg"
    assert de[0].references == ("Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",)
    captions = find_benchmark("multi30k-task2").load(root, split="test_2016", language="en", images=False)
    assert len(captions) == 1000
    assert {len(example.references) for example in captions} == {5}
    # Task 1's English sentence is one of task 2's five captions of the image: the two are read in the same order.
    assert [example.id for example in captions] == [example.id for example in de]
    shared_texts = sum(a.source in b.references for a, b in zip(de, captions, strict=True))
    assert shared_texts > 900
