"""What a scene is: groups of like objects, related in space; levels of difficulty; sampling; what is held out."""

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
    "is_held_out",
    "level_named",
    "num_scenes",
    "sample_scene",
]

LevelName = Literal["pairs", "counts", "full"]
SplitName = Literal["train", "test"]
Content = tuple[tuple[int | str, ...], ...]

_SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "arrow")
_COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white", "pink", "brown")
RELATIONS = ("left of", "above", "right of", "below")
_CONVERSE = {"right of": "left of", "below": "above"}
_STREAM = {"train": 0, "test": 1}  # the purpose number of a scene's random stream


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """How hard a world is: the values its attributes take."""

    shapes: tuple[str, ...]
    colours: tuple[str, ...]
    diameters: Mapping[str, float]
    """Size -> diameter of an object, as a fraction of the image's side. Chosen so that the largest groups still fit."""
    numbers: tuple[int, ...]
    """How many objects a group may have."""
    relations: tuple[str, ...]
    group_shares: tuple[float, ...]
    """Share of scenes with one, two, three groups; adds up to one."""
    freedom: float = 1.0
    """How far objects stray from the middle of the room they have, as a share of the way there is."""

    @property
    def num_kinds(self) -> int:
        """How many different groups there are."""
        return len(self.shapes) * len(self.colours) * len(self.diameters) * len(self.numbers)

    @property
    def num_scenes(self) -> int:
        """How many scenes differ in content; two ways to say the same (A left of B, B right of A) count once.

        Groups of a scene differ in shape or colour, so every ordered choice of groups excludes the `alike` of the ones
        before. Two groups are related along one of the axes; three by two different relations in either order.
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
"""`pairs` is what the reference figures are for and reads well at 32 pixels; `full` wants 64 or more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One to four objects that look the same and lie together."""

    number: int
    size: str
    colour: str
    shape: str

    def looks_like(self, other: "Group") -> bool:
        """Whether "the red circle" could mean either."""
        return self.shape == other.shape and self.colour == other.colour


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What an image shows. The first group is the one that the relations are told from."""

    level: LevelName
    groups: tuple[Group, ...]
    relations: tuple[str, ...]
    """How the first group lies to each of the others: groups[0] is relations[i] groups[i + 1]. All different."""
    seed: int
    """Of everything that is not content: exact places, sizes, shades, background."""

    @property
    def content(self) -> Content:
        """All attributes and relations, in one canonical order: equal for scenes that show the same facts."""
        attributes = [(group.number, group.size, group.colour, group.shape) for group in self.groups]
        if len(attributes) == 2 and self.relations[0] in _CONVERSE:
            return (attributes[1], (_CONVERSE[self.relations[0]], *attributes[0]))
        others = zip(self.relations, attributes[1:], strict=True)
        return (attributes[0], *sorted((relation, *group) for relation, group in others))


def level_named(name: str) -> Level:
    """The level of that name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name not in get_args(LevelName):
        raise ValueError(f"unknown level {name!r}: {did_you_mean(name, LEVELS)}")
    return LEVELS[cast(LevelName, name)]


def num_scenes(level: LevelName) -> int:
    """How many scenes of a level differ in content (train and test together)."""
    return level_named(level).num_scenes


def is_held_out(content: Content, share: float) -> bool:
    """Whether a content belongs to the test split.

    A hash of the content decides, so that the same content is held out whatever the seed, index or level, and a larger
    share holds out a superset.
    """
    digest = hashlib.blake2b(repr(content).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def sample_scene(
    level: LevelName, seed: int, index: int, split: SplitName = "train", *, test_share: float = 0.1
) -> Scene:
    """The scene with this index: a pure function of the arguments.

    Train and test scenes have no content in common (`is_held_out`), whatever their seeds. Contents are drawn
    again until one falls on the asked side.

    Args:
        test_share: share of all contents that is held out for the test split; 0 < test_share < 1.

    Raises:
        ValueError: unknown level.
    """
    rules = level_named(level)
    rng = np.random.default_rng([seed, index, _STREAM[split]])
    scene_seed = int(rng.integers(2**63))
    while True:
        groups, relations = _draw(rules, rng.random(9).tolist())
        distinct = not any(a.looks_like(b) for i, a in enumerate(groups) for b in groups[:i])
        if distinct:
            scene = Scene(level=level, groups=groups, relations=relations, seed=scene_seed)
            if is_held_out(scene.content, test_share) == (split == "test"):
                return scene


def _draw(level: Level, uniforms: list[float]) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """Groups and relations from nine numbers in [0, 1); the groups may still look alike."""
    how_many, first_relation, second_relation, *kinds = uniforms
    num_groups, share = 1, level.group_shares[0]
    while how_many >= share and num_groups < len(level.group_shares):
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
