"""Images: the right number of objects, apart from each other, where the caption says and in the colour it says."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from polyglance.data.world import LEVELS, Group, LevelName, Scene, render, sample_scene
from polyglance.data.world.layout import ZONES, PlacedGroup, find_zone, place_groups
from polyglance.data.world.render import PALETTE

NAMES = list(PALETTE)
SCENES = st.builds(sample_scene, st.sampled_from(list(LEVELS)), seed=st.integers(0, 2**32), index=st.integers(0, 2**20))


def one(shape: str = "circle", *, size: str = "large", colour: str = "red", number: int = 1, seed: int = 0) -> Scene:
    group = Group(number=number, size=size, colour=colour, shape=shape)
    return Scene(level="full", groups=(group,), relations=(), seed=seed)


def pixels_of(image: NDArray[np.uint8], group: Group) -> NDArray[np.bool_]:
    """Where the image has the group's colour, give or take its jitter, bool [H, W]."""
    distance = np.linalg.norm(image.astype(np.float32) - np.array(PALETTE[group.colour], np.float32), axis=-1)
    return distance < 35


def objects_of(image: NDArray[np.uint8], scene: Scene, index: int) -> NDArray[np.float64]:
    """Centroids (x, y) of a group's objects, measured in the image, float64 [number, 2]."""
    others = {group.colour for i, group in enumerate(scene.groups) if i != index}
    group = scene.groups[index]
    assert group.colour not in others, "colours must tell the groups apart here"
    labels, num = ndimage.label(pixels_of(image, group), structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(labels > 0, labels, range(1, num + 1))
    bodies = [label for label, size in enumerate(sizes, 1) if size > 0.3 * max(sizes)]  # not the pixels of a seam
    return np.array(ndimage.center_of_mass(labels > 0, labels, bodies))[:, ::-1]


def holds(relation: str, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether every object of the first is, by its centroid, in the relation to every object of the second."""
    axis = 0 if relation in ("left of", "right of") else 1
    if relation in ("left of", "above"):
        return first[:, axis].max() < second[:, axis].min()
    return first[:, axis].min() > second[:, axis].max()


@pytest.mark.parametrize("level", LEVELS)
def test_numbers_and_relations_are_true_in_the_pixels(level: LevelName) -> None:
    scenes = [sample_scene(level, 5, index) for index in range(300)]
    scenes = [scene for scene in scenes if len({group.colour for group in scene.groups}) == len(scene.groups)]
    assert len(scenes) > 150
    for scene in scenes:
        image = render(scene, 128)
        objects = [objects_of(image, scene, index) for index in range(len(scene.groups))]
        assert [len(found) for found in objects] == [group.number for group in scene.groups]
        for relation, other in zip(scene.relations, objects[1:], strict=True):
            assert holds(relation, objects[0], other)
            if level == "pairs":  # plainly beside or above, not diagonal
                dx, dy = np.abs(objects[0][0] - other[0])
                assert (dx > dy) == (relation == "left of")


@given(scene=SCENES)
@settings(max_examples=300, deadline=None)
def test_objects_never_overlap_or_leave_the_picture(scene: Scene) -> None:
    size = 32
    boxes = np.zeros((size, size), int)
    for placed in place_groups(scene):
        diameter = int(placed.diameter * size)
        for x, y in placed.centres:
            left, top = round(x * size - diameter / 2), round(y * size - diameter / 2)
            assert 0 <= left <= size - diameter
            assert 0 <= top <= size - diameter
            boxes[top : top + diameter, left : left + diameter] += 1
    assert boxes.max() == 1


@pytest.mark.parametrize("colour", PALETTE)
def test_a_colour_is_nearest_to_its_own_name(colour: str) -> None:
    palette = np.array(list(PALETTE.values()), np.float64)
    for seed in range(50):
        scene = one("square", colour=colour, seed=seed)
        x, y = (int(64 * place) for place in place_groups(scene)[0].centre)
        pixel = render(scene, 64)[y, x].astype(np.float64)
        assert NAMES[np.linalg.norm(palette - pixel, axis=1).argmin()] == colour


@pytest.mark.parametrize("level", LEVELS)
def test_no_background_looks_like_a_colour(level: LevelName) -> None:
    for index in range(100):
        scene = sample_scene(level, 0, index)
        image = render(scene, 64).astype(np.float64)
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        background = corners[np.ptp(corners, axis=1) < 30]  # corners without an object
        for colour in PALETTE.values():
            assert (np.linalg.norm(background - colour, axis=1) > 60).all()


def test_sizes_do_not_run_into_each_other() -> None:
    for name, level in LEVELS.items():
        diameters: dict[str, list[float]] = {size: [] for size in level.diameters}
        for index in range(1000):
            scene = sample_scene(name, 0, index)
            for group, placed in zip(scene.groups, place_groups(scene), strict=True):
                diameters[group.size].append(placed.diameter)
        ranges = [(min(found), max(found)) for found in diameters.values()]
        assert all(smaller[1] * 1.1 < larger[0] for smaller, larger in pairwise(ranges)), name


def test_shapes_differ_even_when_small() -> None:
    images = {}
    for shape in LEVELS["full"].shapes:
        images[shape] = render(one(shape, size="small"), 64).astype(np.float64)
    for a in images:
        for b in images:
            assert a == b or np.abs(images[a] - images[b]).max() > 60, (a, b)


def test_the_same_content_is_drawn_in_many_ways() -> None:
    images = {render(one(seed=seed), 32).tobytes() for seed in range(20)}
    assert len(images) == 20


def test_every_zone_of_the_picture_occurs_and_is_right() -> None:
    found = {find_zone(place_groups(one(size="small", seed=seed))[0]) for seed in range(300)}
    assert found == {name for row in ZONES for name in row}
    places = {"top left": (0.1, 0.2), "centre": (0.5, 0.5), "right": (0.9, 0.6), "bottom": (0.4, 0.7)}
    for name, place in places.items():
        assert find_zone(PlacedGroup(diameter=0.1, centres=(place,))) == name


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size is 16: the world needs 32 pixels or more"):
        render(one(), 16)
