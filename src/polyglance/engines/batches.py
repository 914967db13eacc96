"""Records in batches, with results in the order of the records."""

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["by_length", "in_batches"]

T = TypeVar("T")
R = TypeVar("R")


def in_batches(items: Sequence[T], call: Callable[[list[T]], Sequence[R]], *, batch_size: int) -> list[R]:
    """Return the results of `call` for all items, `batch_size` at a time."""
    return [
        result for first in range(0, len(items), batch_size) for result in call(list(items[first : first + batch_size]))
    ]


def by_length(texts: Sequence[str], call: Callable[[list[str]], Sequence[R]], *, batch_size: int) -> list[R]:
    """Do the same for texts, grouped by similar length so that there is little padding."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    results = in_batches([texts[row] for row in order], call, batch_size=batch_size)
    by_row = dict(zip(order, results, strict=True))
    return [by_row[row] for row in range(len(texts))]
