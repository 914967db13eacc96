"""Plan of an import, shown before anything is written: `polyglance data import --dry-run`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from polyglance.data.sources.tmx import read_all_languages
from polyglance.encodings import COMPRESSED_SUFFIXES, detect_text_format, open_unpacked
from polyglance.language_tags import parse_language_tag

__all__ = ["ImportPlan", "format_import_plan", "is_tmx", "plan_tmx"]


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """Plan of the import of a table, decided from its first rows; nothing is written."""

    table: str
    format: str
    """Encoding, compression, delimiter and quotes, in words."""
    columns: Mapping[str, str]
    """Column -> what it is taken as."""
    samples: tuple[Mapping[str, str], ...]
    """The first two rows: column -> beginning of its cell."""
    texts: Mapping[str, tuple[str, ...]]
    """Language -> the first texts that would be kept."""
    num_rows: int
    """Rows that were looked at."""
    num_good: int
    """Those of them that have an image file and texts; images are not decoded."""
    dropped: Mapping[str, int]
    """Reason -> rows and texts of them that would be left out."""
    notes: tuple[str, ...] = ()
    """Marks of answers and lists in the texts that would be kept, one line each."""


def is_tmx(path: Path) -> bool:
    """Tell whether a file is a translation memory by its name."""
    name = path.name.lower()
    return any(name.endswith(f".tmx{packed}") for packed in ("", *COMPRESSED_SUFFIXES))


def plan_tmx(path: Path, *, num_units: int) -> ImportPlan:
    """Look into a translation memory: its languages and their first texts. It has no images, so nothing is imported.

    Raises:
        ValueError: no such file, or not well-formed.
    """
    try:
        text = detect_text_format(path)
        with open_unpacked(path) as file:
            units = [unit.texts for unit in islice(read_all_languages(file, path), num_units)]
    except OSError as error:
        raise ValueError(f"{path}: no such file, or it may not be read ({error.strerror})") from None
    numbers = Counter(tag for texts in units for tag in texts)
    columns, found = {}, {}
    for tag, number in numbers.items():
        parsed = parse_language_tag(tag)
        code = parsed.code if parsed is not None else ""
        columns[tag] = f"{code or 'not a known language'}, in {number} units"
        found[code or tag] = tuple(islice((texts[tag] for texts in units if tag in texts), 2))
    return ImportPlan(
        table=str(path),
        format=f"translation memory (TMX), {text.describe()}; without images: name it under [[bitext]] in a recipe",
        columns=columns,
        samples=tuple(units[:2]),
        texts=found,
        num_rows=len(units),
        num_good=0,
        dropped={},
    )


def format_import_plan(plan: ImportPlan) -> str:
    """Return the plan as lines of text."""
    lines = [f"{plan.table}: {plan.format}", f"first {plan.num_rows} rows: {plan.num_good} can be used"]
    for name, decision in plan.columns.items():
        cells = " | ".join(sample.get(name, "") for sample in plan.samples)
        lines.append(f"  column {name!r}: {decision}    {cells}")
    lines += [f"  {code}: {' | '.join(texts)}" for code, texts in plan.texts.items()]
    lines += [f"  left out, {reason}: {count}" for reason, count in plan.dropped.items()]
    lines += [f"  {note}" for note in plan.notes]
    return "\n".join([*lines, "nothing was written"])
