"""French: two genders, size before and colour after the noun, elision and contraction after "de"."""

from typing import NamedTuple

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["French"]


class _Noun(NamedTuple):
    feminine: bool
    singular: str
    plural: str
    the: str
    """Definite article in the singular, with the space that follows it."""


_NOUNS = {
    "circle": _Noun(False, "cercle", "cercles", "le "),
    "square": _Noun(False, "carré", "carrés", "le "),
    "triangle": _Noun(False, "triangle", "triangles", "le "),
    "star": _Noun(True, "étoile", "étoiles", "l'"),
    "heart": _Noun(False, "cœur", "cœurs", "le "),
    "cross": _Noun(True, "croix", "croix", "la "),
    "diamond": _Noun(False, "losange", "losanges", "le "),
    "arrow": _Noun(True, "flèche", "flèches", "la "),
}
_NUMBERS = {2: "deux", 3: "trois", 4: "quatre"}
_ADJECTIVES = {  # masculine, feminine, masculine plural, feminine plural
    "small": ("petit", "petite", "petits", "petites"),
    "large": ("grand", "grande", "grands", "grandes"),
    "red": ("rouge", "rouge", "rouges", "rouges"),
    "blue": ("bleu", "bleue", "bleus", "bleues"),
    "green": ("vert", "verte", "verts", "vertes"),
    "yellow": ("jaune", "jaune", "jaunes", "jaunes"),
    "orange": ("orange", "orange", "orange", "orange"),
    "purple": ("violet", "violette", "violets", "violettes"),
    "black": ("noir", "noire", "noirs", "noires"),
    "white": ("blanc", "blanche", "blancs", "blanches"),
    "pink": ("rose", "rose", "roses", "roses"),
    "brown": ("marron", "marron", "marron", "marron"),
}
_A = ("un", "une")
_MEDIUM = "de taille moyenne"  # said after the colour; there is no usual adjective for it
_RELATIONS = {"left of": "à gauche", "right of": "à droite", "above": "au-dessus", "below": "en dessous"}
_CONTRACTIONS = {"de un": "d'un", "de le ": "du ", "de les ": "des "}
_ZONES = {
    "top left": "en haut à gauche",
    "top": "en haut",
    "top right": "en haut à droite",
    "left": "sur la gauche",
    "centre": "au centre",
    "right": "sur la droite",
    "bottom left": "en bas à gauche",
    "bottom": "en bas",
    "bottom right": "en bas à droite",
}


class French(Grammar):
    code = "fr"
    prefix = LANGUAGES["fr"].prefix
    conjunction = "et"
    clause_conjunction = " et"

    def shown(self, group: Group) -> str:
        noun, colour = _noun_and_colour(group)
        determiner = _NUMBERS[group.number] if group.number > 1 else _A[_NOUNS[group.shape].feminine]
        if group.size == "medium":
            return f"{determiner} {noun} {colour} {_MEDIUM}"
        return f"{determiner} {_agreeing(group.size, group)} {noun} {colour}"

    def known(self, group: Group) -> str:
        noun, colour = _noun_and_colour(group)
        return f"{_NOUNS[group.shape].the if group.number == 1 else 'les '}{noun} {colour}"

    def beside(self, relation: str, group: Group, *, known: bool) -> str:
        phrase = f"de {self.known(group) if known else self.shown(group)}"
        for apart, together in _CONTRACTIONS.items():
            if phrase.startswith(apart):
                phrase = together + phrase.removeprefix(apart)
        return f"{_RELATIONS[relation]} {phrase}"

    def located(self, group: Group, zone: str) -> str:
        return f"se {'trouve' if group.number == 1 else 'trouvent'} {_ZONES[zone]}"

    def forms(self) -> Forms:
        sizes = ("small", "large")
        return {
            "number": {str(number): [form] for number, form in _NUMBERS.items()},
            "size": {size: _ADJECTIVES[size] for size in sizes} | {"medium": [_MEDIUM]},
            "colour": {value: forms for value, forms in _ADJECTIVES.items() if value not in sizes},
            "shape": {shape: [noun.singular, noun.plural] for shape, noun in _NOUNS.items()},
            "relation": {relation: [form] for relation, form in _RELATIONS.items()},
            "zone": {zone: [form] for zone, form in _ZONES.items()},
        }


def _agreeing(adjective: str, group: Group) -> str:
    return _ADJECTIVES[adjective][_NOUNS[group.shape].feminine + 2 * (group.number > 1)]


def _noun_and_colour(group: Group) -> tuple[str, str]:
    noun = _NOUNS[group.shape]
    return noun.plural if group.number > 1 else noun.singular, _agreeing(group.colour, group)
