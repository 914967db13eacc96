"""Decoding by all tags of an image file. Pillow ignores some tags; such images are decoded rightly here, or refused."""

import logging
import os
import re
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile

__all__ = ["ImageError", "decode_by_tags", "scale_grey"]


class ImageError(ValueError):
    """An image that cannot be used."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """Short reason, by which images are counted: `empty`, `not an image`, `unsupported format`, `too many pixels`,
        `truncated`, `damaged` or `unsupported pixels`."""


_BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _PLANAR, _FILL_ORDER = 258, 259, 262, 273, 284, 266
_TILES, _EXTRA, _SAMPLE_FORMAT, _SUBSAMPLING = 322, 338, 339, 530
"""Tags of TIFF (TIFF 6.0)."""
_UNCOMPRESSED, _WHITE_IS_ZERO, _YCBCR, _PLANES, _LOW_BIT_FIRST, _ASSOCIATED_ALPHA = 1, 0, 6, 2, 2, 1
"""Values of these tags."""
_OF_LIBTIFF = re.compile(rb"(tempfile\.tif|\w+(Decode\w*|Decompress|Cleanup|PreDecode)|_?(TIFF|tiff|JPEG|OJPEG)\w*): ")
"""Starts of the lines that libtiff prints on stderr: its default file name, or one of its functions."""
_OF_LOST_PIXELS = re.compile(r"Decode|Decompress|FillStrip|FillTile|ReadProc")
"""Functions of libtiff whose messages mean that pixels are missing. Other messages concern tags that are not used."""


def decode_by_tags(image: ImageFile.ImageFile, file: bytes) -> Image.Image:
    """Load the pixels of an image that Pillow has opened; `file` is what it was opened from.

    Raises:
        ImageError: pixels that Pillow would decode differently than the tags say, or that are missing.
        OSError and others: what Pillow raises.
    """
    if image.format == "TIFF":
        return _load_tiff(image)
    if image.format == "BMP":
        _check_bitmap(image, file)
    frame = image.tile[0][1] if image.format == "GIF" and image.tile else None
    image.load()
    if image.format == "PNG":
        return _with_colour_key(image, file)
    if frame is not None and frame != (0, 0, *image.size) and "transparency" not in image.info:
        return _clear_around(image, frame)
    return image


def _load_tiff(image: ImageFile.ImageFile) -> Image.Image:
    _check_tiff(image)
    if not image.tile or image.tile[0][0] != "libtiff":
        image.load()
        return image
    with _messages_of_libtiff() as messages:
        try:
            image.load()
        except OSError as error:
            cause: Exception | None = error
        else:
            cause = None
    lost = [message for message in messages if _OF_LOST_PIXELS.search(message.partition(":")[0])]
    if any("not configured" in message for message in messages):
        raise ImageError("unsupported pixels", messages[0])
    if lost or (cause and messages):
        raise ImageError("damaged", (lost or messages)[0])
    if cause:
        raise cause
    return image


def _tiff_tags(image: Image.Image) -> dict[int, tuple[int, ...]]:
    """Return tag -> values of a TIFF; empty for other formats."""
    found = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if found is None:
        return {}
    wanted = (_BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _PLANAR, _FILL_ORDER, _TILES, _EXTRA, _SAMPLE_FORMAT)
    values = {tag: found.get(tag) for tag in (*wanted, _SUBSAMPLING)}
    return {tag: value if isinstance(value, tuple) else (value,) for tag, value in values.items() if value is not None}


def _check_tiff(image: Image.Image) -> None:
    """Refuse the TIFFs that Pillow decodes differently than their tags say."""
    tags = _tiff_tags(image)
    bits, planar, extra = tags.get(_BITS, (1,)), tags.get(_PLANAR, (1,))[0], tags.get(_EXTRA, ())
    is_ycbcr = tags.get(_PHOTOMETRIC) == (_YCBCR,)
    if any(kind in (2, 6) for kind in tags.get(_SAMPLE_FORMAT, (1,))):
        raise ImageError("unsupported pixels", "signed samples, of which black and white are not known")
    is_uncompressed = tags.get(_COMPRESSION, (_UNCOMPRESSED,)) == (_UNCOMPRESSED,)
    if planar == _PLANES and (len(bits) > 1 or is_uncompressed):
        if any(number % 8 or (number > 8 and len(bits) > 1) for number in bits):
            raise ImageError("unsupported pixels", f"planes of {bits[0]} bits")
        is_grey_with_alpha, is_inverted = image.mode in ("LA", "La"), tags.get(_PHOTOMETRIC) == (_WHITE_IS_ZERO,)
        if is_ycbcr or is_grey_with_alpha or is_inverted or tags.get(_FILL_ORDER) == (_LOW_BIT_FIRST,):
            raise ImageError("unsupported pixels", "planes of grey and alpha, white is zero, YCbCr, or low bit first")
    if image.mode in ("LA", "La") and _ASSOCIATED_ALPHA in extra:
        raise ImageError("unsupported pixels", "grey that was multiplied by its alpha")
    if is_ycbcr and is_uncompressed and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1):
        raise ImageError("unsupported pixels", "YCbCr of fewer colour samples than pixels, without compression")
    if _TILES in tags and _STRIPS in tags and is_uncompressed:
        raise ImageError("unsupported pixels", "tiles whose places are stored as those of strips")
    if _TILES in tags and is_uncompressed and any(number % 8 for number in bits):
        raise ImageError("unsupported pixels", f"tiles of {bits[0]} bits without compression")


@contextmanager
def _messages_of_libtiff() -> Iterator[list[str]]:
    """Collect the lines that libtiff prints on stderr; they name neither the file nor the program.

    Pillow offers no way to receive them, so stderr is redirected to a temporary file during the block. Other lines are
    passed on afterwards.
    """
    messages: list[str] = []
    with _stderr_lock, tempfile.TemporaryFile() as file:
        try:
            stderr = os.dup(2)
        except OSError:  # a process without stderr
            yield messages
            return
        os.dup2(file.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file:
                if _OF_LIBTIFF.match(line):
                    messages.append(line.decode(errors="replace").strip())
                else:
                    os.write(2, line)


_stderr_lock = threading.Lock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors are also raised, and its log lines name no file


def _check_bitmap(image: Image.Image, file: bytes) -> None:
    """Refuse a BMP with an alpha channel that Pillow ignores, and runs that leave the picture."""
    if len(file) < 70:
        return
    header_size, width, height = struct.unpack_from("<Iii", file, 14)
    bits, compression = struct.unpack_from("<HI", file, 28)
    if header_size >= 56 and compression == 3 and image.mode == "RGB" and any(file[66:70]):
        raise ImageError("unsupported pixels", f"a BMP of {bits} bits with alpha")
    if header_size >= 40 and compression in (1, 2) and bits in (4, 8):
        _check_runs(file, bits, width, abs(height))


def _check_runs(file: bytes, bits: int, width: int, height: int) -> None:
    """Refuse runs of an RLE4 or RLE8 bitmap that leave the picture; a row may be padded to four pixels."""
    place, x, y = struct.unpack_from("<I", file, 10)[0], 0, 0
    while place + 2 <= len(file):
        number, value = file[place : place + 2]
        place += 2
        if number == 0 and value == 1:
            return
        if number == 0 and value == 0:
            x, y = 0, y + 1
        elif number == 0 and value == 2:
            x, y = x + sum(file[place : place + 1]), y + sum(file[place + 1 : place + 2])
            place += 2
        else:
            x += number or value
            place += 0 if number else 2 * -(-value * bits // 16)
        if x > width + 3 or y > height:
            raise ImageError("damaged", f"a run leads to column {x} of {width}, row {y} of {height}")


def _clear_around(image: Image.Image, frame: tuple[int, int, int, int]) -> Image.Image:
    """Make the part that the first frame of a GIF does not cover transparent, as browsers do. Pillow fills it with a
    colour."""
    alpha = Image.new("L", image.size, 0)
    alpha.paste(255, frame)
    cleared = image.convert("RGB")
    cleared.putalpha(alpha)
    cleared.format = image.format
    return cleared


def _with_colour_key(image: Image.Image, file: bytes) -> Image.Image:
    """Convert the colour key of a PNG to the scale of the decoded pixels, or to an alpha channel."""
    key = image.info.get("transparency")
    depth, kind = file[24], file[25]  # the header is the first chunk (PNG specification, section 11.2.1)
    if isinstance(key, int) and kind == 0 and depth < 8:
        grey = image.convert("L")
        grey.info["transparency"] = (key & ((1 << depth) - 1)) * 255 // ((1 << depth) - 1)
        grey.format = image.format
        return grey
    if isinstance(key, tuple) and kind == 2 and depth == 16:
        high = np.asarray(image.convert("RGB")) == np.array(key) >> 8
        if not high.all(axis=-1).any():
            image.info.pop("transparency")
            return image
        alpha = np.where((_png_samples(file) == np.array(key)).all(axis=-1), 0, 255).astype(np.uint8)
        image.info.pop("transparency")
        image.putalpha(Image.fromarray(alpha))
    return image


def _png_samples(file: bytes) -> np.ndarray:
    """Return all 16 bits of the samples of an RGB PNG, shape (height, width, 3). Pillow keeps only eight bits."""
    width, height = struct.unpack(">II", file[16:24])
    if file[28] or width * height > 2**22:
        raise ImageError("unsupported pixels", "a colour key of 16 bits in an interlaced or large PNG")
    packed, place = b"", 8
    while place + 8 <= len(file):
        size, name = struct.unpack(">I4s", file[place : place + 8])
        packed += file[place + 8 : place + 8 + size] if name == b"IDAT" else b""
        place += 12 + size
    rows = np.frombuffer(zlib.decompress(packed), np.uint8)[: height * (6 * width + 1)].reshape(height, -1)
    above = np.zeros((width + 1, 6), np.int64)
    samples = np.empty((height, width, 6), np.uint8)
    for number, row in enumerate(rows):
        above = _unfilter(int(row[0]), row[1:].reshape(width, 6).astype(np.int64), above)
        samples[number] = above[1:]
    return samples.reshape(height, width, 3, 2).astype(np.int64) @ np.array([256, 1])


def _unfilter(kind: int, row: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Undo a PNG filter (PNG specification, section 9): row (width, 6), above (width + 1, 6) with zeros at its left."""
    line = np.zeros_like(above)
    if kind in (0, 2):
        line[1:] = row + (above[1:] if kind == 2 else 0)
    elif kind == 1:
        line[1:] = np.cumsum(row, axis=0)
    else:
        for x in range(1, len(line)):
            left, up, corner = line[x - 1], above[x], above[x - 1]
            if kind == 3:
                predicted = (left + up) // 2
            else:
                far = [np.abs(left + up - corner - neighbour) for neighbour in (left, up, corner)]
                predicted = np.where(
                    (far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], up, corner)
                )
            line[x] = (row[x - 1] + predicted) % 256
    return line % 256


def scale_grey(image: Image.Image) -> Image.Image:
    """Scale 12-bit and 16-bit grey to 8 bits (Pillow's own conversion clips at 255)."""
    values = np.asarray(image).astype(np.int64)
    tags = _tiff_tags(image)
    white = (1 << tags.get(_BITS, (16,))[0]) - 1
    if values.min() < 0 or values.max() > white:
        raise ValueError(f"its values are not those of grey up to {white}")
    is_inverted = tags.get(_PHOTOMETRIC, (1,))[0] == 0
    if is_inverted:
        values = white - values
    half = 0 if is_inverted or white != 0xFFFF else white // 2  # 12-bit and inverted values are rounded down
    grey = Image.fromarray(((values * 255 + half) // white).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey
