"""Files are written whole or not at all; JSON that would lose something is refused."""

import gzip
import hashlib
import json
import os
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyglance.checksums import crc32, file_crc32
from polyglance.files import (
    DIGESTS_NAME,
    DamagedError,
    check_digest,
    check_output_file,
    locked,
    parse_json,
    read_json,
    read_text,
    replacing,
    replacing_folder,
    seal_files,
    write_atomically,
    write_json,
    write_record,
)


@pytest.mark.parametrize("several_writers", [False, True])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, several_writers: bool) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with (
        pytest.raises(FileNotFoundError),
        replacing(path, several_writers=several_writers) as partial,
    ):
        partial.write_text("half" + (tmp_path / "absent").read_text())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path, several_writers=True) as first, replacing(path, several_writers=True) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first", "the outer block ends last"


def test_a_pipe_is_read_once_and_not_replaced(tmp_path: Path) -> None:
    """A file would take the place of the pipe: that of /dev/stdout, where a user may. A pipe that is opened twice is
    empty, or waited for without end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/stdout"), Path("/dev/fd/1")):
        with pytest.raises(ValueError, match=f"{path}: a pipe or a device; name a file"), replacing(path):
            pass
        with pytest.raises(ValueError, match=f"--out {path}: a pipe or a device; name a file that ends in .json"):
            check_output_file(path, "--out", (".json",))
    assert pipe.is_fifo()
    source, sink = os.pipe()
    os.write(sink, gzip.compress(b"text"))
    os.close(sink)
    assert read_text(Path(f"/dev/fd/{source}")) == "text"
    os.close(source)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with replacing_folder(folder) as partial:
        (partial / "old").write_text("")
    with pytest.raises(RuntimeError), replacing_folder(folder) as partial:
        raise RuntimeError
    assert (folder / "old").exists()
    with replacing_folder(folder) as partial:
        (partial / "new").write_text("")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path, "polyglance train"),
        pytest.raises(ValueError, match="another `polyglance train` works on it"),
        locked(tmp_path, "polyglance train"),
    ):
        pass
    with locked(tmp_path, "polyglance train"):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"x\.json: not valid JSON"),
        ('{"a": 1,\n "b": }', r"x\.json:2: not valid JSON"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs more than once"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_cannot_be_trusted_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_json(tmp_path / "x.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such file"):
        read_json(tmp_path / "absent.json")


def test_json_comes_back(tmp_path: Path) -> None:
    values = {"ü": [1, 2.5, None, {"b": "\u2028"}]}
    write_json(tmp_path / "x.json", values)
    assert read_json(tmp_path / "x.json") == values == parse_json(json.dumps(values), "text")


def test_sums_are_the_standard_librarys(tmp_path: Path) -> None:
    for size in (0, 1, 2**18 - 1, 2**18, 2**18 + 5):
        content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        (tmp_path / "a").write_bytes(content)
        assert file_crc32(tmp_path / "a") == crc32(content) == zlib.crc32(content)


def test_a_file_is_compared_once_and_again_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abcd" * 100)
    seal_files(tmp_path, ["weights"])
    num_read = []
    monkeypatch.setattr("polyglance.files.file_crc32", lambda path: num_read.append(path) or file_crc32(path))
    for _ in range(3):  # it was just written: it might be again, at what counts as the same time
        check_digest(path)
    assert len(num_read) == 3
    now_ns = time.time_ns()
    monkeypatch.setattr("polyglance.files.time", SimpleNamespace(time_ns=lambda: now_ns + 10**10))
    for _ in range(3):
        check_digest(path)
    assert len(num_read) == 4
    path.write_bytes(b"abcd" * 99 + b"abcx")
    for _ in range(2):
        with pytest.raises(DamagedError, match="weights: damaged or changed"):
            check_digest(path)
    path.write_bytes(b"abcd")
    with pytest.raises(DamagedError):
        check_digest(path)


def test_a_list_of_an_older_version_is_compared_by_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    digest = hashlib.sha256(b"hello").hexdigest()
    write_record(tmp_path / DIGESTS_NAME, {"files": [{"name": "a.txt", "bytes": 5, "sha256": digest}]})
    check_digest(path)
    assert read_text(path) == "hello"
    path.write_text("hallo")
    for read in (check_digest, read_text):
        with pytest.raises(DamagedError):
            read(path)
