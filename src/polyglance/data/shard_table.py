"""Rows of shards as Arrow tables: the schema, conversion from and to records, and annotations as columns."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from polyglance.coverage import Task
from polyglance.records import Annotation, ImageRecord, Style

__all__ = [
    "ANNOTATION_TYPE",
    "SHARD_LEAVES",
    "SHARD_SCHEMA",
    "AnnotationTable",
    "get_facts",
    "records_of_table",
    "table_of_records",
]

_REQUIRED = ("task", "language", "text", "style", "origin")
ANNOTATION_TYPE = pa.struct(
    [
        pa.field(name, pa.float64() if name == "score" else pa.string(), nullable=name not in _REQUIRED)
        for name in ("task", "language", "text", "source", "style", "origin", "score")
    ]
)
"""One annotation; the fields are those of `Annotation`, in its order."""
_ANNOTATION_FIELDS = tuple(field.name for field in ANNOTATION_TYPE)
get_facts: Callable[[Annotation], tuple[Any, ...]] = attrgetter(*_ANNOTATION_FIELDS)
"""Return the fields of an annotation, in the order of `ANNOTATION_TYPE`."""
SHARD_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("annotations", pa.list_(ANNOTATION_TYPE), nullable=False),
    ]
)
"""One image with all its annotations per row."""
SHARD_LEAVES = ("key", "image", *(f"annotations.list.element.{name}" for name in _ANNOTATION_FIELDS))
"""Columns of a shard as Parquet stores them."""


class AnnotationTable:
    """Annotations of many images, column by column: a million load in seconds, without an object for each.

        table[row]                                  # annotations of one image, as a tuple of `Annotation`
        list(table)                                 # of every image
        zip(table.rows(), table.task, table.language)   # a pass over all annotations without making objects

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
        """Return the number of images."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[Annotation, ...]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return tuple(self.annotation(index) for index in range(self.offsets[row], self.offsets[row + 1]))

    def __iter__(self) -> Iterator[tuple[Annotation, ...]]:
        return (self[row] for row in range(len(self)))

    def annotation(self, index: int) -> Annotation:
        """Return the annotation at `index` of every column."""
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
        """Return the row number of the image of each annotation."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets)).tolist()


def table_of_records(records: Sequence[ImageRecord]) -> pa.Table:
    """Build the table of `SHARD_SCHEMA` with one row per record."""
    annotations = [annotation for record in records for annotation in record.annotations]
    values = [*zip(*map(get_facts, annotations), strict=True)] or [()] * len(_ANNOTATION_FIELDS)
    structs = pa.StructArray.from_arrays(
        [pa.array(column, f.type) for f, column in zip(ANNOTATION_TYPE, values, strict=True)],
        fields=list(ANNOTATION_TYPE),
    )
    offsets = [0, *accumulate(len(record.annotations) for record in records)]
    columns = [
        pa.array([record.key for record in records], pa.string()),
        pa.array([record.image for record in records], pa.binary()),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=SHARD_SCHEMA.field("annotations").type),
    ]
    return pa.Table.from_arrays(columns, schema=SHARD_SCHEMA)


def records_of_table(table: pa.Table) -> Iterator[ImageRecord]:
    """Yield the records of a table by `table_of_records`, in order."""
    for batch in table.to_batches():
        columns = batch["key"].to_pylist(), batch["image"].to_pylist(), AnnotationTable(batch["annotations"])
        for key, image, annotations in zip(*columns, strict=True):
            yield ImageRecord(key=key, image=image, annotations=annotations)


def _python_values(array: pa.Array) -> list[Any]:
    """Return `array.to_pylist()`, many times faster where values repeat: each distinct one becomes an object once."""
    encoded = array.dictionary_encode(null_encoding="encode")
    distinct = np.array(encoded.dictionary.to_pylist(), dtype=object)
    return distinct[encoded.indices.to_numpy()].tolist()
