"""Disambiguation accuracy: the three rules for ties, and the scores of a scorer that sees no image."""

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.benchmarks import find_benchmark
from polyglance.evaluate.metrics import make_metric
from polyglance.evaluate.metrics.model_based import DisambiguationAccuracy


def accuracies(correct: list[float], incorrect: list[float]) -> list[float]:
    """Scores with ties wrong, right and half."""
    metric = DisambiguationAccuracy()
    values = metric.count_decisions(correct, incorrect).values
    return [float(score) for score in metric.scores(values.sum(axis=0), len(values)).values()]


def blind_loss(source: str | None, target: str | None) -> float:
    """A loss that is a function of the two texts alone."""
    return int.from_bytes(sha256(f"{source}\n{target}".encode()).digest()[:6]) / 2**48


@pytest.mark.parametrize(
    ("language", "strict", "lenient"), [("de", 50.0, 50.0), ("ru", 100 * 159 / 324, 100 * 165 / 324)]
)
def test_a_blind_scorer_is_at_one_half_but_for_ties(shared: Path, language: str, strict: float, lenient: float) -> None:
    """Six Russian rows have two identical translations."""
    benchmark = find_benchmark("commute-disambiguation")
    rows = benchmark.load(shared / "data/eval", split="test", language=language, images=False)
    correct = [blind_loss(row.source, row.references[0]) for row in rows]
    incorrect = [blind_loss(row.source, row.incorrect) for row in rows]
    assert accuracies(correct, incorrect) == [strict, lenient, 50.0]


@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.5, 1.0, 2.0])), min_size=1))
def test_rules_for_ties(rows: list[tuple[float, float]]) -> None:
    correct, incorrect = [c for c, _ in rows], [i for _, i in rows]
    strict, lenient, half = accuracies(correct, incorrect)
    assert strict == pytest.approx(100 * sum(c < i for c, i in rows) / len(rows))
    assert lenient == pytest.approx(100 - accuracies(incorrect, correct)[0])
    assert half == pytest.approx((strict + lenient) / 2)


@pytest.mark.parametrize(("name", "verb"), [("accuracy", "eval disambiguate"), ("clipscore", "eval caption --clip")])
def test_texts_alone_are_refused(name: str, verb: str) -> None:
    with pytest.raises(ValueError, match=f"takes more than texts: `polyglance {verb}"):
        make_metric(name).statistics(["a"], [["a"]])
