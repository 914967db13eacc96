"""Texts with ids as a file holds them, and how a file should be read."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from polyglance.encodings import (
    COMPRESSED_SUFFIXES,
    DAMAGE,
    TextFormat,
    detect_encoding,
    detect_text_format,
    find_binary,
    open_utf8,
    transcode,
)
from polyglance.files import parse_json

__all__ = [
    "Entry",
    "FormContent",
    "Id",
    "ReadOptions",
    "TextFile",
    "TextForm",
    "TextLayout",
    "TextRole",
    "TextSet",
    "name_type",
]

_HEAD_BYTES = 2**16

Id = int | str
"""Id of a segment as its file spells it. Ids are compared as strings, so 42 and "42" are the same."""
Entry = tuple[Id, tuple[str, ...]]
"""One record of a file: an id and its texts."""
TextRole = Literal["predictions", "references"]
TextLayout = Literal["ids", "lines", "markup", "fairseq"]
"""Meaning of ids. `ids`: the file's own. `lines`: positions from 1. `markup`: document and segment, in the order of the
test set. `fairseq`: places in the test set, from 0."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How files of texts are read, where their forms leave a choice."""

    role: TextRole = "predictions"
    text_column: tuple[str, ...] = ()
    """Columns of a table (or keys of records, systems of markup) that hold the texts; empty: told by their names."""
    id_column: str = ""
    """Column or key of the ids; empty: told by its name."""
    split: str = ""
    """Split of a file or folder that holds several."""
    split_is_chosen: bool = False
    """Whether a file or a key of the split's name was chosen already, so that its rows may name other things."""
    language: str = ""
    """Language of the texts, for files that hold several."""
    as_lines: bool = False
    """Take a file of text as one text per line, whatever its lines look like."""
    split_texts: str = ""
    """Mark between several texts in one string, such as `|||`; `none`: each is one text. Empty: texts that hold such
    marks are refused."""


@dataclass(frozen=True, kw_only=True)
class FormContent:
    """Content of one file."""

    entries: Sequence[Entry]
    layout: TextLayout = "ids"
    notes: tuple[str, ...] = ()
    """Choices that were made where the file leaves one, one line each."""
    other_ids: Mapping[str, Sequence[Id]] = field(default_factory=dict)
    """Other ids of the entries, such as file names: name -> one id for each entry."""
    used: frozenset[str] = frozenset()
    """Fields of `ReadOptions` that had an effect."""


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """Texts with ids, in the order of their files and with repetitions, so that checks see what is wrong."""

    source: str
    """File names, or another name for messages."""
    entries: tuple[Entry, ...]
    layout: TextLayout = "ids"
    notes: tuple[str, ...] = ()
    other_ids: Mapping[str, Sequence[Id]] = field(default_factory=dict)
    used: frozenset[str] = frozenset()

    def by_id(self) -> Mapping[str, Sequence[str]]:
        """Return all texts of each id, in order."""
        return self._by_id

    @cached_property
    def _by_id(self) -> dict[str, list[str]]:
        texts: dict[str, list[str]] = {}
        for name, more in self.entries:
            texts.setdefault(str(name), []).extend(more)
        return texts


@dataclass(frozen=True)
class TextFile:
    """A file whose form is not known yet. What is read of it is kept, and errors name file and line."""

    path: Path

    @property
    def suffix(self) -> str:
        """Extension in small letters, without that of a compression; of a ZIP that of the file in it."""
        name = self.member or self.path.name
        name = next((name.removesuffix(end) for end in COMPRESSED_SUFFIXES if name.lower().endswith(end)), name)
        return Path(name).suffix.lower()

    @cached_property
    def member(self) -> str:
        """Name of the only file in a ZIP, as results of COCO are sent in; empty for other files.

        Raises:
            ValueError: a ZIP of several files, or a damaged one.
        """
        if self.path.suffix.lower() != ".zip" or not self.path.is_file():
            return ""
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [one.filename for one in archive.infolist() if not one.is_dir()]
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self.path}: damaged ZIP file ({error})") from None
        names = [name for name in names if not name.startswith("__MACOSX/")]
        if len(names) != 1:
            held = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(f"{self.path}: a ZIP of {len(names)} files ({held}); unpack it, and name one of them")
        return names[0]

    @cached_property
    def format(self) -> TextFormat:
        """Compression and encoding, told by the first bytes. A lone CR ends no line: it may be inside a text."""
        try:
            return TextFormat() if self.member else replace(detect_text_format(self.path), mac_lines=False)
        except FileNotFoundError:
            raise ValueError(f"{self.path}: no such file") from None
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be read ({error.strerror})") from None

    @cached_property
    def is_binary(self) -> bool:
        """Whether a file without compression begins with bytes that no text in UTF-8 has."""
        if not self.path.is_file() or self.member:
            return False
        with self.path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        if find_binary(head):
            return True
        return b"\0" in head and self.format.encoding == "utf-8" and not self.format.compression

    def describe_format(self) -> str:
        """Return the encoding in words where it is not UTF-8."""
        return f"is {self.format.encoding}" if self.format.encoding != "utf-8" else ""

    @cached_property
    def text(self) -> str:
        """Content as text, unpacked, without a byte order mark; UTF-8 unless the first bytes say another encoding.

        Raises:
            ValueError: no such file, damaged, or bytes that are not in the encoding: one line with file and line.
        """
        encoding = "utf-8"
        if self.member:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(self.member)
            form = replace(detect_encoding(content[:_HEAD_BYTES]), mac_lines=False)
            encoding = form.encoding
            with transcode(io.BytesIO(content), form) as stream:
                content = stream.read()
        else:
            encoding = self.format.encoding
            if self.path.suffix == ".gz" and self.format.compression != "gzip":
                raise ValueError(f"{self.path}: damaged or truncated gzip file (not a gzip file)")
            try:
                with open_utf8(self.path, self.format) as stream:
                    content = stream.read()
            except DAMAGE as error:
                kind = self.format.compression or "text"
                raise ValueError(f"{self.path}: damaged or truncated {kind} file ({error})") from None
        return self._decode(content, encoding)

    def _decode(self, content: bytes, encoding: str) -> str:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            byte = content[error.start]
            raise ValueError(f"{self.path}:{line}: not UTF-8 (byte 0x{byte:02x}); save it as UTF-8") from None
        if encoding != "utf-8" and "\ufffd" in text:
            line = text.count("\n", 0, text.index("\ufffd")) + 1
            raise ValueError(f"{self.path}:{line}: not {encoding}, which its first bytes say")
        return text.replace("\n\ufeff", "\n")  # marks in front of later lines come from files that were joined

    @cached_property
    def lines(self) -> list[str]:
        """Lines without their ends: LF, or CR LF where every line ends so. The last LF ends the last line."""
        if "\n" not in self.text and self.text.rstrip("\r").count("\r") > 1:
            raise ValueError(f"{self.path}: its lines end in CR alone, as on old Macs; save it with LF or CR LF")
        lines = self.text.split("\n")
        if lines[-1] == "":
            lines.pop()
        if lines and all(line.endswith("\r") for line in lines[:-1]):
            lines = [line.removesuffix("\r") for line in lines]
        return lines

    @cached_property
    def json(self) -> Any:
        """Content as JSON."""
        return parse_json(self.text, str(self.path))

    @cached_property
    def is_json(self) -> bool:
        """Whether the content is JSON of one object or list; a file named `.json` is taken for it."""
        if self.suffix == ".json":
            return True
        if not self.text.lstrip().startswith(("{", "[")):
            return False
        try:
            return isinstance(self.json, (dict, list))
        except ValueError:
            return False


@dataclass(frozen=True, kw_only=True)
class TextForm:
    """A form that files of texts have."""

    name: str
    matches: Callable[[TextFile, ReadOptions], bool]
    """Tell whether a file has this form, given that it has none of the forms before."""
    read: Callable[[TextFile, ReadOptions], FormContent]
    """Read the content; a `ValueError` with file and place where it is wrong."""


def name_type(value: Any) -> str:
    """Return the kind of a JSON value in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
