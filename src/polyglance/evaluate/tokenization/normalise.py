"""Changes of texts before and after they are cut into words: line breaks, Unicode forms, punctuation."""

import re
import string
import unicodedata
from collections.abc import Iterable
from typing import Literal

__all__ = [
    "CAPTION_PUNCTUATION",
    "PAPER_PUNCTUATION",
    "UnicodeForm",
    "delete_characters",
    "delete_invisible",
    "drop_tokens",
    "has_line_break",
    "normalise",
    "without_line_breaks",
]

UnicodeForm = Literal["none", "NFC", "NFKC"]

_LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Every character that some tool takes for the end of a line (`str.splitlines`, Java's readers)."""
_INVISIBLE = dict.fromkeys(
    code
    for first, last in (
        (0x00, 0x08),
        (0x0E, 0x1B),
        (0x7F, 0x84),
        (0x86, 0x9F),
        (0xAD, 0xAD),
        (0x34F, 0x34F),
        (0x61C, 0x61C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180E, 0x180E),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0xFE0E, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFF9, 0xFFFB),
    )
    for code in range(first, last + 1)
)
"""Invisible characters: zero-width spaces and joiners, soft hyphens, marks of direction, variation selectors, fillers,
control characters that are not white space."""
_LINE_BREAK = re.compile(f"[{_LINE_BREAKS}]")
_TO_SPACES = str.maketrans(dict.fromkeys(_LINE_BREAKS, " "))

CAPTION_PUNCTUATION = (
    frozenset(string.punctuation) - frozenset("$^|~") | frozenset("·。、《》") | {"...", "''", "``", "--"}
)
"""Tokens that the published multilingual caption tool leaves out (multicaptioneval, 2024)."""

PAPER_PUNCTUATION = frozenset(string.punctuation) | frozenset("·。、《》，！？；：“”‘’…„–—«»¿¡")
"""Characters that the paper's evaluation deletes, also inside words (official code, src/eval.py)."""


def has_line_break(text: str) -> bool:
    """Tell whether a tool that works line by line would take the text for several.

    A line feed at the end does not count: COCO's own references have some, and every tool strips or replaces it.
    """
    return _LINE_BREAK.search(text) is not None and (
        any(character in text for character in _LINE_BREAKS[1:]) or "\n" in text.strip()
    )


def without_line_breaks(text: str) -> str:
    """Replace each line-break character by a space."""
    return text.translate(_TO_SPACES) if _LINE_BREAK.search(text) else text


def normalise(text: str, form: UnicodeForm) -> str:
    """Bring a text into a Unicode normalisation form."""
    return text if form == "none" else unicodedata.normalize(form, text)


def delete_invisible(text: str) -> str:
    """Delete invisible characters, such as U+200B, which some Lao and Khmer texts have between words and others have
    not."""
    return text if text.isascii() and text.isprintable() else text.translate(_INVISIBLE)


def drop_tokens(tokenized: str, unwanted: Iterable[str]) -> str:
    """Leave out whole tokens."""
    return " ".join(token for token in tokenized.split() if token not in unwanted)


def delete_characters(tokenized: str, unwanted: Iterable[str]) -> str:
    """Delete characters wherever they are, and tokens that are empty then."""
    return " ".join(tokenized.translate(str.maketrans("", "", "".join(unwanted))).split())
