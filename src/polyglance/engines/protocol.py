"""The three kinds of engines that a build uses. What they run on, and where, is behind these protocols."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from polyglance.records import Style

__all__ = ["Captioner", "Embedder", "Failure", "Translator"]


@dataclass(frozen=True, slots=True)
class Failure:
    """In place of a text that an engine could not make. The record is kept, counted, and can be tried again."""

    reason: str
    """In a few words, the same for the same cause, since reasons are counted: `endpoint: timed out`."""


@runtime_checkable
class Captioner(Protocol):
    """Writes English captions."""

    name: str
    """Of the model; becomes a caption's origin together with `version`."""
    version: str
    """Of its weights (a digest) or, for an endpoint, the model's name there."""

    def caption(self, images: Sequence[bytes], *, style: Style) -> list[str | Failure]:
        """A caption of each encoded image."""
        ...


@runtime_checkable
class Translator(Protocol):
    """Translates from English."""

    name: str
    version: str

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Each text in the language, the best translation the engine finds."""
        ...

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """A second candidate for each text (the next hypothesis of the beam, or a sample), for texts whose first
        translation was rejected."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Puts images and English texts into one space, in which what belongs together is near."""

    name: str
    version: str
    dim: int

    def embed_images(self, images: Sequence[bytes]) -> Float[np.ndarray, "N D"]:
        """float32, each row of unit length."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """float32, each row of unit length."""
        ...
