"""The data set on disk: `<dir>/shards/00000.parquet ...` and `<dir>/manifest.json`, which is written last.

    with ShardWriter("out/train", source="my table", licence="CC0-1.0") as writer:
        writer.write(record)

    read_manifest("out/train").rows_per_cell        # {"caption-de": 12, ...}
    for record in read_records("out/train"): ...    # images and annotations, in order
    for key, annotations in read_annotations("out/train"): ...  # without touching the images
    ShardReader("out/train").read([5, 99, 7])       # any rows, for a batch

A row of a shard is one image (its encoded bytes) with all its annotations. Shards are Parquet files in small row
groups, so that a batch of any rows costs only the row groups it touches, and any tool that reads Parquet reads them.
A directory without a manifest is not a data set: its writer did not finish.
"""

import json
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyglance import __version__, config
from polyglance.coverage import Task
from polyglance.data.location import Location, location
from polyglance.files import file_sha256, write_atomically
from polyglance.records import Annotation, Drops, ImageRecord, Style

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "AnnotationTable",
    "Manifest",
    "ShardInfo",
    "ShardReader",
    "ShardWriter",
    "read_annotations",
    "read_manifest",
    "read_records",
]

FORMAT_VERSION = 1
"""Raised when an older polyglance could no longer read what this one writes."""
MANIFEST_NAME = "manifest.json"

_ANNOTATION_FIELDS = ("task", "language", "text", "source", "style", "origin", "score")
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field(
            "annotations",
            pa.list_(
                pa.struct(
                    [
                        pa.field("task", pa.string(), nullable=False),
                        pa.field("language", pa.string(), nullable=False),
                        pa.field("text", pa.string(), nullable=False),
                        pa.field("source", pa.string()),
                        pa.field("style", pa.string(), nullable=False),
                        pa.field("origin", pa.string(), nullable=False),
                        pa.field("score", pa.float64()),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)
_SHARD_NAME = re.compile(r"\d{5,}\.parquet")
_MAX_GROUP_BYTES = 16 * 2**20
"""A row group is closed early when its images reach this size, so that one row never costs much more to read."""


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One shard file."""

    name: str
    """File name under `shards/`."""
    rows: int
    """Images in it."""
    sha256: str
    """Hexadecimal digest of the file."""

    def __post_init__(self) -> None:
        if not _SHARD_NAME.fullmatch(self.name):  # names become paths: nothing but our own may pass
            raise ValueError(f"{self.name!r} is not the name of a shard")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a data set holds, where it is from, and what was left out of it."""

    format_version: int = FORMAT_VERSION
    polyglance_version: str = __version__
    source: str
    """Where the data is from, in words."""
    licence: str
    """Licence of images and texts, as the one who built the data set states it; empty where it was not stated."""
    prefixes: Mapping[str, str]
    """Language code -> the words with which all its captions begin; empty where captions begin freely."""
    num_images: int
    shards: tuple[ShardInfo, ...]
    rows_per_cell: Mapping[str, int]
    """Annotations per cell (`caption-de`)."""
    rows_per_cell_and_style: Mapping[str, Mapping[str, int]]
    """Annotations per cell and style (`caption-de` -> `short`)."""
    drops: Mapping[str, Any]
    """Reason -> count and first places, as `Drops.to_dict` gives them."""
    fingerprint: str = ""
    """Fingerprint of the step that built the data set; the same fingerprint need not be built again."""


class ShardWriter:
    """Writes a data set; a context manager that leaves a manifest only when its block ends without an exception.

    Args:
        out_dir: the data set's directory. What an unfinished writer left there is removed.
        source: where the data is from, in words.
        licence: licence of images and texts.
        prefixes: language code -> the words with which all captions of the language begin.
        rows_per_shard: images per shard file.
        rows_per_group: images per row group, the unit in which images are read back; fewer where images are large.
        drops: what was left out; read when the writer finishes.
        fingerprint: of the step that builds the data set.
        overwrite: replace a finished data set. It is removed when the block is entered.

    Raises:
        ValueError: the directory holds a finished data set and `overwrite` is not set.
    """

    def __init__(
        self,
        out_dir: str | Path,
        *,
        source: str,
        licence: str,
        prefixes: Mapping[str, str] | None = None,
        rows_per_shard: int = 8192,
        rows_per_group: int = 32,
        drops: Drops | None = None,
        fingerprint: str = "",
        overwrite: bool = False,
    ) -> None:
        if rows_per_group < 1 or rows_per_shard < 1:
            raise ValueError("rows_per_group and rows_per_shard must be at least 1")
        self.out_dir = Path(out_dir)
        self.drops = Drops() if drops is None else drops
        self._manifest_facts: dict[str, Any] = {
            "source": source,
            "licence": licence,
            "prefixes": dict(prefixes or {}),
            "fingerprint": fingerprint,
        }
        self._rows_per_shard, self._rows_per_group = rows_per_shard, rows_per_group
        self._overwrite = overwrite
        self._keys: set[str] = set()
        self._styles: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._shards: list[ShardInfo] = []
        self._group: list[ImageRecord] = []
        self._group_bytes = 0
        self._shard_rows = 0
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        manifest = self.out_dir / MANIFEST_NAME
        if manifest.exists() and not self._overwrite:
            raise ValueError(
                f"{self.out_dir}: there is a finished data set already; remove it, or overwrite it "
                "(`data import --overwrite`)"
            )
        manifest.unlink(missing_ok=True)
        shards_dir = self.out_dir / "shards"
        shards_dir.mkdir(parents=True, exist_ok=True)
        for path in shards_dir.iterdir():
            if _SHARD_NAME.fullmatch(path.name.removesuffix(".partial")):
                path.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            if self._file is not None:
                self._file.close()
            return
        self._finish_shard()
        write_atomically(
            self.out_dir / MANIFEST_NAME,
            json.dumps(config.to_dict(self._manifest()), ensure_ascii=False, indent=2) + "\n",
        )

    def write(self, record: ImageRecord) -> None:
        """Append one image.

        Raises:
            ValueError: an image with this key was written before.
        """
        if record.key in self._keys:
            raise ValueError(f"{self.out_dir}: the key {record.key!r} is written twice")
        self._keys.add(record.key)
        for annotation in record.annotations:
            self._styles[str(annotation.cell)][annotation.style] += 1
        self._group.append(record)
        self._group_bytes += len(record.image)
        self._shard_rows += 1
        if self._shard_rows == self._rows_per_shard:
            self._finish_shard()
        elif len(self._group) == self._rows_per_group or self._group_bytes >= _MAX_GROUP_BYTES:
            self._finish_group()

    @property
    def _shard_path(self) -> Path:
        return self.out_dir / "shards" / f"{len(self._shards):05d}.parquet"

    def _finish_group(self) -> None:
        if not self._group:
            return
        if self._file is None:
            self._file = pq.ParquetWriter(
                f"{self._shard_path}.partial",
                _SCHEMA,
                compression={leaf: "none" if leaf == "image" else "zstd" for leaf in _leaves()},  # images are already
                use_dictionary=[leaf for leaf in _leaves() if leaf not in ("key", "image")],
                write_statistics=False,
                write_page_checksum=True,
            )
        self._file.write_table(_table(self._group))
        self._group.clear()
        self._group_bytes = 0

    def _finish_shard(self) -> None:
        self._finish_group()
        if self._file is None:
            return
        self._file.close()
        self._file = None
        path = self._shard_path
        partial = path.with_name(path.name + ".partial")
        sha256 = file_sha256(partial)
        partial.replace(path)
        self._shards.append(ShardInfo(name=path.name, rows=self._shard_rows, sha256=sha256))
        self._shard_rows = 0

    def _manifest(self) -> Manifest:
        styles = {cell: dict(sorted(counts.items())) for cell, counts in sorted(self._styles.items())}
        return Manifest(
            **self._manifest_facts,
            num_images=len(self._keys),
            shards=tuple(self._shards),
            rows_per_cell={cell: sum(counts.values()) for cell, counts in styles.items()},
            rows_per_cell_and_style=styles,
            drops=self.drops.to_dict(),
        )


def read_manifest(directory: str | Location) -> Manifest:
    """The manifest of a data set.

    Raises:
        ValueError: not a (finished) data set, written by a newer polyglance, or damaged.
    """
    path = location(directory) / MANIFEST_NAME
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{directory}: not a data set (no {MANIFEST_NAME}: never written, or not to the end)"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # bad JSON or bad UTF-8
        raise ValueError(f"{path}: damaged ({error})") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format {version} is newer than this polyglance reads ({FORMAT_VERSION}); "
            f"it was written by version {values.get('polyglance_version')}"
        )
    try:
        manifest = config.from_dict(Manifest, values)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if manifest.num_images != sum(shard.rows for shard in manifest.shards):
        raise ValueError(f"{path}: damaged (num_images is not the sum of the shards' rows)")
    return manifest


def read_records(directory: str | Location) -> Iterator[ImageRecord]:
    """Every image with its annotations, in the order written; one row group in memory at a time.

    Raises:
        ValueError: as `read_manifest`; or a shard is missing or damaged (named in the message).
    """
    for path, rows in _shards(directory):
        with _named_errors(path):
            file = _open(path, rows)
            for group in range(file.num_row_groups):
                yield from _records(file.read_row_group(group, use_threads=False))


def read_annotations(directory: str | Location) -> Iterator[tuple[str, tuple[Annotation, ...]]]:
    """Key and annotations of every image, in the order written; the images themselves are not read.

    Raises:
        ValueError: as `read_records`.
    """
    for path, rows in _shards(directory):
        with _named_errors(path):
            file = _open(path, rows)
            for batch in file.iter_batches(8192, columns=["key", "annotations"], use_threads=False):
                yield from zip(batch["key"].to_pylist(), AnnotationTable(batch["annotations"]), strict=True)


class AnnotationTable:
    """The annotations of many images, column by column: a million take seconds to load and no objects of their own.

        table[row]                                  # the annotations of one image, as a tuple of `Annotation`
        list(table)                                 # of every image
        zip(table.rows(), table.task, table.language)   # a pass over all annotations without making objects of them

    All columns are equally long, one entry per annotation, in the order of the images.
    """

    task: list[Task]
    language: list[str]
    text: list[str]
    source: list[str | None]
    style: list[Style]
    origin: list[str]
    score: list[float | None]
    offsets: list[int]
    """The annotations of image i are entries offsets[i] to offsets[i + 1] of every column."""

    def __init__(self, column: pa.ListArray | None = None) -> None:
        for name in _ANNOTATION_FIELDS:
            setattr(self, name, [])
        self.offsets = [0]
        if column is not None:
            self.extend(column)

    def extend(self, column: pa.ListArray) -> None:
        """Append the annotations of more images, as a shard holds them."""
        structs = column.flatten()
        for name in _ANNOTATION_FIELDS:
            getattr(self, name).extend(_python_values(structs.field(name)))
        self.offsets.extend((column.offsets.to_numpy()[1:] - column.offsets[0].as_py() + self.offsets[-1]).tolist())

    def __len__(self) -> int:
        """Number of images."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[Annotation, ...]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return tuple(self.annotation(index) for index in range(self.offsets[row], self.offsets[row + 1]))

    def __iter__(self) -> Iterator[tuple[Annotation, ...]]:
        return (self[row] for row in range(len(self)))

    def annotation(self, index: int) -> Annotation:
        """The annotation at `index` of every column."""
        return Annotation(
            task=self.task[index],
            language=self.language[index],
            text=self.text[index],
            source=self.source[index],
            style=self.style[index],
            origin=self.origin[index],
            score=self.score[index],
        )

    def rows(self) -> list[int]:
        """The image (row) of each annotation."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets)).tolist()


class ShardReader:
    """Any rows of a data set, in any order: what a batch loader reads from, a folder or an object store's URL.

    Rows are numbered over all shards in the order written. Only the row groups asked for are read, and the last few
    are kept, so that memory does not grow with the data. A reader may be sent to other processes.

    Raises:
        ValueError: as `read_records`; a shard is looked at when the first of its rows is asked for.
    """

    def __init__(self, directory: str | Location, *, num_open_shards: int = 16, num_kept_groups: int = 8) -> None:
        self.directory = location(directory)
        self.manifest = read_manifest(directory)
        self._paths = list(_shards(directory, self.manifest))
        self._first_rows = [0, *accumulate(rows for _, rows in self._paths)]
        self._limits = {"num_open_shards": num_open_shards, "num_kept_groups": num_kept_groups}
        self._shard = lru_cache(num_open_shards)(self._open_shard)
        self._group = lru_cache(num_kept_groups)(self._read_group)

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self.directory, **self._limits}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # open files do not travel between processes

    def __len__(self) -> int:
        return self._first_rows[-1]

    def annotations(self) -> AnnotationTable:
        """All annotations of the data set, without touching the images."""
        table = AnnotationTable()
        for column in self._annotation_columns():
            table.extend(column)
        return table

    def annotation_tables(self) -> Iterator[AnnotationTable]:
        """All annotations, those of a thousand images at a time: for data whose annotations do not fit into memory."""
        return map(AnnotationTable, self._annotation_columns(batch_size=1024))

    def annotations_of(self, row: int) -> tuple[Annotation, ...]:
        """The annotations of one image; its row group's are kept as those of `images` are."""
        [((shard, group), [(_, offset)])] = self._by_group([row]).items()
        column = self._group(shard, group, "annotations")["annotations"].combine_chunks()
        return AnnotationTable(column.slice(offset, 1))[0]

    def group_starts(self) -> np.ndarray:
        """First row of each row group, and the number of rows: int64 [groups + 1]. Opens every shard."""
        starts = [first + np.array(self._shard(i)[1][:-1]) for i, first in enumerate(self._first_rows[:-1])]
        return np.concatenate([*starts, [len(self)]]).astype(np.int64)

    def keep_groups(self, num_groups: int) -> None:
        """Keep at least so many of the row groups that were read last in memory."""
        self._limits["num_kept_groups"] = max(num_groups, self._limits["num_kept_groups"])
        self._group = lru_cache(self._limits["num_kept_groups"])(self._read_group)

    def read(self, rows: Sequence[int]) -> list[ImageRecord]:
        """The records of these rows, in this order.

        Raises:
            IndexError: a row outside 0 to len - 1.
        """
        records: list[ImageRecord | None] = [None] * len(rows)
        for (shard, group), wanted in self._by_group(rows).items():
            table = self._group(shard, group, None)
            taken = _records(table.take([offset for _, offset in wanted]))
            for (place, _), record in zip(wanted, taken, strict=True):
                records[place] = record
        return [record for record in records if record is not None]

    def images(self, rows: Sequence[int]) -> list[bytes]:
        """The encoded images of these rows, in this order; as `read`, without the annotations."""
        images = [b""] * len(rows)
        for (shard, group), wanted in self._by_group(rows).items():
            column = self._group(shard, group, "image")["image"]
            for place, offset in wanted:
                images[place] = column[offset].as_py()
        return images

    def _annotation_columns(self, batch_size: int = 8192) -> Iterator[pa.ListArray]:
        """The column of annotations, of so many images at a time: many row groups."""
        for path, rows in self._paths:
            with _named_errors(path):
                for batch in _open(path, rows).iter_batches(batch_size, columns=["annotations"], use_threads=False):
                    yield batch["annotations"]

    def _by_group(self, rows: Sequence[int]) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """(shard, row group) -> (place in `rows`, row within the group) of each row that lies there."""
        places: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for place, row in enumerate(rows):
            if not 0 <= row < len(self):
                raise IndexError(f"{self.directory}: row {row} of {len(self)}")
            shard = bisect_right(self._first_rows, row) - 1
            starts = self._shard(shard)[1]
            row_in_shard = row - self._first_rows[shard]
            group = bisect_right(starts, row_in_shard) - 1
            places[shard, group].append((place, row_in_shard - starts[group]))
        return places

    def _open_shard(self, shard: int) -> tuple[pq.ParquetFile, list[int]]:
        """A shard's file and the first row of each of its row groups."""
        path, rows = self._paths[shard]
        with _named_errors(path):
            file = _open(path, rows)
            sizes = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
            return file, [0, *accumulate(sizes)]

    def _read_group(self, shard: int, group: int, column: str | None) -> pa.Table:
        with _named_errors(self._paths[shard][0]):
            file, _ = self._shard(shard)
            return file.read_row_group(group, columns=None if column is None else [column], use_threads=False)


def _shards(directory: str | Location, manifest: Manifest | None = None) -> Iterator[tuple[Location, int]]:
    """Path and number of rows of each shard."""
    for shard in (manifest or read_manifest(directory)).shards:
        yield location(directory) / "shards" / shard.name, shard.rows


def _open(path: Location, rows: int) -> pq.ParquetFile:
    source = path if isinstance(path, Path) else path.open("rb")
    file = pq.ParquetFile(source, page_checksum_verification=True)
    if not file.schema_arrow.equals(_SCHEMA):
        raise pa.ArrowInvalid("its columns are not those of a shard")
    if file.metadata.num_rows != rows:
        raise pa.ArrowInvalid(f"{file.metadata.num_rows} rows, the manifest says {rows}")
    return file


@contextmanager
def _named_errors(path: Location) -> Iterator[None]:
    """Turn whatever pyarrow says of a broken file into one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path}: this shard is missing") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: damaged or truncated shard ({reason})") from None


def _leaves() -> list[str]:
    return ["key", "image", *(f"annotations.list.element.{name}" for name in _ANNOTATION_FIELDS)]


def _table(records: Sequence[ImageRecord]) -> pa.Table:
    annotations = [annotation for record in records for annotation in record.annotations]
    element = _SCHEMA.field("annotations").type.value_type
    structs = pa.StructArray.from_arrays(
        [pa.array([getattr(a, f.name) for a in annotations], f.type) for f in element], fields=list(element)
    )
    offsets = [0, *accumulate(len(record.annotations) for record in records)]
    columns = [
        pa.array([record.key for record in records], pa.string()),
        pa.array([record.image for record in records], pa.binary()),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=_SCHEMA.field("annotations").type),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _records(table: pa.Table) -> Iterator[ImageRecord]:
    for batch in table.to_batches():
        columns = batch["key"].to_pylist(), batch["image"].to_pylist(), AnnotationTable(batch["annotations"])
        for key, image, annotations in zip(*columns, strict=True):
            yield ImageRecord(key=key, image=image, annotations=annotations)


def _python_values(array: pa.Array) -> list[Any]:
    """`array.to_pylist()`, many times faster where values repeat: each distinct one becomes a Python object once."""
    encoded = array.dictionary_encode(null_encoding="encode")
    distinct = np.array(encoded.dictionary.to_pylist(), dtype=object)
    return distinct[encoded.indices.to_numpy()].tolist()
