"""Example images with what the runs said about them, as the page shows them."""

import base64
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from polyglance.languages import SOURCE_LANGUAGE
from polyglance.report.folder import CaptionRow, Run, StudyFolder, read_captions, read_images

__all__ = ["CaptionLine", "Example", "Gallery", "data_uri", "galleries"]

NUM_EXAMPLES = 6
MAX_SIDE_PX = 384
MAX_EMBEDDED_BYTES = 60_000
SMALL_SIDE_PX = 96
"""Images up to this size are shown enlarged with hard pixel edges."""


@dataclass(frozen=True, kw_only=True)
class CaptionLine:
    """One language of one example; None where there is no such caption."""

    language: str
    plain: str | None
    prefix: str | None
    """The words the decoder was started with."""
    prefixed: str | None
    """The caption made after the prefix."""
    reference: str

    @property
    def continuation(self) -> str:
        """The caption after the prefix without the prefix's own words."""
        text, prefix = self.prefixed or "", self.prefix or ""
        return text.removeprefix(prefix) if text.startswith(prefix) else f" {text}"

    @property
    def plain_exact(self) -> bool:
        """Whether the caption is the reference, spaces aside."""
        return self.plain is not None and _letters(self.plain) == _letters(self.reference)

    @property
    def prefixed_exact(self) -> bool:
        """As `plain_exact`, for prefix and continuation together."""
        return self.prefixed is not None and _letters(f"{self.prefix}{self.continuation}") == _letters(self.reference)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image with its captions in every language."""

    key: str
    image_uri: str | None
    """`data:` URI; None where the image could not be had."""
    pixelated: bool
    lines: tuple[CaptionLine, ...]

    @property
    def alt(self) -> str:
        """What the image shows, for readers who do not see it: the English reference where there is one."""
        english = next((line.reference for line in self.lines if line.language == SOURCE_LANGUAGE), "")
        return english or f"Test image {self.key}"


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The examples of one run."""

    run: Run
    examples: tuple[Example, ...]


def galleries(study: StudyFolder, runs: Sequence[Run], notes: list[str]) -> tuple[Gallery, ...]:
    """The first few images with captions, for each run that has any; what could not be read is noted."""
    rows = {run.id: _captions_by_key(study, run, notes) for run in runs}
    keys = list(dict.fromkeys(key for by_key in rows.values() for key in list(by_key)[:NUM_EXAMPLES]))
    images = _images(study, keys, notes)
    found = []
    for run in runs:
        examples = [
            Example(
                key=key,
                image_uri=images[key][0] if key in images else None,
                pixelated=key in images and images[key][1],
                lines=_lines(study, captions),
            )
            for key, captions in list(rows[run.id].items())[:NUM_EXAMPLES]
        ]
        if examples:
            found.append(Gallery(run=run, examples=tuple(examples)))
    if not found:
        notes.append("No captions of the best runs were found, so there are no examples.")
    return tuple(found)


def _captions_by_key(study: StudyFolder, run: Run, notes: list[str]) -> dict[str, list[CaptionRow]]:
    by_key: dict[str, list[CaptionRow]] = {}
    try:
        for row in read_captions(study, run):
            by_key.setdefault(row.key, []).append(row)
    except ValueError as error:
        notes.append(study.relative(f"The captions of {run.id} are left out: {error}."))
    return by_key


def _lines(study: StudyFolder, rows: Sequence[CaptionRow]) -> tuple[CaptionLine, ...]:
    """Languages in the coverage's order, others after them."""
    languages = dict.fromkeys((*study.coverage.languages, *(row.language for row in rows)))
    lines = []
    for code in languages:
        plain = next((row for row in rows if row.language == code and not row.prefix), None)
        prefixed = next((row for row in rows if row.language == code and row.prefix), None)
        if either := plain or prefixed:
            lines.append(
                CaptionLine(
                    language=code,
                    plain=plain.caption if plain else None,
                    prefix=prefixed.prefix if prefixed else None,
                    prefixed=prefixed.caption if prefixed else None,
                    reference=either.reference,
                )
            )
    return tuple(lines)


def _images(study: StudyFolder, keys: Iterable[str], notes: list[str]) -> Mapping[str, tuple[str, bool]]:
    try:
        encoded = read_images(study, keys)
    except ValueError as error:
        notes.append(study.relative(f"The test images could not be read: {error}."))
        return {}
    found = {}
    for key, content in encoded.items():
        try:
            found[key] = data_uri(content)
        except ValueError as error:
            notes.append(f"The image {key} cannot be shown: {error}.")
    return found


def data_uri(content: bytes) -> tuple[str, bool]:
    """The image as a `data:` URI, made smaller where it is large, and whether it is a tiny one to enlarge.

    Raises:
        ValueError: not an image, damaged, or too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                image.load()
                kind, size = image.format or "PNG", image.size
                if max(size) > MAX_SIDE_PX or len(content) > MAX_EMBEDDED_BYTES:
                    kind, content = _smaller(image)
    except (OSError, SyntaxError):  # Pillow's words for it hold memory addresses
        raise ValueError("damaged, or neither PNG nor JPEG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError("too many pixels") from None
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}", max(size) <= SMALL_SIDE_PX


def _smaller(image: Image.Image) -> tuple[str, bytes]:
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    small = image.convert("RGBA" if transparent else "RGB")
    small.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    buffer = io.BytesIO()
    if transparent:
        small.save(buffer, "PNG", optimize=True)
        return "PNG", buffer.getvalue()
    small.save(buffer, "JPEG", quality=85)
    return "JPEG", buffer.getvalue()


def _letters(text: str) -> str:
    return "".join(text.split())
