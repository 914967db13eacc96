"""The built-in world's own translator: exact for its captions, word by word for anything else.

A caption is read back into the scene that it tells of, and told in the other language. With `ambiguous`, English words
of two senses are translated by the wrong one, as a translator does who does not see the picture; a text that also says
where in a picture things are, which descriptions do and short captions do not, gets the right one. So what context is
worth can be measured.
"""

import re
from collections.abc import Sequence

from polyglance.data.sentences import join_sentences, split_sentences
from polyglance.data.world import read_attributes
from polyglance.data.world.grammars import grammar
from polyglance.data.world.scene import Group, Scene
from polyglance.engines.protocol import Failure
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE

__all__ = ["WorldTranslator"]

_MAX_SENTENCES = 3
"""Of a caption of the world."""
_WRONG_SENSES = {
    "square": {"de": "Platz", "fr": "place", "es": "plaza", "ru": "площадь", "zh": "广场"},
    "diamond": {"de": "Diamant", "fr": "diamant", "es": "diamante", "ru": "алмаз", "zh": "钻石"},
}
"""Shape -> what else its English word means: a square of a town, a precious stone."""
_SEPARATOR = re.compile(r"(\s*#+\s*|\s*[()]\s*)")


class WorldTranslator:
    """Translates the English of `polyglance.data.world` into its other languages; a pure function of the text.

    Args:
        ambiguous: whether words of two senses are translated wrongly without a description beside them.
    """

    def __init__(self, *, ambiguous: bool = False) -> None:
        self.name = "world"
        self.version = "ambiguous" if ambiguous else "exact"
        self._ambiguous = ambiguous

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Each text in the language. What stands around `###` and in brackets is translated for itself.

        Raises:
            ValueError: the world has no grammar for the language.
        """
        grammar(language)
        return [self._translated(text, language) for text in texts]

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """The same: it knows no second way to say a thing."""
        return self.translate(texts, language=language)

    def _translated(self, text: str, language: str) -> str:
        wrong = self._ambiguous and not read_attributes(text, SOURCE_LANGUAGE)["zone"]
        pieces = [
            piece if _SEPARATOR.fullmatch(piece) else _passage(piece, language)
            for piece in _SEPARATOR.split(text)
            if piece
        ]
        translated = "".join(pieces)
        return _with_wrong_senses(translated, language) if wrong else translated


def _passage(text: str, language: str) -> str:
    """Captions, one after the other; the longest run of sentences that is one is taken first."""
    rest, made = split_sentences(text, SOURCE_LANGUAGE), []
    while rest:
        for size in range(min(_MAX_SENTENCES, len(rest)), 0, -1):
            told = _caption(" ".join(rest[:size]), language)
            if told is not None:
                break
        else:
            size, told = 1, _word_by_word(rest[0], language)
        made.append(told)
        rest = rest[size:]
    return join_sentences(made, language)


def _caption(text: str, language: str) -> str | None:
    """A caption told in another language, or None where the text is none of the world's."""
    first, *others = split_sentences(text, SOURCE_LANGUAGE)
    shown, said = read_attributes(first, SOURCE_LANGUAGE), read_attributes(text, SOURCE_LANGUAGE)
    kinds = [shown[name] for name in ("number", "size", "colour", "shape")]
    if not kinds[0] or len({len(values) for values in kinds}) > 1 or len(said["relation"]) != len(kinds[0]) - 1:
        return None
    groups = tuple(
        Group(number=int(number), size=size, colour=colour, shape=shape)
        for number, size, colour, shape in zip(*kinds, strict=True)
    )
    scene = Scene(level="full", groups=groups, relations=said["relation"], seed=0)
    source, target = grammar(SOURCE_LANGUAGE), grammar(language)
    if not others:
        return target.short(scene) if source.short(scene) == text else None
    zones = said["zone"]
    fits = len(zones) == len(groups) and source.detailed(scene, zones) == text
    return target.detailed(scene, zones) if fits else None


def _word_by_word(text: str, language: str) -> str:
    """Every word of the world by a form of the other language; other words are left as they are."""
    words: dict[str, str] = {}
    for attribute, values in grammar(SOURCE_LANGUAGE).forms().items():
        for value, forms in values.items():
            target = next(iter(grammar(language).forms()[attribute][value]))
            words |= dict.fromkeys(forms, target)
    longest_first = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    translated = re.sub(
        rf"\b(?:{longest_first})\b", lambda match: words[match[0].casefold()], text, flags=re.IGNORECASE
    )
    return translated.replace(". ", "。").replace(".", "。") if language == "zh" else translated


def _with_wrong_senses(text: str, language: str) -> str:
    for shape, senses in _WRONG_SENSES.items():
        forms = sorted(grammar(language).forms()["shape"][shape], key=len, reverse=True)
        pattern = "|".join(map(re.escape, forms))
        spaced = LANGUAGES[language].words == "spaces"
        text = re.sub(rf"\b(?:{pattern})\b" if spaced else pattern, senses.get(language, shape), text, flags=re.I)
    return text
