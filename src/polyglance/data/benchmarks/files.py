"""Published files of benchmarks: finding them, reading them, and one-line errors where they are missing or damaged.

Texts are cut into lines at line feeds only. Other characters that Python counts as line breaks (U+2028, CR, FF, VT)
occur inside captions; a reader that cuts there shifts every later line to the wrong image.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.data.texts.text_set import TextFile
from polyglance.files import parse_json
from polyglance.languages import did_you_mean

__all__ = [
    "PublishedFile",
    "check_choice",
    "check_references",
    "check_size",
    "check_unique",
    "find_files",
    "find_images",
    "get_text",
    "read_json_lines",
    "read_lines",
    "read_parallel_lines",
]

_NUM_NAMED = 3
"""Number of missing images that an error names."""


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file or a folder of images, with every path below the root under which people have it."""

    paths: tuple[str, ...]
    """First the layout of the published evaluation (official code, section 4.3), then those of the downloads."""
    published_at: str
    """Address where its publishers offer it."""
    each: str = ""
    """For a folder: the name of its files, such as `<key>.jpg`."""

    @property
    def path(self) -> str:
        """First path, for lists and messages; of a folder with the name of its files."""
        return f"{self.paths[0]}/{self.each}" if self.each else self.paths[0]

    def find(self, root: Path) -> list[Path]:
        """Return the paths that exist below `root`, in order. A `.gz` file may also be unpacked, without `.gz`."""
        if self.each:
            return [root / path for path in self.paths if (root / path).is_dir()]
        names = (name for path in self.paths for name in (path, path.removesuffix(".gz")))
        return [root / name for name in dict.fromkeys(names) if (root / name).is_file()]


def find_files(root: Path, label: str, files: Sequence[PublishedFile]) -> list[Path]:
    """Find each file or folder, before any of them is read.

    Args:
        label: benchmark, split and language, for the message.

    Raises:
        ValueError: some are missing; the message lists all of them, with where they are published.
    """
    existing = [file.find(root) for file in files]
    missing = [file for file, paths in zip(files, existing, strict=True) if not paths]
    if missing:
        by_address: dict[str, list[str]] = {}
        for file in missing:
            by_address.setdefault(file.published_at, []).append(file.path)
        listed = "; ".join(f"{', '.join(paths)} (published at {address})" for address, paths in by_address.items())
        raise ValueError(f"{label}: missing below {root}: {listed}")
    return [paths[0] for paths in existing]


def find_images(
    root: Path, label: str, folders: Sequence[PublishedFile], names: Sequence[tuple[str, ...]]
) -> list[Path]:
    """Find the image file of each row, in any place of any of the folders.

    A name is only compared with the names in a folder, so a name such as `../x.jpg` is never used as a path.

    Args:
        names: for each row the names that its file may have, the usual one first.

    Raises:
        ValueError: images are missing: how many, the first few, and where they are published.
    """
    places = [place for folder in folders for place in folder.find(root)]
    paths: dict[str, Path] = {}
    for place in reversed(places):  # a file in an earlier place replaces one of the same name in a later place
        paths.update((path.name, path) for path in place.iterdir())
    chosen = [next((name for name in spellings if name in paths), spellings[0]) for spellings in names]
    missing = [name for name in dict.fromkeys(chosen) if name not in paths]
    if missing:
        looked_in = ", ".join(str(place.relative_to(root)) for place in places) or folders[0].paths[0]
        shown = ", ".join(missing[:_NUM_NAMED]) + (" ..." if len(missing) > _NUM_NAMED else "")
        raise ValueError(
            f"{label}: {len(missing):,} of {len(set(chosen)):,} images are missing below {root}: {shown}; "
            f"looked in {looked_in}; published at {', '.join(folder.published_at for folder in folders)}"
        )
    return [paths[name] for name in chosen]


def read_lines(path: Path) -> list[str]:
    """Read the lines of a file of text, as `polyglance score` does, without white space at their ends.

    Raises:
        ValueError: the file is damaged, not in its encoding, empty, or a line is empty.
    """
    stripped = [line.strip() for line in TextFile(path).lines or [""]]
    if "" in stripped:
        raise ValueError(f"{path}:{stripped.index('') + 1}: this line is empty")
    return stripped


def read_parallel_lines(paths: Sequence[Path]) -> list[list[str]]:
    """Read the lines of files that belong together line by line.

    Raises:
        ValueError: as `read_lines`; or the files are not equally long.
    """
    columns = [read_lines(path) for path in paths]
    for path, column in zip(paths, columns, strict=True):
        if len(column) != len(columns[0]):
            raise ValueError(
                f"{path}: {len(column):,} lines, but {paths[0].name} has {len(columns[0]):,}; "
                "the files belong together line by line"
            )
    return columns


def read_json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Read place (`file:row`) and object of each line of a JSON lines file.

    Raises:
        ValueError: damaged, not UTF-8, or a line that is not a JSON object.
    """
    for row, line in enumerate(read_lines(path), 1):
        where = f"{path}:{row}"
        record = parse_json(line, where)
        if not isinstance(record, dict):
            raise ValueError(f"{where}: expected a JSON object, got {type(record).__name__}")
        yield where, record


def get_text(record: object, key: str, where: str) -> str:
    """Return a field that must be there and be text.

    Raises:
        ValueError: it is not.
    """
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, str):
        problem = "is missing" if value is None else f"is {type(value).__name__}, not text"
        raise ValueError(f"{where}: the field {key!r} {problem}")
    return value


def check_references(texts: object, where: str) -> tuple[str, ...]:
    """Return references as they are scored: without white space at their ends.

    Raises:
        ValueError: not a list of texts, an empty list, or an empty text in it.
    """
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: expected a list of texts")
    if not texts:
        raise ValueError(f"{where}: no reference")
    stripped = tuple(text.strip() for text in texts)
    if "" in stripped:
        raise ValueError(f"{where}: reference {stripped.index('') + 1} of {len(stripped)} is empty")
    return stripped


def check_size(path: Path, num_examples: int, expected: int) -> None:
    """Refuse a split that has not its published size.

    Raises:
        ValueError: another number of examples.
    """
    if num_examples != expected:
        raise ValueError(f"{path}: {num_examples:,} examples, but this split has {expected:,}")


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
