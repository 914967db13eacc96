"""Captions of scenes, and captions read back into attributes."""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from polyglance.data.world.grammars import GRAMMARS, grammar
from polyglance.data.world.layout import find_zone, place_groups
from polyglance.data.world.scene import Scene
from polyglance.languages import LANGUAGES

__all__ = ["ATTRIBUTES", "PREFIXES", "CaptionStyle", "describe", "read_attributes"]

CaptionStyle = Literal["short", "detailed"]

PREFIXES: Mapping[str, str] = MappingProxyType({code: entry.prefix for code, entry in GRAMMARS.items()})
"""Language -> words with which all its captions begin."""
_IN_WORD = r"[\w\u064b-\u065f\u0900-\u0963]"
"""Letters and, in Arabic and Devanagari, the vowel signs on them."""
ATTRIBUTES = ("number", "size", "colour", "shape", "relation", "zone")


def describe(scene: Scene, language: str, style: CaptionStyle = "short") -> str:
    """Describe a scene in a language; captions in all languages state the same facts in the same order.

    Args:
        style: `short` is one sentence with every attribute and relation; `detailed` adds the zone of the picture in
            which each group lies.

    Raises:
        ValueError: the world has no grammar for the language.
    """
    match style:
        case "short":
            return grammar(language).short(scene)
        case "detailed":
            return grammar(language).detailed(scene, [find_zone(group) for group in place_groups(scene)])


def read_attributes(text: str, language: str) -> dict[str, tuple[str, ...]]:
    """Read the attributes that a text states, for scoring, in the order in which they are mentioned.

    The values are the same for all languages, so texts of different languages can be compared. Any text can be read,
    grammatical or not; unknown words are skipped. Each named shape has a number: "2", "3" or "4" with a numeral or in
    the dual, otherwise "1" (Russian has no article to read).

    Returns:
        For each of `ATTRIBUTES` its values, possibly none.

    Raises:
        ValueError: the world has no grammar for the language.
    """
    pattern, meanings = _compile_forms(language)
    follows = grammar(language).numeral_follows
    values: dict[str, list[str]] = {attribute: [] for attribute in ATTRIBUTES}
    number = "1"
    for match in pattern.finditer(_normalise(text, language)):
        attribute, value = meanings[match[1]]
        if attribute == "number":
            if follows and values["number"]:
                values["number"][-1] = value
            elif not follows:
                number = value
            continue
        values[attribute.removeprefix("dual ")].append(value)
        if attribute in ("shape", "dual shape"):
            values["number"].append("2" if attribute == "dual shape" else number)
            number = "1"
    return {attribute: tuple(of_attribute) for attribute, of_attribute in values.items()}


@lru_cache
def _compile_forms(language: str) -> tuple[re.Pattern[str], Mapping[str, tuple[str, str]]]:
    """Compile a pattern that finds every word form of a language, longest first, and the meaning of each form."""
    meanings: dict[str, tuple[str, str]] = {}
    own = grammar(language)
    for attribute, values in {**own.forms(), "dual shape": own.dual_forms}.items():
        for value, forms in values.items():
            for form in forms:
                meaning = (attribute, value)
                assert meanings.setdefault(form, meaning) == meaning, f"{language}: {form!r} means two things"
    alternatives = "|".join(map(re.escape, sorted(meanings, key=len, reverse=True)))
    spaced = LANGUAGES[language].words == "spaces"
    joined = rf"(?<!{_IN_WORD}){own.proclitic and f'(?:{own.proclitic})?'}({alternatives})(?!{_IN_WORD})"
    return re.compile(joined if spaced else f"({alternatives})"), meanings


def _normalise(text: str, language: str) -> str:
    """Convert to lower case, ё to е, and white space to single spaces, or to none in languages without spaces."""
    words = text.lower().replace("ё", "е").split()
    return (" " if LANGUAGES[language].words == "spaces" else "").join(words)
