"""Where data is: a folder of this machine, or one of an object store.

location("data/train")          # a pathlib.Path
location("s3://bucket/train")   # a RemotePath: any URL that fsspec reads, chained ones (`simplecache::s3://`) too
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Location", "RemotePath", "location"]

_URL = re.compile(r"((?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+):/{1,2}(.*)")
"""One slash is enough: a URL that went through a `Path` has lost the other."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder in an object store, as much like a `Path` as readers of data need; only for reading.

    Its methods raise `OSError`, as those of `Path` do.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rstrip("/").rpartition("/")[2]

    def read_bytes(self) -> bytes:
        """The whole file."""
        with self.open("rb") as file:
            return file.read()

    def open(self, mode: str) -> BinaryIO:
        """The file, for reading what is asked for and no more."""
        filesystem, path = self._filesystem()
        return filesystem.open(path, mode, cache_type="none")

    def is_dir(self) -> bool:
        """There is a folder of this name."""
        filesystem, path = self._filesystem()
        return filesystem.isdir(path)

    def is_file(self) -> bool:
        """There is a file of this name."""
        filesystem, path = self._filesystem()
        return filesystem.isfile(path)

    def iterdir(self) -> "list[RemotePath]":
        """What the folder holds."""
        filesystem, path = self._filesystem()
        return [self / found.rstrip("/").rpartition("/")[2] for found in filesystem.ls(path, detail=False)]

    def _filesystem(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs  # only where it is needed

        try:
            return url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # no package for this protocol, or no such protocol
            raise OSError(0, f"cannot be opened: {error}") from None


Location = Path | RemotePath


def location(where: "str | Path | RemotePath") -> Location:
    """A folder or file, from a path or a URL."""
    if isinstance(where, RemotePath):
        return where
    match = _URL.fullmatch(str(where))
    if match is None:
        return Path(where)
    return RemotePath(f"{match[1]}://{match[2]}")
