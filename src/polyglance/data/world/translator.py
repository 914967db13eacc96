"""Translator of the built-in world: exact for its captions, word by word for other texts.

A caption is parsed into its scene, and the scene is described in the other language. With `ambiguous`, English words
with two senses get the wrong one, as from a translator that does not see the picture. A text that also says where in
the picture things are gets the right one; descriptions say it, short captions do not. So the gain from context can be
measured.
"""

import re
from collections.abc import Sequence

from polyglance.data.sentences import join_sentences, split_sentences
from polyglance.data.world import read_attributes
from polyglance.data.world.grammars import grammar
from polyglance.data.world.scene import Group, Scene
from polyglance.engines import EngineConfig, Failure
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE

__all__ = ["WorldTranslator"]

_MAX_SENTENCES = 3
"""Longest caption of the world, in sentences."""
_WRONG_SENSES = {
    "square": {
        **{"de": "Platz", "fr": "place", "es": "plaza", "ru": "площадь", "zh": "广场"},
        **{"ar": "ساحة", "hi": "चौक", "ja": "広場", "tr": "meydan", "fi": "aukio", "sw": "uwanja", "uk": "площа"},
    },
    "diamond": {
        **{"de": "Diamant", "fr": "diamant", "es": "diamante", "ru": "алмаз", "zh": "钻石"},
        **{"ar": "ألماسة", "hi": "हीरा", "ja": "ダイヤモンド", "tr": "elmas", "fi": "timantti", "uk": "алмаз"},
    },
}
"""Shape -> translations of the other sense of its English word: a square of a town, a precious stone. In Swahili the
stone and the shape have one word."""
_SEPARATOR = re.compile(r"(\s*#+\s*|\s*[()]\s*)")


class WorldTranslator:
    """Translates the English of `polyglance.data.world` into its other languages. A pure function of the text.

    Args:
        ambiguous: words with two senses get the wrong one, unless a description stands beside them.
    """

    def __init__(self, *, ambiguous: bool = False) -> None:
        self.name = "world"
        self.version = "ambiguous" if ambiguous else "exact"
        self._ambiguous = ambiguous

    @classmethod
    def for_recipe(cls, config: EngineConfig) -> "WorldTranslator":
        """Return the translator of a recipe."""
        return cls(ambiguous=config.ambiguous)

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Translate each text into the language. Texts around `###` and in brackets are translated separately.

        Raises:
            ValueError: the world has no grammar for the language.
        """
        grammar(language)
        return [self._translate(text, language) for text in texts]

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Return the same translations: there is no second candidate."""
        return self.translate(texts, language=language)

    def _translate(self, text: str, language: str) -> str:
        wrong = self._ambiguous and not read_attributes(text, SOURCE_LANGUAGE)["zone"]
        pieces = [
            piece if _SEPARATOR.fullmatch(piece) else _translate_passage(piece, language)
            for piece in _SEPARATOR.split(text)
            if piece
        ]
        translated = "".join(pieces)
        return _set_wrong_senses(translated, language) if wrong else translated


def _translate_passage(text: str, language: str) -> str:
    """Translate captions one after the other; the longest run of sentences that is a caption is taken first."""
    rest, translations = split_sentences(text, SOURCE_LANGUAGE), []
    while rest:
        for size in range(min(_MAX_SENTENCES, len(rest)), 0, -1):
            translation = _translate_caption(" ".join(rest[:size]), language)
            if translation is not None:
                break
        else:
            size, translation = 1, _translate_words(rest[0], language)
        translations.append(translation)
        rest = rest[size:]
    return join_sentences(translations, language)


def _translate_caption(text: str, language: str) -> str | None:
    """Translate a caption of the world; None where the text is none."""
    first, *others = split_sentences(text, SOURCE_LANGUAGE)
    of_first, of_text = read_attributes(first, SOURCE_LANGUAGE), read_attributes(text, SOURCE_LANGUAGE)
    kinds = [of_first[name] for name in ("number", "size", "colour", "shape")]
    if not kinds[0] or len({len(values) for values in kinds}) > 1 or len(of_text["relation"]) != len(kinds[0]) - 1:
        return None
    groups = tuple(
        Group(number=int(number), size=size, colour=colour, shape=shape)
        for number, size, colour, shape in zip(*kinds, strict=True)
    )
    scene = Scene(level="full", groups=groups, relations=of_text["relation"], seed=0)
    source, target = grammar(SOURCE_LANGUAGE), grammar(language)
    if not others:
        return target.short(scene) if source.short(scene) == text else None
    zones = of_text["zone"]
    fits = len(zones) == len(groups) and source.detailed(scene, zones) == text
    return target.detailed(scene, zones) if fits else None


def _translate_words(text: str, language: str) -> str:
    """Replace every word of the world by a form of the other language; other words stay as they are."""
    words: dict[str, str] = {}
    for attribute, values in grammar(SOURCE_LANGUAGE).forms().items():
        for value, forms in values.items():
            if targets := grammar(language).forms()[attribute].get(value):  # Arabic has a dual, and no word for "two"
                words |= dict.fromkeys(forms, next(iter(targets)))
    longest_first = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    translated = re.sub(
        rf"\b(?:{longest_first})\b", lambda match: words.get(match[0].casefold(), match[0]), text, flags=re.IGNORECASE
    )
    stop, space = LANGUAGES[language].full_stop, LANGUAGES[language].space
    return translated.replace(". ", f"{stop}{space}").replace(".", stop) if stop != "." else translated


def _set_wrong_senses(text: str, language: str) -> str:
    own = grammar(language)
    for shape, senses in _WRONG_SENSES.items():
        if language not in senses:
            continue
        forms = sorted((*own.forms()["shape"][shape], *own.dual_forms.get(shape, ())), key=len, reverse=True)
        pattern = "|".join(map(re.escape, forms))
        spaced = LANGUAGES[language].words == "spaces"
        start = rf"\b({own.proclitic})?" if own.proclitic else r"\b"
        joined = rf"{start}(?:{pattern})\b" if spaced else pattern
        text = re.sub(joined, rf"\g<1>{senses[language]}" if own.proclitic else senses[language], text, flags=re.I)
    return text
