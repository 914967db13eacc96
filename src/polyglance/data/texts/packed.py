"""Several texts that were written into one string: as a list, or with a mark between them."""

import re
from collections.abc import Sequence
from dataclasses import replace

from polyglance.data.texts.columns import parse_list
from polyglance.data.texts.text_set import Entry, FormContent, ReadOptions

__all__ = ["KEPT", "expand_lists", "find_mark", "split_texts"]

KEPT = "none"
"""Value of `ReadOptions.split_texts` that takes each text as one, whatever marks are in it."""
_MARKS = (
    *(
        "|||",
        "||",
        ";;",
        "###",
        "@@@",
        "$$$",
        "&&",
        "§§",
        "~~",
        "¦",
        "{}",
        "__sep__",
        "<sep>",
        "<SEP>",
        "[sep]",
        "[SEP]",
    ),
    *("</s>", "<br>", "<br/>", "\\n", "\t"),
)
"""Marks that people write between texts, and that texts do not hold; the longer of two that overlap comes first."""
_WEAK_MARKS = (" | ", " # ", " / ", " // ", " ; ", " & ", "§", "~")
"""Marks that texts hold now and then."""
_OFTEN_IN_TEXTS = ("#", ";", "|")
"""Marks that texts of some kinds hold often; they stand between texts where nearly all texts have them."""
_LINE_FEED = "\n"
"""A mark between references alone: a model's answer may have several lines."""
_SHARE, _WEAK_SHARE, _OFTEN_SHARE = 0.1, 0.5, 0.9
"""Smallest share of the texts with a mark from which they are taken for several texts each."""
_LEAST = 2
"""Smallest number of texts with a mark from which they are taken for several texts each."""
_TAG = re.compile(r"<[^<>]*>|\[/?[A-Z]+\]")
_LETTERS = re.compile(r"[^\W\d_]{2}|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_ESCAPES = {"\\n": "\n", "\\t": "\t"}
"""Marks as a shell passes them on -> characters. A file that holds `\\n` as two characters is split there as well."""


def expand_lists(content: FormContent, source: str) -> FormContent:
    """Read lists of texts that were written into one string each."""
    if content.layout == "lines" and len(content.entries) == 1 and (only := parse_list(content.entries[0][1][0])):
        several: list[Entry] = [(number, (text,)) for number, text in enumerate(only, 1)]
        note = f"{source}: its only line is a list; the {len(only):,} texts in it are read as one text per line"
        return replace(content, entries=several, notes=(*content.notes, note))
    if not any(
        texts[0].lstrip()[:1] in ("[", "(", "a") and texts[0].rstrip()[-1:] in ("]", ")")
        for _, texts in content.entries
    ):
        return content
    lists = [parse_list(texts[0]) if len(texts) == 1 else None for _, texts in content.entries]
    num_lists = sum(one is not None for one in lists)
    num_texts = sum(any(text.strip() for text in texts) for _, texts in content.entries)
    if num_lists == 0:
        return content
    if num_lists < num_texts:
        if 2 * num_lists >= num_texts:
            raise ValueError(
                f"{source}: {num_lists:,} of {num_texts:,} texts are lists written into one string and the others are "
                "not; write all texts as JSON lists"
            )
        note = (
            f"{source}: {num_lists:,} of {num_texts:,} texts look like lists written into one string; kept as they are"
        )
        return replace(content, notes=(*content.notes, note))
    entries = [(name, texts if one is None else one) for (name, texts), one in zip(content.entries, lists, strict=True)]
    num_read = sum(len(texts) for _, texts in entries)
    note = f"{source}: each text is a list written into one string; the {num_read:,} texts in them are read"
    return replace(content, entries=entries, notes=(*content.notes, note))


def split_texts(content: FormContent, source: str, options: ReadOptions) -> FormContent:
    """Split references at the mark of `options.split_texts`.

    Raises:
        ValueError: texts hold a mark as often as several texts in one string would, and no mark is named, or only a
            part of it.
    """
    texts = [text for _, several in content.entries for text in several]
    mark = find_mark(texts, options.role)
    if options.role == "references" and options.split_texts not in ("", KEPT):
        part, whole = options.split_texts.strip(), (mark or "").strip()
        if part and part != whole and part in whole:
            raise ValueError(f"{source}: texts hold {whole!r}, of which {part!r} is a part; split at {whole!r}")
        return _split(content, source, options.split_texts)
    if mark is None:
        return content
    if options.split_texts == KEPT:
        return replace(content, used=content.used | {"split_texts"})
    held = [text for text in texts if _is_between(mark, text)]
    shown = mark.replace("\n", "\\n").replace("\t", "\\t")
    helps = f"--split-texts '{shown}' splits them there, " if options.role == "references" else ""
    raise ValueError(
        f"{source}: {len(held):,} of {len(texts):,} texts hold '{shown}', as several texts in one string do "
        f"({held[0][:60]!r}); {helps}--split-texts {KEPT} takes each as one text"
    )


def find_mark(texts: Sequence[str], role: str = "references") -> str | None:
    """Return the mark that stands between several texts in one string; None if there is none."""
    joined = "\x00".join(texts)
    given = sum(bool(text.strip()) for text in texts)
    strong = [(mark, _SHARE) for mark in _MARKS]
    weak = [(mark, _WEAK_SHARE) for mark in (*_WEAK_MARKS, *((_LINE_FEED,) if role == "references" else ()))]
    often = [(mark, _OFTEN_SHARE) for mark in _OFTEN_IN_TEXTS] if role == "references" else []
    for mark, share in (*strong, *weak, *often):
        if mark in joined and sum(_is_between(mark, text) for text in texts) >= max(_LEAST, share * given):
            return mark
    return None


def _is_between(mark: str, text: str) -> bool:
    """Tell whether a mark has words before and after it."""
    if mark not in text:
        return False
    pieces = [piece for piece in text.split(mark) if _LETTERS.search(_TAG.sub(" ", piece))]
    return len(pieces) > 1


def _split(content: FormContent, source: str, mark: str) -> FormContent:
    """Split all texts at a mark; empty pieces are left out, but for a text that is empty as a whole."""
    marks = {mark, _ESCAPES.get(mark, mark)}
    pattern = re.compile("|".join(re.escape(one) for one in sorted(marks, key=len, reverse=True)))
    entries: list[Entry] = []
    for name, texts in content.entries:
        pieces = [piece.strip() for text in texts for piece in pattern.split(text)]
        entries.append((name, tuple(filter(None, pieces)) or ("",)))
    before, after = (sum(len(texts) for _, texts in one) for one in (content.entries, entries))
    if all(pattern.search(text) is None for _, texts in content.entries for text in texts):
        return content
    note = f"{source}: {before:,} texts are split at {mark!r} into {after:,}"
    return replace(content, entries=entries, notes=(*content.notes, note), used=content.used | {"split_texts"})
