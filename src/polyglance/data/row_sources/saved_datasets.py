"""Rows of a data set of Hugging Face that `save_to_disk` wrote: Arrow files, read with pyarrow alone."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from polyglance.data.row_sources.row_source import RowSource
from polyglance.data.row_sources.table_files import find_image_columns
from polyglance.data.sources.image_tables import find_arrow_files
from polyglance.tables import TableRow, make_table_row, parse_batch

__all__ = ["SavedDataset"]

_BATCH_ROWS = 64
_SAMPLE_ROWS = 100
_DAMAGED = "shard: damaged or cut short, read up to there"


class SavedDataset(RowSource):
    """A folder by `save_to_disk`, all its splits, or one Arrow file.

    Raises:
        ValueError: files are missing, are no Arrow files, or have different columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = [path] if path.is_file() else find_arrow_files(path)
        schemas = [_read_schema(file) for file in self.files]
        self._names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
        self.image_columns = tuple(dict.fromkeys(name for schema in schemas for name in find_image_columns(schema)))

    def describe(self) -> str:
        root = self.path if self.path.is_dir() else self.path.parent
        folders = dict.fromkeys(file.parent.relative_to(root).as_posix() for file in self.files)
        splits = f" of the splits {', '.join(folders)}" if len(folders) > 1 else ""
        return f"data set saved as Arrow, {len(self.files)} files{splits}"

    def names(self) -> list[str] | None:
        return self._names

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
        for file in self.files:
            yield from self._read_file(file, columns)

    def sample(self) -> list[Mapping[str, Any]]:
        columns = [name for name in self._names if name not in self.image_columns]
        if not columns:
            return []
        return [
            row.values
            for file in self.files
            for row in islice(self._read_file(file, columns), _SAMPLE_ROWS)
            if not row.problem
        ]

    def _read_file(self, file: Path, columns: Sequence[str] | None) -> Iterator[TableRow]:
        name = file.relative_to(self.path).as_posix() if self.path.is_dir() else file.name
        number = 1
        try:
            with pa.memory_map(str(file)) as source, _open_arrow(source) as batches:
                for batch in batches:
                    present = [column for column in columns or self._names if column in batch.schema.names]
                    for start in range(0, batch.num_rows, _BATCH_ROWS):
                        for values in parse_batch(batch.select(present).slice(start, _BATCH_ROWS)):
                            yield make_table_row(f"{name}: row {number}", values)
                            number += 1
        except (pa.ArrowException, OSError) as error:
            yield TableRow(
                where=f"{name}: row {number}", values={}, problem=_DAMAGED, detail=str(error).partition("\n")[0]
            )


class _ArrowFile:
    """The batches of an Arrow file in the random access format, as those of a stream."""

    def __init__(self, reader: pa.RecordBatchFileReader) -> None:
        self._reader, self.schema = reader, reader.schema

    def __enter__(self) -> Iterator[pa.RecordBatch]:
        return (self._reader.get_batch(number) for number in range(self._reader.num_record_batches))

    def __exit__(self, *_: object) -> None:
        return None


def _open_arrow(source: pa.NativeFile) -> Any:
    """Open a stream, as `save_to_disk` writes it, or a file in the random access format (Feather)."""
    if source.read(6) == b"ARROW1":
        return _ArrowFile(pa.ipc.open_file(source))
    source.seek(0)
    return pa.ipc.open_stream(source)


def _read_schema(path: Path) -> pa.Schema:
    try:
        with pa.memory_map(str(path)) as source:
            return _open_arrow(source).schema
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not an Arrow file ({str(error).partition(chr(10))[0]})") from None
