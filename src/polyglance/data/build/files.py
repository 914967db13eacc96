"""Files of a build's steps: Parquet for what is read whole, Arrow for texts that are looked up, .npy for vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from polyglance.files import replacing

__all__ = ["read_rows", "write_rows", "write_table", "write_vectors"]


def write_rows(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as Parquet. Columns that hold images are left as they are: JPEG and PNG are compressed already."""
    with replacing(path, several_writers=True) as partial:
        compressed = {name: "none" if schema.field(name).type == pa.binary() else "zstd" for name in schema.names}
        flat = {name: how for name, how in compressed.items() if not pa.types.is_nested(schema.field(name).type)}
        pq.write_table(
            pa.Table.from_pylist(list(rows), schema=schema),
            partial,
            compression=flat if len(flat) == len(schema.names) else "zstd",
            write_statistics=False,
        )


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a Parquet file of the build."""
    return pq.read_table(path, columns=None if columns is None else list(columns), use_threads=False).to_pylist()


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as one Arrow batch, which a memory map reads in place."""
    with (
        replacing(path, several_writers=True) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks())


def write_vectors(path: Path, vectors: Float[np.ndarray, "N D"]) -> None:
    """Write vectors as float16, which a memory map reads in place."""
    with replacing(path, several_writers=True) as partial, partial.open("wb") as file:
        np.save(file, vectors.astype(np.float16))
