"""Texts of unknown origin, brought to one line, and what shows that they are not what they are said to be."""

import re
import unicodedata
from functools import cache

from ftfy.badness import is_bad

from polyglance.languages import language
from polyglance.scripts import is_in_another_script

__all__ = ["find_flaw", "has_control_inside", "has_suspect_bytes", "is_blank", "one_line"]

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029][ \x00-\x1f\x7f-\x9f\u2028\u2029]*")


_CONTROL_INSIDE = re.compile(r"(?<=\S)(?![\s\x85])[\x00-\x08\x0e-\x1b\x7f-\x9f](?=[^\s\x00-\x1f\x7f-\x9f])")


def has_control_inside(text: str) -> bool:
    """Whether a control character that is no white space stands between visible ones: `A\\0 \\0c\\0a` of a text in
    UTF-16, or `it\\x92s` of Windows-1252 that was read as Latin-1. A space in its place would be another text."""
    return not text.isprintable() and _CONTROL_INSIDE.search(text) is not None


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
_ENDS = bytes(range(0x80, 0xC0))
_NO_LETTERS = bytes(byte for byte in range(0x80) if not chr(byte).isalpha())
_LEADS = {"Grek": b"\xce\xcf", "Arab": b"\xd8\xd9\xda\xdb", "Hebr": b"\xd7", "Hang": b"\xeb\xec"}
"""Script -> first bytes of its letters in UTF-8, and of no others."""

_HARMLESS_LATIN = bytes(range(0x80)) + b"\xc3\xc4\xc7\xc8" + _ENDS


@cache
def _harmless_bytes(code: str) -> bytes:
    """Bytes of UTF-8 that no flawed text of a language is made of alone. They let most texts pass at once."""
    script = language(code).script
    if script == "Latn":
        return _HARMLESS_LATIN
    return _NO_LETTERS + _LEADS.get(script, b"") + _ENDS


def has_suspect_bytes(text: str, code: str) -> bool:
    """Whether `find_flaw` has to look at a text. False for most texts, in a tenth of its time."""
    if (harmless := _harmless_bytes(code)) is _HARMLESS_LATIN:
        try:
            narrow = text.encode("latin-1")
        except UnicodeEncodeError:
            pass
        else:
            return b"\xc3" in narrow or b"\xc2" in narrow or b"\xc4" in narrow or b"\xc5" in narrow
    return bool(text.encode("utf-8", "replace").translate(None, harmless))


def find_flaw(text: str, code: str) -> str:
    """Say what shows that a text was spoilt, or is not in the language `code`; empty if nothing does."""
    if not has_suspect_bytes(text, code):
        return ""
    if "\ufffd" in text:
        return "characters lost in an earlier conversion (U+FFFD)"
    if not text.isascii() and _SUSPECT.search(text) and is_bad(text):
        return "UTF-8 that was read in another encoding"
    return f"in another script than {code}" if is_in_another_script(text, code) else ""
