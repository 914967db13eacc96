"""XM3600 from made-up rows in the published format."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyglance.data.benchmarks import find_benchmark
from polyglance.data.benchmarks.xm3600 import XM3600
from polyglance.languages import XM3600_LANGUAGES


def row(key: str, captions: dict[str, list[str]]) -> dict[str, Any]:
    texts = {
        code: {
            "caption": texts,
            "caption/tokenized": [text.replace(".", " .") for text in texts],
            "caption/tokenized/lowercase": [text.replace(".", " .").lower() for text in texts],
        }
        for code, texts in captions.items()
    }
    return {"image/key": key, "image/locale": "th", **texts}


def rows() -> list[dict[str, Any]]:
    captions = {code: [f"{code} one. ", f"{code} two"] for code in XM3600_LANGUAGES}
    return [row("000a", captions), row("000b", {**captions, "zh": ["一只狗\u2028在草地上。"]})]


def write(root: Path, records: list[dict[str, Any]]) -> None:
    (root / "xm3600/images").mkdir(parents=True, exist_ok=True)
    for record in records:
        (root / f"xm3600/images/{record.get('image/key')}.jpg").touch()
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (root / "xm3600/captions.jsonl").write_text(text, encoding="utf-8", newline="\n")


def load(root: Path, language: str = "zh") -> Any:
    return XM3600(sizes={"all": 2}).load(root, split="all", language=language)


def test_raw_captions_in_36_languages(tmp_path: Path) -> None:
    write(tmp_path, rows())
    assert len(XM3600_LANGUAGES) == len(set(XM3600_LANGUAGES)) == 36
    for code in find_benchmark("xm3600").languages("all"):
        first = load(tmp_path, code)[0]
        assert (first.id, first.references) == ("000a", (f"{code} one.", f"{code} two"))
        assert first.image == tmp_path / "xm3600/images/000a.jpg"
    assert load(tmp_path)[1].references == ("一只狗\u2028在草地上。",)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([rows()[0], row("000b", {"en": ["a"]})], "captions.jsonl:2: image 000b has no captions in 'zh'"),
        ([rows()[0], row("000b", {"zh": []})], "captions.jsonl:2: image 000b in 'zh': no reference"),
        ([row("000b", {"zh": ["a", " "]}), rows()[0]], "captions.jsonl:1: .*: reference 2 of 2 is empty"),
        ([rows()[0], {"image/key": 3, "zh": {}}], "captions.jsonl:2: the field 'image/key' is int, not text"),
        ([rows()[0], {"image/key": "b", "zh": {}}], "captions.jsonl:2: .*: expected a list of texts"),
        ([rows()[0], {"image/key": "b", "zh": {"caption": [None]}}], "expected a list of texts"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, records: list[dict[str, Any]], message: str) -> None:
    write(tmp_path, records)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
