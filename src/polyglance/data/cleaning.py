"""Texts of unknown origin, brought to one line."""

import re
import unicodedata

__all__ = ["is_blank", "one_line"]

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029][ \x00-\x1f\x7f-\x9f\u2028\u2029]*")


def one_line(text: str) -> str:
    """Replace runs of control characters and line breaks by one space; other white space stays (French needs its own).

    Byte order marks at the beginning and white space at both ends are removed.
    """
    return _BREAKS.sub(" ", text).lstrip("\ufeff").strip()


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: only control characters, format characters and separators."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)
