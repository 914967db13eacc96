"""Reduced decoding: nearly the published pixels, never fewer than twice the asked ones to filter."""

import io

import numpy as np
import pytest
from PIL import Image

from polyglance.images import ImageError, to_reduced_rgb
from polyglance.mixture.images import square_pixels


def picture(width: int, height: int, kind: str = "JPEG", **options: object) -> bytes:
    """Smooth blocks of colour with some noise, as photographs have."""
    random = np.random.default_rng(width)
    blocks = random.integers(0, 256, (height // 24, width // 24, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    noisy = (smooth + random.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, kind, **options)
    return file.getvalue()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = ((one.astype(float) - other.astype(float)) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize(
    ("size", "kind", "least_db"),
    [
        ((640, 512), "JPEG", 40),
        ((651, 523), "JPEG", 40),
        ((100, 90), "JPEG", 55),
        ((640, 512), "PNG", 55),
        ((48, 48), "PNG", 55),
        ((2400, 2000), "PNG", 55),  # so large that Pillow holds it in several pieces
    ],
)
def test_reduced_pixels_are_nearly_the_published_ones(size: tuple[int, int], kind: str, least_db: float) -> None:
    image = picture(*size, kind)
    exact, reduced = square_pixels(image, 64), square_pixels(image, 64, "reduced")
    assert exact.shape == reduced.shape == (64, 64, 3)
    assert exact.dtype == reduced.dtype == np.uint8
    assert psnr(exact, reduced) > least_db
    expected = Image.open(io.BytesIO(image)).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.array_equal(exact, np.asarray(expected))


@pytest.mark.parametrize("size", [(100, 90), (48, 40), (500, 49), (64, 500), (1, 1), (2400, 2000)])
def test_the_fast_filter_is_pillows_to_two_levels(size: tuple[int, int]) -> None:
    colours = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG", compress_level=0)
    exact, reduced = (square_pixels(file.getvalue(), 64, decode).astype(int) for decode in ("exact", "reduced"))
    assert abs(exact - reduced).max() <= 2
    assert abs(exact - reduced).mean() <= 0.2


def test_pixels_of_the_asked_size_are_not_touched() -> None:
    image = picture(64, 64, "PNG")
    assert np.array_equal(square_pixels(image, 64, "reduced"), np.asarray(Image.open(io.BytesIO(image))))


@pytest.mark.parametrize(
    ("least", "expected"), [(512, (640, 512)), (256, (320, 256)), (129, (320, 256)), (10, (80, 64))]
)
def test_a_jpeg_is_decoded_no_smaller_than_asked(least: int, expected: tuple[int, int]) -> None:
    reduced, extent = to_reduced_rgb(picture(640, 512), least)
    assert reduced.size == extent == expected
    assert to_reduced_rgb(picture(640, 512, "PNG"), least)[0].size == (640, 512)


def test_what_a_reduced_image_shows_of_its_last_pixels_is_told() -> None:
    reduced, extent = to_reduced_rgb(picture(651, 523), 128)
    assert reduced.size == (163, 131)
    assert extent == (651 / 4, 523 / 4)


def test_a_reduced_image_is_upright_and_bounded_all_the_same() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture(640, 512, exif=exif)
    assert to_reduced_rgb(image, 100)[0].size == (512, 640)
    assert psnr(square_pixels(image, 64), square_pixels(image, 64, "reduced")) > 40
    with pytest.raises(ImageError, match="640 x 512 pixels"):
        to_reduced_rgb(image, 100, max_pixels=1000)
