"""Files of a build's steps: Parquet for rows, Arrow for texts that are looked up by number, .npy for vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

__all__ = ["read_rows", "read_text_table", "write_records", "write_rows", "write_text_table", "write_vectors"]


def write_rows(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as Parquet. Columns of images are not compressed: JPEG and PNG are already."""
    compressed = {name: "none" if schema.field(name).type == pa.binary() else "zstd" for name in schema.names}
    flat = {name: codec for name, codec in compressed.items() if not pa.types.is_nested(schema.field(name).type)}
    pq.write_table(
        pa.Table.from_pylist(list(rows), schema=schema),
        path,
        compression=flat if len(flat) == len(schema.names) else "zstd",
        write_statistics=False,
    )


def write_records(path: Path, schema: pa.Schema, records: Sequence[Any]) -> None:
    """Write dataclass instances as Parquet; the schema's names are their fields."""
    write_rows(path, schema, [{name: getattr(record, name) for name in schema.names} for record in records])


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Read the rows of a file by `write_rows`; only some columns if they are named."""
    return pq.read_table(path, columns=None if columns is None else list(columns), use_threads=False).to_pylist()


def write_text_table(path: Path, table: pa.Table) -> None:
    """Write a table as one Arrow batch, which `read_text_table` reads in place."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def read_text_table(path: Path) -> pa.Table:
    """Map a table into memory; only the pages that are looked at are read."""
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()


def write_vectors(path: Path, vectors: Float[np.ndarray, "N D"]) -> None:
    """Write vectors as float16, which `Embeddings` reads in place."""
    with path.open("wb") as file:
        np.save(file, vectors.astype(np.float16))
