"""English."""

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["English"]

_NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}
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
_RELATIONS = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
_ZONES = {
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


class English(Grammar):
    code = "en"
    prefix = LANGUAGES["en"].prefix
    conjunction = "and"
    clause_conjunction = ", and"

    def shown(self, group: Group) -> str:
        return f"{_NUMBERS[group.number]} {_SIZES[group.size]} {group.colour} {_noun(group)}"

    def known(self, group: Group) -> str:
        return f"the {group.colour} {_noun(group)}"

    def beside(self, relation: str, group: Group, *, known: bool) -> str:
        return f"{_RELATIONS[relation]} {self.known(group) if known else self.shown(group)}"

    def located(self, group: Group, zone: str) -> str:
        return f"{'is' if group.number == 1 else 'are'} {_ZONES[zone]}"

    def forms(self) -> Forms:
        return {
            "number": {str(number): [form] for number, form in _NUMBERS.items() if number > 1},
            "size": {size: [form] for size, form in _SIZES.items()},
            "colour": {colour: [colour] for colour in _COLOURS},
            "shape": _NOUNS,
            "relation": {relation: [form] for relation, form in _RELATIONS.items()},
            "zone": {zone: [form] for zone, form in _ZONES.items()},
        }


def _noun(group: Group) -> str:
    return _NOUNS[group.shape][group.number > 1]
