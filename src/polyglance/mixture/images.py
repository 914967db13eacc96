"""Pixels of the images of a data set, decoded once where they fit into memory."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

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

__all__ = ["ImageStore", "Problem", "square_pixels"]

Problem = tuple[str, str]
"""Why an image cannot be used: a short reason to count by, and the detail."""

_CHUNK = 1024
_SPARE = 2
"""A reduced decoding keeps at least this many times the asked size, so that the filter after it has enough to filter:
Pillow's own documentation calls 2 nearly, and 3 wholly, indistinguishable from full decoding."""


def square_pixels(image: bytes, size: int, decode: Decode = "exact") -> UInt8[np.ndarray, "H W 3"]:
    """An encoded image as pixels of `size` x `size`, bicubic, the aspect ratio not kept (official code section 2.5).

    Args:
        decode: `exact` is the published transform; `reduced` is faster and nearly the same (`MixtureConfig.decode`).

    Raises:
        ImageError: not an image, damaged, or too large.
    """
    if decode == "reduced":
        return _reduced_pixels(image, size)
    picture = to_rgb(image)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.uint8)


def _reduced_pixels(image: bytes, size: int) -> UInt8[np.ndarray, "H W 3"]:
    picture, (width, height) = to_reduced_rgb(image, _SPARE * size)
    if picture.size == (size, size):
        return np.asarray(picture, dtype=np.uint8)
    # Scales rather than sizes, as width and height may be fractions; a little more, as the product is rounded down.
    scales = tuple(size / side * (1 + 1e-9) for side in (height, width))
    # On bytes torch computes Pillow's filter with vector instructions, here without reordering them (channels last).
    resized = F.interpolate(_pixels(picture), scale_factor=scales, mode="bicubic", antialias=True)
    assert resized.shape[2:] == (size, size), (picture.size, width, height)
    return resized[0, :3].permute(1, 2, 0).numpy()


def _pixels(picture: Image.Image) -> UInt8[Tensor, "1 4 H W"]:
    """An RGB image as it lies in Pillow's memory: channels last, with a fourth byte that means nothing."""
    try:
        pixels = from_dlpack(pa.array(picture).flatten())
    except ValueError:  # a large image is in several pieces, which have to be copied together
        pixels = torch.from_numpy(np.array(picture.convert("RGBX")))
    return pixels.view(1, picture.height, picture.width, 4).permute(0, 3, 1, 2)


class ImageStore:
    """Images of a data set by row, resized to one square size.

    Where all of them fit into memory they are decoded at the first use, and kept for all stores of this process over
    the same data; otherwise they are decoded as they are asked for, and the last ones kept (`keep`).

    Args:
        size: side of the squares, in pixels.
        decode: as in `MixtureConfig`; None chooses.
        memory_bytes: how much the images may take in memory.

    Attributes:
        in_memory: all images fit into memory.
        decode: what was chosen; with `size` it is all that the pixels depend on.
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
        """Keep so many of the images that were decoded last, where `memory_bytes` allows it.

        Loader processes, which each have a store, share that memory equally.
        """
        self._num_to_keep = num_images

    def __getitem__(self, rows: Sequence[int]) -> UInt8[np.ndarray, "B H W 3"]:
        """The images of these rows, in this order.

        Raises:
            ValueError: one of them cannot be used.
        """
        pixels, problems = self.load(rows)
        for position, (reason, detail) in problems.items():
            raise ValueError(f"{self.reader.directory}: row {rows[position]}: {reason} ({detail})")
        return pixels

    def load(self, rows: Sequence[int]) -> tuple[UInt8[np.ndarray, "B H W 3"], Mapping[int, Problem]]:
        """The images of these rows, black where there is none, and the positions of those with reason and detail.

        Raises:
            ValueError: a shard that cannot be read, where all images are kept in memory.
        """
        if not self.in_memory:
            return self._decoded(rows)
        digests = tuple(shard.sha256 for shard in self.reader.manifest.shards)
        pixels, problems = _all_pixels(str(self.reader.directory), digests, self.size, self.decode)
        found = {position: problems[row] for position, row in enumerate(rows) if row in problems} if problems else {}
        return _last_axis_channels(pixels[np.asarray(rows)]), found

    def _decoded(self, rows: Sequence[int]) -> tuple[UInt8[np.ndarray, "B H W 3"], Mapping[int, Problem]]:
        new = [row for row in dict.fromkeys(rows) if row not in self._kept]
        encoded, problems = _encoded(self.reader, new)
        pixels = _last_axis_channels(np.zeros((len(rows), 3, self.size, self.size), dtype=np.uint8))
        for position, row in enumerate(rows):
            if row in problems:
                continue
            if row in self._kept:
                pixels[position] = self._kept[row]
                continue
            try:
                pixels[position] = square_pixels(encoded[row], self.size, self.decode)
            except ImageError as error:
                problems[row] = (f"image: {error.code}", str(error))
                continue
            if self._num_to_keep:
                self._kept[row] = pixels[position].copy("K")
        self._forget()
        return pixels, {position: problems[row] for position, row in enumerate(rows) if row in problems}

    def _forget(self) -> None:
        """Drop those images that were kept first, down to the number that may be kept."""
        worker = get_worker_info()
        share_bytes = self._memory_bytes // (1 if worker is None else worker.num_workers)
        limit = min(self._num_to_keep, share_bytes // (self.size**2 * 3))
        for row in list(self._kept)[: max(0, len(self._kept) - limit)]:
            del self._kept[row]


def _last_axis_channels(planes: UInt8[np.ndarray, "B 3 H W"]) -> UInt8[np.ndarray, "B H W 3"]:
    """The same pixels: in memory they lie as the model takes them, so that turning a batch to floats moves none."""
    return planes.transpose(0, 2, 3, 1)


def _encoded(reader: ShardReader, rows: Sequence[int]) -> tuple[dict[int, bytes], dict[int, Problem]]:
    """The image files of rows, and what is wrong with those whose row group or shard cannot be read; both by row."""
    try:
        return dict(zip(rows, reader.images(rows), strict=True)), {}
    except ValueError:  # a damaged or missing shard: find out which of the rows it costs
        encoded: dict[int, bytes] = {}
        problems: dict[int, Problem] = {}
    for row in rows:
        try:
            encoded[row] = reader.images([row])[0]
        except ValueError as error:
            problems[row] = ("shard: cannot be read", str(error))
    return encoded, problems


@lru_cache(maxsize=2)
def _all_pixels(
    directory: str, digests: tuple[str, ...], size: int, decode: Decode
) -> tuple[UInt8[np.ndarray, "N 3 H W"], Mapping[int, Problem]]:
    """Every image of a data set, and the rows that have none; `digests` of its shards stand for its content."""
    reader = ShardReader(directory)
    assert digests == tuple(shard.sha256 for shard in reader.manifest.shards)
    pixels = np.zeros((len(reader), 3, size, size), dtype=np.uint8)
    problems: dict[int, Problem] = {}
    for first in range(0, len(reader), _CHUNK):  # in the order of the file: a row group is read once
        rows = range(first, min(first + _CHUNK, len(reader)))
        for row, image in zip(rows, reader.images(rows), strict=True):
            try:
                pixels[row] = square_pixels(image, size, decode).transpose(2, 0, 1)
            except ImageError as error:
                problems[row] = (f"image: {error.code}", str(error))
    return pixels, problems
