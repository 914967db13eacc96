"""Document frequencies of another set: CIDEr with them, kept in a file, and files that are not one."""

import json
from pathlib import Path

import plain_metrics
import pytest
from hypothesis import given
from plain_metrics import segments

from polyglance.evaluate.metrics.cider import Cider
from polyglance.evaluate.metrics.document_frequency import DocumentFrequency


@given(segments(), segments(words="abcd"))
def test_cider_with_the_table_of_other_references(
    evaluated: tuple[list[str], list[list[str]]], others: tuple[list[str], list[list[str]]]
) -> None:
    table = DocumentFrequency.count(others[1], name="others")
    values = Cider(df=table).statistics(*evaluated).values
    df = plain_metrics.document_frequencies(others[1])
    assert dict(table.counts) == {" ".join(gram): count for gram, count in df.items()}
    plain = plain_metrics.cider(*evaluated, df, len(others[1]))
    assert values[:, 0] == pytest.approx(plain, abs=1e-9)


def test_a_subset_scores_as_within_the_whole(tmp_path: Path) -> None:
    hypotheses = ["a red dog runs", "a blue cat sleeps here", "two dogs"]
    references = [["a red dog runs fast", "the dog"], ["a blue cat sleeps"], ["two dogs play", "dogs"]]
    whole = Cider().statistics(hypotheses, references).values
    DocumentFrequency.count(references, name="whole/ptb").save(tmp_path / "df.json")
    table = DocumentFrequency.load(tmp_path / "df.json")
    assert Cider(df=table).statistics(hypotheses[:1], references[:1]).values[0, 0] == whole[0, 0] > 0
    assert Cider(df=table).signature()["df"] == f"whole/ptb/3/{table.fingerprint}"
    assert DocumentFrequency.count(references[:2], name="whole/ptb").fingerprint != table.fingerprint


GOOD = {"format": "polyglance document frequency 1", "name": "x", "num_images": 2, "counts": {"a": 2}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        (json.dumps({"a": 1}), "not a document-frequency table"),
        (json.dumps(GOOD | {"num_images": "2"}), "expected name"),
        (json.dumps(GOOD | {"counts": {"a": 1.5}}), "not whole numbers"),
        (json.dumps(GOOD | {"counts": {"a": 3}}), "'a' occurs in 3 of 2 images"),
        (json.dumps(GOOD | {"num_images": 0}), "num_images is 0"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "df.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        DocumentFrequency.load(path)


def test_options_that_exclude_each_other() -> None:
    table = DocumentFrequency(name="x", num_images=2, counts={"a": 1})
    with pytest.raises(ValueError, match="exclude each other"):
        Cider(df=table, df_resampled=True)
