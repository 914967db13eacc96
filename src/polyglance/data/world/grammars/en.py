"""English."""

from typing import ClassVar

from polyglance.data.world.grammars.grammar import Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["English"]

_SIZES = {"small": "small", "medium": "medium-sized", "large": "large"}
_COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white", "pink", "brown")
_NOUNS = {
    "circle": ("circle", "circles"),
    "square": ("square", "squares"),
    "triangle": ("triangle", "triangles"),
    "star": ("star", "stars"),
    "heart": ("heart", "hearts"),
    "cross": ("cross", "crosses"),
    "diamond": ("diamond", "diamonds"),
    "arrow": ("arrow", "arrows"),
}


class English(Grammar):
    code = "en"
    prefix = LANGUAGES["en"].prefix
    conjunction = "and"
    clause_conjunction = ", and"
    verb = ("is", "are")
    numbers: ClassVar = {1: "a", 2: "two", 3: "three", 4: "four"}
    relations: ClassVar = {
        "left of": "to the left of",
        "right of": "to the right of",
        "above": "above",
        "below": "below",
    }
    zones: ClassVar = {
        "top left": "at the top left",
        "top": "at the top",
        "top right": "at the top right",
        "left": "on the left",
        "centre": "in the centre",
        "right": "on the right",
        "bottom left": "at the bottom left",
        "bottom": "at the bottom",
        "bottom right": "at the bottom right",
    }
    word_forms: ClassVar = {
        "size": {size: [form] for size, form in _SIZES.items()},
        "colour": {colour: [colour] for colour in _COLOURS},
        "shape": _NOUNS,
    }

    def name_new(self, group: Group) -> str:
        noun = _NOUNS[group.shape][group.number > 1]
        return f"{self.numbers[group.number]} {_SIZES[group.size]} {group.colour} {noun}"

    def name_known(self, group: Group) -> str:
        return f"the {group.colour} {_NOUNS[group.shape][group.number > 1]}"
