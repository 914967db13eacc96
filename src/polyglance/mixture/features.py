"""Features of a frozen vision tower, computed once for all images of a data set and read by all runs that share it.

A frozen tower does not change and images are not augmented (official code section 2.5), so its features are a function
of its weights, the image, and the size that the image is resized to. What is kept is the tower's output, before the
projector, which may still be trained.

The folder holds `features.json`, which is written last, and raw little-endian files of shape (rows, image tokens,
width), images in the order of the data set's rows; bfloat16 is stored as its 16 bits. Beside each file is a file of
checksums, one for each image's features; features are compared with it when they are first read.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from polyglance.block_sums import read_sums, write_sums
from polyglance.checksums import crc32
from polyglance.config import from_dict, to_dict
from polyglance.distributed import Runtime
from polyglance.files import DamagedError, file_sha256, locked, read_record, replacing, write_record
from polyglance.mixture.images import ImageStore

__all__ = ["FeatureFile", "FeatureStore", "FeatureType", "FeaturesInfo", "UnusableImagesError", "write_features"]

FeatureType = Literal["float32", "bfloat16"]

_INFO_NAME = "features.json"
_SUMS_SUFFIX = ".sums"
_FORMAT = 1
_STORED: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}
_ROWS_PER_FILE = 4096
_BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class FeatureFile:
    """Name, number of images and digest of one file of features."""

    name: str
    rows: int
    sha256: str
    sums_sha256: str | None = None
    """SHA-256 of the file with the checksum of each image; None in a folder that an older version has written."""

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name or not self.name.endswith(".bin"):  # names become paths
            raise ValueError(f"{self.name!r} is not the name of a file of features")


@dataclass(frozen=True, kw_only=True)
class FeaturesInfo:
    """Content of features.json."""

    format: int = _FORMAT
    fingerprint: str
    """Fingerprint of the tower's weights, the image transform, the precision and the data set."""
    num_images: int
    image_tokens: int
    """Positions of an image's features."""
    width: int
    """Channels of each position."""
    dtype: FeatureType
    files: tuple[FeatureFile, ...]

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(f"format {self.format}; this polyglance reads {_FORMAT}")
        if self.num_images != sum(file.rows for file in self.files):
            raise ValueError("num_images is not the sum of the files' rows")

    @classmethod
    def read(cls, folder: Path) -> "FeaturesInfo":
        """Read features.json of a folder.

        Raises:
            ValueError: no features there, or the file is damaged.
        """
        path = folder / _INFO_NAME
        if not path.exists():
            raise ValueError(f"{folder}: no features (no {_INFO_NAME}: never computed, or not to the end)")
        try:
            return from_dict(cls, read_record(path))
        except ValueError as error:
            raise DamagedError(f"{path}: damaged ({error})") from None


class FeatureStore:
    """Features by row of the data set, memory-mapped.

    Args:
        folder: folder that `write_features` has filled.
        fingerprint: expected fingerprint; None: any.

    Raises:
        DamagedError: a file is missing or of the wrong size; or, when they are read, features differ from those that
            were written, and the record of the folder is then removed, so that the next run computes them again.
        ValueError: no features there (or not finished), or another fingerprint.
    """

    def __init__(self, folder: str | Path, *, fingerprint: str | None = None) -> None:
        self.folder = Path(folder)
        self.info = FeaturesInfo.read(self.folder)
        if fingerprint is not None and self.info.fingerprint != fingerprint:
            raise ValueError(
                f"{self.folder}: features of another tower, image transform or data set "
                f"({self.info.fingerprint}, expected {fingerprint}); remove the folder to compute them again"
            )
        self._first_rows = [0, *accumulate(file.rows for file in self.info.files)]
        self._files = [self._map(file) for file in self.info.files]
        self._sums = [self._read_sums(file) for file in self.info.files]
        self._is_checked = [
            bytearray([sums is None]) * len(file) for file, sums in zip(self._files, self._sums, strict=True)
        ]

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Tell whether a folder holds finished features."""
        return (folder / _INFO_NAME).exists()

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the record of a folder, so that its features are computed again."""
        (folder / _INFO_NAME).unlink(missing_ok=True)

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[Path]]:
        return FeatureStore, (self.folder,)  # memory-mapped files do not travel between processes

    def __len__(self) -> int:
        """Return the number of images."""
        return self.info.num_images

    def __getitem__(self, rows: Sequence[int]) -> Float[Tensor, "B I E"]:
        """Return the features of these rows, in this order, in the number format they are stored in.

        Raises:
            IndexError: a row outside 0 to len - 1.
        """
        stored = np.empty((len(rows), self.info.image_tokens, self.info.width), _STORED[self.info.dtype])
        for position, row in enumerate(rows):
            if not 0 <= row < len(self):
                raise IndexError(f"{self.folder}: row {row} of {len(self)}")
            file = bisect_right(self._first_rows, row) - 1
            place = row - self._first_rows[file]
            stored[position] = self._files[file][place]
            if not self._is_checked[file][place]:
                self._check(file, place, stored[position])
        features = torch.from_numpy(stored)
        return features.view(torch.bfloat16) if self.info.dtype == "bfloat16" else features

    def _map(self, file: FeatureFile) -> np.ndarray:
        path, stored = self.folder / file.name, _STORED[self.info.dtype]
        shape = (file.rows, self.info.image_tokens, self.info.width)
        expected_bytes = int(np.prod(shape)) * stored.itemsize
        size_bytes = path.stat().st_size if path.is_file() else None
        if size_bytes != expected_bytes:
            problem = "missing" if size_bytes is None else f"{size_bytes} bytes, expected {expected_bytes}"
            raise DamagedError(f"{path}: {problem}; remove the folder to compute the features again")
        return np.asarray(np.memmap(path, stored, "r", shape=shape))

    def _read_sums(self, file: FeatureFile) -> np.ndarray | None:
        if file.sums_sha256 is None:
            return None
        path = (self.folder / file.name).with_suffix(_SUMS_SUFFIX)
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != file.sums_sha256:
            raise DamagedError(f"{path}: damaged or missing; remove the folder to compute the features again")
        return read_sums(content, str(path), size_bytes=file.rows, block_bytes=1)

    def _check(self, file: int, row: int, features: np.ndarray) -> None:
        """Compare the features of a row with their sum when they are first read.

        Raises:
            DamagedError: they differ from those that were written.
        """
        sums = self._sums[file]
        assert sums is not None
        if crc32(features.data) != sums[row]:
            with suppress(OSError):
                self.forget(self.folder)
            raise DamagedError(
                f"{self.folder / self.info.files[file].name}: damaged or changed: the features of row {row} of it "
                "differ from those that were written; they are computed again at the next start"
            )
        self._is_checked[file][row] = True


class UnusableImagesError(ValueError):
    """An image cannot be used. Features cannot mark it as missing, while batches of pixels replace its samples."""


Tower = Callable[[UInt8[np.ndarray, "B H W 3"]], Float[Tensor, "B I E"]]
"""Vision tower: pixels -> features on the CPU."""


def write_features(
    folder: Path, tower: Tower, images: ImageStore, *, fingerprint: str, dtype: FeatureType, runtime: Runtime
) -> None:
    """Compute the features of every image of a data set, unless they are there; the processes share the files.

    Args:
        fingerprint: fingerprint of all that the features depend on.
        dtype: number format of the files.

    Raises:
        UnusableImagesError: an image cannot be used.
    """
    num_images = len(images.reader)
    starts = range(0, num_images, _ROWS_PER_FILE)
    local_files: list[tuple[int, FeatureFile, tuple[int, int]]] = []
    problem = None
    with locked(folder, "polyglance train", wait=True) if runtime.is_main else nullcontext():
        runtime.barrier()  # one run at a time writes into a folder; its processes enter together
        if runtime.from_main(FeatureStore.is_there(folder)):
            return  # another run has written them while this one waited
        for number, first in list(enumerate(starts))[runtime.rank :: runtime.world_size]:
            rows = range(first, min(first + _ROWS_PER_FILE, num_images))
            try:
                file, shape = _write_file(folder / f"{number:05d}.bin", tower, images, rows, dtype)
            except UnusableImagesError as error:
                problem = str(error)
                break
            local_files.append((number, file, shape))
        if (problem := runtime.first(problem)) is not None:
            raise UnusableImagesError(problem)
        files = sorted(entry for entries in runtime.gather(local_files) for entry in entries)
        if runtime.is_main:
            image_tokens, width = files[0][2] if files else (0, 0)
            info = FeaturesInfo(
                fingerprint=fingerprint,
                num_images=num_images,
                image_tokens=image_tokens,
                width=width,
                dtype=dtype,
                files=tuple(file for _, file, _ in files),
            )
            write_record(folder / _INFO_NAME, to_dict(info))
        runtime.barrier()


def _write_file(
    path: Path, tower: Tower, images: ImageStore, rows: range, dtype: FeatureType
) -> tuple[FeatureFile, tuple[int, int]]:
    """Write the features of some rows; return the file's entry, and image tokens and width."""
    shape = (0, 0)
    with replacing(path) as partial:
        with partial.open("wb") as file:
            for first in range(rows.start, rows.stop, _BATCH_SIZE):
                chosen = range(first, min(first + _BATCH_SIZE, rows.stop))
                pixels, defects = images.load(chosen)
                for position, defect in defects.items():
                    where = f"{images.reader.directory}: row {chosen[position]}"
                    raise UnusableImagesError(f"{where}: {defect.reason} ({defect.detail})")
                features = tower(pixels)
                shape = (features.shape[1], features.shape[2])
                file.write(_to_bytes(features, dtype))
        sha256 = file_sha256(partial)
    row_bytes = shape[0] * shape[1] * _STORED[dtype].itemsize
    sums = write_sums(path, path.with_suffix(_SUMS_SUFFIX), block_bytes=row_bytes)
    sums_sha256 = hashlib.sha256(sums.tobytes()).hexdigest()
    return FeatureFile(name=path.name, rows=len(rows), sha256=sha256, sums_sha256=sums_sha256), shape


def _to_bytes(features: Float[Tensor, "B I E"], dtype: FeatureType) -> bytes:
    if dtype == "float32":
        return features.float().numpy().astype("<f4").tobytes()
    return features.bfloat16().contiguous().view(torch.uint16).numpy().astype("<u2").tobytes()
