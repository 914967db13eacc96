"""The world's translator: exact for captions; wrong without context if `ambiguous` is set."""

import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.context import Translated, TranslationConfig, translate_with_context
from polyglance.data.world import GRAMMARS, describe, sample_scene
from polyglance.engines import EngineConfig, Failure, open_translator

LANGUAGES = tuple(code for code in GRAMMARS if code != "en")
STYLES = ("short", "detailed")


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_are_translated_exactly(language: str) -> None:
    translator = open_translator(EngineConfig(kind="world"))
    scenes = [sample_scene(level, 3, index) for level in ("pairs", "counts", "full") for index in range(60)]
    for style in STYLES:
        sources = [describe(scene, "en", style) for scene in scenes]
        assert translator.translate(sources, language=language) == [describe(s, language, style) for s in scenes]
    one, two = scenes[0], scenes[-1]
    paragraph = f"{describe(one, 'en', 'detailed')} {describe(two, 'en')}"
    space = "" if language in ("ja", "zh") else " "
    assert translator.translate([paragraph], language=language) == [
        f"{describe(one, language, 'detailed')}{space}{describe(two, language)}"
    ]


def test_other_texts_go_word_by_word() -> None:
    translator = open_translator(EngineConfig(kind="world"))
    assert translator.translate(["Two red hearts, a dog."], language="de") == ["zwei rote herz, a dog."]
    assert translator.translate(["A red heart."], language="zh") == ["A 红色 爱心。"]
    with pytest.raises(ValueError, match="unknown language"):
        translator.translate(["A red heart."], language="eo")


@given(st.text(max_size=80), st.sampled_from(LANGUAGES))
def test_any_text_is_answered(text: str, language: str) -> None:
    translator = open_translator(EngineConfig(kind="world", ambiguous=True))
    first, second = translator.translate([text, f"{text} ### (The image shows.)"], language=language)
    assert isinstance(first, str)
    assert isinstance(second, str)
    assert "###" in second


@pytest.mark.parametrize("language", LANGUAGES)
def test_context_resolves_every_ambiguity(language: str) -> None:
    """No caption with an ambiguous word is right without context, and all are right with it."""
    translator = open_translator(EngineConfig(kind="world", ambiguous=True))
    scenes = [sample_scene("full", 0, index) for index in range(120)]
    shapes = ("square",) if language == "sw" else ("square", "diamond")  # Swahili has one word for both senses
    ambiguous = [any(group.shape in shapes for group in scene.groups) for scene in scenes]
    sources, contexts = ([describe(scene, "en", style) for scene in scenes] for style in STYLES)
    wanted = [describe(scene, language) for scene in scenes]
    right = {}
    for mode in ("none", "published", "checked"):
        made = translate_with_context(
            translator, sources, contexts, language=language, config=TranslationConfig(mode=mode)
        )
        right[mode] = [isinstance(got, Translated) and got.text == text for got, text in zip(made, wanted, strict=True)]
    assert right["none"] == [not word for word in ambiguous]
    assert all(right["published"])
    assert all(right["checked"])


class Faulty:
    """The ambiguous world's translator with the faults that machine translation has with several sentences: of what it
    is given with context, one text in four comes out with one of them."""

    name, version = "faulty", "1"

    def __init__(self) -> None:
        self._world = open_translator(EngineConfig(kind="world", ambiguous=True))

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        return [self._spoilt(text, language, "first") for text in texts]

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        return [self._spoilt(text, language, "second") for text in texts]

    def _spoilt(self, text: str, language: str, which: str) -> str:
        (made,) = self._world.translate([text], language=language)
        assert isinstance(made, str)
        number = zlib.crc32(f"{which} {language} {text}".encode())
        caption, separator, context = made.partition(" ### ")
        source = text.partition(" ### ")[0]
        if not separator or number % 4:
            return made
        return [
            f"{caption} {context}",  # the separator is lost, the bracket is not
            f"{caption} {context.strip('()')}",
            f"{source} ### {context}",  # the caption is left in English
            f"{caption} {context.strip('()').split('.')[0].split('。')[0]}. ### {context}",  # context gets in
            f"{caption[: len(caption) // 3]} ### {context}",
            f"{caption} {caption} {caption} ### {context}",
        ][number // 4 % 6]


def shares(translator: Faulty, mode: str, language: str, num_scenes: int = 200) -> tuple[float, float]:
    """Shares of captions: translated right, and translated wrong but accepted."""
    scenes = [sample_scene("full", 0, index) for index in range(num_scenes)]
    sources, contexts = ([describe(scene, "en", style) for scene in scenes] for style in STYLES)
    config = TranslationConfig(mode=mode)  # type: ignore[arg-type]
    made = translate_with_context(translator, sources, contexts, language=language, config=config)
    texts = [got.text for got in made if isinstance(got, Translated)]
    right = sum(text == describe(scene, language) for text, scene in zip(texts, scenes, strict=True))
    return right / num_scenes, sum(text is not None for text in texts) / num_scenes - right / num_scenes


@pytest.mark.parametrize("language", LANGUAGES)
def test_checks_raise_the_share_of_right_translations(language: str) -> None:
    """Measured with 400 scenes in each language: right 0.51 without context, 0.81 as published, 0.97 checked; wrong
    and kept 0.49, 0.19 and 0.03 (where neither candidate with context was good, the text without it is kept)."""
    bare, published, checked = (shares(Faulty(), mode, language) for mode in ("none", "published", "checked"))
    assert bare[0] < published[0] < checked[0]
    assert checked[0] > 0.93
    assert checked[1] < published[1] / 2
