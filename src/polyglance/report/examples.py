"""Galleries of the page: held-out images with the captions that runs generated for them."""

import base64
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from PIL import Image

from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE
from polyglance.report.folder import StudyFolder
from polyglance.run_records import GeneratedCaption, RunRow

__all__ = [
    "MAX_SIDE_PX",
    "CaptionLine",
    "CaptionedImage",
    "Gallery",
    "TextPiece",
    "embed_image",
    "make_galleries",
    "mark_words",
]

_NUM_EXAMPLES = 6
MAX_SIDE_PX = 384
_MAX_EMBEDDED_BYTES = 60_000
_SMALL_SIDE_PX = 96
"""Images up to this size are shown enlarged, with hard pixel edges."""


class TextPiece(NamedTuple):
    """A part of a caption."""

    text: str
    is_wrong: bool
    """Whether the reference does not have these words at this position."""


def mark_words(text: str, reference: str, code: str) -> tuple[TextPiece, ...]:
    """Divide a text into pieces that agree with the reference and pieces that do not: by words, or by characters in
    languages without spaces between words."""
    words, expected = _split(text, code), _split(reference, code)
    pieces: list[TextPiece] = []
    for tag, start, end, _, _ in SequenceMatcher(None, words, expected, autojunk=False).get_opcodes():
        if start < end:
            pieces.append(TextPiece("".join(words[start:end]), is_wrong=tag != "equal"))
    return tuple(pieces)


def _split(text: str, code: str) -> list[str]:
    """Split a text into words, each with the spaces before it; joined, they are the text."""
    if code in LANGUAGES and LANGUAGES[code].words == "characters":
        return list(text)
    return re.findall(r"\s*\w+|\s*[^\w\s]|\s+", text)


@dataclass(frozen=True, kw_only=True)
class CaptionLine:
    """Captions of one image in one language."""

    language: str
    plain: str | None
    """Caption without a prefix; None where there is none."""
    prefix: str
    """Words that the decoder was started with."""
    continuation: str | None
    """Caption after the prefix, without the prefix's own words; None where there is none."""
    reference: str

    @property
    def plain_pieces(self) -> tuple[TextPiece, ...]:
        """The caption without a prefix, with its wrong words."""
        return mark_words(self.plain or "", self.reference, self.language)

    @property
    def continued_pieces(self) -> tuple[TextPiece, ...]:
        """The continuation, with its wrong words."""
        return mark_words(self.continuation or "", self.reference.removeprefix(self.prefix), self.language)

    @property
    def num_wrong(self) -> int:
        """Number of characters in wrong or missing words: after the prefix or, without one, in the whole caption."""
        num_right, length = self._count_right()
        return length - num_right

    @property
    def wrong_share(self) -> float:
        """`num_wrong` as a share of the longer of caption and reference."""
        num_right, length = self._count_right()
        return 1 - num_right / max(length, 1)

    def _count_right(self) -> tuple[int, int]:
        """Return the number of characters in right words, and that of the longer of caption and reference."""
        if self.continuation is None:
            pieces, expected = self.plain_pieces, self.reference
        else:
            pieces, expected = self.continued_pieces, self.reference.removeprefix(self.prefix)
        num_right = sum(len(piece.text) for piece in pieces if not piece.is_wrong)
        return num_right, max(sum(len(piece.text) for piece in pieces), len(expected))

    @property
    def is_right(self) -> bool:
        """Whether one of the captions is the reference."""
        return self.plain_exact or self.prefixed_exact

    @property
    def plain_exact(self) -> bool:
        """Whether the caption without a prefix is the reference, spaces aside."""
        return self.plain is not None and _drop_spaces(self.plain) == _drop_spaces(self.reference)

    @property
    def prefixed_exact(self) -> bool:
        """Whether prefix and continuation together are the reference, spaces aside."""
        text = f"{self.prefix}{self.continuation}"
        return self.continuation is not None and _drop_spaces(text) == _drop_spaces(self.reference)


@dataclass(frozen=True, kw_only=True)
class CaptionedImage:
    """One image with its captions in every language."""

    key: str
    image_uri: str | None
    """`data:` URI; None where the image is missing or damaged."""
    pixelated: bool
    """Whether the image is tiny and shown enlarged."""
    lines: tuple[CaptionLine, ...]

    @property
    def alt(self) -> str:
        """Description for readers who do not see the image: the English reference where there is one."""
        english = next((line.reference for line in self.lines if line.language == SOURCE_LANGUAGE), "")
        return english or f"Test image {self.key}"


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The examples of one run."""

    run: RunRow
    examples: tuple[CaptionedImage, ...]


def make_galleries(study: StudyFolder, runs: Sequence[RunRow], notes: list[str]) -> tuple[Gallery, ...]:
    """Return the first few images with captions, for each run that has any.

    Args:
        notes: gets a sentence for each file that could not be read.
    """
    captions = {run.id: _read_captions(study, run, notes) for run in runs}
    keys = list(dict.fromkeys(key for by_key in captions.values() for key in list(by_key)[:_NUM_EXAMPLES]))
    images = _embed_images(study, keys, notes)
    galleries = []
    for run in runs:
        examples = [
            CaptionedImage(
                key=key,
                image_uri=images[key][0] if key in images else None,
                pixelated=key in images and images[key][1],
                lines=_make_lines(study, of_image),
            )
            for key, of_image in list(captions[run.id].items())[:_NUM_EXAMPLES]
        ]
        # The best captions come first; all images are shown, and the page says how they are sorted.
        unseen = {cell.language for cell in study.coverage.split("UC")}
        examples.sort(
            key=lambda one: sum(line.num_wrong for line in one.lines if line.language in unseen or not unseen)
        )
        if examples:
            galleries.append(Gallery(run=run, examples=tuple(examples)))
    if not galleries:
        notes.append("No captions of the best runs were found, so there are no examples.")
    return tuple(galleries)


def _read_captions(study: StudyFolder, run: RunRow, notes: list[str]) -> dict[str, list[GeneratedCaption]]:
    """Return image key -> captions of a run."""
    by_key: dict[str, list[GeneratedCaption]] = {}
    try:
        for caption in study.captions(run):
            by_key.setdefault(caption.key, []).append(caption)
    except ValueError as error:
        notes.append(study.relative(f"The captions of {run.id} are left out: {error}."))
    return by_key


def _make_lines(study: StudyFolder, captions: Sequence[GeneratedCaption]) -> tuple[CaptionLine, ...]:
    """Pair the captions with and without prefix, in the coverage's order of languages and others after them."""
    lines = []
    for code in dict.fromkeys((*study.coverage.languages, *(caption.language for caption in captions))):
        of_language = [caption for caption in captions if caption.language == code]
        plain = next((caption for caption in of_language if not caption.prefix), None)
        prefixed = next((caption for caption in of_language if caption.prefix), None)
        if of_language:
            lines.append(
                CaptionLine(
                    language=code,
                    plain=plain.caption if plain else None,
                    prefix=prefixed.prefix if prefixed else "",
                    continuation=_cut_prefix(prefixed) if prefixed else None,
                    reference=(plain or of_language[0]).reference,
                )
            )
    return tuple(lines)


def _cut_prefix(caption: GeneratedCaption) -> str:
    """Return the text after the prefix. A caption that was stored without its prefix gets a space before it."""
    text = caption.caption
    return text.removeprefix(caption.prefix) if text.startswith(caption.prefix) else f" {text}"


def _embed_images(study: StudyFolder, keys: Iterable[str], notes: list[str]) -> Mapping[str, tuple[str, bool]]:
    """Return image key -> `data:` URI, and whether the image is tiny."""
    try:
        encoded = study.test_images(keys)
    except ValueError as error:
        notes.append(study.relative(f"The test images could not be read: {error}."))
        return {}
    images = {}
    for key, content in encoded.items():
        try:
            images[key] = embed_image(content)
        except ValueError as error:
            notes.append(f"The image {key} cannot be shown: {error}.")
    return images


def embed_image(content: bytes) -> tuple[str, bool]:
    """Return an image as a `data:` URI, reduced where it is large, and whether it is a tiny one to enlarge.

    Raises:
        ValueError: not an image, damaged, or too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                image.load()
                kind, size = image.format or "PNG", image.size
                if max(size) > MAX_SIDE_PX or len(content) > _MAX_EMBEDDED_BYTES:
                    kind, content = _reduce(image)
    except (OSError, SyntaxError):  # Pillow's own messages hold memory addresses
        raise ValueError("damaged, or neither PNG nor JPEG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError("too many pixels") from None
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}", max(size) <= _SMALL_SIDE_PX


def _reduce(image: Image.Image) -> tuple[str, bytes]:
    """Return the format and the encoded image, reduced to the largest side that is embedded."""
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    small = image.convert("RGBA" if transparent else "RGB")
    small.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    buffer = io.BytesIO()
    if transparent:
        small.save(buffer, "PNG", optimize=True)
        return "PNG", buffer.getvalue()
    small.save(buffer, "JPEG", quality=85)
    return "JPEG", buffer.getvalue()


def _drop_spaces(text: str) -> str:
    return "".join(text.split())
