"""Base class of the readers of rows of images and texts."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from polyglance.tables import TableRow

__all__ = ["IMAGE_NAMES", "SAMPLE_ROWS", "SHARD_PROBLEM", "RowSource", "find_image_name"]

IMAGE_NAMES = tuple(
    "image file_name filename image_path image_file image_name filepath file path img".split()  # noqa: SIM905 - short
)
"""Names of the column of images, the best first."""
SAMPLE_ROWS = 1000
"""Number of rows from which the roles of columns are decided."""
SHARD_PROBLEM = "shard: "
"""Beginning of the problem of a row that represents an unknown part of a file and is not counted as a row."""


def find_image_name(names: Iterable[str]) -> str:
    """Find the name of the column of images, in small or capital letters (`Image`, `File Name`); empty if none is."""
    plain = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in reversed(list(names))}
    return next((plain[known] for known in IMAGE_NAMES if known in plain), "")


class RowSource(ABC):
    """Rows of named cells, not yet checked, and what the columns are called.

    A row that cannot be read is returned as a row with a problem; an error of the whole file is a `ValueError` before
    the first row.
    """

    path: Path
    """File or folder that was given."""
    table_files: tuple[Path, ...] = ()
    """Files of the texts, if they are separate from the images."""
    image_columns: tuple[str, ...] = ()
    """Columns whose type says that they hold images."""
    holds_images: bool = False
    """Whether each row has the bytes of its own image, so that rows of one image need not be joined."""

    @abstractmethod
    def describe(self) -> str:
        """Return form, encoding and compression in words."""

    @abstractmethod
    def names(self) -> list[str] | None:
        """Return the names of the columns; None where every row brings its own."""

    @abstractmethod
    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
        """Yield the rows in order.

        Args:
            columns: columns that are read, where that saves work; None: all.
        """

    def sample(self) -> list[Mapping[str, Any]]:
        """Read the first readable rows; without the bytes of images if these are costly."""
        return [row.values for row in islice(self.read(), SAMPLE_ROWS) if not row.problem]
