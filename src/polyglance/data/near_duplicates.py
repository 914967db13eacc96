"""Images that are nearly the same: duplicates in a data set, and images of evaluation sets that leaked into it.

An image is identified by 64 bits, the signs of its lowest 8 x 8 DCT frequencies against their median (the "pHash" of
Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), and by the mean colours of a 4 x 4
grid. The cheaper difference hash is worse: with a limit at which 9 of 10 JPEG copies of images of the built-in world's
`full` level are found, it confuses 34 % of different images, the DCT hash 0.6 %. The colours are needed because the
hash is computed from grey values: without them half of the emoji and a quarter of the world's `pairs` level are
confused with another image of their set.

Two images are near when at most `max_distance` bits differ and the colours differ by `max_colour_difference` or less
on average. This suits photographs. Simple graphics (icons, emoji) share their layout and differ in details that no such
hash represents: of 3,786 emoji 21 % are found near another one. For such data set `max_distance` to 0 and
`max_colour_difference` to 1 (1 %), or turn the search off (`benchmarks/near_duplicates.py` has all figures).
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from PIL import Image
from scipy.fft import dctn

from polyglance.data.sources.raw_images import IMAGE_SUFFIXES
from polyglance.files import write_atomically
from polyglance.images import ImageError, to_rgb
from polyglance.records import Drops

__all__ = ["ImageHash", "Near", "NearDuplicates", "NearDuplicatesConfig", "hash_folder", "hash_image", "write_hashes"]

_SIDE = 32
_NUM_BANDS = 4
_BAND_BITS = 16
_MAX_DISTANCE = 11
"""With four bands, the nearest band then differs in 2 bits or less: 137 look-ups per band; 3 bits would be 697."""
_COLOUR_SIDE = 4
_NUM_COLOURS = 3 * _COLOUR_SIDE**2
_HEADER = "# polyglance image hashes 1: hash, colours, name"


class ImageHash(NamedTuple):
    """Hash of an image: 56 bytes."""

    bits: int
    """64 bits."""
    colours: bytes
    """Mean red, green and blue of a 4 x 4 grid, row by row: 48 bytes."""


class Near(NamedTuple):
    """A known image that is nearly the same as the one searched for."""

    key: str
    evaluation_set: str
    """Name of the evaluation set it belongs to; empty for an image that was added."""
    distance: int
    """Number of bits that differ, of 64."""


@dataclass(frozen=True, kw_only=True)
class NearDuplicatesConfig:
    """Limits within which two images count as nearly the same.

    Raises:
        ValueError: a value outside its range.
    """

    max_distance: int | None = 8
    """Number of the hash's 64 bits that may differ. None: no search for near images."""
    max_colour_difference: float = 6.0
    """Largest mean absolute difference of the colours of a 4 x 4 grid, in levels of 255."""

    def __post_init__(self) -> None:
        if self.max_distance is not None and not 0 <= self.max_distance <= _MAX_DISTANCE:
            raise ValueError(f"max_distance is {self.max_distance}; expected 0 to {_MAX_DISTANCE} of the 64 bits")
        if not 0 <= self.max_colour_difference <= 255:
            raise ValueError(f"max_colour_difference is {self.max_colour_difference}; expected 0 to 255")


def hash_image(image: Image.Image) -> ImageHash:
    """Hash an upright RGB image; the hash depends on the pixels alone."""
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    frequencies: Float[np.ndarray, "8 8"] = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:8, :8]
    # The first frequency is the mean brightness; it would only shift the median. Values are rounded, so that the noise
    # of the transform does not decide the bits of an image of one colour.
    values = np.round(frequencies.ravel(), 3)
    bits = np.packbits(values > np.median(values[1:]))
    colours = image.convert("RGB").resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    return ImageHash(int.from_bytes(bits.tobytes(), "big"), colours.tobytes())


class NearDuplicates:
    """An index of image hashes with exact search.

    The hash is cut into four bands of 16 bits. If two hashes differ in k bits or less, at least one of their bands
    differs in k // 4 bits or less. So every near image is found by looking up each band with up to that many bits
    flipped (Norouzi, Punjani and Fleet, "Fast exact search in Hamming space with multi-index hashing", 2014). The index
    takes about 100 bytes per image beside its key.
    """

    def __init__(self, config: NearDuplicatesConfig | None = None) -> None:
        self._config = config or NearDuplicatesConfig()
        self._keys: list[str] = []
        self._sets: list[str] = []
        self._bits = array("Q")
        self._colours = bytearray()
        self._bands: list[dict[int, array[int]]] = [{} for _ in range(_NUM_BANDS)]
        self._flips = _flips((self._config.max_distance or 0) // _NUM_BANDS)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, hashed: ImageHash) -> Near | None:
        """Add an image, unless one is known that is nearly the same: then return that one and add nothing."""
        near = self.find(hashed)
        if near is None:
            self._insert(key, "", hashed)
        return near

    def exclude(self, name: str, path: str | Path, drops: Drops) -> int:
        """Add an evaluation set: a folder of images, or a file by `write_hashes`.

        Args:
            name: name of the set, for `Near.evaluation_set`.
            drops: gets images that cannot be read; copies of them will not be found.

        Returns:
            Number of images added.

        Raises:
            ValueError: no such file or folder, an empty one, or a file of another kind.
        """
        path = Path(path)
        num_before = len(self)
        for key, hashed in hash_folder(path, drops) if path.is_dir() else _read_hashes(path):
            self._insert(key, name, hashed)
        if len(self) == num_before:
            raise ValueError(f"{path}: no image to exclude in it")
        return len(self) - num_before

    def find(self, hashed: ImageHash) -> Near | None:
        """Find the nearest image within the limits (of several equally near, the first added), or None."""
        limit = self._config.max_distance
        candidates = self._candidates(hashed.bits) if limit is not None else np.empty(0, dtype=np.int64)
        if limit is None or not len(candidates):
            return None
        distances = np.bitwise_count(np.frombuffer(self._bits, dtype=np.uint64)[candidates] ^ np.uint64(hashed.bits))
        is_near = distances <= limit
        if not is_near.any():
            return None
        candidates, distances = candidates[is_near], distances[is_near]
        colours = np.frombuffer(hashed.colours, dtype=np.uint8).astype(np.int16)
        all_colours = np.frombuffer(self._colours, dtype=np.uint8).reshape(-1, _NUM_COLOURS)
        differences = np.abs(all_colours[candidates] - colours).mean(axis=1)
        is_near = differences <= self._config.max_colour_difference
        if not is_near.any():
            return None
        distance, index = min(zip(distances[is_near].tolist(), candidates[is_near].tolist(), strict=True))
        return Near(self._keys[index], self._sets[index], distance)

    def _insert(self, key: str, evaluation_set: str, hashed: ImageHash) -> None:
        index = len(self)
        self._keys.append(key)
        self._sets.append(evaluation_set)
        self._bits.append(hashed.bits)
        self._colours += hashed.colours
        for band, value in zip(self._bands, _band_values(hashed.bits), strict=True):
            band.setdefault(value, array("I")).append(index)

    def _candidates(self, bits: int) -> Int64[np.ndarray, "n"]:
        """Return the indices of all images with a band that is near enough; an index may occur more than once."""
        buckets = [
            bucket
            for band, value in zip(self._bands, _band_values(bits), strict=True)
            for flip in self._flips
            if (bucket := band.get(value ^ flip)) is not None
        ]
        return np.frombuffer(b"".join(buckets), dtype=np.uintc).astype(np.int64)


def _band_values(bits: int) -> list[int]:
    return [(bits >> (_BAND_BITS * band)) & (2**_BAND_BITS - 1) for band in range(_NUM_BANDS)]


def _flips(radius: int) -> list[int]:
    """Return all 16-bit values with at most `radius` bits set."""
    return [
        sum(1 << bit for bit in bits) for count in range(radius + 1) for bits in combinations(range(_BAND_BITS), count)
    ]


def hash_folder(folder: Path, drops: Drops) -> Iterator[tuple[str, ImageHash]]:
    """Yield name (below the folder) and hash of all images in a folder and its subfolders, in the order of names."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
        name = path.relative_to(folder).as_posix()
        try:
            yield name, hash_image(to_rgb(path.read_bytes()))
        except ImageError as error:
            drops.add(f"image: {error.code}", f"{name}: {error}"[:300])
        except OSError as error:
            drops.add("image: cannot be read", f"{name}: {error}"[:300])


def write_hashes(folder: str | Path, out: str | Path, drops: Drops) -> int:
    """Write the hashes of a folder of images to a file, for `NearDuplicates.exclude` on a machine without the images.

    Returns:
        Number of images.
    """
    found = [(_printable(name), hashed) for name, hashed in hash_folder(Path(folder), drops)]
    lines = [f"{hashed.bits:016x}\t{hashed.colours.hex()}\t{name}" for name, hashed in found]
    write_atomically(out, "\n".join([_HEADER, *lines, ""]))
    return len(lines)


def _printable(name: str) -> str:
    """Return a file name that may hold any bytes as text on one line."""
    return name.encode(errors="replace").decode().replace("\n", "?")


def _read_hashes(path: Path) -> Iterator[tuple[str, ImageHash]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a file of hashes ({error})") from None
    if lines[0] != _HEADER:
        raise ValueError(f"{path}: not a file of image hashes, its first line should be {_HEADER!r}")
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        try:
            bits, colours, name = line.split("\t", 2)
            hashed = ImageHash(int(bits, 16), bytes.fromhex(colours))
        except ValueError:
            hashed = ImageHash(-1, b"")
        if not 0 <= hashed.bits < 2**64 or len(hashed.colours) != _NUM_COLOURS:
            raise ValueError(f"{path}:{number}: not a hash of 16 digits, colours of {2 * _NUM_COLOURS} and a name")
        yield name, hashed
