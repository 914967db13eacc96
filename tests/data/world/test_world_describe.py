"""Captions are parallel in all languages, and are read back into their attributes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.data.world import (
    ATTRIBUTES,
    LEVELS,
    PREFIXES,
    CaptionStyle,
    Group,
    Scene,
    describe,
    read_attributes,
    sample_scene,
)
from polyglance.languages import LANGUAGES

SCENES = st.builds(sample_scene, st.sampled_from(list(LEVELS)), seed=st.integers(0, 2**32), index=st.integers(0, 2**20))
SCENE = Scene(
    level="full",
    groups=(
        Group(number=1, size="small", colour="red", shape="circle"),
        Group(number=3, size="large", colour="orange", shape="star"),
    ),
    relations=("above",),
    seed=0,
)


@given(scene=SCENES)
@settings(max_examples=400, deadline=None)
def test_a_short_caption_says_the_whole_scene_in_every_language(scene: Scene) -> None:
    expected = {
        "number": tuple(str(group.number) for group in scene.groups),
        "size": tuple(group.size for group in scene.groups),
        "colour": tuple(group.colour for group in scene.groups),
        "shape": tuple(group.shape for group in scene.groups),
        "relation": scene.relations,
        "zone": (),
    }
    for language in PREFIXES:
        assert read_attributes(describe(scene, language), language) == expected, language


@given(scene=SCENES)
@settings(max_examples=200, deadline=None)
def test_detailed_captions_are_parallel_and_say_more(scene: Scene) -> None:
    english = read_attributes(describe(scene, "en", "detailed"), "en")
    assert len(english["zone"]) == len(scene.groups)
    assert english["relation"] == scene.relations
    for language in PREFIXES:
        assert read_attributes(describe(scene, language, "detailed"), language) == english, language


@given(scene=SCENES, style=st.sampled_from(["short", "detailed"]))
@settings(max_examples=200, deadline=None)
def test_captions_are_clean_sentences_with_their_prefix(scene: Scene, style: CaptionStyle) -> None:
    for language, prefix in PREFIXES.items():
        text = describe(scene, language, style)
        stop, spaced = LANGUAGES[language].full_stop, LANGUAGES[language].words == "spaces"
        assert text.startswith(prefix)
        assert text.endswith(stop)
        num_sentences = 1 if style == "short" else min(len(scene.groups) + 1, 3)
        assert text.count(stop) == num_sentences
        assert not re.search(r"\s\s|\s[.,]|,[^ ]|ё", text)
        if spaced:
            assert all(sentence[0] == sentence[0].upper() for sentence in text.split(f"{stop} "))
        else:
            assert not re.search(r"[\s,.]", text)


def test_short_captions_of_pairs_are_short() -> None:
    texts = [describe(sample_scene("pairs", 0, index), "en") for index in range(500)]
    lengths = [len(text.split()) for text in texts]
    assert 10 < sum(lengths) / len(lengths) < 15
    assert max(lengths) <= 15


def test_prefixes_are_the_languages_own() -> None:
    assert {language: LANGUAGES[language].prefix for language in PREFIXES} == PREFIXES


def test_any_text_can_be_read() -> None:
    nothing: dict[str, tuple[str, ...]] = dict.fromkeys(ATTRIBUTES, ())
    assert read_attributes("", "fr") == nothing
    assert read_attributes("Ein Hund läuft über die Straße", "en") == nothing
    assert read_attributes("the red red the circles", "en") == nothing | {
        "number": ("1",),
        "colour": ("red", "red"),
        "shape": ("circle",),
    }


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (
            "en",
            "Two SMALL circles and one star",
            {"number": ("2", "1"), "size": ("small",), "shape": ("circle", "star")},
        ),
        ("en", "Infrared squarely predicted blueness", {}),  # parts of other words are not read
        (
            "de",
            "die rotes Kreis unter den zwei Sternen",
            {"number": ("1", "2"), "colour": ("red",), "relation": ("below",)},
        ),
        ("fr", "les étoile verts à  gauche de un carré", {"colour": ("green",), "relation": ("left of",)}),
        ("fr", "en haut à gauche, à droite", {"zone": ("top left",), "relation": ("right of",)}),
        ("ru", "Зелёная звезда СЛЕВА ОТ чёрный круг", {"colour": ("green", "black"), "relation": ("left of",)}),
        (
            "zh",
            "两 个 三 角 形 和 中等大小的红色十字",
            {"number": ("2", "1"), "shape": ("triangle", "cross"), "size": ("medium",)},
        ),
    ],
)
def test_ungrammatical_texts_are_read(language: str, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    read = read_attributes(text, language)
    assert {attribute: values for attribute, values in read.items() if attribute in expected} == expected
    assert any(read.values()) == bool(expected)


def test_a_wrong_word_changes_the_reading() -> None:
    right = describe(SCENE, "es")
    assert read_attributes(right.replace("rojo", "azul"), "es") != read_attributes(right, "es")
    assert read_attributes(right.replace("tres", "dos"), "es") != read_attributes(right, "es")


def test_a_dual_a_numeral_behind_its_noun_and_a_joined_conjunction_are_read() -> None:
    assert read_attributes("نجمتان خضراوان وثلاثة قلوب", "ar")["number"] == ("2", "3")
    assert read_attributes("النجمتان الخضراوان", "ar")["number"] == ("1",)  # as "the green stars", without a numeral
    assert read_attributes("nyota mbili na mraba na mishale minne", "sw")["number"] == ("2", "1", "4")
    assert read_attributes("तारों", "hi")["shape"] == ("star",)
    assert read_attributes("तीर्थ", "hi")["shape"] == ()  # a part of another word


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(ValueError, match="unknown language 'kr': did you mean 'ko'"):
        describe(SCENE, "kr")
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        read_attributes("", "xx")
