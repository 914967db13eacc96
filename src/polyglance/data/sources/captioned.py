"""Images with the texts that they come with: what a build starts from."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from polyglance.data.benchmarks import find_benchmark
from polyglance.data.sources.found import FoundImage
from polyglance.data.sources.images import (
    ImageSource,
    SourceImage,
    image_pieces,
    read_image_piece,
    usable_images,
)
from polyglance.data.sources.pieces import Piece, folder_of, stamp, walk
from polyglance.languages import SOURCE_LANGUAGE, language
from polyglance.records import Drops, Style

__all__ = ["CaptionedSource", "GivenText", "ImagesSource", "pieces_of", "read_source", "stamp_of"]

_MAX_CAPTIONED_PIECES = 16
"""Each reads the published set's texts anew, so there are few."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenText:
    """A text that an image comes with."""

    language: str
    text: str
    style: Style | None = "short"
    origin: str = "human"
    source: str | None = None
    """For a translation by people: the English text. None: a caption."""


@dataclass(frozen=True, kw_only=True)
class ImagesSource(ImageSource):
    """An image data set, and what its texts are taken for."""

    texts: Literal["ignore", "captions"] = "ignore"
    """Texts beside the images, such as alt texts from the web, are ignored unless they are said to be captions."""
    text_language: str = SOURCE_LANGUAGE
    """Language of the captions."""
    text_style: Style = "short"
    """Their style."""
    text_origin: str = "human"
    """Who wrote them."""

    def __post_init__(self) -> None:
        ImageSource.__post_init__(self)
        language(self.text_language)


@dataclass(frozen=True, kw_only=True)
class CaptionedSource:
    """The human texts of a published set (`polyglance.data.benchmarks`), as in the paper's fine-tuning mix."""

    benchmark: str
    """`coco-karpathy`, `multi30k-task1` (translations), `multi30k-task2`, `image-paragraphs`, `docci`, ..."""
    root: Path
    """Folder of the published sets, each in its own layout."""
    splits: tuple[str, ...] = ("train",)
    """Splits of it."""
    languages: tuple[str, ...] = (SOURCE_LANGUAGE,)
    """Languages of the captions, or that the translations go into."""
    style: Style = "short"
    """Style of its captions."""

    def __post_init__(self) -> None:
        if find_benchmark(self.benchmark).task == "disambiguation":
            raise ValueError(f"{self.benchmark} has no captions or translations to train on")

    @property
    def path(self) -> Path:
        """What the manifest names as the source."""
        return self.root / self.benchmark

    @property
    def licence(self) -> str:
        """As its publishers state it."""
        return find_benchmark(self.benchmark).licence


def stamp_of(source: ImagesSource | CaptionedSource) -> str:
    """What changes when the source's files do."""
    if isinstance(source, CaptionedSource):
        return _stamp_captioned(_captioned_texts(source))
    folder = folder_of(source.path)
    return stamp(folder, walk(folder) if source.path.is_dir() else [source.path.name])


def pieces_of(source: ImagesSource | CaptionedSource, *, num_images: int, drops: Drops) -> list[Piece]:
    """A source cut into pieces that can be read side by side, in order.

    Args:
        num_images: images of a piece, as near as its form allows.
        drops: gets files that are in no piece.

    Raises:
        ValueError: no such file or folder, nothing of the form in it, or as the published set's reader.
    """
    if not isinstance(source, CaptionedSource):
        return image_pieces(source, num_images=num_images, drops=drops)
    texts = _captioned_texts(source)
    size = max(num_images, -(-len(texts) // _MAX_CAPTIONED_PIECES))
    return [
        Piece(files=(), first=first, count=size, stamp=_stamp_captioned(_some(texts, first, size)))
        for first in range(0, len(texts), size)
    ]


def read_source(
    source: ImagesSource | CaptionedSource, piece: Piece, drops: Drops
) -> Iterator[tuple[SourceImage, tuple[GivenText, ...]]]:
    """The usable images of a piece in order, each with its texts.

    Raises:
        ValueError: as `pieces_of`.
    """
    if isinstance(source, CaptionedSource):
        yield from _read_captioned(source, piece, drops)
        return
    for image in read_image_piece(source, piece, drops):
        texts = image.texts if source.texts == "captions" else ()
        yield image, tuple(_given(source.text_language, text, source.text_style, source.text_origin) for text in texts)


Texts = Mapping[Path | bytes, list[GivenText]]
"""Image -> its texts."""


def _captioned_texts(source: CaptionedSource) -> Texts:
    """Each image once, with its texts of all splits and languages."""
    texts: dict[Path | bytes, list[GivenText]] = {}
    for split in source.splits:
        for code in source.languages:
            examples = find_benchmark(source.benchmark).load(source.root, split=split, language=code)
            for example in examples:
                assert example.image is not None
                own = texts.setdefault(example.image, [])
                own += [_given(code, text, source.style, source=example.source) for text in example.references]
    return texts


def _some(texts: Texts, first: int, count: int | None) -> Texts:
    return dict(islice(texts.items(), first, None if count is None else first + count))


def _stamp_captioned(texts: Texts) -> str:
    """Of the texts themselves, and of the image files as `stamp` tells them."""
    total = hashlib.sha256(repr(list(texts.values())).encode("utf-8", "surrogatepass"))
    total.update(stamp(Path("/"), (str(image.absolute()) for image in texts if isinstance(image, Path))).encode())
    for image in texts:
        if isinstance(image, bytes):
            total.update(hashlib.sha256(image).digest())
    return total.hexdigest()[:16]


def _read_captioned(
    source: CaptionedSource, piece: Piece, drops: Drops
) -> Iterator[tuple[SourceImage, tuple[GivenText, ...]]]:
    texts = _some(_captioned_texts(source), piece.first, piece.count)
    found = (
        FoundImage(data=image.read_bytes() if isinstance(image, Path) else image, where=_place(source, number, image))
        for number, image in enumerate(texts, piece.first)
    )
    by_place = {_place(source, number, image): own for number, (image, own) in enumerate(texts.items(), piece.first)}
    for image in usable_images(ImagesSource(path=source.root), found, drops):
        yield image, tuple(by_place[image.where])


def _place(source: CaptionedSource, number: int, image: Path | bytes) -> str:
    return str(image) if isinstance(image, Path) else f"{source.path}, image {number}"


def _given(code: str, text: str, style: Style, origin: str = "human", source: str | None = None) -> GivenText:
    return GivenText(language=code, text=text, style=style, origin=origin, source=source)
