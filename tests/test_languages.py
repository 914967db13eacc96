"""The table of languages, its names as people write them, and languages that a user declares."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from polyglance.coverage import Cell, Coverage
from polyglance.evaluate.scored_languages import find_scored_language
from polyglance.language_identity import judge_language, knows_language
from polyglance.language_tags import find_code
from polyglance.languages import LANGUAGES, XM3600_LANGUAGES, OwnLanguage, declare_languages
from polyglance.scripts import find_script, is_in_another_script
from tests.captions_of_all_languages import CAPTIONS


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *[("ua", "uk"), ("cn", "zh"), ("cz", "cs"), ("jp", "ja"), ("gr", "el"), ("dk", "da"), ("UA", "uk")],
        *[("Ukrainian", "uk"), ("ukrainian", "uk"), ("Chinese", "zh"), ("Farsi", "fa"), ("Tagalog", "fil")],
        *[("pt-BR", "pt"), ("pt_BR", "pt"), ("zh-CN", "zh"), ("zh_Hans", "zh"), ("uk-UA", "uk"), ("ES", "es")],
        *[("ukr", "uk"), ("ukr_Cyrl", "uk"), ("fre", "fr"), ("nb", "no"), ("iw", "he"), ("in", "id"), ("arb", "ar")],
        *[(" de ", "de"), ("Kiswahili", "sw"), ("quy_Latn", "quz"), ("tl", "fil")],
    ],
)
def test_languages_are_understood_as_people_write_them(text: str, code: str) -> None:
    assert find_code(text) == code
    assert find_scored_language(text).code == code
    assert Coverage(caption=(text,)).caption == (code,)
    assert Cell.parse(f"caption-{text}") == Cell("caption", code)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kr", "did you mean 'ko'"),  # a language of its own, Kanuri
        ("se", "did you mean 'sv'"),  # Northern Sami
        ("zh-TW", "written in the script Hant"),
        ("uk-Latn", "written in the script Latn"),
        ("nn", "known: ar"),
        ("", "known: ar"),
        ("es,zh", "known: ar"),
        ("grman", "did you mean 'de'"),
    ],
)
def test_what_is_no_known_language_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_code(text)


def test_a_language_is_named_once_whatever_its_name() -> None:
    with pytest.raises(ValueError, match="names 'uk' twice"):
        Coverage(translation=("uk", "Ukrainian"))


@pytest.mark.parametrize("code", XM3600_LANGUAGES)
def test_a_prefix_is_in_its_language_and_with_a_caption_it_still_is(code: str) -> None:
    entry = LANGUAGES[code]
    assert not is_in_another_script(entry.prefix, code)
    assert find_script(entry.prefix) in (entry.script, {"Hans": "Hani"}.get(entry.script, entry.script))
    assert knows_language(code)
    space = "" if entry.words == "characters" else " "
    for caption in CAPTIONS[code]:
        assert judge_language(f"{entry.prefix}{space}{caption}", code).verdict in ("asked", "close")


@pytest.fixture
def yoruba() -> Iterator[None]:
    before = os.environ.get("POLYGLANCE_LANGUAGES")
    declare_languages({"yo": OwnLanguage(name="Yoruba", prefix="Àwòrán náà fihàn")})
    yield
    _forget("yo", before)


def _forget(code: str, before: str | None) -> None:
    from polyglance import languages

    languages._TABLE.pop(code, None)
    os.environ.pop("POLYGLANCE_LANGUAGES")
    if before is not None:
        os.environ["POLYGLANCE_LANGUAGES"] = before


@pytest.mark.usefixtures("yoruba")
def test_a_declared_language_is_one_as_the_others_are_here_and_in_started_processes() -> None:
    assert find_code("Yoruba") == find_code("yo-NG") == "yo"
    assert LANGUAGES["yo"].prefix == "Àwòrán náà fihàn"
    assert Coverage(caption=("en",), translation=("yo",)).split("UC") == (Cell("caption", "yo"),)
    code = "from polyglance.languages import get_language; print(ascii(get_language('yo').prefix))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert found.stdout.strip() == ascii("Àwòrán náà fihàn")


@pytest.mark.parametrize(
    ("code", "values", "message"),
    [
        ("uk", {"name": "Ukrainian"}, "'uk' is built in"),
        ("YO", {"name": "Yoruba"}, "is not a language code"),
        ("../x", {"name": "Yoruba"}, "is not a language code"),
        ("yo", {"name": "german"}, "the name 'german' belongs to 'de'"),
        ("yo", {"name": " "}, "name is empty"),
        ("yo", {"name": "Yoruba", "script": "latin"}, "an ISO 15924 code"),
        ("yo", {"name": "Yoruba", "nllb": "yor_Cyrl"}, "expected xxx_Latn"),
    ],
)
def test_a_bad_declaration_is_refused(code: str, values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare_languages({code: OwnLanguage(**values)})
    assert "yo" not in LANGUAGES
