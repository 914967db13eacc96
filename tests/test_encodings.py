"""The same text comes out of every encoding, compression and custom of line ends; quotes are told by the lines."""

import bz2
import codecs
import gzip
import io
import lzma
import os
import pickle
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.texts.text_files import read_texts
from polyglance.delimited import find_quoting, parse_records
from polyglance.encodings import detect_encoding, detect_text_format, open_utf8, transcode
from polyglance.tables import detect_table_format, read_table, table_columns

TEXTS = {
    "en": "a dog, a cat\nit runs\n",
    "zh": "这只狗在奔跑。\n一辆红色的车。\n",
    "ru": "собака\nкошка\n",
    "hi": "कुत्ता।\nबिल्ली।\n",
}
MARKS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
MARKS |= {"utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE}


PACKERS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress]


@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("marked", [True, False])
def test_every_encoding_gives_the_same_bytes(
    tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes], marked: bool
) -> None:
    path = tmp_path / "text.txt"
    for text in TEXTS.values():
        path.write_bytes(pack((MARKS[encoding] if marked else b"") + text.encode(encoding)))
        with open_utf8(path) as file:
            assert file.read().decode() == text
        assert detect_text_format(path).encoding == encoding


def test_zstd_and_old_mac_lines(tmp_path: Path) -> None:
    with pa.OSFile(str(tmp_path / "t"), "wb") as sink, pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(b"a\rb\r")
    with open_utf8(tmp_path / "t") as lines:
        assert list(lines) == [b"a\n", b"b\n"]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.sampled_from(["utf-16-le", "utf-32-be"]))
def test_a_named_encoding_is_read_back_whole(text: str, encoding: str) -> None:
    form = detect_encoding(text.encode(encoding), encoding)
    with transcode(io.BytesIO(text.encode(encoding)), form) as file:
        assert file.read().decode() == text.removeprefix("\ufeff")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_utf8_is_never_taken_for_another_encoding(text: str) -> None:
    content = text.encode()
    if content.count(0) * 5 < len(content) and not text.encode().startswith((b"\xff\xfe", b"\xfe\xff")):
        assert detect_encoding(content).encoding == "utf-8"


def test_an_unknown_codec_is_refused() -> None:
    for name in ("utf-99", "zip", "rot13"):
        with pytest.raises(ValueError, match="unknown encoding"):
            detect_encoding(b"", name)


@pytest.mark.parametrize(
    ("content", "quoted", "texts"),
    [
        ('image\ten\n0\t"Sunrise\n1\ta cat\n2\t5"\n', False, ['"Sunrise', "a cat", '5"']),
        ('image\ten\n0\t"He said ""no"""\n1\ta cat\n', True, ['He said "no"', "a cat"]),
        ('image\ten\n0\t"two\nlines"\n1\ta cat\n', True, ["two\nlines", "a cat"]),
        ('image\ten\n0\t"Hello"\n1\ta cat\n', False, ['"Hello"', "a cat"]),
        ('"image"\t"en"\n"0"\t"Hello"\n"1"\t"a cat"\n', True, ["Hello", "a cat"]),
        ('image\ten\n0\t"a" or "b"\n1\t"c\n', False, ['"a" or "b"', '"c']),
    ],
)
def test_quotes_of_a_tsv_are_told_by_its_lines(tmp_path: Path, content: str, quoted: bool, texts: list[str]) -> None:
    (tmp_path / "t.tsv").write_text(content)
    assert detect_table_format(tmp_path / "t.tsv").quoted == quoted
    assert [row.values["en"] for row in read_table(tmp_path / "t.tsv")] == texts


def test_quotes_of_two_customs_are_refused_with_the_setting_that_helps(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('image\ten\n0\t"a ""b"""\n1\t5" wide\n')
    with pytest.raises(ValueError, match=r"line 2 is quoted .* line 3 is not; set quoting to 'csv' or 'none'"):
        detect_table_format(tmp_path / "t.tsv")
    rows = read_table(tmp_path / "t.tsv", form=detect_table_format(tmp_path / "t.tsv", quoting="none"))
    assert [row.values["en"] for row in rows] == ['"a ""b"""', '5" wide']


def test_an_unclosed_quote_swallows_no_rows_of_a_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('image,en\n0.png,"open\n1.png,a\n2.png,5"\n3.png,"two, \nlines, of"\n')
    assert [(row.where, row.values.get("en"), row.problem) for row in read_table(tmp_path / "t.csv")] == [
        ("t.csv:2", None, "broken CSV"),
        ("t.csv:3", "a", ""),
        ("t.csv:4", '5"', ""),
        ("t.csv:5", "two, \nlines, of", ""),
    ]


@given(st.text(st.sampled_from('",;\tab\n\r 1'), max_size=60), st.sampled_from([",", "\t"]), st.booleans())
def test_every_line_belongs_to_one_record(content: str, delimiter: str, quoted: bool) -> None:
    lines = content.split("\n")
    records = list(parse_records(lines, delimiter, quoted=quoted))
    assert sum(record.num_lines for record in records) == len(lines)
    assert [record.line for record in records] == [
        1 + sum(before.num_lines for before in records[:place]) for place in range(len(records))
    ]
    with suppress(ValueError):
        find_quoting(lambda: lines)


def tar(name: str, content: bytes, mode: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl", "a.tgz"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tar("a.txt", b"a dog\n", "w"), "a tar archive"),
        (tar("a.txt", b"a dog\n", "w:gz"), "a tar archive"),
        (b"PK\x03\x04\x14\0\x06\0" + bytes(600), "a ZIP file, as workbooks of Excel are"),
        (b"PAR1" + bytes(600), "a file of Parquet"),
        (pickle.dumps(["a dog"] * 99), "a pickle of Python"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    readers = [lambda: read_texts(path)] + [lambda: table_columns(path)] * (name != "a.txt" and name != "a.tgz")
    for read in readers:
        with pytest.raises(ValueError, match=kind) as refusal:
            read()
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "63"])
def test_a_pipe_is_refused(tmp_path: Path, name: str) -> None:
    for read in [read_texts] + [table_columns] * (name != "a.txt"):
        source, sink = os.pipe()
        os.write(sink, b"a dog\n")
        os.close(sink)
        path = tmp_path / f"{read.__name__}-{name}"
        path.symlink_to(f"/dev/fd/{source}")
        with pytest.raises(ValueError, match="a pipe or a device, which can be read only once; write it to a file"):
            read(path)
        os.close(source)
