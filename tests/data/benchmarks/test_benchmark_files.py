"""Reading published files: what may be in a line stays in it, and what is damaged is named with file and row."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.benchmarks.files import (
    Needed,
    image_paths,
    read_json,
    read_json_lines,
    read_lines,
    read_parallel_lines,
    require,
)

LINE_BREAKS = "\u2028\u2029\x85\x0b\x0c\r"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")).filter(str.strip), min_size=1))
def test_only_line_feeds_end_a_line(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "x.gz"
    for end in ("\n", ""):
        path.write_bytes(gzip.compress(("\n".join(lines) + end).encode()))
        assert [line.strip("\ufeff") for line in read_lines(path)] == [line.strip().strip("\ufeff") for line in lines]


def test_line_breaks_inside_a_caption_stay(tmp_path: Path) -> None:
    caption = "a dog" + "x".join(LINE_BREAKS) + "on grass"
    path = tmp_path / "captions.txt"
    path.write_bytes(f"{caption}\r\nsecond \n".encode())
    assert read_lines(path) == [caption, "second"]
    path.write_bytes(b"\xef\xbb\xbffirst\n")
    assert read_lines(path) == ["first"]
    path.write_bytes(
        f'{{"text": "{caption.replace(chr(12), "").replace(chr(11), "").replace(chr(13), "")}"}}\n'.encode()
    )
    assert len(list(read_json_lines(path))) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzip.compress(b"one\ntwo\n" * 99, mtime=0)[:-9], "a.gz: damaged or truncated gzip file"),
        ("a.gz", b"one\ntwo\n", "a.gz: damaged or truncated gzip file"),
        ("a.txt", b"one\ntwo\n\nfour\n", "a.txt:3: this line is empty"),
        ("a.txt", b"one\n \xc2\xa0\n", "a.txt:2: this line is empty"),
        ("a.txt", "one\nà la fin\n".encode("latin-1"), r"a.txt:2: not UTF-8 \(byte 0xe0"),
        ("a.txt", "one\n".encode("utf-16"), "a.txt:1: not UTF-8"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_lines(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', r"a.json:2: not valid JSON \(Expecting value at column 7"),
        (b"", "a.json: not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        ('{"a": "é"}'.encode("latin-1"), "a.json: not UTF-8"),
    ],
)
def test_damaged_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1}\n{"a":', "a.jsonl:2: not valid JSON"),
        ('{"a": 1}\n[1]', "a.jsonl:2: expected a JSON object, got list"),
    ],
)
def test_damaged_json_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_files_that_belong_together_are_equally_long(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.de").write_text("eins\n")
    with pytest.raises(ValueError, match=r"a.de: 1 lines, but a.en has 2"):
        read_parallel_lines([tmp_path / "a.en", tmp_path / "a.de"], 2)
    with pytest.raises(ValueError, match=r"a.en: 2 lines, but this split has 1,000"):
        read_parallel_lines([tmp_path / "a.en"], 1000)


def test_all_missing_files_are_listed_with_their_source(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/here.txt").touch()
    needed = [
        Needed(paths=("set/here.txt",), published_at="https://a.example"),
        Needed(paths=("set/gone.txt", "other/gone.txt"), published_at="https://a.example"),
        Needed(paths=("set/images",), published_at="https://b.example", each="<key>.jpg"),
    ]
    with pytest.raises(ValueError, match="missing below") as error:
        require(tmp_path, "set test de", needed)
    message = str(error.value)
    assert "\n" not in message
    assert "here.txt" not in message
    assert message.startswith("set test de: ")
    assert message.endswith(
        "set/gone.txt (published at https://a.example); set/images/<key>.jpg (published at https://b.example)"
    )


def test_another_layout_and_unpacked_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.en").write_text("one")
    needed = Needed(paths=("a/x.en.gz", "b/x.en.gz"), published_at="https://a.example")
    assert require(tmp_path, "set", [needed]) == [tmp_path / "b/x.en"]


def test_images_are_names_in_folders_and_never_paths(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").touch()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.jpg").touch()
        (tmp_path / folder / "both.jpg").touch()
    folder = Needed(paths=("one", "two", "three"), published_at="https://a.example", each="<key>.jpg")
    assert image_paths(tmp_path, "set", folder, ["two.jpg", "one.jpg", "two.jpg", "both.jpg"]) == [
        tmp_path / "two/two.jpg",
        tmp_path / "one/one.jpg",
        tmp_path / "two/two.jpg",
        tmp_path / "one/both.jpg",
    ]
    names = ["one.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"), "3.jpg", "4.jpg"]
    with pytest.raises(ValueError, match=r"set: 4 of 5 images are missing .*: \.\./secret\.jpg, .* looked in one, two"):
        image_paths(tmp_path, "set", folder, names)
