"""Files of JSON and JSON lines: COCO, Karpathy, XM3600, pycocoevalcap, VQA, records of any tool, id -> texts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from polyglance.data.texts.columns import (
    TextColumns,
    choose_columns,
    find_other_ids,
    is_id_name,
    is_known_name,
    parse_id,
    parse_texts,
)
from polyglance.data.texts.languages_of_texts import LANGUAGE_KEYS, keep_language, take_language
from polyglance.data.texts.splits_of_texts import check_split_ids, keep_split, take_split
from polyglance.data.texts.text_set import Entry, FormContent, Id, ReadOptions, TextFile, name_type
from polyglance.files import parse_json
from polyglance.json_frames import read_frame

__all__ = [
    "find_xm3600_captions",
    "get_karpathy_sentences",
    "is_json",
    "is_json_lines",
    "read_json_line_texts",
    "read_json_texts",
    "read_record_texts",
]

_WRAPPERS = ("annotations", "predictions", "results", "data", "captions", "samples", "answers", "outputs", "rows")
"""Keys of an object that holds nothing but a list of records."""


def is_json_lines(file: TextFile, options: ReadOptions) -> bool:
    """Tell whether each line is an object: by the extension, or by the first line, which is a whole object, and in a
    `.json` file not the last line."""
    if file.suffix in (".jsonl", ".ndjson", ".jsonlines"):
        is_whole = (file.text.lstrip().startswith("[") or "\n" in file.text.strip()) and file.is_json
        return not is_whole
    first, _, rest = file.text.strip().partition("\n")
    if options.as_lines or not first.startswith("{") or (file.suffix == ".json" and not rest):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def is_json(file: TextFile, options: ReadOptions) -> bool:
    """Tell whether the whole content is JSON."""
    return file.is_json and not (options.as_lines and file.suffix != ".json")


def read_json_line_texts(file: TextFile, options: ReadOptions) -> FormContent:
    """Read one object per line."""
    rows = [
        (f"{file.path}:{number}", parse_json(line, f"{file.path}:{number}"))
        for number, line in enumerate(file.lines, 1)
        if line.strip()
    ]
    return read_record_texts(rows, options, str(file.path))


def read_json_texts(file: TextFile, options: ReadOptions) -> FormContent:
    """Read a whole JSON file by its layout.

    Raises:
        ValueError: neither an object nor a list, or an entry that is wrong.
    """
    return _read_content(file.json, options, str(file.path))


def _read_content(content: Any, options: ReadOptions, where: str) -> FormContent:
    if isinstance(content, list):
        return _read_list(content, options, where)
    if not isinstance(content, dict):
        raise ValueError(
            f"{where}: expected COCO captions, COCO results or an object of id -> texts, got {name_type(content)}"
        )
    images = content.get("images")
    if isinstance(images, list) and any(isinstance(row, dict) and "sentences" in row for row in images):
        return _read_karpathy(images, options, where)
    if "annotations" in content:
        return _read_coco_captions(content, options, where)
    if (split := take_split(content, options.split, f"{where}: the split")) is not None:
        inner = replace(options, split_is_chosen=bool(options.split))
        read = _read_content(content[split], inner, f"{where}: {split}")
        return replace(read, used=read.used | frozenset({"split"} if options.split else ()))
    if (rows := read_frame(content, _is_column)) is not None:
        return _read_frame_rows(rows, content, options, where)
    for name in _WRAPPERS:
        if isinstance(content.get(name), list) and any(_is_record(row) for row in content[name]):
            return _read_list(content[name], options, f"{where}: {name}")
    if wrapped := _find_wrapped(content, options):
        where, content = f"{where}: {wrapped}", content[wrapped]
    entries = [
        (key, parse_texts(take_language(value, options.language, f"{where}: {key!r}"), f"{where}: {key!r}"))
        for key, value in content.items()
    ]
    return FormContent(entries=entries)


def _is_column(key: str) -> bool:
    return is_known_name(key) or is_known_name(key, "references") or key in LANGUAGE_KEYS


def _read_frame_rows(
    rows: Sequence[tuple[str, dict[str, Any]]], content: Mapping[str, Any], options: ReadOptions, where: str
) -> FormContent:
    """Read the rows of a frame. Without a column of ids, the names of its rows are; lists side by side have none, and
    their texts are counted."""
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    if any(is_id_name(name) for name in names) or options.id_column in names:
        return read_record_texts([(f"{where}: row {label}", row) for label, row in rows], options, where)
    columns = choose_columns(names, options, where)
    kept, split_notes, used = keep_split(rows, options, where)
    kept, language_notes = keep_language(kept, options.language, where)
    texts = [(label, [row[name] for name in columns.texts if row.get(name) is not None]) for label, row in kept]
    entries: list[Entry] = []
    for label, values in texts:
        place = f"{where}: row {label}"
        if not values:
            raise ValueError(f"{place}: no text (null)")
        entries.append((label, tuple(text for one in values for text in parse_texts(one, place))))
    is_lists = all(isinstance(value, list) for value in content.values())
    return FormContent(
        entries=[(number, texts) for number, (_, texts) in enumerate(entries, 1)] if is_lists else entries,
        layout="lines" if is_lists else "ids",
        notes=(
            f"{where}: {columns.describe()}" if is_lists else f"{where}: ids from the names of its rows",
            *split_notes,
            *language_notes,
        ),
        used=used | columns.used(options),
    )


def _find_wrapped(content: Mapping[str, Any], options: ReadOptions) -> str:
    """Find the key of an object that holds id -> texts, beside facts such as the model; empty if there is none."""
    inner = [key for key, value in content.items() if isinstance(value, dict) and value]
    if options.text_column:
        return next((key for key in inner if key in options.text_column), "")
    named = [key for key in inner if key in _WRAPPERS or is_known_name(key, options.role)]
    return named[0] if len(named) == 1 and len(inner) == 1 and not is_id_name(named[0]) else ""


def _is_record(row: Any) -> bool:
    return isinstance(row, dict) and any(is_known_name(key) for key in row) and len(row) > 1


def _read_list(rows: Sequence[Any], options: ReadOptions, where: str) -> FormContent:
    """Read a list: of records, of pairs of an id and texts, or of texts whose places are their ids."""
    if pairs := _find_pairs(rows):
        return FormContent(
            entries=[(parse_id(name, where), parse_texts(texts, f"{where}: {name!r}")) for name, texts in pairs]
        )
    if rows and all(isinstance(row, str | list) for row in rows):
        entries = [(number, parse_texts(row, f"{where}: item {number}")) for number, row in enumerate(rows, 1)]
        return FormContent(entries=entries, layout="lines")
    return read_record_texts([(f"{where}: item {number}", row) for number, row in enumerate(rows, 1)], options, where)


def _find_pairs(rows: Sequence[Any]) -> Sequence[tuple[Any, Any]]:
    """Return rows that are lists of an id and a text, or texts: the first is a number, or has a digit and no blank in
    all rows, where not all of the others are so. None: an empty list."""
    if not rows or not all(isinstance(row, list) and len(row) == 2 and not isinstance(row[0], list) for row in rows):
        return ()
    if not all(isinstance(name, (int, float, str)) for name, _ in rows):
        return ()
    if all(_looks_like_id(name) for name, _ in rows) and not all(_looks_like_id(text) for _, text in rows):
        return [(name, text) for name, text in rows]
    return ()


def _looks_like_id(value: Any) -> bool:
    return not isinstance(value, str) or (
        value.isascii() and any(map(str.isdigit, value)) and not any(map(str.isspace, value))
    )


def _read_coco_captions(content: Mapping[str, Any], options: ReadOptions, where: str) -> FormContent:
    """Read captions in the order of `images`, in which coco-caption goes through them: its tokeniser looks into the
    next caption in a few places."""
    records, images = content["annotations"], content.get("images")
    if not isinstance(records, list):
        raise ValueError(f"{where}: `annotations` is {name_type(records)}, not a list")
    read = read_record_texts([(f"{where}: annotation {i}", row) for i, row in enumerate(records, 1)], options, where)
    rows = [row for row in images if isinstance(row, dict)] if isinstance(images, list) else []
    place = {row["id"]: i for i, row in enumerate(rows) if isinstance(row.get("id"), int | str)}
    entries = sorted(read.entries, key=lambda entry: place.get(entry[0], len(place)))
    names = [row.get("file_name") for row in rows]
    others: dict[str, Sequence[Id]] = {}
    if rows and all(isinstance(name, str) and name for name in names) and all(n in place for n, _ in entries):
        others["file_name"] = [str(names[place[name]]) for name, _ in entries]
    return FormContent(entries=entries, notes=read.notes, other_ids=others, used=read.used)


def _read_karpathy(images: Sequence[Any], options: ReadOptions, where: str) -> FormContent:
    """Read Karpathy's `dataset_*.json`: images with a split and sentences."""
    rows = [(f"{where}: image {number}", row) for number, row in enumerate(images, 1)]
    sentences = {place: get_karpathy_sentences(row, place) for place, row in rows}
    splits = list(dict.fromkeys(row.get("split") for _, row in rows))
    chosen: Any = options.split or ("test" if "test" in splits else splits[0])
    if chosen not in splits or (len(splits) > 1 and not options.split and chosen != "test"):
        listed = ", ".join(map(str, splits))
        raise ValueError(f"{where}: holds the splits {listed}; name one of them with --split")
    rows = [(place, row) for place, row in rows if row.get("split") == chosen]
    if bare := next((place for place, _ in rows if not sentences[place]), None):
        raise ValueError(f"{bare}: 'sentences': expected a text or a list of texts, got an empty list")
    keys = [key for key in ("cocoid", "filename", "imgid") if all(key in row for _, row in rows)]
    if not keys:
        raise ValueError(f"{where}: its images have neither cocoid nor filename nor imgid")
    ids = {key: [parse_id(row[key], place) for place, row in rows] for key in keys}
    notes = () if len(splits) == 1 or options.split else (f"{where}: split {chosen} of {', '.join(map(str, splits))}",)
    return FormContent(
        entries=[
            (name, tuple(text.strip() for text in sentences[place]))
            for name, (place, _) in zip(ids[keys[0]], rows, strict=True)
        ],
        notes=notes,
        other_ids={key: ids[key] for key in keys[1:]},
        used=frozenset({"split"} if options.split else ()),
    )


def get_karpathy_sentences(row: Any, place: str) -> list[str]:
    """Return the raw sentences of an image of Karpathy's `dataset_*.json`.

    Raises:
        ValueError: none, or one without its raw text.
    """
    sentences = row.get("sentences") if isinstance(row, dict) else None
    if not isinstance(sentences, list):
        raise ValueError(f"{place}: the field 'sentences' is missing or not a list")
    if not all(isinstance(one, dict) and isinstance(one.get("raw"), str) for one in sentences):
        raise ValueError(f"{place}: the field 'raw' is missing, or not text, in one of its sentences")
    return [one["raw"] for one in sentences]


def read_record_texts(rows: Sequence[tuple[str, Any]], options: ReadOptions, where: str) -> FormContent:
    """Read records of an id and texts, whatever their keys are called.

    Args:
        rows: place and record.
    """
    if rows and all(isinstance(row, list) for _, row in rows):
        return _read_list([row for _, row in rows], options, where)
    if (single := _find_single_texts(rows)) is not None:
        return FormContent(entries=single)
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{place}: expected an object with an id and a text, got {name_type(row)}")
    if rows and "image/key" in rows[0][1] and any(isinstance(value, dict) for value in rows[0][1].values()):
        return FormContent(entries=list(_read_xm3600(rows, options)), used=frozenset({"language"}))
    rows, split_notes, used = keep_split(rows, options, where)
    rows, language_notes = keep_language(rows, options.language, where)
    entries: list[Entry] = []
    chosen: dict[tuple[str, ...], TextColumns] = {}
    for place, row in rows:
        keys = tuple(row)
        if keys not in chosen:
            chosen[keys] = _choose_keys(keys, options, place)
        columns = chosen[keys]
        texts = tuple(
            text
            for name in columns.texts
            if row[name] is not None or len(columns.texts) == 1
            for text in parse_texts(take_language(row[name], options.language, place), f"{place}: {name!r}")
        )
        if not texts:
            raise ValueError(f"{place}: expected a text or a list of texts, got null")
        entries.append((len(entries) + 1 if columns.id is None else parse_id(row[columns.id], place), texts))
    ways = set(chosen.values())
    if len({way.id for way in ways}) > 1:
        raise ValueError(f"{where}: its records have different keys of ids; name one with --id-column")
    if ways and next(iter(ways)).id is not None:
        check_split_ids(rows, [name for name, _ in entries], options, where)
    usual = all(way.id in ("id", "image_id") and way.texts[0] in ("text", "texts", "caption") for way in ways)
    notes = () if usual else tuple(sorted(f"{where}: {way.describe(kind='key')}" for way in ways))
    used = used.union(*(way.used(options) for way in ways))
    others = find_other_ids(next(iter(ways)), [row for _, row in rows]) if len(ways) == 1 else {}
    return FormContent(entries=entries, notes=(*notes, *split_notes, *language_notes), other_ids=others, used=used)


def _find_single_texts(rows: Sequence[tuple[str, Any]]) -> list[Entry] | None:
    """Return the entries of records that each hold an id and its texts and nothing else: `{"42": "a dog"}`; None for
    others."""
    if not all(isinstance(row, dict) and len(row) == 1 for _, row in rows):
        return None
    pairs = [(place, *next(iter(row.items()))) for place, row in rows]
    names = {name for _, name, _ in pairs}
    if len(names) < len(pairs) or not all(map(_looks_like_id, names)):
        return None
    return [(name, parse_texts(value, place)) for place, name, value in pairs]


def _choose_keys(keys: Sequence[str], options: ReadOptions, place: str) -> TextColumns:
    """Choose keys of a record; one without an id is refused, as its place may be any."""
    try:
        columns = choose_columns(keys, options, place, kind="key")
    except ValueError as error:
        if "not clear" in str(error):
            raise
        columns = None
    if columns is None or columns.id is None:
        known_id = any(is_known_name(key) for key in keys) and columns is None
        missing = "`text`, `texts` or `caption`" if known_id else "`id` or `image_id`"
        option = "--text-column" if known_id else "--id-column"
        raise ValueError(
            f"{place}: the key {missing} is missing; found: {', '.join(keys) or 'nothing'} ({option} names another)"
        )
    return columns


def _read_xm3600(rows: Sequence[tuple[str, Any]], options: ReadOptions) -> Iterator[Entry]:
    """Read `captions.jsonl` of Crossmodal-3600."""
    for place, row in rows:
        captions = find_xm3600_captions(row, options.language, place)
        yield parse_id(row["image/key"], place), parse_texts(captions, f"{place}: 'caption'")


def find_xm3600_captions(row: Mapping[str, Any], language: str, place: str) -> Any:
    """Return the raw captions of an image of Crossmodal-3600 in a language; how the tokenised ones that the file holds
    too were made is not documented.

    Raises:
        ValueError: the image has no captions in the language.
    """
    captions = row.get(language)
    if not isinstance(captions, dict):
        held = ", ".join(key for key, value in row.items() if isinstance(value, dict))
        wanted = repr(language) if language else "a language (--lang)"
        raise ValueError(f"{place}: image {row.get('image/key')} has no captions in {wanted}; found: {held}")
    return captions.get("caption")
