"""Which sentences fit which images: search, hub control, threshold."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from polyglance.data.align.approximate import FaissConfig, build_index, search_index
from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.exact import search_exact
from polyglance.data.align.hubs import HubConfig, best_within_caps, rescale
from polyglance.data.align.recall import Measured, tune

__all__ = ["AlignConfig", "AlignResult", "ThresholdRow", "align", "search", "select", "threshold_curve", "tune_search"]

_CANDIDATES_PER_PLACE = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """How images get their sentences.

    Raises:
        ValueError: a value outside its range.
    """

    top_n: int = 10
    """Sentences an image gets at most."""
    min_score: float | None = None
    """Least cosine similarity of a pair; none if None."""
    method: Literal["exact", "faiss"] = "exact"
    """`exact` compares all with all: right up to some millions of sentences. `faiss` needs the extra `search`."""
    faiss: FaissConfig = field(default_factory=FaissConfig)
    hubs: HubConfig = field(default_factory=HubConfig)
    num_candidates: int | None = None
    """Sentences per image that hub control chooses from; 4 times `top_n` if None."""
    num_recall_images: int = 200
    """Images, drawn at random, on which an approximate search is compared with the exact one, and as many others on
    which it is tuned (`faiss.recall`); 0 for neither."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.top_n < 1 or self.num_recall_images < 0:
            raise ValueError("top_n must be at least 1 and num_recall_images at least 0")
        if self.num_candidates is not None and self.num_candidates < self.top_n:
            raise ValueError(f"num_candidates is {self.num_candidates}; it must be at least top_n, {self.top_n}")

    @property
    def num_searched(self) -> int:
        """Sentences per image that are searched for."""
        return self.num_candidates or (_CANDIDATES_PER_PLACE * self.top_n if self.hubs.is_on else self.top_n)


@dataclass(frozen=True, kw_only=True)
class AlignResult:
    """Pairs of images and sentences, by image and best first."""

    num_images: int
    """Images that were aligned, with and without a sentence."""
    image_index: Int64[np.ndarray, "pairs"]
    sentence_id: Int64[np.ndarray, "pairs"]
    score: Float32[np.ndarray, "pairs"]
    """Cosine similarities."""
    recall: float | None = None
    """Share of the exact search's pairs that an approximate one found, on a sample of images; None if not measured."""

    @staticmethod
    def concatenate(results: Sequence["AlignResult"]) -> "AlignResult":
        """Results of image parts as one, images numbered on. The recall is the mean, by number of images."""
        starts = np.cumsum([0, *(result.num_images for result in results)])
        measured = [result for result in results if result.recall is not None]
        num_measured = sum(result.num_images for result in measured)
        return AlignResult(
            num_images=int(starts[-1]),
            image_index=np.concatenate([r.image_index + start for r, start in zip(results, starts, strict=False)]),
            sentence_id=np.concatenate([result.sentence_id for result in results]),
            score=np.concatenate([result.score for result in results]),
            recall=sum((r.recall or 0.0) * r.num_images for r in measured) / num_measured if measured else None,
        )


def align(images: Embeddings, sentences: Embeddings, config: AlignConfig, index: Path | None = None) -> AlignResult:
    """The sentences of every image: `search`, then `select`. For images in several parts call those one by one.

    Args:
        index: folder of the index, for `faiss`; written where it is not there.
    """
    return select(search(images, sentences, config, index), images, sentences, config)


def search(images: Embeddings, sentences: Embeddings, config: AlignConfig, index: Path | None = None) -> AlignResult:
    """The candidates of every image, `config.num_searched` of them: needs to know nothing of other images.

    Raises:
        ValueError: embeddings of different widths, or of no thing at all; see `build_index` for `faiss`.
    """
    if images.dim != sentences.dim:
        raise ValueError(f"images have embeddings of {images.dim} numbers and sentences of {sentences.dim}")
    if not len(images) or not len(sentences):
        raise ValueError(f"{len(images)} images and {len(sentences)} sentences: there must be one of each at least")
    recall = None
    if config.method == "exact":
        found = search_exact(images, sentences, config.num_searched)
    else:
        if index is None:
            raise ValueError("an approximate search needs a folder for its index")
        build_index(sentences, config.faiss, index, seed=config.seed)
        measured = tune_search(images, sentences, config, index)
        if measured.warning:
            _log.warning(measured.warning)
        found, recall = search_index(index, images, sentences, config.num_searched, measured.config), measured.recall
    image_index, place = np.nonzero(found.ids >= 0)
    return AlignResult(
        num_images=len(images),
        image_index=image_index,
        sentence_id=found.ids[image_index, place],
        score=found.scores[image_index, place],
        recall=recall,
    )


def tune_search(images: Embeddings, sentences: Embeddings, config: AlignConfig, index: Path) -> Measured:
    """How thorough the search of an index is to be, and its recall. For images in several parts call it for all of them
    together, and `search` each with the `config` that it found and `num_recall_images=0`."""
    return tune(
        index,
        images,
        sentences,
        config.num_searched,
        config.faiss,
        num_images=config.num_recall_images,
        seed=config.seed,
    )


def select(candidates: AlignResult, images: Embeddings, sentences: Embeddings, config: AlignConfig) -> AlignResult:
    """The pairs to keep, of candidates of all images: threshold, hub control, the best `top_n` of each image.

    Args:
        images: those the candidates' numbers refer to (all parts).
    """
    image_index, sentence_id, score = candidates.image_index, candidates.sentence_id, candidates.score
    kept = np.flatnonzero(score >= (config.min_score if config.min_score is not None else -np.inf))
    # Before the threshold: how near an image is to sentences in general does not depend on it.
    compared = rescale(image_index, sentence_id, score, images, sentences, config.hubs, config.seed)
    chosen = kept[
        best_within_caps(
            image_index[kept],
            sentence_id[kept],
            compared[kept],
            max_per_image=config.top_n,
            max_per_sentence=config.hubs.max_per_sentence,
        )
    ]
    return AlignResult(
        num_images=candidates.num_images,
        image_index=image_index[chosen],
        sentence_id=sentence_id[chosen],
        score=score[chosen],
        recall=candidates.recall,
    )


@dataclass(frozen=True, kw_only=True)
class ThresholdRow:
    """What would be left at a threshold."""

    score: float
    """Pairs with at least this cosine similarity are kept."""
    share_pairs: float
    """Of all pairs."""
    share_images: float
    """Images that keep a pair, of all images."""


def threshold_curve(result: AlignResult, *, num_rows: int = 21) -> list[ThresholdRow]:
    """The table to choose `min_score` from: evenly spaced scores from lowest to highest. Empty without pairs."""
    if not len(result.score):
        return []
    pairs = np.sort(result.score)
    _, at = np.unique(result.image_index, return_inverse=True)
    best = np.full(at.max() + 1, -np.inf, dtype=np.float32)
    np.maximum.at(best, at, result.score)
    best.sort()
    thresholds = np.linspace(pairs[0], pairs[-1], num_rows, dtype=np.float32)
    return [
        ThresholdRow(
            score=float(threshold),
            share_pairs=float(1 - np.searchsorted(pairs, threshold) / len(pairs)),
            share_images=float((len(best) - np.searchsorted(best, threshold)) / result.num_images),
        )
        for threshold in thresholds
    ]
