"""Comparisons of systems: from files alone, on the same data only, and with the right sign."""

from pathlib import Path
from typing import Any

import pytest

from polyglance.evaluate.compare import SystemComparison, compare_systems
from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.score import score_texts
from polyglance.evaluate.score_report import ScoreReport, read_scores, write_scores

REFERENCES = {str(i): [f"a {i % 7} b {i % 5} c {i % 3} d", f"b {i % 5} a {i % 7} d e"] for i in range(60)}
GOOD = {name: texts[0] for name, texts in REFERENCES.items()}
BAD = dict.fromkeys(REFERENCES, "a 0 b 0 c 0 d")


def scored(hypotheses: dict[str, str], references: dict[str, list[str]] = REFERENCES, **options: Any) -> ScoreReport:
    chosen: dict[str, Any] = {"language": "en", "metrics": ("cider", "bleu"), "bootstrap": 0, **options}
    return score_texts(hypotheses, references, **chosen)


def compare(
    a: ScoreReport, b: ScoreReport, *, method: Any = "bootstrap", num_samples: int = 50
) -> tuple[SystemComparison, ...]:
    return compare_systems(a, b, method=method, resampling=Resampling(num_samples=num_samples))


@pytest.mark.parametrize("method", ["bootstrap", "permutation"])
def test_a_better_system_scores_higher(method: Any) -> None:
    better = {one.name: one for one in compare(scored(BAD), scored(GOOD), method=method, num_samples=200)}
    assert set(better) == {"CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"}
    cider = better["CIDEr"]
    assert cider.difference == pytest.approx(cider.score_b - cider.score_a)
    assert cider.difference > 0
    assert cider.p_value == pytest.approx(1 / 201)
    assert cider.num_ties < cider.num_segments == 60
    assert cider.interval
    assert cider.interval[0] < cider.difference < cider.interval[1]
    worse = compare(scored(GOOD), scored(BAD), method=method, num_samples=200)[0]
    assert worse.difference == pytest.approx(-cider.difference)


@pytest.mark.parametrize("num_better", [1, 3, 6])
def test_p_is_exact_where_all_swaps_of_the_segments_that_differ_can_be_tried(num_better: int) -> None:
    names = list(REFERENCES)[1:21]
    references = {name: REFERENCES[name] for name in names}
    better = {name: (GOOD if place < num_better else BAD)[name] for place, name in enumerate(names)}
    assert all(GOOD[name] != BAD[name] for name in names[:num_better])
    worse = {name: BAD[name] for name in names}
    a, b = (scored(texts, references, metrics=("bleu",)) for texts in (worse, better))
    tests = compare(a, b, method="permutation", num_samples=64)
    assert {one.p_value for one in tests if one.difference} == {2 / 2**num_better}


@pytest.mark.parametrize("method", ["bootstrap", "permutation"])
def test_equal_systems_are_all_ties(method: Any) -> None:
    report = scored(GOOD, metrics=("cider", "bleu", "rouge", "sacrebleu", "chrf", "chrf++"))
    comparisons = compare(report, report, method=method)
    assert [one.name for one in comparisons] == [score.name for score in report.scores]
    for one in comparisons:
        assert (one.difference, one.p_value, one.num_ties) == (0, 1, one.num_segments)


def test_files_are_enough_and_order_does_not_matter(tmp_path: Path) -> None:
    direct = compare(scored(BAD), scored(GOOD))
    turned = scored(GOOD, dict(reversed(REFERENCES.items())))
    files = [read_scores(write_scores(one, tmp_path / str(i))) for i, one in enumerate((scored(BAD), turned))]
    for one, other in zip(direct, compare(*files), strict=True):
        assert (one.p_value, one.num_ties) == (other.p_value, other.num_ties)
        assert one.interval == pytest.approx(other.interval)


def test_the_protocol_s_scale_is_kept() -> None:
    plain = compare(scored(BAD), scored(GOOD))[0]
    times = {"protocols": ("paligemma-xm3600",)}
    scaled = compare(scored(BAD, **times), scored(GOOD, **times))[0]
    assert scaled.difference == pytest.approx(100 * plain.difference)
    assert scaled.p_value == plain.p_value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"references": {**REFERENCES, "7": ["other"]}}, "refs:2 and refs:1|data:"),
        ({"language": "de"}, "lang:en and lang:de"),
        ({"df": "all"}, "df:references and df:all"),
        ({"metrics": ("rouge",)}, "no metric and protocol in common"),
        ({"protocols": ("whitespace",)}, "no metric and protocol in common"),
    ],
)
def test_scores_of_different_things_are_not_compared(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        compare(scored(GOOD), scored(BAD, **options))
    assert "\n" not in str(caught.value)


def test_draws_of_intervals_may_differ() -> None:
    assert compare(scored(GOOD, bootstrap=20), scored(BAD))
