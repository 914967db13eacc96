"""Pixels of the images of a data set, decoded once where they fit into memory."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from polyglance.data.images import to_rgb
from polyglance.data.shard import ShardReader

__all__ = ["ImageStore", "square_pixels"]


def square_pixels(image: bytes, size: int) -> UInt8[np.ndarray, "H W 3"]:
    """An encoded image as pixels of `size` x `size`, bicubic, the aspect ratio not kept (official code section 2.5)."""
    picture = to_rgb(image)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.uint8)


class ImageStore:
    """Images of a data set by row, resized to one square size.

    Args:
        reader: the data set.
        size: side of the squares, in pixels.
        cache_bytes: pixels are kept after their first use where all of them together need no more than this.
    """

    def __init__(self, reader: ShardReader, size: int, *, cache_bytes: int = 2 * 2**30) -> None:
        self.reader = reader
        self.size = size
        shape = (len(reader), size, size, 3)
        fits = int(np.prod(shape)) <= cache_bytes
        self._pixels = np.empty(shape, dtype=np.uint8) if fits else None
        self._known = np.zeros(len(reader), dtype=bool)

    def __getitem__(self, rows: Sequence[int]) -> UInt8[np.ndarray, "B H W 3"]:
        """The images of these rows, in this order."""
        if self._pixels is None:
            return np.stack([square_pixels(image, self.size) for image in self.reader.images(rows)])
        new = sorted({row for row in rows if not self._known[row]})
        for row, image in zip(new, self.reader.images(new), strict=True):
            self._pixels[row] = square_pixels(image, self.size)
            self._known[row] = True
        return self._pixels[np.asarray(rows)]
