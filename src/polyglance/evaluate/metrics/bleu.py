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
from polyglance.evaluate.metrics.ngrams import Ngrams, Segments

__all__ = ["Bleu"]

_MAX_ORDER = 4
_TINY, _SMALL = 1e-15, 1e-9  # pycocoevalcap's: no match gives (almost) 0, no n-gram at all is no division by zero
_NAMES = (
    "hypothesis_length",
    "reference_length",
    *(f"total_{order}" for order in range(1, _MAX_ORDER + 1)),
    *(f"correct_{order}" for order in range(1, _MAX_ORDER + 1)),
)


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """Corpus BLEU: scores `Bleu_1` ... `Bleu_4`, 0 to 1."""

    name: ClassVar[str] = "bleu"
    reads: ClassVar[MetricInput] = "tokens"
    scale: ClassVar[float] = 1.0

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Lengths, and n-grams in all and correct, of each segment."""
        check_segments(hypotheses, references)
        segments = Segments.of(hypotheses, references)
        lengths = segments.hypothesis_lengths
        totals = [np.maximum(lengths - order + 1, 0) for order in range(1, _MAX_ORDER + 1)]
        correct = [_num_correct(ngrams, segments.num_segments) for ngrams in segments.ngrams(_MAX_ORDER)]
        columns = [lengths, _closest_reference_lengths(segments), *totals, *correct]
        return Statistics(values=np.stack(columns, axis=1).astype(np.float64), names=_NAMES)

    def scores(
        self,
        statistics: Float[np.ndarray, "*draws K"],
        num_segments: int,  # noqa: ARG002  (counts are summed, not averaged)
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """BLEU 1 to 4 of summed counts."""
        return _bleu(statistics)

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        """The same formula on each segment's counts; about 0 where an n-gram length has no match."""
        return _bleu(statistics)

    def signature(self) -> Mapping[str, str]:
        """Variant, reference length and smoothing."""
        return {"variant": "coco-caption", "n": str(_MAX_ORDER), "reflen": "closest", "smooth": "none"}


def _bleu(statistics: Float[np.ndarray, "*draws K"]) -> dict[str, Float[np.ndarray, "*draws"]]:
    length, reference_length = statistics[..., 0], statistics[..., 1]
    totals, correct = statistics[..., 2 : 2 + _MAX_ORDER], statistics[..., 2 + _MAX_ORDER :]
    products = np.cumprod((correct + _TINY) / (totals + _SMALL), axis=-1)
    ratio = (length + _TINY) / (reference_length + _SMALL)
    penalty = np.exp(np.minimum(1 - 1 / ratio, 0.0))
    return {
        f"Bleu_{order}": np.asarray(products[..., order - 1] ** (1 / order) * penalty)
        for order in range(1, _MAX_ORDER + 1)
    }


def _num_correct(ngrams: Ngrams, num_segments: int) -> Float[np.ndarray, "N"]:
    """Matches in each segment; an n-gram counts as often as the reference that has it most."""
    shared = ngrams.count_in_hypothesis > 0
    keys = ngrams.segment_of_entry[shared] * max(ngrams.num_grams, 1) + ngrams.reference_gram[shared]
    matches = np.minimum(ngrams.reference_count, ngrams.count_in_hypothesis)[shared]
    pairs, pair = np.unique(keys, return_inverse=True)
    most = np.zeros(len(pairs))
    np.maximum.at(most, pair, matches)
    sums = np.bincount(pairs // max(ngrams.num_grams, 1), weights=most, minlength=num_segments)
    return sums.astype(np.float64)  # numpy gives integers where there is nothing to add


def _closest_reference_lengths(segments: Segments) -> Float[np.ndarray, "N"]:
    """The length of the reference whose length is nearest the hypothesis's; of two as near, the shorter."""
    lengths = segments.reference_lengths
    distances = np.abs(lengths - segments.hypothesis_lengths[segments.segment_of_reference])
    radix = int(lengths.max()) + 1
    nearest = np.minimum.reduceat(distances * radix + lengths, segments.first_reference)
    return (nearest % radix).astype(np.float64)
