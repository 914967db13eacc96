"""Metrics by name: every one keeps to the interface, typing errors are answered, and nothing heavy is imported."""

import subprocess
import sys

import pytest

from polyglance.evaluate.metrics import metric


@pytest.mark.parametrize("name", ["cider", "bleu", "rouge", "sacrebleu", "chrf"])
def test_statistics_of_parts_add_up(name: str) -> None:
    made = metric(name)
    assert made.name == name
    hypotheses = ["a dog runs in the park", "two cats", "one bird sings", "a dog"]
    references = [["a dog runs in a park"], ["two cats sleep", "cats"], ["one bird sings"], ["the dog", "a dog"]]
    values = made.statistics(hypotheses, references).values
    assert values.shape == (4, len(made.statistics(hypotheses, references).names))
    totals = made.scores(values.sum(axis=0), 4)
    many = made.scores(values[None].repeat(3, axis=0).sum(axis=1), 4)
    assert {key: [float(total)] * 3 for key, total in totals.items()} == {k: v.tolist() for k, v in many.items()}
    assert all(0 < total <= made.scale for total in totals.values())
    assert all(scores.shape == (4,) for scores in made.segment_scores(values).values())
    assert all(isinstance(part, str) and part for pair in made.signature().items() for part in pair)


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
        metric(name, **options)


def test_metrics_import_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from polyglance.evaluate.metrics import metric; import polyglance.evaluate.metrics.resampling; "
        "[metric(n) for n in ('cider', 'bleu', 'rouge', 'sacrebleu', 'chrf')]; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
