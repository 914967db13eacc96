"""Objects of a store that several machines see: a bucket through fsspec (`s3://`, `gs://`, `az://`), or `file://`.

    store = open_store("s3://bucket/studies/micro")
    store.write("study.toml", text)              # whole or not at all: readers see the old object or the new one
    store.create("claims/1", text)               # False if there is one: of two writers at once one gets True

Names are relative to the URL, with slashes. A problem that the user can solve is a `StoreError`, one line with the URL;
a store that does not answer (and may do so later) is a `SilentStoreError`.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from polyglance.error_text import first_line, one_line
from polyglance.files import replacing

__all__ = ["ObjectStore", "SilentStoreError", "StoreError", "check_exclusive", "open_store"]

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Protocol -> extra of pyproject.toml with its package."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class StoreError(ValueError):
    """A store that cannot do what it is asked for: one line that names it."""


class SilentStoreError(StoreError):
    """A store that does not answer, or answers that it cannot now."""


class ObjectStore(Protocol):
    """Objects by name. Every method raises `StoreError`."""

    @property
    def url(self) -> str:
        """URL that names start from."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None if there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put an object in place of the one of this name, if there is one."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Put an object where there is none, and return whether this call did it."""
        ...

    def upload(self, name: str, path: Path) -> None:
        """Put a file, which need not fit into memory, as an object."""
        ...

    def download(self, name: str, path: Path) -> bool:
        """Write an object to a file, and return whether there is one.

        Raises:
            OSError: the file cannot be written.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove an object, if there is one."""
        ...

    def list(self, prefix: str) -> dict[str, int]:
        """Return name -> size in bytes of the objects below a prefix that ends with a slash."""
        ...


def open_store(url: str) -> ObjectStore:
    """Open a store. Nothing is asked of it yet.

    Raises:
        StoreError: not a URL, of a protocol that fsspec does not know, or whose package is not installed.
    """
    match = _URL.fullmatch(url.rstrip("/"))
    if match is None or ("::" in url and not url.startswith(("file:", "local:"))):
        raise StoreError(f"{url!r} is not the URL of a store; expected s3://BUCKET/FOLDER, gs://..., file:///FOLDER")
    protocol, place = match.groups()
    if protocol in ("file", "local"):
        if not place.startswith("/"):
            raise StoreError(f"{url}: expected an absolute path, as in file:///shared/studies")
        return _FolderStore(url.rstrip("/"), Path(place))
    return _FsspecStore(url.rstrip("/"), protocol)


def check_exclusive(store: ObjectStore) -> None:
    """Check that the store is there and can be written to, and that of two creations of one object the second fails.

    Raises:
        StoreError: it is not so. Some servers with the protocol of S3 ignore the condition, and would let two writers
            hold one record.
    """
    name = f"claims/test-{uuid4().hex}"
    try:
        if not store.create(name, b"1") or store.create(name, b"2"):
            raise StoreError(
                f"{store.url}: this store creates an object that is there already (it ignores If-None-Match): two "
                "writers could not be kept apart. Use another store, or a shared folder"
            )
    finally:
        store.remove(name)


class _FolderStore:
    """A folder that all machines see. Objects are files, written beside their names and renamed or linked."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        with self._explained():
            try:
                return (self._folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._explained(), replacing(self._folder / name, several_writers=True) as partial:
            partial.write_bytes(content)

    def create(self, name: str, content: bytes) -> bool:
        path = self._folder / name
        partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(partial, path)  # fails if there is one, on NFS too
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
        return True

    def upload(self, name: str, path: Path) -> None:
        target = self._folder / name
        with (
            path.open("rb") as source,
            self._explained(),
            replacing(target, several_writers=True) as partial,
            partial.open("wb") as file,
        ):
            while block := source.read(2**22):
                file.write(block)

    def download(self, name: str, path: Path) -> bool:
        with self._explained():
            try:
                source = (self._folder / name).open("rb")
            except FileNotFoundError:
                return False
        with source, path.open("wb") as file:
            while block := source.read(2**22):
                file.write(block)
        return True

    def remove(self, name: str) -> None:
        with self._explained():
            (self._folder / name).unlink(missing_ok=True)

    def list(self, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with self._explained():
            for path in sorted((self._folder / prefix).rglob("*")):
                try:
                    if path.is_file() and path.suffix != ".partial":
                        found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
                except FileNotFoundError:  # removed meanwhile
                    continue
        return found

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _explain(self.url, error) from error


class _FsspecStore:
    """A bucket, through fsspec. Listings are not cached: other machines write."""

    def __init__(self, url: str, protocol: str) -> None:
        self.url = url
        self._root = ""
        with self._explained():
            self._filesystem, self._root = self._open(protocol)
        self._can_create = _has_exclusive_creation(self._filesystem)

    def _open(self, protocol: str) -> tuple[Any, str]:
        try:
            import fsspec
        except ImportError:
            raise StoreError("cluster.store needs fsspec: pip install 'polyglance[train]'") from None
        try:
            fsspec.get_filesystem_class(protocol)
            filesystem = fsspec.filesystem(protocol, use_listings_cache=False)
        except ValueError:
            raise StoreError(f"{self.url}: no protocol {protocol!r}; expected s3, gs, az or file") from None
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            how = f"pip install 'polyglance[{extra}]'" if extra else first_line(error)
            raise StoreError(f"{self.url}: the package for {protocol}:// is not installed here: {how}") from None
        return filesystem, filesystem._strip_protocol(self.url).rstrip("/")

    def read(self, name: str) -> bytes | None:
        with self._explained():
            try:
                return bytes(self._filesystem.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._explained():
            self._filesystem.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        if not self._can_create:
            raise StoreError(
                f"{self.url}: fsspec's {type(self._filesystem).__name__} cannot create an object on the condition "
                "that there is none, so that two writers could not be kept apart; use s3://, gs://, az:// or file://"
            )
        with self._explained():
            try:
                self._filesystem.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
        return True

    def upload(self, name: str, path: Path) -> None:
        path.stat()  # raises for a missing file, which is no error of the store
        with self._explained():
            self._filesystem.put_file(str(path), self._path(name))

    def download(self, name: str, path: Path) -> bool:
        path.open("wb").close()  # so that an error of the disk is told from one of the store
        try:
            self._filesystem.get_file(self._path(name), str(path))
        except FileNotFoundError:
            return False
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL:  # the disk is full: a download writes to no store
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise _explain(self.url, error) from error
        return True

    def remove(self, name: str) -> None:
        with self._explained():
            try:
                self._filesystem.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def list(self, prefix: str) -> dict[str, int]:
        with self._explained():
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.find(self._path(prefix.rstrip("/")), detail=True)
            except FileNotFoundError:
                if self._filesystem.exists(self._root.lstrip("/").partition("/")[0]):
                    return {}
                raise
        return {path[len(self._root) + 1 :]: int(entry["size"]) for path, entry in found.items()}

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            raise _explain(self.url, error) from error


def _has_exclusive_creation(filesystem: Any) -> bool:
    """Tell whether a filesystem has a `pipe_file` of its own; that of fsspec looks for the object first and then writes
    it, which two writers may do at once."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    if isinstance(filesystem, AsyncFileSystem):
        return type(filesystem)._pipe_file is not AsyncFileSystem._pipe_file
    return type(filesystem).pipe_file is not AbstractFileSystem.pipe_file


def _explain(url: str, error: Exception) -> StoreError:
    """Say in one line why a store has not done what it was asked for. The packages of the protocols have errors of
    their own for the network; these are the ones that are left."""
    reason = one_line(error)[:200]
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, PermissionError) or "credentials" in reason.lower():
        return StoreError(f"{url}: no permission ({reason})")
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{url}: no such bucket or folder ({reason}); make it first")
    if number in _FULL:
        return StoreError(f"{url}: {os.strerror(number)}; make room, and run again: what is saved is kept")
    return SilentStoreError(f"{url}: the store does not answer ({reason})")
