"""Rows of table files: one table, or those of a folder."""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.row_sources.row_source import SAMPLE_ROWS, RowSource, find_image_name
from polyglance.data.sources.raw_images import IMAGE_SUFFIXES
from polyglance.data.sources.source import list_files
from polyglance.delimited import Quoting
from polyglance.tables import TableRow, detect_table_format, read_table, table_columns

__all__ = ["FolderOfTables", "ImageFolder", "OneTable", "find_image_columns"]

_PARQUET_SAMPLE_ROWS = 100


class OneTable(RowSource):
    """One table (`polyglance.tables`).

    Raises:
        ValueError: not a table that can be read.
    """

    def __init__(self, path: Path, *, encoding: str = "auto", quoting: Quoting = "auto") -> None:
        self.path = path
        self.form = detect_table_format(path, encoding=encoding, quoting=quoting)
        self.table_files = (path,)
        self._names = table_columns(path, self.form)
        if self.form.suffix == ".parquet":
            self.image_columns = find_image_columns(pq.read_schema(path))

    def describe(self) -> str:
        return self.form.describe()

    def names(self) -> list[str] | None:
        return self._names

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
        return read_table(self.path, columns=columns, form=self.form)

    def sample(self) -> list[Mapping[str, Any]]:
        if self.form.suffix != ".parquet":
            return super().sample()
        columns = [name for name in self._names or () if name not in self.image_columns]
        rows = self.read(columns) if columns else iter(())
        return [row.values for row in islice(rows, _PARQUET_SAMPLE_ROWS) if not row.problem]


def find_image_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns that are images: a struct with `bytes`, or bytes with a name such as `image` or `jpg`."""
    return tuple(field.name for field in schema if _is_image(field))


def _is_image(field: pa.Field) -> bool:
    if pa.types.is_struct(field.type):
        return any(inner.name == "bytes" and _is_binary(inner.type) for inner in field.type)
    by_name = f".{field.name.lower()}" in IMAGE_SUFFIXES or "image" in field.name.lower()
    return by_name and _is_binary(field.type)


def _is_binary(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


class FolderOfTables(RowSource):
    """The tables of a folder, read one after the other as one.

    Args:
        path: the folder.
        files: its tables, relative to `path`.
    """

    def __init__(self, path: Path, files: Sequence[str], *, encoding: str = "auto", quoting: Quoting = "auto") -> None:
        self.path, self.files = path, tuple(files)
        self.tables = [OneTable(path / name, encoding=encoding, quoting=quoting) for name in files]
        self.table_files = tuple(table.path for table in self.tables)
        self.image_columns = tuple(dict.fromkeys(name for table in self.tables for name in table.image_columns))

    def describe(self) -> str:
        forms = dict.fromkeys(table.describe() for table in self.tables)
        names = ", ".join(self.files[:3]) + ", ..." * (len(self.files) > 3)
        return f"{len(self.tables)} tables ({names}): {'; '.join(forms)}"

    def names(self) -> list[str] | None:
        several = [table.names() for table in self.tables]
        if any(names is None for names in several):
            return None
        return list(dict.fromkeys(name for names in several for name in names or ()))

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
        for name, table in zip(self.files, self.tables, strict=True):
            known = table.names()
            wanted = columns if columns is None or known is None else [one for one in columns if one in known]
            for row in table.read(wanted):
                yield self.place(row, name)

    def place(self, row: TableRow, name: str) -> TableRow:
        """Say where a row is: the file below the folder."""
        return replace(row, where=row.where.replace(posixpath.basename(name), name, 1))

    def sample(self) -> list[Mapping[str, Any]]:
        return [
            self.place(TableRow(where="", values=values), name).values
            for name, table in zip(self.files, self.tables, strict=True)
            for values in table.sample()
        ]


class ImageFolder(FolderOfTables):
    """Hugging Face's `imagefolder`: images with a `metadata.csv`, `.jsonl` or `.parquet` beside or above them, whose
    paths start from its own folder. Files that no row names are counted."""

    def describe(self) -> str:
        return f"images with metadata, {super().describe()}"

    def place(self, row: TableRow, name: str) -> TableRow:
        row = super().place(row, name)
        below, column = posixpath.dirname(name), _find_image_name(row.values)
        if not below or not column:
            return row
        return replace(row, values={**row.values, column: posixpath.join(below, row.values[column])})

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
        named = set(self.files)
        for row in super().read(columns):
            if column := _find_image_name(row.values):
                named.add(posixpath.normpath(row.values[column]))
            yield row
        for name in list_files(self.path):
            if name in named or posixpath.basename(name).startswith("."):
                continue
            problem = "an image that no row of the metadata names"
            if not name.lower().endswith(IMAGE_SUFFIXES):
                problem = "neither an image nor metadata"
            yield TableRow(where=name, values={}, problem=problem)

    def sample(self) -> list[Mapping[str, Any]]:
        return super().sample()[:SAMPLE_ROWS]


def _find_image_name(values: Mapping[str, Any]) -> str:
    """Return the name of the column that has the path of a row's image; empty if none has."""
    return find_image_name(name for name, value in values.items() if isinstance(value, str) and value)
