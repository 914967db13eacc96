"""Places of a scene's objects in the unit square, chosen so that its relations are plainly true.

The groups lie on a small grid: the first in the middle, the others in the neighbouring cells that the relations name.
Columns and rows are as wide as their widest group plus a random share of the spare room, so groups never overlap, and
if a group is left of another, each of its objects is left of every object of the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from polyglance.data.world.scene import LEVELS, Group, Level, Scene

__all__ = ["MIN_IMAGE_SIZE", "ZONES", "PlacedGroup", "find_zone", "place_groups"]

MIN_IMAGE_SIZE = 32
"""Smallest side, in pixels, at which the gap between objects is a whole pixel."""
ZONES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)

_GAP = 1 / MIN_IMAGE_SIZE  # between objects
_SIZE_JITTER = 0.05
_MAX_STRETCH = 1.3  # largest distance of a group's objects, relative to side by side
_ALIGNMENT = 0.8  # share of two related groups' half-widths: keeps "left of" from becoming "left of and below"
_STEP = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1)}  # from the first group to the other
_GRIDS = {1: ((1, 1),), 2: ((1, 2), (2, 1)), 3: ((1, 3), (3, 1), (2, 2)), 4: ((1, 4), (4, 1), (2, 2))}
_PURPOSE = 10  # number of the random stream

_Interval = tuple[float, float]
_Draw = Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedGroup:
    """Places of a group's objects, in fractions of the image's side; y points down."""

    diameter: float
    centres: tuple[tuple[float, float], ...]

    @property
    def centre(self) -> tuple[float, float]:
        """Mean place of the objects."""
        num = len(self.centres)
        return sum(x for x, _ in self.centres) / num, sum(y for _, y in self.centres) / num


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """A group before it is placed: objects around the origin, and the room they need."""

    diameter: float
    offsets: tuple[tuple[float, float], ...]
    extent: tuple[float, float]


@lru_cache(maxsize=64)
def place_groups(scene: Scene) -> tuple[PlacedGroup, ...]:
    """Place every object of the scene, group by group."""
    uniform = iter(np.random.default_rng([scene.seed, _PURPOSE]).random(96).tolist()).__next__
    freedom = LEVELS[scene.level].freedom

    def draw() -> float:
        return 0.5 + (uniform() - 0.5) * freedom

    cells = [(0, 0), *(_STEP[relation] for relation in scene.relations)]
    num_columns, num_rows = (len({cell[axis] for cell in cells}) for axis in (0, 1))
    room = (1 / num_columns, 1 / num_rows)
    blocks = [_arrange(group, LEVELS[scene.level], room, draw) for group in scene.groups]
    tracks = [_divide(cells, blocks, axis, draw) for axis in (0, 1)]
    x, y = (_place_within(tracks[axis][0], blocks[0].extent[axis], draw()) for axis in (0, 1))
    first = (x, y)
    places = [first]
    for cell, block in zip(cells[1:], blocks[1:], strict=True):
        x, y = (_place_beside(axis, cell, block, tracks[axis], first, blocks[0], draw) for axis in (0, 1))
        places.append((x, y))
    return tuple(
        PlacedGroup(diameter=block.diameter, centres=tuple((x + dx, y + dy) for dx, dy in block.offsets))
        for block, (x, y) in zip(blocks, places, strict=True)
    )


def find_zone(group: PlacedGroup) -> str:
    """Find the ninth of the picture in which a group's centre lies."""
    x, y = group.centre
    return ZONES[int(3 * y)][int(3 * x)]


def _arrange(group: Group, level: Level, room: tuple[float, float], draw: _Draw) -> _Block:
    """Arrange the objects of a group on a grid that fits into the room, each somewhere in its own square."""
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


def _divide(cells: list[tuple[int, int]], blocks: list[_Block], axis: int, draw: _Draw) -> dict[int, _Interval]:
    """Divide the picture into columns (axis 0) or rows (axis 1): position -> begin and end."""
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


def _place_within(track: _Interval, extent: float, uniform: float) -> float:
    """Choose the centre of a group with this extent inside its track."""
    low, high = track[0] + extent / 2, track[1] - extent / 2
    return low + uniform * (high - low)


def _place_beside(
    axis: int,
    cell: tuple[int, int],
    block: _Block,
    tracks: dict[int, _Interval],
    first_centre: tuple[float, float],
    first: _Block,
    draw: _Draw,
) -> float:
    """Choose the centre of a group in its track; across the relation's axis it stays near the first group."""
    extent, track = block.extent[axis], tracks[cell[axis]]
    if cell[axis]:
        return _place_within(track, extent, draw())
    reach = _ALIGNMENT * (extent + first.extent[axis]) / 2
    low = max(track[0] + extent / 2, first_centre[axis] - reach)
    high = min(track[1] - extent / 2, first_centre[axis] + reach)
    return low + draw() * (high - low)
