"""Recall of an approximate search against the exact one, and how thorough the search has to be for enough recall."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from polyglance.data.align.approximate import count_lists, search_index
from polyglance.data.align.config import AlignConfig, FaissConfig
from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.exact import Neighbours, search_exact

__all__ = ["TunedSearch", "tune_search"]

_PURPOSE = 70
"""Number of this module's random stream."""
_MAX_REFINE_FACTOR = 64
_NUM_ERRORS = 2
"""Standard errors by which the recall on the tuning images has to exceed the asked one: others then reach it too."""


@dataclass(frozen=True, kw_only=True)
class TunedSearch:
    """Settings of an approximate search, and its measured recall."""

    config: FaissConfig
    """The search that was measured: as asked for, or more thorough."""
    recall: float | None
    """Share of the exact search's pairs that it finds, on images that it was not tuned on; None if there are none."""
    num_images: int
    """Number of these images."""
    num_lists: int
    """Lists of the index."""

    @property
    def warning(self) -> str:
        """One line if the asked recall was not reached, or only at a high price; otherwise empty."""
        if self.recall is None or self.config.recall is None:
            return ""
        measured = f"approximate search finds {self.recall:.3f} of the nearest sentences (on {self.num_images} images)"
        if self.recall < self.config.recall:
            return f"{measured}, asked are {self.config.recall}: try larger code_bytes, or the exact search"
        if 2 * self.config.num_probes > self.num_lists:
            probes = f"{self.config.num_probes} of {self.num_lists} lists"
            return f"{measured} in {probes}: the exact search may well be faster"
        return ""


def tune_search(images: Embeddings, sentences: Embeddings, config: AlignConfig, index: Path) -> TunedSearch:
    """Raise `num_probes` and `refine_factor` until the search finds `config.faiss.recall` of the nearest sentences, and
    measure its recall then.

    One of the two is doubled at a time, the one that gains more, up to all lists and 64 candidates per neighbour. Of
    `config.num_recall_images` images, drawn at random, to tune on and as many others to measure on, there are fewer if
    there are not enough images.

    Args:
        images: all images that will be searched for.
        index: folder of the sentences' index.
    """
    rng = np.random.default_rng([config.seed, 0, _PURPOSE])
    num_images, faiss = config.num_recall_images, config.faiss
    sample = rng.choice(len(images), min(2 * num_images, len(images)), replace=False)
    if faiss.recall is not None:
        tuning, sample = sample[: len(sample) // 2], sample[len(sample) // 2 :]
        faiss = _tune(index, _take(images, tuning), sentences, config.num_searched, faiss)
    num_lists = count_lists(index)
    if not len(sample):
        return TunedSearch(config=faiss, recall=None, num_images=0, num_lists=num_lists)
    others = _take(images, sample[:num_images])
    approximate = search_index(index, others, sentences, config.num_searched, faiss)
    shares = _measure_recall(approximate, search_exact(others, sentences, config.num_searched))
    return TunedSearch(config=faiss, recall=float(shares.mean()), num_images=len(shares), num_lists=num_lists)


def _measure_recall(approximate: Neighbours, exact: Neighbours) -> Float64[np.ndarray, "images"]:
    """Return the share of each image's true nearest sentences that were found."""
    hits = [len(np.intersect1d(*pair)) for pair in zip(exact.ids, approximate.ids, strict=True)]
    return np.array(hits) / exact.ids.shape[1]


def _take(images: Embeddings, numbers: Int64[np.ndarray, "n"]) -> Embeddings:
    return Embeddings(images.take(np.sort(numbers)).astype(np.float32))


def _tune(
    index: Path, images: Embeddings, sentences: Embeddings, num_neighbours: int, config: FaissConfig
) -> FaissConfig:
    if not len(images):
        return config
    assert config.recall is not None
    exact = search_exact(images, sentences, num_neighbours)

    def recall_of(candidate: FaissConfig) -> Float64[np.ndarray, "images"]:
        return _measure_recall(search_index(index, images, sentences, num_neighbours, candidate), exact)

    max_probes = count_lists(index)
    recall = recall_of(config)
    while recall.mean() - _NUM_ERRORS * recall.std() / np.sqrt(len(recall)) < config.recall:
        wider = []
        if config.num_probes < max_probes:
            wider.append(replace(config, num_probes=min(2 * config.num_probes, max_probes)))
        if config.refine_factor < _MAX_REFINE_FACTOR:
            wider.append(replace(config, refine_factor=2 * config.refine_factor))
        if not wider:
            break
        recall, config = max(((recall_of(one), one) for one in wider), key=lambda pair: float(pair[0].mean()))
    return config
