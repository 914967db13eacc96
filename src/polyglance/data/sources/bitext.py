"""Sentence pairs, English and one other language, out of the files in which bitext is published.

    tsv      a line a pair, columns parted by tabs; with a header that names the columns, or by number
    moses    two plain files, line n of one belongs to line n of the other
    opus     a zip of OPUS (Moses form) with such files inside
    tmx      Translation Memory eXchange 1.4, one `tu` a pair
    parquet  two columns of strings, or one of structs such as Hugging Face's {"en": ..., "fr": ...}

All are streamed: memory does not grow with the file, apart from 8 bytes per pair (16 for moments) that find duplicates.
Found bitext is dirty, so every pair is read right or counted in `Drops` under `<language>: <reason>`. A file as a whole
is refused (`ValueError`) only where nothing in it can be trusted: it is cut short, or its two sides have unequal
numbers of lines.
"""

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from polyglance.data.sources.bitext_forms import RawPair, find_files, find_pieces, form_of, read_piece
from polyglance.data.sources.pieces import Piece, folder_of, stamp
from polyglance.data.sources.seen import SeenHashes
from polyglance.languages import SOURCE_LANGUAGE, language
from polyglance.records import Drops

__all__ = [
    "SECOND_TIME",
    "BitextPair",
    "BitextSource",
    "bitext_pieces",
    "clean_text",
    "read_bitext",
    "read_bitext_piece",
    "stamp_of",
]

SECOND_TIME = "a pair for the second time"
_BATCH_PAIRS = 4096
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029][ \x00-\x1f\x7f-\x9f\u2028\u2029]*")
_ENTITY = re.compile(r"&(?:#\d{1,8}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
"""With its semicolon only: HTML 5 reads `&copy` without one as well, which would eat into plain text and addresses."""
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--|<!\[CDATA\[")


@dataclass(frozen=True, kw_only=True)
class BitextSource:
    """One bitext: where it is, what it is in, and which pairs of it are good enough.

    Raises:
        ValueError: an unknown language, or a value outside its range.
    """

    path: Path
    """The file; for `moses` the name that both files share (`corpus.de-en` for `corpus.de-en.en` and
    `corpus.de-en.de`), for `parquet` also a folder of files. Plain files may be .gz, .bz2, .xz or .zst."""
    language: str
    """Code of the language that is not English."""
    format: Literal["auto", "tsv", "moses", "tmx", "opus", "parquet"] = "auto"
    """`auto` goes by the file's extension; what has none of the known ones is `moses`."""
    columns: tuple[str, str] | None = None
    """What the English and the other side are called in the file, where it is not their language codes: headers of a
    TSV or their numbers from 1, columns or struct fields of Parquet, `xml:lang` of a TMX, last part of a Moses file's
    name. A TSV without header is read as ("1", "2"); where English comes second, say ("2", "1")."""
    licence: str = ""
    """Licence of the texts, for the manifest."""
    max_characters: int = 1000
    """Pairs with a longer side are dropped."""
    max_length_ratio: float | None = None
    """Pairs whose longer side has more than this many times the characters of the shorter are dropped; off if None.
    Chinese has about a third of the characters of English."""
    keep_identical: bool = False
    """Keep pairs whose sides are the same text (names and numbers are, and so is what nobody translated)."""
    keep_duplicates: bool = False
    """Keep pairs that were there before."""

    def __post_init__(self) -> None:
        if language(self.language).code == SOURCE_LANGUAGE:
            raise ValueError(f"language is {self.language!r}: name the side that is not English")
        if self.max_characters < 1:
            raise ValueError(f"max_characters is {self.max_characters}; it must be at least 1")
        if self.max_length_ratio is not None and self.max_length_ratio < 1:
            raise ValueError(f"max_length_ratio is {self.max_length_ratio}; it must be at least 1")


class BitextPair(NamedTuple):
    """A pair that passed all checks."""

    language: str
    source: str
    """The English text."""
    target: str
    where: str
    """File and line (TSV, Moses, TMX) or row (Parquet)."""

    @property
    def hash(self) -> int:
        """64 bits of its texts, by which pairs are told to be the same."""
        content = f"{self.language}\n{self.source}\n{self.target}".encode()
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def read_bitext(source: BitextSource, drops: Drops, *, seen: SeenHashes | None = None) -> Iterator[BitextPair]:
    """The good pairs of a bitext, in its order.

    Args:
        drops: gets every pair that is left out, as `<language>: <reason>`.
        seen: pairs of sources read before, for duplicates between sources; gets the pairs of this one too.

    Raises:
        ValueError: no such file, a form that does not fit, missing columns, sides with unequal numbers of lines, or a
            file that is damaged. All but the last come before the first pair.
    """
    pieces = bitext_pieces(source)
    good = (pair for piece in pieces for pair in read_bitext_piece(source, piece, drops))
    return good if source.keep_duplicates else _distinct(good, drops, seen if seen is not None else SeenHashes())


def bitext_pieces(source: BitextSource, *, num_pairs: int | None = None) -> list[Piece]:
    """A bitext cut into pieces that can be read side by side.

    Args:
        num_pairs: pairs of a piece, as near as the form allows; each file whole if None.

    Raises:
        ValueError: as `read_bitext`, before the first pair.
    """
    must_name = source.columns is not None
    return find_pieces(_form(source), source.path, _columns(source), must_name=must_name, num_pairs=num_pairs)


def read_bitext_piece(source: BitextSource, piece: Piece, drops: Drops) -> Iterator[BitextPair]:
    """The good pairs of a piece in order, also those that were there before.

    Raises:
        ValueError: a file that is damaged.
    """
    return _good_pairs(source, read_piece(_form(source), source.path, _columns(source), piece), drops)


def stamp_of(source: BitextSource) -> str:
    """What changes when the bitext's files do.

    Raises:
        ValueError: no such file.
    """
    return stamp(folder_of(source.path), find_files(_form(source), source.path, _columns(source)))


def _form(source: BitextSource) -> str:
    return form_of(source.path) if source.format == "auto" else source.format


def _columns(source: BitextSource) -> tuple[str, str]:
    return source.columns or (SOURCE_LANGUAGE, source.language)


def _distinct(pairs: Iterator[BitextPair], drops: Drops, seen: SeenHashes) -> Iterator[BitextPair]:
    while batch := list(islice(pairs, _BATCH_PAIRS)):
        is_new = seen.add(np.array([pair.hash for pair in batch], dtype=np.uint64))
        for pair, new in zip(batch, is_new.tolist(), strict=True):
            if new:
                yield pair
            else:
                drops.add(f"{pair.language}: {SECOND_TIME}", pair.where)


def _good_pairs(source: BitextSource, raw_pairs: Iterable[RawPair], drops: Drops) -> Iterator[BitextPair]:
    code = source.language
    for where, english, other, problem in raw_pairs:
        if not problem:
            first, problem = clean_text(english, max_characters=source.max_characters)
            if not problem:
                second, problem = clean_text(other, max_characters=source.max_characters)
                problem = problem or _pair_problem(source, first, second)
        if problem:
            drops.add(f"{code}: {problem}", where)
        else:
            yield BitextPair(code, first, second, where)


def _pair_problem(source: BitextSource, first: str, second: str) -> str:
    if first == second and not source.keep_identical:
        return "both sides the same"
    if source.max_length_ratio is not None:
        shorter, longer = sorted((len(first), len(second)))
        if longer > source.max_length_ratio * shorter:
            return "sides of very different length"
    return ""


def clean_text(raw: bytes | str, *, max_characters: int) -> tuple[str, str]:
    """One side as a text on one line, in NFC, with HTML entities resolved; or the empty string and what is wrong.

    Control characters and line breaks (U+2028 and its like too) become one space. Tags are not cut out but cost the
    pair: what stands between them is seldom a sentence, and the other side was often cut in another way.
    """
    if isinstance(raw, bytes):
        try:
            raw = raw.decode("utf-8")
        except UnicodeDecodeError:
            return "", "not UTF-8"
    if len(raw) > 8 * max_characters:  # entities and blanks can shrink; what is longer than this is not worth a look
        return "", "a side that is too long"
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), raw) if "&" in raw else raw
    if not text.isprintable():
        text = _BREAKS.sub(" ", text.removeprefix("\ufeff"))
    text = text.strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return ("", problem) if (problem := _text_problem(text, max_characters)) else (text, "")


def _text_problem(text: str, max_characters: int) -> str:
    if len(text) > max_characters:
        return "a side that is too long"
    if "<" in text and _TAG.search(text):
        return "HTML tags"
    if "\ufffd" in text:
        return "characters lost in an earlier conversion (U+FFFD)"
    if not text or (not text[0].isalnum() and all(unicodedata.category(character)[0] in "CZ" for character in text)):
        return "an empty side"
    return ""
