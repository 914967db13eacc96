"""Translation with context: the published procedure, the checked one, and the flaws that the checks find."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.context import Translated, TranslationConfig, find_translation_flaw, translate_with_context
from polyglance.data.world import describe, sample_scene
from polyglance.data.world.grammars import GRAMMARS
from polyglance.engines import Failure
from polyglance.languages import LANGUAGES

CHECKED = TranslationConfig()
PUBLISHED = TranslationConfig(mode="published")
NONE = TranslationConfig(mode="none")


def flaw(candidate: str, source: str, code: str, context: str = "") -> str | None:
    return find_translation_flaw(candidate, source, language=code, context=context, config=CHECKED)


ENGLISH = "A man is sitting on a bench by the river. His old brown dog is sleeping next to him."
GOOD = {
    "en": "There is a man on a bench near the water. Beside him his brown dog, an old one, is asleep.",
    "de": "Ein Mann sitzt auf einer Bank am Fluss. Sein alter brauner Hund schläft neben ihm.",
    "fr": "Un homme est assis sur un banc au bord de la rivière. Son vieux chien brun dort à côté de lui.",
    "es": "Un hombre está sentado en un banco junto al río. Su viejo perro marrón duerme a su lado.",
    "ru": "Мужчина сидит на скамейке у реки. Рядом с ним спит его старая коричневая собака.",
    "zh": "一个男人坐在河边的长椅上。他的老棕狗睡在他旁边。",
}
CODES = tuple(GOOD)
TARGETS = CODES[1:]


def sentences_of(code: str) -> list[str]:
    mark = "。" if code == "zh" else "."
    return [f"{part.strip()}{mark}" for part in GOOD[code].split(mark) if part]


@pytest.mark.parametrize("code", CODES)
def test_good_translations_pass(code: str) -> None:
    assert flaw(GOOD[code], ENGLISH, code, "A bench in a park.") is None


@pytest.mark.parametrize("code", CODES)
def test_sentences_dropped_merged_and_added(code: str) -> None:
    first, second = sentences_of(code)
    space = "" if code == "zh" else " "
    merged = first[:-1] + ("，" if code == "zh" else ", ") + second[0].lower() + second[1:]
    reasons = {
        first: "fewer sentences",
        merged: "fewer sentences",
        space.join([first, second, first.replace("A", "Ä")]): "more sentences",
    }
    for candidate, reason in reasons.items():
        assert flaw(candidate, ENGLISH, code) == reason, candidate


@pytest.mark.parametrize("code", TARGETS)
def test_texts_in_another_script_or_language(code: str) -> None:
    for other in ("de", "ru", "zh"):
        if LANGUAGES[other].script != LANGUAGES[code].script:
            assert flaw(GOOD[other], ENGLISH, code) == "wrong script"
    untranslated = "wrong script" if code in ("ru", "zh") else "English words copied"
    assert flaw(ENGLISH, ENGLISH, code) == untranslated
    first, second = sentences_of(code)
    half = flaw(f"{first} His old brown dog is sleeping next to him.", ENGLISH, code)
    assert half == untranslated
    context = "It was painted by a young artist in spring."
    copied = f"{first} {second[:-1]} painted by a young artist."
    assert flaw(copied, ENGLISH, code, context) in ("English words copied", untranslated)


@pytest.mark.parametrize(
    ("code", "source", "candidate"),
    [
        ("de", "A poster of New York City Hall in 2012.", "Ein Plakat der New York City Hall, 2012."),
        ("de", "a restaurant", "Restaurant"),
        ("fr", "A woman with a push-to-talk phone.", "Une femme avec un téléphone push-to-talk."),
        ("ru", "A BMW next to a Boeing 747.", "BMW рядом с Boeing 747."),
        ("zh", "A BMW next to a Boeing 747.", "一辆BMW在Boeing 747旁边。"),
        ("zh", "A girl in a red t-shirt on a bike.", "穿着红色T恤的女孩骑着自行车。"),
    ],
)
def test_names_numbers_and_shared_words_may_stay(code: str, source: str, candidate: str) -> None:
    assert flaw(candidate, source, code) is None


def test_names_do_not_hide_copied_words() -> None:
    source = "The man with his dog Rex walks slowly."
    assert flaw("Der Hund Rex walks slowly.", source, "de") is None
    assert flaw("Der Mann mit dog Rex walks slowly.", source, "de") == "English words copied"


def test_names_alone_are_no_translation() -> None:
    assert flaw("A Man Riding A Horse", "A Man Riding A Horse", "ru") == "wrong script"


LOOPS = {
    "en": "A man and a man and a man and a man.",
    "de": "Ein Mann, ein Mann, ein Mann und ein Mann.",
    "fr": "Un homme très très très vieux est assis sur un banc.",
    "es": "Un hombre y un perro y un perro y un perro y un perro.",
    "ru": "Мужчина и собака и собака и собака и собака у реки.",
    "zh": "一个男人和一只狗和一只狗和一只狗。",
}


@pytest.mark.parametrize("code", CODES)
def test_loops(code: str) -> None:
    source = "An old fellow with his pet on a seat by the stream."
    assert flaw(LOOPS[code], source, code) == "repetition"
    looping = "A dog and a dog and a dog and a dog."
    assert flaw(LOOPS[code], looping, code) != "repetition", "it is the source that repeats"
    signs = "哈哈" * 9 if code == "zh" else "ла" * 9 if code == "ru" else "ha" * 9
    assert flaw(signs, source, code) == "repetition"


def test_long_loops_whose_last_turn_is_cut_short() -> None:
    turn = "ein Mann auf einer Bank und"
    looping = f"{turn} {turn} {turn.removesuffix(' und')}".capitalize()
    source = "An old fellow with a grey beard rests quietly on some wooden seat beside the stream."
    assert flaw(looping, source, "de") == "repetition"
    assert flaw(f"{turn} {turn}", source, "de") is None


@pytest.mark.parametrize("code", TARGETS)
def test_lengths(code: str) -> None:
    first, _ = sentences_of(code)
    short = "A man is sitting on a bench by the river."
    long = short.replace("by", "by the trees behind the wooden houses with their many small windows and flowers near")
    assert flaw(first, short, code) is None
    assert flaw(first, long, code) == "too short"
    assert flaw(first, "A man.", code) == "too long"
    assert find_translation_flaw(first, long, language=code, config=replace(CHECKED, length_tolerance=9.0)) is None
    assert flaw(" ", short, code) == "empty"


@pytest.mark.parametrize(
    ("folder", "code"), [("multi30k", "de"), ("multi30k", "fr"), ("commute", "de"), ("commute", "ru")]
)
def test_few_of_peoples_translations_are_rejected(folder: str, code: str, shared: Path) -> None:
    if folder == "multi30k":
        raw = shared / "data/eval/multi30k/task1/raw"
        sources, targets = (
            gzip.decompress((raw / f"test_2016_flickr.{side}.gz").read_bytes()).decode().splitlines()
            for side in ("en", code)
        )
    else:
        pairs = shared / f"data/eval/commute/en-{code}"
        sources, targets = (
            (pairs / name).read_text(encoding="utf-8").splitlines() for name in ("src.en", f"correct.{code}")
        )
    found = [flaw(target, source, code) for source, target in zip(sources, targets, strict=True)]
    assert sum(reason is not None for reason in found) < 0.01 * len(found)
    shifted = sources[1:] + sources[:1]
    assert sum(flaw(t, s, code) is not None for s, t in zip(shifted, targets, strict=True)) > 0
    untranslated = [flaw(source, source, code) for source in sources]
    assert None not in untranslated


def test_peoples_names_of_things_in_chinese_are_not_rejected(shared: Path) -> None:
    rows = (shared / "data/emoji/captions.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(row)["texts"] for row in rows]
    found = [flaw(row["zh"], row["en"], "zh") for row in texts if {"en", "zh"} <= set(row)]
    assert sum(reason is not None for reason in found) < 0.01 * len(found)


@pytest.mark.parametrize("code", GRAMMARS)
@pytest.mark.parametrize("style", ["short", "detailed"])
def test_the_worlds_translations_pass(code: str, style: Literal["short", "detailed"]) -> None:
    for index in range(200):
        scene = sample_scene("full", 0, index)
        context = describe(scene, "en", "detailed")
        source = describe(scene, "en", style)
        assert flaw(describe(scene, code, style), source, code, context) is None


class Scripted:
    """Answers from a function of the text; keeps what it was asked in each call."""

    name, version = "scripted", "1"

    def __init__(
        self, first: Callable[[str], str | Failure], second: Callable[[str], str | Failure] = lambda text: ""
    ) -> None:
        self._first, self._second = first, second
        self.calls: list[list[str]] = []

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        self.calls.append(list(texts))
        return [self._first(text) for text in texts]

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        self.calls.append(list(texts))
        return [self._second(text) for text in texts]


CAPTION, CONTEXT = "A dog on the bank.", "The image shows a dog at a river."
PROMPT = "A dog on the bank. ### (The image shows a dog at a river.)"
BARE = "Ein Hund auf der Bank."
UFER = "Ein Hund am Ufer."


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (f"{UFER} ### (Das Bild zeigt einen Hund.)", UFER),
        ("Ein Hund am Ufer ### (Das Bild", UFER),
        ("Ein Hund am Ufer # Das Bild (", UFER),
        ("Ein Hund am Ufer (Das Bild ### x)", UFER),
        ("Ein Hund am Ufer? (Das Bild)", "Ein Hund am Ufer?"),
        ("Ein Hund am Ufer", None),
        ("### (Das Bild)", None),
        ("(Das Bild)", None),
        ("", None),
        (Failure("broken"), None),
    ],
)
def test_the_published_cut(answer: str | Failure, text: str | None) -> None:
    engine = Scripted(lambda asked: answer if asked == PROMPT else "Ein Hund auf der Bank")
    (made,) = translate_with_context(engine, [CAPTION], [CONTEXT], language="de", config=PUBLISHED)
    assert isinstance(made, Translated)
    assert (made.text, made.used_context) == (text or BARE, text is not None)
    assert engine.calls == ([[PROMPT]] if text else [[PROMPT], [CAPTION]])
    wrong = "broken" if isinstance(answer, Failure) else "nothing was cut off"
    assert made.rejected == (() if text else (f"with context: {wrong}",))


def test_published_full_stops_and_texts_without_context() -> None:
    answers = {"a": "一只狗", "b": "一只狗.", "c": "一只狗！", "d": "“一只狗。”"}
    engine = Scripted(answers.__getitem__)
    made = translate_with_context(engine, list(answers), [""] * 4, language="zh", config=PUBLISHED)
    assert [got.text for got in made if isinstance(got, Translated)] == [
        "一只狗。",
        "一只狗。",
        "一只狗！",
        "“一只狗。”",
    ]
    assert len(engine.calls) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (UFER, "separator lost"),
        (f"{UFER} ### x ### y", "separator repeated"),
        ("### (Das Bild zeigt einen Hund.)", "empty"),
        (f"{UFER} Er schläft. ### (Das Bild)", "more sentences"),
        ("Ein Hund am Ufer (das Bild zeigt) ### x", "context copied"),
        ("A dog on the bank. ### (Das Bild)", "English words copied"),
        ("Ein Hund shows a dog. ### (Das Bild)", "English words copied"),
        ("河边的狗 ### (图)", "wrong script"),
        ("Hund Hund Hund Hund ### (Das Bild)", "repetition"),
        (f"{UFER[:-1]} mit vielen bunten Booten und Häusern und Bäumen im Licht. ### (Das Bild)", "too long"),
        (Failure("broken"), "broken"),
    ],
)
def test_flaws_with_context_lead_to_another_try(answer: str | Failure, reason: str) -> None:
    """By the second candidate first, then without context; each pass asks for all texts at once."""
    second = f"{UFER} ### (Das Bild)"
    engine = Scripted(lambda asked: answer if asked == PROMPT else BARE, lambda asked: second)
    (made,) = translate_with_context(engine, [CAPTION], [CONTEXT], language="de", config=CHECKED)
    assert made == Translated(text=UFER, used_context=True, rejected=(f"with context: {reason}",))
    engine = Scripted(lambda asked: answer if asked == PROMPT else BARE, lambda asked: "")
    (made,) = translate_with_context(engine, [CAPTION], [CONTEXT], language="de", config=CHECKED)
    assert isinstance(made, Translated)
    assert (made.text, made.used_context) == (BARE, False)
    assert made.rejected == (f"with context: {reason}", "with context: separator lost")
    assert engine.calls == [[PROMPT], [PROMPT], [CAPTION]]


def test_many_texts_take_three_calls_at_most_and_keep_their_order() -> None:
    numbers = range(40)
    sources = [f"A dog number {number}." for number in numbers]

    def first(asked: str) -> str:
        number = int(asked.split("number ")[1].split(".")[0])
        context = "###" in asked
        return f"Hund Nummer {number}{' ### (x)' if number % 3 == 0 else ''}." if context else f"Tier Nummer {number}."

    def second(asked: str) -> str:
        number = int(asked.split("number ")[1].split(".")[0])
        return f"Hündin Nummer {number}. ### (x)" if number % 3 == 1 else "nichts"

    engine = Scripted(first, second)
    made = translate_with_context(engine, sources, [CONTEXT] * 40, language="de", config=CHECKED)
    words = ("Hund", "Hündin", "Tier")
    assert [got.text for got in made if isinstance(got, Translated)] == [f"{words[n % 3]} Nummer {n}." for n in numbers]
    assert [len(call) for call in engine.calls] == [40, 26, 13]
    assert translate_with_context(Scripted(first), [], [], language="de", config=CHECKED) == []


def test_dropped_sentences_are_translated_one_by_one() -> None:
    first, second = sentences_of("de")
    parts = {
        "A man is sitting on a bench by the river.": first[:-1],
        "His old brown dog is sleeping next to him.": second,
    }
    engine = Scripted(lambda asked: parts.get(asked, first), lambda asked: first)
    for config in (CHECKED, NONE):
        (made,) = translate_with_context(engine, [ENGLISH], [""], language="de", config=config)
        reasons = ("alone: fewer sentences",) * 2
        assert made == Translated(text=GOOD["de"], used_context=False, rejected=reasons)
    assert engine.calls[-1] == list(parts)


def test_texts_without_a_good_candidate() -> None:
    engine = Scripted(lambda asked: "河", lambda asked: "河")
    (made,) = translate_with_context(engine, [CAPTION], [CONTEXT], language="de", config=CHECKED)
    lost = ("with context: separator lost",) * 2
    assert made == Translated(text=None, used_context=False, rejected=(*lost, "alone: wrong script"))
    broken = Scripted(lambda asked: Failure("timed out"), lambda asked: Failure("timed out"))
    for config in (CHECKED, PUBLISHED, NONE):
        assert translate_with_context(broken, [CAPTION], [CONTEXT], language="de", config=config) == [
            Failure("timed out")
        ]
    half = Scripted(lambda asked: Failure("timed out") if "dog" in asked else "Ein Mann sitzt am Fluss.")
    (made,) = translate_with_context(half, [ENGLISH], [""], language="de", config=NONE)
    assert made == Failure("timed out"), "a sentence that failed is not left out"


def test_context_is_cut_and_kept_apart() -> None:
    engine = Scripted(lambda asked: "")
    config = TranslationConfig(max_context_words=3, separator=" ## ")
    translate_with_context(
        engine, ["A dog.", "Channel ## 5", "A  cat\n"], ["one ## two three four", "x", ""], language="de", config=config
    )
    assert engine.calls[0] == ["A dog. ## (one two three)", "Channel ## 5", "A cat"]
    translate_with_context(engine, ["A dog."], ["one"], language="de", config=NONE)
    assert engine.calls[-2][0] == "A dog."
    with pytest.raises(ValueError, match="unknown language"):
        translate_with_context(engine, ["A dog."], [""], language="xx", config=CHECKED)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"separator": "  "}, "separator must contain a character other than a space"),
        ({"length_tolerance": 1.0}, "length_tolerance is 1.0"),
        ({"max_other_script": 1.0}, "max_other_script is 1.0"),
        ({"max_copied_words": 0}, "must be at least 1"),
    ],
)
def test_limits_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TranslationConfig(**values)  # type: ignore[arg-type]


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=30), st.sampled_from(CODES))
def test_any_text_can_be_checked(source: str, candidate: str, context: str, code: str) -> None:
    reason = flaw(candidate, source, code, context)
    for config in (CHECKED, PUBLISHED, NONE):
        engine = Scripted(lambda asked: candidate, lambda asked: candidate)
        (made,) = translate_with_context(engine, [source], [context], language=code, config=config)
        assert isinstance(made, Translated)
        if config is not PUBLISHED and made.text is not None and not context and reason is not None:
            assert made.text != candidate, "what has a flaw is not taken"


def test_more_repeats_may_be_allowed() -> None:
    source, answer = "A dog runs very very far.", "Ein Hund läuft sehr sehr sehr weit."
    assert find_translation_flaw(answer, source, language="de", config=CHECKED) == "repetition"
    assert find_translation_flaw(answer, source, language="de", config=replace(CHECKED, max_repeats=3)) is None
