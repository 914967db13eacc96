"""German: three genders, accusative and dative, strong, mixed and weak adjective endings."""

from typing import ClassVar, Literal, NamedTuple

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["German"]


class _Noun(NamedTuple):
    gender: Literal["m", "f", "n"]
    singular: str
    dative: str
    plural: str
    dative_plural: str


_NOUNS = {
    "circle": _Noun("m", "Kreis", "Kreis", "Kreise", "Kreisen"),
    "square": _Noun("n", "Quadrat", "Quadrat", "Quadrate", "Quadraten"),
    "triangle": _Noun("n", "Dreieck", "Dreieck", "Dreiecke", "Dreiecken"),
    "star": _Noun("m", "Stern", "Stern", "Sterne", "Sternen"),
    "heart": _Noun("n", "Herz", "Herzen", "Herzen", "Herzen"),
    "cross": _Noun("n", "Kreuz", "Kreuz", "Kreuze", "Kreuzen"),
    "diamond": _Noun("f", "Raute", "Raute", "Rauten", "Rauten"),
    "arrow": _Noun("m", "Pfeil", "Pfeil", "Pfeile", "Pfeilen"),
}
_SIZES = {"small": "klein", "medium": "mittelgroß", "large": "groß"}
_COLOURS = {
    "red": "rot",
    "blue": "blau",
    "green": "grün",
    "yellow": "gelb",
    "orange": "orangefarben",
    "purple": "violett",
    "black": "schwarz",
    "white": "weiß",
    "pink": "rosafarben",
    "brown": "braun",
}
_ENDINGS = ("e", "en", "es")
_A_ACCUSATIVE = {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")}  # article, ending of adjectives
_A_DATIVE = {"m": "einem", "f": "einer", "n": "einem"}
_THE_NOMINATIVE = {"m": "der", "f": "die", "n": "das"}
_THE_DATIVE = {"m": "dem", "f": "der", "n": "dem"}


class German(Grammar):
    code = "de"
    prefix = LANGUAGES["de"].prefix
    conjunction = "und"
    clause_conjunction = " und"
    verb = ("befindet sich", "befinden sich")
    numbers: ClassVar = {2: "zwei", 3: "drei", 4: "vier"}
    relations: ClassVar = {"left of": "links von", "right of": "rechts von", "above": "über", "below": "unter"}
    zones: ClassVar = {
        "top left": "oben links",
        "top": "oben in der Mitte",
        "top right": "oben rechts",
        "left": "auf der linken Seite",
        "centre": "in der Mitte",
        "right": "auf der rechten Seite",
        "bottom left": "unten links",
        "bottom": "unten in der Mitte",
        "bottom right": "unten rechts",
    }
    word_forms: ClassVar = {
        "size": {size: [stem + ending for ending in _ENDINGS] for size, stem in _SIZES.items()},
        "colour": {colour: [stem + ending for ending in _ENDINGS] for colour, stem in _COLOURS.items()},
        "shape": {shape: [form.lower() for form in noun[1:]] for shape, noun in _NOUNS.items()},
    }

    def name_new(self, group: Group) -> str:
        noun = _NOUNS[group.shape]
        if group.number > 1:
            return f"{self.numbers[group.number]} {_adjectives(group, 'e')} {noun.plural}"
        article, ending = _A_ACCUSATIVE[noun.gender]
        return f"{article} {_adjectives(group, ending)} {noun.singular}"

    def name_known(self, group: Group) -> str:
        noun, colour = _NOUNS[group.shape], _COLOURS[group.colour]
        if group.number > 1:
            return f"die {colour}en {noun.plural}"
        return f"{_THE_NOMINATIVE[noun.gender]} {colour}e {noun.singular}"

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        noun, plural = _NOUNS[group.shape], group.number > 1
        if known:
            determiner = "den" if plural else _THE_DATIVE[noun.gender]
            adjectives = f"{_COLOURS[group.colour]}en"
        else:
            determiner = self.numbers[group.number] if plural else _A_DATIVE[noun.gender]
            adjectives = _adjectives(group, "en")
        noun_form = noun.dative_plural if plural else noun.dative
        return f"{self.relations[relation]} {determiner} {adjectives} {noun_form}".replace("von dem ", "vom ")

    def forms(self) -> Forms:
        relations = {relation: [words, words.replace("von", "vom")] for relation, words in self.relations.items()}
        return {**super().forms(), "relation": relations}


def _adjectives(group: Group, ending: str) -> str:
    return f"{_SIZES[group.size]}{ending} {_COLOURS[group.colour]}{ending}"
