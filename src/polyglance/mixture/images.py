"""Pixels of the images of a data set, decoded once where they fit into memory."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from polyglance.data.images import to_rgb
from polyglance.data.shard import ShardReader

__all__ = ["ImageStore", "square_pixels"]

_CACHE_BYTES = 2 * 2**30
_CHUNK = 1024


def square_pixels(image: bytes, size: int) -> UInt8[np.ndarray, "H W 3"]:
    """An encoded image as pixels of `size` x `size`, bicubic, the aspect ratio not kept (official code section 2.5)."""
    picture = to_rgb(image)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.uint8)


class ImageStore:
    """Images of a data set by row, resized to one square size.

    Where all of them fit into memory they are decoded at the first use, and kept for all stores of this process over
    the same data; otherwise they are decoded as they are asked for.
    """

    def __init__(self, reader: ShardReader, size: int) -> None:
        self.reader = reader
        self.size = size

    def __getitem__(self, rows: Sequence[int]) -> UInt8[np.ndarray, "B H W 3"]:
        """The images of these rows, in this order."""
        if len(self.reader) * self.size**2 * 3 > _CACHE_BYTES:
            return np.stack([square_pixels(image, self.size) for image in self.reader.images(rows)])
        digests = tuple(shard.sha256 for shard in self.reader.manifest.shards)
        return _all_pixels(str(self.reader.directory), digests, self.size)[np.asarray(rows)]


@lru_cache(maxsize=2)
def _all_pixels(directory: str, digests: tuple[str, ...], size: int) -> UInt8[np.ndarray, "N H W 3"]:
    """Every image of a data set; `digests` of its shards stand for its content."""
    reader = ShardReader(directory)
    assert digests == tuple(shard.sha256 for shard in reader.manifest.shards)
    pixels = np.empty((len(reader), size, size, 3), dtype=np.uint8)
    for first in range(0, len(reader), _CHUNK):  # in the order of the file: a row group is read once
        rows = range(first, min(first + _CHUNK, len(reader)))
        for row, image in zip(rows, reader.images(rows), strict=True):
            pixels[row] = square_pixels(image, size)
    return pixels
