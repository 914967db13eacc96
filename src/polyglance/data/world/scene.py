"""Scenes: groups of equal objects with relations in space; levels of difficulty, sampling, held-out contents."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast, get_args

import numpy as np

from polyglance.languages import did_you_mean

__all__ = [
    "LEVELS",
    "RELATIONS",
    "Content",
    "Group",
    "Level",
    "LevelName",
    "Scene",
    "SplitName",
    "find_level",
    "is_test_content",
    "sample_scene",
]

LevelName = Literal["pairs", "counts", "full"]
SplitName = Literal["train", "test"]
Content = tuple[tuple[int | str, ...], ...]

_SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "arrow")
_COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white", "pink", "brown")
RELATIONS = ("left of", "above", "right of", "below")
_CONVERSE = {"right of": "left of", "below": "above"}
_PURPOSES = {"train": 0, "test": 1}  # numbers of the random streams of scenes


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """Difficulty of a world: the values of its attributes."""

    shapes: tuple[str, ...]
    colours: tuple[str, ...]
    diameters: Mapping[str, float]
    """Size -> diameter of an object, as a fraction of the image's side. Chosen so that the largest groups still fit."""
    numbers: tuple[int, ...]
    """Possible numbers of objects in a group."""
    relations: tuple[str, ...]
    group_shares: tuple[float, ...]
    """Shares of scenes with one, two, three groups; they add up to one."""
    freedom: float = 1.0
    """Largest distance of objects from the middle of their room, as a share of the possible distance."""

    @property
    def num_kinds(self) -> int:
        """Number of different groups."""
        return len(self.shapes) * len(self.colours) * len(self.diameters) * len(self.numbers)

    @property
    def num_scenes(self) -> int:
        """Number of scenes that differ in content, train and test together.

        Two wordings of one content (A left of B, B right of A) count once.

        Groups of a scene differ in shape or colour, so every ordered choice of groups excludes the `alike` groups of
        each earlier one. Two groups are related along one axis; three by two different relations in either order.
        """
        kinds, alike = self.num_kinds, len(self.diameters) * len(self.numbers)
        num_axes = len({_CONVERSE.get(relation, relation) for relation in self.relations})
        arrangements = (1, num_axes, math.comb(len(self.relations), 2))
        total, choices = 0, 1
        for num_others, num_arrangements in enumerate(arrangements[: len(self.group_shares)]):
            choices *= kinds - num_others * alike
            total += choices * num_arrangements
        return total


LEVELS: Mapping[LevelName, Level] = MappingProxyType(
    {
        "pairs": Level(
            shapes=_SHAPES[:5],
            colours=_COLOURS[:8],
            diameters={"small": 0.28, "large": 0.44},
            numbers=(1,),
            relations=RELATIONS[:2],
            group_shares=(0.2, 0.8),
            freedom=0.3,
        ),
        "counts": Level(
            shapes=_SHAPES[:5],
            colours=_COLOURS[:8],
            diameters={"small": 0.18, "large": 0.285},
            numbers=(1, 2, 3),
            relations=RELATIONS,
            group_shares=(0.2, 0.8),
        ),
        "full": Level(
            shapes=_SHAPES,
            colours=_COLOURS,
            diameters={"small": 0.11, "medium": 0.15, "large": 0.205},
            numbers=(1, 2, 3, 4),
            relations=RELATIONS,
            group_shares=(0.1, 0.45, 0.45),
        ),
    }
)
"""The reference figures are measured on `pairs`, which is legible at 32 pixels; `full` needs 64 or more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One to four equal objects that lie together."""

    number: int
    size: str
    colour: str
    shape: str

    def looks_like(self, other: "Group") -> bool:
        """Tell whether "the red circle" could mean either."""
        return self.shape == other.shape and self.colour == other.colour


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Content of an image. Relations are those of the first group to the others."""

    level: LevelName
    groups: tuple[Group, ...]
    relations: tuple[str, ...]
    """Relation of the first group to each other one: groups[0] is relations[i] groups[i + 1]. All differ."""
    seed: int
    """Seed of everything that is not content: exact places, sizes, shades, background."""

    @property
    def content(self) -> Content:
        """All attributes and relations, in a canonical order: equal for scenes that show the same facts."""
        attributes = [(group.number, group.size, group.colour, group.shape) for group in self.groups]
        if len(attributes) == 2 and self.relations[0] in _CONVERSE:
            return (attributes[1], (_CONVERSE[self.relations[0]], *attributes[0]))
        others = zip(self.relations, attributes[1:], strict=True)
        return (attributes[0], *sorted((relation, *group) for relation, group in others))


def find_level(name: str) -> Level:
    """Find the level of this name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name not in get_args(LevelName):
        raise ValueError(f"unknown level {name!r}: {did_you_mean(name, LEVELS)}")
    return LEVELS[cast(LevelName, name)]


def is_test_content(content: Content, share: float) -> bool:
    """Tell whether a content belongs to the test split.

    A hash of the content decides, so the same content is held out whatever the seed, index or level, and a larger share
    holds out a superset.
    """
    digest = hashlib.blake2b(repr(content).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def sample_scene(
    level: LevelName, seed: int, index: int, split: SplitName = "train", *, test_share: float = 0.1
) -> Scene:
    """Sample the scene with this index; a pure function of the arguments.

    Train and test scenes have no content in common (`is_test_content`), whatever their seeds. Contents are drawn again
    until one belongs to the split.

    Args:
        test_share: share of all contents that is held out for the test split; 0 < test_share < 1.

    Raises:
        ValueError: unknown level.
    """
    rules = find_level(level)
    rng = np.random.default_rng([seed, index, _PURPOSES[split]])
    scene_seed = int(rng.integers(2**63))
    while True:
        groups, relations = _draw(rules, rng.random(9).tolist())
        distinct = not any(a.looks_like(b) for i, a in enumerate(groups) for b in groups[:i])
        if distinct:
            scene = Scene(level=level, groups=groups, relations=relations, seed=scene_seed)
            if is_test_content(scene.content, test_share) == (split == "test"):
                return scene


def _draw(level: Level, uniforms: list[float]) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """Draw groups and relations from nine numbers in [0, 1); the groups may still look alike."""
    number, first_relation, second_relation, *kinds = uniforms
    num_groups, share = 1, level.group_shares[0]
    while number >= share and num_groups < len(level.group_shares):
        share += level.group_shares[num_groups]
        num_groups += 1
    relations = list(level.relations)
    chosen = [relations.pop(int(u * len(relations))) for u in (first_relation, second_relation)]
    groups = tuple(_group(level, u) for u in kinds[:num_groups])
    return groups, tuple(chosen[: num_groups - 1])


def _group(level: Level, uniform: float) -> Group:
    rest = int(uniform * level.num_kinds)
    rest, shape = divmod(rest, len(level.shapes))
    rest, colour = divmod(rest, len(level.colours))
    number, size = divmod(rest, len(level.diameters))
    return Group(
        number=level.numbers[number],
        size=list(level.diameters)[size],
        colour=level.colours[colour],
        shape=level.shapes[shape],
    )
