"""Records that the stages exchange: annotations, images, drops."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from polyglance.coverage import Cell, Task
from polyglance.languages import SOURCE_LANGUAGE

__all__ = ["STYLES", "Annotation", "Drops", "ImageRecord", "Style", "annotations_from_texts"]

Style = Literal["short", "detailed", "paragraph"]
STYLES: tuple[Style, ...] = get_args(Style)


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One text of one image, for one cell."""

    task: Task
    language: str
    text: str
    source: str | None = None
    """English text that a translation starts from; None for captions."""
    style: Style = "short"
    origin: str = "human"
    """Writer of the text: `human`, or the name and version of an engine."""
    score: float | None = None
    """Alignment of text and image (cosine similarity); None where the text was not matched to the image."""

    @property
    def cell(self) -> Cell:
        return Cell(self.task, self.language)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """One image with all its annotations: a row of a shard."""

    key: str
    """Name, unique in its data set."""
    image: bytes
    """An encoded image file (PNG or JPEG), not pixels."""
    annotations: tuple[Annotation, ...]


def annotations_from_texts(
    texts: Mapping[str, str], *, style: Style = "short", origin: str = "human"
) -> tuple[Annotation, ...]:
    """Make all annotations from parallel texts of one image.

    These are a caption in each language and, where there is an English text, a translation of it into each language
    (English too: the reconstruction cell). The coverage decides which of them are trained, when batches are drawn, so
    that one data set serves every coverage.

    Args:
        texts: language code -> text.
    """
    captions = [
        Annotation(task="caption", language=code, text=text, style=style, origin=origin) for code, text in texts.items()
    ]
    source = texts.get(SOURCE_LANGUAGE)
    translations = [
        Annotation(task="translation", language=code, text=text, source=source, style=style, origin=origin)
        for code, text in texts.items()
        if source is not None
    ]
    return (*captions, *translations)


@dataclass
class Drops:
    """Count of everything that was left out, by reason, with the first places. Nothing is left out uncounted."""

    max_examples: int = 20
    """Largest number of places that are kept for a reason."""
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, where: str, count: int = 1) -> None:
        """Count a drop.

        Args:
            where: file and line, or another place where a person can find it.
        """
        self.counts[reason] += count
        places = self.examples.setdefault(reason, [])
        if len(places) < self.max_examples:
            places.append(where)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(sorted(self.counts.items()))

    def to_dict(self) -> dict[str, Any]:
        """Return `{reason: {"count": n, "examples": [...]}}`, as manifest.json holds it."""
        return {reason: {"count": count, "examples": self.examples[reason]} for reason, count in self}
