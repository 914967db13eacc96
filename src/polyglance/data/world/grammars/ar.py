"""Arabic: two genders, a dual, plurals of things that agree as feminine singulars, written from right to left."""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.scene import Group, Scene
from polyglance.languages import LANGUAGES

__all__ = ["Arabic"]

_Form = Literal["m", "f", "dual m", "dual f", "dual genitive m", "dual genitive f"]
_FORMS: tuple[_Form, ...] = ("m", "f", "dual m", "dual f", "dual genitive m", "dual genitive f")


class _Noun(NamedTuple):
    feminine: bool
    singular: str
    dual: str
    dual_genitive: str
    plural: str


_NOUNS = {
    "circle": _Noun(True, "دائرة", "دائرتان", "دائرتين", "دوائر"),
    "square": _Noun(False, "مربع", "مربعان", "مربعين", "مربعات"),
    "triangle": _Noun(False, "مثلث", "مثلثان", "مثلثين", "مثلثات"),
    "star": _Noun(True, "نجمة", "نجمتان", "نجمتين", "نجمات"),
    "heart": _Noun(False, "قلب", "قلبان", "قلبين", "قلوب"),
    "cross": _Noun(False, "صليب", "صليبان", "صليبين", "صلبان"),
    "diamond": _Noun(False, "معين", "معينان", "معينين", "معينات"),
    "arrow": _Noun(False, "سهم", "سهمان", "سهمين", "أسهم"),
}


def _agree(forms: str) -> dict[_Form, str]:
    """Make an adjective from its forms, in the order of `_FORMS`, with commas between them."""
    return dict(zip(_FORMS, forms.split(","), strict=True))


def _regular(stem: str) -> dict[_Form, str]:
    """Make an adjective with the regular endings."""
    return _agree(f"{stem},{stem}ة,{stem}ان,{stem}تان,{stem}ين,{stem}تين")


_SIZES = {
    "small": _regular("صغير"),
    "medium": _agree(
        "متوسط الحجم,متوسطة الحجم,متوسطا الحجم,متوسطتا الحجم,متوسطي الحجم,متوسطتي الحجم"  # "of medium size"
    ),
    "large": _regular("كبير"),
}
_COLOURS = {
    "red": _agree("أحمر,حمراء,أحمران,حمراوان,أحمرين,حمراوين"),
    "blue": _agree("أزرق,زرقاء,أزرقان,زرقاوان,أزرقين,زرقاوين"),
    "green": _agree("أخضر,خضراء,أخضران,خضراوان,أخضرين,خضراوين"),
    "yellow": _agree("أصفر,صفراء,أصفران,صفراوان,أصفرين,صفراوين"),
    "orange": _regular("برتقالي"),
    "purple": _regular("بنفسجي"),
    "black": _agree("أسود,سوداء,أسودان,سوداوان,أسودين,سوداوين"),
    "white": _agree("أبيض,بيضاء,أبيضان,بيضاوان,أبيضين,بيضاوين"),
    "pink": _regular("وردي"),
    "brown": _regular("بني"),
}
_NUMERALS = {3: ("ثلاثة", "ثلاث"), 4: ("أربعة", "أربع")}
"""Number -> numeral before nouns that are masculine, feminine in the singular."""
_LOCATED = ("يقع", "تقع")


class Arabic(Grammar):
    code = "ar"
    prefix = LANGUAGES["ar"].prefix
    conjunction = "و"
    proclitic = "و"
    numbers: ClassVar = {3: "ثلاثة", 4: "أربعة"}
    relations: ClassVar = {"left of": "إلى يسار", "right of": "إلى يمين", "above": "فوق", "below": "تحت"}
    zones: ClassVar = {
        "top left": "في أعلى اليسار",
        "top": "في الأعلى",
        "top right": "في أعلى اليمين",
        "left": "على اليسار",
        "centre": "في الوسط",
        "right": "على اليمين",
        "bottom left": "في أسفل اليسار",
        "bottom": "في الأسفل",
        "bottom right": "في أسفل اليمين",
    }
    word_forms: ClassVar = {
        "size": {size: list(forms.values()) for size, forms in _SIZES.items()},
        "colour": {
            colour: [f"{article}{form}" for article in ("", "ال") for form in forms.values()]
            for colour, forms in _COLOURS.items()
        },
        "shape": {
            shape: [
                *(noun.singular, noun.plural),
                *(f"ال{form}" for form in noun[1:]),
            ]
            for shape, noun in _NOUNS.items()
        },
    }
    dual_forms: ClassVar = {shape: noun[2:4] for shape, noun in _NOUNS.items()}

    def name_new(self, group: Group) -> str:
        return _phrase(group, genitive=False)

    def name_known(self, group: Group) -> str:
        return _definite(group, genitive=False)

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        place = _definite(group, genitive=True) if known else _phrase(group, genitive=True)
        return f"{self.relations[relation]} {place}"

    def detailed(self, scene: Scene, zones: Sequence[str]) -> str:
        clauses = [
            f"{_LOCATED[_is_feminine(group)]} {self.name_known(group)} {self.zones[zone]}"
            for group, zone in zip(scene.groups, zones, strict=True)
        ]
        names = self.join_list([self.name_new(group) for group in scene.groups])
        sentences = [f"{self.prefix} {names}", clauses[0]]
        if scene.relations:
            sentences[1] += f"، {self._say_relations(scene, known=True)}"
            sentences.append(f"و{'، و'.join(clauses[1:])}")
        return self.join_sentences(sentences)

    def join_list(self, items: Sequence[str]) -> str:
        return f" {self.conjunction}".join(items)

    def forms(self) -> Forms:
        return {**super().forms(), "number": {str(number): [*words] for number, words in _NUMERALS.items()}}


def _is_feminine(group: Group) -> bool:
    """Tell whether adjectives and verbs agree as with a feminine: plurals of things are feminine singulars."""
    return group.number > 2 or _NOUNS[group.shape].feminine


def _form(group: Group, *, genitive: bool) -> _Form:
    gender: Literal["m", "f"] = "f" if _is_feminine(group) else "m"
    if group.number != 2:
        return gender
    return _FORMS[(4 if genitive else 2) + (gender == "f")]


def _noun(group: Group, *, genitive: bool) -> str:
    noun = _NOUNS[group.shape]
    if group.number == 2:
        return noun.dual_genitive if genitive else noun.dual
    return noun.singular if group.number == 1 else noun.plural


def _phrase(group: Group, *, genitive: bool) -> str:
    """Return numeral, noun, colour and size: "دائرة حمراء صغيرة", "ثلاث دوائر حمراء صغيرة"."""
    form = _form(group, genitive=genitive)
    words = [_noun(group, genitive=genitive), _COLOURS[group.colour][form], _SIZES[group.size][form]]
    if group.number > 2:
        words.insert(0, _NUMERALS[group.number][_NOUNS[group.shape].feminine])
    return " ".join(words)


def _definite(group: Group, *, genitive: bool) -> str:
    """Return noun and colour, both with the article: "الدائرة الحمراء"."""
    colour = _COLOURS[group.colour][_form(group, genitive=genitive)]
    return f"ال{_noun(group, genitive=genitive)} ال{colour}"
