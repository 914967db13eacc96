"""CIDEr, BLEU and ROUGE-L: pycocoevalcap's values on the COCO example, and the plain formulas on wild texts."""

import gzip
import json
from pathlib import Path

import plain_metrics
import pytest
from hypothesis import given
from plain_metrics import segments

from polyglance.evaluate.metrics import make_metric
from polyglance.evaluate.metrics.cider import Cider

COCO = {
    "cider": {"CIDEr": 0.5997905185184199},
    "bleu": {
        "Bleu_1": 0.5793995754573356,
        "Bleu_2": 0.40439129741018104,
        "Bleu_3": 0.2785363856619147,
        "Bleu_4": 0.1908290437674253,
    },
    "rouge": {"ROUGE_L": 0.39625269357570847},
}


@pytest.fixture(scope="module")
def coco(shared: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """Image ids, hypotheses and references of the COCO example, as PTB tokens."""
    folder = shared / "data/eval/coco_fakecap"
    results = json.loads((folder / "en_captions_val2014_results_after_tokenization.json").read_text())
    references = json.loads((folder / "en_captions_val2014_references_after_tokenization.json").read_text())
    ids = list(results)
    return ids, [results[i][0] for i in ids], [references[i] for i in ids]


def corpus_scores(name: str, hypotheses: list[str], references: list[list[str]]) -> dict[str, float]:
    values = make_metric(name).statistics(hypotheses, references).values
    return {key: float(score) for key, score in make_metric(name).scores(values.sum(axis=0), len(values)).items()}


@pytest.mark.parametrize("name", COCO)
def test_scores_of_the_coco_example(coco: tuple[list[str], list[str], list[list[str]]], name: str) -> None:
    assert corpus_scores(name, *coco[1:]) == pytest.approx(COCO[name], abs=1e-12)


def test_cider_of_each_image_of_the_coco_example(
    coco: tuple[list[str], list[str], list[list[str]]], shared: Path
) -> None:
    ids, hypotheses, references = coco
    with gzip.open(shared / "data/eval/ptb/cider_per_image_fakecap_en.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    gold = {str(row["image_id"]): row["cider"] for row in rows}
    per_image = make_metric("cider").statistics(hypotheses, references).values[:, 0]
    assert dict(zip(ids, per_image, strict=True)) == pytest.approx(gold, abs=1e-12)


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
        (["a", "b"], [["a"], "b"], "references of segment 1 are one text"),
    ],
)
def test_segments_that_cannot_be_scored(name: str, hypotheses: list[str], references: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_metric(name).statistics(hypotheses, references)
