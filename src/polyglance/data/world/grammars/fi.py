"""Finnish: cases by suffix, the partitive after numerals, postpositions with the genitive."""

from typing import ClassVar, Literal

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["Finnish"]

_Form = Literal["nominative", "genitive", "partitive", "plural", "plural genitive"]
_FORMS: tuple[_Form, ...] = ("nominative", "genitive", "partitive", "plural", "plural genitive")


def _decline(forms: str) -> dict[_Form, str]:
    """Make a word from its forms, in the order of `_FORMS`."""
    return dict(zip(_FORMS, forms.split(), strict=False))


_NOUNS = {
    "circle": _decline("ympyrä ympyrän ympyrää ympyrät ympyröiden"),
    "square": _decline("neliö neliön neliötä neliöt neliöiden"),
    "triangle": _decline("kolmio kolmion kolmiota kolmiot kolmioiden"),
    "star": _decline("tähti tähden tähteä tähdet tähtien"),
    "heart": _decline("sydän sydämen sydäntä sydämet sydänten"),
    "cross": _decline("risti ristin ristiä ristit ristien"),
    "diamond": _decline("vinoneliö vinoneliön vinoneliötä vinoneliöt vinoneliöiden"),
    "arrow": _decline("nuoli nuolen nuolta nuolet nuolten"),
}
_SIZES = {  # a group that was named before is named without its size
    "small": _decline("pieni pienen pientä"),
    "medium": _decline("keskikokoinen keskikokoisen keskikokoista"),
    "large": _decline("iso ison isoa"),
}
_COLOURS = {
    "red": _decline("punainen punaisen punaista punaiset punaisten"),
    "blue": _decline("sininen sinisen sinistä siniset sinisten"),
    "green": _decline("vihreä vihreän vihreää vihreät vihreiden"),
    "yellow": _decline("keltainen keltaisen keltaista keltaiset keltaisten"),
    "orange": _decline("oranssi oranssin oranssia oranssit oranssien"),
    "purple": _decline("violetti violetin violettia violetit violettien"),
    "black": _decline("musta mustan mustaa mustat mustien"),
    "white": _decline("valkoinen valkoisen valkoista valkoiset valkoisten"),
    "pink": _decline("vaaleanpunainen vaaleanpunaisen vaaleanpunaista vaaleanpunaiset vaaleanpunaisten"),
    "brown": _decline("ruskea ruskean ruskeaa ruskeat ruskeiden"),
}
_NUMBERS = {2: ("kaksi", "kahden"), 3: ("kolme", "kolmen"), 4: ("neljä", "neljän")}


class Finnish(Grammar):
    code = "fi"
    prefix = LANGUAGES["fi"].prefix
    conjunction = "ja"
    clause_conjunction = ", ja"
    verb = ("on", "ovat")
    numbers: ClassVar = {number: nominative for number, (nominative, _) in _NUMBERS.items()}
    relations: ClassVar = {
        "left of": "vasemmalla puolella",
        "right of": "oikealla puolella",
        "above": "yläpuolella",
        "below": "alapuolella",
    }
    zones: ClassVar = {
        "top left": "ylhäällä vasemmalla",
        "top": "ylhäällä",
        "top right": "ylhäällä oikealla",
        "left": "vasemmalla",
        "centre": "keskellä",
        "right": "oikealla",
        "bottom left": "alhaalla vasemmalla",
        "bottom": "alhaalla",
        "bottom right": "alhaalla oikealla",
    }
    word_forms: ClassVar = {
        attribute: {value: list(forms.values()) for value, forms in words.items()}
        for attribute, words in (("size", _SIZES), ("colour", _COLOURS), ("shape", _NOUNS))
    }

    def name_new(self, group: Group) -> str:
        if group.number == 1:
            return _phrase(group, "nominative")
        return f"{self.numbers[group.number]} {_phrase(group, 'partitive')}"

    def name_known(self, group: Group) -> str:
        return _definite(group, "nominative" if group.number == 1 else "plural")

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        if known:
            place = _definite(group, "genitive" if group.number == 1 else "plural genitive")
        else:
            numeral = "" if group.number == 1 else f"{_NUMBERS[group.number][1]} "
            place = f"{numeral}{_phrase(group, 'genitive')}"
        return f"{place} {self.relations[relation]}"

    def forms(self) -> Forms:
        return {**super().forms(), "number": {str(number): [*words] for number, words in _NUMBERS.items()}}


def _phrase(group: Group, form: _Form) -> str:
    """Return size, colour and noun: "pieni punainen ympyrä"."""
    return f"{_SIZES[group.size][form]} {_definite(group, form)}"


def _definite(group: Group, form: _Form) -> str:
    """Return colour and noun: "punainen ympyrä", "punaiset ympyrät"."""
    return f"{_COLOURS[group.colour][form]} {_NOUNS[group.shape][form]}"
