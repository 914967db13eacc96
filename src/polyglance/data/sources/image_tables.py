"""Image data sets of Hugging Face on disk, read with pyarrow alone.

`datasets.save_to_disk` writes a folder with `state.json`, `dataset_info.json` and Arrow streams; a dictionary of
splits is a folder of such folders with `dataset_dict.json`. `push_to_hub` writes Parquet. In both an image is a struct
of its file's bytes and its path. The path is only a name: it is never opened.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.sources.raw_images import MAX_FILE_BYTES, RawImage, collect_texts
from polyglance.data.sources.source import Piece, cut_blocks, read_parquet_batches, row_group_sizes
from polyglance.error_text import first_line
from polyglance.files import read_json
from polyglance.records import Drops

__all__ = ["cut_image_table", "find_arrow_files", "read_image_table"]

_BATCH_ROWS = 64


def find_arrow_files(folder: Path) -> list[Path]:
    """Find the Arrow files of a saved data set or dictionary of data sets, in the order of its rows.

    Raises:
        ValueError: neither, or files that its `state.json` names are missing.
    """
    if (folder / "dataset_dict.json").is_file():
        names = _read_object(folder / "dataset_dict.json").get("splits")
        splits = [child for child in sorted(folder.iterdir()) if isinstance(names, list) and child.name in names]
        return [path for split in splits for path in find_arrow_files(split)]
    files = _read_object(folder / "state.json").get("_data_files")
    present = {path.name: path for path in sorted(folder.glob("*.arrow"))}
    wanted = [str(entry.get("filename")) for entry in files or [] if isinstance(entry, dict)]
    missing = [name for name in wanted if name not in present]
    if missing or not wanted:
        raise ValueError(f"{folder}: state.json names {len(wanted)} files, missing: {', '.join(missing[:3]) or 'none'}")
    return [present[name] for name in wanted]


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a JSON object")
    return values


def cut_image_table(path: Path, column: str | None, num_rows: int) -> list[tuple[int, int | None]]:
    """Cut an Arrow stream or Parquet file between batches or row groups: first row and number of rows of each piece.

    Raises:
        ValueError: as `read_image_table`.
    """
    _find_columns(path, column, ())
    sizes: list[int] = []
    try:
        if path.suffix == ".parquet":
            sizes = row_group_sizes(pq.read_metadata(path))
        else:
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:  # maps the rows, reads none
                sizes.extend(batch.num_rows for batch in reader)
    except (pa.ArrowException, OSError):  # cut short: the last piece starts there, and its reader counts the damage
        pass
    return cut_blocks(sizes, num_rows)


def read_image_table(
    path: Path, column: str | None, text_fields: Sequence[str], piece: Piece, drops: Drops
) -> Iterator[RawImage]:
    """Read the images of a piece of an Arrow stream or Parquet file, in the order of the rows.

    Args:
        column: column of the images (structs with `bytes`, or binary); None: the only one there is.
        piece: first row and number of rows, by `cut_image_table`.

    Raises:
        ValueError: not such a file, or no single column of images. Before the first image.
    """
    image_column, text_columns = _find_columns(path, column, text_fields)
    return _read_rows(path, image_column, text_columns, piece, drops)


def _find_columns(path: Path, column: str | None, text_fields: Sequence[str]) -> tuple[str, list[str]]:
    """Find the column of images, and the columns of texts."""
    try:
        schema = pq.read_schema(path) if path.suffix == ".parquet" else pa.ipc.open_stream(pa.OSFile(str(path))).schema
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not an Arrow stream or Parquet file ({first_line(error)})") from None
    name = column if column is not None else _find_image_column(path, schema)
    if name not in schema.names or not _is_image(schema.field(name).type):
        raise ValueError(f"{path}: no column {name!r} of images; the columns are: {', '.join(map(repr, schema.names))}")
    return name, [field for field in text_fields if field in schema.names and field != name]


def _find_image_column(path: Path, schema: pa.Schema) -> str:
    names = [field.name for field in schema if _is_image(field.type)]
    if len(names) != 1:
        raise ValueError(f"{path}: {len(names)} columns could hold images ({', '.join(names)}); name one")
    return names[0]


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_image(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _read_batches(path: Path, columns: list[str], piece: Piece) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".parquet":
        yield from read_parquet_batches(path, columns, piece, batch_rows=_BATCH_ROWS)
        return
    end = float("inf") if piece.count is None else piece.first + piece.count
    start = 0
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            if start >= end:
                return
            if start >= piece.first:
                for row in range(0, batch.num_rows, _BATCH_ROWS):
                    yield batch.select(columns).slice(row, _BATCH_ROWS)
            start += batch.num_rows


def _read_rows(
    path: Path, image_column: str, text_columns: list[str], piece: Piece, drops: Drops
) -> Iterator[RawImage]:
    number = piece.first + 1
    try:
        for batch in _read_batches(path, [image_column, *text_columns], piece):
            images = batch.column(image_column).to_pylist()
            for cell, texts in zip(images, _read_texts(batch, text_columns, path, number, drops), strict=True):
                where = f"{path.name}: row {number}"
                number += 1
                data = cell.get("bytes") if isinstance(cell, dict) else cell
                if data is None:
                    drops.add("image: no bytes in the table (a path or address only)", where)
                elif len(data) > MAX_FILE_BYTES:
                    drops.add("image: too many bytes", where)
                else:
                    yield RawImage(data=data, where=where, texts=texts)
    except (pa.ArrowException, OSError) as error:
        drops.add("shard: damaged or cut short, read up to there", f"{path.name}: row {number}: {first_line(error)}")


def _read_texts(
    batch: pa.RecordBatch, columns: list[str], path: Path, first: int, drops: Drops
) -> list[tuple[str, ...]]:
    try:
        rows = batch.select(columns).to_pylist() if columns else [{}] * len(batch)
        return [collect_texts(row, columns) for row in rows]
    except UnicodeDecodeError:
        drops.add("text: not UTF-8", f"{path.name}: rows from {first}", len(batch))
        return [()] * len(batch)
