"""Rows of images with texts beside them under the same name: in a folder, in tars (WebDataset), in a zip.

    a.png  a.en.txt  a.de.txt        columns en and de, a text on each line
    a.png  a.txt  a.json             column txt, and a column for each key of the object

Texts belong to the image whose name they have as a whole (`a.b.en.txt` to `a.b.png`); if there is none, to the one
image that has their name up to the first dot, as in WebDataset. Members of an archive may be in any order. Their names
are keys, never paths.
"""

import hashlib
import io
import posixpath
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from polyglance.data.row_sources.row_source import SAMPLE_ROWS, RowSource
from polyglance.data.sources.raw_images import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    TEXT_SUFFIXES,
    find_column,
    resolve_inside,
)
from polyglance.data.sources.source import list_files
from polyglance.data.sources.webdataset import read_members
from polyglance.encodings import DAMAGE, TextFormat, decode_or_keep, detect_encoding, transcode
from polyglance.files import parse_json
from polyglance.language_tags import parse_language_tag
from polyglance.languages import LANGUAGES
from polyglance.records import Drops
from polyglance.tables import TABLE_SUFFIXES, TableRow

__all__ = ["METADATA", "TAR_SUFFIXES", "TextsBeside", "find_tars", "match_texts"]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_MAX_TEXT_BYTES = 2**24
_HEAD_BYTES = 2**16
_SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini")
_TWICE = "a file that is twice in its archive"
_NEITHER = "neither an image nor <name>.<language>.txt"
_SYSTEM = "a file that macOS or Windows left there"


class _Files(ABC):
    """The files of a folder or archive.

    Args:
        path: the folder or archive.
        prefix: beginning of the keys of its images.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix
        self.problems: list[TableRow] = []

    @abstractmethod
    def list_names(self) -> list[str]:
        """List the names of all files that can be used, in order; others go to `problems`."""

    @abstractmethod
    def read_text(self, name: str) -> bytes:
        """Read a file of text.

        Raises:
            ValueError, OSError: it cannot be read; a short reason by which files are counted.
        """

    @abstractmethod
    def read_images(self, names: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
        """Yield images in order: name, and path below the folder or bytes."""


class _Folder(_Files):
    def list_names(self) -> list[str]:
        return list_files(self.path)

    def read_text(self, name: str) -> bytes:
        file = resolve_inside(self.path.resolve(), name)
        if file is None:
            raise ValueError("a path that leads out of the folder")
        if file.stat().st_size > _MAX_TEXT_BYTES:
            raise ValueError("a text of too many bytes")
        return file.read_bytes()

    def read_images(self, names: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
        return ((name, name) for name in names)


class _Zip(_Files):
    def list_names(self) -> list[str]:
        try:
            with ZipFile(self.path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        except BadZipFile as error:
            raise ValueError(f"{self.path}: not a zip, or damaged ({error})") from None
        if any(entry.flag_bits & 1 for entry in entries):
            raise ValueError(f"{self.path}: its files are encrypted; unpack it and give the folder")
        digests: dict[str, str] = {}
        for entry in entries:
            if not posixpath.basename(entry.filename).startswith("."):
                _add_member(self, entry.filename, entry.file_size, f"{entry.CRC} {entry.file_size}", digests)
        return [name for name, digest in digests.items() if digest]

    def read_text(self, name: str) -> bytes:
        with ZipFile(self.path) as archive:
            return _read_zipped(archive, name)

    def read_images(self, names: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
        with ZipFile(self.path) as archive:
            for name in names:
                try:
                    yield name, _read_zipped(archive, name)
                except ValueError:
                    yield name, b""


def _read_zipped(archive: ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (BadZipFile, NotImplementedError, RuntimeError, *DAMAGE) as error:
        raise ValueError(f"damaged in its archive ({error})"[:200]) from None


def _add_member(files: _Files, name: str, size: int, digest: str, digests: dict[str, str]) -> None:
    """Note a member's digest; an empty one for a name with several contents."""
    limit = MAX_FILE_BYTES if _is_image(name) else _MAX_TEXT_BYTES
    where = f"{files.path.name}:{name}"
    if size > limit:
        files.problems.append(TableRow(where=where, values={}, problem="a file of too many bytes"))
    elif name not in digests:
        digests[name] = digest
    elif digests[name] == digest:
        files.problems.append(TableRow(where=where, values={}, problem=f"{_TWICE}, the same"))
    else:
        if digests[name]:
            files.problems.append(TableRow(where=where, values={}, problem=f"{_TWICE}, with different contents"))
        files.problems.append(TableRow(where=where, values={}, problem=f"{_TWICE}, with different contents"))
        digests[name] = ""


def _read_tar(path: Path, drops: Drops) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of a tar's files. `./a.png` is `a.png`, as `tar` names the same file in two ways."""
    for name, data in read_members(path, drops):
        yield name.removeprefix("./"), data


class _Tar(_Files):
    """A tar, read front to back twice: first its texts, then its images."""

    def list_names(self) -> list[str]:
        self._texts: dict[str, bytes] = {}
        digests: dict[str, str] = {}
        drops = Drops(max_examples=2**20)
        for name, data in _read_tar(self.path, drops):
            _add_member(self, name, len(data), hashlib.sha256(data).hexdigest(), digests)
            if not _is_image(name) and digests.get(name):
                self._texts[name] = data
        for reason, places in drops.examples.items():
            self.problems += [TableRow(where=place, values={}, problem=reason) for place in places]
        return [name for name, digest in digests.items() if digest]

    def read_text(self, name: str) -> bytes:
        return self._texts[name]

    def read_images(self, names: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
        wanted = set(names)
        for name, data in _read_tar(self.path, Drops()):
            if name in wanted:
                wanted.discard(name)
                yield name, data


@dataclass
class _Matched:
    """Files of a folder or archive, matched by their names."""

    images: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Image -> its texts: file and column."""
    problems: list[TableRow] = field(default_factory=list)


class TextsBeside(RowSource):
    """Images with texts under the same names.

    Args:
        path: a folder of images, a tar, a folder of tars, or a zip.
        encoding: codec of the texts; `auto`: of each found from its first bytes.

    Raises:
        ValueError: nothing in it, or a table of metadata inside an archive.
    """

    def __init__(self, path: Path, *, encoding: str = "auto") -> None:
        self.path, self._encoding = path, encoding
        self._found: set[str] = set()
        self.holds_images = path.is_file() or _has_tars(path)
        if self.holds_images:
            found = [path] if path.is_file() else find_tars(path)
            self._files: list[_Files] = [
                (_Zip if file.suffix.lower() == ".zip" else _Tar)(file, f"{file.name}/" * (len(found) > 1))
                for file in found
            ]
        else:
            if not list_files(path):
                raise ValueError(f"{path}: the folder is empty")
            self._files = [_Folder(path)]

    def describe(self) -> str:
        encodings = f", texts in {', '.join(sorted(self._found))}" if self._found else ""
        if not self.holds_images:
            return f"a folder of images with texts beside them{encodings}"
        kind = "zip" if isinstance(self._files[0], _Zip) else "tar"
        return f"images with texts beside them, {kind} files: {len(self._files)}{encodings}"

    def names(self) -> list[str] | None:
        return None

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:  # noqa: ARG002 - texts are small
        for files in self._files:
            matched = self._match(files)
            yield from matched.problems
            for name, image in files.read_images(list(matched.images)):
                yield from self._make_rows(files, name, image, matched.images[name])

    def sample(self) -> list[Mapping[str, Any]]:
        rows = (
            row
            for files in self._files
            for name, texts in self._match(files).images.items()
            for row in self._make_rows(files, name, name, texts)
        )
        first = [row.values for row in islice(rows, SAMPLE_ROWS) if not row.problem]
        if 0 < len(first) < SAMPLE_ROWS and not any(values.keys() - {"image", "key"} for values in first):
            tables = [name for name in self._files[0].list_names() if name.lower().endswith(TABLE_SUFFIXES)]
            hint = f"; to read {tables[0]}, give it as the table" if tables else ""
            raise ValueError(
                f"{self.path}: no image has texts beside it (a.en.txt for a.png), nor is there metadata{hint}"
            )
        return first

    def _match(self, files: _Files) -> _Matched:
        files.problems.clear()
        names = files.list_names()
        metadata = next((name for name in names if posixpath.basename(name).lower() in METADATA), None)
        if metadata is not None and not isinstance(files, _Folder):
            raise ValueError(f"{files.path}: holds the table {metadata}; unpack it and give the folder as images")
        matched = match_texts(names, by_first_dot=isinstance(files, _Tar))
        where = "" if isinstance(files, _Folder) else f"{files.path.name}:"
        matched.problems = files.problems + [
            TableRow(where=where + row.where, values={}, problem=row.problem, detail=row.detail)
            for row in matched.problems
        ]
        return matched

    def _make_rows(
        self, files: _Files, name: str, image: str | bytes, texts: Sequence[tuple[str, str]]
    ) -> Iterator[TableRow]:
        """Yield a row for each text that cannot be read, then the row of the image."""
        where = name if isinstance(files, _Folder) else f"{files.path.name}:{name}"
        values: dict[str, Any] = {}
        for text, column in texts:
            try:
                data = files.read_text(text)
                form = detect_encoding(data[:_HEAD_BYTES], self._encoding)
                self._found.add(form.encoding)
                found = _parse_text(data, text, column, form)
            except (ValueError, OSError) as error:
                place = text if isinstance(files, _Folder) else f"{files.path.name}:{text}"
                reason, _, detail = str(error).partition(": ")
                yield TableRow(where=place, values={}, problem=reason, detail=detail)
                continue
            for key, value in found.items():
                values[key if key not in values else f"{column}.{key}"] = value
        key = values.pop("key", None) or (name if isinstance(files, _Folder) else files.prefix + name)
        yield TableRow(where=where, values={**values, "image": image, "key": key})


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _has_tars(folder: Path) -> bool:
    return any(child.is_file() and child.name.lower().endswith(TAR_SUFFIXES) for child in folder.iterdir())


def find_tars(folder: Path) -> list[Path]:
    """List the tars of a folder in the order of their names."""
    return sorted(child for child in folder.iterdir() if child.name.lower().endswith(TAR_SUFFIXES))


def match_texts(names: Sequence[str], *, by_first_dot: bool) -> _Matched:
    """Match files of text to images by their names (see the module).

    Args:
        by_first_dot: names up to the first dot make a sample, where no image has the whole name.
    """
    of_system = [name for name in names if _is_system_file(name)]
    names = [name for name in names if not _is_system_file(name)]
    matched = _Matched({name: [] for name in names if _is_image(name)})
    matched.problems += [TableRow(where=name, values={}, problem=_SYSTEM) for name in of_system]
    stems: defaultdict[str, list[str]] = defaultdict(list)
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for name in matched.images:
        stems[posixpath.splitext(name)[0]].append(name)
        keys[_find_key(name)].append(name)
    orphans: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        if _is_image(name):
            continue
        if not _is_text(name):
            matched.problems.append(TableRow(where=name, values={}, problem=_NEITHER))
            continue
        stem = next((stem for stem in _stems(name) if stem in stems), "")
        owners = stems[stem] if stem else keys.get(_find_key(name), []) if by_first_dot else []
        column = find_column(name.removeprefix(f"{stem or _find_key(name)}."))
        if len(owners) == 1:
            matched.images[owners[0]].append((name, column))
        elif owners:
            detail = f"images: {', '.join(owners[:3])}"
            matched.problems.append(TableRow(where=name, values={}, problem="a text of several images", detail=detail))
        else:
            below, _, last = posixpath.splitext(name)[0].rpartition(".")
            if below and "/" not in last:
                orphans[below].append(last)
            else:
                matched.problems.append(TableRow(where=name, values={}, problem=_NEITHER))
    for stem, columns in orphans.items():
        detail = f"no image beside the texts in {', '.join(columns)}"
        matched.problems.append(TableRow(where=stem, values={}, problem="texts without an image", detail=detail))
    return matched


def _is_system_file(name: str) -> bool:
    """Tell whether a file is a system file of macOS or Windows: `._a.png`, `__MACOSX/...`, `Thumbs.db`."""
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" in parts or parts[-1].startswith("._") or parts[-1].lower() in _SYSTEM_FILES


def _find_key(name: str) -> str:
    """Return the key of a sample of WebDataset: the name up to the first dot of its last part."""
    folder, last = posixpath.split(name)
    return posixpath.join(folder, last.partition(".")[0])


def _stems(name: str) -> Iterator[str]:
    """Yield possible names of a text's image without extension, the longest first."""
    folder, last = posixpath.split(name)
    parts = last.split(".")
    for length in range(len(parts) - 1, 0, -1):
        yield posixpath.join(folder, ".".join(parts[:length]))


def _is_text(name: str) -> bool:
    """Tell whether a file is read as text: by its extension, which may be a language (`a.en`)."""
    suffix = posixpath.splitext(name)[1].lower()
    if suffix in TEXT_SUFFIXES:
        return True
    tag = parse_language_tag(suffix[1:]) if len(suffix) > 1 else None
    return tag is not None and tag.language in LANGUAGES


def _parse_text(data: bytes, name: str, column: str, form: TextFormat) -> dict[str, Any]:
    """Parse a file of text: its lines that are not blank, or the keys of its object.

    Raises:
        ValueError: broken JSON.
    """
    with transcode(io.BytesIO(data), form) as file:
        text = file.read()
    if not name.lower().endswith(".json"):
        return {column: [decode_or_keep(line) for line in text.split(b"\n") if line.strip()]}
    values = _parse_object(text, name)
    return values if column == "json" else {f"{column}.{key}": value for key, value in values.items()}


def _parse_object(text: bytes, name: str) -> dict[str, Any]:
    try:
        values = parse_json(text.decode(), name)
    except UnicodeDecodeError:
        raise ValueError("broken JSON: not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"broken JSON: {str(error).removeprefix(f'{name}: ')}") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values
