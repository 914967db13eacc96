"""How much of the exact search's result an approximate one finds, and how thorough it has to be to find enough."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from polyglance.data.align.approximate import FaissConfig, num_lists, search_index
from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.exact import Neighbours, search_exact

__all__ = ["Measured", "measure", "tune"]

_PURPOSE = 70
_MAX_REFINE_FACTOR = 64
_NUM_ERRORS = 2
"""Standard errors by which the share found on the tuning images has to be above the asked one, so that it is on others
too."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an approximate search finds."""

    config: FaissConfig
    """The search that was measured: as asked for, or more thorough."""
    recall: float | None
    """Share of the exact search's pairs that it found, on images that it was not tuned on; None if there are none."""
    num_images: int
    """How many those are."""
    num_lists: int
    """Lists of the index."""

    @property
    def warning(self) -> str:
        """One line where the asked recall was not reached, or at a high price; else nothing."""
        if self.recall is None or self.config.recall is None:
            return ""
        found = f"approximate search finds {self.recall:.3f} of the nearest sentences (on {self.num_images} images)"
        if self.recall < self.config.recall:
            return f"{found}, asked are {self.config.recall}: try larger code_bytes, or the exact search"
        if 2 * self.config.num_probes > self.num_lists:
            return f"{found} in {self.config.num_probes} of {self.num_lists} lists: the exact search may well be faster"
        return ""


def tune(
    index: Path,
    images: Embeddings,
    sentences: Embeddings,
    num_neighbours: int,
    config: FaissConfig,
    *,
    num_images: int,
    seed: int,
) -> Measured:
    """Raise `num_probes` and `refine_factor` until the search finds `config.recall` of the nearest sentences, and
    measure what it then finds.

    Both are doubled, always the one that gains more, up to all lists and 64 candidates per neighbour.

    Args:
        index: folder of the sentences' index.
        num_images: images, drawn at random, to tune on, and as many others to measure on; fewer where there are not so
            many.
    """
    rng = np.random.default_rng([seed, 0, _PURPOSE])
    sample = rng.choice(len(images), min(2 * num_images, len(images)), replace=False)
    if config.recall is not None:
        tuning, sample = sample[: len(sample) // 2], sample[len(sample) // 2 :]
        config = _tuned(index, _taken(images, tuning), sentences, num_neighbours, config)
    lists = num_lists(index)
    if not len(sample):
        return Measured(config=config, recall=None, num_images=0, num_lists=lists)
    others = _taken(images, sample[:num_images])
    found = search_index(index, others, sentences, num_neighbours, config)
    shares = measure(found, search_exact(others, sentences, num_neighbours))
    return Measured(config=config, recall=float(shares.mean()), num_images=len(shares), num_lists=lists)


def measure(found: Neighbours, exact: Neighbours) -> Float64[np.ndarray, "images"]:
    """Share of each image's true nearest sentences among those that were found."""
    hits = [len(np.intersect1d(*pair)) for pair in zip(exact.ids, found.ids, strict=True)]
    return np.array(hits) / exact.ids.shape[1]


def _taken(images: Embeddings, numbers: Int64[np.ndarray, "n"]) -> Embeddings:
    return Embeddings(images.take(np.sort(numbers)).astype(np.float32))


def _tuned(
    index: Path, images: Embeddings, sentences: Embeddings, num_neighbours: int, config: FaissConfig
) -> FaissConfig:
    if not len(images):
        return config
    assert config.recall is not None
    exact = search_exact(images, sentences, num_neighbours)

    def shares(candidate: FaissConfig) -> Float64[np.ndarray, "images"]:
        return measure(search_index(index, images, sentences, num_neighbours, candidate), exact)

    most_probes = num_lists(index)
    found = shares(config)
    while found.mean() - _NUM_ERRORS * found.std() / np.sqrt(len(found)) < config.recall:
        wider = []
        if config.num_probes < most_probes:
            wider.append(replace(config, num_probes=min(2 * config.num_probes, most_probes)))
        if config.refine_factor < _MAX_REFINE_FACTOR:
            wider.append(replace(config, refine_factor=2 * config.refine_factor))
        if not wider:
            break
        found, config = max(((shares(one), one) for one in wider), key=lambda pair: float(pair[0].mean()))
    return config
