"""The records that travel between the stages: what one annotation, image and drop is. Pure Python."""

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
    """The English text a translation starts from; None for captions."""
    style: Style = "short"
    origin: str = "human"
    """Who wrote the text: `human`, or engine name and version."""
    score: float | None = None
    """Image-text alignment (cosine similarity), where the text was matched to the image."""

    @property
    def cell(self) -> Cell:
        return Cell(self.task, self.language)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """One image with all its annotations: a row of a shard."""

    key: str
    image: bytes
    """An encoded image file (PNG or JPEG), not pixels."""
    annotations: tuple[Annotation, ...]


def annotations_from_texts(
    texts: Mapping[str, str], *, style: Style = "short", origin: str = "human"
) -> tuple[Annotation, ...]:
    """Every annotation that parallel texts of one image allow.

    A caption in each language and, where there is an English text, a translation of it into each language (English
    among them: the reconstruction cell). Which of them are trained is the coverage's choice, made when batches are
    drawn, so that one data set serves every coverage.

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
    """Everything that was left out, by reason, with the first few places. Nothing is dropped without being added."""

    max_examples: int = 20
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, where: str, count: int = 1) -> None:
        """Count a drop. `where` is file and line, or whatever leads a person to the thing (kept for the first few)."""
        self.counts[reason] += count
        places = self.examples.setdefault(reason, [])
        if len(places) < self.max_examples:
            places.append(where)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(sorted(self.counts.items()))

    def to_dict(self) -> dict[str, Any]:
        """`{reason: {"count": n, "examples": [...]}}`, as manifest.json holds it."""
        return {reason: {"count": count, "examples": self.examples[reason]} for reason, count in self}
