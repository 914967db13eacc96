"""Russian: three genders, three cases, numerals that govern case, a participle that agrees. Always е, never ё."""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group
from polyglance.languages import LANGUAGES

__all__ = ["Russian"]

_Gender = Literal["m", "f", "n"]
_Agreement = Literal["m", "f", "n", "plural"]
_Case = Literal["nominative", "genitive", "instrumental"]


class _Noun(NamedTuple):
    gender: _Gender
    singular: dict[_Case, str]
    plural: dict[_Case, str]


def _noun(gender: _Gender, forms: str) -> _Noun:
    """Make a noun from its forms: nominative, genitive and instrumental, first singular, then plural."""
    first, second, third, *plural = forms.split()
    singular: dict[_Case, str] = {"nominative": first, "genitive": second, "instrumental": third}
    return _Noun(gender, singular, dict(zip(singular, plural, strict=True)))


_NOUNS = {
    "circle": _noun("m", "круг круга кругом круги кругов кругами"),
    "square": _noun("m", "квадрат квадрата квадратом квадраты квадратов квадратами"),
    "triangle": _noun("m", "треугольник треугольника треугольником треугольники треугольников треугольниками"),
    "star": _noun("f", "звезда звезды звездой звезды звезд звездами"),
    "heart": _noun("n", "сердце сердца сердцем сердца сердец сердцами"),
    "cross": _noun("m", "крест креста крестом кресты крестов крестами"),
    "diamond": _noun("m", "ромб ромба ромбом ромбы ромбов ромбами"),
    "arrow": _noun("f", "стрелка стрелки стрелкой стрелки стрелок стрелками"),
}
_NUMBERS: dict[int, dict[_Case, str]] = {
    2: {"nominative": "два", "genitive": "двух", "instrumental": "двумя"},
    3: {"nominative": "три", "genitive": "трех", "instrumental": "тремя"},
    4: {"nominative": "четыре", "genitive": "четырех", "instrumental": "четырьмя"},
}
_TWO_FEMININE = "две"
_ENDING_NUMBERS: dict[tuple[_Case, _Agreement], int] = {  # index into the rows of endings below
    ("nominative", "m"): 0,
    ("nominative", "f"): 1,
    ("nominative", "n"): 2,
    ("genitive", "m"): 3,
    ("genitive", "f"): 4,
    ("genitive", "n"): 3,
    ("instrumental", "m"): 5,
    ("instrumental", "f"): 4,
    ("instrumental", "n"): 5,
    ("nominative", "plural"): 6,
    ("genitive", "plural"): 7,
    ("instrumental", "plural"): 8,
}
_HARD = ["ый", "ая", "ое", "ого", "ой", "ым", "ые", "ых", "ыми"]
_SOFT = ["ий", "яя", "ее", "его", "ей", "им", "ие", "их", "ими"]
_AFTER_VELAR = ["ий", "ая", "ое", "ого", "ой", "им", "ие", "их", "ими"]
_STRESSED = ["ой", "ая", "ое", "ого", "ой", "им", "ие", "их", "ими"]
_SIZES = {"small": ("маленьк", _AFTER_VELAR), "large": ("больш", _STRESSED)}
_MEDIUM = "среднего размера"  # follows the noun: "средний круг" would be the one in the middle
_COLOURS = {
    "red": ("красн", _HARD),
    "blue": ("син", _SOFT),
    "green": ("зелен", _HARD),
    "yellow": ("желт", _HARD),
    "orange": ("оранжев", _HARD),
    "purple": ("фиолетов", _HARD),
    "black": ("черн", _HARD),
    "white": ("бел", _HARD),
    "pink": ("розов", _HARD),
    "brown": ("коричнев", _HARD),
}
_RELATIONS: dict[str, tuple[str, _Case]] = {
    "left of": ("слева от", "genitive"),
    "right of": ("справа от", "genitive"),
    "above": ("над", "instrumental"),
    "below": ("под", "instrumental"),
}
_SHOWN = {"m": "изображен", "f": "изображена", "n": "изображено"}
_SHOWN_PLURAL = "изображены"


class Russian(Grammar):
    code = "ru"
    prefix = LANGUAGES["ru"].prefix
    conjunction = "и"
    clause_conjunction = ", а"
    verb = ("находится", "находятся")
    numbers: ClassVar = {number: cases["nominative"] for number, cases in _NUMBERS.items()}
    relations: ClassVar = {relation: preposition for relation, (preposition, _) in _RELATIONS.items()}
    zones: ClassVar = {
        "top left": "вверху слева",
        "top": "вверху",
        "top right": "вверху справа",
        "left": "в левой части картинки",
        "centre": "в центре",
        "right": "в правой части картинки",
        "bottom left": "внизу слева",
        "bottom": "внизу",
        "bottom right": "внизу справа",
    }
    word_forms: ClassVar = {
        "size": {
            **{size: [stem + ending for ending in endings] for size, (stem, endings) in _SIZES.items()},
            "medium": [_MEDIUM],
        },
        "colour": {colour: [stem + ending for ending in endings] for colour, (stem, endings) in _COLOURS.items()},
        "shape": {shape: [*noun.singular.values(), *noun.plural.values()] for shape, noun in _NOUNS.items()},
    }

    def open_sentence(self, groups: Sequence[Group]) -> str:
        one = len(groups) == 1 and groups[0].number == 1
        participle = _SHOWN[_NOUNS[groups[0].shape].gender] if one else _SHOWN_PLURAL
        return f"{self.prefix} {participle}"

    def name_new(self, group: Group) -> str:
        return _phrase(group, "nominative")

    def name_known(self, group: Group) -> str:
        return _definite(group, "nominative")

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        preposition, case = _RELATIONS[relation]
        return f"{preposition} {_definite(group, case) if known else _phrase(group, case)}"

    def forms(self) -> Forms:
        numbers = {str(number): [*cases.values()] for number, cases in _NUMBERS.items()}
        numbers["2"].append(_TWO_FEMININE)
        return {**super().forms(), "number": numbers}


def _phrase(group: Group, case: _Case) -> str:
    """Return number, size, colour and noun: "маленький красный круг", "два маленьких красных круга"."""
    noun = _NOUNS[group.shape]
    agreement: _Agreement = "plural"
    adjective_case = case
    if group.number == 1:
        words, form, agreement = [], noun.singular[case], noun.gender
    elif case == "nominative":  # after two, three and four the noun stands in the genitive singular
        feminine = noun.gender == "f"
        words = [_TWO_FEMININE if feminine and group.number == 2 else _NUMBERS[group.number][case]]
        form, adjective_case = noun.singular["genitive"], "nominative" if feminine else "genitive"
    else:
        words, form = [_NUMBERS[group.number][case]], noun.plural[case]
    colour = _agree(_COLOURS[group.colour], adjective_case, agreement)
    if group.size == "medium":
        return " ".join([*words, colour, form, _MEDIUM])
    return " ".join([*words, _agree(_SIZES[group.size], adjective_case, agreement), colour, form])


def _definite(group: Group, case: _Case) -> str:
    """Return colour and noun, without the number: "красный круг", "красные круги"."""
    noun = _NOUNS[group.shape]
    if group.number == 1:
        return f"{_agree(_COLOURS[group.colour], case, noun.gender)} {noun.singular[case]}"
    return f"{_agree(_COLOURS[group.colour], case, 'plural')} {noun.plural[case]}"


def _agree(adjective: tuple[str, list[str]], case: _Case, agreement: _Agreement) -> str:
    stem, endings = adjective
    return stem + endings[_ENDING_NUMBERS[case, agreement]]
