"""Images with the texts that they come with: what a build starts from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from polyglance.data.benchmarks import benchmark
from polyglance.data.sources.found import FoundImage
from polyglance.data.sources.image_forms import form_of
from polyglance.data.sources.images import ImageSource, SourceImage, read_images, usable_images
from polyglance.languages import SOURCE_LANGUAGE, language
from polyglance.records import Drops, Style

__all__ = ["CaptionedSource", "GivenText", "ImagesSource", "parts_of", "read_source"]


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
        if benchmark(self.benchmark).task == "disambiguation":
            raise ValueError(f"{self.benchmark} has no captions or translations to train on")

    @property
    def path(self) -> Path:
        """What the manifest names as the source."""
        return self.root / self.benchmark

    @property
    def licence(self) -> str:
        """As its publishers state it."""
        return benchmark(self.benchmark).licence


def parts_of(source: ImagesSource | CaptionedSource) -> list[ImagesSource | CaptionedSource]:
    """A source as several that can be read at the same time: each tar of a folder of WebDataset shards is one.

    Raises:
        ValueError: no such file or folder, or nothing of the form in it.
    """
    if isinstance(source, CaptionedSource) or not source.path.is_dir():
        return [source]
    form = form_of(source.path) if source.format == "auto" else source.format
    tars = sorted(source.path.rglob("*.tar")) if form == "webdataset" else []
    return [replace(source, path=path, format="webdataset") for path in tars] or [source]


def read_source(
    source: ImagesSource | CaptionedSource, drops: Drops
) -> Iterator[tuple[SourceImage, tuple[GivenText, ...]]]:
    """The usable images of a source in its order, each with its texts.

    Raises:
        ValueError: as `polyglance.data.sources.images.read_images`, or as the published set's reader.
    """
    if isinstance(source, CaptionedSource):
        yield from _read_captioned(source, drops)
        return
    for image in read_images(source, drops):
        texts = image.texts if source.texts == "captions" else ()
        yield image, tuple(_given(source.text_language, text, source.text_style, source.text_origin) for text in texts)


def _read_captioned(source: CaptionedSource, drops: Drops) -> Iterator[tuple[SourceImage, tuple[GivenText, ...]]]:
    """Each image once, with its texts of all splits and languages."""
    texts: dict[Path | bytes, list[GivenText]] = {}
    for split in source.splits:
        for code in source.languages:
            examples = benchmark(source.benchmark).load(source.root, split=split, language=code)
            for example in examples:
                assert example.image is not None
                own = texts.setdefault(example.image, [])
                own += [_given(code, text, source.style, source=example.source) for text in example.references]
    found = (
        FoundImage(data=image.read_bytes() if isinstance(image, Path) else image, where=_place(source, number, image))
        for number, image in enumerate(texts)
    )
    by_place = {_place(source, number, image): own for number, (image, own) in enumerate(texts.items())}
    for image in usable_images(ImagesSource(path=source.root), found, drops):
        yield image, tuple(by_place[image.where])


def _place(source: CaptionedSource, number: int, image: Path | bytes) -> str:
    return str(image) if isinstance(image, Path) else f"{source.path}, image {number}"


def _given(code: str, text: str, style: Style, origin: str = "human", source: str | None = None) -> GivenText:
    return GivenText(language=code, text=text, style=style, origin=origin, source=source)
