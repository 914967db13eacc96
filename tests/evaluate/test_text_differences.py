"""Differences of form are counted and warned of; what the user names is mended."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.score import ScoreConfig, score_files, score_texts
from polyglance.evaluate.score_report import read_scores, select_segments, write_scores
from polyglance.evaluate.text_differences import find_differences, normalise_texts

CASES = Path(__file__).parent / "scoring_cases"
HUMAN = [
    "A man's dog runs in the park.",
    "Two “red” buses wait near the old station.",
    "Children play – it's summer at the café.",
    "The woman doesn't hold an umbrella.",
    "Some birds sit on a wooden fence.",
    "Nobody sleeps in this kitchen.",
]
OTHER = [text.replace(" the", " a") for text in HUMAN]
CHANGES: dict[str, tuple[Callable[[str], str], str]] = {
    "special-tokens": (lambda text: f"<s> {text}</s><pad>", "special"),
    "reasoning": (lambda text: f"<think>a park?</think>{text}", "reasoning"),
    "markdown": (lambda text: f"**{text}**", ""),
    "subword-marks": (
        lambda text: text.replace("ar", "a@@ r").replace("um", "u@@ m").replace("ee", "e@@ e"),
        "subwords",
    ),
    "html-entities": (lambda text: text.replace("'", "&#39;").replace("“", "&quot;").replace(" a", " &amp;a"), ""),
    "invisible-characters": (lambda text: text.replace(" ", " \u200b"), "invisible"),
    "wrong-encoding": (lambda text: text.encode().decode("cp1252", "replace"), ""),
    "no-text": (lambda text: "NaN", ""),
    "program-text": (lambda text: text.replace(" ", "%20"), ""),
    "tags": (lambda text: f"<p>{text}</p>", ""),
    "numbered": (lambda text: f"1. {text}", ""),
    "scored": (lambda text: f"{text} (0.93)", ""),
    "cut": (lambda text: f"{text[:9]}...", ""),
    "undivided": (lambda text: text.replace(" ", ""), ""),
    "joiners": (lambda text: text.replace("a", "a\u200d"), "invisible"),
    "blanks": (lambda text: text.replace(" ", "\u00a0"), "nfkc"),
    "full-width": (
        lambda text: "".join(chr(ord(one) + 0xFEE0) if one.isascii() and one != " " else one for one in text),
        "nfkc",
    ),
    "wrapped": (lambda text: f'"{text}"', ""),
    "question-marks": (lambda text: text.replace(" ", " ?"), ""),
    "moses-tokens": (lambda text: text.replace(" ", " @-@ ", 1), ""),
    "not-nfc": (lambda text: unicodedata.normalize("NFD", f"{text} é"), ""),
    "quotes-and-dashes": (lambda text: text.translate({0x201C: '"', 0x201D: '"', 0x2013: "-"}), ""),
    "tokenised": (lambda text: text.replace(".", " ."), ""),
    "case": (str.lower, ""),
    "chat": (lambda text: f"Sure, here is a caption: {text}", ""),
    "prefix": (lambda text: f"a photo of {text}", ""),
    "loops": (lambda text: text + " on the" * 6, ""),
}


def codes(hypotheses: list[str], references: list[str], *, spaces: bool = True, cased: bool = True) -> set[str]:
    language = "en" if spaces else "zh"
    found = find_differences(hypotheses, references, language=language, spaces=spaces, cased=cased)
    return {one.code for one in found}


def test_texts_of_one_form_pass_without_a_word() -> None:
    assert codes(OTHER, HUMAN) == set()
    assert codes(["一个人，走路。", "ＯＫ！你好"], ["两个人，走路。", "ＮＯ！你好"], spaces=False) == set()
    assert codes(["می‌روم", "خانه‌ها"], ["می‌رود", "خانه‌ای"]) == set()


ENGLISH = [
    "a red dog runs across the green grass in the park",
    "two women are sitting on a bench near the river",
    "a man is cooking fish in a small kitchen",
    "children play with a ball on the beach",
    "an old car is parked in front of a shop",
] * 4
FRENCH = [
    "un chien rouge court dans l'herbe verte du parc",
    "deux femmes sont assises sur un banc près de la rivière",
    "un homme cuisine du poisson dans une petite cuisine",
    "des enfants jouent au ballon sur la plage",
    "une vieille voiture est garée devant un magasin",
] * 4


@pytest.mark.parametrize(
    ("hypotheses", "references", "language", "counts"),
    [
        (FRENCH, FRENCH, "fr", None),
        (ENGLISH, ENGLISH, "en", None),
        (FRENCH, ENGLISH, "fr", (0, 20)),
        (ENGLISH, FRENCH, "fr", (20, 0)),
        (ENGLISH, ENGLISH, "fr", (20, 20)),
        (FRENCH, ENGLISH, "en", (20, 0)),
        (ENGLISH[:1], FRENCH[:1], "fr", None),  # too little to tell
    ],
)
def test_a_side_in_another_language_is_named(hypotheses, references, language, counts) -> None:
    found = find_differences(hypotheses, references, language=language, spaces=True, cased=False)
    named = [one for one in found if one.code == "other-language"]
    assert [(one.num_predictions, one.num_references) for one in named] == ([] if counts is None else [counts])
    assert all(f"read as {'en' if language == 'fr' else 'fr'} and not {language}" in one.message for one in named)


@pytest.mark.parametrize("code", CHANGES)
def test_each_difference_has_a_code(code: str) -> None:
    change, mends = CHANGES[code]
    changed = [change(text) for text in OTHER]
    assert code in codes(changed, HUMAN)
    if code not in ("chat", "prefix", "loops"):  # only predictions have these
        assert code in codes(HUMAN, changed)
    if mends:
        assert normalise_texts(changed, [mends]) == normalise_texts(OTHER, [mends])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, "no-text") for text in ("NA", "\\N", "#REF!", "#N/A", "NaT", "<null>", "[]", "[deleted]", "nan")),
        *(
            (text, "program-text")
            for text in ("a dog\\n", "caf\\u00e9 in town", r"a \"big\" dog", "b'a dog runs'", '="a dog"')
        ),
        *((text, "program-text") for text in ('{"caption": "a dog"}', "a_big_dog", "a+big+dog", "Error: no memory")),
        ("startseq a dog endseq", "special-tokens"),
        ("a UNK dog", "special-tokens"),
        ("no unk of mine", ""),
        ("7", ""),  # a right answer to a question
    ],
)
def test_one_text_that_is_none_is_told(text: str, code: str) -> None:
    assert codes([*OTHER[1:], text], HUMAN, cased=False) == ({code} - {""})
    assert codes(OTHER, [*HUMAN[1:], text], cased=False) == ({code} - {""})


def test_languages_without_blanks() -> None:
    plain, cut = ["一个人在走路", "两只狗在跑"], ["一个 人 在 走路", "两只 狗 在 跑"]
    assert codes(cut, plain, spaces=False) == {"segmented"}
    assert normalise_texts(cut, ["unsegment"]) == tuple(plain)
    assert "loops" in codes(["好" * 20, "一只狗"], plain, spaces=False)


def test_case_is_told_only_where_it_counts() -> None:
    lowered = [text.lower() for text in OTHER]
    assert codes(lowered, HUMAN, cased=False) == set()
    hypotheses = {str(number): text for number, text in enumerate(lowered)}
    references = {str(number): [text] for number, text in enumerate(HUMAN)}
    for metric, told in (("bleu", False), ("chrf", True)):
        report = score_texts(hypotheses, references, language="en", metrics=(metric,), bootstrap=0)
        assert any(one.code == "case" for one in report.differences) == told


def test_decomposed_texts() -> None:
    """6.40 is sacrebleu's number of these files."""
    options = {"lang": "vi", "metrics": ("sacrebleu",), "bootstrap": 0}
    files = CASES / "nfd.hyp.txt", [CASES / "nfd.refs.txt"]
    report = score_files(*files, ScoreConfig(**options))  # type: ignore[arg-type]
    assert round(report.scores[0].value, 2) == 6.40
    (difference,) = report.differences
    assert (difference.code, difference.share_predictions, difference.num_references) == ("not-nfc", 1.0, 0)
    assert report.as_dict()["coded_warnings"][0]["code"] == "not-nfc"
    assert report.warnings == (difference.message,)
    mended = score_files(*files, ScoreConfig(**options, normalise=("nfc",)))  # type: ignore[arg-type]
    assert mended.scores[0].value == pytest.approx(100)
    assert mended.differences == ()
    assert "|norm:nfc|" in mended.scores[0].signature
    assert mended.warnings == ("normalise nfc changed 5 of 5 predictions and 0 of 5 references",)


def test_zero_width_spaces_are_no_tokens() -> None:
    files = CASES / "zero-width.hyp.txt", [CASES / "zero-width.refs.txt"]
    report = score_files(*files, ScoreConfig(lang="lo", metrics=("cider",), bootstrap=0))
    assert report.scores[0].value == pytest.approx(10)
    assert [one.code for one in report.differences] == ["invisible-characters"]


def test_special_tokens_are_named(tmp_path: Path) -> None:
    files = CASES / "special-tokens.hyp.json", [CASES / "pycoco.refs.json"]
    report = score_files(*files, ScoreConfig(lang="en", bootstrap=0))
    assert report.scores[0].value == pytest.approx(1.9736, abs=1e-4)
    difference = report.differences[0]
    assert difference.code == "special-tokens"
    assert all(token in difference.message for token in ("<s>", "</s>", "<pad>"))
    path = write_scores(report, tmp_path)
    assert read_scores(path).differences == report.differences
    assert json.loads(path.read_text())["coded_warnings"][0]["num_predictions"] == 6
    assert select_segments(report, None, Resampling(num_samples=0)).differences == report.differences
    mended = score_files(*files, ScoreConfig(lang="en", bootstrap=0, normalise=("special",)))
    assert mended.scores[0].value == pytest.approx(3.4343, abs=1e-4)


def test_an_unknown_normalisation_is_one_line() -> None:
    with pytest.raises(ValueError, match="unknown normalisation 'nfd': did you mean 'nfc'"):
        ScoreConfig(lang="en", normalise=("nfd",))
