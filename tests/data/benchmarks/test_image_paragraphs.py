"""Image paragraphs from made-up rows in the published format."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyglance.data.benchmarks.image_paragraphs import ImageParagraphs

PARAGRAPHS: list[Any] = [
    {"image_id": 1, "url": "https://x.example/VG_100K/1.jpg", "paragraph": "A man.  He sits. "},
    {"image_id": 2, "url": "https://x.example/VG_100K_2/2.jpg", "paragraph": "A dog."},
    {"image_id": 3, "url": "https://x.example/VG_100K/3.jpg", "paragraph": "Not of this split."},
    {"image_id": 2, "url": "https://x.example/VG_100K_2/2.jpg", "paragraph": "A dog, seen again."},
]


def write(root: Path, split: object, paragraphs: list[Any] = PARAGRAPHS) -> None:
    folder = root / "image_paragraphs"
    folder.mkdir(exist_ok=True)
    (folder / "test_split.json").write_text(json.dumps(split))
    (folder / "paragraphs_v1.json").write_text(json.dumps(paragraphs))


def load(root: Path, **options: Any) -> Any:
    return ImageParagraphs(sizes={"test": 2}).load(root, split="test", language="en", **options)


@pytest.mark.parametrize(
    "images",
    [
        ("images/VG_100K_1.jpg", "images/VG_100K_2_2.jpg"),
        ("VG_100K/1.jpg", "VG_100K_2/2.jpg"),
        ("images/1.jpg", "images/2.jpg"),
    ],
)
def test_paragraphs_of_a_split(tmp_path: Path, images: tuple[str, str]) -> None:
    write(tmp_path, [2, 1])
    for image in images:
        (tmp_path / "image_paragraphs" / image).parent.mkdir(exist_ok=True)
        (tmp_path / "image_paragraphs" / image).touch()
    second, first = load(tmp_path)
    assert (first.id, first.references) == ("1", ("A man.  He sits.",))
    assert (second.id, second.references) == ("2", ("A dog.", "A dog, seen again."))
    assert [first.image, second.image] == [tmp_path / "image_paragraphs" / image for image in images]


@pytest.mark.parametrize(
    ("split", "paragraphs", "message"),
    [
        ([1, 9], PARAGRAPHS, "paragraphs_v1.json: no paragraph of 1 images of test, first 9"),
        (["1", "2"], PARAGRAPHS, "expected a list of image ids"),
        ({"1": "test"}, PARAGRAPHS, "expected a list of image ids"),
        ([1, 2], [PARAGRAPHS[0], {"image_id": 2, "paragraph": " "}], "entry 2: reference 1 of 1 is empty"),
        ([1, 2], [PARAGRAPHS[0], {"image_id": "2", "paragraph": "x"}], "entry 2: the field 'image_id'"),
        ([1, 2], [PARAGRAPHS[0], {"image_id": 2}], "entry 2: the field 'paragraph' is missing"),
        ([1, 2], {}, "expected a list of objects"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, split: object, paragraphs: Any, message: str) -> None:
    write(tmp_path, split, paragraphs)
    with pytest.raises(ValueError, match=message):
        load(tmp_path, images=False)
