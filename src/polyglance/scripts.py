"""Writing systems of texts: the script of a text, and whether its letters fit a language."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from polyglance.languages import get_language

__all__ = ["count_scripts", "find_script", "is_in_another_script", "may_be_in_another_script"]

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
        "Armn": "\u0531-\u0587",
        "Guru": "\u0a00-\u0a7f",
        "Gujr": "\u0a80-\u0aff",
        "Orya": "\u0b00-\u0b7f",
        "Taml": "\u0b80-\u0bff",
        "Knda": "\u0c80-\u0cff",
        "Mlym": "\u0d00-\u0d7f",
        "Sinh": "\u0d80-\u0dff",
        "Laoo": "\u0e80-\u0eff",
        "Tibt": "\u0f00-\u0fff",
        "Mymr": "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f",
        "Geor": "\u10a0-\u10ff\u1c90-\u1cbf",
        "Ethi": "\u1200-\u139f\u2d80-\u2ddf\uab00-\uab2f",
        "Khmr": "\u1780-\u17ff",
        "Mong": "\u1800-\u18af",
        "other": "\u0700-\u074f\u0780-\u089f\u13a0-\u177f\u18b0-\u1c7f\ua490-\ua63f\ua980-\ua9df\uaa00-\uaa5f"
        "\uaa80-\uaaff\uab30-\uabff",
    }
)
"""Script (ISO 15924) -> its letters, for the scripts of `LANGUAGES`; `other`: the letters of all other scripts."""
_SCRIPTS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType({"Hans": ("Hani",), "Jpan": ("Kana", "Hani")})
_ASCII_OTHERS = bytes(byte for byte in range(0x80) if not chr(byte).isalpha())
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_MAX_LATIN_LETTERS = 12
"""Longest text in Latin letters that is accepted in every language: it may be a name or a brand."""
_MIN_LETTERS = 4
"""Smallest number of letters from which a text is judged."""
_WEIGHTS: Mapping[str, int] = MappingProxyType({"Latn": 1, "Hang": 3})
_MIN_KANA_SHARE = 0.1
"""Smallest share of kana of a Japanese text: Chinese texts may have a の in a brand's name."""
_MIN_SHARE = 0.3
"""Least share of letters in the language's own script."""


def count_scripts(text: str) -> dict[str, int]:
    """Count the letters of a text by script (`Hani` for all Chinese characters)."""
    num_latin = len(text.encode("ascii", "ignore").translate(None, _ASCII_OTHERS))
    if text.isascii():
        return {"Latn": num_latin} if num_latin else {}
    counts: Counter[str] = Counter({"Latn": num_latin})
    for character, number in Counter("".join(_BEYOND_ASCII.findall(text))).items():
        counts[_script_of(character)] += number
    return {name: counts[name] for name in _RANGES if counts[name]}


def find_script(text: str) -> str:
    """Return the script that most of a text is in, as ISO 15924 code; empty for a text without letters.

    Chinese characters with kana are `Jpan`; without, `Hans`, `Jpan` or `Hant` if there are characters that only one of
    them has, else `Hani`. A letter counts once in the Latin script, which names and brands have in every language, and
    twice in other scripts; a sign for a syllable or a word counts three times.
    """
    counts = count_scripts(text)
    num_kana, num_chinese = counts.pop("Kana", 0), counts.pop("Hani", 0)
    weighted = {name: number * _WEIGHTS.get(name, 2) for name, number in counts.items()}
    if num_kana or num_chinese:
        weighted["Hani"] = 3 * (num_kana + num_chinese)
    if not weighted:
        return ""
    found = max(weighted, key=lambda name: weighted[name])
    if found != "Hani":
        return found
    if num_kana >= _MIN_KANA_SHARE * (num_kana + num_chinese):
        return "Jpan"
    sets = {_find_sets(character) for character in _letters("Hani").findall(text)}
    if ("gb2312",) in sets:
        return "Hans"
    if ("cp932",) in sets:
        return "Jpan"
    return "Hant" if _is_traditional(text) else "Hani"


def is_in_another_script(text: str, code: str) -> bool:
    """Tell whether the letters of a text show that it is not in the language.

    Chinese is expected in simplified characters, Japanese with some kana.
    """
    script = get_language(code).script
    if not may_be_in_another_script(text, code):
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


def may_be_in_another_script(text: str, code: str) -> bool:
    """Tell quickly whether a text, or one of several joined texts, has to be checked with `is_in_another_script`."""
    script = get_language(code).script
    if (script == "Latn" and text.isascii()) or any(name not in _RANGES for name in _own(script)):
        return False  # the letters of a declared language's script may not be known
    if _foreign(script).search(text) is not None or script == "Jpan":
        return True
    return script == "Hans" and not _is_in_gb2312(text)


def _is_in_gb2312(text: str) -> bool:
    """Tell whether GB 2312 has all Chinese characters of a text; then none of them is traditional."""
    return _can_encode(text, "gb2312") or _can_encode("".join(_letters("Hani").findall(text)), "gb2312")


def _can_encode(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


@cache
def _script_of(character: str) -> str:
    """Return the script of a letter; empty for all other characters."""
    return next((name for name in _RANGES if _letters(name).match(character)), "")


@cache
def _letters(script: str) -> re.Pattern[str]:
    return re.compile(f"[{_RANGES[script]}]")


@cache
def _foreign(script: str) -> re.Pattern[str]:
    """Return the letters of all scripts that a language with this script is not written in."""
    return re.compile("[" + "".join(letters for name, letters in _RANGES.items() if name not in _own(script)) + "]")


def _own(script: str) -> tuple[str, ...]:
    return _SCRIPTS_OF.get(script, (script,))


def _is_traditional(text: str) -> bool:
    """Tell whether Chinese characters are traditional. GB 2312 lacks the traditional forms of simplified characters,
    and Big5 lacks the simplified forms, so characters that only one of the two has decide."""
    if _is_in_gb2312(text):
        return False
    characters = _letters("Hani").findall(text)
    sets = [_find_sets(character) for character in characters]
    only_big5 = sum("big5" in of and "gb2312" not in of for of in sets)
    only_gb2312 = sum("gb2312" in of and "big5" not in of for of in sets)
    return only_big5 > 2 * only_gb2312 and only_big5 >= len(characters) / 10


@cache
def _find_sets(character: str) -> tuple[str, ...]:
    """Return the character sets (of simplified Chinese, traditional Chinese, Japanese) that have a character."""
    return tuple(name for name in ("gb2312", "big5", "cp932") if character.encode(name, "ignore"))


def _is_japanese(text: str) -> bool:
    if _letters("Kana").search(text) is None:
        return False
    num_kana = len(_letters("Kana").findall(text))
    return num_kana >= 3 and num_kana > 0.2 * (num_kana + len(_letters("Hani").findall(text)))


def _is_chinese(text: str) -> bool:
    """Tell whether a text has only Chinese characters, and more than a Japanese title, or some that Japanese lacks."""
    if _letters("Kana").search(text) is not None:
        return False
    characters = _letters("Hani").findall(text)
    return len(characters) > 12 or sum(not character.encode("cp932", "ignore") for character in characters) >= 2
