"""ROUGE-L as pycocoevalcap's `Rouge` computes it: F of the longest common subsequence, recall weighted by beta 1.2.

Lin 2004, https://aclanthology.org/W04-1013. The best precision and the best recall over the references are combined,
which may come from different ones. Words are what lies between single spaces, so that an empty text is one empty word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from polyglance.evaluate.metrics.metric import MetricInput, Statistics, check_segments

__all__ = ["Rouge"]

_BETA = 1.2


@dataclass(frozen=True, kw_only=True)
class Rouge:
    """ROUGE-L: score `ROUGE_L`, 0 to 1, the mean over segments."""

    name: ClassVar[str] = "rouge"
    reads: ClassVar[MetricInput] = "tokens"
    scale: ClassVar[float] = 1.0

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """ROUGE-L of each segment, one column."""
        check_segments(hypotheses, references)
        scores = [_rouge_l(text, texts) for text, texts in zip(hypotheses, references, strict=True)]
        return Statistics(values=np.array(scores)[:, None], names=("ROUGE_L",))

    def scores(
        self, statistics: Float[np.ndarray, "*draws K"], num_segments: int
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """The mean over segments."""
        return {"ROUGE_L": np.asarray(statistics[..., 0] / num_segments)}

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        """ROUGE-L of each segment."""
        return {"ROUGE_L": statistics[:, 0]}

    def signature(self) -> Mapping[str, str]:
        """Variant and the weight of recall."""
        return {"variant": "L", "beta": f"{_BETA:g}"}


def _rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    words = hypothesis.split(" ")
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        reference_words = reference.split(" ")
        length = _longest_common_subsequence(places, len(words), reference_words)
        precision = max(precision, length / len(words))
        recall = max(recall, length / len(reference_words))
    if not precision:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common_subsequence(places: Mapping[str, int], num_words: int, others: Sequence[str]) -> int:
    """Its length, one integer operation per word of the other text (Hyyrö 2004, bit-parallel LCS).

    Args:
        places: for each word of the one text, a bit set at each of its places.
        num_words: of the one text.
    """
    row = (1 << num_words) - 1  # bit i is 0 where word i lengthened the common subsequence
    full = row
    for word in others:
        if hits := row & places.get(word, 0):
            row = (row + hits | row - hits) & full
    return num_words - row.bit_count()
