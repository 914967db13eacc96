"""Sums of the pieces of a shard, beside it: `00000.sums`. Each column of each row group is checked when it is read.

Parquet's own checksums cover only the content of pages, not the headers of pages or the footer, which has the positions
of everything. The pieces are the columns of the row groups, cut into blocks, and the footer: all of the file.
"""

import hashlib
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.block_sums import CheckedFile, sum_pieces
from polyglance.data.location import Location
from polyglance.files import replacing

__all__ = ["SUMS_SUFFIX", "open_checked_shard", "write_shard_sums"]

SUMS_SUFFIX = ".sums"
_BLOCK_BYTES = 2**16
"""Largest piece, except for the footer."""
_PIECE = np.dtype([("start", "<u8"), ("sum", "<u4")])


def write_shard_sums(path: Path) -> bytes:
    """Write the sums of a shard beside it; return the content of their file."""
    metadata, size_bytes = pq.read_metadata(path), path.stat().st_size
    ends = {0}
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            ends |= {start, start + column.total_compressed_size}
    edges = sorted(ends)
    starts = [at for first, end in pairwise(edges) for at in range(first, end, _BLOCK_BYTES)]
    pieces = np.zeros(len(starts) + 1, _PIECE)
    pieces["start"] = [*starts, edges[-1]]
    with path.open("rb") as file:
        pieces["sum"] = sum_pieces(file, pieces["start"].tolist(), size_bytes)
    content = pieces.tobytes()
    with replacing(path.with_suffix(SUMS_SUFFIX)) as partial:
        partial.write_bytes(content)
    return content


def open_checked_shard(path: Location, *, size_bytes: int, sums_sha256: str) -> pq.ParquetFile:
    """Open a shard whose pieces are compared with their sums as they are read.

    Args:
        size_bytes: size of the shard, as the manifest says.
        sums_sha256: digest of its sums, as the manifest says.

    Raises:
        OSError: the sums, the footer or, later, what is read is damaged.
    """
    name = path.name.removesuffix(".parquet") + SUMS_SUFFIX
    content = (path.parent / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != sums_sha256:
        raise OSError(0, f"{name}, the sums of its pieces, is damaged")
    pieces = np.frombuffer(content, _PIECE)
    source = pa.OSFile(str(path)) if isinstance(path, Path) else path.open("rb")
    if source.seek(0, os.SEEK_END) != size_bytes:
        raise OSError(0, f"{source.tell()} bytes, the manifest says {size_bytes}")
    file = CheckedFile(source, pieces["start"], pieces["sum"], size_bytes=size_bytes, name=path.name)
    # Only the footer is read: a Parquet reader would also read and check what is before it.
    file.seek(file.last_start)
    metadata = pq.read_metadata(pa.BufferReader(file.read()))
    # A few large reads for an object store; for a disk what is asked for, so that damage costs nothing beside it.
    is_remote = not isinstance(path, Path)
    return pq.ParquetFile(pa.PythonFile(file, mode="r"), metadata=metadata, pre_buffer=is_remote)
