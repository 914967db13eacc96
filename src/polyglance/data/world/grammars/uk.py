"""Ukrainian: three genders, four cases, numerals that govern case, a participle that agrees."""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["Ukrainian"]

_Gender = Literal["m", "f", "n"]
_Agreement = Literal["m", "f", "n", "plural"]
_Case = Literal["nominative", "accusative", "genitive", "instrumental"]
_CASES: tuple[_Case, ...] = ("nominative", "accusative", "genitive", "instrumental")


class _Noun(NamedTuple):
    gender: _Gender
    singular: dict[_Case, str]
    plural: dict[_Case, str]


def _noun(gender: _Gender, forms: str) -> _Noun:
    """Make a noun from its forms: nominative, accusative, genitive, instrumental; first singular, then plural."""
    words = forms.split()
    return _Noun(gender, dict(zip(_CASES, words[:4], strict=True)), dict(zip(_CASES, words[4:], strict=True)))


_NOUNS = {
    "circle": _noun("m", "круг круг круга кругом круги круги кругів кругами"),
    "square": _noun("m", "квадрат квадрат квадрата квадратом квадрати квадрати квадратів квадратами"),
    "triangle": _noun("m", "трикутник трикутник трикутника трикутником трикутники трикутники трикутників трикутниками"),
    "star": _noun("f", "зірка зірку зірки зіркою зірки зірки зірок зірками"),
    "heart": _noun("n", "серце серце серця серцем серця серця сердець серцями"),
    "cross": _noun("m", "хрест хрест хреста хрестом хрести хрести хрестів хрестами"),
    "diamond": _noun("m", "ромб ромб ромба ромбом ромби ромби ромбів ромбами"),
    "arrow": _noun("f", "стрілка стрілку стрілки стрілкою стрілки стрілки стрілок стрілками"),
}
_NUMBERS = {
    2: dict(zip(_CASES, ("два", "два", "двох", "двома"), strict=True)),
    3: dict(zip(_CASES, ("три", "три", "трьох", "трьома"), strict=True)),
    4: dict(zip(_CASES, ("чотири", "чотири", "чотирьох", "чотирма"), strict=True)),
}
_TWO_FEMININE = "дві"
_Endings = dict[tuple[_Case, _Agreement], str]


def _endings(masculine: str, neuter: str, feminine: str, plural: str) -> _Endings:
    """Make endings from four cases of each."""
    rows: dict[_Agreement, str] = {"m": masculine, "n": neuter, "f": feminine, "plural": plural}
    return {
        (case, agreement): ending
        for agreement, row in rows.items()
        for case, ending in zip(_CASES, row.split(), strict=True)
    }


_HARD = _endings("ий ий ого им", "е е ого им", "а у ої ою", "і і их ими")
_SOFT = _endings("ій ій ього ім", "є є ього ім", "я ю ьої ьою", "і і іх іми")
_SIZES = {"small": "маленьк", "large": "велик"}
_MEDIUM = "середнього розміру"  # follows the noun: "середній круг" would be the one in the middle
_COLOURS = {
    "red": ("червон", _HARD),
    "blue": ("син", _SOFT),
    "green": ("зелен", _HARD),
    "yellow": ("жовт", _HARD),
    "orange": ("помаранчев", _HARD),
    "purple": ("фіолетов", _HARD),
    "black": ("чорн", _HARD),
    "white": ("біл", _HARD),
    "pink": ("рожев", _HARD),
    "brown": ("коричнев", _HARD),
}
_RELATIONS: dict[str, tuple[str, _Case]] = {
    "left of": ("ліворуч від", "genitive"),
    "right of": ("праворуч від", "genitive"),
    "above": ("над", "instrumental"),
    "below": ("під", "instrumental"),
}
_PLACED = {"m": "розташований", "f": "розташована", "n": "розташоване", "plural": "розташовані"}


class Ukrainian(Grammar):
    code = "uk"
    prefix = LANGUAGES["uk"].prefix
    conjunction = "і"
    clause_conjunction = ", а"
    numbers: ClassVar = {number: cases["nominative"] for number, cases in _NUMBERS.items()}
    relations: ClassVar = {relation: preposition for relation, (preposition, _) in _RELATIONS.items()}
    zones: ClassVar = {
        "top left": "угорі ліворуч",
        "top": "угорі",
        "top right": "угорі праворуч",
        "left": "у лівій частині",
        "centre": "у центрі",
        "right": "у правій частині",
        "bottom left": "унизу ліворуч",
        "bottom": "унизу",
        "bottom right": "унизу праворуч",
    }
    word_forms: ClassVar = {
        "size": {
            **{size: list(dict.fromkeys(stem + ending for ending in _HARD.values())) for size, stem in _SIZES.items()},
            "medium": [_MEDIUM],
        },
        "colour": {
            colour: list(dict.fromkeys(stem + ending for ending in endings.values()))
            for colour, (stem, endings) in _COLOURS.items()
        },
        "shape": {
            shape: list(dict.fromkeys((*noun.singular.values(), *noun.plural.values())))
            for shape, noun in _NOUNS.items()
        },
    }

    def open_sentence(self, groups: Sequence[Group]) -> str:  # noqa: ARG002 (nothing agrees with them)
        return f"{self.prefix} видно"

    def name_new(self, group: Group) -> str:
        return _phrase(group, "accusative")

    def name_known(self, group: Group) -> str:
        return _definite(group, "nominative")

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        preposition, case = _RELATIONS[relation]
        return f"{preposition} {_definite(group, case) if known else _phrase(group, case)}"

    def say_zone(self, group: Group, zone: str) -> str:
        return f"{_PLACED[_agreement(group)]} {self.zones[zone]}"

    def forms(self) -> Forms:
        numbers = {str(number): list(dict.fromkeys(cases.values())) for number, cases in _NUMBERS.items()}
        numbers["2"].append(_TWO_FEMININE)
        return {**super().forms(), "number": numbers}


def _agreement(group: Group) -> _Agreement:
    return _NOUNS[group.shape].gender if group.number == 1 else "plural"


def _phrase(group: Group, case: _Case) -> str:
    """Return number, size, colour and noun: "маленький червоний круг", "два маленькі червоні круги"."""
    words = []
    if group.number > 1:
        is_feminine = _NOUNS[group.shape].gender == "f"
        two = group.number == 2 and is_feminine and case in ("nominative", "accusative")
        words.append(_TWO_FEMININE if two else _NUMBERS[group.number][case])
    if group.size != "medium":
        words.append(_SIZES[group.size] + _HARD[case, _agreement(group)])
    words.append(_definite(group, case))
    return " ".join([*words, _MEDIUM] if group.size == "medium" else words)


def _definite(group: Group, case: _Case) -> str:
    """Return colour and noun, without the number: "червоний круг", "червоні круги"."""
    noun, (stem, endings) = _NOUNS[group.shape], _COLOURS[group.colour]
    form = noun.singular[case] if group.number == 1 else noun.plural[case]
    return f"{stem}{endings[case, _agreement(group)]} {form}"
