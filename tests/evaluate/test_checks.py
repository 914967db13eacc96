"""Each mistake that other tools let pass is refused or warned of, in one line."""

import json

import pytest

from polyglance.data.texts.text_files import TextSet, make_text_set
from polyglance.evaluate.checks import (
    SegmentTexts,
    check_benchmark_size,
    check_document_frequency,
    check_tokenizer,
    pair_texts,
)

REFERENCES = {"1": ["a", "b"], "2": ["c", "d"], "3": ["e", "f"]}
HYPOTHESES = {"1": "x", "2": "y", "3": "z"}


def paired(hypotheses: object = HYPOTHESES, references: object = REFERENCES, **options: object) -> SegmentTexts:
    sets = [
        texts if isinstance(texts, TextSet) else make_text_set(texts, name)  # type: ignore[arg-type]
        for texts, name in ((hypotheses, "hyps"), (references, "refs"))
    ]
    return pair_texts(*sets, **options)  # type: ignore[arg-type]


def refused(message: str, hypotheses: object = HYPOTHESES, references: object = REFERENCES, **options: object) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        paired(hypotheses, references, **options)
    assert "\n" not in str(caught.value)


def lines(*texts: str) -> TextSet:
    entries = tuple((number, (text,)) for number, text in enumerate(texts, 1))
    return TextSet(source="lines", layout="lines", entries=entries)


def test_what_is_right_passes_without_a_word() -> None:
    segments = paired()
    assert segments.ids == ("1", "2", "3")
    assert segments.hypotheses == ("x", "y", "z")
    assert segments.references == (("a", "b"), ("c", "d"), ("e", "f"))
    assert segments.warnings == ()


def test_order_is_the_references_and_ids_are_spelled_as_theirs() -> None:
    references = TextSet(source="refs", layout="ids", entries=((3, ("e",)), (1, ("a",)), (3, ("f",))))
    segments = paired({"1": "x", "3": "z"}, references)
    assert segments.ids == (3, 1)
    assert segments.hypotheses == ("z", "x")
    assert segments.references == (("e", "f"), ("a",))


@pytest.mark.parametrize("character", "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
def test_line_breaks_inside_a_text_are_counted_and_count_as_spaces(character: str) -> None:
    segments = paired({**HYPOTHESES, "2": f"two{character}lines"})
    assert segments.hypotheses == ("x", "two lines", "z")
    (warning,) = segments.warnings
    assert "hyps: 1 texts hold line-break characters" in warning


def test_halves_of_surrogate_pairs_are_counted() -> None:
    segments = paired({**HYPOTHESES, "2": json.loads('"cat \\ud83d"')})
    assert segments.hypotheses[1] == "cat \ufffd"
    assert "halves of surrogate pairs" in segments.warnings[0]


def test_missing_ids() -> None:
    few = {"2": "y"}
    refused(r"hyps: 2 ids \(1, 3\) missing of the 3 in refs; --missing empty", few)
    empty = paired(few, missing="empty")
    assert empty.hypotheses == ("", "y", "")
    assert "scored as empty texts" in empty.warnings[0]
    dropped = paired(few, missing="drop")
    assert dropped.ids == ("2",)
    assert len(dropped.all_references) == 3
    assert "left out" in dropped.warnings[0]


def test_only_the_first_missing_ids_are_named() -> None:
    many = {str(number): ["a"] for number in range(10)}
    refused(r"\(1, 2, 3, \.\.\.\)", {"0": "x"}, many)


def test_extra_ids() -> None:
    more = {**HYPOTHESES, "4": "w"}
    refused(r"hyps: 1 id \(4\) not in refs; --missing drop", more)
    assert paired(more, missing="drop").ids == ("1", "2", "3")


def test_repeated_ids() -> None:
    entries = (("1", ("x",)), ("2", ("y",)), ("2", ("again",)), ("3", ("z",)))
    twice = TextSet(source="hyps", layout="ids", entries=entries)
    refused(r"hyps: 1 id \(2\) predicted more than once, with different texts; --duplicates", twice)
    refused("predicted more than once", twice, missing="drop")
    kept = paired(twice, duplicates="first")
    assert kept.hypotheses == ("x", "y", "z")
    assert "the first is scored" in kept.warnings[0]
    assert paired(twice, duplicates="last").hypotheses == ("x", "again", "z")
    equal = paired(TextSet(source="hyps", entries=(*entries[:2], entries[1], entries[3])))
    assert equal.hypotheses == ("x", "y", "z")
    assert "with the same text; it counts once" in equal.warnings[0]


def test_nothing_in_common() -> None:
    for missing in ("error", "empty", "drop"):
        refused("belong to different data", {"x9": "x"}, missing=missing)


def test_a_subset_of_ids() -> None:
    segments = paired(ids=["3", "1"])
    assert segments.ids == ("3", "1")
    assert len(segments.all_references) == 3
    refused(r"refs: 1 id \(9\) to be scored", ids=["9"])


def test_swapped_arguments() -> None:
    refused("look swapped", REFERENCES, HYPOTHESES)
    twice = TextSet(source="hyps", entries=tuple((name, (text,)) for name, text in HYPOTHESES.items() for _ in "ab"))
    assert paired(twice, {name: texts[0] for name, texts in REFERENCES.items()}).hypotheses == ("x", "y", "z")


@pytest.mark.parametrize("missing", ["error", "empty", "drop"])
def test_lines_that_are_not_as_many_are_refused_whatever_is_missing(missing: str) -> None:
    blank = lines("a", "b", "", "c")
    for hypotheses, references in ((lines("x", "y", "z"), blank), (blank, lines("x", "y", "z"))):
        with pytest.raises(ValueError, match="line 3 of lines is blank") as caught:
            paired(hypotheses, references, missing=missing)
        assert "--missing" not in str(caught.value)
    with pytest.raises(ValueError, match="lines has 3 lines, lines 4: lines are matched by position") as caught:
        paired(lines("x", "y", "z"), lines("a", "b", "c", "d"), missing=missing)
    assert "--missing" not in str(caught.value)


def test_lines_go_with_ids_that_are_places_only() -> None:
    places = {"0": ["a"], "1": ["b"]}
    assert paired(lines("x", "y"), places).references == (("a",), ("b",))
    refused("so that texts cannot be matched", lines("x", "y"), {"7": ["a"], "9": ["b"]})
    refused("has 2 segments, refs 3", lines("x", "y"), {"0": ["a"], "1": ["b"], "2": ["c"]})


def test_transposed_references() -> None:
    streams = {"0": ["a", "c", "e"], "1": ["b", "d", "f"]}
    refused("look transposed, 2 entries of 3 texts", HYPOTHESES, streams)


def test_references_one_after_another_in_a_file_of_lines() -> None:
    refused("2 times as many lines", lines("x", "y"), lines("a", "b", "c", "d"))


def test_empty_predictions_are_counted() -> None:
    segments = paired({**HYPOTHESES, "2": " "})
    assert segments.warnings == ("hyps: 1 of 3 predictions are empty",)


def test_empty_references_are_counted() -> None:
    segments = paired(references={**REFERENCES, "2": ["", "d"]})
    assert segments.warnings == ("refs: 1 of 6 references are empty",)


@pytest.mark.parametrize(
    ("counts", "helps"),
    [
        ((1, 1, "references"), False),
        ((1, 5000, "references"), True),
        ((1, 1, "all"), False),
        ((9, 9, "t.json", 1), False),
    ],
)
def test_cider_of_one_image_is_refused(counts: tuple[int, int, str], helps: bool) -> None:
    with pytest.raises(ValueError, match="CIDEr of one image is 0") as caught:
        check_document_frequency(*counts)
    assert ("--df all" in str(caught.value)) == helps


def test_document_frequency_of_a_subset() -> None:
    assert check_document_frequency(1, 5000, "all") == []
    assert "1,000 scored of 5,000 images" in check_document_frequency(1000, 5000, "references")[0]
    for counts in ((100, 100, "references"), (7, 100, "all"), (7, 7, "table.json", 100)):
        assert "100 images only" in check_document_frequency(*counts)[0]
    assert check_document_frequency(5000, 5000, "references") == []


@pytest.mark.parametrize("tokenizer", ["ptb", "whitespace", "13a", "none"])
@pytest.mark.parametrize("language", ["zh", "ja", "th"])
def test_tokenisers_that_mean_little_in_a_language(tokenizer: str, language: str) -> None:
    assert "means little" in check_tokenizer("cider", tokenizer, language)[0]
    assert check_tokenizer("cider", tokenizer, "fr") == []
    assert check_tokenizer("cider", "characters", language) == []


def test_the_size_of_a_benchmark() -> None:
    assert check_benchmark_size("coco-karpathy", 5000) == []
    assert "4,999 segments were scored" in check_benchmark_size("coco-karpathy", 4999)[0]
    assert check_benchmark_size("xm3600", 3600) == check_benchmark_size("commute-disambiguation", 308) == []
    assert check_benchmark_size("multi30k-task1", 1014)[0].endswith("multi30k-task1 has 1,071 or 1,000 or 461")
    with pytest.raises(ValueError, match="has no fixed size"):
        check_benchmark_size("shards-caption", 40)
    with pytest.raises(ValueError, match="did you mean 'xm3600'"):
        check_benchmark_size("xm3006", 3600)
