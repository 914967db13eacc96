"""Sentences of texts in the project's languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.sentences import join_sentences, split_sentences


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


@given(st.text(alphabet='aB .!?。")\n', max_size=60), st.sampled_from(["en", "de", "zh"]))
def test_no_letter_is_lost(text: str, code: str) -> None:
    found = split_sentences(text, code)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() and sentence for sentence in found)


def test_joining() -> None:
    assert join_sentences(["A.", "B."], "en") == "A. B."
    assert join_sentences(["甲。", "乙。"], "zh") == "甲。乙。"
