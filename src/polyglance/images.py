"""Decoding of image files to upright RGB pixels. Every failure is an `ImageError`.

Pillow decodes. This module adds the rules:

- transparency is shown over a given background
- the rotation noted by a camera is applied
- 16-bit grey is scaled and not clipped
- the first frame of an animation is taken
- the number of pixels is checked from the header before decoding
- colour profiles are not applied
"""

import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from polyglance.error_text import first_line
from polyglance.image_tags import ImageError, decode_by_tags, scale_grey

__all__ = ["IMAGE_FORMATS", "MAX_PIXELS", "ImageError", "encode_image", "picture_to_rgb", "to_reduced_rgb", "to_rgb"]

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read. They are fewer than Pillow's: some of Pillow's formats start other programs."""
MAX_PIXELS = 2**26
"""Default limit on width times height (8192 x 8192)."""
_WHITE = (255, 255, 255)

_DECODER_ERRORS = (
    OSError,
    SyntaxError,  # Pillow's own for a broken PNG
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""Errors that Pillow's decoders are known to raise on damaged files, because they do not wrap internal errors."""
_OTHER_FORMATS = {
    "JPEG 2000": rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
    "HEIF or AVIF": rb".{4}ftyp(heic|heix|hevc|mif1|msf1|avif|avis)",
    "JPEG XL": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "PSD": rb"8BPS",
    "ICO": rb"\x00\x00[\x01\x02]\x00",
    "SVG": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg",
    "PDF": rb"%PDF",
    "PostScript": rb"%!PS",
    "PNM": rb"P[1-7]\s",
}
"""Format that is not read -> first bytes of its files."""
_UNSUPPORTED = re.compile("unsupported|not supported|not configured|unknown raw mode", re.IGNORECASE)
"""Messages of Pillow about files that may be intact but are not supported."""
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transposition that makes the image upright (EXIF 2.32, tag 0x0112)."""


def to_rgb(data: bytes, *, background: tuple[int, int, int] = _WHITE, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file to upright RGB pixels.

    Args:
        data: an image file in one of `IMAGE_FORMATS`.
        background: what shows through where the image is transparent, 0 to 255 each.
        max_pixels: largest width times height; Pillow's own limit (179 million) holds as well.

    Raises:
        ImageError: not an image, damaged, or too large; `code` says which.
    """
    with _without_warnings():
        try:
            image = _load(data, max_pixels)
        except ImageError as error:
            image = _load(_add_end_of_jpeg(data, error), max_pixels)
        return _rgb(image, background)


def picture_to_rgb(picture: Image.Image) -> Image.Image:
    """Return the upright RGB pixels of a picture that is already open, on white where it is transparent.

    Raises:
        ImageError: pixels that cannot be read as RGB, or a file behind the picture that is damaged.
    """
    with _without_warnings():
        try:
            picture.load()
        except _DECODER_ERRORS as error:
            raise _error_of(error) from None
        return _rgb(picture, _WHITE)


def to_reduced_rgb(
    data: bytes, min_side: int, *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, tuple[float, float]]:
    """Decode as `to_rgb`, but a large upright JPEG at a half, quarter or eighth of its size, which is much faster.

    Args:
        data, max_pixels: as for `to_rgb`; the bound is on the whole image's pixels.
        min_side: neither side is made smaller than this, in pixels.

    Returns:
        The image, and the width and height of its valid part in pixels: if the size is not divisible, the last column
            and row are only partly covered by the original.

    Raises:
        ImageError: as `to_rgb`.
    """
    with _without_warnings():
        image = _opened(data, max_pixels)
        drafted = None if _orientation(image) in _UPRIGHT else image.draft(None, (min_side, min_side))
        try:
            rgb = _rgb(_decoded(image, data), _WHITE)
        except ImageError as error:
            drafted, rgb = None, _rgb(_load(_add_end_of_jpeg(data, error), max_pixels), _WHITE)
        width, height = rgb.size if drafted is None else drafted[1][2:]
        return rgb, (float(width), float(height))


def encode_image(
    data: bytes,
    *,
    background: tuple[int, int, int] = _WHITE,
    max_pixels: int = MAX_PIXELS,
    max_side: int | None = None,
) -> tuple[bytes, Image.Image]:
    """Return an image file for storage, and its pixels: a reader that only decodes the file gets those of `to_rgb`.

    A plain upright RGB JPEG or PNG is kept as it is, byte for byte (its metadata too); anything else becomes a PNG.

    Args:
        data, background, max_pixels: as for `to_rgb`.
        max_side: largest length of the longer side, in pixels; larger images are reduced.

    Returns:
        The file, and the RGB pixels that it decodes to.

    Raises:
        ImageError: as `to_rgb`.
    """
    with _without_warnings():
        try:
            image = _load(data, max_pixels)
        except ImageError as error:
            data = _add_end_of_jpeg(data, error)
            image = _load(data, max_pixels)
        rgb = _rgb(image, background)
        reduced = max_side is not None and max(rgb.size) > max_side
        if _is_plain(image) and not reduced:
            return data, rgb
        if max_side is not None and reduced:
            rgb.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        file = BytesIO()
        rgb.save(file, "PNG")
        return file.getvalue(), rgb


def _load(data: bytes, max_pixels: int) -> Image.Image:
    """Decode the first frame, after a check of its size."""
    return _decoded(_opened(data, max_pixels), data)


def _opened(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    if not data:
        raise ImageError("empty", "the image has no bytes")
    try:
        image = Image.open(BytesIO(data), formats=IMAGE_FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels", str(error)) from None
    except _DECODER_ERRORS as error:
        raise _error_of(error) from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError("too many pixels", f"{width} x {height} pixels, at most {max_pixels} are allowed")
    return image


def _decoded(image: ImageFile.ImageFile, data: bytes) -> Image.Image:
    try:
        return decode_by_tags(image, data)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels", str(error)) from None
    except _DECODER_ERRORS as error:
        raise _error_of(error) from None


def _unidentified(data: bytes) -> ImageError:
    """Describe a file that Pillow cannot identify: the kind of image that it is, or that it is none."""
    for name, start in _OTHER_FORMATS.items():
        if re.match(start, data[:256], re.DOTALL):
            return ImageError("unsupported format", f"{name}; {', '.join(IMAGE_FORMATS)} can be read")
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return ImageError("unsupported pixels", "a TIFF of a kind that cannot be read, or one whose header is damaged")
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")) or (
        data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    ):
        return ImageError("damaged", "the header cannot be read")
    start = data[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return ImageError("not an image", "a pointer of Git LFS; `git lfs pull` fetches the image")
    if start.startswith((b"<!doctype html", b"<html")):
        return ImageError("not an image", "an HTML page (an error or a sign-in page); the image was not downloaded")
    return ImageError("not an image", f"not an image that can be read as {', '.join(IMAGE_FORMATS)}")


def _add_end_of_jpeg(data: bytes, error: ImageError) -> bytes:
    """Add the end marker that a JPEG lacks, if every scan line is there.

    If data is missing, the decoder continues with the bytes that follow. So other endings give the same pixels only if
    nothing is missing.

    Raises:
        ImageError: `error`, if scan lines are missing.
    """
    if error.code != "truncated" or not data.startswith(b"\xff\xd8") or data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise error
    try:
        decoded = []
        for ending in (b"", b"\x5a\xa5" * 256, b"\xc3\x3c" * 256):
            image = Image.open(BytesIO(data + ending + b"\xff\xd9"), formats=("JPEG",))
            if image.info.get("progressive"):  # a missing scan would not be noticed
                raise error
            decoded.append(image.convert("RGB").tobytes())
    except _DECODER_ERRORS:
        raise error from None
    if len(set(decoded)) > 1:
        raise error
    return data + b"\xff\xd9"


def _error_of(error: BaseException) -> ImageError:
    message = first_line(error)
    code = "truncated" if isinstance(error, EOFError) or "truncated" in message.lower() else "damaged"
    return ImageError("unsupported pixels" if _UNSUPPORTED.search(message) else code, message)


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    try:
        if image.mode == "F":
            raise ValueError("the values of black and white are not known")
        flat = scale_grey(image) if image.mode.startswith("I") else image
        if flat.has_transparency_data:
            flat = flat.convert("RGBA")
            canvas = Image.new("RGB", flat.size, background)
            canvas.paste(flat, mask=flat.getchannel("A"))
            flat = canvas
        rgb = flat if flat.mode == "RGB" else flat.convert("RGB")
    except _DECODER_ERRORS as error:
        raise ImageError("unsupported pixels", f"mode {image.mode} cannot be read as RGB ({error})") from None
    turn = _UPRIGHT.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) if it is absent or cannot be read."""
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:
        return 1


def _is_plain(image: Image.Image) -> bool:
    return (
        image.format in ("JPEG", "PNG")
        and image.mode == "RGB"
        and not image.has_transparency_data
        and not getattr(image, "is_animated", False)
        and _orientation(image) not in _UPRIGHT
    )


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters = warnings.catch_warnings()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings (large images, odd metadata): a file is either accepted or an `ImageError`.

    `warnings.catch_warnings` changes the filters of the whole process, so threads that decode at the same time share
    one change: the first thread to enter makes the change, the last to leave undoes it.
    """
    global _quiet_depth, _quiet_filters
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.simplefilter("ignore")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.__exit__(None, None, None)
