"""Data in an object store is read like data in a folder; the `memory://` filesystem stands for any store."""

import pickle
from pathlib import Path

import fsspec
import pytest

from polyglance.data.location import RemotePath, parse_location
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import ShardReader, read_annotations, read_records


@pytest.fixture
def remote(world: Path) -> str:
    """The training data of the built-in world as an object store's URL."""
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(world / "train"), "/bucket/train", recursive=True)
    yield "memory://bucket/train"
    filesystem.rm("/bucket", recursive=True)


def test_shards_are_read_from_an_object_store(world: Path, remote: str) -> None:
    here, there = ShardReader(world / "train"), ShardReader(remote)
    rows = [7, 150, 3, 7]
    assert there.images(rows) == here.images(rows)
    assert there.read(rows) == here.read(rows)
    assert (there.group_starts() == here.group_starts()).all()
    assert there.annotations_of(150) == here.read([150])[0].annotations
    assert read_manifest(remote) == read_manifest(world / "train")
    assert list(read_records(remote)) == list(read_records(world / "train"))
    assert list(read_annotations(remote)) == list(read_annotations(world / "train"))
    assert pickle.loads(pickle.dumps(there)).images([9]) == here.images([9])


def test_a_url_survives_a_path(remote: str) -> None:
    assert parse_location(Path(remote)) == parse_location(remote) == RemotePath("memory://bucket/train")
    assert len(ShardReader(Path(remote))) == 200
    assert parse_location("data/train") == Path("data/train")
    assert parse_location(Path("simplecache::s3:/bucket/a")) == RemotePath("simplecache::s3://bucket/a")


def test_missing_remote_data_is_one_line(remote: str) -> None:
    with pytest.raises(ValueError, match=r"memory://bucket/absent: not a data set"):
        read_manifest("memory://bucket/absent")
    with pytest.raises(ValueError, match=r"nosuchthing://a/manifest.json: cannot be read"):
        read_manifest("nosuchthing://a")
    filesystem = fsspec.filesystem("memory")
    [shard] = filesystem.glob("/bucket/train/shards/*.parquet")
    filesystem.pipe(shard, filesystem.cat(shard)[:-40])
    with pytest.raises(ValueError, match="damaged or truncated shard"):
        ShardReader(remote).images([0])
    filesystem.rm(shard)
    with pytest.raises(ValueError, match="this shard is missing"):
        ShardReader(remote).images([0])
