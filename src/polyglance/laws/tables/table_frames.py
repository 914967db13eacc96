"""Columns of objects in memory: frames of pandas and polars, Arrow tables, lists of records, dicts of columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["arrow_columns", "columns_of", "convert_column", "flatten_record", "record_columns"]

Columns = dict[str, Sequence[Any] | NDArray[Any]]


def columns_of(data: Any) -> Columns:
    """Return name -> cells. A named index of pandas is a column too.

    Raises:
        ValueError: another kind of object, or two columns of one name.
    """
    if isinstance(data, Mapping):
        return _collect((_name(name), column) for name, column in data.items())
    if hasattr(data, "collect_schema") and hasattr(data, "collect"):
        raise ValueError("the table is a lazy frame of polars; pass frame.collect()")
    if hasattr(data, "column_names") and hasattr(data, "schema"):  # pyarrow.Table, RecordBatch
        return arrow_columns(data)
    if hasattr(data, "columns") and hasattr(data, "reset_index"):  # pandas
        if any(name is not None for name in data.index.names):
            data = data.reset_index()
        return _collect((_name(name), data.iloc[:, i]) for i, name in enumerate(data.columns))
    if hasattr(data, "columns") and hasattr(data, "iter_columns"):  # polars
        return _collect(zip(data.columns, data.iter_columns(), strict=True))
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return record_columns(data)
    raise ValueError(
        f"the table is {type(data).__name__}; expected a Table, a frame of pandas or polars, an Arrow table, a list of "
        "records (dicts), or a dict of columns"
    )


def record_columns(records: Sequence[Any]) -> Columns:
    """Return the columns of records; a column may begin in any of them, and a record in a cell becomes columns with a
    dot in their names (`config.lr`).

    Raises:
        ValueError: an entry is not a dict.
    """
    cells: dict[str, list[Any]] = {}
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise ValueError(f"record {number + 1} is {type(record).__name__}, not a dict of columns")
        for name, value in flatten_record(record).items():
            column = cells.setdefault(name, [])
            column.extend([None] * (number - len(column)))
            column.append(value)
    return {name: [*column, *[None] * (len(records) - len(column))] for name, column in cells.items()}


def flatten_record(record: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return a record without records in its cells: {"config": {"lr": 1}} is {"config.lr": 1}.

    Raises:
        ValueError: two columns of one name.
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{prefix}{_name(key)}"
        inner = flatten_record(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
        if twice := sorted(flat.keys() & inner.keys()):
            raise ValueError(f"the column {twice[0]!r} occurs twice")
        flat |= inner
    return flat


def arrow_columns(table: Any) -> Columns:
    """Return the columns of an Arrow table: arrays where they are numbers without gaps, otherwise Python values."""
    return _collect((name, table.column(i)) for i, name in enumerate(table.column_names))


def _collect(columns: Any) -> Columns:
    """Return name -> cells of (name, series or array) pairs; refuse a name that occurs twice."""
    collected: Columns = {}
    for name, column in columns:
        if name in collected:
            raise ValueError(f"the column {name!r} occurs twice")
        collected[name] = convert_column(name, column)
    return collected


def convert_column(name: str, column: Any) -> Sequence[Any] | NDArray[Any]:
    """Return one column as an array of numbers or a list of Python values; a missing cell is None or NaN."""
    if hasattr(column, "to_pylist"):
        return _arrow_cells(column)
    if isinstance(column, np.ndarray):
        if column.ndim != 1:
            raise ValueError(f"column {name!r} is not one-dimensional")
        return column.tolist() if isinstance(column, np.ma.MaskedArray) else column
    if hasattr(column, "to_list"):  # pandas, polars
        cells = column.to_list()
    elif isinstance(column, Sequence) and not isinstance(column, str | bytes):
        cells = list(column)
    else:
        raise ValueError(f"column {name!r} is {type(column).__name__}; expected a list or an array")
    for kind in (float, int):
        if cells and all(type(cell) is kind for cell in cells):
            try:
                return np.array(cells, dtype=float if kind is float else np.int64)
            except OverflowError:
                return cells
    return [None if repr(cell) in ("<NA>", "NaT") else cell for cell in cells]


def _arrow_cells(column: Any) -> Sequence[Any] | NDArray[Any]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _arrow_cells(column.cast(kind.value_type))
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and column.null_count == 0:
        return np.asarray(column.to_numpy())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):  # texts of older writers
        try:
            return _arrow_cells(column.cast(pa.large_string()))
        except pa.ArrowException:
            pass
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):  # dates out of Python's range
        return list(column.cast(pa.string()).to_pylist())


def _name(name: Any) -> str:
    """Return a column's name as text; the levels of a multi-level name are joined by a dot."""
    return ".".join(str(part) for part in name if str(part)) if isinstance(name, tuple) else str(name)
