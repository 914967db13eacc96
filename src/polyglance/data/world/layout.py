"""Where the objects of a scene lie: places in the unit square that make its relations plainly true.

The groups stand on a small grid: the first in the middle, the others in the neighbouring cells that the relations
name. Columns and rows are as wide as their widest group plus a random part of what is left, so groups never overlap,
and every object of a group that is left of another is left of every object of the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from polyglance.data.world.scene import LEVELS, Group, Level, Scene

__all__ = ["MIN_IMAGE_SIZE", "ZONES", "Placed", "layout", "zone"]

MIN_IMAGE_SIZE = 32
"""Smallest side, in pixels, at which the gap between objects is a whole pixel."""
ZONES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)

_GAP = 1 / MIN_IMAGE_SIZE  # between objects
_SIZE_JITTER = 0.05
_MAX_STRETCH = 1.3  # how far apart the objects of a group may be drawn, over side by side
_ALIGNMENT = 0.8  # of two related groups' half-widths: keeps "left of" from becoming "left of and below"
_STEP = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1)}  # from the first group to the other
_GRIDS = {1: ((1, 1),), 2: ((1, 2), (2, 1)), 3: ((1, 3), (3, 1), (2, 2)), 4: ((1, 4), (4, 1), (2, 2))}
_LAYOUT = 10  # purpose number of the random stream

_Interval = tuple[float, float]
_Draw = Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A group with its places, in fractions of the image's side; y points down."""

    diameter: float
    centres: tuple[tuple[float, float], ...]

    @property
    def centre(self) -> tuple[float, float]:
        """The mean place of the objects."""
        num = len(self.centres)
        return sum(x for x, _ in self.centres) / num, sum(y for _, y in self.centres) / num


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """A group before it has a place: objects around the origin, and the room they need."""

    diameter: float
    offsets: tuple[tuple[float, float], ...]
    extent: tuple[float, float]


@lru_cache(maxsize=64)
def layout(scene: Scene) -> tuple[Placed, ...]:
    """The place of every object of the scene, group by group."""
    uniform = iter(np.random.default_rng([scene.seed, _LAYOUT]).random(96).tolist()).__next__
    freedom = LEVELS[scene.level].freedom

    def draw() -> float:
        return 0.5 + (uniform() - 0.5) * freedom

    cells = [(0, 0), *(_STEP[relation] for relation in scene.relations)]
    num_columns, num_rows = (len({cell[axis] for cell in cells}) for axis in (0, 1))
    room = (1 / num_columns, 1 / num_rows)
    blocks = [_block(group, LEVELS[scene.level], room, draw) for group in scene.groups]
    tracks = [_tracks(cells, blocks, axis, draw) for axis in (0, 1)]
    anchor = (_within(tracks[0][0], blocks[0].extent[0], draw()), _within(tracks[1][0], blocks[0].extent[1], draw()))
    places = [anchor]
    for cell, block in zip(cells[1:], blocks[1:], strict=True):
        x, y = (_beside(axis, cell, block, tracks[axis], anchor, blocks[0], draw) for axis in (0, 1))
        places.append((x, y))
    return tuple(
        Placed(diameter=block.diameter, centres=tuple((x + dx, y + dy) for dx, dy in block.offsets))
        for block, (x, y) in zip(blocks, places, strict=True)
    )


def zone(placed: Placed) -> str:
    """The ninth of the picture that a group's centre lies in."""
    x, y = placed.centre
    return ZONES[int(3 * y)][int(3 * x)]


def _block(group: Group, level: Level, room: tuple[float, float], draw: _Draw) -> _Block:
    """The objects of a group on a grid that fits into the room, each somewhere in its own square."""
    diameter = level.diameters[group.size] * (1 + _SIZE_JITTER * (2 * draw() - 1))
    pitch = diameter + _GAP
    fitting = [
        (columns, rows)
        for columns, rows in _GRIDS[group.number]
        if columns * pitch <= room[0] and rows * pitch <= room[1]
    ]
    columns, rows = fitting[int(draw() * len(fitting))]
    stretch = min(_MAX_STRETCH, room[0] / (columns * pitch), room[1] / (rows * pitch))
    pitch *= 1 + draw() * (stretch - 1)
    squares = [(column, row) for row in range(rows) for column in range(columns)]
    while len(squares) > group.number:
        squares.pop(int(draw() * len(squares)))
    slack = pitch - diameter - _GAP
    offsets = tuple(
        (
            (column + 0.5 - columns / 2) * pitch + slack * (draw() - 0.5),
            (row + 0.5 - rows / 2) * pitch + slack * (draw() - 0.5),
        )
        for column, row in squares
    )
    return _Block(diameter=diameter, offsets=offsets, extent=(columns * pitch, rows * pitch))


def _tracks(cells: list[tuple[int, int]], blocks: list[_Block], axis: int, draw: _Draw) -> dict[int, _Interval]:
    """Columns (axis 0) or rows (axis 1): where each begins and ends."""
    needs: dict[int, float] = {}
    for cell, block in zip(cells, blocks, strict=True):
        needs[cell[axis]] = max(needs.get(cell[axis], 0.0), block.extent[axis])
    shares = {position: 0.05 + draw() for position in needs}
    spare = (1 - sum(needs.values())) / sum(shares.values())
    tracks, start = {}, 0.0
    for position in sorted(needs):
        end = start + needs[position] + spare * shares[position]
        tracks[position] = (start, end)
        start = end
    return tracks


def _within(track: _Interval, extent: float, uniform: float) -> float:
    """A centre for something of that extent, inside the track."""
    low, high = track[0] + extent / 2, track[1] - extent / 2
    return low + uniform * (high - low)


def _beside(
    axis: int,
    cell: tuple[int, int],
    block: _Block,
    tracks: dict[int, _Interval],
    anchor: tuple[float, float],
    first: _Block,
    draw: _Draw,
) -> float:
    """A centre for a group in its track; across the relation's axis it stays near the first group."""
    extent, track = block.extent[axis], tracks[cell[axis]]
    if cell[axis]:
        return _within(track, extent, draw())
    reach = _ALIGNMENT * (extent + first.extent[axis]) / 2
    low = max(track[0] + extent / 2, anchor[axis] - reach)
    high = min(track[1] - extent / 2, anchor[axis] + reach)
    return low + draw() * (high - low)
