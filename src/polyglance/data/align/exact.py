"""Nearest sentences of every image by comparing all with all, in blocks.

The result does not depend on the blocks and equals that of brute force in float64. Matrix products in float32, whose
last digits depend on the blocks, only choose candidates, a few more than asked for. These are scored again in float64
and sorted, equal scores by sentence number. (The result would differ only if more than `_NUM_SPARE` sentences lay
within rounding, about 1e-6, of the last place.)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from polyglance.data.align.embeddings import Embeddings

__all__ = ["Neighbours", "rescore", "search_exact"]

_BLOCK_SENTENCES = 4096
_BLOCK_IMAGES = 512
"""Scores of 512 x 4096 are 8 MB: products run at full speed, and the next pass still finds them in the cache."""
_NUM_SPARE = 16
_RESCORE_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The best sentences of every image, best first, equal scores by sentence number."""

    ids: Int64[np.ndarray, "images n"]
    """Sentence numbers; -1 if an approximate search found fewer."""
    scores: Float32[np.ndarray, "images n"]
    """Cosine similarities; minus infinity for a missing sentence."""


def search_exact(images: Embeddings, sentences: Embeddings, num_neighbours: int) -> Neighbours:
    """Find the nearest sentences of every image.

    Memory holds all image embeddings (float32) and one block of sentences. The time is that of the matrix product plus
    about a quarter.

    Args:
        num_neighbours: sentences per image; fewer if there are fewer sentences.
    """
    queries = images.all()
    num_kept = min(num_neighbours + _NUM_SPARE, len(sentences))
    scores = np.full((len(queries), num_kept), -np.inf, dtype=np.float32)
    ids = np.full((len(queries), num_kept), np.iinfo(np.int64).max)
    products = np.empty((_BLOCK_IMAGES, _BLOCK_SENTENCES), dtype=np.float32)
    for first_id, block in sentences.blocks(_BLOCK_SENTENCES):
        for start in range(0, len(queries), _BLOCK_IMAGES):
            rows = slice(start, start + _BLOCK_IMAGES)
            # A contiguous view of any shape: `_merge` flattens it without a copy.
            out = products.ravel()[: len(queries[rows]) * len(block)].reshape(-1, len(block))
            np.matmul(queries[rows], block.T, out=out)
            _merge(scores[rows], ids[rows], out, first_id)
    return rescore(images, sentences, ids, min(num_neighbours, num_kept))


def _merge(
    best_scores: Float32[np.ndarray, "b n"], best_ids: Int64[np.ndarray, "b n"],
    scores: Float32[np.ndarray, "b s"], first_id: int,
) -> None:  # fmt: skip
    """Merge the best of a block into the best so far (in place), which are sorted and have smaller ids.

    Few scores of a block are better than the worst that is kept, so only those are sorted. A score equal to the worst
    belongs to a larger id and is not taken.
    """
    num_kept = best_scores.shape[1]
    is_better = scores > best_scores[:, -1:]
    better = np.flatnonzero(is_better)
    if not len(better):
        return
    counts = np.bincount(better // scores.shape[1], minlength=len(scores))
    crowded = np.flatnonzero(counts > num_kept)
    if len(crowded):
        is_better[crowded] = _is_among_best(scores[crowded], num_kept)
        counts[crowded] = num_kept
        better = np.flatnonzero(is_better)
    touched = np.flatnonzero(counts)
    counts = counts[touched]
    rows = np.repeat(np.arange(len(touched)), counts)
    slots = num_kept + np.arange(len(better)) - np.repeat(np.cumsum(counts) - counts, counts)
    joined_scores = np.full((len(touched), num_kept + counts.max()), -np.inf, dtype=np.float32)
    joined_ids = np.full(joined_scores.shape, np.iinfo(np.int64).max)
    joined_scores[:, :num_kept], joined_ids[:, :num_kept] = best_scores[touched], best_ids[touched]
    joined_scores[rows, slots] = scores.ravel()[better]
    joined_ids[rows, slots] = first_id + better % scores.shape[1]
    order = np.argsort(-joined_scores, axis=1, kind="stable")[:, :num_kept]  # stable: equal scores stay in order of ids
    best_scores[touched] = np.take_along_axis(joined_scores, order, axis=1)
    best_ids[touched] = np.take_along_axis(joined_ids, order, axis=1)


def _is_among_best(scores: Float32[np.ndarray, "b s"], num_best: int) -> Bool[np.ndarray, "b s"]:
    """Return True for exactly the `num_best` best of each row; of equal scores, for those that come first."""
    last = np.partition(scores, -num_best, axis=1)[:, -num_best, None]
    is_best = scores > last
    is_last = scores == last
    num_missing = num_best - np.count_nonzero(is_best, axis=1)
    return is_best | (is_last & (np.cumsum(is_last, axis=1) <= num_missing[:, None]))


def rescore(
    images: Embeddings, sentences: Embeddings, candidates: Int64[np.ndarray, "images m"], num_best: int
) -> Neighbours:
    """Score every image's candidates in float64 and return the best; a negative candidate means none."""
    ids = np.empty((len(candidates), num_best), dtype=np.int64)
    scores = np.empty((len(candidates), num_best), dtype=np.float32)
    chunk = max(1, _RESCORE_BYTES // (8 * sentences.dim * candidates.shape[1]))
    for start in range(0, len(candidates), chunk):
        rows = slice(start, start + chunk)
        wanted = candidates[rows]
        queries = images.take(np.arange(start, start + len(wanted)))
        vectors = sentences.take(np.maximum(wanted, 0).ravel()).reshape(*wanted.shape, -1)
        products = np.einsum("bd,bmd->bm", queries, vectors).astype(np.float32)
        products[wanted < 0] = -np.inf
        order = np.lexsort((wanted, -products), axis=1)[:, :num_best]
        ids[rows] = np.take_along_axis(wanted, order, axis=1)
        scores[rows] = np.take_along_axis(products, order, axis=1)
    return Neighbours(ids=ids, scores=scores)
