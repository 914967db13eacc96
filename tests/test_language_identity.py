"""The identifier of languages: right texts are recognised, wrong ones noticed, and nothing is guessed."""

import json
import random
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.character_ngrams import find_words
from polyglance.evaluate.metrics.off_target import OffTarget
from polyglance.language_identity import (
    LanguageIdentifier,
    are_close,
    find_foreign_part,
    find_other_language,
    is_in_another_language,
    judge_language,
    knows_language,
)
from polyglance.languages import LANGUAGES, XM3600_LANGUAGES
from tests.captions_of_all_languages import CAPTIONS
from tests.data.sentences_of_all_languages import SENTENCES

ALL = LanguageIdentifier(XM3600_LANGUAGES)
ENGLISH = "Two children in red coats are playing with a brown dog on the grass"
ONLY_ONE = {"ko": "Hang", "ar": "Arab", "hi": "Deva", "ru": "Cyrl", "el": "Grek", "he": "Hebr", "th": "Thai"}
"""Language -> its script, which no other language of `MIXED` has."""
MIXED = LanguageIdentifier(["en", "de", "zh", *ONLY_ONE])
LETTERS = {
    "ko": "가나다라마바사아자차",
    "ar": "ابتثجحخدذر",
    "hi": "कखगघचछजझटठ",
    "ru": "абвгдежзий",
    "el": "αβγδεζηθικ",
    "he": "אבגדהוזחטי",
    "th": "กขคงจฉชซญด",
}


def test_captions_and_sentences_of_every_language_are_recognised() -> None:
    assert CAPTIONS.keys() == SENTENCES.keys() == set(XM3600_LANGUAGES) == LANGUAGES.keys()
    for code, captions in CAPTIONS.items():
        assert [ALL.identify(text) for text in captions] == [code, code]
        assert [judge_language(text, code).verdict for text in captions] == ["asked", "asked"]
        for text in (*captions, *SENTENCES[code]):
            assert judge_language(text, code).verdict != "other", (code, text)
            assert find_foreign_part(text, code) == ""
            assert not is_in_another_language(text, code)


def test_captions_are_in_no_other_language_than_their_own() -> None:
    for code, captions in CAPTIONS.items():
        for other in XM3600_LANGUAGES:
            verdicts = [judge_language(text, other).verdict for text in captions]
            if not are_close(code, other):
                assert "asked" not in verdicts
                assert "other" in verdicts, (code, other, captions)


@given(st.sampled_from(sorted(LETTERS)), st.data())
def test_a_script_that_one_language_has_decides_alone(code: str, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.text(LETTERS[code], min_size=1, max_size=8), min_size=1, max_size=6))
    signs = data.draw(st.lists(st.sampled_from(["12", "!", "—", "🙂", ",", "\u200b"]), max_size=4))
    text = " ".join(data.draw(st.permutations([*words, *signs])))
    assert MIXED.identify(text) == code
    with_corpus = LanguageIdentifier(MIXED.languages, [(other, ENGLISH) for other in MIXED.languages])
    assert with_corpus.identify(text) == code


@given(st.text(alphabet="bcdfghjklmnpqrstvwxz", min_size=1, max_size=12), st.sampled_from(["en", "de", "cs"]))
def test_unknown_words_favour_no_language_of_another_script(word: str, code: str) -> None:
    """Unknown Latin words drifted to Chinese and Japanese, whose single signs are more frequent than whole words."""
    texts = [(other, text) for other in ("en", "de", "cs", "zh", "ja", "ko") for text in CAPTIONS[other]]
    identifier = LanguageIdentifier(["en", "de", "cs", "zh", "ja", "ko"], texts)
    assert identifier.identify(word) in (None, "en", "de", "cs")
    assert identifier.identify(f"{CAPTIONS[code][0]} {word}") == code


@given(st.sampled_from(XM3600_LANGUAGES), st.sampled_from([0, 1]), st.data())
@settings(max_examples=200)
def test_form_changes_no_verdict(code: str, place: int, data: st.DataObject) -> None:
    text = CAPTIONS[code][place]
    changes = {
        "decomposed": lambda text: unicodedata.normalize("NFD", text),
        "upper case": str.upper,
        "numbers": lambda text: f"12. {text} (2024) 3,5 % #7",
        "signs": lambda text: f"“{text}!” 🙂 …",
        "markup": lambda text: f"\ufeff{text}\u200b\r\n",
        "address": lambda text: f"{text} https://example.org/some/page?of=words someone@example.org",
    }
    for name in data.draw(st.lists(st.sampled_from(sorted(changes)), min_size=1, max_size=3, unique=True)):
        text = changes[name](text)
    assert ALL.identify(text) == code
    assert judge_language(text, code).verdict == "asked"


def test_words_are_the_same_in_every_normal_form() -> None:
    for text in (
        "Ein HUND, größer",
        "Ｅｉｎ Ｈｕｎｄ； größer!",
        unicodedata.normalize("NFD", "ein\u200b hund: größer"),
    ):
        assert find_words(text) == ["ein", "hund", "größer"]
    assert find_words("l'homme aujourd’hui 3 peut-être") == ["l'homme", "aujourd’hui", "peut-être"]
    assert find_words("एक कुत्ता می‌دود") == ["एक", "कुत्ता", "می‌دود"]


@pytest.mark.parametrize("text", ["", "   ", "123 456", "?!", "🙂🙂", "\u200b\u200d", "3 x 4"])
@pytest.mark.parametrize("code", ["en", "ru", "zh", "mi"])
def test_texts_that_tell_nothing_are_unclear(text: str, code: str) -> None:
    assert judge_language(text, code).verdict in ("unclear", "asked")
    assert find_foreign_part(text, code) == ""


def test_little_evidence_is_unclear_and_never_another_language() -> None:
    names = {"ru": "Coca-Cola", "de": "Taxi", "sw": "Paris", "en": "π", "it": "no no no no", "zh": "iPhone 15 手机"}
    for code, text in (*names.items(), ("ja", "上向矢印下向矢印"), ("ja", "犬"), ("sr", "Бела мачка спава на каучу")):
        assert judge_language(text, code).verdict != "other", (text, code)


@pytest.mark.parametrize(
    ("text", "code", "language", "script"),
    [
        ("這隻狗在草地上奔跑，一個孩子看著牠。", "zh", "zh", "Hant"),
        ("这只狗在草地上奔跑，一个孩子看着它。", "ja", "zh", "Hans"),
        ("犬が公園を走っている", "zh", "ja", "Jpan"),
        ("ek kutta park mein daud raha hai aur khel raha hai", "hi", None, "Latn"),
        ("ஒரு நாய் பூங்காவில் ஓடுகிறது", "hi", "", "Taml"),
        ("Собака біжить по парку і грається з м'ячем", "ru", "uk", "Cyrl"),
        ("Кучето тича в парка и си играе с топката", "ru", "bg", "Cyrl"),
        ("ایک کتا پارک میں دوڑ رہا ہے اور کھیل رہا ہے", "fa", "ur", "Arab"),
        ("कुत्रा उद्यानात धावत आहे आणि चेंडूशी खेळत आहे", "hi", "mr", "Deva"),
        (ENGLISH, "mi", "en", "Latn"),
    ],
)
def test_another_language_or_script_is_noticed(text: str, code: str, language: str | None, script: str) -> None:
    found = judge_language(text, code)
    assert (found.verdict, found.script) == ("other", script)
    assert language is None or found.language == language


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("no", "En hvid kat sover på sofaen ved siden af vinduet"),
        ("no", "Ei kvinne går nedover gata med ein paraply, og hunden spring ikkje"),
        ("da", "En hvit katt sover på sofaen ved siden av vinduet"),
        ("cs", "Biela mačka spí na pohovke vedľa okna a žena číta knihu"),
        ("hr", "Bela mačka spava na kauču pored prozora"),
        ("sr", "Bijela mačka spava na kauču pokraj prozora"),
        ("sr", "Бела мачка спава на каучу, а жена чита књигу поред прозора"),
        ("id", "Seorang perempuan berjalan di jalan raya dengan payung"),
        ("ms", "Kucing putih tidur di sofa di dekat jendela"),
    ],
)
def test_languages_that_are_nearly_the_same_are_told_as_such(code: str, text: str) -> None:
    assert judge_language(text, code).verdict in ("asked", "close")


def test_half_of_a_text_in_another_language_is_found() -> None:
    latin = [code for code in CAPTIONS if LANGUAGES[code].script == "Latn"]
    for one, other in pairwise([*latin, "zh", "ru", "hi", *latin[:1]]):
        if are_close(one, other):
            continue
        text = " ".join((*CAPTIONS[one], *CAPTIONS[other]))
        assert find_foreign_part(text, one) == other
    assert find_foreign_part("Ein Hund spielt mit dem Ball. A dog plays with the ball.", "de") == "en"
    assert find_foreign_part("一只棕色的狗在草地上玩。A brown dog is playing on the green grass.", "zh") == "en"


def test_columns_in_another_language_are_found() -> None:
    english = [*CAPTIONS["en"], *SENTENCES["en"], ENGLISH]
    for code in ("fr", "de", "fil", "mi", "ru"):
        assert find_other_language(english, code) == "en"
        assert find_other_language([*CAPTIONS[code], *SENTENCES[code], *CAPTIONS[code]], code) is None
    assert find_other_language([*CAPTIONS["da"]] * 3, "no") is None
    assert find_other_language(["dog"] * 100, "fr") is None


def test_a_corpus_says_what_belongs_to_its_languages() -> None:
    corpus = [("de", "Mantel mit Knopf"), ("en", "coat with a mantelpiece"), ("fr", "manteau avec bouton")]
    names = LanguageIdentifier(["de", "en", "fr"], corpus)
    assert [names.identify(text) for text in ("Mantel", "coat", "bouton")] == ["de", "en", "fr"]
    assert names.identify("kwpzx vvqjt zzkkq") is None
    assert names.identify("") is None


def test_names_of_emoji_that_were_not_seen_are_recognised(shared: Path) -> None:
    path = shared / "data" / "emoji" / "captions.jsonl"
    rows = [json.loads(line)["texts"] for line in path.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    identifier = LanguageIdentifier(rows[0], [(code, row[code]) for row in rows[:1000] for code in row])
    right = [identifier.identify(row[code]) == code for row in rows[1000:1300] for code in row]
    assert sum(right) > 0.95 * len(right)


def test_languages_that_are_not_known_are_refused() -> None:
    assert all(knows_language(code) for code in (*LANGUAGES, "ms", "sr", "bo"))
    with pytest.raises(ValueError, match="language: 'xx' is not a language that the identifier can tell"):
        OffTarget(language="xx")


def test_texts_that_go_on_in_another_language_are_found_and_right_ones_are_not() -> None:
    german = (
        "Ein kleiner brauner Hund läuft über die grüne Wiese",
        "Zwei ältere Frauen sitzen auf einer Bank im Park",
        "Ein Mann mit einem Hut liest eine Zeitung am Bahnhof",
        "Mehrere Kinder spielen an einem Sommertag Fußball auf der Straße",
    )
    english = (
        "and a small girl runs after it across the meadow",
        "while three dogs are sleeping under the wooden table",
        "which shows a red car in front of an old house",
    )
    for text in german:
        assert not find_foreign_part(text, "de")
        assert not find_foreign_part(f"{text}, {german[0]}.", "de")
        for other in english:
            assert find_foreign_part(f"{text} {other}.", "de") == "en", (text, other)
            assert find_foreign_part(f"{other} {text}.", "de") == "en", (text, other)
