"""Sentences of texts in the project's languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.sentences_of_all_languages import SENTENCES

from polyglance.data.sentences import add_end_mark, join_sentences, marks_sentences, split_sentences
from polyglance.languages import LANGUAGES


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("en", "A dog runs. It is fast!", ["A dog runs.", "It is fast!"]),
        ("en", "Mr. Smith paid 3.5 dollars. He left", ["Mr. Smith paid 3.5 dollars.", "He left"]),
        ("en", 'He said "Stop." Then he ran.', ['He said "Stop."', "Then he ran."]),
        ("en", "Wait... What?", ["Wait...", "What?"]),
        (
            "de",
            "Ein Hund, z.B. Rex, läuft. Am 5. Mai war es kalt.",
            ["Ein Hund, z.B. Rex, läuft.", "Am 5. Mai war es kalt."],
        ),
        ("fr", "M. Dupont est là ! Été comme hiver.", ["M. Dupont est là !", "Été comme hiver."]),
        ("es", "Hola. ¿Qué tal? Él va.", ["Hola.", "¿Qué tal?", "Él va."]),
        ("ru", "На фото г. Москва. Идёт снег.", ["На фото г. Москва.", "Идёт снег."]),
        ("zh", "图中有一只狗。它在跑！真的？是的", ["图中有一只狗。", "它在跑！", "真的？", "是的"]),
        ("en", "no end", ["no end"]),
        ("en", "  ", []),
    ],
)
def test_sentences_end_where_readers_end_them(code: str, text: str, expected: list[str]) -> None:
    assert split_sentences(text, code) == expected


@given(st.text(alphabet='aB .!?。")\n', max_size=60), st.sampled_from(sorted(LANGUAGES)))
def test_no_letter_is_lost(text: str, code: str) -> None:
    found = split_sentences(text, code)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() and sentence for sentence in found)


def test_joining() -> None:
    assert join_sentences(["A.", "B."], "en") == "A. B."
    assert join_sentences(["甲。", "乙。"], "zh") == "甲。乙。"


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_every_language_is_split_where_its_sentences_end_and_gets_no_second_mark(code: str) -> None:
    sentences = SENTENCES[code]
    text = join_sentences(sentences, code)
    assert split_sentences(text, code) == (sentences if marks_sentences(code) else [text])
    for sentence in sentences:
        assert add_end_mark(sentence, code) == sentence
    bare = sentences[0].rstrip(".。।")
    assert add_end_mark(bare, code) == sentences[0]


@pytest.mark.parametrize(
    ("code", "text", "num_sentences"),
    [
        ("pl", "Pies np. biały biegnie. Kot śpi.", 2),
        ("cs", "Pes má 5. narozeniny. Kočka spí.", 2),
        ("nl", "Dhr. Jansen heeft o.a. een hond. Hij loopt.", 2),
        ("sv", "T.ex. en hund springer. Den är glad.", 2),
        ("it", "Il sig. Rossi corre. Il cane dorme.", 2),
        ("pt", "O Sr. Silva corre. O cão dorme.", 2),
        ("ja", "「犬だ。」と言った。猫が寝る。", 2),
        ("fa", "سگ ۳.۵ کیلومتر دوید. گربه خوابید.", 2),
    ],
)
def test_abbreviations_end_no_sentence(code: str, text: str, num_sentences: int) -> None:
    assert len(split_sentences(text, code)) == num_sentences
