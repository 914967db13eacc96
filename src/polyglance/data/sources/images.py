"""Images, and the texts beside them, out of the forms in which image data sets are published.

    folder       image files in folders, each with its texts in `<name>.txt` (one a line) where there is one
    webdataset   .tar shards, members of one sample share their name up to its first dot
    huggingface  a folder of `datasets.save_to_disk` (Arrow), or Parquet files with a column of images
    img2dataset  what img2dataset wrote from a list of URLs: webdataset, files or parquet, with its tables of failures

Every image is decoded once, here. What cannot be used is counted in `Drops` under `image: <reason>`, and what was
never downloaded as `image: <status>`, so that the number of images in the source is the number of those that come out
and of those that are counted.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from polyglance.data.sources.found import FoundImage
from polyglance.data.sources.image_forms import find_pieces, form_of, read_piece
from polyglance.data.sources.pieces import Piece
from polyglance.images import MAX_PIXELS, ImageError, encode
from polyglance.records import Drops

__all__ = ["ImageSource", "SourceImage", "image_pieces", "read_image_piece", "read_images", "usable_images"]

_PIECE_IMAGES = 1000

_TEXT_FIELDS = ("txt", "text", "caption", "captions", "alt", "alt_text")


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """One image data set on disk: where it is and what it is in.

    Raises:
        ValueError: a value outside its range.
    """

    path: Path
    """A folder, or one .tar, .parquet or .arrow file."""
    format: Literal["auto", "folder", "webdataset", "huggingface", "img2dataset"] = "auto"
    """`auto` goes by the names of the files found in `path`."""
    image_column: str | None = None
    """Column of the images (Arrow and Parquet only); the only one that holds images if None."""
    text_fields: tuple[str, ...] = _TEXT_FIELDS
    """Where texts are looked for: columns of strings or lists of strings, extensions in a tar, keys in its `json`."""
    licence: str = ""
    """Licence of the images, for the manifest."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels (width times height) are dropped undecoded."""
    max_side: int | None = None
    """Larger images are reduced until their longer side is this, in pixels."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour (red, green, blue; 0 to 255) that shows through where an image is transparent."""

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or (self.max_side is not None and self.max_side < 1):
            raise ValueError("max_pixels and max_side must be at least 1")
        if any(not 0 <= part <= 255 for part in self.background):
            raise ValueError(f"background is {self.background}; each of red, green, blue is 0 to 255")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """An image that can be used."""

    key: str
    """First 16 hexadecimal digits of the SHA-256 of the bytes as they were found: the same file, the same key."""
    image: bytes
    """A plain PNG or JPEG, fit to be stored (`polyglance.images.encode`)."""
    rgb: Image.Image
    """Its pixels."""
    where: str
    """File, and row or member in it."""
    texts: tuple[str, ...]
    """What stood beside it: alt texts or captions, in any language, unchecked."""


def read_images(source: ImageSource, drops: Drops) -> Iterator[SourceImage]:
    """The usable images of a data set, in the order of its files' names.

    The same image may come twice; who keeps images keeps their keys.

    Raises:
        ValueError: no such file or folder, nothing of the form in it, or no column of images. Before the first image.
    """
    pieces = image_pieces(source, num_images=_PIECE_IMAGES, drops=drops)
    return (image for piece in pieces for image in read_image_piece(source, piece, drops))


def image_pieces(source: ImageSource, *, num_images: int, drops: Drops) -> list[Piece]:
    """A data set cut into pieces that can be read side by side; one after the other they are `read_images`.

    Args:
        num_images: images of a piece, as near as the form allows.
        drops: gets files that are in no piece.

    Raises:
        ValueError: as `read_images`.
    """
    return find_pieces(_form(source), source.path, source.image_column, num_images=num_images, drops=drops)


def read_image_piece(source: ImageSource, piece: Piece, drops: Drops) -> Iterator[SourceImage]:
    """The usable images of a piece."""
    found = read_piece(_form(source), source.path, source.image_column, source.text_fields, piece, drops)
    return usable_images(source, found, drops)


def _form(source: ImageSource) -> str:
    if not source.path.exists():
        raise ValueError(f"{source.path}: no such file or folder")
    return form_of(source.path) if source.format == "auto" else source.format


def usable_images(source: ImageSource, found: Iterator[FoundImage], drops: Drops) -> Iterator[SourceImage]:
    for image in found:
        try:
            stored, rgb = encode(
                image.data, background=source.background, max_pixels=source.max_pixels, max_side=source.max_side
            )
        except ImageError as error:
            drops.add(f"image: {error.code}", f"{image.where}: {error}"[:300])
            continue
        key = hashlib.sha256(image.data).hexdigest()[:16]
        yield SourceImage(key=key, image=stored, rgb=rgb, where=image.where, texts=image.texts)
