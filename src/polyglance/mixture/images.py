"""Pixels of the images of a data set, decoded once if they fit into memory."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info
from torch.utils.dlpack import from_dlpack

from polyglance.data.shard import ShardReader
from polyglance.images import ImageError, to_reduced_rgb, to_rgb
from polyglance.mixture.config import Decode

__all__ = ["Defect", "ImageStore", "resize_to_square", "square_pixels"]


class Defect(NamedTuple):
    """Why a sample cannot be used."""

    reason: str
    """Short reason to count by."""
    detail: str
    """Longer text for a person."""


_CHUNK_ROWS = 1024
_SPARE = 2
"""A reduced decoding keeps at least this many times the requested size, so that the filter after it loses nothing
visible: Pillow's documentation calls 2 nearly, and 3 wholly, indistinguishable from full decoding."""


def square_pixels(image: bytes, size: int, decode: Decode = "exact") -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image to `size` x `size` pixels, bicubic, the aspect ratio not kept (official code section 2.5).

    Args:
        decode: `exact` is the published transform; `reduced` is faster and nearly the same (`MixtureConfig.decode`).

    Raises:
        ImageError: not an image, damaged, or too large.
    """
    if decode == "reduced":
        return _decode_reduced(image, size)
    return resize_to_square(to_rgb(image), size)


def resize_to_square(picture: Image.Image, size: int) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of an RGB picture by the published transform: bicubic, the aspect ratio not kept."""
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.uint8)


def _decode_reduced(image: bytes, size: int) -> UInt8[np.ndarray, "H W 3"]:
    picture, (width, height) = to_reduced_rgb(image, _SPARE * size)
    if picture.size == (size, size):
        return np.asarray(picture, dtype=np.uint8)
    # Scales rather than sizes, because width and height may be fractions; slightly larger, because the product is
    # rounded down.
    scales = tuple(size / side * (1 + 1e-9) for side in (height, width))
    # On bytes torch computes Pillow's filter with vector instructions, here without reordering them (channels last).
    resized = F.interpolate(_as_tensor(picture), scale_factor=scales, mode="bicubic", antialias=True)
    assert resized.shape[2:] == (size, size), (picture.size, width, height)
    return resized[0, :3].permute(1, 2, 0).numpy()


def _as_tensor(picture: Image.Image) -> UInt8[Tensor, "1 4 H W"]:
    """Return an RGB image as it is in Pillow's memory: channels last, with an unused fourth byte."""
    try:
        pixels = from_dlpack(pa.array(picture).flatten())
    except ValueError:  # a large image is in several pieces, which have to be copied together
        pixels = torch.from_numpy(np.array(picture.convert("RGBX")))
    return pixels.view(1, picture.height, picture.width, 4).permute(0, 3, 1, 2)


class ImageStore:
    """Images of a data set by row, resized to one square size.

    If all of them fit into memory they are decoded at the first use, and shared by all stores of this process over the
    same data. Otherwise they are decoded when they are requested, and the last ones are kept (`keep`).

    Args:
        size: side of the squares, in pixels.
        decode: as in `MixtureConfig.decode`; None: `exact` if all images fit into memory, else `reduced`.
        memory_bytes: memory that the images may take.

    Attributes:
        in_memory: whether all images fit into memory.
        decode: the decoding in use; the pixels depend on it and on `size` only.
    """

    def __init__(
        self, reader: ShardReader, size: int, *, decode: Decode | None = None, memory_bytes: int = 2**31
    ) -> None:
        self.reader = reader
        self.size = size
        self.in_memory = len(reader) * size**2 * 3 <= memory_bytes
        self.decode: Decode = decode or ("exact" if self.in_memory else "reduced")
        self._memory_bytes = memory_bytes
        self._num_to_keep = 0
        self._kept: dict[int, UInt8[np.ndarray, "H W 3"]] = {}

    def keep(self, num_images: int) -> None:
        """Keep up to `num_images` of the images that were decoded last, as far as `memory_bytes` allows.

        Loader processes, which each have a store, share that memory equally.
        """
        self._num_to_keep = num_images

    def __getitem__(self, rows: Sequence[int]) -> UInt8[np.ndarray, "B H W 3"]:
        """Return the images of these rows, in this order.

        Raises:
            ValueError: one of them cannot be used.
        """
        pixels, defects = self.load(rows)
        for position, defect in defects.items():
            raise ValueError(f"{self.reader.directory}: row {rows[position]}: {defect.reason} ({defect.detail})")
        return pixels

    def load(self, rows: Sequence[int]) -> tuple[UInt8[np.ndarray, "B H W 3"], Mapping[int, Defect]]:
        """Return the images of these rows, and the defects of those that cannot be used, by position in `rows`; the
        pixels of these are black.

        Raises:
            ValueError: a shard that cannot be read, if all images are kept in memory.
        """
        if not self.in_memory:
            return self._decode(rows)
        digests = tuple(shard.sha256 for shard in self.reader.manifest.shards)
        pixels, defects = _decode_all(str(self.reader.directory), digests, self.size, self.decode)
        chosen = {position: defects[row] for position, row in enumerate(rows) if row in defects} if defects else {}
        return _move_channels_last(pixels[np.asarray(rows)]), chosen

    def _decode(self, rows: Sequence[int]) -> tuple[UInt8[np.ndarray, "B H W 3"], Mapping[int, Defect]]:
        new = [row for row in dict.fromkeys(rows) if row not in self._kept]
        encoded, defects = _read_encoded(self.reader, new)
        pixels = _move_channels_last(np.zeros((len(rows), 3, self.size, self.size), dtype=np.uint8))
        for position, row in enumerate(rows):
            if row in defects:
                continue
            if row in self._kept:
                pixels[position] = self._kept[row]
                continue
            try:
                pixels[position] = square_pixels(encoded[row], self.size, self.decode)
            except ImageError as error:
                defects[row] = Defect(f"image: {error.code}", str(error))
                continue
            if self._num_to_keep:
                self._kept[row] = pixels[position].copy("K")
        self._drop_oldest()
        return pixels, {position: defects[row] for position, row in enumerate(rows) if row in defects}

    def _drop_oldest(self) -> None:
        """Drop the images that were kept first, down to the number that may be kept."""
        worker = get_worker_info()
        share_bytes = self._memory_bytes // (1 if worker is None else worker.num_workers)
        limit = min(self._num_to_keep, share_bytes // (self.size**2 * 3))
        for row in list(self._kept)[: max(0, len(self._kept) - limit)]:
            del self._kept[row]


def _move_channels_last(planes: UInt8[np.ndarray, "B 3 H W"]) -> UInt8[np.ndarray, "B H W 3"]:
    """Return a view with channels last. In memory the pixels stay in planes, as the model takes them, so that the
    conversion of a batch to floats moves no memory."""
    return planes.transpose(0, 2, 3, 1)


def _read_encoded(reader: ShardReader, rows: Sequence[int]) -> tuple[dict[int, bytes], dict[int, Defect]]:
    """Return the image files of rows, and the defects of those whose row group or shard cannot be read; both by row."""
    try:
        return dict(zip(rows, reader.images(rows), strict=True)), {}
    except ValueError:  # a damaged or missing shard: find out which of the rows cannot be read
        encoded: dict[int, bytes] = {}
        defects: dict[int, Defect] = {}
    for row in rows:
        try:
            encoded[row] = reader.images([row])[0]
        except ValueError as error:
            defects[row] = Defect("shard: cannot be read", str(error))
    return encoded, defects


@lru_cache(maxsize=2)
def _decode_all(
    directory: str, digests: tuple[str, ...], size: int, decode: Decode
) -> tuple[UInt8[np.ndarray, "N 3 H W"], Mapping[int, Defect]]:
    """Decode every image of a data set; return the pixels, and the defects by row.

    Args:
        digests: SHA-256 of the shards, so that a changed data set is another entry of the cache.
    """
    reader = ShardReader(directory)
    assert digests == tuple(shard.sha256 for shard in reader.manifest.shards)
    pixels = np.zeros((len(reader), 3, size, size), dtype=np.uint8)
    defects: dict[int, Defect] = {}
    for first in range(0, len(reader), _CHUNK_ROWS):  # in the order of the file: a row group is read once
        rows = range(first, min(first + _CHUNK_ROWS, len(reader)))
        for row, image in zip(rows, reader.images(rows), strict=True):
            try:
                pixels[row] = square_pixels(image, size, decode).transpose(2, 0, 1)
            except ImageError as error:
                defects[row] = Defect(f"image: {error.code}", str(error))
    return pixels, defects
