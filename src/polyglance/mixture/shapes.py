"""Choice of a few shapes for micro-batches. A GPU plans and compiles its work for every new shape, so that new lengths
in every micro-batch cost more than the padding to common lengths."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

__all__ = ["Shape", "choose_shapes", "divide_by_length", "find_shape"]

_MULTIPLES = (64, 32, 16, 8, 4, 2, 1)
"""Multiples that lengths are rounded up to; one of them is chosen."""
_ALIGNED = 8
"""From this multiple on a GPU reads rows of half-precision numbers from aligned addresses."""
_GOOD_SHARE = 0.1
"""Largest share of padding in the positions; lengths are only aligned as far as this allows."""
_MAX_OBSERVED = 300
"""Largest number of distinct lengths that shapes are chosen from; more are rounded up more coarsely."""


class Shape(NamedTuple):
    """Lengths that the prompts and the targets of a micro-batch are padded to, in tokens."""

    prompt: int
    target: int


def divide_by_length(lengths: Integer[np.ndarray, "B 2"], num: int) -> Int[np.ndarray, "num K"]:
    """Divide samples into `num` groups of equal size whose prompts and targets are about equally long.

    Halves the samples repeatedly, by the length (prompt or target) whose halves need less padding. The first group is
    the one with the most positions, the last one has the fewest.

    Args:
        lengths: prompt and target tokens of each sample; `num` divides their number.
    """
    size = len(lengths) // num
    groups = np.array(_halve(lengths, np.arange(len(lengths)), num, size)).reshape(num, size)
    positions = lengths[groups].max(1).sum(1)
    return groups[np.argsort(-positions, kind="stable")]


def _halve(
    lengths: Integer[np.ndarray, "B 2"], chosen: Int[np.ndarray, " N"], num: int, size: int
) -> list[Int[np.ndarray, " K"]]:
    if num == 1:
        return [chosen]
    middle = num // 2 * size
    halves = []
    for column in (0, 1):
        # Equal lengths are ordered by the other length, so that the result does not depend on the sort.
        order = chosen[np.lexsort((chosen, lengths[chosen, 1 - column], lengths[chosen, column]))]
        halves.append((order[:middle], order[middle:]))
    positions = [sum(len(half) * int(lengths[half].max(0).sum()) for half in pair) for pair in halves]
    short, long = halves[int(np.argmin(positions))]
    return [*_halve(lengths, short, num // 2, size), *_halve(lengths, long, num - num // 2, size)]


def choose_shapes(
    observed: Integer[np.ndarray, "N 2"], limit: Shape, num_shapes: int, *, image_tokens: int = 0
) -> tuple[Shape, ...]:
    """Choose at most `num_shapes` shapes for micro-batches with these longest prompts and targets.

    Starts from the observed lengths, rounded up, and merges the two shapes whose union costs the least padding, until
    `num_shapes` are left. The last shape is `limit`, which any micro-batch fits into.

    Args:
        image_tokens: tokens before each prompt; it is their sum that is rounded.
    """
    best: tuple[Shape, ...] = (limit,)
    least = math.inf
    for multiple in _MULTIPLES:
        rounded = np.minimum(_round_up(observed, multiple, image_tokens), limit)
        candidates, counts = np.unique(rounded, axis=0, return_counts=True)
        if multiple > _ALIGNED and len(np.unique(observed, axis=0)) <= _MAX_OBSERVED:
            continue
        if len(candidates) > _MAX_OBSERVED:
            break
        shapes = _merge(candidates, counts.astype(np.float64), limit, num_shapes)
        padded = sum(
            sum(find_shape(shapes, *lengths)) * n for lengths, n in zip(candidates.tolist(), counts, strict=True)
        )
        if padded < least:
            best, least = shapes, padded
        if multiple <= _ALIGNED and observed.sum() >= (1 - _GOOD_SHARE) * padded:
            break
    return best


def _merge(
    shapes: Integer[np.ndarray, "N 2"], weights: Float[np.ndarray, " N"], limit: Shape, num_shapes: int
) -> tuple[Shape, ...]:
    """Merge shapes, weighted by their frequency, until there are `num_shapes` together with `limit`."""
    while len(shapes) > max(num_shapes - 1, 1):
        union = np.maximum(shapes[:, None], shapes[None])
        positions = shapes.sum(1) * weights
        added = union.sum(2) * (weights[:, None] + weights) - positions[:, None] - positions
        np.fill_diagonal(added, np.inf)
        first, second = np.unravel_index(int(added.argmin()), added.shape)
        merged, weight = union[first, second], weights[first] + weights[second]
        others = np.delete(np.arange(len(shapes)), [first, second])
        shapes, weights = np.vstack([shapes[others], merged]), np.append(weights[others], weight)
    found = {limit} if num_shapes == 1 else {limit, *(Shape(*shape) for shape in shapes.tolist())}
    return tuple(sorted(found, key=lambda shape: (sum(shape), shape)))


def find_shape(shapes: Sequence[Shape], prompt: int, target: int) -> Shape:
    """Return the smallest of the shapes that these lengths fit into."""
    return min((s for s in shapes if s.prompt >= prompt and s.target >= target), key=sum)


def _round_up(lengths: Integer[np.ndarray, "N 2"], multiple: int, image_tokens: int) -> Int[np.ndarray, "N 2"]:
    before = np.array([image_tokens, 0])
    return -(-(lengths + before) // multiple) * multiple - before
