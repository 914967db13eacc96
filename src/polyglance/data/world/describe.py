"""Scenes in words, and words read back into attributes."""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from polyglance.data.world.grammars import GRAMMARS, grammar
from polyglance.data.world.layout import layout, zone
from polyglance.data.world.scene import Scene
from polyglance.languages import LANGUAGES

__all__ = ["ATTRIBUTES", "PREFIXES", "CaptionStyle", "attributes", "describe"]

CaptionStyle = Literal["short", "detailed"]

PREFIXES: Mapping[str, str] = MappingProxyType({code: entry.prefix for code, entry in GRAMMARS.items()})
"""Language -> the words all its captions begin with. Russian's are fewer than the language's usual prefix, whose
participle agrees with what is shown."""
ATTRIBUTES = ("number", "size", "colour", "shape", "relation", "zone")


def describe(scene: Scene, language: str, style: CaptionStyle = "short") -> str:
    """The scene's caption in a language; captions in all languages tell the same facts in the same order.

    Args:
        style: `short` is one sentence with every attribute and relation; `detailed` adds where in the picture each
            group is.

    Raises:
        ValueError: the world has no grammar for the language.
    """
    match style:
        case "short":
            return grammar(language).short(scene)
        case "detailed":
            return grammar(language).detailed(scene, [zone(placed) for placed in layout(scene)])


def attributes(text: str, language: str) -> dict[str, tuple[str, ...]]:
    """What a text says, for scoring: the values of each attribute in the order they are mentioned.

    The values are the same for all languages, so texts of different languages can be compared. Any text can be read,
    grammatical or not; unknown words are skipped. A number is read for each shape that is named: "2", "3" or "4" where
    a numeral stands before it, otherwise "1" (Russian has no article to read).

    Returns:
        A value sequence, possibly empty, for each of `ATTRIBUTES`.

    Raises:
        ValueError: the world has no grammar for the language.
    """
    pattern, meanings = _reader(language)
    found: dict[str, list[str]] = {attribute: [] for attribute in ATTRIBUTES}
    number = "1"
    for match in pattern.finditer(_normalised(text, language)):
        attribute, value = meanings[match[0]]
        if attribute == "number":
            number = value
            continue
        found[attribute].append(value)
        if attribute == "shape":
            found["number"].append(number)
            number = "1"
    return {attribute: tuple(values) for attribute, values in found.items()}


@lru_cache
def _reader(language: str) -> tuple[re.Pattern[str], Mapping[str, tuple[str, str]]]:
    """A pattern that finds every form of a language, longest first, and what each form means."""
    meanings: dict[str, tuple[str, str]] = {}
    for attribute, values in grammar(language).forms().items():
        for value, forms in values.items():
            for form in forms:
                meaning = (attribute, value)
                assert meanings.setdefault(form, meaning) == meaning, f"{language}: {form!r} means two things"
    alternatives = "|".join(map(re.escape, sorted(meanings, key=len, reverse=True)))
    spaced = LANGUAGES[language].words == "spaces"
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)" if spaced else alternatives), meanings


def _normalised(text: str, language: str) -> str:
    """Lower case, ё as е, single spaces; none where words are not told apart by spaces."""
    words = text.lower().replace("ё", "е").split()
    return (" " if LANGUAGES[language].words == "spaces" else "").join(words)
