"""Random numbers of batches and training, as a pure function of (seed, purpose, index)."""

from enum import IntEnum, unique

import numpy as np

__all__ = ["RandomStream"]


@unique
class RandomStream(IntEnum):
    """Purpose of random numbers. Its number is part of every seed, so that no two purposes share a sequence; another
    number would change the samples of every run."""

    STEP_ORDER = 1
    """Order of the samples within a step."""
    EPOCH_ORDER = 2
    """Order of a cell's images in an epoch, where all of them are shuffled."""
    SOURCE_MASKING = 3
    """Source words that are hidden."""
    LANGUAGE_MODEL_TEXTS = 4
    """Texts that a language model is trained on."""
    GROUP_ORDER = 6
    """Order of the row groups in an epoch, where images are shuffled within windows."""
    WINDOW_ORDER = 7
    """Order of a cell's images within a window."""
    DROPOUT = 8
    """Seeds of torch for the passes of a model."""

    def sequence(self, seed: int, *index: int) -> np.random.SeedSequence:
        """Return the seed sequence of an index."""
        return np.random.SeedSequence([seed, self, *index])

    def generator(self, seed: int, *index: int) -> np.random.Generator:
        """Return the generator of an index, at its beginning."""
        return np.random.default_rng(self.sequence(seed, *index))
