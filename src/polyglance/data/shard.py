"""The data set on disk: `<dir>/shards/00000.parquet ...` and `<dir>/manifest.json`, which is written last.

    with ShardWriter("out/train", source="my table", licence="CC0-1.0") as writer:
        writer.write(record)

    read_manifest("out/train").rows_per_cell        # {"caption-de": 12, ...}
    for record in read_records("out/train"): ...    # images and annotations, in order
    for key, annotations in read_annotations("out/train"): ...  # without reading the images
    ShardReader("out/train").read([5, 99, 7])       # any rows, for a batch

A row of a shard is one image (its encoded bytes) with all its annotations. Shards are Parquet files in small row
groups: a batch of any rows reads only the row groups it touches, and every tool for Parquet can read them.
"""

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.coverage import Cell, Task
from polyglance.data.location import Location, parse_location
from polyglance.data.manifest import MANIFEST_NAME, SHARD_NAME, Manifest, ShardInfo, read_manifest, write_manifest
from polyglance.data.shard_sums import SUMS_SUFFIX, open_checked_shard, write_shard_sums
from polyglance.data.shard_table import SHARD_LEAVES, SHARD_SCHEMA, AnnotationTable, records_of_table, table_of_records
from polyglance.error_text import first_line
from polyglance.files import check_output_folder, file_sha256, replacing
from polyglance.languages import find_declared_languages
from polyglance.records import Annotation, Drops, ImageRecord, Style

__all__ = ["ShardReader", "ShardWriter", "read_annotations", "read_records"]

_MAX_GROUP_BYTES = 16 * 2**20
"""Size of a row group's images, in bytes, at which it is closed early, so that reading one row stays cheap."""


class ShardWriter:
    """Writes a data set; a context manager that leaves a manifest only when its block ends without an exception.

    Args:
        out_dir: the data set's directory. Files that an unfinished writer left there are removed.
        source: where the data comes from, in words.
        licence: licence of images and texts.
        prefixes: language code -> the words with which all captions of the language begin.
        rows_per_shard: images per shard file.
        rows_per_group: images per row group, the unit in which images are read back; fewer if images are large.
        drops: counts of everything left out; read when the writer finishes.
        fingerprint: fingerprint of the step that builds the data set.
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
        self._styles: Counter[tuple[Task, str, Style]] = Counter()
        self._shards: list[ShardInfo] = []
        self._group: list[ImageRecord] = []
        self._group_bytes = 0
        self._shard_rows = 0
        self._open_files = ExitStack()
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        check_output_folder(self.out_dir, "`out`")
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
            if SHARD_NAME.fullmatch(path.name.removesuffix(".partial").replace(SUMS_SUFFIX, ".parquet")):
                path.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._open_files.__exit__(kind, error, trace)
            return
        self._finish_shard()
        write_manifest(self.out_dir, self._manifest())

    def write(self, record: ImageRecord) -> None:
        """Append one image.

        Raises:
            ValueError: an image with this key was written before.
        """
        if record.key in self._keys:
            raise ValueError(f"{self.out_dir}: the key {record.key!r} is written twice")
        self._keys.add(record.key)
        self._styles.update((text.task, text.language, text.style) for text in record.annotations)
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
                self._open_files.enter_context(replacing(self._shard_path)),
                SHARD_SCHEMA,
                compression={
                    leaf: "none" if leaf == "image" else "zstd" for leaf in SHARD_LEAVES
                },  # images are already
                use_dictionary=[leaf for leaf in SHARD_LEAVES if leaf not in ("key", "image")],
                write_statistics=False,
                write_page_checksum=True,
            )
            self._open_files.callback(self._file.close)
        self._file.write_table(table_of_records(self._group))
        self._group.clear()
        self._group_bytes = 0

    def _finish_shard(self) -> None:
        self._finish_group()
        if self._file is None:
            return
        self._open_files.close()
        self._file = None
        path = self._shard_path
        sums = write_shard_sums(path)
        self._shards.append(
            ShardInfo(
                name=path.name,
                rows=self._shard_rows,
                sha256=file_sha256(path),
                bytes=path.stat().st_size,
                sums_sha256=hashlib.sha256(sums).hexdigest(),
            )
        )
        self._shard_rows = 0

    def _manifest(self) -> Manifest:
        styles: dict[str, dict[str, int]] = {}
        for (task, code, style), count in sorted(self._styles.items()):
            styles.setdefault(str(Cell(task, code)), {})[style] = count
        return Manifest(
            **self._manifest_facts,
            num_images=len(self._keys),
            shards=tuple(self._shards),
            rows_per_cell={cell: sum(counts.values()) for cell, counts in styles.items()},
            rows_per_cell_and_style=styles,
            drops=self.drops.to_dict(),
            languages=find_declared_languages(Cell.parse(cell).language for cell in styles),
        )


def read_records(directory: str | Location) -> Iterator[ImageRecord]:
    """Yield every image with its annotations, in the order written; one row group in memory at a time.

    Raises:
        ValueError: as `read_manifest`; or a shard is missing or damaged (named in the message).
    """
    for path, shard in _shards(directory):
        with _named_errors(path):
            file = _open(path, shard)
            for group in range(file.num_row_groups):
                yield from records_of_table(file.read_row_group(group, use_threads=False))


def read_annotations(directory: str | Location) -> Iterator[tuple[str, tuple[Annotation, ...]]]:
    """Yield key and annotations of every image, in the order written; the images are not read.

    Raises:
        ValueError: as `read_records`.
    """
    for path, shard in _shards(directory):
        with _named_errors(path):
            file = _open(path, shard)
            for batch in file.iter_batches(8192, columns=["key", "annotations"], use_threads=False):
                yield from zip(batch["key"].to_pylist(), AnnotationTable(batch["annotations"]), strict=True)


class ShardReader:
    """Reads any rows of a data set, in any order, from a folder or an object store's URL.

    Rows are numbered over all shards in the order written. Only the row groups asked for are read, and the last few
    are kept, so memory does not grow with the data. A reader can be pickled.

    Raises:
        ValueError: as `read_records`; a shard is opened when the first of its rows is requested.
    """

    def __init__(self, directory: str | Location, *, num_open_shards: int = 16, num_kept_groups: int = 8) -> None:
        self.directory = parse_location(directory)
        self.manifest = read_manifest(directory)
        self._paths = list(_shards(directory, self.manifest))
        self._first_rows = [0, *accumulate(shard.rows for _, shard in self._paths)]
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
        """Read all annotations of the data set, without the images."""
        table = AnnotationTable()
        for column in self._annotation_columns():
            table.extend(column)
        return table

    def annotation_tables(self) -> Iterator[AnnotationTable]:
        """Yield all annotations, those of 1024 images at a time, for data whose annotations do not fit into memory."""
        return map(AnnotationTable, self._annotation_columns(batch_size=1024))

    def annotations_of(self, row: int) -> tuple[Annotation, ...]:
        """Read the annotations of one image. Those of its row group stay in memory, as the images of `images` do."""
        [((shard, group), [(_, offset)])] = self._by_group([row]).items()
        column = self._group(shard, group, "annotations")["annotations"].combine_chunks()
        return AnnotationTable(column.slice(offset, 1))[0]

    def group_starts(self) -> np.ndarray:
        """Return the first row of each row group, and the number of rows: int64 [groups + 1]. Opens every shard."""
        starts = [first + np.array(self._shard(i)[1][:-1]) for i, first in enumerate(self._first_rows[:-1])]
        return np.concatenate([*starts, [len(self)]]).astype(np.int64)

    def keep_groups(self, num_groups: int) -> None:
        """Keep at least this many of the row groups that were read last in memory."""
        self._limits["num_kept_groups"] = max(num_groups, self._limits["num_kept_groups"])
        self._group = lru_cache(self._limits["num_kept_groups"])(self._read_group)

    def read(self, rows: Sequence[int]) -> list[ImageRecord]:
        """Read the records of these rows, in this order.

        Raises:
            IndexError: a row outside 0 to len - 1.
        """
        records: list[ImageRecord | None] = [None] * len(rows)
        for (shard, group), wanted in self._by_group(rows).items():
            table = self._group(shard, group, None)
            taken = records_of_table(table.take([offset for _, offset in wanted]))
            for (place, _), record in zip(wanted, taken, strict=True):
                records[place] = record
        return [record for record in records if record is not None]

    def images(self, rows: Sequence[int]) -> list[bytes]:
        """Read the encoded images of these rows, in this order, without their annotations."""
        images = [b""] * len(rows)
        for (shard, group), wanted in self._by_group(rows).items():
            column = self._group(shard, group, "image")["image"]
            for place, offset in wanted:
                images[place] = column[offset].as_py()
        return images

    def _annotation_columns(self, batch_size: int = 8192) -> Iterator[pa.ListArray]:
        """Yield the column of annotations, `batch_size` images at a time (many row groups)."""
        for path, shard in self._paths:
            with _named_errors(path):
                for batch in _open(path, shard).iter_batches(batch_size, columns=["annotations"], use_threads=False):
                    yield batch["annotations"]

    def _by_group(self, rows: Sequence[int]) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """Map (shard, row group) -> (place in `rows`, row within the group) of each of the rows in that group."""
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
        """Open a shard: its file, and the first row of each of its row groups followed by the number of rows."""
        path, info = self._paths[shard]
        with _named_errors(path):
            file = _open(path, info)
            sizes = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
            return file, [0, *accumulate(sizes)]

    def _read_group(self, shard: int, group: int, column: str | None) -> pa.Table:
        with _named_errors(self._paths[shard][0]):
            file, _ = self._shard(shard)
            return file.read_row_group(group, columns=None if column is None else [column], use_threads=False)


def _shards(directory: str | Location, manifest: Manifest | None = None) -> Iterator[tuple[Location, ShardInfo]]:
    """Yield path and entry of each shard."""
    for shard in (manifest or read_manifest(directory)).shards:
        yield parse_location(directory) / "shards" / shard.name, shard


def _open(path: Location, shard: ShardInfo) -> pq.ParquetFile:
    if shard.sums_sha256 is None or shard.bytes is None:  # an older version has written it: its pages have checksums
        source = path if isinstance(path, Path) else path.open("rb")
        file = pq.ParquetFile(source, page_checksum_verification=True)
    else:
        file = open_checked_shard(path, size_bytes=shard.bytes, sums_sha256=shard.sums_sha256)
    if not file.schema_arrow.equals(SHARD_SCHEMA):
        raise pa.ArrowInvalid("its columns are not those of a shard")
    if file.metadata.num_rows != shard.rows:
        raise pa.ArrowInvalid(f"{file.metadata.num_rows} rows, the manifest says {shard.rows}")
    return file


@contextmanager
def _named_errors(path: Location) -> Iterator[None]:
    """Turn pyarrow's errors about a broken file into a `ValueError` of one line that names it."""
    try:
        yield
    except FileNotFoundError as error:
        if str(error.filename).endswith(SUMS_SUFFIX):
            raise ValueError(f"{error.filename}: the sums of the shard {path.name} are missing") from None
        raise ValueError(f"{path}: this shard is missing") from None
    except (pa.ArrowException, OSError) as error:
        reason = first_line(error)
        raise ValueError(f"{path}: damaged or truncated shard ({reason})") from None
