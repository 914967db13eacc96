"""Cleaning of texts of unknown origin to one line, and checks whether they are damaged or in another language."""

import html
import re
import string
import unicodedata
from collections.abc import Mapping
from functools import cache

from ftfy.badness import is_bad

from polyglance.languages import get_language
from polyglance.scripts import is_in_another_script, may_be_in_another_script

__all__ = [
    "find_flaw",
    "has_control_inside",
    "has_tags",
    "is_blank",
    "is_turned_around",
    "join_lines",
    "may_have_flaw",
    "resolve_entities",
    "without_invisible",
]

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029][ \x00-\x1f\x7f-\x9f\u2028\u2029]*")


_ENTITY = re.compile(r"&(?:#\d{1,8}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
"""Only with its semicolon: HTML 5 also reads `&copy` without one, which would change plain text and addresses."""
_MOST_ESCAPES = 3
"""Largest number of times that a text is taken to be escaped."""
_TAG = re.compile(
    r"""(?<!<)</[A-Za-z][^<>]*>(?!>)|<!--|<!\[CDATA\[|<\|\w+\|>"""
    r"""|(?<!<)<[A-Za-z][\w:.-]*(?:\s+[\w:@.-]+\s*=[^<>]*|\s+(?:async|autoplay|checked|controls|defer|disabled|hidden"""
    r"""|loop|muted|nowrap|readonly|required|selected)\b[^<>]*)?\s*/?>(?!>)"""
)
"""A tag: a name, perhaps with attributes, or `<|pad|>`. `x<y and y>z` is not a tag, and `<<` is a quotation mark."""
_NOTHING = re.compile("[\u00ad\u2060\ufeff]")
_JOINED = "\u0600-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefe\U00010a00-\U00011fff"
"""Letters of scripts that write with joiners, also inside a text in another script."""
_PICTOGRAMS = "\U0001f000-\U0001faff\u2190-\u2bff\ufe0f"
_JOINER = re.compile(f"(?<![{_JOINED}{_PICTOGRAMS}])\u200d|(?<![{_JOINED}])\u200c")
"""A joiner after a character that it cannot join: neither a letter of such a script nor a pictogram."""
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202c\u2066-\u2069]")
_PLAIN = frozenset(["Latn", "Cyrl", "Grek", "Armn", "Geor", "Hans", "Hant", "Jpan", "Hang", "Kore", "Hani"])
"""Scripts without joiners."""
_INDIC = frozenset(["Deva", "Beng", "Guru", "Gujr", "Orya", "Taml", "Telu", "Knda", "Mlym", "Sinh"])
_WITH_SPACES = _PLAIN | _INDIC | {"Arab", "Hebr", "Ethi"}
"""Scripts in which a zero-width space does not separate words (as it does in Thai)."""
_LEFT_TO_RIGHT = _PLAIN | _INDIC | {"Ethi", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}
"""Scripts without marks of writing direction."""
_CONTROL_INSIDE = re.compile(r"(?<=\S)(?![\s\x85])[\x00-\x08\x0e-\x1b\x7f-\x9f](?=[^\s\x00-\x1f\x7f-\x9f])")


def has_control_inside(text: str) -> bool:
    """Tell whether a control character that is not white space stands between visible ones: `A\\0 \\0c\\0a` of a text
    in UTF-16, or `it\\x92s` of Windows-1252 that was read as Latin-1. A space in its place would be another text."""
    return not text.isprintable() and _CONTROL_INSIDE.search(text) is not None


def join_lines(text: str) -> str:
    """Replace runs of control characters and line breaks by one space; other white space stays (French needs its own).

    Byte order marks at the beginning and white space at both ends are removed.
    """
    return _BREAKS.sub(" ", text).lstrip("\ufeff").strip()


def resolve_entities(text: str) -> str:
    """Resolve the entities of HTML in a text, also those that were escaped twice (`&amp;auml;`)."""
    for _ in range(_MOST_ESCAPES):
        if "&" not in text or (resolved := _ENTITY.sub(lambda match: html.unescape(match[0]), text)) == text:
            break
        text = resolved
    return text


def has_tags(text: str) -> bool:
    """Tell whether a text contains tags, of HTML or of a model (`<image>`, `</s>`). They are not removed, because text
    between tags is seldom a sentence."""
    return "<" in text and _TAG.search(text) is not None


def without_invisible(text: str, code: str) -> str:
    """Remove invisible characters without meaning: soft hyphens, word joiners, byte order marks; and, if the script
    does not use them, zero-width spaces, joiners, and marks of writing direction. Characters that reverse the order of
    others stay (`is_turned_around`).
    """
    if text.isprintable():
        return text
    script = get_language(code).script
    text = _NOTHING.sub("", text)
    if script in _WITH_SPACES:
        text = text.replace("\u200b", "")
    if script in _PLAIN:
        text = _JOINER.sub("", text)
    return _DIRECTION.sub("", text) if script in _LEFT_TO_RIGHT else text


def is_turned_around(text: str) -> bool:
    """Tell whether a text has characters that change the displayed order of others."""
    return "\u202e" in text or "\u202d" in text


def is_blank(text: str) -> bool:
    """Tell whether a text has no visible character: only control characters, format characters and separators."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


_LATIN_END = "\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122"
_CYRILLIC_END = "\u0400-\u040f\u0450-\u045f\u0490\u0491\xa0-\xbf\u2013-\u2122"
_SUSPECT = re.compile(
    f"[{_LATIN_END}{_CYRILLIC_END}](?:(?<=[\u00c2-\u00f4][{_LATIN_END}])|(?<=[\u0420\u0421\u0432\u0413][{_CYRILLIC_END}]))"
)
"""Pairs of characters that result when UTF-8 is read as Windows-1252 or Windows-1251. The search is for the second,
rarer one."""
_ENDS = bytes(range(0x80, 0xC0))
_NO_LETTERS = bytes(byte for byte in range(0x80) if not chr(byte).isalpha())
_LEADS = {"Grek": b"\xce\xcf", "Arab": b"\xd8\xd9\xda\xdb", "Hebr": b"\xd7", "Hang": b"\xeb\xec"}
"""Script -> first bytes of its letters in UTF-8, and of no others."""
_HARMLESS_LATIN = bytes(range(0x80)) + b"\xc3\xc4\xc7\xc8" + _ENDS
_LATIN_SIGNS = b"\xc2\xc5\xc6\xcb\xe2"
"""First bytes, in UTF-8, of Latin letters and of symbols with which a suspect pair may end."""


def _classify(kinds: Mapping[str, bytes]) -> bytes:
    """Make a table for `bytes.translate`: each kind of bytes becomes its letter, all others a point."""
    letters = {byte: letter for letter, group in kinds.items() for byte in group}
    return "".join(letters.get(byte, ".") for byte in range(256)).encode()


_IN_UTF8 = _classify({"A": b"\xc3", "B": bytes(range(0x82, 0xB5)), "E": _LATIN_SIGNS})
"""Kinds of bytes of Latin texts: a suspect pair has `ABE` in it."""
_IN_CP1251 = _classify({"A": b"\xc3\xd0\xd1\xe2", "E": _ENDS, "F": string.ascii_letters.encode()})
"""Kinds of bytes of Cyrillic texts: a suspect pair has `AE` in it, and Latin letters are `F`."""


@cache
def _harmless_bytes(code: str) -> bytes:
    """Return the bytes of UTF-8; every flawed text of a language has at least one other. Texts of these bytes alone are
    accepted."""
    script = get_language(code).script
    if script == "Latn":
        return _HARMLESS_LATIN
    return _NO_LETTERS + _LEADS.get(script, b"") + _ENDS


def may_have_flaw(text: str, code: str) -> bool:
    """Tell whether `find_flaw` has to check a text, or one of several texts joined by line breaks. False for most
    texts, in a tenth of the time of the check: first bytes are examined, then characters."""
    if not _has_suspect_bytes(text, code):
        return False
    return "\ufffd" in text or may_be_in_another_script(text, code) or _SUSPECT.search(text) is not None


def _has_suspect_bytes(text: str, code: str) -> bool:
    if (harmless := _harmless_bytes(code)) is _HARMLESS_LATIN:
        try:
            narrow = text.encode("latin-1")
        except UnicodeEncodeError:
            return _has_suspect_utf8(text.encode("utf-8", "replace"))
        return b"\xc3" in narrow or b"\xc2" in narrow or b"\xc4" in narrow or b"\xc5" in narrow
    if get_language(code).script == "Cyrl":
        try:
            kinds = text.encode("cp1251").translate(_IN_CP1251)
        except UnicodeEncodeError:
            pass
        else:
            return b"AE" in kinds or b"F" in kinds
    return bool(text.encode("utf-8", "replace").translate(None, harmless))


def _has_suspect_utf8(text: bytes) -> bool:
    rest = text.translate(None, _HARMLESS_LATIN)
    if rest.strip(_LATIN_SIGNS):
        return True
    is_foreign = b"\xe2\xb6" in text or b"\xe2\xb7" in text  # of the letters under E2, those of other scripts
    return bool(rest) and (is_foreign or b"ABE" in text.translate(_IN_UTF8))


def find_flaw(text: str, code: str) -> str:
    """Describe a sign that a text is damaged or not in the language `code`; empty if there is none."""
    if not _has_suspect_bytes(text, code):
        return ""
    if "\ufffd" in text:
        return "characters lost in an earlier conversion (U+FFFD)"
    if not text.isascii() and _SUSPECT.search(text) and is_bad(text):
        return "UTF-8 that was read in another encoding"
    return f"in another script than {code}" if is_in_another_script(text, code) else ""
