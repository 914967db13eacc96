"""Steps with text engines: descriptions of images, and their translations."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.build.files import read_rows, write_rows
from polyglance.data.build.ingest import BuiltImage, SelectStep, kept_images
from polyglance.data.build.tasks import Report, Task, output_digests
from polyglance.data.context import Translated, TranslationConfig, translate
from polyglance.engines import Captioner, EngineConfig, Failure, Translator, open_captioner, open_translator
from polyglance.languages import SOURCE_LANGUAGE, language
from polyglance.records import Drops, Style

__all__ = ["DescribeStep", "RecaptionConfig", "TranslateConfig", "TranslateStep"]

T = TypeVar("T")
R = TypeVar("R")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RecaptionConfig:
    """English descriptions written by an engine."""

    engine: EngineConfig
    """The captioner."""
    style: Style = "paragraph"
    """What is asked of it; which styles of captions its text becomes is told by its sentences."""
    context_only: bool = False
    """The descriptions only help to translate the captions that images come with, and become no captions themselves."""


@dataclass(frozen=True, kw_only=True)
class TranslateConfig:
    """Descriptions and captions, translated."""

    engine: EngineConfig
    """The translator."""
    languages: tuple[str, ...] = ("de",)
    """Languages translated into."""
    skip_captioned: bool = True
    """Do not translate the captions of an image into languages in which people wrote some of it."""
    context: TranslationConfig = field(default_factory=TranslationConfig)
    """How an image's description helps to translate its captions."""

    def __post_init__(self) -> None:
        for code in self.languages:
            if language(code).code == SOURCE_LANGUAGE:
                raise ValueError(f"languages has {code!r}, which is what is translated from")


_DESCRIPTIONS = pa.schema(
    [(name, pa.string()) for name in ("key", "style", "text", "origin", "failed")]
    + [("captioned", pa.list_(pa.string()))]
)
_TRANSLATIONS = pa.schema(
    [(name, pa.string()) for name in ("key", "source", "language", "text", "origin", "failed")]
    + [("used_context", pa.bool_()), ("rejected", pa.list_(pa.string()))]
)
"""Both hold a row for every record, also where there is no text: `failed` says why an engine could not make it,
`rejected` what was wrong with what it made."""


@dataclass(frozen=True, kw_only=True)
class DescribeStep:
    """English texts of each image: those it came with, and an engine's description."""

    work_dir: Path
    select: SelectStep
    config: RecaptionConfig | None
    name: str = "descriptions"
    unit: str = "texts"

    @property
    def fingerprint(self) -> str:
        weights = "" if self.config is None else self.config.engine.weights
        return fingerprint(__version__, self.name, self.config, weights, self.select.fingerprint)

    def parts(self) -> Sequence[str]:
        return self.select.image_parts()

    def inputs(self, part: str) -> tuple[str, ...]:
        return self.select.kept_digests(part)

    def start(self) -> Captioner | None:
        return None if self.config is None else open_captioner(self.config.engine)

    def run(self, task: Task) -> Report:
        path = task.out.with_suffix(".parquet")
        images = list(kept_images(self.work_dir, task.part))
        rows = [
            {"key": image.key, "style": text.style, "text": text.text, "origin": text.origin, "failed": None}
            | {"captioned": _captioned_in(image)}
            for image in images
            for text in image.texts
            if text.language == SOURCE_LANGUAGE and text.source is None
        ]
        num_given, engine_s = len(rows), 0.0
        if self.config is not None:
            made, engine_s = self._describe(task, images, path)
            rows += made
        write_rows(path, _DESCRIPTIONS, rows)
        drops, num_failed = _failures(rows[num_given:])
        num_out = sum(row["text"] is not None for row in rows)
        return Report(
            num_in=len(images), num_out=num_out, drops=drops.to_dict(), num_failed=num_failed, engine_s=engine_s
        )

    def is_context_only(self, row: Row) -> bool:
        """Whether a row of this step is a description that becomes no caption."""
        return row["style"] is None and self.config is not None and self.config.context_only

    def _describe(self, task: Task, images: Sequence[BuiltImage], path: Path) -> tuple[list[Row], float]:
        assert self.config is not None
        engine: Captioner = task.engine
        style, origin = self.config.style, _origin(engine)
        written, engine_s = in_batches(
            images,
            [image.key for image in images],
            lambda batch: engine.caption([image.image for image in batch], style=style),
            batch_size=self.config.engine.batch_size,
            before={r["key"]: r["text"] for r in _made_before(path, task) if r["origin"] == origin},
        )
        rows: list[Row] = []
        for image, text in zip(images, written, strict=True):
            good = isinstance(text, str)
            rows.append({"key": image.key, "style": None, "text": text if good else None, "origin": origin})
            rows[-1] |= {"failed": None if good else text.reason, "captioned": []}
        return rows, engine_s


@dataclass(frozen=True, kw_only=True)
class TranslateStep:
    """Every English text of an image in every asked language; an image's description is the context of its captions."""

    work_dir: Path
    describe: DescribeStep
    config: TranslateConfig
    name: str = "translations"
    unit: str = "translations"

    @property
    def fingerprint(self) -> str:
        weights = self.config.engine.weights
        return fingerprint(__version__, self.name, self.config, weights, self.describe.fingerprint)

    def parts(self) -> Sequence[str]:
        return self.describe.parts()

    def inputs(self, part: str) -> tuple[str, ...]:
        return tuple(output_digests(self.work_dir / self.describe.name, part).values())

    def start(self) -> Translator:
        return open_translator(self.config.engine)

    def run(self, task: Task) -> Report:
        path = task.out.with_suffix(".parquet")
        engine = _Timed(task.engine)
        described = read_rows(self.work_dir / "descriptions" / f"{task.part}.parquet")
        described = [row for row in described if row["text"] is not None]
        contexts = _contexts(described)
        skipped = self.config.skip_captioned
        usable = [n for n, row in enumerate(described) if not self.describe.is_context_only(row)]
        before = {_id(row): _result(row) for row in _made_before(path, task)}
        made: list[Row] = []
        for code in self.config.languages:
            asked = [n for n in usable if not (skipped and code in described[n]["captioned"])]
            rows = [described[n] for n in asked]
            blank = [{"key": r["key"], "source": r["text"], "language": code, "origin": _origin(engine)} for r in rows]
            outcomes, _ = in_batches(
                [(described[n], contexts[n]) for n in asked],
                [_id(row) for row in blank],
                partial(self._translate, engine, code),
                batch_size=self.config.engine.batch_size,
                before=before,
            )
            made += [row | _outcome(result) for row, result in zip(blank, outcomes, strict=True)]
        write_rows(path, _TRANSLATIONS, made)
        drops, num_failed = _failures(made)
        num_out = sum(row["text"] is not None for row in made)
        return Report(
            num_in=len(made), num_out=num_out, drops=drops.to_dict(), num_failed=num_failed, engine_s=engine.seconds
        )

    def _translate(self, engine: Translator, code: str, batch: Sequence[tuple[Row, str]]) -> list[Translated | Failure]:
        sources, contexts = [row["text"] for row, _ in batch], [context for _, context in batch]
        return translate(engine, sources, contexts, language=code, config=self.config.context)


class _Timed:
    """A translator, and the seconds spent in it: without those of the checks between its calls."""

    def __init__(self, engine: Translator) -> None:
        self.name, self.version = engine.name, engine.version
        self.seconds = 0.0
        self._engine = engine

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        return self._timed(self._engine.translate, texts, language)

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        return self._timed(self._engine.alternatives, texts, language)

    def _timed(
        self, call: Callable[..., list[str | Failure]], texts: Sequence[str], language: str
    ) -> list[str | Failure]:
        started_s = time.perf_counter()
        made = call(texts, language=language)
        self.seconds += time.perf_counter() - started_s
        return made


def in_batches(
    items: Sequence[T],
    ids: Sequence[str],
    call: Callable[[list[T]], Sequence[R | Failure]],
    *,
    batch_size: int,
    before: Mapping[str, R],
) -> tuple[list[R | Failure], float]:
    """What an engine makes of each item, and the seconds it took.

    Args:
        ids: of the items.
        before: results that are there already, by id.
    """
    todo = [place for place, name in enumerate(ids) if name not in before]
    results: list[R | Failure] = [before.get(name, Failure("not tried")) for name in ids]
    engine_s = 0.0
    for first in range(0, len(todo), batch_size):
        places = todo[first : first + batch_size]
        started_s = time.perf_counter()
        made = call([items[place] for place in places])
        engine_s += time.perf_counter() - started_s
        assert len(made) == len(places), "an engine answers for each item"
        for place, result in zip(places, made, strict=True):
            results[place] = result
    return results, engine_s


def _made_before(path: Path, task: Task) -> list[Row]:
    """Rows of an earlier try that did not fail."""
    return [row for row in read_rows(path) if row["failed"] is None] if task.reuse else []


def _outcome(result: Translated | Failure) -> Row:
    """The columns that say what a translation came to."""
    if isinstance(result, Failure):
        return {"text": None, "failed": result.reason, "used_context": False, "rejected": []}
    return {"failed": None, **asdict(result), "rejected": list(result.rejected)}


def _result(row: Row) -> Translated:
    """The translation that `_outcome` made columns of."""
    names = ("text", "used_context")
    return Translated(**{name: row[name] for name in names}, rejected=tuple(row["rejected"]))


def _contexts(rows: Sequence[Row]) -> list[str]:
    """For each text the description that an engine wrote of its image, unless the text is that description."""
    described = {row["key"]: row["text"] for row in rows if row["style"] is None}
    return ["" if row["style"] is None else described.get(row["key"], "") for row in rows]


def _failures(rows: Sequence[Row]) -> tuple[Drops, int]:
    """What is missing, counted by reason, and how many records can be tried again."""
    drops = Drops()
    for row in rows:
        which = f"{row['language']}: " if "language" in row else ""
        if row["failed"] is not None:
            drops.add(f"{which}{row['failed']}", row["key"])
        for reason in row.get("rejected", ()):
            drops.add(f"{which}candidate rejected, {reason}", row["key"])
        if row["text"] is None and row["failed"] is None:
            drops.add(f"{which}no candidate was good enough", row["key"])
    return drops, sum(row["failed"] is not None for row in rows)


def _id(row: Row) -> str:
    return f"{row['key']}:{row['language']}:{row['source']}"


def _captioned_in(image: BuiltImage) -> list[str]:
    """Languages other than English that the image has captions in."""
    return sorted({text.language for text in image.texts if text.source is None} - {SOURCE_LANGUAGE})


def _origin(engine: Captioner | Translator) -> str:
    return f"{engine.name} {engine.version}"
