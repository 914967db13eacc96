"""Locations of data: a folder of this machine, or one of an object store.

parse_location("data/train")          # a pathlib.Path
parse_location("s3://bucket/train")   # a RemotePath: any URL that fsspec reads, also chained (`simplecache::s3://`)
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Location", "RemotePath", "parse_location"]

_URL = re.compile(r"((?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+):/{1,2}(.*)")
"""One slash is enough, because a URL loses the other when it is converted to a `Path`."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder in an object store, with the methods of `Path` that readers of data need. Read-only.

    Its methods raise `OSError`, as those of `Path` do.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """Last component of the URL's path."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """Folder that it is in."""
        return RemotePath(self.url.rstrip("/").rpartition("/")[0])

    def read_bytes(self) -> bytes:
        """Read the whole file."""
        with self.open("rb") as file:
            return file.read()

    def open(self, mode: str) -> BinaryIO:
        """Open the file for random access; only the bytes asked for are fetched."""
        filesystem, path = self._filesystem()
        return filesystem.open(path, mode, cache_type="none")

    def is_dir(self) -> bool:
        """Tell whether there is a folder of this name."""
        filesystem, path = self._filesystem()
        return filesystem.isdir(path)

    def is_file(self) -> bool:
        """Tell whether there is a file of this name."""
        filesystem, path = self._filesystem()
        return filesystem.isfile(path)

    def iterdir(self) -> "list[RemotePath]":
        """List the files and folders in this folder."""
        filesystem, path = self._filesystem()
        return [self / entry.rstrip("/").rpartition("/")[2] for entry in filesystem.ls(path, detail=False)]

    def _filesystem(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs  # imported late: only remote data needs it

        try:
            return url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # no package for this protocol, or no such protocol
            raise OSError(0, f"cannot be opened: {error}") from None


Location = Path | RemotePath


def parse_location(where: "str | Path | RemotePath") -> Location:
    """Return the file or folder that a path or URL names."""
    if isinstance(where, RemotePath):
        return where
    match = _URL.fullmatch(str(where))
    if match is None:
        return Path(where)
    return RemotePath(f"{match[1]}://{match[2]}")
