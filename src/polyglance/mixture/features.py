"""What the vision tower makes of every image of a data set, computed once (`polyglance.train.features`) and read here.

A folder with `features.json`, which is written last, and raw little-endian files of shape (rows, image tokens, width),
images in the order of the data set's rows; bfloat16 is stored as the 16 bits it is.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polyglance.config import from_dict

__all__ = ["FEATURES_NAME", "FeatureFile", "FeatureStore", "FeaturesInfo"]

FEATURES_NAME = "features.json"
_FORMAT = 1
_STORED: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}


@dataclass(frozen=True, kw_only=True)
class FeatureFile:
    """One file of features."""

    name: str
    rows: int
    """Images in it."""
    sha256: str
    """Hexadecimal digest of the file."""

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name or not self.name.endswith(".bin"):  # names become paths
            raise ValueError(f"{self.name!r} is not the name of a file of features")


@dataclass(frozen=True, kw_only=True)
class FeaturesInfo:
    """What features.json holds."""

    format: int
    fingerprint: str
    """Of the tower's weights, the image transform and the data set."""
    num_images: int
    image_tokens: int
    width: int
    dtype: Literal["float32", "bfloat16"]
    files: tuple[FeatureFile, ...]

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(f"format {self.format}; this polyglance reads {_FORMAT}")
        if self.num_images != sum(file.rows for file in self.files):
            raise ValueError("num_images is not the sum of the files' rows")


class FeatureStore:
    """Features by row of the data set, memory-mapped.

    Args:
        folder: where they are.
        fingerprint: what they have to be of; None: anything.

    Raises:
        ValueError: no features there (or not finished), a file missing or of the wrong size, or another fingerprint.
    """

    def __init__(self, folder: str | Path, *, fingerprint: str | None = None) -> None:
        self.folder = Path(folder)
        self.info = _info(self.folder / FEATURES_NAME)
        if fingerprint is not None and self.info.fingerprint != fingerprint:
            raise ValueError(
                f"{self.folder}: features of another tower, image transform or data set "
                f"({self.info.fingerprint}, expected {fingerprint}); remove the folder to compute them anew"
            )
        self._first_rows = [0, *accumulate(file.rows for file in self.info.files)]
        self._files = [self._mapped(file) for file in self.info.files]

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[Path]]:
        return FeatureStore, (self.folder,)  # memory-mapped files do not travel between processes

    def __len__(self) -> int:
        """Number of images."""
        return self.info.num_images

    def __getitem__(self, rows: Sequence[int]) -> Float[Tensor, "B I E"]:
        """Features of these rows, in this order, in the type they are stored in.

        Raises:
            IndexError: a row outside 0 to len - 1.
        """
        found = np.empty((len(rows), self.info.image_tokens, self.info.width), _STORED[self.info.dtype])
        for place, row in enumerate(rows):
            if not 0 <= row < len(self):
                raise IndexError(f"{self.folder}: row {row} of {len(self)}")
            file = bisect_right(self._first_rows, row) - 1
            found[place] = self._files[file][row - self._first_rows[file]]
        features = torch.from_numpy(found)
        return features.view(torch.bfloat16) if self.info.dtype == "bfloat16" else features

    def _mapped(self, file: FeatureFile) -> np.ndarray:
        path, stored = self.folder / file.name, _STORED[self.info.dtype]
        shape = (file.rows, self.info.image_tokens, self.info.width)
        expected_bytes = int(np.prod(shape)) * stored.itemsize
        size_bytes = path.stat().st_size if path.is_file() else None
        if size_bytes != expected_bytes:
            what = "missing" if size_bytes is None else f"{size_bytes} bytes, expected {expected_bytes}"
            raise ValueError(f"{path}: {what}; remove the folder to compute the features anew")
        return np.asarray(np.memmap(path, stored, "r", shape=shape))


def _info(path: Path) -> FeaturesInfo:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path.parent}: no features (no {path.name}: never computed, or not to the end)") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    try:
        return from_dict(FeaturesInfo, values)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
