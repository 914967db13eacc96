"""CIDEr-D as pycocoevalcap's `Cider` computes it: the number that papers call CIDEr (times 100).

Vedantam et al. 2015, https://arxiv.org/abs/1411.5726, section 5 (CIDEr-D), without stemming. With h and r the counts of
an n-gram in hypothesis and reference and w = log N - log max(1, df) its weight, each n = 1 ... 4 gives

    similarity = sum min(h, r) r w^2 / (|h w| |r w|) * exp(-(difference of lengths)^2 / (2 sigma^2)),

and an image 10 times the mean over its references and the n. As in pycocoevalcap, df is the number of evaluated images
whose references hold the n-gram, a repeated reference counts twice, and N = 1 gives 0. Because w is never negative,
clipping min(h w, r w) is min(h, r) w: all counts are sparse matrices that are made once, and other document frequencies
are matrix-vector products.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from polyglance.evaluate.metrics.document_frequency import DocumentFrequency
from polyglance.evaluate.metrics.metric import MetricInput, Statistics, check_segments
from polyglance.evaluate.metrics.ngrams import Ngrams, Segments

__all__ = ["Cider", "CiderStatistics"]

_MAX_ORDER = 4
_SIGMA = 6.0


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """The n-grams of one length in N images with R references, as far as they do not depend on document frequency."""

    hypotheses: csr_array
    """[N, grams] h^2."""
    references: csr_array
    """[R, grams] r^2."""
    overlap: csr_array
    """[R, grams] min(h, r) r."""

    def similarity(
        self, squared_weights: Float[np.ndarray, "grams"], segment_of_reference: Int[np.ndarray, "R"]
    ) -> Float[np.ndarray, "R"]:
        """Cosine of each reference with its hypothesis, clipped, without the length penalty."""
        norms = (self.hypotheses @ squared_weights)[segment_of_reference] * (self.references @ squared_weights)
        products = self.overlap @ squared_weights
        return np.divide(products, np.sqrt(norms), out=np.zeros_like(norms), where=norms > 0)


@dataclass(frozen=True, kw_only=True)
class CiderStatistics(Statistics):
    """CIDEr of each image, and all that other document frequencies need."""

    counts: tuple[_Counts, ...]
    """One for each n."""
    presence: tuple[csr_array, ...]
    """For each n, [N, grams]: 1 where a reference of the image holds the n-gram."""
    segment_of_reference: Int[np.ndarray, "R"]
    penalty: Float[np.ndarray, "R"]
    """exp(-(difference of lengths)^2 / (2 sigma^2))"""


@dataclass(frozen=True, kw_only=True)
class Cider:
    """CIDEr: score `CIDEr`, 0 to 10 (a text equal to its only reference has 10); papers report it times 100."""

    name: ClassVar[str] = "cider"
    reads: ClassVar[MetricInput] = "tokens"
    scale: ClassVar[float] = 10.0

    df: str | DocumentFrequency = "references"
    """Document frequencies: `references`, of the evaluated ones, as pycocoevalcap; or a table made from others."""
    df_resampled: bool = False
    """Whether a bootstrap draw counts document frequencies in the drawn images (slower, needs the texts), or keeps
    those of all images, as if they were known. Counted anew, intervals lie higher: a draw holds fewer different images,
    and CIDEr of fewer images is higher."""

    def __post_init__(self) -> None:
        if isinstance(self.df, str) and self.df != "references":
            raise ValueError(f"cider: df is {self.df!r}; 'references' or a DocumentFrequency is right")
        if self.df_resampled and self.df != "references":
            raise ValueError("cider: df_resampled and a document-frequency table exclude each other")

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """CIDEr of each image, one column; with `df_resampled` a `CiderStatistics`."""
        check_segments(hypotheses, references)
        segments = Segments.of(hypotheses, references)
        penalty = _length_penalty(segments)
        similarity = np.zeros(len(penalty))
        kept: list[tuple[_Counts, csr_array]] = []
        for ngrams in segments.ngrams(_MAX_ORDER):
            counts = _counts(ngrams, segments)
            weights = self._squared_weights(segments, ngrams)
            similarity += counts.similarity(weights, segments.segment_of_reference)
            if self.df_resampled:
                kept.append((counts, _presence(ngrams, segments)))
        values = _mean_per_image(penalty * similarity, segments.segment_of_reference)[:, None]
        if not self.df_resampled:
            return Statistics(values=values, names=("CIDEr",))
        return CiderStatistics(
            values=values,
            names=("CIDEr",),
            counts=tuple(counts for counts, _ in kept),
            presence=tuple(presence for _, presence in kept),
            segment_of_reference=segments.segment_of_reference,
            penalty=penalty,
        )

    def scores(
        self, statistics: Float[np.ndarray, "*draws K"], num_segments: int
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """The mean over images."""
        return {"CIDEr": np.asarray(statistics[..., 0] / num_segments)}

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        """CIDEr of each image."""
        return {"CIDEr": statistics[:, 0]}

    def draw_scores(
        self, statistics: Statistics, weights: Float[np.ndarray, "draws N"]
    ) -> dict[str, Float[np.ndarray, "draws"]]:
        """CIDEr of bootstrap draws; `weights` say how often each image was drawn.

        Raises:
            ValueError: `df_resampled`, but the statistics came from a file and hold no counts.
        """
        if not self.df_resampled:
            return self.scores(weights @ statistics.values, len(statistics.values))
        if not isinstance(statistics, CiderStatistics):
            raise ValueError("cider: df_resampled needs the texts again; saved statistics hold no n-gram counts")
        return {"CIDEr": np.array([_drawn_score(statistics, drawn) for drawn in weights])}

    def signature(self) -> Mapping[str, str]:
        """Variant, n-gram lengths, sigma and where document frequencies come from."""
        table = self.df
        df = table if isinstance(table, str) else f"{table.name}/{table.num_images}/{table.fingerprint}"
        fixed = {"variant": "D", "n": str(_MAX_ORDER), "sigma": f"{_SIGMA:g}", "stem": "no", "df": df}
        return {**fixed, "df_resampled": "yes" if self.df_resampled else "no"}

    def _squared_weights(self, segments: Segments, ngrams: Ngrams) -> Float[np.ndarray, "grams"]:
        if isinstance(self.df, DocumentFrequency):
            return _squared_weight(self.df.lookup(segments, ngrams), self.df.num_images)
        return _squared_weight(ngrams.document_frequency(), segments.num_segments)


def _squared_weight(df: Int[np.ndarray, "grams"], num_images: int) -> Float[np.ndarray, "grams"]:
    """(log N - log max(1, df))^2"""
    return (np.log(float(num_images)) - np.log(np.maximum(1.0, df))) ** 2


def _counts(ngrams: Ngrams, segments: Segments) -> _Counts:
    num_references, shared = len(segments.segment_of_reference), ngrams.count_in_hypothesis > 0
    clipped = np.minimum(ngrams.count_in_hypothesis, ngrams.reference_count) * ngrams.reference_count
    shape = (num_references, ngrams.num_grams)
    return _Counts(
        hypotheses=_matrix(
            ngrams.hypothesis,
            ngrams.hypothesis_gram,
            ngrams.hypothesis_count**2,
            shape=(segments.num_segments, ngrams.num_grams),
        ),
        references=_matrix(ngrams.reference, ngrams.reference_gram, ngrams.reference_count**2, shape=shape),
        overlap=_matrix(ngrams.reference[shared], ngrams.reference_gram[shared], clipped[shared], shape=shape),
    )


def _presence(ngrams: Ngrams, segments: Segments) -> csr_array:
    images, grams = ngrams.in_references()
    return _matrix(images, grams, np.ones(len(images)), shape=(segments.num_segments, ngrams.num_grams))


def _matrix(
    rows: Int[np.ndarray, "E"], columns: Int[np.ndarray, "E"], values: Float[np.ndarray, "E"], *, shape: tuple[int, int]
) -> csr_array:
    """A sparse matrix of entries sorted by row."""
    row_starts = np.searchsorted(rows, np.arange(shape[0] + 1))
    return csr_array((values, columns, row_starts), shape=shape)


def _length_penalty(segments: Segments) -> Float[np.ndarray, "R"]:
    # pycocoevalcap takes the number of bigrams as the length: the same difference, unless a text is empty and so 0.
    delta = segments.hypothesis_lengths[segments.segment_of_reference] - segments.reference_lengths
    return np.exp(-(delta**2) / (2 * _SIGMA**2))


def _mean_per_image(
    similarity: Float[np.ndarray, "R"], segment_of_reference: Int[np.ndarray, "R"]
) -> Float[np.ndarray, "N"]:
    """Ten times the mean over references and n, of similarities summed over n."""
    sums = np.bincount(segment_of_reference, weights=similarity)
    return 10.0 / _MAX_ORDER * sums / np.bincount(segment_of_reference)


def _drawn_score(statistics: CiderStatistics, drawn: Float[np.ndarray, "N"]) -> float:
    """CIDEr of a draw in which an image that was drawn twice is two images, in document frequencies as well."""
    squared_weight_of_df = _squared_weight(np.arange(len(drawn) + 1), len(drawn))
    similarity = np.zeros(len(statistics.penalty))
    for counts, presence in zip(statistics.counts, statistics.presence, strict=True):
        df = (drawn @ presence).astype(np.int64)
        similarity += counts.similarity(squared_weight_of_df[df], statistics.segment_of_reference)
    per_image = _mean_per_image(statistics.penalty * similarity, statistics.segment_of_reference)
    return float(drawn @ per_image / len(drawn))
