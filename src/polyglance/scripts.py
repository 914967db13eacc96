"""Writing systems of texts: whether a text can be in a language, by its letters alone."""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from polyglance.languages import language

__all__ = ["count_scripts", "is_in_another_script"]

_RANGES: Mapping[str, str] = MappingProxyType(
    {
        "Latn": "A-Za-zªºÀ-ÖØ-öø-ʯᴀ-ᶿḀ-ỿⱠ-ⱿꜢ-ꟿﬀ-ﬆＡ-Ｚａ-ｚ",
        "Cyrl": "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
        "Grek": "\u0370-\u037d\u037f-\u0386\u0388-\u03ff\u1f00-\u1fff",
        "Arab": "\u0620-\u065f\u066e-\u06d3\u06d5-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc",
        "Hebr": "\u05d0-\u05f2\ufb1d-\ufb4f",
        "Deva": "\u0900-\u0963\u0970-\u097f\ua8e0-\ua8ff",
        "Beng": "\u0980-\u09e3\u09f0-\u09fe",
        "Telu": "\u0c00-\u0c63\u0c77-\u0c7f",
        "Thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
        "Hang": "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7af",
        "Kana": "\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d",
        "Hani": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
        "other": "\u0531-\u0587\u07c0-\u089f\u0a00-\u0bff\u0c80-\u0dff\u0e80-\u10ff"
        "\u1200-\u1c7f\ua490-\ua63f\uaa00-\uabff",
    }
)
"""Script (ISO 15924) -> its letters, for the scripts of `LANGUAGES`; `other`: those of the scripts that have none."""
_SCRIPTS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType({"Hans": ("Hani",), "Jpan": ("Kana", "Hani")})
_MAX_LATIN_LETTERS = 12
"""A text that is a name or a brand may be in Latin letters in every language."""
_MIN_LETTERS = 4
"""Fewer letters show nothing."""
_MIN_SHARE = 0.3
"""Least share of letters in the language's own script."""


def count_scripts(text: str) -> dict[str, int]:
    """Count the letters of a text by script (`Hani` for all Chinese characters)."""
    return {name: number for name in _RANGES if (number := len(_letters(name).findall(text)))}


def is_in_another_script(text: str, code: str) -> bool:
    """Whether the letters of a text show that it is not in the language.

    Chinese is expected in simplified characters, Japanese with some kana.
    """
    script = language(code).script
    if script == "Latn" and text.isascii():
        return False
    if _foreign(script).search(text) is not None:
        own = sum(len(_letters(name).findall(text)) for name in _own(script))
        foreign = len(_foreign(script).findall(text))
        if own == 0 and foreign <= _MAX_LATIN_LETTERS and len(_letters("Latn").findall(text)) == foreign:
            return False
        if own + foreign >= _MIN_LETTERS and own < _MIN_SHARE * (own + foreign):
            return True
    if script == "Hans":
        return _is_traditional(text) or _is_japanese(text)
    return script == "Jpan" and _is_chinese(text)


@cache
def _letters(script: str) -> re.Pattern[str]:
    return re.compile(f"[{_RANGES[script]}]")


@cache
def _foreign(script: str) -> re.Pattern[str]:
    """Letters of all scripts that a language with this script is not written in."""
    return re.compile("[" + "".join(letters for name, letters in _RANGES.items() if name not in _own(script)) + "]")


def _own(script: str) -> tuple[str, ...]:
    return _SCRIPTS_OF.get(script, (script,))


def _is_traditional(text: str) -> bool:
    """Whether Chinese characters are the traditional ones. GB 2312 has no character that was simplified, and Big5 has
    no simplified one: what only one of them has tells the two apart."""
    characters = _letters("Hani").findall(text)
    sets = [_character_set(character) for character in characters]
    only_big5, only_gb2312 = sets.count("big5"), sets.count("gb2312")
    return only_big5 > 2 * only_gb2312 and only_big5 >= len(characters) / 10


@cache
def _character_set(character: str) -> str:
    """Name of the only one of the two character sets that has a character; empty if both or none have it."""
    sets = [name for name in ("gb2312", "big5") if character.encode(name, "ignore")]
    return sets[0] if len(sets) == 1 else ""


def _is_japanese(text: str) -> bool:
    num_kana = len(_letters("Kana").findall(text))
    return num_kana >= 3 and num_kana > 0.2 * (num_kana + len(_letters("Hani").findall(text)))


def _is_chinese(text: str) -> bool:
    """Whether a text has Chinese characters alone, more than a Japanese title has, or some that Japanese has not."""
    if _letters("Kana").search(text) is not None:
        return False
    characters = _letters("Hani").findall(text)
    return len(characters) > 12 or sum(not it.encode("cp932", "ignore") for it in characters) >= 2
