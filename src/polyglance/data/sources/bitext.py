"""Sentence pairs, English and one other language, in the forms in which bitext is published.

    tsv      one line per pair, columns separated by tabs; with a header that names the columns, or by number
    moses    two plain files; line n of one belongs to line n of the other
    opus     a zip of OPUS (Moses form) with such files inside
    tmx      Translation Memory eXchange 1.4, one `tu` per pair
    parquet  two columns of strings, or one of structs such as Hugging Face's {"en": ..., "fr": ...}

All are streamed: memory does not grow with the file. Bitext from the web is dirty, so every pair is either read
correctly or counted in `Drops` under `<language>: <reason>`. A whole file is refused (`ValueError`) only if nothing in
it can be trusted: it is cut short, or its two sides have unequal numbers of lines.
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from operator import eq
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from polyglance.data.cleaning import (
    find_flaw,
    has_control_inside,
    has_tags,
    is_blank,
    is_turned_around,
    join_lines,
    may_have_flaw,
    resolve_entities,
    without_invisible,
)
from polyglance.data.columns import find_artefact, find_placeholder
from polyglance.data.sources.bitext_forms import BITEXT_FORMS, BitextForm, RawPair, detect_bitext_form
from polyglance.data.sources.source import FormSource, Piece
from polyglance.delimited import Quoting
from polyglance.language_identity import find_other_language
from polyglance.language_tags import find_code
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.records import Drops

__all__ = ["BitextPair", "BitextSource", "clean_text"]

T = TypeVar("T")

_SAMPLE_PAIRS = 200
"""Pairs by which the languages of both sides are told."""
_SAMPLED_FROM = 4000
"""Pairs at the beginning that these are chosen from, evenly: the first lines are often unlike the others."""
_PLAIN_ASCII = bytes(range(0x20, 0x7F)) + b"\n"
_MARKS = ("|||", "@@", "▁", "##", "Ġ", "</w>")
_SIGNS_OF_ARTEFACTS = ("\\", "%", *_MARKS)
_CHECKED_TOGETHER = 64
"""Pairs whose bytes are looked at together. Most are plain, and a look at each takes as long as all else."""


@dataclass(frozen=True, kw_only=True)
class BitextSource(FormSource):
    """One bitext: its files, their form, and which pairs are good enough.

    Raises:
        ValueError: an unknown language, or a value outside its range.
    """

    path: Path
    """The file; for `moses` the name that both files share (`corpus.de-en` for `corpus.de-en.en` and
    `corpus.de-en.de`), for `parquet` also a folder of files. Plain files may be .gz, .bz2, .xz or .zst."""
    language: str
    """Code of the language that is not English."""
    format: Literal["auto", "tsv", "moses", "tmx", "opus", "parquet"] = "auto"
    """Form of the files; `auto`: derived from the file's extension, `moses` for an unknown extension."""
    columns: tuple[str, str] | None = None
    """Names of the English and the other side in the file: headers of a TSV or column numbers from 1, columns or struct
    fields of Parquet, `xml:lang` of a TMX, last component of a Moses file's name. None: the language codes; a TSV
    without header is then read as ("1", "2"). If English comes second there, give ("2", "1")."""
    encoding: str = "auto"
    """Codec of files of text, such as `cp1252`; `auto`: UTF-8, UTF-16 or UTF-32, found from their first bytes."""
    quoting: Quoting = "auto"
    """Quotes of a TSV: `csv` (cells may be quoted as in a CSV), `none` (a quotation mark is part of its text), or
    `auto`: found from its lines."""
    licence: str = ""
    """Licence of the texts, for the manifest."""
    max_characters: int = 1000
    """Pairs with a longer side are dropped."""
    max_length_ratio: float | None = None
    """Pairs whose longer side has more than this many times the characters of the shorter are dropped. None: no limit.
    Chinese has about a third of the characters of English."""
    keep_identical: bool = False
    """Keep pairs whose sides are the same text (names and numbers, but also untranslated text)."""
    keep_duplicates: bool = False
    """Keep pairs that already came earlier in this or another bitext."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "language", find_code(self.language))
        if self.language == SOURCE_LANGUAGE:
            raise ValueError(f"language is {self.language!r}: name the side that is not English")
        if self.max_characters < 1:
            raise ValueError(f"max_characters is {self.max_characters}; expected at least 1")
        if self.max_length_ratio is not None and self.max_length_ratio < 1:
            raise ValueError(f"max_length_ratio is {self.max_length_ratio}; expected at least 1")

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:
        """Cut the files into pieces (`Source.find_pieces`).

        Raises:
            ValueError: also for a bitext whose first pairs show that a side is in another language.
        """
        pieces = super().find_pieces(num_records, drops)
        if pieces:
            self._check_languages(pieces[0])
        return pieces

    def _check_languages(self, piece: Piece) -> None:
        """Refuse sides that are swapped, or two of the same language. A wrong column would give wrong pairs only."""
        read = [pair for pair in islice(self.open_form().read_piece(piece, Drops()), _SAMPLED_FROM) if not pair.problem]
        usable = self._find_usable(_choose_evenly(read, 2 * _SAMPLE_PAIRS))
        if len(usable) < _SAMPLE_PAIRS:
            usable = self._find_usable(read)
        pairs = _choose_evenly(usable, _SAMPLE_PAIRS)
        sides = [[pair.source for pair in pairs], [pair.target for pair in pairs]]
        found_first = find_other_language(sides[0], SOURCE_LANGUAGE)
        if found_first is not None:
            raise ValueError(
                f"{self.path}: the English side reads as {found_first}; if the sides are swapped, set columns to the "
                "names or numbers of the English and the other one, in this order"
            )
        found_second = find_other_language(sides[1], self.language)
        if found_second == SOURCE_LANGUAGE:
            raise ValueError(
                f"{self.path}: both sides are English; set columns to those of the English and the other one"
            )
        if found_second is not None:
            raise ValueError(
                f"{self.path}: the other side reads as {found_second}, not as {self.language}; set language or columns "
                "to what it is"
            )

    def _find_usable(self, batch: Sequence[RawPair]) -> "list[BitextPair]":
        """Return the pairs of two texts that differ."""
        return [pair for pair in self._clean(batch, Drops()) if pair.source != pair.target] if batch else []

    def read_piece(self, piece: Piece, drops: Drops) -> "Iterator[BitextPair]":
        """Yield the good pairs of a piece, in order (`Source.read_piece`), also those that came before."""
        num_read = num_kept = 0
        num_before = sum(drops.counts.values())
        raw_pairs = self.open_form().read_piece(piece, drops)
        while batch := list(islice(raw_pairs, _CHECKED_TOGETHER)):
            num_read += len(batch)
            good = self._without_flaws(self._clean(batch, drops), drops)
            num_kept += len(good)
            yield from good
        num_dropped = sum(drops.counts.values()) - num_before
        assert num_read == num_kept + num_dropped, "every pair is kept or counted"

    def _clean(self, batch: Sequence[RawPair], drops: Drops) -> "list[BitextPair]":
        """Clean both sides; pairs that cannot be used go to `drops`. Sides without anything odd are cleaned at once."""
        wheres, raw_sources, raw_targets, unreadable = zip(*batch, strict=True)
        sources, wrong_sources = clean_texts(raw_sources, SOURCE_LANGUAGE, max_characters=self.max_characters)
        targets, wrong_targets = clean_texts(raw_targets, self.language, max_characters=self.max_characters)
        pairs = [*map(BitextPair._make, zip(repeat(self.language), sources, targets, wheres))]
        must_compare = self.max_length_ratio is not None or any(map(eq, sources, targets))
        if not (wrong_sources or wrong_targets or must_compare or any(unreadable)):
            return pairs
        good = []
        for number, pair in enumerate(pairs):
            problem = unreadable[number] or wrong_sources.get(number) or wrong_targets.get(number)
            if problem := problem or self._find_problem(pair.source, pair.target):
                drops.add(f"{self.language}: {problem}", pair.where)
            else:
                good.append(pair)
        return good

    def _without_flaws(self, pairs: "list[BitextPair]", drops: Drops) -> "list[BitextPair]":
        """Return the pairs whose texts are in their languages and not damaged; the others go to `drops`.

        All texts together are checked first, because usually none of them is suspect.
        """
        _, sources, targets, _ = zip(*pairs, strict=True) if pairs else ((),) * 4
        check_sources = may_have_flaw("\n".join(sources), SOURCE_LANGUAGE)
        check_targets = may_have_flaw("\n".join(targets), self.language)
        if not (check_sources or check_targets):
            return pairs
        kept = []
        for pair in pairs:
            flaw = find_flaw(pair.source, SOURCE_LANGUAGE) if check_sources else ""
            if flaw := flaw or (find_flaw(pair.target, self.language) if check_targets else ""):
                drops.add(f"{self.language}: {flaw}", pair.where)
            else:
                kept.append(pair)
        return kept

    def open_form(self) -> BitextForm:
        name = detect_bitext_form(self.path) if self.format == "auto" else self.format
        columns = self.columns or (SOURCE_LANGUAGE, self.language)
        return BITEXT_FORMS[name](
            self.path, columns, must_name=self.columns is not None, encoding=self.encoding, quoting=self.quoting
        )

    def _find_problem(self, first: str, second: str) -> str:
        if first == second:  # in a pair of different texts a placeholder may be a true word: All, Todo; Photo, Foto
            return find_placeholder(first, SOURCE_LANGUAGE) if self.keep_identical else "both sides the same"
        if self.max_length_ratio is not None:
            shorter, longer = sorted((len(first), len(second)))
            if longer > self.max_length_ratio * shorter:
                return "sides of very different length"
        return ""


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
        """64 bits of the texts; pairs with equal hashes count as the same."""
        content = f"{self.language}\n{self.source}\n{self.target}".encode()
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _choose_evenly(items: Sequence[T], number: int) -> list[T]:
    """Choose at most so many items, evenly from the first to the last."""
    number = min(number, len(items))
    return [items[place * len(items) // number] for place in range(number)]


def clean_texts(raws: Sequence[bytes | str], code: str, *, max_characters: int) -> tuple[list[str], dict[int, str]]:
    """Clean one side of several pairs (`clean_text`): the texts, and number of a text -> problem.

    They are first looked at as one text, which takes half of the time: most have nothing in them that is to be changed.
    """
    if (plain := _take_plain(raws, max_characters)) is None:
        cleaned = [clean_text(raw, code, max_characters=max_characters) for raw in raws]
        return [text for text, _ in cleaned], {number: it[1] for number, it in enumerate(cleaned) if it[1]}
    texts, odd = plain
    problems = {number: _find_artefact(texts[number]) for number in odd}
    return texts, {number: problem for number, problem in problems.items() if problem}


def _take_plain(raws: Sequence[bytes | str], max_characters: int) -> tuple[list[str], list[int]] | None:
    """Return the texts, in NFC and with entities resolved, and the numbers of those that are no several words, if all
    are visible characters without tags; else None."""
    try:
        joined = b"\n".join(raws).decode() if raws and isinstance(raws[0], bytes) else "\n".join(raws)  # type: ignore
    except UnicodeDecodeError:
        return None
    if "&" in joined:
        if max(map(len, raws)) > max_characters:
            return None
        joined = resolve_entities(joined)
    joined = f"{joined}\n".replace("\r\n", "\n")
    if "\n\n" in joined or " \n" in joined or "\n " in joined or joined[0] in " \n" or has_tags(joined):
        return None
    if joined.isascii():
        if joined.encode().translate(None, _PLAIN_ASCII):
            return None
    elif not joined.replace("\n", " ").isprintable():
        return None
    texts = unicodedata.normalize("NFC", joined).split("\n")
    texts.pop()
    if len(texts) != len(raws) or (len(joined) > max_characters and max(map(len, texts)) > max_characters):
        return None
    has_escapes = any(sign in joined for sign in _SIGNS_OF_ARTEFACTS)
    return texts, [number for number, text in enumerate(texts) if has_escapes or " " not in text]


def _find_artefact(text: str) -> str:
    """Call `find_artefact` for the few texts that may have one: of one word or with escapes, and in ASCII or with marks
    between words or subwords."""
    has_signs = " " not in text or any(sign in text for sign in _SIGNS_OF_ARTEFACTS)
    if has_signs and (text.isascii() or any(mark in text for mark in _MARKS)) and any(map(str.isalpha, text)):
        return find_artefact(text)
    return ""


def clean_text(raw: bytes | str, code: str, *, max_characters: int) -> tuple[str, str]:
    """Clean one side: a text on one line, in NFC, with HTML entities resolved; or an empty string, and the problem.

    Control characters and line breaks (also U+2028 and the like) become one space, invisible characters go. A text with
    tags is refused, not stripped: the other side was often cut in another way.
    """
    if isinstance(raw, bytes):
        try:
            raw = raw.decode("utf-8")
        except UnicodeDecodeError:
            return "", "not UTF-8"
    if len(raw) > 8 * max_characters:  # resolved entities and joined blanks shorten a text, but hardly this much
        return "", "a side that is too long"
    text = (resolve_entities(raw) if "&" in raw else raw).strip()
    if not text.isprintable():
        if has_control_inside(text):
            return "", "a control character inside a word"
        if is_turned_around(text):
            return "", "characters that turn the order of others around"
        text = join_lines(without_invisible(text, code))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if len(text) > max_characters:
        return "", "a side that is too long"
    if "<" in text and has_tags(text):
        return "", "HTML tags"
    if not text[:1].isalnum() and is_blank(text):
        return "", "an empty side"
    return ("", problem) if (problem := _find_artefact(text)) else (text, "")
