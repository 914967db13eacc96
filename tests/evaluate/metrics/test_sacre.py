"""sacrebleu behind our interface gives sacrebleu's numbers and signature, with any number of references."""

from itertools import zip_longest
from typing import Any

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from polyglance.evaluate.metrics import make_metric

HYPOTHESES = ["The dog runs fast.", "A cat, sleeping on the mat", "", "Two dogs", "两只狗在公园里跑。"]
REFERENCES = [
    ["The dog runs very fast.", "A dog runs fast"],
    ["A cat sleeping on a mat.", "a cat sleeps on the mat", "One cat."],
    ["Nothing at all"],
    ["Two dogs"],
    ["两只狗在跑。"],
]


@pytest.mark.parametrize(
    ("name", "options", "theirs", "score_name"),
    [
        ("sacrebleu", {}, BLEU(), "BLEU"),
        ("sacrebleu", {"tokenize": "zh", "lowercase": True}, BLEU(tokenize="zh", lowercase=True), "BLEU"),
        ("sacrebleu", {"tokenize": "none"}, BLEU(tokenize="none"), "BLEU"),
        ("chrf", {}, CHRF(), "chrF"),
        ("chrf", {"word_order": 2, "lowercase": True}, CHRF(word_order=2, lowercase=True), "chrF++"),
    ],
)
def test_numbers_and_signature_are_sacrebleus(name: str, options: dict[str, Any], theirs: Any, score_name: str) -> None:
    ours = make_metric(name, **options)
    values = ours.statistics(HYPOTHESES, REFERENCES).values
    scores = ours.scores(values.sum(axis=0), len(values))
    expected = theirs.corpus_score(HYPOTHESES, list(zip_longest(*REFERENCES)))
    assert {key: float(score) for key, score in scores.items()} == {score_name: expected.score}
    signature = {**theirs.get_signature().info, "sacrebleu": theirs.get_signature().info["version"]}
    assert ours.signature() == {key: str(signature[key]) for key in ours.signature()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sacrebleu", {"tokenize": "13b"}, "did you mean '13a'"),
        ("chrf", {"word_order": 3}, "word_order is 3"),
    ],
)
def test_options_that_sacrebleu_does_not_have(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_metric(name, **options)


def test_a_missing_tokeniser_model_is_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("polyglance.evaluate.metrics.sacre.SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"needs its model at .*; put it there from https://"):
        make_metric("sacrebleu", tokenize="flores200")
