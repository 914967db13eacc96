"""CIDEr-D as pycocoevalcap's `Cider` computes it: the number that papers call CIDEr (times 100).

Vedantam et al. 2015, https://arxiv.org/abs/1411.5726, section 5 (CIDEr-D), without stemming. With h and r the counts of
an n-gram in hypothesis and reference and w = log N - log max(1, df) its weight, each n = 1 ... 4 gives

    similarity = sum min(h, r) r w^2 / (|h w| |r w|) * exp(-(difference of lengths)^2 / (2 sigma^2)),

and an image 10 times the mean over its references and the n. As in pycocoevalcap, df is the number of evaluated images
whose references hold the n-gram, a repeated reference counts twice, and N = 1 gives 0. Because w is never negative,
clipping min(h w, r w) is min(h, r) w. All counts are therefore made once; other document frequencies only change the
weights that they are multiplied with. The three sums over n-grams are added up block by block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from polyglance.evaluate.metrics.document_frequency import DocumentFrequency
from polyglance.evaluate.metrics.metric import MeanMetric, MetricInput, Statistics, check_segments
from polyglance.evaluate.metrics.ngrams import NgramCounts, SegmentWords

__all__ = ["Cider", "CiderStatistics"]

_MAX_ORDER = 4
_SIGMA = 6.0


@dataclass(frozen=True, kw_only=True)
class _BlockCounts:
    """Counts of a block of n-grams of one length; they do not depend on document frequencies."""

    ngrams: NgramCounts
    overlap: Float[np.ndarray, "E"]
    """min(h, r) r of each entry of references."""

    @classmethod
    def from_ngrams(cls, ngrams: NgramCounts) -> "_BlockCounts":
        """Compute the products of counts."""
        clipped = np.minimum(ngrams.count_in_hypothesis, ngrams.reference_count)
        return cls(ngrams=ngrams, overlap=clipped * ngrams.reference_count)


class _Sums:
    """The sums over n-grams of each length: in N hypotheses and R references."""

    def __init__(self, num_segments: int, num_references: int) -> None:
        self._hypotheses = np.zeros((_MAX_ORDER, num_segments))
        self._references = np.zeros((_MAX_ORDER, num_references))
        self._overlap = np.zeros((_MAX_ORDER, num_references))

    def add(self, counts: _BlockCounts, squared_weights: Float[np.ndarray, "grams"]) -> None:
        """Add the n-grams of a block: h^2 w^2, r^2 w^2 and min(h, r) r w^2."""
        ngrams, order = counts.ngrams, counts.ngrams.order - 1
        # add.at adds one entry after the other, so that the number of blocks does not change a digit.
        weights = squared_weights[ngrams.hypothesis_gram]
        np.add.at(self._hypotheses[order], ngrams.hypothesis, ngrams.hypothesis_count**2 * weights)
        weights = squared_weights[ngrams.reference_gram]
        np.add.at(self._references[order], ngrams.reference, ngrams.reference_count**2 * weights)
        shared = np.flatnonzero(counts.overlap)
        np.add.at(self._overlap[order], ngrams.reference[shared], counts.overlap[shared] * weights[shared])

    def similarity(self, segment_of_reference: Int[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
        """Compute the clipped cosines of each reference with its hypothesis, summed over n; no length penalty."""
        similarity = np.zeros(len(segment_of_reference))
        for hypotheses, references, overlap in zip(self._hypotheses, self._references, self._overlap, strict=True):
            norms = hypotheses[segment_of_reference] * references
            similarity += np.divide(overlap, np.sqrt(norms), out=np.zeros_like(norms), where=norms > 0)
        return similarity


@dataclass(frozen=True, kw_only=True)
class CiderStatistics(Statistics):
    """CIDEr of each image, and the counts that other document frequencies need."""

    counts: tuple[_BlockCounts, ...]
    """Counts of each block of n-grams."""
    presence: tuple[csr_array, ...]
    """For each block, [N, grams]: 1 where a reference of the image holds the n-gram."""
    segment_of_reference: Int[np.ndarray, "R"]
    penalty: Float[np.ndarray, "R"]
    """exp(-(difference of lengths)^2 / (2 sigma^2))"""


@dataclass(frozen=True, kw_only=True)
class Cider(MeanMetric):
    """CIDEr: score `CIDEr`, 0 to 10 (a text equal to its only reference has 10); papers report it times 100."""

    name: ClassVar[str] = "cider"
    reads: ClassVar[MetricInput] = "tokens"
    scale: ClassVar[float] = 10.0
    score_names: ClassVar[tuple[str, ...]] = ("CIDEr",)

    df: str | DocumentFrequency = "references"
    """Document frequencies: `references`, from the evaluated references, as pycocoevalcap; or a table from others."""
    df_resampled: bool = False
    """Count document frequencies again in each bootstrap draw (slower, needs the texts), instead of keeping those of
    all images as if they were exact. Intervals lie higher then: a draw holds fewer different images, and CIDEr of fewer
    images is higher."""

    def __post_init__(self) -> None:
        if isinstance(self.df, str) and self.df != "references":
            raise ValueError(f"cider: df is {self.df!r}; expected 'references' or a DocumentFrequency")
        if self.df_resampled and self.df != "references":
            raise ValueError("cider: df_resampled and a document-frequency table exclude each other")

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Compute CIDEr of each image, one column; with `df_resampled` a `CiderStatistics`."""
        check_segments(hypotheses, references)
        words = SegmentWords.from_texts(hypotheses, references)
        penalty = _length_penalty(words)
        sums = _Sums(words.num_segments, len(penalty))
        kept: list[tuple[_BlockCounts, csr_array]] = []
        for ngrams in words.count_ngrams(_MAX_ORDER):
            counts = _BlockCounts.from_ngrams(ngrams)
            sums.add(counts, self._squared_weights(words, ngrams))
            if self.df_resampled:
                kept.append((counts, _presence(ngrams, words)))
        similarity = sums.similarity(words.segment_of_reference)
        values = _mean_per_image(penalty * similarity, words.segment_of_reference)[:, None]
        if not self.df_resampled:
            return Statistics(values=values, names=self.score_names)
        return CiderStatistics(
            values=values,
            names=self.score_names,
            counts=tuple(counts for counts, _ in kept),
            presence=tuple(presence for _, presence in kept),
            segment_of_reference=words.segment_of_reference,
            penalty=penalty,
        )

    def draw_scores(
        self, statistics: Statistics, weights: Float[np.ndarray, "draws N"]
    ) -> dict[str, Float[np.ndarray, "draws"]]:
        """Compute CIDEr of bootstrap draws; `weights` hold how often each image was drawn.

        Raises:
            ValueError: `df_resampled`, but the statistics came from a file and hold no counts.
        """
        if not self.df_resampled:
            return self.scores(weights @ statistics.values, len(statistics.values))
        if not isinstance(statistics, CiderStatistics):
            raise ValueError("cider: df_resampled needs the texts again; saved statistics hold no n-gram counts")
        return {"CIDEr": np.array([_draw_score(statistics, drawn) for drawn in weights])}

    def signature(self) -> Mapping[str, str]:
        """Return variant, n-gram lengths, sigma and where document frequencies come from."""
        table = self.df
        df = table if isinstance(table, str) else f"{table.name}/{table.num_images}/{table.fingerprint}"
        fixed = {"variant": "D", "n": str(_MAX_ORDER), "sigma": f"{_SIGMA:g}", "stem": "no", "df": df}
        return {**fixed, "df_resampled": "yes" if self.df_resampled else "no"}

    def _squared_weights(self, words: SegmentWords, ngrams: NgramCounts) -> Float[np.ndarray, "grams"]:
        if isinstance(self.df, DocumentFrequency):
            return _squared_weight(self.df.look_up(words, ngrams), self.df.num_images)
        return _squared_weight(ngrams.document_frequency(), words.num_segments)


def _squared_weight(df: Int[np.ndarray, "grams"], num_images: int) -> Float[np.ndarray, "grams"]:
    """Compute (log N - log max(1, df))^2."""
    return (np.log(float(num_images)) - np.log(np.maximum(1.0, df))) ** 2


def _presence(ngrams: NgramCounts, words: SegmentWords) -> csr_array:
    images, grams = ngrams.in_references()
    row_starts = np.searchsorted(images, np.arange(words.num_segments + 1))
    return csr_array((np.ones(len(images)), grams, row_starts), shape=(words.num_segments, ngrams.num_grams))


def _length_penalty(words: SegmentWords) -> Float[np.ndarray, "R"]:
    # pycocoevalcap takes the number of bigrams as the length: the same difference, unless a text is empty (length 0).
    delta = words.hypothesis_lengths[words.segment_of_reference] - words.reference_lengths
    return np.exp(-(delta**2) / (2 * _SIGMA**2))


def _mean_per_image(
    similarity: Float[np.ndarray, "R"], segment_of_reference: Int[np.ndarray, "R"]
) -> Float[np.ndarray, "N"]:
    """Compute ten times the mean over references and n, of similarities summed over n."""
    sums = np.bincount(segment_of_reference, weights=similarity)
    return 10.0 / _MAX_ORDER * sums / np.bincount(segment_of_reference)


def _draw_score(statistics: CiderStatistics, drawn: Float[np.ndarray, "N"]) -> float:
    """Compute CIDEr of a draw. An image that was drawn twice counts as two images, also in document frequencies."""
    squared_weight_of_df = _squared_weight(np.arange(len(drawn) + 1), len(drawn))
    sums = _Sums(len(drawn), len(statistics.penalty))
    for counts, presence in zip(statistics.counts, statistics.presence, strict=True):
        sums.add(counts, squared_weight_of_df[(drawn @ presence).astype(np.int64)])
    similarity = sums.similarity(statistics.segment_of_reference)
    per_image = _mean_per_image(statistics.penalty * similarity, statistics.segment_of_reference)
    return float(drawn @ per_image / len(drawn))
