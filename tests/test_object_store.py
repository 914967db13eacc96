"""Objects of a store: whole or not at all, one creator, and problems in one line."""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyglance.object_store import ObjectStore, SilentStoreError, StoreError, check_exclusive, open_store

from .faulty_store import FaultyFileSystem, faulty_store


@pytest.fixture(autouse=True)
def faulty() -> Iterator[type[FaultyFileSystem]]:
    with faulty_store() as kind:
        yield kind


@pytest.fixture(params=["file", "faulty"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path}/store/" if request.param == "file" else "faulty://bucket/store/")


def test_objects_are_read_as_they_were_written(store: ObjectStore, tmp_path: Path) -> None:
    check_exclusive(store)
    assert store.list("a/") == {}
    assert store.read("a/b") is None
    store.write("a/b", b"one")
    store.write("a/b", b"two!")
    store.write("ab/c", b"")
    (tmp_path / "source").write_bytes(b"three")
    store.upload("a/c/d", tmp_path / "source")
    assert store.read("a/b") == b"two!"
    assert store.list("a/") == {"a/b": 4, "a/c/d": 5}
    assert store.download("a/c/d", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"three"
    assert not store.download("a/none", tmp_path / "none")
    store.remove("a/b")
    store.remove("a/b")
    assert store.list("a/") == {"a/c/d": 5}


def test_one_of_many_creates_an_object(store: ObjectStore) -> None:
    names = [str(number // 16) for number in range(160)]
    with ThreadPoolExecutor(16) as threads:
        created = list(threads.map(lambda pair: store.create(pair[1], str(pair[0]).encode()), enumerate(names)))
    for name in set(names):
        (winner,) = [number for number, other in enumerate(names) if other == name and created[number]]
        assert store.read(name) == str(winner).encode()


def test_a_file_that_is_uploaded_in_part_is_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file://{tmp_path}/store")
    store.write("name", b"old")
    (tmp_path / "source").write_bytes(b"new" * 10)

    def fill_up(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill_up)
    for put in (
        lambda: store.upload("name", tmp_path / "source"),
        lambda: store.write("name", b"new"),
        lambda: store.create("other", b"new"),
    ):
        with pytest.raises(StoreError, match=r"^file:///.*/store: No space left on device; make room"):
            put()
    assert store.list("") == {"name": 3}
    assert store.read("name") == b"old"


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("bucket/folder", "is not the URL of a store; expected s3://"),
        ("file://studies", "expected an absolute path"),
        ("simplecache::s3://bucket/a", "is not the URL of a store"),
        ("s4://bucket/a", r"no protocol 's4'; expected s3, gs, az or file"),
        ("plain://bucket/a", "PlainFileSystem cannot create an object on the condition"),
        ("conditionless://bucket/a", "ignores If-None-Match"),
    ],
)
def test_what_cannot_be_a_store_is_refused(url: str, line: str) -> None:
    with pytest.raises(StoreError, match=line):
        check_exclusive(open_store(url))


@pytest.mark.parametrize(
    ("error", "is_silent", "line"),
    [
        (TimeoutError("timed out"), True, "the store does not answer (timed out)"),
        (ConnectionError("refused"), True, "the store does not answer (refused)"),
        (PermissionError("Access Denied"), False, "no permission (Access Denied)"),
        (RuntimeError("Unable to locate credentials"), False, "no permission (Unable to locate credentials)"),
        (FileNotFoundError("no bucket"), False, "no such bucket or folder (no bucket); make it first"),
        (OSError(errno.ENOSPC, "full"), False, "No space left on device; make room, and run again"),
    ],
)
def test_a_problem_is_one_line(faulty: type[FaultyFileSystem], error: Exception, is_silent: bool, line: str) -> None:
    def fail(operation: str) -> None:
        raise error

    store = open_store("faulty://bucket/store")
    faulty.fault = fail
    with pytest.raises(StoreError) as raised:
        store.write("name", b"")
    assert isinstance(raised.value, SilentStoreError) == is_silent
    assert str(raised.value).startswith(f"faulty://bucket/store: {line}")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def refuse(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", refuse)
    with pytest.raises(StoreError, match=r"pip install 'polyglance\[s3\]'"):
        open_store("s3://bucket/a")
