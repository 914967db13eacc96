"""Files of predictions and references: every format gives the same texts, every mistake one line with its place."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.texts.text_files import TextFile, read_ids, read_texts

TEXTS = {"7": ["a cat"], "x9": ["ein Hund", "noch ein Hund"]}


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def coco_captions(texts: dict[str, list[str]]) -> str:
    rows = [{"image_id": name, "id": 1, "caption": text} for name, many in texts.items() for text in many]
    return json.dumps({"images": [{"id": name} for name in texts], "annotations": rows})


FORMATS = {
    "coco.json": coco_captions(TEXTS),
    "results.json": json.dumps([{"image_id": n, "caption": t} for n, many in TEXTS.items() for t in many]),
    "by_id.json": json.dumps(TEXTS),
    "texts.jsonl": "\n".join(json.dumps({"id": name, "texts": many}) for name, many in TEXTS.items()),
    "text.ndjson": "\n\n".join(json.dumps({"id": n, "text": t}) for n, many in TEXTS.items() for t in many) + "\n",
    "lines.json": "\n".join(json.dumps({"image_id": n, "caption": t}) for n, many in TEXTS.items() for t in many),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_format_holds_the_same_texts(tmp_path: Path, name: str, zipped: bool) -> None:
    content = FORMATS[name].encode()
    path = written(tmp_path / f"{name}{'.gz' * zipped}", gzip.compress(content, mtime=0) if zipped else content)
    assert read_texts(path).by_id() == TEXTS
    if zipped:
        assert read_texts(path.rename(tmp_path / name)).by_id() == TEXTS


def test_coco_captions_come_in_the_order_of_their_images(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 3}, {"id": 1}],
        "annotations": [
            {"image_id": i, "id": 0, "caption": text} for i, text in [(1, "a"), (2, "b"), (3, "c"), (3, "d")]
        ],
    }
    path = written(tmp_path / "coco.json", json.dumps(content))
    assert list(read_texts(path).by_id().items()) == [("3", ["c", "d"]), ("1", ["a"]), ("2", ["b"])]


def test_ids_are_kept_as_found_and_compared_as_strings(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"id": 7, "text": "a"}\n{"id": "7", "text": "b"}')
    texts = read_texts(path)
    assert [name for name, _ in texts.entries] == [7, "7"]
    assert texts.by_id() == {"7": ["a", "b"]}


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = written(tmp_path / "hyps.de", "eins\u2028\x0bzwei\ndrei\rvier\x85\n\nf\x0cünf\n")
    assert read_texts(path).by_id() == {
        "1": ["eins\u2028\x0bzwei"],
        "2": ["drei\rvier\x85"],
        "3": [""],
        "4": ["f\x0cünf"],
    }


def test_files_from_windows_have_no_carriage_returns_in_their_texts(tmp_path: Path) -> None:
    path = written(tmp_path / "hyps.txt", b"\xef\xbb\xbfone\r\ntwo\r\nthree")
    assert read_texts(path).by_id() == {"1": ["one"], "2": ["two"], "3": ["three"]}


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=["Cs"])), min_size=1))
def test_as_many_lines_as_were_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    if all(text.endswith("\r") for text in texts):
        texts = [f"{text}." for text in texts]
    path = tmp_path_factory.mktemp("lines") / "x.txt"
    path.write_bytes("".join(f"{text}\n" for text in texts).encode("utf-8-sig"))
    assert TextFile(path).lines == texts


def test_several_files_hold_one_reference_each(tmp_path: Path) -> None:
    first = written(tmp_path / "refs.1", "a\nb\n")
    second = written(tmp_path / "refs.2", "c\nd\n")
    assert read_texts(first, second).by_id() == {"1": ["a", "c"], "2": ["b", "d"]}
    with pytest.raises(ValueError, match=r"refs\.3: 1 lines, but .*refs\.1 has 2"):
        read_texts(first, written(tmp_path / "refs.3", "e\n"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text"', r"a\.jsonl:2: not valid JSON"),
        (
            "a.jsonl",
            '{"id": 1, "text": "a"}\n{"id": 2}',
            r"a\.jsonl:2: the key `text`, `texts` or `caption` is missing",
        ),
        ("a.jsonl", '{"text": "a"}', r"a\.jsonl:1: the key `id` or `image_id` is missing; found: text"),
        ("a.jsonl", '{"id": 1, "text": null}', r"a\.jsonl:1: 'text': expected a text or a list of texts, got null"),
        ("a.jsonl", '{"id": 1, "texts": ["a", null]}', r"'texts': expected a text or a list of texts, got null"),
        ("a.jsonl", '{"id": 1, "texts": []}', "got an empty list"),
        ("a.jsonl", '{"id": true, "text": "a"}', "an id is a whole number or a text, not True"),
        ("a.jsonl", '{"id": 1.5, "text": "a"}', r"an id is a whole number or a text, not 1\.5"),
        ("a.jsonl", "[1]", "expected an object with an id and a text, got a number"),
        ("a.jsonl", "", "holds no texts"),
        ("a.json", '{"annotations": {}}', "`annotations` is an object, not a list"),
        ("a.json", '{\n"annotations": [\n}', r"a\.json:3: not valid JSON"),
        ("a.json", "3", "got a number"),
        ("a.json", '{"7": "one", "8": "two", "7": "other"}', r"a\.json: the key '7' occurs more than once"),
        ("a.jsonl", '{"id": 1, "text": "a", "id": 2}', r"a\.jsonl:1: the key 'id' occurs more than once"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '[{"image_id": 1, "caption": "a"}, {"image_id": 2}]', r"a\.json: item 2: the key"),
        ("a.txt", b"one\ntw\xff\n", r"a\.txt:2: not UTF-8 \(byte 0xff\)"),
        ("a.txt.gz", b"one\n", "damaged or truncated gzip file"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(ValueError, match=message) as caught:
        read_texts(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.json: no such file"):
        read_texts(tmp_path / "absent.json")


def test_ids_of_a_subset(tmp_path: Path) -> None:
    assert read_ids(written(tmp_path / "a.txt", "7\n\nx9\r\n")) == ["7", "x9"]
    assert read_ids(written(tmp_path / "a.json", '[7, "x9"]')) == ["7", "x9"]
    with pytest.raises(ValueError, match="holds no ids"):
        read_ids(written(tmp_path / "b.txt", "\n"))
