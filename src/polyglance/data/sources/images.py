"""Images, and the texts beside them, in the forms in which image data sets are published.

    folder       image files in folders, each with its texts in `<name>.txt` (one per line) if there is such a file,
                 and in `<name>.<language>.txt` (`a.de.txt`)
    webdataset   .tar shards; members of one sample share their name up to its first dot
    huggingface  a folder of `datasets.save_to_disk` (Arrow), or Parquet files with a column of images
    img2dataset  output of img2dataset: webdataset, files or parquet, with its tables of failures

Texts are cleaned as the importer cleans them; those that cannot be used are counted under `text: <reason>`, and texts
that read as another language than they are said to be in are refused.

Every image is decoded once, here. Images that cannot be used are counted in `Drops` under `image: <reason>`, and images
that were never downloaded under `image: <status>`, so that used and counted images add up to all images of the source.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from polyglance.data.import_rows import clean_caption
from polyglance.data.sources.image_forms import IMAGE_FORMS, ImageForm, detect_image_form
from polyglance.data.sources.raw_images import TEXT_DROPPED, RawImage
from polyglance.data.sources.source import FormSource, Piece
from polyglance.images import MAX_PIXELS, ImageError, encode_image
from polyglance.language_identity import find_other_language
from polyglance.language_tags import find_code
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.records import Drops, Style

__all__ = [
    "GivenText",
    "ImageLimits",
    "ImagesSource",
    "SourceImage",
    "check_languages",
    "clean_given_texts",
    "decode_images",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenText:
    """A text that comes with an image."""

    language: str
    text: str
    style: Style | None = "short"
    origin: str = "human"
    source: str | None = None
    """For a translation by people: the English text. None: a caption."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """A decoded image that can be used."""

    key: str
    """First 16 hexadecimal digits of the SHA-256 of the source's bytes: the same file has the same key."""
    image: bytes
    """A plain PNG or JPEG, fit to be stored (`polyglance.images.encode_image`)."""
    rgb: Image.Image
    """Its pixels."""
    where: str
    """File, and row or member in it."""
    texts: tuple[GivenText, ...]


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Limits of images and background of transparent ones.

    Raises:
        ValueError: a value outside its range.
    """

    max_pixels: int = MAX_PIXELS
    """Images with more pixels (width times height) are dropped undecoded."""
    max_side: int | None = None
    """Longest side in pixels; larger images are reduced to it. None: no limit."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour (red, green, blue; 0 to 255) behind transparent areas of an image."""

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or (self.max_side is not None and self.max_side < 1):
            raise ValueError("max_pixels and max_side must be at least 1")
        if any(not 0 <= value <= 255 for value in self.background):
            raise ValueError(f"background is {self.background}; each of red, green, blue is 0 to 255")

    def encode(self, data: bytes) -> tuple[bytes, Image.Image]:
        """Convert an image file to one fit to be stored, and decode it (`polyglance.images.encode_image`)."""
        return encode_image(data, background=self.background, max_pixels=self.max_pixels, max_side=self.max_side)


@dataclass(frozen=True, kw_only=True)
class ImagesSource(FormSource, ImageLimits):
    """An image data set, and the meaning of its texts.

    Raises:
        ValueError: a value outside its range, or an unknown language.
    """

    path: Path
    """A folder, or one .tar, .parquet or .arrow file."""
    format: Literal["auto", "folder", "webdataset", "huggingface", "img2dataset"] = "auto"
    """Form of the files; `auto`: derived from the names of the files in `path`."""
    image_column: str | None = None
    """Column of the images (Arrow and Parquet only). None: the only column that holds images."""
    text_fields: tuple[str, ...] = ("txt", "text", "caption", "captions", "alt", "alt_text")
    """Places of texts: columns of strings or lists of strings, extensions in a tar, keys in its `json`."""
    licence: str = ""
    """Licence of the images, for the manifest."""
    texts: Literal["ignore", "captions"] = "ignore"
    """Use of the texts beside the images: `ignore` (alt texts from the web, for example) or `captions`."""
    text_language: str = SOURCE_LANGUAGE
    """Language of the captions whose file does not name it."""
    text_style: Style = "short"
    """Style of the captions."""
    text_origin: str = "human"
    """Author of the captions: `human`, or the name of an engine."""

    def __post_init__(self) -> None:
        ImageLimits.__post_init__(self)
        object.__setattr__(self, "text_language", find_code(self.text_language))

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:
        """Cut the source into pieces (`Source.find_pieces`).

        Raises:
            ValueError: as there, or texts that clearly read as another language than they are said to be in.
        """
        form = self.open_form()
        pieces = form.find_pieces(num_records, drops)
        if self.texts == "captions":
            sample = form.sample_texts(pieces, self.text_language)
            check_languages(
                sample, self.path, "correct the names of their files (a.de.txt), text_language, or the texts"
            )
        return pieces

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[SourceImage]:
        """Yield the usable images of a piece, in order (`Source.read_piece`). The same image may come twice."""
        raw_images = ((image, self._given_texts(image, drops)) for image in self.open_form().read_piece(piece, drops))
        return decode_images(raw_images, self, drops)

    def open_form(self) -> ImageForm:
        if not self.path.exists():
            raise ValueError(f"{self.path}: no such file or folder")
        name = detect_image_form(self.path) if self.format == "auto" else self.format
        return IMAGE_FORMS[name](self.path, self.image_column, self.text_fields)

    def _given_texts(self, image: RawImage, drops: Drops) -> tuple[GivenText, ...]:
        """Clean the texts of an image; those that cannot be used go to `drops`."""
        if self.texts == "ignore":
            return ()
        texts = (*((self.text_language, text) for text in image.texts), *image.texts_by_language)
        given = (
            GivenText(language=code, text=text, style=self.text_style, origin=self.text_origin) for code, text in texts
        )
        return clean_given_texts(given, image.where, drops)


def clean_given_texts(texts: Iterable[GivenText], where: str, drops: Drops) -> tuple[GivenText, ...]:
    """Clean the distinct texts of an image as the importer does; those that cannot be used, or whose English source
    cannot, go to `drops`."""
    cleaned: dict[GivenText, None] = {}
    for given in texts:
        text, problem = clean_caption(given.text, given.language)
        source, wrong = given.source, given.text
        if source is not None and not problem:
            source, problem = clean_caption(source, SOURCE_LANGUAGE)
            wrong = given.source or ""
        if text is None or problem:
            drops.add(f"{TEXT_DROPPED}{problem}", f"{where}: {given.language}: {wrong!r}"[:300])
        else:
            cleaned[replace(given, text=text, source=source)] = None
    return tuple(cleaned)


def check_languages(texts: Mapping[str, Sequence[str]], path: Path, right: str) -> None:
    """Refuse texts that clearly read as another language than they are said to be in.

    Args:
        texts: code of the language -> a sample of the texts.
        right: what is to be corrected.

    Raises:
        ValueError: texts in another language.
    """
    for code, several in texts.items():
        other = find_other_language(several, code)
        if other is not None:
            raise ValueError(f"{path}: the texts that are said to be in {code} read as {other}; {right}")


def decode_images(
    raw_images: Iterable[tuple[RawImage, tuple[GivenText, ...]]], config: ImageLimits, drops: Drops
) -> Iterator[SourceImage]:
    """Decode images and yield those that can be used, one at a time; others go to `drops`."""
    for raw, texts in raw_images:
        try:
            stored, rgb = config.encode(raw.data)
        except ImageError as error:
            drops.add(f"image: {error.code}", f"{raw.where}: {error}"[:300])
            continue
        key = hashlib.sha256(raw.data).hexdigest()[:16]
        yield SourceImage(key=key, image=stored, rgb=rgb, where=raw.where, texts=texts)
