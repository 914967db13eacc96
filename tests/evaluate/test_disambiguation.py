"""Disambiguation accuracy: both rules for ties, and what a scorer that sees no image gets."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.benchmarks import BenchmarkExample, find_benchmark
from polyglance.evaluate.disambiguation import Accuracy, disambiguation_accuracy, read_losses


def blind_loss(source: str | None, target: str | None) -> float:
    """A loss that is a function of the two texts alone."""
    return int.from_bytes(sha256(f"{source}\n{target}".encode()).digest()[:6]) / 2**48


def blind_accuracy(root: Path, language: str) -> Accuracy:
    rows = find_benchmark("commute-disambiguation").load(root, split="test", language=language, images=False)
    return disambiguation_accuracy(
        [blind_loss(row.source, row.references[0]) for row in rows],
        [blind_loss(row.source, row.incorrect) for row in rows],
        texts=[(row.references[0], row.incorrect or "") for row in rows],
    )


def test_blind_german_is_exactly_half(shared: Path) -> None:
    accuracy = blind_accuracy(shared / "data/eval", "de")
    assert (accuracy.strict, accuracy.lenient, accuracy.ties, accuracy.identical) == (50.0, 50.0, 0, 0)
    assert accuracy.num == 300


def test_blind_russian_shows_its_ties(shared: Path) -> None:
    accuracy = blind_accuracy(shared / "data/eval", "ru")
    assert (accuracy.ties, accuracy.identical, accuracy.num) == (6, 6, 324)
    assert accuracy.strict == 100 * 159 / 324
    assert accuracy.lenient == 100 * 165 / 324
    assert accuracy.expected == 50.0
    assert accuracy.summary() == (
        "49.07 % (ties wrong), 50.93 % (ties right), 50.00 % (ties half); 6 ties in 324 rows, "
        "6 rows with identical texts"
    )


@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.5, 1.0, 2.0])), min_size=1))
def test_rules(rows: list[tuple[float, float]]) -> None:
    correct, incorrect = [c for c, _ in rows], [i for _, i in rows]
    accuracy, swapped = disambiguation_accuracy(correct, incorrect), disambiguation_accuracy(incorrect, correct)
    assert accuracy.strict == pytest.approx(100 - swapped.lenient)
    assert accuracy.expected == pytest.approx((accuracy.strict + accuracy.lenient) / 2)
    assert accuracy.lenient - accuracy.strict == pytest.approx(100 * accuracy.ties / len(rows))
    assert accuracy.identical is None


def example(name: str, correct: str = "a", incorrect: str = "b") -> BenchmarkExample:
    return BenchmarkExample(id=name, image=None, references=(correct,), incorrect=incorrect)


def test_losses_of_the_official_script(tmp_path: Path) -> None:
    (tmp_path / "correct.txt").write_text("1.3456\n5.6432\n1e0")
    (tmp_path / "incorrect.txt").write_text("2\n5.6432\n0.5\n")
    losses = read_losses(tmp_path / "correct.txt", tmp_path / "incorrect.txt")
    assert losses.accuracy().strict == pytest.approx(100 / 3)
    accuracy = losses.accuracy([example("1"), example("2", "x", "x"), example("3")])
    assert (accuracy.ties, accuracy.identical) == (1, 1)
    with pytest.raises(ValueError, match=r"correct.txt: 3 losses, but the benchmark has 2"):
        losses.accuracy([example("1"), example("2")])


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_losses_with_ids_are_in_any_order(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": 2, "correct": 1, "incorrect": 2.5},
        {"id": "1", "correct": 3.0, "incorrect": 2.0},
    ]
    losses = read_losses(write(tmp_path / "l.jsonl", rows))
    assert losses.accuracy([example("1"), example("2", "x", "x")]).identical == 1
    assert losses.accuracy().strict == 50.0
    with pytest.raises(ValueError, match="1 rows of the benchmark are missing, first '3'"):
        losses.accuracy([example("1"), example("2"), example("3")])
    with pytest.raises(ValueError, match="1 ids are not in the benchmark, such as '2'"):
        losses.accuracy([example("1")])


@pytest.mark.parametrize(
    ("correct", "incorrect", "message"),
    [
        ("1\n2\n", "1\n", r"incorrect.txt: 1 losses, but correct.txt has 2"),
        ("1\nx\n", "1\n2\n", r'correct.txt:2: expected one number, got "x"'),
        ("1\n2\n", "1\nnan\n", r"incorrect.txt:2: a loss of nan decides nothing"),
        ('{"id": 1}\n', "1\n", r"correct.txt:1: .*JSON lines are read from one file"),
        ("1\n\n2\n", "1\n2\n3\n", r"correct.txt:2: this line is empty"),
    ],
)
def test_malformed_loss_files_are_named(tmp_path: Path, correct: str, incorrect: str, message: str) -> None:
    (tmp_path / "correct.txt").write_text(correct)
    (tmp_path / "incorrect.txt").write_text(incorrect)
    with pytest.raises(ValueError, match=message):
        read_losses(tmp_path / "correct.txt", tmp_path / "incorrect.txt")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"correct": 1.0, "incorrect": 1.0}, "l.jsonl:2: the field 'id' is missing"),
        ({"id": "a", "correct": 1.0}, "l.jsonl:2: 'incorrect' is missing or not a number"),
        ({"id": "a", "correct": True, "incorrect": 1.0}, "l.jsonl:2: 'correct' is missing or not a number"),
        ({"id": "a", "correct": 10**400, "incorrect": 1.0}, "l.jsonl:2: 'correct': a loss of inf decides nothing"),
        ({"id": "0", "correct": 2.0, "incorrect": 1.0}, "1 ids occur more than once, the first is '0'"),
    ],
)
def test_malformed_loss_rows_are_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = write(tmp_path / "l.jsonl", [{"id": "0", "correct": 1.0, "incorrect": 2.0}, row])
    with pytest.raises(ValueError, match=message):
        read_losses(path)


def test_what_cannot_be_decided_is_refused() -> None:
    with pytest.raises(ValueError, match="no losses"):
        disambiguation_accuracy([], [])
    with pytest.raises(ValueError, match="1 losses of correct texts, but 2"):
        disambiguation_accuracy([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="row 2: a loss is not finite"):
        disambiguation_accuracy([1.0, float("nan")], [1.0, 2.0])
