"""Reader of Translation Memory eXchange 1.4 (LISA, 2005), streamed: two languages of a file with any number.

The parser is expat, event by event. Entities that a file declares are expanded if they stand for plain text; a file
with any others is refused. External DTDs are not read, and nothing is fetched. A file with a tag that does not end is
refused before it fills the memory.
"""

import codecs
import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO
from xml.parsers import expat

from polyglance.encodings import detect_encoding
from polyglance.language_tags import choose_tag

__all__ = ["TranslationUnit", "read_all_languages", "read_tmx"]

_CHUNK_BYTES = 2**18
_MAX_TAG_BYTES = 2**24
"""A file with more bytes than this without a parser event is no translation memory."""
_MAX_TEXT_CHARACTERS = 2**20
_MAX_ENTITY_CHARACTERS = 1000
_CODE_ELEMENTS = frozenset({"bpt", "ept", "it", "ph", "ut"})
"""Inline elements that hold codes of the text's original format; `hi` and `sub` hold text."""
_BREAK_MARK = re.compile(
    r"<\s*/?(br|p|div|li|tab|lb|cr|nl)\b|\\[nrt]|[\r\n\t\xa0]|&nbsp;|&#(10|13|160);|\{(nl|br|lb)\}", re.I
)
"""Codes that stand for a line break, a tab or a space."""
_CODE = "\x1e"
"""Stands for any other code in the pieces of a text; XML has no such character."""
_CODE_IN_WORDS = re.compile(f"(?<=\\w){_CODE}+(?=\\w)")
_PREDEFINED = ("lt", "gt", "amp", "quot", "apos")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslationUnit:
    """One `tu`: its texts in the two languages, or the problem."""

    line: int
    english: str = ""
    other: str = ""
    problem: str = ""
    found: tuple[str, ...] = ()
    """Values of `xml:lang`, of a unit without a text in one of the languages."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Value of `xml:lang` -> text, where all languages are read."""


def read_tmx(file: IO[bytes], path: Path, languages: tuple[str, str]) -> Iterator[TranslationUnit]:
    """Yield the translation units of a file in order, each with its two texts or a problem.

    Bytes that are no characters in the file's encoding become U+FFFD, and characters that XML forbids become spaces,
    so that they cost their own unit and not the file.

    Args:
        path: name of the file, for error messages.
        languages: values of `xml:lang`. Of several variants of a language the best is read (`choose_tag`), and none in
            another script.

    Raises:
        ValueError: not well-formed, in an unknown encoding, with entities that are no plain text, or without a single
            unit in both languages.
    """
    units = _Units(languages=languages)
    yield from _parse(file, path, units)
    if units.root and units.root != "tmx" and not units.num_units:
        raise ValueError(f"{path}: not a translation memory; its first element is <{units.root}>, expected <tmx>")
    if units.num_units and not units.num_complete:
        found = ", ".join(f"{tag or 'no language'} ({number})" for tag, number in units.tags.most_common(20))
        raise ValueError(f"{path}: no unit has a text in {languages[0]} and one in {languages[1]}; it has {found}")


def read_all_languages(file: IO[bytes], path: Path) -> Iterator[TranslationUnit]:
    """Yield the translation units of a file in order, each with its texts in all languages.

    Raises:
        ValueError: as `read_tmx`, but for the languages.
    """
    return _parse(file, path, _AllLanguages(languages=("", "")))


def _parse(file: IO[bytes], path: Path, units: "_Units") -> Iterator[TranslationUnit]:
    start = file.read(_CHUNK_BYTES)
    decoder = codecs.getincrementaldecoder(_encoding(start, path))(errors="replace")
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
                break
            chunk = file.read(_CHUNK_BYTES)
    except expat.ExpatError as error:
        yield from units.take()
        raise ValueError(f"{path}:{error.lineno}: not well-formed XML ({expat.ErrorString(error.code)})") from None


def _encoding(start: bytes, path: Path) -> str:
    detected = detect_encoding(start)
    if detected.encoding != "utf-8":
        return detected.encoding.removesuffix("-le").removesuffix("-be") if detected.has_mark else detected.encoding
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

    def declare(name: str, is_parameter: int, value: str | None, *_: object) -> None:
        is_plain = value is not None and len(value) <= _MAX_ENTITY_CHARACTERS and not set(value) & set("&<%")
        if name not in _PREDEFINED and (is_parameter or not is_plain):
            raise ValueError(
                f"{path}:{parser.CurrentLineNumber}: declares the entity {name!r}, which is not plain text; remove it "
                "from the DOCTYPE"
            )

    parser.StartElementHandler = start
    parser.EndElementHandler = units.end
    parser.CharacterDataHandler = units.text
    parser.EntityDeclHandler = declare
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
    texts: dict[str, str] = field(default_factory=dict)
    """Value of `xml:lang` -> text, of the open unit; the first text of each."""
    again: list[str] = field(default_factory=list)
    """Values of `xml:lang` of further texts of the open unit, which are not read."""
    tag: str | None = None
    """Language of the open `tuv`; None outside of one, and in one that has been there before."""
    num_codes: int = 0
    """Open inline elements that hold codes."""
    code: list[str] = field(default_factory=list)
    """Content of the open code."""
    pieces: list[str] | None = None
    """Texts of the open `seg`; None if none is open."""
    num_characters: int = 0
    root: str = ""
    """Name of the first element."""
    num_units: int = 0
    num_complete: int = 0
    tags: Counter[str] = field(default_factory=Counter)
    """Value of `xml:lang` -> number of texts."""

    def take(self) -> list[TranslationUnit]:
        done, self.done = self.done, []
        return done

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        if not self.root:
            self.root = name
        if name == "tu":
            self.line, self.texts, self.again = line, {}, []
        elif name == "tuv":
            tag = attributes.get("xml:lang") or attributes.get("lang") or ""
            self.tags[tag] += 1
            self.tag = None if tag in self.texts else tag
            if self.tag is None:
                self.again.append(tag)
        elif name == "seg" and self.tag is not None:
            self.pieces, self.num_characters = [], 0
        elif name in _CODE_ELEMENTS:
            self.num_codes += 1
            self.code = ["<br/>"] if attributes.get("type", "").lower().removeprefix("x-") in ("lb", "br") else []

    def text(self, text: str) -> None:
        if self.pieces is None or self.num_characters > _MAX_TEXT_CHARACTERS:
            return
        self.num_characters += len(text)
        (self.code if self.num_codes else self.pieces).append(text)

    def end(self, name: str) -> None:
        if name in _CODE_ELEMENTS:
            self.num_codes -= 1
            if self.pieces is not None and not self.num_codes:
                is_break = _BREAK_MARK.search("".join(self.code)) is not None
                self.pieces.append(" " if is_break else _CODE if name == "ph" else "")
        elif name == "seg" and self.pieces is not None and self.tag is not None:
            text = "".join(self.pieces)
            self.texts[self.tag] = _CODE_IN_WORDS.sub(" ", text).replace(_CODE, "") if _CODE in text else text
            self.pieces = None
        elif name == "tuv":
            self.tag = None
        elif name == "tu":
            self._finish()

    def _finish(self) -> None:
        self.num_units += 1
        english, other = _choose(self.languages, tuple(self.texts))
        if english is None or other is None:
            missing = [name for name, tag in zip(self.languages, (english, other), strict=True) if tag is None]
            problem = f"no text in {' and '.join(missing)}"
            self.done.append(TranslationUnit(line=self.line, problem=problem, found=tuple(self.texts)))
        else:
            self.num_complete += 1
            self.done.append(TranslationUnit(line=self.line, english=self.texts[english], other=self.texts[other]))
            for name, tag in zip(self.languages, (english, other), strict=True) if self.again else ():
                problem = f"another text in {name} of the same unit (the first is read)"
                self.done += [TranslationUnit(line=self.line, problem=problem)] * self.again.count(tag)


class _AllLanguages(_Units):
    """Collects the texts of each unit in all languages."""

    def _finish(self) -> None:
        self.done.append(TranslationUnit(line=self.line, texts=self.texts))


@lru_cache(maxsize=1024)
def _choose(languages: tuple[str, str], tags: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the tags of a unit that stand for each language best (`choose_tag`)."""
    return choose_tag(languages[0], tags), choose_tag(languages[1], tags)
