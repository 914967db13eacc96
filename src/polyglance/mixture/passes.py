"""Micro-batches of fixed shapes whose numbers of samples differ: little padding in few shapes.

The longest samples of a step are few. In micro-batches of equal size many other samples would be padded to their
length; here they get a small micro-batch of their own. The division of every step is fixed once, from the lengths in
the first steps of the run: the number of passes, and for each pass the number of samples and the lengths that they are
padded to. In a pass all processes compute a micro-batch of the same shape, so that none waits for another.

The samples of a step are then assigned to passes that they fit into (a flow from samples to passes). The shapes have
room for nearly every step. A step that does not fit into them is divided evenly, and padded to the longest lengths
there can be.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from polyglance.mixture.shapes import Shape, choose_shapes

__all__ = ["Pass", "divide_into_passes", "plan_passes"]

_PASS_POSITIONS = 1000
"""Number of positions that cost as much as one more pass: a pass of the 0.4B model launches some 700 kernels, which
takes about as long as a GPU computes on a thousand positions (at 1,700 samples/s)."""
_MARGIN = 3.0
"""Room for samples, in standard deviations above the mean over the observed steps."""
_MOST_SHAPES = 12
"""Largest number of shapes that samples are assigned to: the planning goes through all their subsets."""
_EVEN_SHAPES = 2
"""Shapes of a step that is divided evenly: two numbers of samples that differ by one."""


class Pass(NamedTuple):
    """A micro-batch of each process: its samples, and the tokens that their prompts and targets are padded to."""

    samples: int
    prompt: int
    target: int

    @property
    def shape(self) -> Shape:
        """Lengths of prompts and targets."""
        return Shape(self.prompt, self.target)


def plan_passes(
    steps: Sequence[Integer[np.ndarray, "B 2"]],
    limit: Shape,
    *,
    num_shapes: int,
    world_size: int,
    max_samples: int,
    image_tokens: int = 0,
) -> tuple[Pass, ...] | None:
    """Plan the passes of every step of a run, the one with the most positions first; None where there are too few
    samples or shapes to separate short from long samples.

    Args:
        steps: prompt and target tokens of the samples of some steps.
        limit: longest possible prompt and target.
        num_shapes: largest number of shapes (samples, prompt, target), including those of steps without a fit.
        max_samples: most samples of a pass: as many of the longest as the device has memory for.
        image_tokens: tokens before each prompt; the sum of both is rounded.
    """
    lengths = np.concatenate(steps)
    for num_lengths in range(min(num_shapes - _EVEN_SHAPES, _MOST_SHAPES), 0, -1):
        shapes = choose_shapes(lengths, limit, num_lengths, image_tokens=image_tokens)
        chosen = _solve(steps, shapes, world_size, max_samples)
        if chosen is None:
            continue
        passes = [Pass(int(size), *shape) for shape, sizes in zip(shapes, chosen, strict=True) for size in sizes]
        if 1 < len(set(passes)) <= num_shapes - _EVEN_SHAPES:
            return tuple(sorted(passes, key=lambda one: (-one.samples * (image_tokens + sum(one.shape)), one)))
    return None


def _solve(
    steps: Sequence[Integer[np.ndarray, "B 2"]], shapes: Sequence[Shape], world_size: int, max_samples: int
) -> list[list[int]] | None:
    """Return, for each shape, the samples of each of its passes in one process: the cheapest choice with room for all.

    By Hall's theorem all samples of a step find room if, for every set of shapes, the samples that fit into no shape
    outside the set are at most as many as the set has room for. So each set is a constraint of an integer programme.
    """
    num_shapes, share = len(shapes), len(steps[0]) // world_size
    demands = np.array([_count_demands(lengths, shapes) for lengths in steps], dtype=np.float64)
    needed = np.maximum(demands.max(0), np.ceil(demands.mean(0) + _MARGIN * demands.std(0)))
    needed = np.minimum(needed, share * world_size)
    sets = np.arange(1 << num_shapes)
    members = ((sets[:, None] >> np.arange(num_shapes)) & 1).astype(np.float64)
    kept = needed > 0
    for shape in range(num_shapes):  # a set that needs no more than one of its subsets adds no constraint
        has = members[:, shape] == 1
        kept &= ~(has & (needed[sets & ~(1 << shape)] >= needed))
    nothing = np.zeros((int(kept.sum()), num_shapes))
    room = LinearConstraint(np.hstack([world_size * members[kept], nothing]), needed[kept], np.inf)
    everything = LinearConstraint(np.repeat([1.0, 0.0], num_shapes), share, share)
    memory = LinearConstraint(np.hstack([np.eye(num_shapes), -max_samples * np.eye(num_shapes)]), -np.inf, 0.0)
    cost = np.append([float(sum(shape)) for shape in shapes], np.full(num_shapes, float(_PASS_POSITIONS)))
    found = milp(
        cost,
        constraints=[room, everything, memory],
        integrality=np.ones(2 * num_shapes),
        bounds=Bounds(0, np.inf),
        options={"mip_rel_gap": 0.005, "node_limit": 10_000},  # no limit of time: the result would depend on the clock
    )
    if found.x is None:
        return None
    samples, passes = np.round(found.x).astype(int).reshape(2, num_shapes).tolist()
    return [_divide_evenly(n, m) for n, m in zip(samples, passes, strict=True)]


def _divide_evenly(num_samples: int, num_passes: int) -> list[int]:
    """Return the samples of each pass."""
    return [(num_samples + index) // num_passes for index in range(num_passes)] if num_samples else []


def _count_demands(lengths: Integer[np.ndarray, "B 2"], shapes: Sequence[Shape]) -> Int[np.ndarray, " S"]:
    """Return, for each set of shapes (bits of its index), the number of samples that fit into no shape outside it."""
    counts = np.bincount(_find_fits(lengths, shapes), minlength=1 << len(shapes))
    for shape in range(len(shapes)):  # sums over subsets, a shape at a time
        halves = counts.reshape(-1, 2, 1 << shape)
        halves[:, 1] += halves[:, 0]
    return counts


def _find_fits(lengths: Integer[np.ndarray, "B 2"], shapes: Sequence[Shape]) -> Int[np.ndarray, " B"]:
    """Return the set of shapes, as bits, that each sample fits into."""
    fits = (lengths[:, None] <= np.array(shapes)[None]).all(2)
    return fits @ (1 << np.arange(len(shapes)))


def divide_into_passes(
    lengths: Integer[np.ndarray, "B 2"], passes: Sequence[Pass], limit: Shape, world_size: int
) -> list[tuple[Int[np.ndarray, " K"], Shape]]:
    """Return, for each micro-batch of a step, its samples and the shape that they are padded to. The micro-batches of
    the first pass come first, one of each process.

    Args:
        lengths: prompt and target tokens of each sample.
        passes: as `plan_passes` plans them.
        limit: longest prompt and target that there can be.
    """
    order = np.lexsort((np.arange(len(lengths)), lengths[:, 0], lengths[:, 1]))
    shapes = sorted({one.shape for one in passes})
    rooms = np.array([world_size * sum(one.samples for one in passes if one.shape == shape) for shape in shapes])
    assigned = _assign(lengths[order], shapes, rooms)
    if assigned is None:
        return [(chosen, limit) for chosen in np.array_split(order[::-1], len(passes) * world_size)]
    micro_batches = []
    dealt = {shape: order[assigned == index] for index, shape in enumerate(shapes)}
    for one in passes:
        for _ in range(world_size):
            waiting = dealt[one.shape]
            # Every n-th sample, so that all micro-batches of a shape have about the same number of target tokens.
            places = np.linspace(0, len(waiting) - 1, one.samples).round().astype(int)
            micro_batches.append((waiting[places], one.shape))
            dealt[one.shape] = np.delete(waiting, places)
    return micro_batches


def _assign(
    lengths: Integer[np.ndarray, "B 2"], shapes: Sequence[Shape], rooms: Integer[np.ndarray, " K"]
) -> Int[np.ndarray, " B"] | None:
    """Return the shape, as an index, that each sample goes to; None if not all find room. Samples that fit into the
    same shapes go to them in their order, the first ones to the first."""
    kinds, kind, counts = np.unique(_find_fits(lengths, shapes), return_inverse=True, return_counts=True)
    first_shape = 1 + len(kinds)
    sink = first_shape + len(shapes)
    fits = (kinds[:, None] >> np.arange(len(shapes))) & 1
    capacity = np.zeros((sink + 1, sink + 1), dtype=np.int32)
    capacity[0, 1:first_shape] = counts
    capacity[1:first_shape, first_shape:sink] = fits * counts[:, None]
    capacity[first_shape:sink, sink] = rooms
    result = maximum_flow(csr_array(capacity), 0, sink)
    if result.flow_value < len(lengths):
        return None
    flow = result.flow.toarray()[1:first_shape, first_shape:sink]
    assigned = np.empty(len(lengths), dtype=np.int64)
    for number, row in enumerate(flow):
        assigned[kind == number] = np.repeat(np.arange(len(shapes)), row)
    return assigned
