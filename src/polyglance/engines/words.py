"""Texts compared by their words: an embedder that needs no checkpoint, for images that have English captions.

The vector of an image is that of its captions. So sentences match what people wrote about the image, not its pixels.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Int

from polyglance.character_ngrams import find_words
from polyglance.engines.config import EngineConfig

__all__ = ["WordEmbedder", "find_content_words"]

_DIM = 1024
_PLACES = 16
"""Number of non-zero entries of a word's vector, one in each of as many ranges (random indexing, Kanerva et al.
2000)."""
_CACHED_WORDS = 2**15
_FUNCTION_WORDS = (
    "a an the this that these those it its there here of in on at by to for from with and or as is are was were be "
    "been has have had do does he she they we you i his her their our your my him them us who which what not no some "
    "one image picture photo photograph shows show shown see seen"
)
_WITHOUT_MEANING = frozenset(_FUNCTION_WORDS.split())


def find_content_words(text: str) -> list[str]:
    """Find the words of an English text, in lower case, without those that say nothing about a picture."""
    return [word for word in find_words(text) if word not in _WITHOUT_MEANING]


class WordEmbedder:
    """Embeds English texts by their words, without those that say nothing about a picture.

    Each word has a fixed random direction, so that the cosine of two texts grows with the words that they share. Texts
    without a common word can have cosines up to about 0.15 by chance; `find_content_words` shows shared ones.
    """

    name, version = "words", "1"
    dim = _DIM

    @classmethod
    def for_recipe(cls, config: EngineConfig) -> "WordEmbedder":  # noqa: ARG003 - it has no settings
        return cls()

    def embed_images(self, images: Sequence[bytes]) -> Float[np.ndarray, "N D"]:
        """Refuse images: they are embedded by their captions.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"the engine words reads no pixels: {len(images)} images need captions, or the engine clip")

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Embed texts: float32, each row of unit length. All texts without a content word get the same one."""
        rows = np.zeros((len(texts), _DIM), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            words = Counter(find_content_words(text))
            for word, number in (words or {"": 1}).items():
                places, signs = _direction(word)
                np.add.at(row, places, signs * np.float32(number**0.5))
            if not row.any():  # words that cancel each other
                row[0] = 1
            row /= np.linalg.norm(row)
        return rows


@lru_cache(maxsize=_CACHED_WORDS)
def _direction(word: str) -> tuple[Int[np.ndarray, "places"], Float32[np.ndarray, "places"]]:
    """Return positions and signs of a word's vector, derived from the bytes of its digest."""
    digest = np.frombuffer(hashlib.blake2b(word.encode(), digest_size=_PLACES).digest(), dtype=np.uint8)
    width = _DIM // _PLACES
    places = np.arange(_PLACES) * width + digest % width
    return places, np.where(digest < 128, np.float32(1), np.float32(-1))
