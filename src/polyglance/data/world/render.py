"""Pixels of scenes: anti-aliased shapes on a slightly varying grey."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from polyglance.data.world.layout import MIN_IMAGE_SIZE, place_groups
from polyglance.data.world.scene import Scene

__all__ = ["PALETTE", "render"]

PALETTE: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (215, 35, 35),
        "blue": (40, 75, 220),
        "green": (35, 150, 55),
        "yellow": (240, 222, 45),
        "orange": (240, 132, 25),
        "purple": (125, 40, 165),
        "black": (18, 18, 18),
        "white": (242, 242, 242),
        "pink": (240, 150, 195),
        "brown": (115, 65, 30),
    }
)
"""Colour -> sRGB. A rendered object is nearer to its own entry than to any other."""

_COLOUR_JITTER = 12  # no entry of the palette is nearer to 0 or 255
_GREY = (118, 158)  # range of backgrounds, on which both black and white stand out
_TINT = 8
_SLOPE = 10
_SUPERSAMPLING = 8
_PURPOSE = 11  # number of the random stream

_Points = list[tuple[float, float]]


def render(scene: Scene, image_size: int = MIN_IMAGE_SIZE) -> NDArray[np.uint8]:
    """Render a scene: uint8 [image_size, image_size, 3], a pure function of the arguments.

    Raises:
        ValueError: the image is too small for a gap between objects.
    """
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(f"image_size is {image_size}: the world needs {MIN_IMAGE_SIZE} pixels or more")
    rng = np.random.default_rng([scene.seed, _PURPOSE])
    canvas = _draw_background(rng, image_size)
    for group, placed in zip(scene.groups, place_groups(scene), strict=True):
        colour = np.asarray(PALETTE[group.colour] + rng.uniform(-_COLOUR_JITTER, _COLOUR_JITTER, 3), np.float32)
        diameter = int(placed.diameter * image_size)  # rounded down, so that the gap of a pixel is never lost
        mask = _mask(group.shape, diameter)
        for x, y in placed.centres:
            left, top = round(x * image_size - diameter / 2), round(y * image_size - diameter / 2)
            patch = canvas[top : top + diameter, left : left + diameter]
            patch += mask * (colour - patch)
    return (canvas + 0.5).astype(np.uint8)


def _draw_background(rng: np.random.Generator, image_size: int) -> NDArray[np.float32]:
    """Draw a grey with a slight tint and slope, float32 [image_size, image_size, 3]."""
    colour = rng.uniform(*_GREY) + rng.uniform(-_TINT, _TINT, 3)
    slope_x, slope_y = rng.uniform(-_SLOPE, _SLOPE, 2).astype(np.float32)
    ramp = _ramp(image_size)[:, None]
    row = colour.astype(np.float32) + slope_x * ramp
    return row + (slope_y * ramp)[:, :, None]


@cache
def _ramp(image_size: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, image_size, dtype=np.float32)


@cache
def _mask(shape: str, diameter: int) -> NDArray[np.float32]:
    """Return the share of each pixel that the shape covers, float32 [diameter, diameter, 1]."""
    fine = diameter * _SUPERSAMPLING
    image = Image.new("L", (fine, fine))
    outline = [((1 + x) * fine / 2 - 0.5, (1 + y) * fine / 2 - 0.5) for x, y in _OUTLINES[shape]]
    ImageDraw.Draw(image).polygon(outline, fill=1)
    blocks = np.asarray(image, np.float32).reshape(diameter, _SUPERSAMPLING, diameter, _SUPERSAMPLING)
    return blocks.mean(axis=(1, 3))[:, :, None]


def _around(radii: list[float]) -> _Points:
    """Return points at equal angles around the centre, the first straight up; the radii repeat from the start."""
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    return [(float(r * np.sin(a)), float(-r * np.cos(a))) for r, a in zip(radii, angles, strict=True)]


def _heart() -> _Points:
    """Return the classic parametric heart curve, scaled into the unit square."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    y = 2 * (y - y.min()) / (y.max() - y.min()) - 1
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _cross(arm: float) -> _Points:
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    return [*quarter, *((-y, x) for x, y in quarter), *((-x, -y) for x, y in quarter), *((y, -x) for x, y in quarter)]


_OUTLINES: Mapping[str, _Points] = {
    "circle": _around([1.0] * 64),
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -1), (1, 0.85), (-1, 0.85)],
    "star": _around([1.0, 0.42] * 5),
    "heart": _heart(),
    "cross": _cross(0.32),
    "diamond": [(0, -1), (0.65, 0), (0, 1), (-0.65, 0)],
    "arrow": [(-1, -0.28), (0.1, -0.28), (0.1, -0.9), (1, 0), (0.1, 0.9), (0.1, 0.28), (-1, 0.28)],
}
"""Corners in the square from -1 to 1, y down."""
