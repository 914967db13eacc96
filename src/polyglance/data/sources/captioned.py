"""Published sets of images with human texts, read through the benchmarks' readers."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from polyglance.data.benchmarks import Benchmark, find_benchmark
from polyglance.data.sources.images import (
    GivenText,
    ImageLimits,
    SourceImage,
    check_languages,
    clean_given_texts,
    decode_images,
)
from polyglance.data.sources.raw_images import RawImage
from polyglance.data.sources.source import Piece, stamp_files
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.records import Drops, Style

__all__ = ["CaptionedSource"]

_MAX_PIECES = 16
"""Every piece reads all texts of the set, so there are few."""
_NUM_SAMPLED = 200
"""Texts of a language whose language is checked."""

_TextsByImage = Mapping[Path | bytes, tuple[GivenText, ...]]
"""Image (file, or encoded bytes) -> its texts."""


@dataclass(frozen=True, kw_only=True)
class CaptionedSource:
    """The human texts of a published set (`polyglance.data.benchmarks`), as in the paper's fine-tuning mix.

    Raises:
        ValueError: an unknown set, or one without captions and translations.
    """

    benchmark: str
    """`coco-karpathy`, `multi30k-task1` (translations), `multi30k-task2`, `image-paragraphs`, `docci`, ..."""
    root: Path
    """Folder of the published sets, each in its own layout."""
    splits: tuple[str, ...] = ("train",)
    """Splits of the set that are used."""
    languages: tuple[str, ...] = (SOURCE_LANGUAGE,)
    """Languages of the captions, or target languages of the translations."""
    style: Style = "short"
    """Style of the captions."""

    def __post_init__(self) -> None:
        if self._reader.task == "disambiguation":
            raise ValueError(f"{self.benchmark} has no captions or translations to train on")

    @property
    def path(self) -> Path:
        """Source that the manifest names."""
        return self.root / self.benchmark

    @property
    def licence(self) -> str:
        """Licence as the publishers state it."""
        return self._reader.licence

    @property
    def _reader(self) -> Benchmark:
        return find_benchmark(self.benchmark)

    def compute_stamp(self) -> str:
        """Compute the stamp of the texts and image files (`Source.compute_stamp`)."""
        return _stamp_texts(self._read_texts())

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:  # noqa: ARG002 - every image is in a piece
        """Cut the set into pieces (`Source.find_pieces`).

        Raises:
            ValueError: also for texts that clearly read as another language than they are said to be in.
        """
        texts = self._read_texts()
        check_languages(_sample_texts(texts), self.path, "correct languages, or the texts")
        size = max(num_records, -(-len(texts) // _MAX_PIECES))
        return [
            Piece(files=(), first=first, count=size, stamp=_stamp_texts(_slice(texts, first, size)))
            for first in range(0, len(texts), size)
        ]

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[SourceImage]:
        """Yield the usable images of a piece, in order (`Source.read_piece`)."""
        texts = _slice(self._read_texts(), piece.first, piece.count)
        return decode_images(
            (
                (
                    RawImage(data=_read_image(image), where=self._place(number, image)),
                    clean_given_texts(texts[image], self._place(number, image), drops),
                )
                for number, image in enumerate(texts, piece.first)
            ),
            ImageLimits(),
            drops,
        )

    def _place(self, number: int, image: Path | bytes) -> str:
        return str(image) if isinstance(image, Path) else f"{self.path}, image {number}"

    def _read_texts(self) -> _TextsByImage:
        """Read the texts of all splits and languages; each image is there once."""
        texts: dict[Path | bytes, tuple[GivenText, ...]] = {}
        for split in self.splits:
            for code in self.languages:
                for example in self._reader.load(self.root, split=split, language=code):
                    assert example.image is not None
                    texts[example.image] = texts.get(example.image, ()) + tuple(
                        GivenText(language=code, text=text, style=self.style, source=example.source)
                        for text in example.references
                    )
        return texts


def _slice(texts: _TextsByImage, first: int, count: int | None) -> _TextsByImage:
    return dict(islice(texts.items(), first, None if count is None else first + count))


def _sample_texts(texts: _TextsByImage) -> dict[str, list[str]]:
    """Return language -> its first texts and, for translations, their English sources."""
    sample: dict[str, list[str]] = {}
    for given in chain.from_iterable(texts.values()):
        pairs = [(given.language, given.text)]
        if given.source is not None:
            pairs.append((SOURCE_LANGUAGE, given.source))
        for code, text in pairs:
            if len(of_language := sample.setdefault(code, [])) < _NUM_SAMPLED:
                of_language.append(text)
    return sample


def _stamp_texts(texts: _TextsByImage) -> str:
    """Return the stamp of the texts themselves, and of the image files by `stamp_files`."""
    total = hashlib.sha256(repr(list(texts.values())).encode("utf-8", "surrogatepass"))
    files = [str(image.absolute()) for image in texts if isinstance(image, Path)]
    total.update(stamp_files(Path("/"), files).encode())
    for image in texts:
        if isinstance(image, bytes):
            total.update(hashlib.sha256(image).digest())
    return total.hexdigest()[:16]


def _read_image(image: Path | bytes) -> bytes:
    return image.read_bytes() if isinstance(image, Path) else image
