"""Tags and scripts: never another script than the one asked for, and no text of a language is taken for another."""

import random

import pytest

from polyglance.data.cleaning import find_flaw, may_have_flaw
from polyglance.language_tags import choose_tag, parse_language_tag
from polyglance.languages import LANGUAGES
from polyglance.scripts import is_in_another_script
from tests.data.sentences_of_all_languages import SENTENCES


def test_every_language_is_found_by_its_codes() -> None:
    for code, entry in LANGUAGES.items():
        for tag in (code, entry.nllb, entry.name):
            parsed = parse_language_tag(tag)
            assert parsed is not None
            assert parsed.code == code, tag


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("de-DE", "de"), ("zh_CN", "zh"), ("EN-GB", "en"), ("zh-Hans", "zh"), ("zh-SG", "zh"), ("cmn", "zh"),
        ("chi", "zh"), ("nb", "no"), ("nob", "no"), ("iw", "he"), ("in", "id"), ("ara", "ar"), ("arb", "ar"),
        ("tl", "fil"), ("qu", "quz"), ("pt-BR", "pt"), ("prs", "fa"), ("swh", "sw"), ("gre", "el"), ("mo", "ro"),
        ("zh-TW", ""), ("zh-HK", ""), ("zh-Hant", ""), ("yue", ""), ("nn", ""), ("sr-Latn", ""), ("sr", ""),
        ("ru-Latn", ""), ("ja-Latn", ""), ("msa", ""), ("mul", ""),
    ],
)  # fmt: skip
def test_tags_stand_for_languages_in_their_script(tag: str, code: str) -> None:
    parsed = parse_language_tag(tag)
    assert parsed is not None
    assert parsed.code == code


@pytest.mark.parametrize(
    ("wanted", "tags", "chosen"),
    [
        ("zh", ["zh-TW", "zh-CN", "zh-Hans"], "zh-Hans"),
        ("zh", ["zh-HK", "zh-CN"], "zh-CN"),
        ("zh", ["zh-TW"], None),
        ("zh-TW", ["zh", "zh-Hant"], "zh-Hant"),
        ("pt", ["pt-PT", "pt-BR"], "pt-BR"),
        ("pt-PT", ["pt-BR"], None),
        ("sr-Latn", ["sr", "sr-Cyrl"], None),
        ("no", ["nn", "nb"], "nb"),
        ("src", ["SRC", "tgt"], "SRC"),
    ],
)
def test_the_best_tag_is_chosen(wanted: str, tags: list[str], chosen: str | None) -> None:
    assert choose_tag(wanted, tags) == chosen


def test_no_sentence_of_any_language_has_a_flaw_and_most_do_in_other_scripts() -> None:
    for code, sentences in SENTENCES.items():
        text = " ".join(sentences)
        assert find_flaw(text, code) == "", code
        for other, entry in LANGUAGES.items():
            if entry.script != LANGUAGES[code].script:
                assert is_in_another_script(text, other), (code, other)


def test_a_name_in_latin_letters_may_stand_in_any_script() -> None:
    assert not is_in_another_script("Coca-Cola", "ru")
    assert not is_in_another_script("Une photo de la rue Арбат", "fr")
    assert is_in_another_script("A dog runs over the grass", "ru")
    assert is_in_another_script("這隻狗在奔跑。", "zh")


def test_no_flaw_is_overlooked_where_texts_are_looked_at_together() -> None:
    random_ = random.Random(0)
    texts = [text for several in SENTENCES.values() for text in several]
    num_flaws = 0
    for _ in range(3000):
        some = [random_.choice(texts) for _ in range(3)]
        place = random_.randrange(3)
        match random_.randrange(4):
            case 0:
                some[place] = some[place].encode().decode(random_.choice(["cp1252", "cp1251", "latin-1"]), "replace")
            case 1:
                start = random_.randrange(len(some[place]) + 1)
                some[place] = some[place][:start] + chr(random_.randrange(0x80, 0xD800)) + some[place][start:]
        for code in random_.sample(sorted(LANGUAGES), 8):
            flaws = [find_flaw(text, code) for text in some]
            num_flaws += any(flaws)
            assert may_have_flaw("\n".join(some), code) or not any(flaws), (some, code)
    assert num_flaws > 1000
