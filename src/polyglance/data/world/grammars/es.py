"""Spanish: two genders, colour and size after the noun, "del" for "de el"."""

from typing import NamedTuple

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["Spanish"]


class _Noun(NamedTuple):
    feminine: bool
    singular: str
    plural: str


_NOUNS = {
    "circle": _Noun(False, "círculo", "círculos"),
    "square": _Noun(False, "cuadrado", "cuadrados"),
    "triangle": _Noun(False, "triángulo", "triángulos"),
    "star": _Noun(True, "estrella", "estrellas"),
    "heart": _Noun(False, "corazón", "corazones"),
    "cross": _Noun(True, "cruz", "cruces"),
    "diamond": _Noun(False, "rombo", "rombos"),
    "arrow": _Noun(True, "flecha", "flechas"),
}
_NUMBERS = {2: "dos", 3: "tres", 4: "cuatro"}
_SIZES = {  # masculine, feminine, masculine plural, feminine plural
    "small": ("pequeño", "pequeña", "pequeños", "pequeñas"),
    "medium": ("mediano", "mediana", "medianos", "medianas"),
    "large": ("grande", "grande", "grandes", "grandes"),
}
_COLOURS = {
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
_RELATIONS = {"left of": "a la izquierda", "right of": "a la derecha", "above": "encima", "below": "debajo"}
_A = ("un", "una")
_THE = ("el", "la", "los", "las")
_ZONES = {
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


class Spanish(Grammar):
    code = "es"
    prefix = LANGUAGES["es"].prefix
    conjunction = "y"
    clause_conjunction = " y"

    def shown(self, group: Group) -> str:
        determiner = _NUMBERS[group.number] if group.number > 1 else _A[_NOUNS[group.shape].feminine]
        return f"{determiner} {_coloured(group)} {_SIZES[group.size][_agreement(group)]}"

    def known(self, group: Group) -> str:
        return f"{_THE[_agreement(group)]} {_coloured(group)}"

    def beside(self, relation: str, group: Group, *, known: bool) -> str:
        phrase = f"{_RELATIONS[relation]} de {self.known(group) if known else self.shown(group)}"
        return phrase.replace(" de el ", " del ")

    def located(self, group: Group, zone: str) -> str:
        return f"{'está' if group.number == 1 else 'están'} {_ZONES[zone]}"

    def forms(self) -> Forms:
        return {
            "number": {str(number): [form] for number, form in _NUMBERS.items()},
            "size": _SIZES,
            "colour": _COLOURS,
            "shape": {shape: [noun.singular, noun.plural] for shape, noun in _NOUNS.items()},
            "relation": {relation: [form] for relation, form in _RELATIONS.items()},
            "zone": {zone: [form] for zone, form in _ZONES.items()},
        }


def _agreement(group: Group) -> int:
    """Which of the four forms agrees with the group's noun."""
    return _NOUNS[group.shape].feminine + 2 * (group.number > 1)


def _coloured(group: Group) -> str:
    noun = _NOUNS[group.shape]
    return f"{noun.plural if group.number > 1 else noun.singular} {_COLOURS[group.colour][_agreement(group)]}"
