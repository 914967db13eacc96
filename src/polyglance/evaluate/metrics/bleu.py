"""BLEU of captions as coco-caption computes it: corpus counts, BLEU 1 to 4, closest reference length, no smoothing.

Papineni et al. 2002, https://aclanthology.org/P02-1040; the constants are those of pycocoevalcap's `Bleu`. For
translations use `sacrebleu`, which reads plain texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from polyglance.evaluate.metrics.metric import MetricInput, Statistics, check_segments
from polyglance.evaluate.metrics.ngrams import NgramCounts, SegmentWords

__all__ = ["Bleu"]

_ORDERS = range(1, 5)
_TINY, _SMALL = 1e-15, 1e-9  # pycocoevalcap's: no match gives (almost) 0; no n-gram at all is no division by zero
_COLUMNS = ("hypothesis_length", "reference_length", *(f"{kind}_{n}" for kind in ("total", "correct") for n in _ORDERS))


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """Corpus BLEU: scores `Bleu_1` ... `Bleu_4`, 0 to 1."""

    name: ClassVar[str] = "bleu"
    reads: ClassVar[MetricInput] = "tokens"
    scale: ClassVar[float] = 1.0

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Count words, n-grams and correct n-grams of each segment."""
        check_segments(hypotheses, references)
        words = SegmentWords.from_texts(hypotheses, references)
        lengths = words.hypothesis_lengths
        totals = [np.maximum(lengths - order + 1, 0) for order in _ORDERS]
        correct = np.zeros((len(_ORDERS), words.num_segments))
        for ngrams in words.count_ngrams(_ORDERS[-1]):
            correct[ngrams.order - 1] += _count_correct(ngrams, words.num_segments)
        columns = [lengths, _closest_reference_lengths(words), *totals, *correct]
        return Statistics(values=np.stack(columns, axis=1).astype(np.float64), names=_COLUMNS)

    def scores(
        self,
        statistics: Float[np.ndarray, "*draws K"],
        num_segments: int,  # noqa: ARG002  (counts are summed, not averaged)
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """Compute BLEU 1 to 4 of summed counts."""
        length, reference_length = statistics[..., 0], statistics[..., 1]
        totals, correct = statistics[..., 2 : 2 + len(_ORDERS)], statistics[..., 2 + len(_ORDERS) :]
        products = np.cumprod((correct + _TINY) / (totals + _SMALL), axis=-1)
        ratio = (length + _TINY) / (reference_length + _SMALL)
        penalty = np.exp(np.minimum(1 - 1 / ratio, 0.0))
        return {f"Bleu_{n}": np.asarray(products[..., n - 1] ** (1 / n) * penalty) for n in _ORDERS}

    def signature(self) -> Mapping[str, str]:
        """Return variant, longest n-gram, reference length and smoothing."""
        return {"variant": "coco-caption", "n": str(_ORDERS[-1]), "reflen": "closest", "smooth": "none"}


def _count_correct(ngrams: NgramCounts, num_segments: int) -> Float[np.ndarray, "N"]:
    """Count the matches of each segment. An n-gram counts as often as in the reference that has most of it."""
    shared = ngrams.count_in_hypothesis > 0
    keys = ngrams.segment_of_entry[shared] * max(ngrams.num_grams, 1) + ngrams.reference_gram[shared]
    matches = np.minimum(ngrams.reference_count, ngrams.count_in_hypothesis)[shared]
    pairs, pair = np.unique(keys, return_inverse=True)
    most = np.zeros(len(pairs))
    np.maximum.at(most, pair, matches)
    sums = np.bincount(pairs // max(ngrams.num_grams, 1), weights=most, minlength=num_segments)
    return sums.astype(np.float64)  # numpy gives integers where there is nothing to add


def _closest_reference_lengths(words: SegmentWords) -> Float[np.ndarray, "N"]:
    """Return the length of the reference nearest in length to each hypothesis; of two as near, the shorter."""
    lengths = words.reference_lengths
    distances = np.abs(lengths - words.hypothesis_lengths[words.segment_of_reference])
    radix = int(lengths.max()) + 1
    nearest = np.minimum.reduceat(distances * radix + lengths, words.first_reference)
    return (nearest % radix).astype(np.float64)
