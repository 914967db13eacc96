"""CIDEr, BLEU and ROUGE-L are the plain formulas on wild texts (tests/evaluate/test_score.py has the COCO example)."""

import plain_metrics
import pytest
from hypothesis import given
from plain_metrics import segments

from polyglance.evaluate.metrics import make_metric
from polyglance.evaluate.metrics.cider import Cider


def corpus_scores(name: str, hypotheses: list[str], references: list[list[str]]) -> dict[str, float]:
    values = make_metric(name).statistics(hypotheses, references).values
    return {key: float(score) for key, score in make_metric(name).scores(values.sum(axis=0), len(values)).items()}


@given(segments())
def test_cider_is_the_plain_formula(texts: tuple[list[str], list[list[str]]]) -> None:
    values = Cider().statistics(*texts).values
    assert values[:, 0] == pytest.approx(plain_metrics.cider(*texts), abs=1e-9)


@given(segments())
def test_bleu_is_the_plain_formula(texts: tuple[list[str], list[list[str]]]) -> None:
    assert list(corpus_scores("bleu", *texts).values()) == pytest.approx(plain_metrics.bleu(*texts), abs=1e-12)


@given(segments(words="abcdef", max_words=70))
def test_rouge_is_the_plain_formula(texts: tuple[list[str], list[list[str]]]) -> None:
    values = make_metric("rouge").statistics(*texts).values
    plain = [plain_metrics.rouge_l(text, references) for text, references in zip(*texts, strict=True)]
    assert values[:, 0] == pytest.approx(plain, abs=1e-12)


def test_cider_of_one_image_is_nothing() -> None:
    assert corpus_scores("cider", ["a dog runs"], [["a dog runs"]]) == {"CIDEr": 0.0}


def test_cider_where_it_is_known_by_hand() -> None:
    references = [["one two three four five"], ["six seven eight nine ten"]]
    values = Cider().statistics(["one two three four five", ""], references).values
    assert values[:, 0].tolist() == [pytest.approx(10.0), 0.0]
    # The matching reference counts as often as it stands there.
    twice = Cider().statistics(["one two three four five", ""], [references[0] * 2 + ["eleven"], references[1]]).values
    assert twice[0, 0] == pytest.approx(20 / 3)


def test_words_are_split_at_every_blank_as_in_pycocoevalcap() -> None:
    # PTB writes "1 1/2" with a no-break space inside; CIDEr and BLEU there see two words.
    references = [["1\u00a01/2 cups"], ["a cup"]]
    same = Cider().statistics(["1 1/2 cups", "cup"], references).values
    assert same[0, 0] == pytest.approx(7.5)  # three words: no 4-gram
    assert corpus_scores("bleu", ["1 1/2 cups", "a cup"], references)["Bleu_1"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["cider", "bleu", "rouge", "sacrebleu", "chrf"])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "no segments to score"),
        (["a"], [["a"], ["b"]], "1 hypotheses but references of 2 segments"),
        (["a", "b"], [["a"], []], "segment 1 has no reference"),
        (["a", "b"], [["a"], "b"], "references of segment 1 are a text"),
    ],
)
def test_segments_that_cannot_be_scored(name: str, hypotheses: list[str], references: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_metric(name).statistics(hypotheses, references)
