"""Several references in one string, with a mark between: refused, split by name, or kept by name."""

import csv
import json
from pathlib import Path

import pytest

from polyglance.data.texts.packed import find_mark
from polyglance.data.texts.text_files import ReadOptions, read_texts
from polyglance.evaluate.score import ScoreConfig, score_files

FIRST = ("a man rides a horse", "two dogs run on grass", "a red car", "a child eats cake", "snow on a roof")
SECOND = ("a person on a horse", "dogs are running", "the car is red", "a boy with a cake", "a white roof")
REFERENCES = ReadOptions(role="references")


def write_references(path: Path, mark: str) -> Path:
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image_id", "caption"])
        rows.writerows(
            [number, f"{one}{mark}{other}"] for number, (one, other) in enumerate(zip(FIRST, SECOND, strict=True))
        )
    return path


@pytest.mark.parametrize(
    "mark",
    [
        *(" ||| ", "||", "<sep>", " [SEP] ", " </s> ", ";;", " ### ", "\t", "\n", "<br/>", r"\n"),
        *("&&", "§", "~", "¦", "{}", " __sep__ ", "<SEP>", "[sep]", " // ", " & ", " ; ", "; ", ";", "#", "|"),
    ],
)
def test_references_in_one_string_are_asked_about_and_split(tmp_path: Path, mark: str) -> None:
    packed = write_references(tmp_path / "packed.csv", mark)
    with pytest.raises(ValueError, match=r"5 of 5 texts hold .* --split-texts '.*' splits them") as refused:
        read_texts(packed, options=REFERENCES)
    named = str(refused.value).split("--split-texts '")[1].split("'")[0]
    texts = read_texts(packed, options=ReadOptions(role="references", split_texts=named))
    assert [several for _, several in texts.entries] == [*zip(FIRST, SECOND, strict=True)]
    (kept,) = {len(several) for _, several in read_texts(
        packed, options=ReadOptions(role="references", split_texts="none")
    ).entries}  # fmt: skip
    assert kept == 1


def test_the_score_is_that_of_separate_references(tmp_path: Path) -> None:
    packed = write_references(tmp_path / "packed.csv", " ||| ")
    apart = tmp_path / "apart.json"
    apart.write_text(json.dumps({str(number): pair for number, pair in enumerate(zip(FIRST, SECOND, strict=True))}))
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps(dict(enumerate(reversed(FIRST)))))
    config = ScoreConfig(lang="en", bootstrap=0)
    split = score_files(predictions, [packed], ScoreConfig(lang="en", bootstrap=0, split_texts="|||"))
    assert [one.value for one in split.scores] == [
        one.value for one in score_files(predictions, [apart], config).scores
    ]


def test_a_mark_that_is_not_there_is_no_effect(tmp_path: Path) -> None:
    apart = tmp_path / "apart.json"
    apart.write_text(json.dumps(dict(enumerate(FIRST))))
    with pytest.raises(ValueError, match="split_texts"):
        score_files(apart, [apart], ScoreConfig(lang="en", bootstrap=0, split_texts="|||"))


def test_predictions_are_never_split(tmp_path: Path) -> None:
    packed = write_references(tmp_path / "packed.csv", " ||| ")
    for mark in ("", "|||"):
        with pytest.raises(ValueError, match=r"--split-texts none takes each as one text") as refused:
            read_texts(packed, options=ReadOptions(split_texts=mark))
        assert "splits them" not in str(refused.value)


@pytest.mark.parametrize(
    "texts",
    [
        [f"<s> {text} </s> </s> <pad> <pad>" for text in FIRST],
        [f"{text}\n" for text in FIRST],
        ["sunset | photo", *FIRST],
        [f"{text} ;; " for text in FIRST],
        ["C # is a note", *FIRST],
        ["a || b"],
    ],
)
def test_marks_at_the_end_and_rare_ones_are_no_marks_between_texts(texts: list[str]) -> None:
    assert find_mark(texts) is None


def test_lines_of_an_answer_are_no_references() -> None:
    texts = [f"{one}\n{other}" for one, other in zip(FIRST, SECOND, strict=True)]
    assert find_mark(texts, "predictions") is None
    assert find_mark(texts, "references") == "\n"


@pytest.mark.parametrize("part", ["|", "||"])
def test_a_part_of_the_mark_is_refused(tmp_path: Path, part: str) -> None:
    """Split there, the rest of the mark would be a word of the references."""
    packed = write_references(tmp_path / "packed.csv", " ||| ")
    with pytest.raises(ValueError, match=r"texts hold '\|\|\|', of which '\|+' is a part"):
        read_texts(packed, options=ReadOptions(role="references", split_texts=part))


def test_spaces_around_a_mark_need_not_be_named(tmp_path: Path) -> None:
    packed = write_references(tmp_path / "packed.csv", " | ")
    texts = read_texts(packed, options=ReadOptions(role="references", split_texts="|"))
    assert [several for _, several in texts.entries] == [*zip(FIRST, SECOND, strict=True)]
