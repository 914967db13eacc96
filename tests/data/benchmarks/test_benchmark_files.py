"""Reading published files: all characters of a line stay in it, and damage is named with file and row."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.benchmarks.files import (
    PublishedFile,
    find_files,
    read_json_lines,
    read_lines,
    read_parallel_lines,
)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\0")).filter(str.strip), min_size=1))
def test_only_line_feeds_end_a_line(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "x.gz"
    for end in ("\n", ""):
        path.write_bytes(gzip.compress(("\n".join(lines) + end).encode("utf-8-sig")))
        assert read_lines(path) == [line.strip() for line in lines]


def test_encodings_are_read_as_in_scoring(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("un été\ndeux\n", encoding="utf-16")
    assert read_lines(tmp_path / "a.txt") == ["un été", "deux"]


def test_line_breaks_inside_a_json_line_stay(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes('{"text": "a dog\u2028x\u2029x\x85"}\n'.encode())
    assert [record for _, record in read_json_lines(path)] == [{"text": "a dog\u2028x\u2029x\x85"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzip.compress(b"one\ntwo\n" * 99, mtime=0)[:-9], "a.gz: damaged or truncated gzip file"),
        ("a.gz", b"one\ntwo\n", "a.gz: damaged or truncated gzip file"),
        ("a.txt", b"one\ntwo\n\nfour\n", "a.txt:3: this line is empty"),
        ("a.txt", b"one\n \xc2\xa0\n", "a.txt:2: this line is empty"),
        ("a.txt", "one\nà la fin\n".encode("latin-1"), r"a.txt:2: not UTF-8 \(byte 0xe0"),
        ("a.txt", b"one\n\xe9t\xe9\n", "a.txt:2: not UTF-8"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_lines(tmp_path / name)


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
        read_parallel_lines([tmp_path / "a.en", tmp_path / "a.de"])


def test_another_layout_and_unpacked_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.en").write_text("one")
    file = PublishedFile(paths=("a/x.en.gz", "b/x.en.gz"), published_at="https://a.example")
    assert find_files(tmp_path, "set", [file]) == [tmp_path / "b/x.en"]
