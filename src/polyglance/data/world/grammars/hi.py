"""Hindi: direct and oblique case, adjectives that agree, postpositions, the verb at the end."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from polyglance.data.world.grammars.grammar import Grammar
from polyglance.data.world.scene import Group, Scene
from polyglance.languages import LANGUAGES

__all__ = ["Hindi"]


class _Noun(NamedTuple):
    """A masculine noun; all shapes are."""

    direct: str
    oblique: str
    plural: str
    plural_oblique: str


_NOUNS = {
    "circle": _Noun("वृत्त", "वृत्त", "वृत्त", "वृत्तों"),
    "square": _Noun("वर्ग", "वर्ग", "वर्ग", "वर्गों"),
    "triangle": _Noun("त्रिभुज", "त्रिभुज", "त्रिभुज", "त्रिभुजों"),
    "star": _Noun("तारा", "तारे", "तारे", "तारों"),
    "heart": _Noun("दिल", "दिल", "दिल", "दिलों"),
    "cross": _Noun("क्रॉस", "क्रॉस", "क्रॉस", "क्रॉसों"),
    "diamond": _Noun("समचतुर्भुज", "समचतुर्भुज", "समचतुर्भुज", "समचतुर्भुजों"),
    "arrow": _Noun("तीर", "तीर", "तीर", "तीरों"),
}
_SIZES = {  # masculine: direct singular, all other forms
    "small": ("छोटा", "छोटे"),
    "medium": ("मध्यम आकार का", "मध्यम आकार के"),
    "large": ("बड़ा", "बड़े"),
}
_COLOURS = {
    "red": ("लाल", "लाल"),
    "blue": ("नीला", "नीले"),
    "green": ("हरा", "हरे"),
    "yellow": ("पीला", "पीले"),
    "orange": ("नारंगी", "नारंगी"),
    "purple": ("बैंगनी", "बैंगनी"),
    "black": ("काला", "काले"),
    "white": ("सफ़ेद", "सफ़ेद"),
    "pink": ("गुलाबी", "गुलाबी"),
    "brown": ("भूरा", "भूरे"),
}
_NUMERALS = {1: "एक", 2: "दो", 3: "तीन", 4: "चार"}


class Hindi(Grammar):
    code = "hi"
    prefix = LANGUAGES["hi"].prefix
    conjunction = "और"
    clause_conjunction = " और"
    verb = ("है", "हैं")
    numbers: ClassVar = _NUMERALS
    relations: ClassVar = {
        "left of": "के बाईं ओर",
        "right of": "के दाईं ओर",
        "above": "के ऊपर",
        "below": "के नीचे",
    }
    zones: ClassVar = {
        "top left": "ऊपर बाईं ओर",
        "top": "ऊपर",
        "top right": "ऊपर दाईं ओर",
        "left": "बाईं ओर",
        "centre": "बीच में",
        "right": "दाईं ओर",
        "bottom left": "नीचे बाईं ओर",
        "bottom": "नीचे",
        "bottom right": "नीचे दाईं ओर",
    }
    word_forms: ClassVar = {
        attribute: {value: list(dict.fromkeys(forms)) for value, forms in words.items()}
        for attribute, words in (("size", _SIZES), ("colour", _COLOURS), ("shape", _NOUNS))
    }

    def name_new(self, group: Group) -> str:
        return _phrase(group, oblique=False)

    def name_known(self, group: Group) -> str:
        return _definite(group, oblique=False)

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        place = _definite(group, oblique=True) if known else _phrase(group, oblique=True)
        return f"{place} {self.relations[relation]}"

    def say_zone(self, group: Group, zone: str) -> str:
        return f"{self.zones[zone]} {self.verb[group.number > 1]}"

    def short(self, scene: Scene) -> str:
        first = scene.groups[0]
        verb = self.verb[first.number > 1]
        sentence = f"{self.prefix} {self.name_new(first)} {verb}"
        if scene.relations:
            sentence += f", जो {self._say_relations(scene, known=False)} {verb}"
        return f"{sentence}।"

    def introduce(self, groups: Sequence[Group]) -> str:
        is_plural = len(groups) > 1 or groups[0].number > 1
        names = self.join_list([self.name_new(group) for group in groups])
        return f"{self.prefix} {names} {self.verb[is_plural]}"


def _phrase(group: Group, *, oblique: bool) -> str:
    """Return number, size, colour and noun: "एक छोटा लाल वृत्त", "दो छोटे लाल वृत्त"."""
    inflected = oblique or group.number > 1
    return f"{_NUMERALS[group.number]} {_SIZES[group.size][inflected]} {_definite(group, oblique=oblique)}"


def _definite(group: Group, *, oblique: bool) -> str:
    """Return colour and noun: "लाल वृत्त", "नीले तारों"."""
    noun = _NOUNS[group.shape][oblique + 2 * (group.number > 1)]
    return f"{_COLOURS[group.colour][oblique or group.number > 1]} {noun}"
