"""Scenes: pure functions of seed and index, counted exactly, with contents held out for the test."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.data.world import (
    LEVELS,
    Group,
    Level,
    LevelName,
    Scene,
    SplitName,
    is_test_content,
    sample_scene,
)

LEVEL = st.sampled_from(list(LEVELS))


def all_contents(level: Level, max_groups: int) -> set[tuple[tuple[int | str, ...], ...]]:
    """Every content of a level, by trying everything that can be said."""
    kinds = [
        Group(number=number, size=size, colour=colour, shape=shape)
        for number in level.numbers
        for size in level.diameters
        for colour in level.colours
        for shape in level.shapes
    ]
    contents = set()
    for num_groups in range(1, max_groups + 1):
        for groups in itertools.product(kinds, repeat=num_groups):
            if any(a.looks_like(b) for a, b in itertools.combinations(groups, 2)):
                continue
            for relations in itertools.permutations(level.relations, num_groups - 1):
                contents.add(Scene(level="full", groups=groups, relations=relations, seed=0).content)
    return contents


def test_num_scenes_is_what_enumeration_finds() -> None:
    assert LEVELS["pairs"].num_scenes == len(all_contents(LEVELS["pairs"], 2)) == 12_560
    tiny = Level(
        shapes=("circle", "star"),
        colours=("red", "blue"),
        diameters={"small": 0.1, "large": 0.2},
        numbers=(1,),
        relations=LEVELS["full"].relations,
        group_shares=(0.2, 0.4, 0.4),
    )
    assert tiny.num_scenes == len(all_contents(tiny, 3))


@given(level=LEVEL, seed=st.integers(0, 2**63), index=st.integers(0, 2**40), split=st.sampled_from(["train", "test"]))
@settings(max_examples=200, deadline=None)
def test_a_scene_is_a_pure_function_and_well_formed(level: LevelName, seed: int, index: int, split: SplitName) -> None:
    scene = sample_scene(level, seed, index, split)
    assert scene == sample_scene(level, seed, index, split)
    rules = LEVELS[level]
    assert len(scene.relations) == len(scene.groups) - 1 < len(rules.group_shares)
    assert len(set(scene.relations)) == len(scene.relations)
    assert set(scene.relations) <= set(rules.relations)
    assert len({(group.shape, group.colour) for group in scene.groups}) == len(scene.groups)
    assert all(group.number in rules.numbers and group.size in rules.diameters for group in scene.groups)
    assert all(group.colour in rules.colours and group.shape in rules.shapes for group in scene.groups)


def test_a_scene_stays_the_same_from_version_to_version() -> None:
    scene = sample_scene("full", 1, 1, "test")
    assert scene.content == (
        (2, "large", "brown", "circle"),
        ("above", 1, "small", "orange", "cross"),
        ("right of", 1, "large", "orange", "heart"),
    )
    assert scene.seed == 7276836281480426796


def test_seed_index_and_split_matter() -> None:
    scenes = {
        sample_scene("full", seed, index, split) for seed in (0, 1) for index in (0, 1) for split in ("train", "test")
    }
    assert len(scenes) == 8


@pytest.mark.parametrize("level", LEVELS)
def test_test_contents_are_never_trained(level: LevelName) -> None:
    train = {sample_scene(level, 0, index, "train").content for index in range(4000)}
    test = {sample_scene(level, 1, index, "test").content for index in range(1000)}
    assert not train & test
    assert len(test) > 500


def test_the_share_of_contents_is_held_out_and_grows_monotonically() -> None:
    contents = all_contents(LEVELS["pairs"], 2)
    tenth = {content for content in contents if is_test_content(content, 0.1)}
    third = {content for content in contents if is_test_content(content, 1 / 3)}
    assert len(tenth) / len(contents) == pytest.approx(0.1, abs=0.01)
    assert len(third) / len(contents) == pytest.approx(1 / 3, abs=0.01)
    assert tenth < third


def test_a_converse_relation_is_the_same_content() -> None:
    red = Group(number=1, size="small", colour="red", shape="circle")
    blue = Group(number=2, size="large", colour="blue", shape="star")
    green = Group(number=1, size="large", colour="green", shape="heart")

    def content(groups: tuple[Group, ...], *relations: str) -> object:
        return Scene(level="full", groups=groups, relations=relations, seed=0).content

    assert content((red, blue), "left of") == content((blue, red), "right of")
    assert content((red, blue), "above") == content((blue, red), "below")
    assert content((red, blue), "above") != content((red, blue), "below")
    assert content((red, blue, green), "above", "left of") == content((red, green, blue), "left of", "above")


def test_every_attribute_value_is_drawn_about_equally_often() -> None:
    level, num = LEVELS["full"], 3000
    scenes = [sample_scene("full", 0, index) for index in range(num)]
    shares = Counter(len(scene.groups) for scene in scenes)
    for num_groups, share in enumerate(level.group_shares, 1):
        assert shares[num_groups] / num == pytest.approx(share, abs=0.03)
    groups = [group for scene in scenes for group in scene.groups]
    for name, values in [
        ("shape", level.shapes),
        ("colour", level.colours),
        ("size", level.diameters),
        ("number", level.numbers),
    ]:
        counts = Counter(getattr(group, name) for group in groups)
        for value in values:
            assert counts[value] / len(groups) == pytest.approx(1 / len(values), rel=0.15)


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(ValueError, match="unknown level 'pair': did you mean 'pairs'"):
        sample_scene("pair", 0, 0)
