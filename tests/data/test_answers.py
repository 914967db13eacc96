"""Answers of engines: what is no caption is refused with a reason, what is one is kept as it is."""

import json
import random

import pytest
from tests.data.sentences_of_all_languages import SENTENCES

from polyglance.data.answers import clean_answer, find_answer_flaw, has_loop
from polyglance.engines.server import NoAnswer, _answer_text
from polyglance.languages import LANGUAGES

CAPTION = "A brown dog runs over the grass. A child in a red coat looks at it."


@pytest.mark.parametrize(
    "answer",
    [
        CAPTION,
        f"<think>The image shows a dog.\nLet me see.</think>\n\n{CAPTION}",
        f"The user wants a caption.</think>{CAPTION}",
        "**A brown dog** runs over the grass.\n\nA child in a *red* coat looks at it.",
        "# A brown dog runs over the grass.\n- A child in a red coat looks at it.",
        f"Sure! Here is a description of the image:\n{CAPTION}",
        f"Caption: {CAPTION}<|im_end|>",
        f'"{CAPTION}"',
        f"```text\n{CAPTION}\n```",
        f"<s>{CAPTION}</s>",
    ],
)
def test_what_stands_around_a_caption_is_removed(answer: str) -> None:
    assert clean_answer(answer) == CAPTION
    assert find_answer_flaw(clean_answer(answer), "en", style="paragraph") is None


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        ("", "empty"),
        ("<think>The image shows", "reasoning without an end"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I'm sorry, I can't assist with that request.", "refusal"),
        ("I am sorry.", "refusal"),
        ("Sorry, I cannot describe this image.", "refusal"),
        ("Sorry, but the image is blank.", "refusal"),
        ("I can't identify people in images.", "refusal"),
        ("I cannot provide a caption for it.", "refusal"),
        ("I can't see any image attached.", "refusal"),
        ("I couldn't generate a description.", "refusal"),
        ("I cannot fulfill this request.", "refusal"),
        ("I won't be able to help with this one.", "refusal"),
        ("I don't have access to the picture.", "refusal"),
        ("I do not have the ability to see images.", "refusal"),
        ("I apologize, but no picture was given.", "refusal"),
        ("I apologize for the confusion.", "refusal"),
        ("My apologies, something went wrong.", "refusal"),
        ("Unfortunately, I can't see the image.", "refusal"),
        ("We're unable to process it.", "refusal"),
        ("Je suis d\u00e9sol\u00e9, mais je ne peux pas le faire.", "refusal"),
        ("Lo siento, pero no puedo ayudar.", "refusal"),
        ("\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u63cf\u8ff0\u8fd9\u5f20\u56fe\u7247\u3002", "refusal"),
        ("I\u2019m unable to view images.", "refusal"),
        ("As an AI language model, I cannot see the image.", "refusal"),
        ("Es tut mir leid, ich kann das nicht.", "refusal"),
        ("a dog " * 60, "repetition"),
        ("A dog runs. " * 5, "repetition"),
        ("Собака бежит по траве.", "wrong script"),
        ("Ein brauner Hund rennt über die Wiese und ein Kind in einem roten Mantel sieht ihm zu.", "another language"),
        ("A dog runs over the grass. A child in a red coat looks at", "cut off"),
        ("| object | colour |\n|---|---|\n| dog | brown |", "a table"),
        ("The caf\u00c3\u00a9 is \u00c3\u00a0 la carte.", "UTF-8 that was read in another encoding"),
    ],
)
def test_what_is_no_caption_is_refused_with_its_reason(answer: str, flaw: str) -> None:
    assert find_answer_flaw(clean_answer(answer), "en", style="paragraph") == flaw


def test_sentences_of_every_language_pass() -> None:
    for code in LANGUAGES:
        text = " ".join(SENTENCES[code])
        assert find_answer_flaw(clean_answer(text), code) is None, code


@pytest.mark.parametrize(
    "text",
    [
        "A sign says: I\u2019m sorry we are closed.",
        "A 3 x 4 grid of 1. FC K\u00f6ln fans",
        "5 * 3 * 2 squares",
        "2 red squares",
        "I can't wait - it's my favourite show, you know!",
        "I can't believe how tall this tower is.",
        "I can't help it, I love dogs.",
        "I couldn't find my keys on the table.",
        "I cannot swim, says the boy by the pool.",
        "I can't see the sea from here.",
        "I don't have a dog but a cat.",
        "I won't eat it, says the child.",
        "I'm sorry we are closed.",
        "I'm sorry I'm late for the train.",
        "I apologize to my cat every day.",
        "Sorry I missed your birthday, on a cake.",
        "Unfortunately the road is closed.",
    ],
)
def test_plain_captions_stay_as_they_are(text: str) -> None:
    assert clean_answer(text) == text
    assert find_answer_flaw(text, "en") is None


@pytest.mark.parametrize(("reason", "problem"), [("length", "cut off"), ("content_filter", "content filter")])
def test_an_endpoint_says_that_an_answer_is_not_whole(reason: str, problem: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": "A dog in"}, "finish_reason": reason}]}).encode()
    with pytest.raises(NoAnswer, match=problem):
        _answer_text(body, must_be_whole=True)
    assert _answer_text(body, must_be_whole=False) == "A dog in"


def _repeats_words(words: list[str], max_repeats: int) -> bool:
    """What `has_loop` says of words, pair by pair."""
    for period in range(1, min(30, len(words) // max_repeats) + 1):
        alike, needed = 0, period * max_repeats - (period > 2)
        for one, other in zip(words, words[period:], strict=False):
            alike = alike + 1 if one == other else 0
            if alike >= needed:
                return True
    return False


def test_loops_of_words_are_those_that_a_look_at_every_pair_finds() -> None:
    random_ = random.Random(0)
    found = 0
    for _ in range(4000):
        words = random_.choices(
            ["a", "b", "c", "dog", "cat", "runs"][: random_.randrange(2, 7)], k=random_.randrange(40)
        )
        start = random_.randrange(len(words) + 1)
        words[start:start] = words[start : start + random_.randrange(1, 9)] * random_.randrange(4)
        for max_repeats in (1, 2, 3):
            expected = _repeats_words(words, max_repeats)
            assert has_loop(" ".join(words), max_repeats) == expected, (words, max_repeats)
            found += expected
    assert 2000 < found < 10_000


@pytest.mark.parametrize(
    ("text", "is_loop"),
    [
        ("well aaaaaa", True),
        ("x" + "abcd" * 6, True),
        ("很" * 6, True),
        ("well aaaaa 000000 ... ok", False),
        ("abcd" * 5, False),
        ("a a", False),
    ],
)
def test_signs_that_are_there_six_times(text: str, is_loop: bool) -> None:
    assert has_loop(text, 2) == is_loop
