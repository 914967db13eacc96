import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polyglance.images import ImageError, encode_image, to_rgb

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG made by hand, with a header that may claim anything."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """Something with structure: red to the right, green downwards, blue in the lower right corner."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / width, 255 * y / height, 255 * ((x > width / 2) & (y > height / 2))], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def pixels(data: bytes, **options) -> np.ndarray:
    image = to_rgb(data, **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def colours(data: bytes, **options) -> list[tuple[int, int, int]]:
    return [tuple(map(int, pixel)) for pixel in pixels(data, **options).reshape(-1, 3)]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_plain_pixels_come_back(kind):
    data = file_of(photo(), kind, lossless=True) if kind == "WEBP" else file_of(photo(), kind)
    assert np.array_equal(pixels(data), np.asarray(photo()))


def test_transparency_lies_over_the_background():
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))  # a fifth
    assert colours(file_of(image, "PNG")) == [RED, WHITE, (204, 204, 204)]
    assert colours(file_of(image, "PNG"), background=(10, 20, 30)) == [RED, (10, 20, 30), (8, 16, 24)]


def test_grey_with_alpha_and_grey_with_one_transparent_value():
    image = Image.new("LA", (2, 1), (100, 255))
    image.putpixel((1, 0), (100, 0))
    assert colours(file_of(image, "PNG")) == [(100, 100, 100), WHITE]
    keyed = png(2, 1, colour=0, rows=b"\0\x64\x07", extra=chunk(b"tRNS", b"\0\x07"))
    assert colours(keyed) == [(100, 100, 100), WHITE]
    keyed = png(2, 1, colour=2, rows=b"\0\1\2\3\xff\0\0", extra=chunk(b"tRNS", b"\0\1\0\2\0\3"))
    assert colours(keyed) == [WHITE, RED]


@pytest.mark.parametrize("alphas", [b"\xff\x00", b"\xff\x00\x80"])
def test_palette_with_transparency(alphas):
    palette = chunk(b"PLTE", bytes([*RED, *GREEN, *BLUE]))
    data = png(3, 1, colour=3, rows=b"\0\0\1\2", extra=palette + chunk(b"tRNS", alphas))
    third = BLUE if len(alphas) == 2 else (127, 127, 255)
    assert colours(data) == [RED, WHITE, third]
    assert colours(png(3, 1, colour=3, rows=b"\0\0\1\2", extra=palette)) == [RED, GREEN, BLUE]


def test_one_bit_and_eight_bit_grey():
    assert colours(file_of(Image.fromarray(np.array([[True, False]])), "PNG")) == [WHITE, BLACK]
    assert colours(file_of(Image.new("L", (1, 1), 77), "JPEG")) == [(77, 77, 77)]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    values = np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)
    assert colours(file_of(Image.fromarray(values), kind)) == [(v, v, v) for v in (0, 0, 1, 1, 128, 255)]


def test_sixteen_bit_grey_with_one_transparent_value():
    rows = b"\0" + struct.pack(">HH", 32896, 4)
    data = png(2, 1, depth=16, colour=0, rows=rows, extra=chunk(b"tRNS", struct.pack(">H", 4)))
    assert colours(data) == [(128, 128, 128), WHITE]


def test_sixteen_bit_colour_keeps_its_high_byte():
    assert colours(png(1, 1, depth=16, rows=b"\0" + struct.pack(">HHH", 0xFF00, 0x8012, 0))) == [(255, 128, 0)]


def test_cmyk_jpeg():
    image = photo().convert("CMYK")
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels(file_of(image, "JPEG", quality=95, subsampling=0)) - expected).mean() < 4


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, ["RG", "BW"]),
        (2, ["GR", "WB"]),
        (3, ["WB", "GR"]),
        (4, ["BW", "RG"]),
        (5, ["RB", "GW"]),
        (6, ["BR", "WG"]),
        (7, ["WG", "BR"]),
        (8, ["GW", "RB"]),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_rotation_noted_by_the_camera_is_applied(kind, orientation, expected):
    """Corners: the stored picture is red, green / blue, white; expected by the EXIF specification."""
    stored = Image.fromarray(np.array([[RED, GREEN], [BLUE, WHITE]], dtype=np.uint8)).resize(
        (96, 64), Image.Resampling.NEAREST
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = to_rgb(file_of(stored, kind, exif=exif, **options))
    assert image.size == ((96, 64) if orientation < 5 else (64, 96))
    name = {RED: "R", GREEN: "G", BLUE: "B", WHITE: "W"}
    quarters = [
        [tuple(255 if part > 127 else 0 for part in image.getpixel((x, y))) for x in (8, image.width - 8)]
        for y in (8, image.height - 8)
    ]
    assert ["".join(name[colour] for colour in row) for row in quarters] == expected


def test_an_orientation_that_makes_no_sense_is_ignored():
    for content in (
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage",
        b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\x0a\xff",
    ):
        data = file_of(photo(), "JPEG", exif=content)
        assert to_rgb(data).size == photo().size


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_an_animation_is_its_first_frame(kind):
    first, second = Image.new("RGB", (4, 4), WHITE), Image.new("RGB", (4, 4), BLACK)
    data = file_of(first, kind, save_all=True, append_images=[second])
    assert Image.open(BytesIO(data)).n_frames == 2
    assert set(colours(data)) == {WHITE}
    stored, _ = encode_image(data)
    assert Image.open(BytesIO(stored)).format == "PNG"
    assert getattr(Image.open(BytesIO(stored)), "n_frames", 1) == 1
    assert set(colours(stored)) == {WHITE}


def code_of(data: bytes, **options) -> str:
    with pytest.raises(ImageError) as caught:
        to_rgb(data, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageError) as again:
        encode_image(data, **options)
    assert again.value.code == caught.value.code
    return caught.value.code


def test_no_bytes():
    assert code_of(b"") == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"<html>not found</html>",
    ],
)
def test_not_an_image(data):
    assert code_of(data) == "not an image"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "unsupported format"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "unsupported format"),
        (b"\0\0\0\x20ftypavif", "unsupported format"),
        (b"<?xml version='1.0'?><svg></svg>", "unsupported format"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"GIF89a\0\0\0\0\0\0\0;", "damaged"),
        (png(0, 5), "damaged"),
        (png(5, 0), "damaged"),
    ],
)
def test_an_image_that_cannot_be_read_is_told_from_what_is_none(data, code):
    assert code_of(data) == code


def test_a_bomb_is_refused_by_its_header():
    assert code_of(png(60000, 60000)) == "too many pixels"
    assert code_of(png(12000, 12000)) == "too many pixels"
    assert code_of(png(12000, 12000), max_pixels=2**29) == "truncated"  # let through, there is nothing behind it


def test_the_limit_on_pixels_is_exact():
    data = file_of(photo(10, 7), "PNG")
    assert to_rgb(data, max_pixels=70).size == (10, 7)
    assert code_of(data, max_pixels=69) == "too many pixels"


def test_a_small_header_over_a_large_frame_is_refused():
    """A GIF whose screen is 1 x 1 and whose first frame is 30000 x 30000."""
    frame = b",\0\0\0\0" + struct.pack("<HH", 30000, 30000) + b"\0\x02\x02\x44\x01\0;"
    data = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6) + frame
    assert code_of(data) == "too many pixels"
    small = data.replace(struct.pack("<HH", 30000, 30000), struct.pack("<HH", 300, 300))
    assert code_of(small, max_pixels=300 * 300 - 1) == "too many pixels"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_truncated(kind):
    data = file_of(photo(640, 480), kind)
    assert code_of(data[: len(data) // 2]) in ("truncated", "damaged")
    if kind in ("JPEG", "PNG", "BMP"):
        assert code_of(data[: len(data) // 2]) == "truncated"


def test_a_damaged_checksum():
    data = bytearray(png(1, 1, rows=b"\0\1\2\3", extra=chunk(b"PLTE", b"\0\0\0")))
    data[-20] ^= 0xFF
    assert code_of(bytes(data)) == "damaged"


def test_pixels_that_have_no_colour():
    for values in (np.array([[-5, 70000]], dtype=np.int32), np.array([[0.5, 0.1]], dtype=np.float32)):
        assert code_of(file_of(Image.fromarray(values), "TIFF")) == "unsupported pixels"


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 80}), ("JPEG", {"progressive": True})])
def test_a_plain_file_is_kept_byte_for_byte(kind, options):
    data = file_of(photo(), kind, **options)
    stored, rgb = encode_image(data, max_side=48)
    assert stored is data
    assert rgb.tobytes() == to_rgb(data).tobytes()


def odd_files() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = photo().convert("RGBA")
    alpha.putalpha(photo().getchannel("R"))
    return {
        "rotated": file_of(photo(), "JPEG", exif=exif),
        "cmyk": file_of(photo().convert("CMYK"), "JPEG"),
        "grey": file_of(photo().convert("L"), "JPEG"),
        "alpha": file_of(alpha, "PNG"),
        "palette": file_of(photo().quantize(16), "PNG"),
        "keyed": png(2, 1, rows=b"\0\1\2\3\xff\0\0", extra=chunk(b"tRNS", b"\0\1\0\2\0\3")),
        "webp": file_of(alpha, "WEBP"),
    }


@pytest.mark.parametrize("name", odd_files())
def test_anything_else_is_stored_as_what_it_shows(name):
    data = odd_files()[name]
    stored, rgb = encode_image(data, background=(9, 8, 7))
    image = Image.open(BytesIO(stored))
    assert (image.format, image.mode, dict(image.getexif())) == ("PNG", "RGB", {})
    assert image.tobytes() == rgb.tobytes() == to_rgb(data, background=(9, 8, 7)).tobytes()


def test_large_images_are_reduced_in_proportion():
    stored, rgb = encode_image(file_of(photo(480, 320), "JPEG"), max_side=48)
    assert rgb.size == (48, 32) == Image.open(BytesIO(stored)).size
    assert np.abs(np.asarray(rgb).astype(int) - np.asarray(photo()).astype(int)).mean() < 6
    assert encode_image(file_of(photo(1000, 1), "PNG"), max_side=10)[1].size == (10, 1)


def test_no_warning_escapes_and_the_filters_are_as_before():
    palette = chunk(b"PLTE", bytes([*RED, *GREEN, *BLUE]))
    warned = png(3, 1, colour=3, rows=b"\0\0\1\2", extra=palette + chunk(b"tRNS", b"\xff\0"))
    files = [warned, png(12000, 12000), file_of(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")] * 20
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(BytesIO(files[1]))  # Pillow does warn of these

    def decode(data: bytes) -> None:
        with suppress(ImageError):
            to_rgb(data)

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, files))
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="still an error"):
        warnings.warn("still an error", stacklevel=1)


SEEDS = [*odd_files().values(), *(file_of(photo(9, 9), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"))]


@settings(deadline=None, max_examples=400)
@given(
    data=st.binary(max_size=300)
    | st.builds(
        lambda seed, place, noise, cut: (seed[: place % len(seed)] + noise + seed[place % len(seed) + len(noise) :])[
            : cut or None
        ],
        st.sampled_from(SEEDS),
        st.integers(0, 5000),
        st.binary(max_size=8),
        st.integers(0, 5000),
    )
)
def test_wild_bytes_are_an_image_or_an_image_error(data):
    try:
        image = to_rgb(data, max_pixels=10**6)
    except ImageError:
        return
    assert image.mode == "RGB"
    stored, rgb = encode_image(data, max_pixels=10**6)
    assert to_rgb(stored, max_pixels=10**6).tobytes() == rgb.tobytes() == image.tobytes()


ODD = Path(__file__).parent / "odd_images"


@pytest.mark.parametrize(
    ("name", "values"), [("grey12.tif", [0, 64, 129, 194, 255]), ("grey16_white0.tif", [255, 190, 125, 60, 0])]
)
def test_grey_of_a_tiff_is_decoded_by_its_tags(name, values):
    pixels = np.asarray(to_rgb((ODD / name).read_bytes()))
    assert pixels[0, [0, 16, 32, 48, 63], 0].tolist() == values


@pytest.mark.parametrize(("name", "number"), [("g2trns.png", 4), ("rgb16trns.png", 8)])
def test_a_colour_key_makes_its_pixels_transparent(name, number):
    pixels = np.asarray(to_rgb((ODD / name).read_bytes(), background=(1, 2, 3)))
    assert (pixels == (1, 2, 3)).all(axis=-1).sum() == number


@pytest.mark.parametrize("kind", range(5))
def test_a_colour_key_of_16_bits_is_compared_whole_under_every_filter(kind):
    random = np.random.default_rng(kind)
    samples = random.integers(0, 2, (5, 7, 3)) * 256 + random.integers(0, 2, (5, 7, 3))
    samples[0, 0] = key = (256, 1, 257)
    encoded = samples.astype(">u2").view(np.uint8).reshape(5, 7, 6).astype(int)
    rows = b""
    for y in range(5):
        above = encoded[y - 1] if y else np.zeros((7, 6), int)
        left, corner = (np.concatenate([np.zeros((1, 6), int), it[:-1]]) for it in (encoded[y], above))
        far = [np.abs(left + above - corner - it) for it in (left, above, corner)]
        paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
        predicted = [0 * left, left, above, (left + above) // 2, paeth][kind]
        rows += bytes([kind]) + ((encoded[y] - predicted) % 256).astype(np.uint8).tobytes()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)), (b"tRNS", struct.pack(">3H", *key))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    transparent = (np.asarray(to_rgb(data, background=(200, 200, 200))) == 200).all(axis=-1)
    assert (transparent == (samples == key).all(axis=-1)).all()


def test_a_jpeg_without_its_end_is_read_only_if_every_scan_line_is_there():
    data = (ODD / "noeoi.jpg").read_bytes()
    stored, rgb = encode_image(data)
    assert stored == data + b"\xff\xd9"
    assert rgb.tobytes() == Image.open(BytesIO(stored)).convert("RGB").tobytes()
    for num_bytes in (1, 2, 7, 40, 300, len(data) // 2):
        assert code_of(data[:-num_bytes]) == "truncated"


def test_signed_samples_are_left_out():
    file = BytesIO()
    Image.new("I;16", (4, 4)).save(file, "TIFF", tiffinfo={339: 2})
    assert code_of(file.getvalue()) == "unsupported pixels"
