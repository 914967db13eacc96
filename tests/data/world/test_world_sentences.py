"""Sentences of the grammars compared with sentences written by hand (`sentences.tsv`).

Every form of every word that carries an attribute occurs there for the six languages of the paper (a test counts
them), so that agreement is tested in full; for the others every word in some form.
A scene is written as "2 small red star, left of 1 large blue circle, above 3 medium pink arrow".
"""

from pathlib import Path

import pytest

from polyglance.data.world import Group, Scene, WorldConfig, read_attributes
from polyglance.data.world.grammars import GRAMMARS

_, *CASES = [line.split("\t") for line in Path(__file__).with_name("sentences.tsv").read_text("utf-8").splitlines()]


def scene_of(text: str) -> Scene:
    first, *others = text.split(", ")
    words = [first.split(), *(other.split()[-4:] for other in others)]
    groups = tuple(
        Group(number=int(number), size=size, colour=colour, shape=shape) for number, size, colour, shape in words
    )
    relations = tuple(" ".join(other.split()[:-4]) for other in others)
    return Scene(level="full", groups=groups, relations=relations, seed=0)


@pytest.mark.parametrize(("language", "style", "scene", "zones", "text"), CASES)
def test_a_grammar_writes_as_people_do(language: str, style: str, scene: str, zones: str, text: str) -> None:
    grammar = GRAMMARS[language]
    written = (
        grammar.short(scene_of(scene)) if style == "short" else grammar.detailed(scene_of(scene), zones.split(", "))
    )
    assert written == text


@pytest.mark.parametrize("language", WorldConfig().languages)
def test_the_sentences_hold_every_form(language: str) -> None:
    assert GRAMMARS[language].code == language
    seen = "\n".join(text for code, *_, text in CASES if code == language).lower()
    spaced = language != "zh"
    words = set(seen.replace(".", " ").replace(",", " ").replace("'", " ").split())
    forms = [form for values in GRAMMARS[language].forms().values() for some in values.values() for form in some]
    missing = [form for form in forms if form not in (words if spaced and " " not in form else seen)]
    assert missing == []


@pytest.mark.parametrize("language", sorted(set(GRAMMARS) - set(WorldConfig().languages)))
def test_the_sentences_hold_every_word(language: str) -> None:
    texts = [text for code, *_, text in CASES if code == language]
    assert len(texts) >= 8
    read = [read_attributes(text, language) for text in texts]
    for attribute, values in GRAMMARS[language].forms().items():
        if attribute != "zone":
            assert set(values) <= {value for one in read for value in one[attribute]}, (language, attribute)
