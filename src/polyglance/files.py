"""Files that other processes read: written whole or not at all, locked, with digests; JSON with errors in one line.

    write_json(folder / "samples.json", counts)
    with replacing(folder / "vectors.npy") as partial:   # `partial` becomes vectors.npy when the block ends well
        np.save(partial.open("wb"), vectors)
    with locked(folder, "polyglance study run"):          # one process at a time
        ...

A file that outlives its process has a digest. There are two forms of it. A record (`write_record`) carries a seal, the
digest of its own content. Other files are listed, with their digests, in `polyglance-digests.json` of their folder
(`seal_files`). `read_text` and `read_json` compare a listed file with its digest; code that reads a file in another way
must call `check_digest` or `checked_folder` first. `replacing` updates the list when a listed file is written again.
"""

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from polyglance.checksums import crc32, file_crc32

__all__ = [
    "DIGESTS_NAME",
    "DamagedError",
    "FileDigest",
    "check_digest",
    "check_output_file",
    "check_output_folder",
    "checked_folder",
    "file_sha256",
    "format_record",
    "lock",
    "locked",
    "parse_json",
    "read_digests",
    "read_json",
    "read_record",
    "read_text",
    "replacing",
    "replacing_folder",
    "seal_files",
    "unlist_files",
    "unseal",
    "write_atomically",
    "write_json",
    "write_record",
]

DIGESTS_NAME = "polyglance-digests.json"
"""Name of the record with the digests of a folder's files."""
_SEAL = "seal"
"""Key of a record's digest."""
_GZIP = b"\x1f\x8b"
"""First bytes of a gzip file."""
_MAX_BYTES = 2**31
"""Largest text that is read into memory, after unpacking, in bytes."""
_MAX_DEPTH = 100
"""Deepest nesting of JSON that is read. Code that walks through deeper values would exceed Python's recursion limit."""
_KNOWN_ENDINGS = frozenset(
    (".csv", ".html", ".json", ".jsonl", ".md", ".parquet", ".pdf", ".png", ".svg", ".tex", ".toml", ".tsv", ".xlsx")
) | {".bz2", ".gz", ".xz", ".zip", ".zst"}  # nothing is written compressed
"""Endings that say what a file holds. A file of another content, or a folder, does not get such a name."""
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/.*")
"""A URL. It has one slash at least, because it loses the other when it is converted to a `Path`."""


_RECENT_NS = 2 * 10**9
"""Age in nanoseconds below which a file may have been written again without a new time of change."""


class DamagedError(ValueError):
    """A file differs from what was written."""


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """Name, size and digest of a file."""

    name: str
    """Name in its folder."""
    bytes: int
    sha256: str
    crc32: int | None = None
    """CRC-32, with which the file is compared when it is read; None in a record that an older version has written."""

    def __post_init__(self) -> None:
        is_name = isinstance(self.name, str) and self.name not in ("", ".", "..") and Path(self.name).name == self.name
        is_sum = isinstance(self.crc32, int | None)
        if not (is_name and is_sum and isinstance(self.bytes, int) and isinstance(self.sha256, str)):
            raise ValueError(f"{self.name!r} is not a file with its size and SHA-256")

    @classmethod
    def of(cls, path: Path) -> "FileDigest":
        """Describe a file on the disk."""
        return cls(name=path.name, bytes=path.stat().st_size, sha256=file_sha256(path), crc32=file_crc32(path))

    def is_of(self, path: Path) -> bool:
        """Tell whether a file is as described. A process reads it once, unless it is written again.

        Raises:
            OSError: it cannot be read.
        """
        stat = path.stat()
        if stat.st_size != self.bytes:
            return False
        version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if time.time_ns() - stat.st_ctime_ns < _RECENT_NS:  # it may be written again without a new time of change
            return self._is_same_content(path)
        return self._is_of_version(path, version)

    @lru_cache(maxsize=4096)  # noqa: B019  a few small records
    def _is_of_version(self, path: Path, version: tuple[int, ...]) -> bool:  # noqa: ARG002 - the cache tells versions apart by it
        return self._is_same_content(path)

    def _is_same_content(self, path: Path) -> bool:
        return file_sha256(path) == self.sha256 if self.crc32 is None else file_crc32(path) == self.crc32


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that no reader ever sees half of it."""
    with replacing(Path(path)) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, several_writers: bool = False) -> Iterator[Path]:
    """Give a path to write to; it is renamed to `path` when the block ends well, and removed when it raises.

    The content is flushed to the disk before the file is renamed, and the new name before this returns: after a loss of
    power the old or the new file is there.

    Args:
        several_writers: two processes may write the same file at the same time, each under a name of its own; the last
            one to finish wins. Otherwise a half-written file that a kill left behind is written over.

    Raises:
        ValueError: a pipe or a device.
    """
    if _is_device(path):  # a file would take the place of /dev/stdout itself, for all programs
        raise ValueError(f"{path}: a pipe or a device; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial" if several_writers else f"{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        with _relisted(path):
            partial.replace(path)
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into; it takes the place of `folder` when the block ends well, and is removed when
    it raises. Its files are on the disk before its name is. For one process at a time."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in (*partial.rglob("*"), partial):
            _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(folder: Path, verb: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process; the lock ends with the process, however it ends.

    Args:
        verb: the command that works in such folders, for the error message: `polyglance study run`.
        wait: wait for the process that holds the folder, instead of raising.

    Raises:
        ValueError: another process works in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            lock(file, wait=wait)
        except BlockingIOError:
            raise ValueError(f"{folder}: another `{verb}` works on it; wait, or stop it") from None
        yield


def lock(file: IO[Any], *, wait: bool = True) -> None:
    """Lock an open file for this process until it is closed.

    Raises:
        BlockingIOError: another process holds it, and `wait` is False.
    """
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, values: Any, *, indent: int | None = 1) -> None:
    """Write plain values as JSON, with a line feed at the end, whole or not at all."""
    write_atomically(path, _format_json(values, indent))


def _format_json(values: Any, indent: int | None) -> str:
    return json.dumps(values, indent=indent, ensure_ascii=False) + "\n"


def read_text(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> str:
    """Read a UTF-8 file. A gzip file (ends in `.gz`, or begins as gzip files do) is unpacked.

    Args:
        max_bytes: largest text, after unpacking.

    Raises:
        DamagedError: the folder has a digest of the file, and it is another.
        ValueError: no such file, damaged, too large, or not UTF-8: one line with file and line.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _read_at_most(file, max_bytes, path)
        _compare(path, content)
        if path.suffix == ".gz" or content.startswith(_GZIP):
            with gzip.open(io.BytesIO(content)) as unpacked:  # a pipe cannot be opened twice
                content = _read_at_most(unpacked, max_bytes, path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: is a folder; expected a file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})") from None


def _read_at_most(file: Any, max_bytes: int, path: Path) -> bytes:
    content: bytes = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path}: larger than {max_bytes / 2**20:,.0f} MiB, the most that is read here")
    return content


def read_json(path: str | Path, *, max_bytes: int = _MAX_BYTES) -> Any:
    """Read a JSON file, plain or gzip.

    Raises:
        ValueError: as `read_text` and `parse_json`: one line with file and place.
    """
    return parse_json(read_text(path, max_bytes=max_bytes), str(path))


def parse_json(text: str, where: str) -> Any:
    """Parse JSON text.

    Args:
        where: file, or file and line, for the error message.

    Raises:
        ValueError: not JSON, nested too deeply, a number with thousands of digits, or a key that occurs twice in one
            object. The standard library would keep the last value of such a key and lose the others silently.
    """
    try:
        values = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        place = where if "\n" not in text else f"{where}:{error.lineno}"
        raise ValueError(f"{place}: not valid JSON ({error.msg} at column {error.colno})") from None
    except _RepeatedKeyError as error:
        raise ValueError(f"{where}: the key {error.args[0]!r} occurs more than once in an object") from None
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON (nested too deeply)") from None
    except ValueError as error:  # a whole number of more digits than Python reads
        raise ValueError(f"{where}: not valid JSON ({error})") from None
    if isinstance(values, (dict, list)) and _is_deep(values):
        raise ValueError(f"{where}: not valid JSON (nested too deeply)")
    return values


def _is_deep(values: Any) -> bool:
    """Tell whether JSON values are nested more deeply than `_MAX_DEPTH`."""
    level = [values]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            value
            for outer in level
            for value in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(value, (dict, list))
        ]
        if not level:
            return False
    return True


class _RepeatedKeyError(Exception):
    """An object of a JSON text has two values for one key."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _RepeatedKeyError(key)
        values[key] = value
    return values


def write_record(path: str | Path, values: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write plain values as JSON with a seal: the SHA-256 of their content, which does not depend on its formatting."""
    write_atomically(path, format_record(values, indent=indent))


def format_record(values: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return a record as the JSON text that `write_record` writes."""
    return _format_json({**values, _SEAL: _compute_seal(values)}, indent)


def read_record(path: str | Path) -> dict[str, Any]:
    """Read an object from a JSON file, and compare it with its seal, which is left out of the result. A file without a
    seal, as older versions have written it, is read as it is.

    Raises:
        DamagedError: the content differs from the one that was sealed.
        ValueError: as `read_json`, or no object.
    """
    return unseal(read_json(path), str(path))


def unseal(values: Any, where: str) -> dict[str, Any]:
    """Compare the values of a record with their seal, and return them without it.

    Raises:
        DamagedError: the content differs from the one that was sealed.
        ValueError: no object.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object with names and values")
    seal = values.pop(_SEAL, None)
    if seal is not None and seal != _compute_seal(values):
        raise DamagedError(f"{where}: damaged (its content differs from what was written)")
    return values


def _compute_seal(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    # As it is read back: keys are texts, tuples are lists.
    text = json.dumps(json.loads(text), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seal_files(folder: Path, names: Iterable[str]) -> None:
    """List files of a folder in its `polyglance-digests.json`, with their present digests. Others stay as listed. The
    list itself is not listed, if `names` has it."""
    chosen = [name for name in names if name != DIGESTS_NAME]
    listed = {**read_digests(folder), **{name: FileDigest.of(folder / name) for name in chosen}}
    listed.pop(DIGESTS_NAME, None)  # older versions listed it in folders that were sealed twice
    _write_digests(folder, listed)


def unlist_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files that are about to change from the list of their folder, if it has one."""
    gone, listed = set(names), read_digests(folder)
    if not gone.isdisjoint(listed):
        _write_digests(folder, {name: file for name, file in listed.items() if name not in gone})


def read_digests(folder: Path) -> Mapping[str, FileDigest]:
    """Return the listed files of a folder by name; empty where it has no `polyglance-digests.json`.

    Raises:
        DamagedError: `polyglance-digests.json` itself is damaged.
    """
    path = folder / DIGESTS_NAME
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return _read_digests(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


def check_digest(path: Path) -> None:
    """Compare a file with its digest, if its folder lists one.

    Raises:
        DamagedError: it differs.
    """
    listed = read_digests(path.parent).get(path.name)
    if listed is not None and not listed.is_of(path):
        raise _differs(path)


def check_output_file(path: Path, option: str, endings: Sequence[str]) -> None:
    """Refuse a file that cannot be written, because it is a folder, a device or a URL or stands in a file, and a name
    with the ending of another content. Names without a known ending are allowed.

    Args:
        option: the option that names it, for the message.
        endings: endings of its content, such as .json.
    """
    _refuse_url(path, option)
    if path.is_dir() or _is_device(path):
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"{option} {path}: {kind}; name a file that ends in {' or '.join(endings)}")
    if place := _find_obstacle(path.parent):
        raise ValueError(f"{option} {path}: {place}; name a file in a folder")
    if path.suffix.lower() in _KNOWN_ENDINGS - set(endings):
        raise ValueError(f"{option} {path}: expected a file name that ends in {' or '.join(endings)}")


def check_output_folder(folder: Path, option: str, names: Sequence[str] = (), *, is_chosen: bool = True) -> None:
    """Refuse a folder that cannot be made, because it, or one that it is in, is a file or a link to nothing, or it is a
    URL, and a new one with the name of a file, such as scores.json.

    Args:
        option: the option that names it, for the message.
        names: files that will be written into it; a folder of such a name is refused.
        is_chosen: whether the option gives its name. One that is named after something else may end as a file does.
    """
    _refuse_url(folder, option)
    if place := _find_obstacle(folder):
        raise ValueError(f"{option} {folder}: {place}; name a folder")
    if is_chosen and folder.suffix.lower() in _KNOWN_ENDINGS and not folder.exists():
        raise ValueError(f"{option} {folder}: the name of a file; expected that of a folder, without {folder.suffix}")
    if taken := next((folder / name for name in names if (folder / name).is_dir()), None):
        raise ValueError(f"{option} {folder}: {taken} is a folder, where a file will be written; name another folder")


def _refuse_url(path: Path, option: str) -> None:
    """Refuse a URL, for which a folder such as `s3:` would be made on this machine."""
    if _URL.fullmatch(str(path)):
        raise ValueError(f"{option} {path}: a URL; results are written to folders of this machine")


def _is_device(path: Path) -> bool:
    """Tell whether a name is that of a pipe or a device, or of a link to one such as /dev/stdout."""
    is_special = path.exists() and not path.is_file() and not path.is_dir()
    return is_special or path.absolute().parent in (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))


def _find_obstacle(folder: Path) -> str:
    """Describe the file, or link to nothing, that stands where a folder, or one that it is in, is to be; or nothing."""
    place = next((place for place in (folder, *folder.parents) if place.exists() or place.is_symlink()), None)
    if place is None or place.is_dir():
        return ""
    return f"{place} is {'a file' if place.exists() else 'a link to nothing'}"


@contextmanager
def checked_folder(folder: Path) -> Iterator[None]:
    """Compare the listed files of a folder with their digests while the block reads them: another thread does it, so
    that large files are read once and the block is not held up.

    Raises:
        DamagedError: at the end of the block, also in place of an error that a damaged file has caused in it.
    """
    listed = read_digests(folder)
    problems: list[Exception] = []

    def check() -> None:
        try:
            for name in listed:
                check_digest(folder / Path(name).name)
        except FileNotFoundError as error:
            problems.append(DamagedError(f"{error.filename}: missing; {folder / DIGESTS_NAME} lists it"))
        except (OSError, ValueError) as error:
            problems.append(error)

    thread = threading.Thread(target=check, name="digests", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if problems:
            raise problems[0] from None


def _differs(path: Path) -> DamagedError:
    return DamagedError(
        f"{path}: damaged or changed: it differs from what was written. Restore it or make it again; to use it as it "
        f"is, remove {path.parent / DIGESTS_NAME}"
    )


def _compare(path: Path, content: bytes) -> None:
    """Compare the content of a file with its digest, if its folder lists one."""
    listed = read_digests(path.parent).get(path.name) if path.name != DIGESTS_NAME else None
    if listed is None:
        return
    if listed.crc32 is not None:
        is_same = crc32(content) == listed.crc32
    else:  # a list of an older version
        is_same = hashlib.sha256(content).hexdigest() == listed.sha256
    if not is_same:
        raise _differs(path)


@lru_cache(maxsize=64)
def _read_digests(path: Path, size_bytes: int, changed_ns: int, inode: int) -> Mapping[str, FileDigest]:  # noqa: ARG001 - the cache tells versions of the file apart by them
    try:
        values = read_record(path)
        files = [FileDigest(**entry) for entry in values.pop("files")]
        if values:
            raise ValueError(f"{min(values)!r}")
        return {str(file.name): file for file in files}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path}: damaged ({error}); remove it to use the files beside it as they are") from None


def _write_digests(folder: Path, listed: Mapping[str, FileDigest]) -> None:
    write_record(folder / DIGESTS_NAME, {"files": [asdict(listed[name]) for name in sorted(listed)]})


@contextmanager
def _relisted(path: Path) -> Iterator[None]:
    """Remove a listed file from the list while the block replaces it, and list the new one afterwards."""
    is_listed = path.name != DIGESTS_NAME and path.name in read_digests(path.parent)
    if is_listed:
        unlist_files(path.parent, [path.name])
    yield
    if is_listed:
        seal_files(path.parent, [path.name])


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot do it for folders
            raise
    finally:
        os.close(descriptor)
