"""Intervals and paired tests: the same as plain loops over the same draws, and right where the answer is known."""

from math import sqrt
from typing import Any

import numpy as np
import plain_metrics
import pytest
from hypothesis import given, settings
from plain_metrics import segments
from scipy.stats import norm

from polyglance.evaluate.metrics import Metric, Statistics, make_metric
from polyglance.evaluate.metrics.cider import Cider
from polyglance.evaluate.metrics.resampling import PairedResult, Resampling, bootstrap_intervals, run_paired_test

METHODS = ("bootstrap", "permutation")


def means(values: list[float] | np.ndarray) -> Statistics:
    """Statistics of a metric that is a mean over segments (ROUGE-L's)."""
    return Statistics(values=np.asarray(values, dtype=np.float64)[:, None], names=("ROUGE_L",))


def intervals(metric: Metric, statistics: Statistics, **resampling: Any) -> dict[str, tuple[float, float]]:
    return bootstrap_intervals(metric, statistics, Resampling(**resampling))


def compare(a: Statistics, b: Statistics, method: Any, num_samples: int = 1000) -> PairedResult:
    resampling = Resampling(num_samples=num_samples)
    return run_paired_test(make_metric("rouge"), a, b, method=method, resampling=resampling)["ROUGE_L"]


def drawn_indices(draw: int, num_segments: int, seed: int) -> list[int]:
    return np.random.default_rng([seed, draw, 0]).integers(num_segments, size=num_segments).tolist()


@pytest.mark.parametrize("name", ["cider", "bleu", "rouge", "sacrebleu", "chrf"])
def test_intervals_are_those_of_scores_of_drawn_segments(name: str) -> None:
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(list("abcdefgh"), size=rng.integers(4, 9))) for _ in range(60)]
    metric = make_metric(name)
    statistics = metric.statistics(texts[:20], [texts[20 + 2 * i : 22 + 2 * i] for i in range(20)])
    for score, interval in intervals(metric, statistics, num_samples=40, seed=3, level=0.8).items():
        draws = [
            float(metric.scores(statistics.values[drawn_indices(draw, 20, 3)].sum(axis=0), 20)[score])
            for draw in range(40)
        ]
        assert interval == pytest.approx(np.quantile(draws, [0.1, 0.9]), abs=1e-9)
        assert interval[0] < interval[1]


@settings(max_examples=30)
@given(segments(words="abcd"))
def test_resampled_document_frequencies_are_those_of_the_drawn_images(texts: tuple[list[str], list[list[str]]]) -> None:
    cider = Cider(df_resampled=True)
    interval = intervals(cider, cider.statistics(*texts), num_samples=20, level=0.5)["CIDEr"]
    hypotheses, references = texts
    drawn = [drawn_indices(draw, len(hypotheses), 0) for draw in range(20)]
    scores = [np.mean(plain_metrics.cider([hypotheses[i] for i in ids], [references[i] for i in ids])) for ids in drawn]
    assert interval == pytest.approx(np.quantile(scores, [0.25, 0.75]), abs=1e-9)


def test_resampled_document_frequencies_need_the_texts() -> None:
    cider = Cider(df_resampled=True)
    saved = Statistics(values=cider.statistics(["a", "b"], [["a"], ["b"]]).values, names=("CIDEr",))
    with pytest.raises(ValueError, match="needs the texts"):
        intervals(cider, saved)


def test_an_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, size=400)
    low, high = intervals(make_metric("rouge"), means(values), num_samples=4000)["ROUGE_L"]
    half = 1.96 * values.std() / sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 15)


def test_chunks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = means(np.random.default_rng(0).random(30))
    whole = intervals(make_metric("rouge"), statistics, num_samples=50)
    monkeypatch.setattr("polyglance.evaluate.metrics.resampling._CHUNK_VALUES", 100)
    chunked = intervals(make_metric("rouge"), statistics, num_samples=50)
    assert chunked["ROUGE_L"] == pytest.approx(whole["ROUGE_L"], abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_equal_scores_of_different_systems_are_a_tie(method: str) -> None:
    result = compare(means([0.1, 0.2, 0.3] * 5), means([0.3, 0.2, 0.1] * 5), method)
    assert result.p_value == 1.0
    assert result.difference == pytest.approx(0)


def test_permutation_counts_every_swap() -> None:
    # One segment differs: each swap gives the same size of difference, so nothing speaks against chance.
    one = compare(means([1.0, 0.4]), means([0.7, 0.4]), "permutation")
    assert one.p_value == 1.0
    # Ten equal gains: only the 2 of 1,024 swaps that go one way for all are as large.
    ten = compare(means([0.6] * 10), means([0.5] * 10), "permutation", num_samples=8_000)
    assert ten.difference == pytest.approx(0.1)
    assert ten.p_value == pytest.approx(2 / 1024, abs=0.0015)


def test_the_default_test_is_right_where_few_segments_differ() -> None:
    """Six of twenty segments differ, all one way: 2 of 64 swaps are as extreme. The bootstrap takes that for 0.006."""
    a, b = means([0.6] * 6 + [0.5] * 14), means([0.5] * 20)
    resampling = Resampling(num_samples=4_000)
    (default,) = run_paired_test(make_metric("rouge"), a, b, resampling=resampling).values()
    assert default.p_value == pytest.approx(2 / 64, abs=0.008)
    assert compare(a, b, "bootstrap", num_samples=4_000).p_value < 0.015


@pytest.mark.parametrize("method", METHODS)
def test_p_values_are_those_of_a_t_test_where_it_holds(method: str) -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(0.5, 0.2, size=300)
    gain = rng.normal(0.0, 0.1, size=300)
    for mean in (0.004, 0.011, 0.016):
        result = compare(means(base + gain - gain.mean() + mean), means(base), method, num_samples=4_000)
        z = mean / (gain.std() / sqrt(300))
        assert result.p_value == pytest.approx(2 * (1 - norm.cdf(z)), abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_the_least_p_value_is_one_draw_of_n_plus_1(method: str) -> None:
    rng = np.random.default_rng(0)
    a, b = means(0.9 + 0.01 * rng.random(200)), means(0.1 + 0.01 * rng.random(200))
    result = compare(a, b, method, num_samples=99)
    assert result.p_value == 1 / 100
    assert result.interval[0] < result.difference < result.interval[1]


def test_wrong_draws_and_pairs_are_refused() -> None:
    rouge, two, three = make_metric("rouge"), means([0.1, 0.2]), means([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="num_samples is 0"):
        intervals(rouge, two, num_samples=0)
    with pytest.raises(ValueError, match=r"level is 95\.0"):
        intervals(rouge, two, level=95.0)
    with pytest.raises(ValueError, match="no segments to draw from"):
        intervals(rouge, means([]))
    with pytest.raises(ValueError, match="2 and 3 segments"):
        compare(two, three, "bootstrap")


@pytest.mark.parametrize("method", METHODS)
def test_one_segment_says_nothing_about_chance(method: str) -> None:
    assert compare(means([0.9]), means([0.1]), method).p_value == 1


def test_intervals_of_few_segments_are_too_narrow() -> None:
    """The shares are those that `polyglance.evaluate.score_report` states."""
    rng, metric = np.random.default_rng(0), make_metric("rouge")
    for num_segments, expected in ((5, 0.83), (10, 0.91)):
        drawn = [intervals(metric, means(rng.normal(size=num_segments)), num_samples=200, seed=i) for i in range(400)]
        held = np.mean([one["ROUGE_L"][0] <= 0 <= one["ROUGE_L"][1] for one in drawn])
        assert held == pytest.approx(expected, abs=0.05)
