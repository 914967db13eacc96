"""Metrics by name: all have the same interface, and typing errors are answered."""

import pytest

from polyglance.evaluate.metrics import Metric, make_metric


@pytest.mark.parametrize("name", ["cider", "bleu", "rouge", "sacrebleu", "chrf"])
def test_scores_are_functions_of_summed_statistics(name: str) -> None:
    metric = make_metric(name)
    assert isinstance(metric, Metric)
    assert metric.name == name
    hypotheses = ["a dog runs in the park", "two cats", "one bird sings", "a dog"]
    references = [["a dog runs in a park"], ["two cats sleep", "cats"], ["one bird sings"], ["the dog", "a dog"]]
    statistics = metric.statistics(hypotheses, references)
    assert statistics.values.shape == (4, len(statistics.names))
    sums = statistics.values.sum(axis=0)
    scores, drawn = metric.scores(sums, 4), metric.scores(sums[None].repeat(3, axis=0), 4)
    assert {key: [float(score)] * 3 for key, score in scores.items()} == {k: v.tolist() for k, v in drawn.items()}
    assert all(0 < score <= metric.scale for score in scores.values())
    assert all(isinstance(part, str) and part for pair in metric.signature().items() for part in pair)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cidre", {}, "unknown metric 'cidre': did you mean 'cider'"),
        ("qqq", {}, "known: .*bleu.*cider"),
        ("sacrebleu", {"tokenise": "zh"}, "unknown option 'tokenise': did you mean 'tokenize'"),
        ("rouge", {"beta": 1}, "unknown option 'beta': it has none"),
        ("cider", {"df": "refs"}, "df is 'refs'"),
    ],
)
def test_typing_errors_are_answered(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_metric(name, **options)
