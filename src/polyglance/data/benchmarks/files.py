"""How the published files of benchmarks are found and read, and what is said where they are missing or damaged.

Texts are cut into lines at line feeds only: other characters that Python counts as line breaks (U+2028, CR, FF, VT)
occur inside captions, and a reader that cuts there shifts every later line to the wrong image.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.data.benchmarks.benchmark import ExpectedFile
from polyglance.languages import did_you_mean

__all__ = [
    "Needed",
    "check_choice",
    "check_size",
    "check_unique",
    "image_paths",
    "non_empty",
    "read_json",
    "read_json_lines",
    "read_lines",
    "read_parallel_lines",
    "require",
    "text_field",
]

_NAMED = 3
"""How many missing images an error names."""


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A file or a folder of images, with every path below the root under which people have it."""

    paths: tuple[str, ...]
    """First the layout of the published evaluation (official code, section 4.3), then those of the downloads."""
    published_at: str
    """Where its publishers offer it."""
    each: str = ""
    """For a folder: the name of its files, such as `<key>.jpg`."""

    @property
    def expected(self) -> ExpectedFile:
        path = f"{self.paths[0]}/{self.each}" if self.each else self.paths[0]
        return ExpectedFile(path=path, published_at=self.published_at)

    def found(self, root: Path) -> list[Path]:
        """What there is of it below `root`, in the order of `paths`; a file may also lie there without its `.gz`."""
        if self.each:
            return [root / path for path in self.paths if (root / path).is_dir()]
        names = (name for path in self.paths for name in (path, path.removesuffix(".gz")))
        return [root / name for name in dict.fromkeys(names) if (root / name).is_file()]


def require(root: Path, label: str, needed: Sequence[Needed]) -> list[Path]:
    """The path of each needed file or folder, before any of them is read.

    Args:
        label: benchmark, split and language, for the message.

    Raises:
        ValueError: some are not there; the message lists all of them, with where they are published.
    """
    found = [item.found(root) for item in needed]
    missing = [item.expected for item, paths in zip(needed, found, strict=True) if not paths]
    if missing:
        by_source: dict[str, list[str]] = {}
        for file in missing:
            by_source.setdefault(file.published_at, []).append(file.path)
        listed = "; ".join(f"{', '.join(paths)} (published at {source})" for source, paths in by_source.items())
        raise ValueError(f"{label}: missing below {root}: {listed}")
    return [paths[0] for paths in found]


def image_paths(root: Path, label: str, folder: Needed, names: Sequence[str]) -> list[Path]:
    """The image file of each name, looked for in every folder that `folder` may be.

    A name is only ever compared with the names in a folder, so one such as `../x.jpg` leads nowhere.

    Raises:
        ValueError: images are missing: how many, the first few, and where they are published.
    """
    paths: dict[str, Path] = {}
    folders = folder.found(root)
    for directory in reversed(folders):  # the first folder has the last word
        paths.update((path.name, path) for path in directory.iterdir())
    missing = [name for name in dict.fromkeys(names) if name not in paths]
    if missing:
        places = ", ".join(str(directory.relative_to(root)) for directory in folders) or folder.paths[0]
        shown = ", ".join(missing[:_NAMED]) + (" ..." if len(missing) > _NAMED else "")
        raise ValueError(
            f"{label}: {len(missing):,} of {len(set(names)):,} images are missing below {root}: {shown}; "
            f"looked in {places}; published at {folder.published_at}"
        )
    return [paths[name] for name in names]


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file (plain, or gzip where it ends in `.gz`), without white space at their ends.

    Raises:
        ValueError: the file is damaged, not UTF-8, or a line of it is empty.
    """
    raw = _read_bytes(path).split(b"\n")
    if raw[-1] == b"":
        raw.pop()
    lines = []
    for row, line in enumerate(raw, 1):
        text = _decoded(line, f"{path}:{row}").strip()
        if not text:
            raise ValueError(f"{path}:{row}: this line is empty")
        lines.append(text)
    return lines


def read_parallel_lines(paths: Sequence[Path], size: int) -> list[list[str]]:
    """The lines of files that belong together line by line.

    Raises:
        ValueError: as `read_lines`; or the files are not equally long, or not as long as the split is known to be.
    """
    columns = [read_lines(path) for path in paths]
    for path, column in zip(paths, columns, strict=True):
        if len(column) != len(columns[0]):
            raise ValueError(
                f"{path}: {len(column):,} lines, but {paths[0].name} has {len(columns[0]):,}; "
                "the files belong together line by line"
            )
    check_size(paths[0], len(columns[0]), size, "lines")
    return columns


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: damaged, not UTF-8 or not JSON.
    """
    return _parsed(_decoded(_read_bytes(path), str(path)), str(path))


def read_json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place (`file:row`) and object of each line of a JSON lines file.

    Raises:
        ValueError: damaged, not UTF-8, or a line that is not a JSON object.
    """
    for row, line in enumerate(read_lines(path), 1):
        where = f"{path}:{row}"
        record = _parsed(line, where)
        if not isinstance(record, dict):
            raise ValueError(f"{where}: expected a JSON object, got {type(record).__name__}")
        yield where, record


def text_field(record: object, key: str, where: str) -> str:
    """A field that must be there and be text.

    Raises:
        ValueError: it is not.
    """
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, str):
        found = "is missing" if value is None else f"is {type(value).__name__}, not text"
        raise ValueError(f"{where}: the field {key!r} {found}")
    return value


def non_empty(texts: object, where: str) -> tuple[str, ...]:
    """References as they are scored: without white space at their ends.

    Raises:
        ValueError: not a list of texts, there are none, or one of them is empty.
    """
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: expected a list of texts")
    if not texts:
        raise ValueError(f"{where}: no reference")
    stripped = tuple(text.strip() for text in texts)
    if "" in stripped:
        raise ValueError(f"{where}: reference {stripped.index('') + 1} of {len(stripped)} is empty")
    return stripped


def check_size(path: Path, found: int, expected: int, what: str) -> None:
    """Refuse a split that is not as large as it is known to be.

    Raises:
        ValueError: it is not.
    """
    if found != expected:
        raise ValueError(f"{path}: {found:,} {what}, but this split has {expected:,}")


def check_unique(ids: Iterable[str], path: Path) -> None:
    """Refuse ids that occur twice.

    Raises:
        ValueError: some do.
    """
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: {len(repeated)} ids occur more than once, the first is {repeated[0]!r}")


def check_choice(benchmark: str, kind: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a split or language that a benchmark does not have.

    Raises:
        ValueError: with the nearest right one.
    """
    if value not in choices:
        raise ValueError(f"{benchmark} has no {kind} {value!r}; {did_you_mean(value, choices)}")


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 (byte 0x{content[error.start]:02x} at offset {error.start})") from None


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = where if error.lineno == 1 else f"{where}:{error.lineno}"
        raise ValueError(f"{place}: not valid JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON (nested too deeply)") from None
