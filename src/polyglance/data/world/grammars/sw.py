"""Swahili: noun classes, with which adjectives, numerals, the connective "of" and the verb agree."""

from typing import ClassVar, NamedTuple

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["Swahili"]


class _Class(NamedTuple):
    """Concords of a noun class."""

    small: str
    large: str
    red: str
    black: str
    white: str
    of: str
    """Connective before a noun that serves as an adjective: "mraba wa bluu"."""
    located: str
    """"is" or "are", before a place."""
    numerals: tuple[str, ...] = ()
    """Two, three and four; in plural classes."""


_3 = _Class("mdogo", "mkubwa", "mwekundu", "mweusi", "mweupe", "wa", "uko")
_4 = _Class("midogo", "mikubwa", "myekundu", "myeusi", "myeupe", "ya", "iko", ("miwili", "mitatu", "minne"))
_5 = _Class("dogo", "kubwa", "jekundu", "jeusi", "jeupe", "la", "liko")
_6 = _Class("madogo", "makubwa", "mekundu", "meusi", "meupe", "ya", "yako", ("mawili", "matatu", "manne"))
_9 = _Class("ndogo", "kubwa", "nyekundu", "nyeusi", "nyeupe", "ya", "iko")
_10 = _Class("ndogo", "kubwa", "nyekundu", "nyeusi", "nyeupe", "za", "ziko", ("mbili", "tatu", "nne"))
_CLASSES = (_3, _4, _5, _6, _9, _10)


class _Noun(NamedTuple):
    singular: str
    plural: str
    classes: tuple[_Class, _Class]


_NOUNS = {
    "circle": _Noun("duara", "maduara", (_5, _6)),
    "square": _Noun("mraba", "miraba", (_3, _4)),
    "triangle": _Noun("pembetatu", "pembetatu", (_9, _10)),
    "star": _Noun("nyota", "nyota", (_9, _10)),
    "heart": _Noun("moyo", "mioyo", (_3, _4)),
    "cross": _Noun("msalaba", "misalaba", (_3, _4)),
    "diamond": _Noun("almasi", "almasi", (_9, _10)),
    "arrow": _Noun("mshale", "mishale", (_3, _4)),
}
_ADJECTIVES = ("red", "black", "white")
_COLOURS = {  # nouns, after the connective
    "blue": "bluu",
    "green": "kijani",
    "yellow": "njano",
    "orange": "rangi ya chungwa",
    "purple": "zambarau",
    "pink": "waridi",
    "brown": "kahawia",
}
_MEDIUM = "ukubwa wa kati"


class Swahili(Grammar):
    code = "sw"
    prefix = LANGUAGES["sw"].prefix
    conjunction = "na"
    clause_conjunction = ", na"
    numeral_follows = True
    numbers: ClassVar = {2: "mbili", 3: "tatu", 4: "nne"}
    relations: ClassVar = {
        "left of": "upande wa kushoto wa",
        "right of": "upande wa kulia wa",
        "above": "juu ya",
        "below": "chini ya",
    }
    zones: ClassVar = {
        "top left": "juu kushoto",
        "top": "juu",
        "top right": "juu kulia",
        "left": "kushoto",
        "centre": "katikati",
        "right": "kulia",
        "bottom left": "chini kushoto",
        "bottom": "chini",
        "bottom right": "chini kulia",
    }
    word_forms: ClassVar = {
        "size": {
            "small": list(dict.fromkeys(one.small for one in _CLASSES)),
            "medium": [_MEDIUM],
            "large": list(dict.fromkeys(one.large for one in _CLASSES)),
        },
        "colour": {
            **{name: list(dict.fromkeys(getattr(one, name) for one in _CLASSES)) for name in _ADJECTIVES},
            **{name: [noun] for name, noun in _COLOURS.items()},
        },
        "shape": {shape: list(dict.fromkeys(noun[:2])) for shape, noun in _NOUNS.items()},
    }

    def name_new(self, group: Group) -> str:
        concords = _concords(group)
        words = [_name(group)]
        if group.number > 1:
            words.append(concords.numerals[group.number - 2])
        if group.size != "medium":
            words.append(concords.small if group.size == "small" else concords.large)
        words.append(_colour(group))
        if group.size == "medium":
            words.append(f"{concords.of} {_MEDIUM}")
        return " ".join(words)

    def name_known(self, group: Group) -> str:
        return f"{_name(group)} {_colour(group)}"

    def say_zone(self, group: Group, zone: str) -> str:
        return f"{_concords(group).located} {self.zones[zone]}"

    def forms(self) -> Forms:
        plural = [one.numerals for one in _CLASSES if one.numerals]
        numbers = {str(number): [numerals[number - 2] for numerals in plural] for number in self.numbers}
        return {**super().forms(), "number": numbers}


def _concords(group: Group) -> _Class:
    return _NOUNS[group.shape].classes[group.number > 1]


def _name(group: Group) -> str:
    noun = _NOUNS[group.shape]
    return noun.plural if group.number > 1 else noun.singular


def _colour(group: Group) -> str:
    concords = _concords(group)
    if group.colour in _ADJECTIVES:
        return str(getattr(concords, group.colour))
    return f"{concords.of} {_COLOURS[group.colour]}"
