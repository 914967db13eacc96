"""Measures against hubs: sentences that are near to every image and would be matched to hundreds of them.

Rescaling lowers the scores of sentences that are near to many images: CSLS (Conneau et al., "Word translation without
parallel data", 2018, section 2.3) or the inverted softmax (Smith et al., "Offline bilingual word vectors, orthogonal
transformations and the inverted softmax", 2017, section 2.3). A cap limits how often a sentence is used, for the images
that it fits best. Both can be combined.
"""

from array import array

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.special import logsumexp

from polyglance.data.align.config import HubConfig
from polyglance.data.align.embeddings import Embeddings

__all__ = ["choose_within_caps", "rescale"]

_BLOCK_SENTENCES = 4096
_BLOCK_PAIRS = 2**16
_PURPOSE = 72
"""Number of this module's random stream."""


def rescale(
    image_index: Int64[np.ndarray, "p"], sentence_id: Int64[np.ndarray, "p"], score: Float32[np.ndarray, "p"],
    images: Embeddings, sentences: Embeddings, config: HubConfig, seed: int,
) -> Float32[np.ndarray, "p"]:  # fmt: skip
    """Rescale scores so that they can be compared between sentences, by `config.rescaling`; larger is better.

    CSLS: 2 cos - r(image) - r(sentence), where r is the mean similarity to the nearest of the other side: for an image
    its best pairs here, for a sentence the nearest reference images. Inverted softmax: cos minus the log-mean-exp of
    the sentence's similarities to the reference images over the temperature, which orders as the published ratio does.
    """
    if config.rescaling == "none" or not len(score):
        return score
    distinct, at = np.unique(sentence_id, return_inverse=True)
    nearness = _nearness(distinct, images, sentences, config, seed)[at]
    if config.rescaling == "inverted_softmax":
        return score - nearness
    return 2 * score - _mean_of_best(image_index, score, config.num_neighbours) - nearness


def _nearness(
    sentence_id: Int64[np.ndarray, "s"], images: Embeddings, sentences: Embeddings, config: HubConfig, seed: int
) -> Float32[np.ndarray, "s"]:
    """Return the nearness of each sentence to images in general, in units of cosine."""
    rng = np.random.default_rng([seed, 0, _PURPOSE])
    num_references = min(config.num_reference_images, len(images))
    references = images.take(np.sort(rng.choice(len(images), num_references, replace=False))).astype(np.float32)
    nearness = np.empty(len(sentence_id), dtype=np.float32)
    for start in range(0, len(sentence_id), _BLOCK_SENTENCES):
        block = slice(start, start + _BLOCK_SENTENCES)
        similarities = sentences.take(sentence_id[block]).astype(np.float32) @ references.T
        if config.rescaling == "csls":
            k = min(config.num_neighbours, num_references)
            nearness[block] = np.partition(similarities, -k, axis=1)[:, -k:].mean(axis=1)
        else:
            scaled = logsumexp(config.inverse_temperature * similarities, axis=1) - np.log(num_references)
            nearness[block] = scaled / config.inverse_temperature
    return nearness


def _mean_of_best(
    image_index: Int64[np.ndarray, "p"], score: Float32[np.ndarray, "p"], num_best: int
) -> Float32[np.ndarray, "p"]:
    """Return the mean score of the best pairs of each pair's image."""
    order = np.lexsort((-score, image_index))
    _, first, at, counts = np.unique(image_index[order], return_index=True, return_inverse=True, return_counts=True)
    is_best = np.arange(len(order)) - first[at] < num_best
    sums = np.bincount(at[is_best], weights=score[order][is_best])
    means = np.empty(len(order), dtype=np.float32)
    means[order] = (sums / np.minimum(counts, num_best))[at]
    return means


def choose_within_caps(
    image_index: Int64[np.ndarray, "p"], sentence_id: Int64[np.ndarray, "p"], score: Float32[np.ndarray, "p"],
    *, max_per_image: int, max_per_sentence: int | None,
) -> Int64[np.ndarray, "q"]:  # fmt: skip
    """Choose pairs: the best first (equal ones by image, then sentence), each unless a cap is reached.

    No pair that is left out could be added, and no chosen pair blocks one with a better score.

    Returns:
        Numbers of the chosen pairs, by image and best first.
    """
    if max_per_sentence is None:
        order = np.lexsort((sentence_id, -score, image_index))
        _, first, counts = np.unique(image_index[order], return_index=True, return_counts=True)
        return order[np.arange(len(order)) - np.repeat(first, counts) < max_per_image]
    order = np.lexsort((sentence_id, image_index, -score))
    chosen = order[_greedy(image_index[order], sentence_id[order], max_per_image, max_per_sentence)]
    return chosen[np.argsort(image_index[chosen], kind="stable")]


def _greedy(
    image_index: Int64[np.ndarray, "p"], sentence_id: Int64[np.ndarray, "p"], max_per_image: int, max_per_sentence: int
) -> Bool[np.ndarray, "p"]:
    """Take pairs in this order until their image or sentence has reached its cap; return True for each pair taken."""
    num_images, images = _numbered(image_index)
    num_sentences, sentences = _numbered(sentence_id)
    on_image, on_sentence = array("I", bytes(4 * num_images)), array("I", bytes(4 * num_sentences))
    taken = bytearray(len(image_index))
    for start in range(0, len(images), _BLOCK_PAIRS):  # lists are fast to iterate, but eight times as large
        block = slice(start, start + _BLOCK_PAIRS)
        pairs = zip(images[block].tolist(), sentences[block].tolist(), strict=True)
        for pair, (image, sentence) in enumerate(pairs, start):
            if on_image[image] < max_per_image and on_sentence[sentence] < max_per_sentence:
                on_image[image] += 1
                on_sentence[sentence] += 1
                taken[pair] = 1
    return np.frombuffer(taken, dtype=np.bool_)


def _numbered(values: Int64[np.ndarray, "p"]) -> tuple[int, Int64[np.ndarray, "p"]]:
    """Return the number of distinct values, and the number of each value among them."""
    distinct, numbers = np.unique(values, return_inverse=True)
    return len(distinct), numbers
