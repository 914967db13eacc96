"""Image data sets of Hugging Face on disk, read with pyarrow alone.

`datasets.save_to_disk` writes a folder with `state.json`, `dataset_info.json` and Arrow streams; a dictionary of
splits is a folder of such folders with `dataset_dict.json`. `push_to_hub` writes Parquet. In both an image is a struct
of its file's bytes and its path, and the path is a name only: it is never opened.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.sources.found import MAX_FILE_BYTES, FoundImage, texts_of
from polyglance.data.sources.pieces import blocks_between, cut
from polyglance.records import Drops

__all__ = ["arrow_files", "read_image_table", "table_pieces"]

_BATCH_ROWS = 64


def arrow_files(folder: Path) -> list[Path]:
    """The Arrow files of a saved data set or dictionary of them, in the order of its rows.

    Raises:
        ValueError: neither, or files that its `state.json` names are missing.
    """
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits")
        splits = [child for child in sorted(folder.iterdir()) if isinstance(names, list) and child.name in names]
        return [path for split in splits for path in arrow_files(split)]
    files = _json(folder / "state.json").get("_data_files")
    present = {path.name: path for path in sorted(folder.glob("*.arrow"))}
    wanted = [str(entry.get("filename")) for entry in files or [] if isinstance(entry, dict)]
    missing = [name for name in wanted if name not in present]
    if missing or not wanted:
        raise ValueError(f"{folder}: state.json names {len(wanted)} files, missing: {', '.join(missing[:3]) or 'none'}")
    return [present[name] for name in wanted]


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a JSON object")
    return values


def table_pieces(path: Path, column: str | None, num_rows: int) -> list[tuple[int, int | None]]:
    """One Arrow stream or Parquet file cut between its batches or row groups: first row and number of rows of each.

    Raises:
        ValueError: as `read_image_table`.
    """
    _columns(path, column, ())
    sizes: list[int] = []
    try:
        if path.suffix == ".parquet":
            sizes = _group_sizes(pq.read_metadata(path))
        else:
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:  # maps the rows, reads none
                sizes.extend(batch.num_rows for batch in reader)
    except (pa.ArrowException, OSError):  # cut short: the last piece goes on from there, and counts it
        pass
    return cut(sizes, num_rows)


def _group_sizes(about: pq.FileMetaData) -> list[int]:
    return [about.row_group(number).num_rows for number in range(about.num_row_groups)]


def read_image_table(
    path: Path,
    column: str | None,
    text_fields: Sequence[str],
    drops: Drops,
    *,
    first: int = 0,
    count: int | None = None,
) -> Iterator[FoundImage]:
    """The images of one Arrow stream or Parquet file, in order of its rows.

    Args:
        column: of images (structs with `bytes`, or binary); the only one there is if None.
        first: rows that are passed over, as `table_pieces` says it.
        count: rows that are read; all that follow if None.

    Raises:
        ValueError: not such a file, or no single column of images. Before the first image.
    """
    name, texts = _columns(path, column, text_fields)
    return _rows(path, name, texts, drops, first, count)


def _columns(path: Path, column: str | None, text_fields: Sequence[str]) -> tuple[str, list[str]]:
    """The column of images, and those of texts that are there."""
    try:
        schema = pq.read_schema(path) if path.suffix == ".parquet" else pa.ipc.open_stream(pa.OSFile(str(path))).schema
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not an Arrow stream or Parquet file ({_first_line(error)})") from None
    name = column if column is not None else _image_column(path, schema)
    if name not in schema.names or not _is_image(schema.field(name).type):
        raise ValueError(f"{path}: no column {name!r} of images; the columns are: {', '.join(map(repr, schema.names))}")
    return name, [field for field in text_fields if field in schema.names and field != name]


def _image_column(path: Path, schema: pa.Schema) -> str:
    names = [field.name for field in schema if _is_image(field.type)]
    if len(names) != 1:
        raise ValueError(f"{path}: {len(names)} columns could hold images ({', '.join(names)}); name one")
    return names[0]


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_image(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _batches(path: Path, columns: list[str], first: int, count: int | None) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            groups = list(blocks_between(_group_sizes(file.metadata), first, count))
            yield from file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False)
        return
    end = float("inf") if count is None else first + count
    start = 0
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            if start >= end:
                return
            if start >= first:
                for row in range(0, batch.num_rows, _BATCH_ROWS):
                    yield batch.select(columns).slice(row, _BATCH_ROWS)
            start += batch.num_rows


def _rows(
    path: Path, column: str, text_columns: list[str], drops: Drops, first: int, count: int | None
) -> Iterator[FoundImage]:
    number = first + 1
    try:
        for batch in _batches(path, [column, *text_columns], first, count):
            images = batch.column(column).to_pylist()
            for cell, texts in zip(images, _texts(batch, text_columns, path, number, drops), strict=True):
                where = f"{path.name}: row {number}"
                number += 1
                data = cell.get("bytes") if isinstance(cell, dict) else cell
                if data is None:
                    drops.add("image: no bytes in the table (a path or address only)", where)
                elif len(data) > MAX_FILE_BYTES:
                    drops.add("image: too many bytes", where)
                else:
                    yield FoundImage(data=data, where=where, texts=texts)
    except (pa.ArrowException, OSError) as error:
        drops.add("shard: damaged or cut short, read up to there", f"{path.name}: row {number}: {_first_line(error)}")


def _texts(batch: pa.RecordBatch, columns: list[str], path: Path, first: int, drops: Drops) -> list[tuple[str, ...]]:
    try:
        return [texts_of(row, columns) for row in batch.select(columns).to_pylist()] if columns else [()] * len(batch)
    except UnicodeDecodeError:
        drops.add("text: not UTF-8", f"{path.name}: rows from {first}", len(batch))
        return [()] * len(batch)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
