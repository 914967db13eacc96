"""ROUGE-L as pycocoevalcap's `Rouge` computes it: F of the longest common subsequence, recall weighted by beta 1.2.

Lin 2004, https://aclanthology.org/W04-1013. The best precision and the best recall over the references are combined;
they may come from different references. Words are cut at single spaces, so that an empty text is one empty word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from polyglance.evaluate.metrics.metric import MeanMetric, MetricInput, Statistics, check_segments

__all__ = ["Rouge"]

_BETA = 1.2


@dataclass(frozen=True, kw_only=True)
class Rouge(MeanMetric):
    """ROUGE-L: score `ROUGE_L`, 0 to 1, the mean over segments."""

    name: ClassVar[str] = "rouge"
    reads: ClassVar[MetricInput] = "tokens"
    scale: ClassVar[float] = 1.0
    score_names: ClassVar[tuple[str, ...]] = ("ROUGE_L",)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Compute ROUGE-L of each segment, one column."""
        check_segments(hypotheses, references)
        scores = [_rouge_l(text, texts) for text, texts in zip(hypotheses, references, strict=True)]
        return Statistics(values=np.array(scores)[:, None], names=self.score_names)

    def signature(self) -> Mapping[str, str]:
        """Return variant and weight of recall."""
        return {"variant": "L", "beta": f"{_BETA:g}"}


def _rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    words = hypothesis.split(" ")
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        reference_words = reference.split(" ")
        length = _common_length(places, len(words), reference_words)
        precision = max(precision, length / len(words))
        recall = max(recall, length / len(reference_words))
    if not precision:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_length(places: Mapping[str, int], num_words: int, others: Sequence[str]) -> int:
    """Compute the length of the longest common subsequence of two texts, with one integer operation per word of the
    second (Hyyrö 2004, bit-parallel LCS).

    Args:
        places: word of the first text -> integer with a bit set for each place of the word.
        num_words: words of the first text.
        others: words of the second text.
    """
    row = (1 << num_words) - 1  # bit i is 0 where word i lengthened the common subsequence
    full = row
    for word in others:
        if hits := row & places.get(word, 0):
            row = (row + hits | row - hits) & full
    return num_words - row.bit_count()
