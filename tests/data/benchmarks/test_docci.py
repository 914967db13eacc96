"""DOCCI from made-up rows in the published format."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyglance.data.benchmarks.docci import Docci

SIZES = {"test": 2, "train": 1, "qual_dev": 0, "qual_test": 0}


def row(name: str, **changed: Any) -> dict[str, Any]:
    split = name.partition("_")[0]
    return {"image_file": f"{name}.jpg", "description": f"{name}. ", "split": split, "example_id": name, **changed}


def rows() -> list[dict[str, Any]]:
    return [row("train_00000"), row("test_00000"), row("test_00001")]


def write(root: Path, records: list[dict[str, Any]]) -> None:
    (root / "docci/images").mkdir(parents=True, exist_ok=True)
    for record in rows():
        (root / "docci/images" / record["image_file"]).touch()
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (root / "docci/docci_descriptions.jsonlines").write_text(lines)


def load(root: Path) -> Any:
    return Docci(sizes=SIZES).load(root, split="test", language="en")


def test_descriptions_of_a_split(tmp_path: Path) -> None:
    write(tmp_path, rows())
    first, second = load(tmp_path)
    assert (first.id, first.references) == ("test_00000", ("test_00000.",))
    assert second.image == tmp_path / "docci/images/test_00001.jpg"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([*rows()[:2], row("test_00001", description=" ")], "jsonlines:3: reference 1 of 1 is empty"),
        ([*rows()[:2], row("test_00001", description=None)], "jsonlines:3: the field 'description' is missing"),
        ([*rows()[:2], row("test_00001", split="tests")], "jsonlines:3 has no split 'tests'; did you mean 'test'"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, records: list[dict[str, Any]], message: str) -> None:
    write(tmp_path, records)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
