"""Texts of unknown origin, brought to one line, and what shows that they are not what they are said to be."""

import re
import unicodedata

from ftfy.badness import is_bad

from polyglance.scripts import is_in_another_script

__all__ = ["find_flaw", "is_blank", "one_line"]

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029][ \x00-\x1f\x7f-\x9f\u2028\u2029]*")


def one_line(text: str) -> str:
    """Replace runs of control characters and line breaks by one space; other white space stays (French needs its own).

    Byte order marks at the beginning and white space at both ends are removed.
    """
    return _BREAKS.sub(" ", text).lstrip("\ufeff").strip()


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: only control characters, format characters and separators."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


_SUSPECT = re.compile(
    "[\u00c2-\u00f4][\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122]"
    "|[\u0420\u0421\u0432\u0413][\u0400-\u040f\u0450-\u045f\u0490\u0491\xa0-\xbf\u2013-\u2122]"
)
"""Pairs of characters that the bytes of UTF-8 give when they are read as Windows-1252 or Windows-1251."""


def find_flaw(text: str, code: str) -> str:
    """Say what shows that a text was spoilt, or is not in the language `code`; empty if nothing does."""
    if "\ufffd" in text:
        return "characters lost in an earlier conversion (U+FFFD)"
    if not text.isascii() and _SUSPECT.search(text) and is_bad(text):
        return "UTF-8 that was read in another encoding"
    return f"in another script than {code}" if is_in_another_script(text, code) else ""
