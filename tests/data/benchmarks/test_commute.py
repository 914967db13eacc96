"""CoMMuTE: the published German and Russian parts, and made-up rows in the same format."""

from pathlib import Path
from typing import Any

import pytest

from polyglance.data.benchmarks import find_benchmark
from polyglance.data.benchmarks.commute import CommuteDisambiguation, CommuteTranslation

ROWS = {
    "img.order": ["a.jpeg", "b.png", "c.jpg", "d.jpeg"],
    "src.en": ["Hand me that bow.", "Hand me that bow.", "It must be the spring.", "It must be the spring."],
    "correct": ["Gib mir die Schleife.", "Gib mir den Bogen. ", "Das ist der Frühling.", "Das ist die Feder."],
    "incorrect": ["Gib mir den Bogen.", "Gib mir die Schleife.", "Das ist die Feder.", "Das ist der Frühling."],
}
SIZES = {"test": {"de": 4}, "dev": {"fr": 4}}


def write(root: Path, part: str = "en-de", folder: str = "CoMMuTE/CoMMuTE", **changed: list[str]) -> None:
    """No final line feed, as in most of the published files."""
    directory = root / folder / part
    directory.mkdir(parents=True, exist_ok=True)
    language = part[3:5]
    for name, lines in {**ROWS, **changed}.items():
        file = name if "." in name else f"{name}.{language}"
        (directory / file).write_text("\n".join(lines), encoding="utf-8")
    images = root / "CoMMuTE" / ("images_dev" if part.endswith("_dev") else "images")
    images.mkdir(parents=True, exist_ok=True)
    for name in ROWS["img.order"]:
        (images / name).touch()


def load(root: Path, split: str = "test", language: str = "de") -> Any:
    return CommuteDisambiguation(sizes=SIZES).load(root, split=split, language=language)


@pytest.mark.parametrize("folder", ["CoMMuTE/CoMMuTE", "CoMMuTE", "commute"])
def test_pairs_of_rows(tmp_path: Path, folder: str) -> None:
    write(tmp_path, folder=folder)
    examples = load(tmp_path)
    assert [example.id for example in examples] == ["1", "2", "3", "4"]
    second = examples[1]
    assert second.references == ("Gib mir den Bogen.",)
    assert second.incorrect == "Gib mir die Schleife."
    assert second.source == "Hand me that bow."
    assert second.image == tmp_path / "CoMMuTE/images/b.png"


def test_translation_has_the_fitting_text_as_its_reference(tmp_path: Path) -> None:
    write(tmp_path)
    task = CommuteTranslation(sizes=SIZES)
    examples = task.load(tmp_path, split="test", language="de")
    assert (task.task, examples[0].incorrect) == ("translation", None)
    assert [x.references for x in examples] == [x.references for x in load(tmp_path)]


def test_development_rows_exist_in_french(tmp_path: Path) -> None:
    write(tmp_path, part="en-fr_dev")
    assert load(tmp_path, "dev", "fr")[0].image == tmp_path / "CoMMuTE/images_dev/a.jpeg"
    assert find_benchmark("commute-translation").languages("dev") == ("fr",)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({name: rows[:3] for name, rows in ROWS.items()}, "src.en: 3 lines, but lines come in pairs"),
        ({"src.en": ["x", *ROWS["src.en"][:3]]}, "src.en:2: not the sentence of line 1, with which it is a pair"),
        ({"img.order": ["a.jpeg", "a.jpeg", "c.jpg", "d.jpeg"]}, "img.order:2: the image of line 1 again"),
        (
            {"incorrect": [*ROWS["incorrect"][1:], "x"]},
            "incorrect.de:1: does not belong to correct.de: in 2 of 2 pairs",
        ),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, changed: dict[str, list[str]], message: str) -> None:
    write(tmp_path, **changed)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(("language", "size", "identical"), [("de", 300, 0), ("ru", 324, 6)])
def test_published_rows(shared: Path, language: str, size: int, identical: int) -> None:
    rows = find_benchmark("commute-disambiguation").load(
        shared / "data/eval", split="test", language=language, images=False
    )
    assert len(rows) == size
    assert sum(row.references == (row.incorrect,) for row in rows) == identical
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first.source == second.source
        assert (first.references, first.incorrect) == ((second.incorrect,), second.references[0])
