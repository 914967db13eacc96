"""French: size before and colour after the noun, elision, contraction after "de"."""

from typing import ClassVar

from polyglance.data.world.grammars.romance import RomanceGrammar, RomanceNoun
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["French"]

_SIZES = {  # masculine, feminine, masculine plural, feminine plural
    "small": ("petit", "petite", "petits", "petites"),
    "large": ("grand", "grande", "grands", "grandes"),
}
_MEDIUM = "de taille moyenne"  # follows the colour; there is no usual adjective for it
_CONTRACTIONS = {"de un": "d'un", "de le ": "du ", "de les ": "des "}


class French(RomanceGrammar):
    code = "fr"
    prefix = LANGUAGES["fr"].prefix
    conjunction = "et"
    clause_conjunction = " et"
    verb = ("se trouve", "se trouvent")
    articles = ("un", "une")
    numbers: ClassVar = {2: "deux", 3: "trois", 4: "quatre"}
    nouns: ClassVar = {
        "circle": RomanceNoun(False, "cercle", "cercles"),
        "square": RomanceNoun(False, "carré", "carrés"),
        "triangle": RomanceNoun(False, "triangle", "triangles"),
        "star": RomanceNoun(True, "étoile", "étoiles"),
        "heart": RomanceNoun(False, "cœur", "cœurs"),
        "cross": RomanceNoun(True, "croix", "croix"),
        "diamond": RomanceNoun(False, "losange", "losanges"),
        "arrow": RomanceNoun(True, "flèche", "flèches"),
    }
    colours: ClassVar = {
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
    relations: ClassVar = {"left of": "à gauche", "right of": "à droite", "above": "au-dessus", "below": "en dessous"}
    zones: ClassVar = {
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
    word_forms: ClassVar = {
        "size": {**_SIZES, "medium": [_MEDIUM]},
        "colour": colours,
        "shape": {shape: noun[1:] for shape, noun in nouns.items()},
    }

    def name_new(self, group: Group) -> str:
        if group.size == "medium":
            return f"{self.count(group)} {self.name_with_colour(group)} {_MEDIUM}"
        return f"{self.count(group)} {self.agree(_SIZES[group.size], group)} {self.name_with_colour(group)}"

    def name_known(self, group: Group) -> str:
        noun = self.nouns[group.shape]
        if group.number > 1:
            article = "les "
        elif noun.singular.startswith("é"):
            article = "l'"
        else:
            article = "la " if noun.feminine else "le "
        return f"{article}{self.name_with_colour(group)}"

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        phrase = f"de {self.name_known(group) if known else self.name_new(group)}"
        for apart, together in _CONTRACTIONS.items():
            if phrase.startswith(apart):
                phrase = together + phrase.removeprefix(apart)
        return f"{self.relations[relation]} {phrase}"
