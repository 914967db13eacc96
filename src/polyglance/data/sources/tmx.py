"""Reader of Translation Memory eXchange 1.4 (LISA, 2005), streamed: two languages of a file with any number.

The parser is expat, event by event. A file that declares entities is refused, so none are expanded. External DTDs are
not read. A file with a tag that does not end is refused before it fills the memory.
"""

import codecs
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.parsers import expat

__all__ = ["TranslationUnit", "read_tmx"]

_CHUNK_BYTES = 2**18
_MAX_TAG_BYTES = 2**24
"""A file with more bytes than this without a parser event is no translation memory."""
_MAX_TEXT_CHARACTERS = 2**20
_CODE_ELEMENTS = frozenset({"bpt", "ept", "it", "ph", "ut"})
"""Inline elements that hold codes of the text's original format; `hi` and `sub` hold text."""
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslationUnit:
    """One `tu`: its texts in the two languages, or the problem."""

    line: int
    english: str = ""
    other: str = ""
    problem: str = ""


def read_tmx(file: IO[bytes], path: Path, languages: tuple[str, str]) -> Iterator[TranslationUnit]:
    """Yield the translation units of a file in order, each with its two texts or a problem.

    Bytes that are no characters in the file's encoding become U+FFFD, and characters that XML forbids become spaces,
    so that they cost their own unit and not the file.

    Args:
        path: name of the file, for error messages.
        languages: values of `xml:lang`; "en" also matches "en-US" and "EN_GB". The first of several variants is read.

    Raises:
        ValueError: not well-formed, in an unknown encoding, or with declarations of entities.
    """
    start = file.read(_CHUNK_BYTES)
    decoder = codecs.getincrementaldecoder(_encoding(start, path))(errors="replace")
    units = _Units(languages=languages)
    parser = _parser(units, path)
    fed_bytes, chunk = 0, start
    try:
        while True:
            text = _NOT_XML.sub(" ", decoder.decode(chunk, final=not chunk))
            fed_bytes += len(text.encode("utf-8", "replace"))
            parser.Parse(text, not chunk)
            yield from units.take()
            if fed_bytes - parser.CurrentByteIndex > _MAX_TAG_BYTES:
                raise ValueError(f"{path}:{parser.CurrentLineNumber}: a tag of more than {_MAX_TAG_BYTES} bytes")
            if not chunk:
                return
            chunk = file.read(_CHUNK_BYTES)
    except expat.ExpatError as error:
        yield from units.take()
        raise ValueError(f"{path}:{error.lineno}: not well-formed XML ({expat.ErrorString(error.code)})") from None


def _encoding(start: bytes, path: Path) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    declared = _DECLARED.match(start.removeprefix(codecs.BOM_UTF8))
    if declared is None:
        return "utf-8-sig"
    name = declared[1].decode("ascii")
    try:
        codec = codecs.lookup(name)
    except LookupError:
        raise ValueError(f"{path}: unknown encoding {name!r}") from None
    # A declaration in single bytes rules out UTF-16; and only codecs of text are allowed (not "zip" or "rot13").
    is_text = getattr(codec, "_is_text_encoding", True)
    if not is_text or codec.name.startswith(("utf-16", "utf-32")) or codec.incrementaldecoder is None:
        raise ValueError(f"{path}: declares the encoding {name!r}, which it cannot be in")
    return "utf-8-sig" if codec.name == "utf-8" else codec.name


def _parser(units: "_Units", path: Path) -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        units.start(name, attributes, parser.CurrentLineNumber)

    def refuse(*_: object) -> None:
        raise ValueError(f"{path}:{parser.CurrentLineNumber}: declares entities, which is refused; remove its DOCTYPE")

    parser.StartElementHandler = start
    parser.EndElementHandler = units.end
    parser.CharacterDataHandler = units.text
    parser.EntityDeclHandler = refuse
    # Entities of an external DTD, which is not read; those of HTML are resolved.
    parser.SkippedEntityHandler = lambda name, is_parameter: None if is_parameter else units.text(_resolve(name))
    return parser


def _resolve(entity: str) -> str:
    reference = f"&{entity};"
    resolved = html.unescape(reference)
    return "\ufffd" if resolved == reference else resolved


@dataclass(kw_only=True)
class _Units:
    """Collects translation units from the parser's events."""

    languages: tuple[str, str]
    done: list[TranslationUnit] = field(default_factory=list)
    line: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    """Side (0 or 1) -> text, of the open unit."""
    side: int | None = None
    """Side of the open `tuv`; None for another language or a second variant."""
    num_codes: int = 0
    """Open inline elements that hold codes."""
    pieces: list[str] | None = None
    """Texts of the open `seg`; None if none is open."""
    num_characters: int = 0

    def take(self) -> list[TranslationUnit]:
        done, self.done = self.done, []
        return done

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        if name == "tu":
            self.line, self.texts = line, {}
        elif name == "tuv":
            self.side = self._find_side(attributes.get("xml:lang") or attributes.get("lang") or "")
        elif name == "seg" and self.side is not None:
            self.pieces, self.num_characters = [], 0
        elif name in _CODE_ELEMENTS:
            self.num_codes += 1

    def _find_side(self, tag: str) -> int | None:
        tag = tag.replace("_", "-").lower()
        for side, name in enumerate(self.languages):
            name = name.replace("_", "-").lower()
            if tag == name or tag.startswith(f"{name}-"):
                return None if side in self.texts else side
        return None

    def text(self, text: str) -> None:
        if self.pieces is not None and not self.num_codes and self.num_characters <= _MAX_TEXT_CHARACTERS:
            self.pieces.append(text)
            self.num_characters += len(text)

    def end(self, name: str) -> None:
        if name in _CODE_ELEMENTS:
            self.num_codes -= 1
        elif name == "seg" and self.pieces is not None and self.side is not None:
            self.texts[self.side] = "".join(self.pieces)
            self.pieces = None
        elif name == "tuv":
            self.side = None
        elif name == "tu":
            self._finish()

    def _finish(self) -> None:
        missing = [self.languages[side] for side in (0, 1) if side not in self.texts]
        if missing:
            problem = f"no text in {' and '.join(missing)}"
            self.done.append(TranslationUnit(line=self.line, problem=problem))
        else:
            self.done.append(TranslationUnit(line=self.line, english=self.texts[0], other=self.texts[1]))
