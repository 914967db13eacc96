"""N-grams counted in blocks give the scores of n-grams counted at once, to the digit."""

import numpy as np
import pytest

from polyglance.evaluate.metrics import make_metric
from polyglance.evaluate.metrics.cider import Cider
from polyglance.evaluate.metrics.document_frequency import DocumentFrequency


@pytest.mark.parametrize("block_words", [1, 7, 40])
def test_blocks_of_ngrams_change_no_digit(block_words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over blocks add the same numbers in the same order; document frequencies and BLEU's counts as well."""
    rng = np.random.default_rng(block_words)
    texts = [" ".join(rng.choice(list("abcdefgh"), rng.integers(0, 9))) for _ in range(90)]
    hypotheses, references = texts[:30], [texts[row : row + 2] for row in range(30, 90, 2)]
    metrics = (Cider(), Cider(df_resampled=True), make_metric("bleu"))
    whole = [metric.statistics(hypotheses, references) for metric in metrics]
    weights = rng.integers(0, 3, (2, 30)).astype(np.float64)
    drawn = metrics[1].draw_scores(whole[1], weights)["CIDEr"]  # type: ignore[attr-defined]
    table = DocumentFrequency.count(references, name="x")
    monkeypatch.setattr("polyglance.evaluate.metrics.ngrams._BLOCK_WORDS", block_words)
    for metric, one in zip(metrics, whole, strict=True):
        assert np.array_equal(metric.statistics(hypotheses, references).values, one.values)
    again = metrics[1].statistics(hypotheses, references)
    assert np.array_equal(metrics[1].draw_scores(again, weights)["CIDEr"], drawn)  # type: ignore[attr-defined]
    assert DocumentFrequency.count(references, name="x").fingerprint == table.fingerprint
