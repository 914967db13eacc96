"""Files of predictions and references as people have them; one reader for all of them.

    read_texts(Path("captions.json")).by_id()      # {"42": ["a dog", "a brown dog"]}

`TEXT_FORMS` lists the forms of files. A form is added by one `TextForm`: how it is recognised, and how its entries are
read.

A file of lines is cut at line feeds only. U+2028, CR, FF and VT stay inside the text they are in; tools that cut there
shift every later text to the wrong image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from polyglance.data.texts.columns import parse_id
from polyglance.data.texts.json_forms import is_json, is_json_lines, read_json_line_texts, read_json_texts
from polyglance.data.texts.lines import BINARY_SUFFIXES, read_line_texts
from polyglance.data.texts.markup import is_fairseq, is_markup, read_fairseq, read_markup
from polyglance.data.texts.packed import expand_lists, split_texts
from polyglance.data.texts.tables import is_columnar, is_table, read_columnar, read_table_texts
from polyglance.data.texts.text_set import (
    Id,
    ReadOptions,
    TextFile,
    TextForm,
    TextSet,
    name_type,
)

__all__ = [
    "TEXT_FORMS",
    "Id",
    "ReadOptions",
    "TextFile",
    "TextForm",
    "TextSet",
    "make_text_set",
    "read_ids",
    "read_texts",
]

TEXT_FORMS: tuple[TextForm, ...] = (
    TextForm(name="Parquet, Arrow, folders of data sets", matches=is_columnar, read=read_columnar),
    TextForm(name="JSON lines", matches=is_json_lines, read=read_json_line_texts),
    TextForm(name="JSON", matches=is_json, read=read_json_texts),
    TextForm(name="SGML and XML of WMT", matches=is_markup, read=read_markup),
    TextForm(name="fairseq-generate", matches=is_fairseq, read=read_fairseq),
    TextForm(name="CSV and TSV", matches=is_table, read=read_table_texts),
    TextForm(name="one text per line", matches=lambda file, options: True, read=read_line_texts),  # noqa: ARG005
)
"""Forms of files, in the order in which they are tried."""


_BINARY_FORMS = frozenset({TEXT_FORMS[0].name})


def make_text_set(texts: Mapping[Any, str] | Mapping[Any, Sequence[str]], source: str) -> TextSet:
    """Take texts in memory as if they had been read from a file."""
    entries = tuple(
        (name if isinstance(name, int) else str(name), (value,) if isinstance(value, str) else tuple(value))
        for name, value in texts.items()
    )
    return TextSet(source=source, entries=entries)


def read_texts(*paths: Path, options: ReadOptions | None = None) -> TextSet:
    """Read predictions, or references (several files: each holds one reference for every id or line).

    The form is told by name and content, each also with `.gz`; docs/evaluation.md lists them. A list of texts that was
    written into one string is read as that list; texts with a mark between them are split where `options` name it.

    Raises:
        ValueError: unreadable, damaged, not UTF-8, a key missing or of the wrong type, a form that is not clear, or
            several files that do not fit each other: one line with file and place.
    """
    if not paths:
        raise ValueError("no file of texts was given")
    options = options or ReadOptions()
    sets = [_read_file(TextFile(path), options) for path in paths]
    return sets[0] if len(sets) == 1 else _join(sets)


def read_ids(path: Path) -> list[str]:
    """Read the ids of a subset: one per line, or a JSON list.

    Raises:
        ValueError: unreadable, or without any id.
    """
    file = TextFile(path)
    if file.suffix == ".json":
        if not isinstance(file.json, list):
            raise ValueError(f"{path}: expected a list of ids, got {name_type(file.json)}")
        ids = [str(parse_id(value, f"{path}: item {number}")) for number, value in enumerate(file.json, 1)]
    else:
        ids = [line.strip() for line in file.lines if line.strip()]
    if not ids:
        raise ValueError(f"{path}: holds no ids")
    return ids


def _read_file(file: TextFile, options: ReadOptions) -> TextSet:
    if file.suffix in (*BINARY_SUFFIXES, ".pt") and file.is_binary:
        raise ValueError(
            f"{file.path}: files of {file.suffix} are not read; write JSON lines with an id and a text, a table or a "
            "text on each line"
        )
    form = next(form for form in TEXT_FORMS if form.matches(file, options))
    content = form.read(file, options)
    if not content.entries:
        raise ValueError(f"{file.path}: holds no texts")
    content = split_texts(expand_lists(content, str(file.path)), str(file.path), options)
    if form.name not in _BINARY_FORMS and (how := file.describe_format()):
        content = replace(content, notes=(f"{file.path}: {how}", *content.notes))
    given = {name.name: getattr(content, name.name) for name in fields(content)}
    return TextSet(**{**given, "source": str(file.path), "entries": tuple(content.entries)})


def _join(sets: Sequence[TextSet]) -> TextSet:
    """Join files that hold one reference of each text, or several.

    Raises:
        ValueError: files of unlike lengths, or with other ids: which file, and how many.
    """
    first = sets[0]
    if len({one.source for one in sets}) < len(sets):
        twice = next(one.source for number, one in enumerate(sets) if one.source in [x.source for x in sets[:number]])
        raise ValueError(f"{twice}: given twice; each file of references holds others")
    for other in sets[1:]:
        if other.layout != first.layout:
            raise ValueError(f"{other.source}: its texts and those of {first.source} have ids of different kinds")
        _check_equal_ids(first, other)
    shared = set.intersection(*(set(one.other_ids) for one in sets))
    return TextSet(
        source=", ".join(one.source for one in sets),
        layout=first.layout,
        entries=tuple(entry for one in sets for entry in one.entries),
        notes=tuple(note for one in sets for note in one.notes),
        other_ids={name: [place for one in sets for place in one.other_ids[name]] for name in shared},
        used=frozenset().union(*(one.used for one in sets)),
    )


def _check_equal_ids(first: TextSet, other: TextSet) -> None:
    """Refuse a file of references that has not the ids, or not the number of lines, of the first."""
    known, names = first.by_id(), other.by_id()
    if first.layout == "lines" and len(names) != len(known):
        raise ValueError(
            f"{other.source}: {len(names):,} lines, but {first.source} has {len(known):,}; "
            "reference files belong together line by line"
        )
    absent, extra = [name for name in known if name not in names], [name for name in names if name not in known]
    problems = [f"{len(extra):,} ids that are not in {first.source} ({extra[0]!r})"] if extra else []
    problems += [f"none of {len(absent):,} ids of {first.source} ({absent[0]!r})"] if absent else []
    if problems:
        raise ValueError(
            f"{other.source}: holds {' and '.join(problems)}; each file of references has a text for every id"
        )
