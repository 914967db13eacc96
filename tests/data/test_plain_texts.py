"""Texts are cleaned in short ways where nothing is odd; these give what the whole rules give, written out here."""

import random
import unicodedata

from tests.data.sentences_of_all_languages import SENTENCES

from polyglance.data import cleaning, columns
from polyglance.data.import_rows import clean_caption
from polyglance.data.sources.bitext import clean_text, clean_texts
from polyglance.language_identity import find_other_language

_ODD = [
    *("&amp;", "&#10;", "&nbsp;", "<b>", "</p>", "<image>", "\\n", "\\u00e9", "%20", "%41%42", "100%", "AT&T", "x<y"),
    *("\u00a0", "\u200b", "\u200d", "\u202e", "\ufffd", "\x92", "\0", "\ufeff", "\u3000", "\t", "\n", "\r", " ", "  "),
    *("{'a': 1}", "b'x'", '["a"]', "http://a.b/c", "www.x.de", "a.jpg", ".TIFF", ".svg", "IMG_1234", "(12)", "P12345"),
    *("image", "nan", "NaN", "None", "N/A", "todo", "TODO", "no caption", "click to enlarge", "untitled", "[]", "..."),
    *(
        "|||",
        "a@@",
        "▁a",
        "##b",
        "Ġdog",
        "a_b_c",
        "to+be+or",
        "NA",
        "na",
        "\\N",
        "Error: no",
        "ValueError: x",
        "TypeError",
    ),
    *('="a dog"', "&amp;auml;", "&amp;amp;lt;", "Traceback (most recent call last):"),
    *(
        "\u00c3\u00a9",
        "\u00e2\u20ac\u2122",
        "\u0440\u0443",
        "\u5716",
        "\u304b",
        "\ud55c",
        "e\u0301",
        "\u0958",
        "\u0130",
    ),
]
_ENDS = ["", " ", ".", ")", "*", "'", "-", "_", "7", "}", "g", "f"]


def _make_texts(seed: int, number: int) -> list[tuple[str, str]]:
    """Make pairs of text and language: sentences whole, cut to a few words, with odd pieces in them, or odd alone."""
    rng, codes = random.Random(seed), list(SENTENCES)
    made = []
    for _ in range(number):
        code = rng.choice(codes)
        words = rng.choice(SENTENCES[code]).split(" ")
        words = words[: rng.choice([0, 1, 2, 3, 99])]
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            place = rng.choice([0, len(words), rng.randrange(len(words) + 1)])
            words.insert(place, rng.choice(_ODD) + rng.choice(_ENDS))
        text = rng.choice([" ", " ", ""]).join(words)
        made.append((text, code if rng.random() < 0.7 else rng.choice(codes)))
    return made


def _find_artefact_slowly(text: str) -> str:
    """Apply every rule to the text."""
    bare = text.strip()
    if not any(map(str.isalpha, bare)):
        return "no letter in it"
    if columns._ADDRESS.fullmatch(bare):
        return "an address"
    if columns._IMAGE_FILE.fullmatch(bare) or columns._CAMERA_NAME.fullmatch(bare):
        return "the name of a file"
    if bare.startswith('="') and bare.endswith('"'):
        return "a formula of a spreadsheet"
    if columns._OBJECT.fullmatch(bare):
        return "an object of a program, written as text"
    if columns._has_escape(bare):
        return "escapes of a program, written out (\\n, \\u00e9)"
    if columns._PERCENT.fullmatch(bare):
        return "encoded as an address (%20)"
    if "|||" in bare:
        return "several texts in one (|||)"
    if columns._SUBWORDS.search(bare):
        return "marks of subwords (@@, ▁, ##, Ġ)"
    if columns._JOINED_WORDS.fullmatch(bare):
        return "words joined by _ or +"
    return "the message of an error" if columns._ERROR.match(bare) else ""


def _find_placeholder_slowly(text: str, code: str) -> str:
    inner = text.strip().strip("[](){}<>\"'*. ")
    if columns.is_true_word(inner, code):
        return ""
    words = {text.strip().lower(), inner.lower()}
    if words & columns._NOTHING:
        return "empty, written as nan, null or none"
    return "a word that stands for no text (image, untitled)" if words & columns._PLACEHOLDERS else ""


def _clean_slowly(text: str, code: str) -> tuple[str | None, str]:
    """Clean a caption by all steps and all rules, one after the other."""
    text = cleaning.resolve_entities(text)
    if cleaning.has_control_inside(text):
        return None, "a control character inside a word"
    if cleaning.is_turned_around(text):
        return None, "characters that turn the order of others around"
    clean = unicodedata.normalize("NFC", cleaning.join_lines(cleaning.without_invisible(text, code)))
    if cleaning.is_blank(clean):
        return None, "empty"
    problem = _find_placeholder_slowly(clean, code)
    problem = problem or ("tags (HTML, or a model's)" if cleaning._TAG.search(clean) else "")
    problem = problem or _find_artefact_slowly(clean) or cleaning.find_flaw(clean, code)
    return (None, problem) if problem else (clean, "")


def test_captions_are_cleaned_as_by_all_rules() -> None:
    found = set()
    for text, code in _make_texts(0, 6000):
        expected = _clean_slowly(text, code)
        assert clean_caption(text, code) == expected, (text, code)
        found.add(expected[1])
    assert len(found) >= 14  # every rule was asked for


def test_sides_of_pairs_are_cleaned_together_as_one_by_one() -> None:
    rng, num_whole = random.Random(1), 0
    for number in range(600):
        texts, size = [text for text, _ in _make_texts(number + 10, 12)], rng.choice([1, 3, 12])
        if number % 2:
            texts = [text.replace("\n", " ").strip() + "\r" * (number % 3 == 0) for text in texts]
        if number % 4 == 1:  # nothing odd but what is looked at text by text
            texts = [text for text in texts if text.strip().isprintable() and not cleaning.has_tags(text)] or texts
        raws: list[bytes | str] = [*texts[:size]]
        if number % 5:
            raws = [text.encode() for text in texts[:size]]
        limit = rng.choice([1000, 60, 12])
        cleaned, problems = clean_texts(raws, "de", max_characters=limit)
        expected = [clean_text(raw, "de", max_characters=limit) for raw in raws]
        assert problems == {place: problem for place, (_, problem) in enumerate(expected) if problem}
        for place, (text, problem) in enumerate(expected):
            assert problem or cleaned[place] == text
        num_whole += not problems
    assert num_whole > 50


def test_english_is_told_by_its_words_as_by_the_library(monkeypatch) -> None:
    english = ["The dog runs in the park and the cat sleeps.", "A man with a hat sits at the table.", *SENTENCES["en"]]
    german = ["Der Hund läuft mit dem Ball durch den Park.", "Ein Mann mit Hut sitzt am Tisch.", *SENTENCES["de"]]
    for num_english in range(13):
        texts = english * num_english + german * (12 - num_english)
        found = find_other_language(texts, "en")
        with monkeypatch.context() as patch:
            patch.setattr("polyglance.language_identity._have_english_words", lambda _: False)
            assert find_other_language(texts, "en") == found
        assert (found == "de") == (num_english < 5)
