"""Splits of files that hold several: a column, or a key of records, names the split of a text, or keys hold splits."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from polyglance.data.texts.text_set import ReadOptions

__all__ = ["check_split_ids", "choose_split", "is_split", "is_split_name", "keep_split", "take_split"]

_SPLIT_KEYS = ("split", "subset", "partition", "set")
"""Columns, and keys of records, that name the split of the text beside them. All but the first also have other
meanings: they count where a value begins with a known name (`test2016`), or is the split that is asked for."""
_SPLITS = frozenset(
    {
        *("train", "training", "restval", "val", "valid", "validation", "dev", "devel", "development"),
        *("test", "testing", "testdev", "devtest", "eval"),
    }
)
_Rows = Sequence[tuple[str, Mapping[str, Any]]]


def is_split_name(name: str) -> bool:
    """Tell whether a column may name splits, in any case; its cells decide."""
    return name.strip().lower() in _SPLIT_KEYS


def _find_split_key(rows: _Rows, options: ReadOptions) -> str | None:
    """Return the key that names splits, in any of the rows: records may lack it."""
    found = {name for _, row in rows for name in row if is_split_name(name)}
    found -= {*options.text_column, options.id_column}
    for name in sorted(found, key=lambda name: (_SPLIT_KEYS.index(name.strip().lower()), name)):
        values = {_name_split(row.get(name)).lower() for _, row in rows}
        if name.strip().lower() == "split" or any(map(is_split, values)) or options.split.lower() in values - {""}:
            return name
    return None


def is_split(value: str) -> bool:
    """Tell whether a value begins with the known name of a split, in any case: `test`, `Test2016`, `val_1`."""
    return re.split(r"[^a-z]", value.lower(), maxsplit=1)[0] in _SPLITS


def keep_split(rows: _Rows, options: ReadOptions, where: str) -> tuple[_Rows, tuple[str, ...], frozenset[str]]:
    """Keep the rows of the asked split, where a column names the split of each, in any case (`Test` and `test` are
    one). Rows that name none are left out.

    Args:
        rows: place and record.
        options: the split; empty: all rows are kept. Where a file or a key of that name was chosen already, rows that
            name other splits only are all kept.

    Returns:
        The rows, notes for people, and the options that had an effect.

    Raises:
        ValueError: the asked split is none of them.
    """
    key = _find_split_key(rows, options) if options.split else None
    if key is None:
        return rows, (), frozenset()
    values = [_name_split(row.get(key)) for _, row in rows]
    names = [value for value in values if value]
    if options.split_is_chosen and options.split.lower() not in {name.lower() for name in names}:
        others = ", ".join(dict.fromkeys(names))
        notes = (f"{where}: its rows, which are those of {options.split} by its place, name the {key} {others}",)
        return rows, notes if names else (), frozenset()
    chosen = [name for name in dict.fromkeys(names) if name.lower() == options.split.lower()]
    chosen = chosen or [choose_split(names, options.split, f"{where}: the {key!r}")]
    kept = [row for row, value in zip(rows, values, strict=True) if value in chosen]
    note = f"{where}: {len(kept):,} of {len(rows):,} rows, those of {key} {', '.join(chosen)}"
    if unnamed := len(values) - len(names):
        note += f"; left out: {unnamed:,} without a {key}"
    return kept, (note,), frozenset({"split"})


def choose_split(names: Sequence[str], split: str, where: str) -> str:
    """Return the one of the names that is asked for, in any case.

    Args:
        split: asked for; empty: there has to be one only.
        where: file, and what names the splits, for messages.

    Raises:
        ValueError: none of them is, or several are.
    """
    names = list(dict.fromkeys(names))
    alike = [split] if split in names else [name for name in names if name.lower() == split.lower()]
    if not split and len(names) == 1:
        return names[0]
    if len(alike) != 1:
        asked = f"; --split {split} is none of them" if split else "; name one of them with --split"
        raise ValueError(f"{where} is one of {', '.join(names) or '(empty cells)'}{asked}")
    return alike[0]


def check_split_ids(rows: _Rows, ids: Sequence[Any], options: ReadOptions, where: str) -> None:
    """Refuse ids that stand for other texts in each split: they would be counted as texts of the same one.

    Args:
        rows: the rows that are read, of one split if one was asked for; ids: their ids.
    """
    key = None if options.split_is_chosen else _find_split_key(rows, options)
    if key is None:
        return
    first: dict[str, str] = {}
    for name, (_, row) in zip(ids, rows, strict=True):
        split = _name_split(row.get(key))
        if first.setdefault(str(name), split).lower() != split.lower():
            both = f"{first[str(name)] or '(empty)'} and {split or '(empty)'}"
            raise ValueError(f"{where}: the id {name!r} is in {both} ({key!r}); name one of them with --split")


def take_split(content: Mapping[str, Any], split: str, where: str) -> str | None:
    """Return the key of the asked split in an object whose keys are all splits; None for another object.

    Raises:
        ValueError: several splits, and none is asked for, or one that is not there.
    """
    if not content or not all(key.lower() in _SPLITS and isinstance(content[key], list | dict) for key in content):
        return None
    return choose_split(list(content), split, where)


def _name_split(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()  # NaN: a missing value of pandas
