"""Files that other processes read: written whole or not at all, locked, hashed; JSON with errors in one line.

write_json(folder / "samples.json", counts)
with replacing(folder / "vectors.npy") as partial:   # `partial` becomes vectors.npy when the block ends well
    np.save(partial.open("wb"), vectors)
with locked(folder, "polyglance study run"):          # one process at a time
    ...
"""

import fcntl
import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

__all__ = [
    "file_sha256",
    "lock",
    "locked",
    "parse_json",
    "read_json",
    "read_text",
    "replacing",
    "replacing_folder",
    "write_atomically",
    "write_json",
]

_GZIP = b"\x1f\x8b"
"""First bytes of a gzip file."""


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that no reader ever sees half of it."""
    with replacing(Path(path)) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, several_writers: bool = False) -> Iterator[Path]:
    """Give a path to write to; it is renamed to `path` when the block ends well, and removed when it raises.

    Args:
        several_writers: two processes may write the same file at the same time, each under a name of its own; the last
            one to finish wins. Otherwise a half-written file that a kill left behind is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial" if several_writers else f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into; it takes the place of `folder` when the block ends well, and is removed when
    it raises. For one process at a time."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
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
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, values: Any, *, indent: int | None = 1) -> None:
    """Write plain values as JSON, with a line feed at the end, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=indent, ensure_ascii=False) + "\n")


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file. A gzip file (ends in `.gz`, or begins as gzip files do) is unpacked.

    Raises:
        ValueError: no such file, damaged, or not UTF-8: one line with file and line.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz" or content.startswith(_GZIP):
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})") from None


def read_json(path: str | Path) -> Any:
    """Read a JSON file, plain or gzip.

    Raises:
        ValueError: no such file, not UTF-8, not JSON, or a key that stands twice in one object: one line with file and
            place.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """Parse JSON text.

    Args:
        where: file, or file and line, for the error message.

    Raises:
        ValueError: not JSON, nested too deeply, or a key that stands twice in one object. The standard library would
            keep the last value of such a key and lose the others silently.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        place = where if "\n" not in text else f"{where}:{error.lineno}"
        raise ValueError(f"{place}: not valid JSON ({error.msg} at column {error.colno})") from None
    except _RepeatedKeyError as error:
        raise ValueError(f"{where}: the key {error.args[0]!r} stands more than once in an object") from None
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON (nested too deeply)") from None


class _RepeatedKeyError(Exception):
    """An object of a JSON text has two values for one key."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _RepeatedKeyError(key)
        values[key] = value
    return values
