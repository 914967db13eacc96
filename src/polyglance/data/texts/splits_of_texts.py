"""Splits of files that hold several: a column, or a key of records, names the split of a text, or keys hold splits."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["check_split_ids", "find_split_key", "keep_split", "take_split"]

_SPLIT_KEYS = ("split", "subset", "partition")
"""Columns, and keys of records, that name the split of the text beside them."""
_SPLITS = frozenset(
    {
        *("train", "training", "restval", "val", "valid", "validation", "dev", "devel", "development"),
        *("test", "testing", "testdev", "devtest", "eval"),
    }
)
_Rows = Sequence[tuple[str, Mapping[str, Any]]]


def find_split_key(names: Sequence[str]) -> str | None:
    """Return the column that names splits, in any case."""
    return next((name for key in _SPLIT_KEYS for name in names if name.strip().lower() == key), None)


def keep_split(rows: _Rows, split: str, where: str) -> tuple[_Rows, tuple[str, ...], frozenset[str]]:
    """Keep the rows of the asked split, where a column names the split of each.

    Args:
        rows: place and record.
        split: asked for; empty: all rows are kept.

    Returns:
        The rows, notes for people, and the options that had an effect.

    Raises:
        ValueError: the asked split is none of them.
    """
    key = find_split_key(list(rows[0][1])) if split and rows else None
    if key is None:
        return rows, (), frozenset()
    values = [_name_split(row.get(key)) for _, row in rows]
    chosen = _choose_split([value for value in values if value], split, f"{where}: the {key!r}")
    kept = [row for row, value in zip(rows, values, strict=True) if value == chosen]
    return kept, (f"{where}: {len(kept):,} of {len(rows):,} rows, those of {key} {chosen}",), frozenset({"split"})


def _choose_split(names: Sequence[str], split: str, where: str) -> str:
    """Return the one of the names that is asked for, in any case.

    Raises:
        ValueError: none of them is, or several are.
    """
    names = list(dict.fromkeys(names))
    alike = [split] if split in names else [name for name in names if name.lower() == split.lower()]
    if len(alike) != 1:
        asked = f"; --split {split} is none of them" if split else "; name one of them with --split"
        raise ValueError(f"{where} is one of {', '.join(names) or '(empty cells)'}{asked}")
    return alike[0]


def check_split_ids(rows: _Rows, ids: Sequence[Any], where: str) -> None:
    """Refuse ids that stand for other texts in each split: they would be counted as texts of the same one.

    Args:
        rows: the rows that are read, of one split if one was asked for; ids: their ids.
    """
    key = find_split_key(list(rows[0][1])) if rows else None
    if key is None:
        return
    first: dict[str, str] = {}
    for name, (_, row) in zip(ids, rows, strict=True):
        split = _name_split(row.get(key))
        if first.setdefault(str(name), split) != split:
            both = f"{first[str(name)] or '(empty)'} and {split or '(empty)'}"
            raise ValueError(f"{where}: the id {name!r} is in {both} ({key!r}); name one of them with --split")


def take_split(content: Mapping[str, Any], split: str, where: str) -> str | None:
    """Return the key of the asked split in an object whose keys are all splits; None for another object.

    Raises:
        ValueError: several splits, and none is asked for, or one that is not there.
    """
    if not content or not all(key.lower() in _SPLITS and isinstance(content[key], list | dict) for key in content):
        return None
    return next(iter(content)) if len(content) == 1 and not split else _choose_split(list(content), split, where)


def _name_split(value: Any) -> str:
    return "" if value is None else str(value).strip()
