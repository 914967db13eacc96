"""Spanish: colour and size after the noun, "del" for "de el"."""

from typing import ClassVar

from polyglance.data.world.grammars.romance import RomanceGrammar, RomanceNoun
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["Spanish"]

_SIZES = {  # masculine, feminine, masculine plural, feminine plural
    "small": ("pequeño", "pequeña", "pequeños", "pequeñas"),
    "medium": ("mediano", "mediana", "medianos", "medianas"),
    "large": ("grande", "grande", "grandes", "grandes"),
}
_THE = ("el", "la", "los", "las")


class Spanish(RomanceGrammar):
    code = "es"
    prefix = LANGUAGES["es"].prefix
    conjunction = "y"
    clause_conjunction = " y"
    verb = ("está", "están")
    articles = ("un", "una")
    numbers: ClassVar = {2: "dos", 3: "tres", 4: "cuatro"}
    nouns: ClassVar = {
        "circle": RomanceNoun(False, "círculo", "círculos"),
        "square": RomanceNoun(False, "cuadrado", "cuadrados"),
        "triangle": RomanceNoun(False, "triángulo", "triángulos"),
        "star": RomanceNoun(True, "estrella", "estrellas"),
        "heart": RomanceNoun(False, "corazón", "corazones"),
        "cross": RomanceNoun(True, "cruz", "cruces"),
        "diamond": RomanceNoun(False, "rombo", "rombos"),
        "arrow": RomanceNoun(True, "flecha", "flechas"),
    }
    colours: ClassVar = {
        "red": ("rojo", "roja", "rojos", "rojas"),
        "blue": ("azul", "azul", "azules", "azules"),
        "green": ("verde", "verde", "verdes", "verdes"),
        "yellow": ("amarillo", "amarilla", "amarillos", "amarillas"),
        "orange": ("naranja", "naranja", "naranjas", "naranjas"),
        "purple": ("morado", "morada", "morados", "moradas"),
        "black": ("negro", "negra", "negros", "negras"),
        "white": ("blanco", "blanca", "blancos", "blancas"),
        "pink": ("rosa", "rosa", "rosas", "rosas"),
        "brown": ("marrón", "marrón", "marrones", "marrones"),
    }
    relations: ClassVar = {
        "left of": "a la izquierda",
        "right of": "a la derecha",
        "above": "encima",
        "below": "debajo",
    }
    zones: ClassVar = {
        "top left": "en la parte superior izquierda",
        "top": "en la parte superior",
        "top right": "en la parte superior derecha",
        "left": "en el lado izquierdo",
        "centre": "en el centro",
        "right": "en el lado derecho",
        "bottom left": "en la parte inferior izquierda",
        "bottom": "en la parte inferior",
        "bottom right": "en la parte inferior derecha",
    }
    word_forms: ClassVar = {
        "size": _SIZES,
        "colour": colours,
        "shape": {shape: noun[1:] for shape, noun in nouns.items()},
    }

    def name_new(self, group: Group) -> str:
        return f"{self.count(group)} {self.name_with_colour(group)} {self.agree(_SIZES[group.size], group)}"

    def name_known(self, group: Group) -> str:
        return f"{self.agree(_THE, group)} {self.name_with_colour(group)}"

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        phrase = f"{self.relations[relation]} de {self.name_known(group) if known else self.name_new(group)}"
        return phrase.replace(" de el ", " del ")
