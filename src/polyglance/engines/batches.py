"""Many records in batches, with results in the order of the records."""

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["by_length", "in_batches"]

T = TypeVar("T")
R = TypeVar("R")


def in_batches(items: Sequence[T], call: Callable[[list[T]], Sequence[R]], *, batch_size: int) -> list[R]:
    """What `call` makes of each item, given `batch_size` at a time."""
    return [
        made for first in range(0, len(items), batch_size) for made in call(list(items[first : first + batch_size]))
    ]


def by_length(texts: Sequence[str], call: Callable[[list[str]], Sequence[R]], *, batch_size: int) -> list[R]:
    """The same for texts, of which those of like length are given together: it pads least."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    made = dict(zip(order, in_batches([texts[place] for place in order], call, batch_size=batch_size), strict=True))
    return [made[place] for place in range(len(texts))]
