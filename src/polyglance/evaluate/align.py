"""Matching of the ids of predictions and references, where their files name segments in different ways."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from polyglance.data.texts.text_set import Id, TextSet

__all__ = ["align_ids"]

_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("file names without folders", lambda name: re.split(r"[/\\]", name)[-1]),
    ("file names without folders and extensions", lambda name: re.sub(r"\.\w{1,5}$", "", re.split(r"[/\\]", name)[-1])),
    ("the number at the end of file names", lambda name: _last_number(name)),
    ("hexadecimal numbers", lambda name: str(int(name, 16)) if re.fullmatch(r"[0-9a-f]{16}", name) else name),
)
"""Other spellings of an id, in the order in which they are tried."""


def _last_number(name: str) -> str:
    match = re.search(r"(\d+)(\.\w{1,5})?$", name)
    return str(int(match[1])) if match else name


def align_ids(hypotheses: TextSet, references: TextSet) -> tuple[TextSet, list[str]]:
    """Give the predictions the ids of the references; return them, and notes on how ids were matched if they differed.

    Lines are matched by their positions. So are lines and segments of markup, or positions in fairseq's output.

    Raises:
        ValueError: positions on one side and ids of another kind on the other, or different numbers of positions.
    """
    layouts = {hypotheses.layout, references.layout}
    if layouts == {"lines"}:
        _check_equal_lines(hypotheses, references)
        return hypotheses, []
    if layouts == {"ids"} or len(layouts) == 1:
        return _match_ids(hypotheses, references)
    if layouts == {"ids", "markup"}:
        raise ValueError(f"{hypotheses.source} and {references.source}: ids of different kinds; {_no_match()}")
    places, named = _find_places(hypotheses), _find_places(references)
    first, second = len(places), len(named)
    if first != second:
        _check_equal_lines(hypotheses, references)
        raise ValueError(
            f"{hypotheses.source} has {first:,} segments, {references.source} {second:,}; where one side has no ids, "
            "texts are matched by position, and both sides need the same number"
        )
    sources = f"{hypotheses.source} and {references.source}"
    by_place = {place: name for name, place in named.items()}
    renamed = _respell(hypotheses, [by_place[places[str(name)]] for name, _ in hypotheses.entries])
    return renamed, [f"{sources} are matched by the positions of their {first:,} segments"]


def _no_match() -> str:
    return "write both as JSON lines with an id and a text"


def _find_places(texts: TextSet) -> dict[str, int]:
    """Return id -> its position, from 1.

    Raises:
        ValueError: the ids are not positions.
    """
    names = list(texts.by_id())
    if texts.layout == "lines":
        return {name: int(name) for name in names}
    if texts.layout == "markup":
        return {name: place for place, name in enumerate(names, 1)}
    numbers = {name: int(name) for name in names if name.isdecimal()}
    start = min(numbers.values(), default=2)
    if len(numbers) < len(names) or start not in (0, 1) or max(numbers.values()) != start + len(names) - 1:
        raise ValueError(
            f"{texts.source}: has ids, and the other file has none (lines or rows only), so that texts cannot be "
            f"matched: {_no_match()}"
        )
    return {name: number + 1 - start for name, number in numbers.items()}


def _check_equal_lines(hypotheses: TextSet, references: TextSet) -> None:
    """Refuse files of lines with different numbers of lines; the message names blank lines, if there are any."""
    first, second = (len(one.by_id()) for one in (hypotheses, references))
    if first == second:
        return
    longer = hypotheses if first > second else references
    blank = [name for name, texts in longer.entries if not any(text.strip() for text in texts)]
    message = f"{hypotheses.source} has {first:,} lines, {references.source} {second:,}"
    if longer.layout == "lines" and blank:
        lines = ", ".join(map(str, blank[:3])) + (", ..." if len(blank) > 3 else "")
        raise ValueError(
            f"{message}: line {lines} of {longer.source} is blank, and each text after it is one line too low; "
            "remove it, or score files with ids"
        )
    if {hypotheses.layout, references.layout} == {"lines"}:
        raise ValueError(
            f"{message}: lines are matched by position, so a missing line shifts all lines after it; find where the "
            "files differ, or score files with ids"
        )


def _match_ids(hypotheses: TextSet, references: TextSet) -> tuple[TextSet, list[str]]:
    """Find a spelling of the ids that both sides share, where they have no id in common as written.

    Raises:
        ValueError: there is none.
    """
    if set(hypotheses.by_id()) & set(references.by_id()):
        return hypotheses, []
    for left_name, left in _spellings(hypotheses):
        for right_name, right in _spellings(references):
            if _covers(hypotheses, left, references, right):
                names = {spelled: str(name) for spelled, (name, _) in zip(right, references.entries, strict=True)}
                how = f"{hypotheses.source} by {left_name}, {references.source} by {right_name}"
                renamed = _respell(hypotheses, [names[spelled] for spelled in left])
                return renamed, [f"the files have no id in common as written; matched: {how}"]
    one, other = (next(iter(texts.by_id())) for texts in (hypotheses, references))
    raise ValueError(
        f"{hypotheses.source}: no id is also in {references.source} ({one!r} here, {other!r} there); they belong to "
        "different data"
    )


def _spellings(texts: TextSet) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield names and spellings of the ids, one for each entry."""
    columns: dict[str, Sequence[Id]] = {"ids": [name for name, _ in texts.entries], **texts.other_ids}
    for column, names in columns.items():
        plain = [str(name) for name in names]
        yield f"its {column}", plain
        for form, spell in _FORMS:
            if (changed := [spell(name) for name in plain]) != plain:
                yield f"its {column} as {form}", changed


def _covers(hypotheses: TextSet, left: Sequence[str], references: TextSet, right: Sequence[str]) -> bool:
    """Tell whether each prediction has references, and no two ids have the same spelling."""
    predicted, known = set(left), set(right)
    return predicted <= known and len(predicted) == len(hypotheses.by_id()) and len(known) == len(references.by_id())


def _respell(texts: TextSet, names: Sequence[str]) -> TextSet:
    entries = tuple((name, more) for name, (_, more) in zip(names, texts.entries, strict=True))
    return replace(texts, entries=entries, other_ids={})
