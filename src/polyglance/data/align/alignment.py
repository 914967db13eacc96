"""Matching of sentences to images: search, then hub control and threshold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from polyglance.data.align.approximate import search_index
from polyglance.data.align.config import AlignConfig
from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.exact import search_exact
from polyglance.data.align.hubs import choose_within_caps, rescale

__all__ = ["AlignResult", "search", "select"]


@dataclass(frozen=True, kw_only=True)
class AlignResult:
    """Pairs of images and sentences, by image and best first."""

    num_images: int
    """Images that were aligned, with and without a sentence."""
    image_index: Int64[np.ndarray, "pairs"]
    sentence_id: Int64[np.ndarray, "pairs"]
    score: Float32[np.ndarray, "pairs"]
    """Cosine similarities."""

    def choose(self, chosen: Bool[np.ndarray, "pairs"] | Int64[np.ndarray, "chosen"]) -> "AlignResult":
        """Return some of the pairs, by a mask or by their places."""
        return replace(
            self,
            image_index=self.image_index[chosen],
            sentence_id=self.sentence_id[chosen],
            score=self.score[chosen],
        )

    @staticmethod
    def concatenate(results: Sequence["AlignResult"]) -> "AlignResult":
        """Join the results of several sets of images; images are numbered through all sets."""
        starts = np.cumsum([0, *(result.num_images for result in results)])
        return AlignResult(
            num_images=int(starts[-1]),
            image_index=np.concatenate([r.image_index + start for r, start in zip(results, starts, strict=False)]),
            sentence_id=np.concatenate([result.sentence_id for result in results]),
            score=np.concatenate([result.score for result in results]),
        )


def search(images: Embeddings, sentences: Embeddings, config: AlignConfig, index: Path | None = None) -> AlignResult:
    """Find the candidates of every image, `config.num_searched` of them. Images do not depend on each other.

    Args:
        config: for `faiss` with the settings that `tune_search` found, or others, which are used as they are.
        index: folder of the sentences' index by `build_index`, for `faiss`.

    Raises:
        ValueError: embeddings of different widths, no image, no sentence, or no FAISS.
    """
    if images.dim != sentences.dim:
        raise ValueError(f"images have embeddings of {images.dim} numbers and sentences of {sentences.dim}")
    if not len(images) or not len(sentences):
        raise ValueError(f"{len(images)} images and {len(sentences)} sentences; expected at least one of each")
    if config.method == "exact":
        nearest = search_exact(images, sentences, config.num_searched)
    else:
        assert index is not None, "an approximate search needs an index"
        nearest = search_index(index, images, sentences, config.num_searched, config.faiss)
    image_index, place = np.nonzero(nearest.ids >= 0)
    return AlignResult(
        num_images=len(images),
        image_index=image_index,
        sentence_id=nearest.ids[image_index, place],
        score=nearest.scores[image_index, place],
    )


def select(candidates: AlignResult, images: Embeddings, sentences: Embeddings, config: AlignConfig) -> AlignResult:
    """Select the pairs to keep from the candidates of all images: threshold, hub control, best `top_n` of each image.

    Args:
        images: all images that the candidates' numbers refer to.
    """
    image_index, sentence_id, score = candidates.image_index, candidates.sentence_id, candidates.score
    above = np.flatnonzero(score >= (config.min_score if config.min_score is not None else -np.inf))
    # Before the threshold: the nearness of an image to sentences in general does not depend on it.
    compared = rescale(image_index, sentence_id, score, images, sentences, config.hubs, config.seed)
    chosen = above[
        choose_within_caps(
            image_index[above],
            sentence_id[above],
            compared[above],
            max_per_image=config.top_n,
            max_per_sentence=config.hubs.max_per_sentence,
        )
    ]
    return candidates.choose(chosen)
