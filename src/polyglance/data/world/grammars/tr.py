"""Turkish: suffixes in vowel harmony, the verb at the end, singular nouns after numerals."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from polyglance.data.world.grammars.grammar import Grammar
from polyglance.data.world.scene import Group, Scene
from polyglance.languages import LANGUAGES

__all__ = ["Turkish"]


class _Noun(NamedTuple):
    singular: str
    genitive: str
    plural: str
    plural_genitive: str


_NOUNS = {
    "circle": _Noun("daire", "dairenin", "daireler", "dairelerin"),
    "square": _Noun("kare", "karenin", "kareler", "karelerin"),
    "triangle": _Noun("üçgen", "üçgenin", "üçgenler", "üçgenlerin"),
    "star": _Noun("yıldız", "yıldızın", "yıldızlar", "yıldızların"),
    "heart": _Noun("kalp", "kalbin", "kalpler", "kalplerin"),
    "cross": _Noun("haç", "haçın", "haçlar", "haçların"),
    "diamond": _Noun("eşkenar dörtgen", "eşkenar dörtgenin", "eşkenar dörtgenler", "eşkenar dörtgenlerin"),
    "arrow": _Noun("ok", "okun", "oklar", "okların"),
}
_SIZES = {"small": "küçük", "medium": "orta boy", "large": "büyük"}
_COLOURS = {
    "red": "kırmızı",
    "blue": "mavi",
    "green": "yeşil",
    "yellow": "sarı",
    "orange": "turuncu",
    "purple": "mor",
    "black": "siyah",
    "white": "beyaz",
    "pink": "pembe",
    "brown": "kahverengi",
}
_STANDS = "duruyor"


class Turkish(Grammar):
    code = "tr"
    prefix = LANGUAGES["tr"].prefix
    conjunction = "ve"
    numbers: ClassVar = {2: "iki", 3: "üç", 4: "dört"}
    relations: ClassVar = {"left of": "solunda", "right of": "sağında", "above": "üstünde", "below": "altında"}
    zones: ClassVar = {
        "top left": "sol üstte",
        "top": "üstte",
        "top right": "sağ üstte",
        "left": "solda",
        "centre": "ortada",
        "right": "sağda",
        "bottom left": "sol altta",
        "bottom": "altta",
        "bottom right": "sağ altta",
    }
    word_forms: ClassVar = {
        "size": {size: [form] for size, form in _SIZES.items()},
        "colour": {colour: [form] for colour, form in _COLOURS.items()},
        "shape": {shape: list(noun) for shape, noun in _NOUNS.items()},
    }

    def name_new(self, group: Group) -> str:
        return _phrase(self.numbers, group, _NOUNS[group.shape].singular)

    def name_known(self, group: Group) -> str:
        noun = _NOUNS[group.shape]
        return f"{_COLOURS[group.colour]} {noun.singular if group.number == 1 else noun.plural}"

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        noun = _NOUNS[group.shape]
        if known:
            place = f"{_COLOURS[group.colour]} {noun.genitive if group.number == 1 else noun.plural_genitive}"
        else:
            place = _phrase(self.numbers, group, noun.genitive)
        return f"{place} {self.relations[relation]}"

    def say_zone(self, group: Group, zone: str) -> str:  # noqa: ARG002 (the verb is the same for all)
        return self.zones[zone]

    def short(self, scene: Scene) -> str:
        sentence = f"{self.prefix} {self.name_new(scene.groups[0])} var"
        if scene.relations:
            sentence += f"; {self._say_relations(scene, known=False)} {_STANDS}"
        return f"{sentence}."

    def detailed(self, scene: Scene, zones: Sequence[str]) -> str:
        places = [
            f"{self.name_known(group)} {self.say_zone(group, zone)}"
            for group, zone in zip(scene.groups, zones, strict=True)
        ]
        sentences = [f"{self.prefix} {self.join_list([self.name_new(group) for group in scene.groups])} var"]
        if scene.relations:
            sentences.append(f"{places[0]}, {self._say_relations(scene, known=True)} {_STANDS}")
            sentences.append(f"{', '.join(places[1:])} {_STANDS}")
        else:
            sentences.append(f"{places[0]} {_STANDS}")
        return self.join_sentences(sentences)


def _phrase(numbers: dict[int, str], group: Group, noun: str) -> str:
    """Return size, colour, number or article, and noun: "küçük kırmızı bir daire", "iki küçük kırmızı daire"."""
    size, colour = _SIZES[group.size], _COLOURS[group.colour]
    if group.number == 1:
        return f"{size} {colour} bir {noun}"
    return f"{numbers[group.number]} {size} {colour} {noun}"
