"""Texts of files that hold several languages: columns, records and objects name the language of a text."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

from polyglance.language_tags import choose_tag, parse_language_tag

__all__ = ["LANGUAGE_KEYS", "is_in_language", "is_language_key", "keep_language", "take_language"]

LANGUAGE_KEYS = ("language", "lang", "locale", "language_code", "lang_code")
"""Columns, and keys of records, that name the language of the text beside them."""


def is_language_key(name: str) -> bool:
    """Tell whether a column, or a key of records, may name the language of texts, in any case."""
    return name.strip().lower() in LANGUAGE_KEYS


@cache
def is_in_language(tag: str, language: str) -> bool:
    """Tell whether a tag, or a name such as `German`, stands for a language."""
    return choose_tag(language, [tag]) is not None


def keep_language(
    rows: Sequence[tuple[str, Mapping[str, Any]]], language: str, where: str
) -> tuple[Sequence[tuple[str, Mapping[str, Any]]], tuple[str, ...]]:
    """Keep the rows in the asked language, where each names the language of its text and these are several.

    Rows that all name one language are kept, whatever it is: a note says if it is another one. Rows that name none,
    where others name several, are left out.

    Args:
        rows: place and record.
        language: asked for; empty: all rows are kept.

    Returns:
        The rows, and notes for people.

    Raises:
        ValueError: several languages, and none of them is the asked one.
    """
    names = dict.fromkeys(name for _, row in rows for name in row) if language else {}
    found = [name for name in names if is_language_key(name)]
    key = min(found, key=lambda name: LANGUAGE_KEYS.index(name.strip().lower()), default=None)
    if key is None:
        return rows, ()
    values = [_name_language(row.get(key)) for _, row in rows]
    tags = [tag for tag in dict.fromkeys(values) if tag]
    if not tags or not all(map(parse_language_tag, tags)):
        return rows, ()
    wanted = {tag for tag in tags if is_in_language(tag, language)}
    listed = ", ".join(tags[:8]) + (", ..." if len(tags) > 8 else "")
    unnamed = values.count("")
    if len(tags) == 1:
        notes = [] if wanted else [f"{where}: its {key} is {listed}, --lang is {language}"]
        notes += [f"{where}: read as the others: {unnamed:,} without a {key}"] if unnamed else []
        return rows, tuple(notes)
    if not wanted:
        raise ValueError(f"{where}: its texts are in {listed} ({key!r}), --lang is {language}")
    kept = [row for row, value in zip(rows, values, strict=True) if value in wanted]
    note = f"{where}: {len(kept):,} of {len(rows):,} rows, those in {', '.join(sorted(wanted))} ({key!r})"
    return kept, (f"{note}; left out: {unnamed:,} without a {key}" if unnamed else note,)


def _name_language(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()  # NaN: a missing value of pandas


def take_language(value: Any, language: str, where: str) -> Any:
    """Take the texts in the asked language from an object of language -> texts, or from a list of objects that each
    name the language of their text; what is neither stays as it is.

    Raises:
        ValueError: it holds texts in other languages only.
    """
    if not language:
        return value
    if isinstance(value, Mapping) and value and all(parse_language_tag(str(key)) for key in value):
        tag = choose_tag(language, map(str, value))
        if tag is None and all((found := parse_language_tag(str(key))) and found.code for key in value):
            _refuse(list(map(str, value)), language, where)
        return value if tag is None else value[tag]
    if isinstance(value, list) and len(value) > 1 and all(isinstance(one, dict) for one in value):
        tags = [next((one[key] for key in LANGUAGE_KEYS if isinstance(one.get(key), str)), "") for one in value]
        if all(tags) and all(map(parse_language_tag, tags)) and len(set(tags)) > 1:
            kept = [one for one, tag in zip(value, tags, strict=True) if is_in_language(tag, language)]
            return kept or _refuse(tags, language, where)
    return value


def _refuse(tags: Sequence[str], language: str, where: str) -> NoReturn:
    raise ValueError(f"{where}: no text in {language!r} (--lang), but in {', '.join(dict.fromkeys(tags))}")
