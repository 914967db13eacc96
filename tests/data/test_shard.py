import hashlib
import json
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.data import shard
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import ShardReader, ShardWriter, read_annotations, read_records
from polyglance.data.shard_table import AnnotationTable
from polyglance.languages import LANGUAGES
from polyglance.records import STYLES, Annotation, Drops, ImageRecord, annotations_from_texts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ANNOTATIONS = st.builds(
    Annotation,
    task=st.sampled_from(["caption", "translation"]),
    language=st.sampled_from(list(LANGUAGES)),
    text=TEXTS,
    source=st.none() | TEXTS,
    style=st.sampled_from(STYLES),
    origin=TEXTS,
    score=st.none() | st.floats(allow_nan=False),
)
RECORDS = st.lists(
    st.builds(ImageRecord, key=TEXTS, image=st.binary(), annotations=st.lists(ANNOTATIONS).map(tuple)),
    unique_by=lambda record: record.key,
    max_size=12,
)


def record(number: int, size_bytes: int = 40) -> ImageRecord:
    return ImageRecord(
        key=f"key {number}",
        image=hashlib.sha256(str(number).encode()).digest() * (size_bytes // 32 + 1),
        annotations=annotations_from_texts({"en": f"picture {number}", "de": f"Bild {number}"}),
    )


def write(directory: Path, records: Iterable[ImageRecord], **options) -> Path:
    with ShardWriter(directory, source="test", licence="none", **options) as writer:
        for one in records:
            writer.write(one)
    return directory


@settings(deadline=None, max_examples=60)
@given(records=RECORDS, sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)), data=st.data())
def test_whatever_is_written_is_read_back_in_every_way(records, sizes, data):
    with tempfile.TemporaryDirectory() as folder:
        out = write(Path(folder), records, rows_per_shard=sizes[0], rows_per_group=sizes[1])

        assert list(read_records(out)) == records
        assert list(read_annotations(out)) == [(one.key, one.annotations) for one in records]

        reader = ShardReader(out, num_open_shards=1, num_kept_groups=1)
        assert len(reader) == len(records) == reader.manifest.num_images
        table = reader.annotations()
        assert list(table) == [one.annotations for one in records]
        flat = [annotation for one in records for annotation in one.annotations]
        assert [table.annotation(index) for index in range(len(table.text))] == flat
        assert table.rows() == [row for row, one in enumerate(records) for _ in one.annotations]

        rows = data.draw(st.lists(st.integers(0, len(records) - 1))) if records else []
        assert reader.read(rows) == [records[row] for row in rows]
        assert reader.images(rows) == [records[row].image for row in rows]

        cells = Counter(str(annotation.cell) for annotation in flat)
        assert reader.manifest.rows_per_cell == cells
        by_style = Counter((str(annotation.cell), annotation.style) for annotation in flat)
        stored = reader.manifest.rows_per_cell_and_style
        assert {(cell, style): n for cell, counts in stored.items() for style, n in counts.items()} == by_style


def test_a_table_of_annotations_can_be_made_of_a_slice(tmp_path):
    path = write(tmp_path, [record(number) for number in range(6)]) / "shards" / "00000.parquet"
    column = pq.read_table(path)["annotations"].chunk(0)
    table = AnnotationTable(column.slice(4, 1))
    table.extend(column.slice(1, 2))
    assert list(table) == [record(number).annotations for number in (4, 1, 2)]


def test_the_manifest_describes_the_data_set(tmp_path):
    drops = Drops()
    out = tmp_path / "set"
    options = {"prefixes": {"de": "Das Bild zeigt"}, "fingerprint": "abc", "rows_per_shard": 3}
    with ShardWriter(out, source="me", licence="CC0", drops=drops, **options) as writer:
        for number in range(7):
            writer.write(record(number))
        drops.add("broken", "table.csv:3")
        assert not (out / "manifest.json").exists()

    manifest = read_manifest(out)
    assert (manifest.source, manifest.licence, manifest.fingerprint) == ("me", "CC0", "abc")
    assert manifest.prefixes == {"de": "Das Bild zeigt"}
    assert manifest.drops == {"broken": {"count": 1, "examples": ["table.csv:3"]}}
    assert [(one.name, one.rows) for one in manifest.shards] == [
        ("00000.parquet", 3),
        ("00001.parquet", 3),
        ("00002.parquet", 1),
    ]
    for one in manifest.shards:
        assert hashlib.sha256((out / "shards" / one.name).read_bytes()).hexdigest() == one.sha256
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [
        "00000.parquet",
        "00000.sums",
        "00001.parquet",
        "00001.sums",
        "00002.parquet",
        "00002.sums",
        "manifest.json",
    ]


def test_the_same_records_make_the_same_files(tmp_path):
    records = [record(number) for number in range(20)]
    first, second = (read_manifest(write(tmp_path / name, records, rows_per_shard=6)) for name in "ab")
    assert first == second


def interrupted() -> Iterator[ImageRecord]:
    yield from (record(number) for number in range(11))
    raise KeyboardInterrupt


def test_an_unfinished_writer_leaves_no_data_set_and_the_next_one_cleans_up(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, interrupted(), rows_per_shard=4, rows_per_group=2)
    assert {path.name for path in (tmp_path / "shards").glob("*.parquet")} == {"00000.parquet", "00001.parquet"}
    with pytest.raises(ValueError, match="not a data set"):
        read_manifest(tmp_path)

    (tmp_path / "shards" / "00002.parquet.partial").write_text("left by a kill")
    (tmp_path / "shards" / "notes.txt").write_text("of someone else")
    write(tmp_path, [record(0)])
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {"00000.parquet", "00000.sums", "notes.txt"}
    assert list(read_records(tmp_path)) == [record(0)]


def test_a_finished_data_set_is_replaced_only_when_asked(tmp_path):
    write(tmp_path, [record(0), record(1)], rows_per_shard=1)
    with pytest.raises(ValueError, match="finished data set already"):
        write(tmp_path, [record(2)])
    assert len(list(read_records(tmp_path))) == 2
    write(tmp_path, [record(2)], overwrite=True)
    assert list(read_records(tmp_path)) == [record(2)]
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {"00000.parquet", "00000.sums"}


def test_a_repeated_key_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'key 1' is written twice"):
        write(tmp_path, [record(1), record(1)])
    with pytest.raises(ValueError, match="not a data set"):
        read_manifest(tmp_path)


def spoil(path: Path, image: bytes) -> None:
    content = path.read_bytes()
    assert content.count(image) == 1
    path.write_bytes(content.replace(image, b"x" * len(image)))


def test_only_what_is_asked_for_is_read(tmp_path):
    """A spoilt image does not disturb the reading of annotations, nor of images in other row groups."""
    records = [record(number) for number in range(8)]
    path = write(tmp_path, records, rows_per_group=2) / "shards" / "00000.parquet"
    spoil(path, records[5].image)

    assert list(read_annotations(tmp_path)) == [(one.key, one.annotations) for one in records]
    reader = ShardReader(tmp_path)
    assert list(reader.annotations()) == [one.annotations for one in records]
    assert reader.read([7, 0, 3]) == [records[7], records[0], records[3]]
    assert reader.images([6, 1]) == [records[6].image, records[1].image]
    for read in (lambda: reader.read([0, 4]), lambda: reader.images([4]), lambda: list(read_records(tmp_path))):
        with pytest.raises(ValueError, match=r"00000\.parquet: damaged") as error:
            read()
        assert "\n" not in str(error.value)


def test_row_groups_of_large_images_hold_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "_MAX_GROUP_BYTES", 1000)
    records = [record(number, size_bytes=300) for number in range(10)]
    write(tmp_path, records)
    file = pq.ParquetFile(tmp_path / "shards" / "00000.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4, 4, 2]
    assert ShardReader(tmp_path).read([9, 3, 4]) == [records[9], records[3], records[4]]


def test_a_reader_travels_to_other_processes(tmp_path):
    records = [record(number) for number in range(9)]
    reader = ShardReader(write(tmp_path, records, rows_per_shard=4), num_kept_groups=2)
    reader.read([1])
    assert pickle.loads(pickle.dumps(reader)).read([8, 1]) == [records[8], records[1]]


def test_rows_outside_are_refused(tmp_path):
    reader = ShardReader(write(tmp_path, [record(0)]))
    for row in (-1, 1):
        with pytest.raises(IndexError, match="of 1"):
            reader.read([row])
        with pytest.raises(IndexError, match="of 1"):
            reader.annotations()[row]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "this shard is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged or truncated"),
        (lambda path: path.write_bytes(b""), "damaged or truncated"),
        (lambda path: path.write_bytes((path.parent / "00000.parquet").read_bytes()), "bytes, the manifest says"),
        (lambda path: pq.write_table(pq.read_table(path).drop(["image"]), path), "bytes, the manifest says"),
    ],
)
def test_a_broken_shard_is_named_on_one_line(tmp_path, damage, message):
    write(tmp_path, [record(number) for number in range(7)], rows_per_shard=4)
    damage(tmp_path / "shards" / "00001.parquet")
    reader = ShardReader(tmp_path)
    assert reader.images([3])
    for read in (
        lambda: list(read_records(tmp_path)),
        lambda: list(read_annotations(tmp_path)),
        lambda: reader.read([5]),
        lambda: reader.annotations(),
    ):
        with pytest.raises(ValueError, match=rf"00001\.parquet: .*{message}") as error:
            read()
        assert "\n" not in str(error.value)


def change(**values):
    def changed(path: Path) -> None:
        content = json.loads(path.read_text())
        del content["seal"]  # as an older version has written it
        path.write_text(json.dumps(content | values))

    return changed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes((path.parent / "00000.parquet").read_bytes()), "4 rows, the manifest says 3"),
        (lambda path: pq.write_table(pq.read_table(path).drop(["image"]), path), "its columns are not those"),
        (lambda path: spoil(path, record(5).image), "checksum"),
    ],
)
def test_a_data_set_of_an_older_version_is_read(tmp_path, damage, message):
    """Its manifest has neither a seal nor sums of the shards; pages have the checksums of Parquet."""
    records = [record(number) for number in range(7)]
    write(tmp_path, records, rows_per_shard=4)
    content = json.loads((tmp_path / "manifest.json").read_text())
    shards = [{name: one[name] for name in ("name", "rows", "sha256")} for one in content["shards"]]
    change(shards=shards)(tmp_path / "manifest.json")
    for path in tmp_path.rglob("*.sums"):
        path.unlink()
    assert list(read_records(tmp_path)) == records
    damage(tmp_path / "shards" / "00001.parquet")
    with pytest.raises(ValueError, match=rf"00001\.parquet: .*{message}"):
        ShardReader(tmp_path).read([5])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "not a data set"),
        (lambda path: path.write_text("{"), "damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "damaged"),
        (lambda path: path.write_text("[1]"), "damaged"),
        (lambda path: path.write_text("{}"), "damaged .*missing"),
        (change(format_version=99, new="x"), "format 99 is newer than this polyglance reads"),
        (change(num_images=3), "damaged .*num_images"),
        (change(num_images="2"), "damaged .*num_images: expected a whole number"),
        (change(shards=[{"name": "../../a.parquet", "rows": 2, "sha256": ""}]), "not the name of a shard"),
    ],
)
def test_a_broken_manifest_is_one_clear_line(tmp_path, damage, message):
    write(tmp_path, [record(0), record(1)])
    damage(tmp_path / "manifest.json")
    with pytest.raises(ValueError, match=message) as error:
        read_manifest(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        ShardReader(tmp_path)


def test_missing_sums_are_named(tmp_path):
    write(tmp_path, [record(0)])
    (tmp_path / "shards" / "00000.sums").unlink()
    with pytest.raises(ValueError, match=r"00000\.sums: the sums of the shard 00000\.parquet are missing"):
        ShardReader(tmp_path).read([0])


def test_no_such_directory(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: not a data set \(no such folder"):
        read_manifest(tmp_path / "nowhere")
    for split in ("train", "test"):
        (tmp_path / "out" / split).mkdir(parents=True)
        write(tmp_path / "out" / split, [record(0)])
    with pytest.raises(
        ValueError, match=r"out: not a data set \(a folder of several; name one: .*out/test, .*out/train"
    ):
        read_manifest(tmp_path / "out")
    with pytest.raises(ValueError, match=r"manifest\.json: not a data set \(a file"):
        read_manifest(tmp_path / "out" / "train" / "manifest.json")


def test_an_empty_data_set_is_one(tmp_path):
    write(tmp_path, [])
    assert list(read_records(tmp_path)) == []
    assert len(ShardReader(tmp_path)) == len(ShardReader(tmp_path).annotations()) == 0
