"""Karpathy's splits from made-up rows in the published format."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyglance.data.benchmarks.coco import CocoKarpathy

SIZES = {"test": 2, "val": 1, "train": 3, "restval": 1}


def rows(sizes: dict[str, int] = SIZES) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = []
    for split, size in sizes.items():
        part = "train2014" if split == "train" else "val2014"
        for _ in range(size):
            number = len(images) + 1
            texts = [f"{split} caption {number}.{k} \n" for k in range(7 if number == 1 else 5)]
            sentences = [
                {"tokens": text.split(), "raw": text, "imgid": number, "sentid": k} for k, text in enumerate(texts)
            ]
            images.append(
                {
                    "filepath": part,
                    "sentids": list(range(len(texts))),
                    "filename": f"COCO_{part}_{number:012d}.jpg",
                    "imgid": number,
                    "split": split,
                    "sentences": sentences,
                    "cocoid": number,
                }
            )
    return images


def write(root: Path, images: list[dict[str, Any]], name: str = "coco/annotations/coco_karpathy.json") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    for row in images:
        folder = root / "coco" / row["filepath"]
        folder.mkdir(exist_ok=True)
        (folder / row["filename"]).touch()
    return path


def load(root: Path, split: str = "test") -> Any:
    return CocoKarpathy(sizes=SIZES).load(root, split=split, language="en")


@pytest.mark.parametrize("name", ["coco/annotations/coco_karpathy.json", "coco/dataset_coco.json"])
def test_images_and_references_of_each_split(tmp_path: Path, name: str) -> None:
    write(tmp_path, rows(), name)
    test = load(tmp_path)
    assert [example.id for example in test] == ["1", "2"]
    assert test[0].image == tmp_path / "coco/val2014/COCO_val2014_000000000001.jpg"
    assert test[0].references == tuple(f"test caption 1.{k}" for k in range(7))
    assert test[1].references[4] == "test caption 2.4"
    train = load(tmp_path, "train")
    assert [example.id for example in train] == ["4", "5", "6"]
    assert train[0].image == tmp_path / "coco/train2014/COCO_train2014_000000000004.jpg"
    assert [example.id for example in load(tmp_path, "restval")] == ["7"]


def test_the_split_of_neuraltalk2_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, rows({"test": 2, "val": 1, "train": 4}))
    with pytest.raises(ValueError, match=r"neuraltalk2's kind \(test 2, train 4, val 1\)"):
        load(tmp_path)


def test_a_part_of_the_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows()[1:])
    with pytest.raises(ValueError, match=r"images per split are .*test 1, .* but Karpathy's are restval 1, test 2"):
        load(tmp_path)


def sentences(*texts: str) -> dict[str, Any]:
    return {"sentences": [{"raw": text} for text in texts]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filepath": "train2014"}, "image 1: images of test are in val2014, not in 'train2014'"),
        (sentences("a", "b", " \n", "d", "e"), "image 1: reference 3 of 5 is empty"),
        (sentences("a", "b", "c"), "image 1: 3 references, but each image has at least 5"),
        ({"sentences": [{"tokens": ["a"]}]}, "image 1: the field 'raw' is missing"),
        ({"sentences": None}, "image 1: the field 'sentences' is missing or not a list"),
        ({"cocoid": None}, "image 1: the field 'cocoid' is missing or not a number"),
        ({"split": None}, "image 1: the field 'split' is missing"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    images = rows()
    images[0] |= changes
    write(tmp_path, images)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_captions_of_coco_are_not_a_split_file(tmp_path: Path) -> None:
    path = write(tmp_path, rows())
    path.write_text("[]")
    with pytest.raises(ValueError, match="no list 'images'"):
        load(tmp_path)
    path.write_text('{"images": [3]}')
    with pytest.raises(ValueError, match="image 1: the field 'split' is missing"):
        load(tmp_path)
