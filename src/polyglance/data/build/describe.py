"""Steps with text engines: descriptions of images, and translations."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from polyglance.data.answers import clean_answer, find_answer_flaw
from polyglance.data.build.ingest import BuiltImage, ImagesStep, SelectStep
from polyglance.data.build.parts import PartId, PartReport, PartWork
from polyglance.data.build.row_files import read_rows, write_records
from polyglance.data.build.step import Step
from polyglance.data.context import Translated, TranslationConfig, translate_with_context
from polyglance.engines import Captioner, EngineConfig, Failure, Translator, open_captioner, open_translator
from polyglance.engines.prompts import check_translation_prompt
from polyglance.language_tags import find_codes
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.records import Drops, Style
from polyglance.settings import refuse_unknown_slots

__all__ = ["DescribeStep", "EnglishText", "RecaptionConfig", "TranslateConfig", "TranslateStep"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class RecaptionConfig:
    """English descriptions of the images, written by an engine.

    Raises:
        ValueError: a prompt with a word in braces, for which nothing is filled in here.
    """

    engine: EngineConfig
    """The captioner."""
    style: Style = "paragraph"
    """Style that the engine is asked for. The number of sentences of its text decides which captions are made of it."""
    context_only: bool = False
    """Use the descriptions only as context for the translation of given captions; they become no captions."""

    def __post_init__(self) -> None:
        refuse_unknown_slots("engine.prompt", self.engine.prompt, ())


@dataclass(frozen=True, kw_only=True)
class TranslateConfig:
    """Translations of descriptions and captions.

    Raises:
        ValueError: an unknown language, or English; a prompt that does not say where the text goes, or has another word
            in braces than `text` and `language`.
    """

    engine: EngineConfig
    """The translator."""
    languages: tuple[str, ...] = ("de",)
    """Target languages."""
    skip_captioned: bool = True
    """Do not translate an image's captions into a language in which the image has captions already."""
    context: TranslationConfig = field(default_factory=TranslationConfig)
    """Use of an image's description in the translation of its captions."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", find_codes(self.languages))
        if SOURCE_LANGUAGE in self.languages:
            raise ValueError(f"languages has {SOURCE_LANGUAGE!r}, the source of all translations; leave it out")
        check_translation_prompt(self.engine.prompt)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnglishText:
    """An English text of an image: a row of the files of `DescribeStep`."""

    key: str
    text: str
    """For a failure, the answer that was refused, if there was one."""
    style: Style | None = None
    """Style of a given text; None: a description by an engine."""
    origin: str
    failed: str | None = None
    """Reason of the engine's failure; None if it did not fail."""
    captioned: Sequence[str] = ()
    """Other languages in which the image has captions, with each given text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslatedText:
    """A translation of an `EnglishText`: a row of the files of `TranslateStep`."""

    key: str
    source: str
    language: str
    text: str | None
    """None: the engine failed, or no candidate was good enough."""
    origin: str
    failed: str | None = None
    """Reason of the engine's failure; None if it did not fail."""
    used_context: bool = False
    rejected: Sequence[str] = ()
    """Flaws of rejected candidates."""

    @property
    def id(self) -> tuple[str, str, str]:
        """Fields by which a translation is found again."""
        return self.key, self.language, self.source


_REJECTED = "description rejected, "
"""Beginning of the reasons of answers that were given but are no descriptions; another try would give the same."""
_STRING, _STRINGS = pa.string(), pa.list_(pa.string())
_ENGLISH_TEXTS = pa.schema(
    [(name, _STRING) for name in ("key", "text", "style", "origin", "failed")] + [("captioned", _STRINGS)]
)
_TRANSLATIONS = pa.schema(
    [(name, _STRING) for name in ("key", "source", "language", "text", "origin", "failed")]
    + [("used_context", pa.bool_()), ("rejected", _STRINGS)]
)


@dataclass(frozen=True, kw_only=True)
class DescribeStep(Step):
    """English texts of each image: those that it came with, and an engine's description; a part is a file of images."""

    name = "descriptions"
    unit = "texts"

    images: ImagesStep
    select: SelectStep
    config: RecaptionConfig | None

    def parts(self) -> Sequence[PartId]:
        return self.select.folder.list_files()

    def load_engine(self) -> Captioner | None:
        return None if self.config is None else open_captioner(self.config.engine)

    def run(self, work: PartWork) -> PartReport:
        images = list(self.select.read_kept(work.part))
        given = [
            EnglishText(
                key=image.key, text=text.text, style=text.style, origin=text.origin, captioned=_captioned_in(image)
            )
            for image in images
            for text in image.texts
            if text.language == SOURCE_LANGUAGE and text.source is None
        ]
        described, engine_s = ([], 0.0) if self.config is None else self._describe(work, images, self.config)
        with work.writing() as path:
            write_records(path, _ENGLISH_TEXTS, [*given, *described])
        drops = Drops()
        for text in described:
            if text.failed is not None:
                drops.add(text.failed, f"{text.key}{f': {text.text[:200]}' if text.text else ''}")
        num_missing = sum(drops.counts.values())
        num_rejected = sum(count for reason, count in drops if reason.startswith(_REJECTED))
        return PartReport(
            num_in=len(images),
            num_out=len(given) + len(described) - num_missing,
            drops=drops.to_dict(),
            num_failed=num_missing - num_rejected,
            engine_s=engine_s,
        )

    def _describe(
        self, work: PartWork, images: Sequence[BuiltImage], config: RecaptionConfig
    ) -> tuple[list[EnglishText], float]:
        engine: Captioner = work.engine
        origin = f"{engine.name} {engine.version}"
        earlier = self._read(work.earlier_file) if work.earlier_file else []
        answers, engine_s = _ask_in_batches(
            images,
            [image.key for image in images],
            partial(_caption_checked, engine, config.style),
            batch_size=config.engine.batch_size,
            earlier={text.key: text.text for text in earlier if text.style is None and text.failed is None},
        )
        texts = []
        for image, answer in zip(images, answers, strict=True):
            failed = answer.reason if isinstance(answer, Failure) else None
            text = answer.detail if isinstance(answer, Failure) else answer
            texts.append(EnglishText(key=image.key, text=text, origin=origin, failed=failed))
        return texts, engine_s

    def read_texts(self, file: PartId) -> list[EnglishText]:
        """Read the texts of a file of images, without those for which the engine failed."""
        return [text for text in self._read(self.folder.file(file)) if text.failed is None]

    def is_context_only(self, text: EnglishText) -> bool:
        """Tell whether a text is a description that becomes no caption."""
        return text.style is None and self.config is not None and self.config.context_only

    def _read(self, path: Path) -> list[EnglishText]:
        return [EnglishText(**row) for row in read_rows(path)]


@dataclass(frozen=True, kw_only=True)
class TranslateStep(Step):
    """Translations of every English text; an image's description is the context of its captions. A part is a file of
    images."""

    name = "translations"
    unit = "translations"

    describe: DescribeStep
    config: TranslateConfig

    def parts(self) -> Sequence[PartId]:
        return self.describe.folder.list_files()

    def load_engine(self) -> Translator:
        return open_translator(self.config.engine)

    def run(self, work: PartWork) -> PartReport:
        engine = _TimedTranslator(work.engine)
        texts = self.describe.read_texts(work.part)
        with_contexts = list(zip(texts, _find_contexts(texts), strict=True))
        earlier = self._read(work.earlier_file) if work.earlier_file else []
        good = {
            translation.id: Translated(
                text=translation.text,
                used_context=translation.used_context,
                rejected=tuple(translation.rejected),
            )
            for translation in earlier
            if translation.failed is None
        }
        translations: list[TranslatedText] = []
        for code in self.config.languages:
            wanted = [(text, context) for text, context in with_contexts if self._is_wanted(text, code)]
            outcomes, _ = _ask_in_batches(
                wanted,
                [(text.key, code, text.text) for text, _ in wanted],
                partial(self._translate, engine, code),
                batch_size=self.config.engine.batch_size,
                earlier=good,
            )
            for (text, _), outcome in zip(wanted, outcomes, strict=True):
                translations.append(_translated_text(text, code, engine, outcome))
        with work.writing() as path:
            write_records(path, _TRANSLATIONS, translations)
        return PartReport(
            num_in=len(translations),
            num_out=sum(translation.text is not None for translation in translations),
            drops=_count_missing(translations).to_dict(),
            num_failed=sum(translation.failed is not None for translation in translations),
            engine_s=engine.seconds,
        )

    def read_translations(self, file: PartId) -> list[TranslatedText]:
        """Read the translations of a file of images, also those without a text."""
        return self._read(self.folder.file(file))

    def _read(self, path: Path) -> list[TranslatedText]:
        return [TranslatedText(**row) for row in read_rows(path)]

    def _is_wanted(self, text: EnglishText, code: str) -> bool:
        is_captioned = self.config.skip_captioned and code in text.captioned
        return not is_captioned and not self.describe.is_context_only(text)

    def _translate(
        self, engine: Translator, code: str, batch: Sequence[tuple[EnglishText, str]]
    ) -> list[Translated | Failure]:
        sources, contexts = [text.text for text, _ in batch], [context for _, context in batch]
        return translate_with_context(engine, sources, contexts, language=code, config=self.config.context)


class _TimedTranslator:
    """A translator that measures the seconds spent in it, without the checks between its calls."""

    def __init__(self, engine: Translator) -> None:
        self.name, self.version = engine.name, engine.version
        self.seconds = 0.0
        self._engine = engine

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        return self._call(self._engine.translate, texts, language)

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        return self._call(self._engine.alternatives, texts, language)

    def _call(
        self, function: Callable[..., list[str | Failure]], texts: Sequence[str], language: str
    ) -> list[str | Failure]:
        started_s = time.perf_counter()
        answers = function(texts, language=language)
        self.seconds += time.perf_counter() - started_s
        return answers


def _ask_in_batches(
    items: Sequence[T],
    ids: Sequence[Hashable],
    ask: Callable[[list[T]], Sequence[R | Failure]],
    *,
    batch_size: int,
    earlier: Mapping[Any, R],
) -> tuple[list[R | Failure], float]:
    """Ask an engine about each item that has no earlier answer; return all answers, and the seconds it took.

    Args:
        ids: id of each item.
        earlier: good answers from an earlier try, by id.
    """
    answers: list[R | Failure] = [earlier.get(id_, Failure("not tried")) for id_ in ids]
    places = [place for place, id_ in enumerate(ids) if id_ not in earlier]
    engine_s = 0.0
    for first in range(0, len(places), batch_size):
        batch = places[first : first + batch_size]
        started_s = time.perf_counter()
        new_answers = ask([items[place] for place in batch])
        engine_s += time.perf_counter() - started_s
        assert len(new_answers) == len(batch), "an engine answers for each item"
        for place, answer in zip(batch, new_answers, strict=True):
            answers[place] = answer
    return answers, engine_s


def _caption_checked(engine: Captioner, style: Style, images: Sequence[BuiltImage]) -> list[str | Failure]:
    """Caption images; an answer with a flaw is asked for once more where the engine can (`recaption`), and is a failure
    with the flaw as its reason otherwise."""
    pictures = [image.image for image in images]
    answers = [_check_caption(answer, style) for answer in engine.caption(pictures, style=style)]
    recaption = getattr(engine, "recaption", None)
    places = [place for place, answer in enumerate(answers) if isinstance(answer, Failure)]
    if recaption is not None and places:
        again = recaption([images[place].image for place in places], style=style)
        for place, answer in zip(places, again, strict=True):
            second = _check_caption(answer, style)
            if not isinstance(second, Failure):
                answers[place] = second
    return answers


def _check_caption(answer: str | Failure, style: Style) -> str | Failure:
    if isinstance(answer, Failure):
        return answer
    text = clean_answer(answer)
    flaw = find_answer_flaw(text, SOURCE_LANGUAGE, style=style)
    return text if flaw is None else Failure(f"{_REJECTED}{flaw}", answer)


def _translated_text(text: EnglishText, code: str, engine: Translator, outcome: Translated | Failure) -> TranslatedText:
    origin = f"{engine.name} {engine.version}"
    failed = outcome.reason if isinstance(outcome, Failure) else None
    values = {"text": None} if isinstance(outcome, Failure) else asdict(outcome)
    return TranslatedText(key=text.key, source=text.text, language=code, origin=origin, failed=failed, **values)


def _find_contexts(texts: Sequence[EnglishText]) -> list[str]:
    """Find the context of each text: the engine's description of its image, unless the text is that description."""
    described = {text.key: text.text for text in texts if text.style is None}
    return ["" if text.style is None else described.get(text.key, "") for text in texts]


def _count_missing(translations: Sequence[TranslatedText]) -> Drops:
    """Count failures, rejected candidates and texts without translation, by language and reason."""
    drops = Drops()
    for translation in translations:
        code = translation.language
        if translation.failed is not None:
            drops.add(f"{code}: {translation.failed}", translation.key)
        for reason in translation.rejected:
            drops.add(f"{code}: candidate rejected, {reason}", translation.key)
        if translation.text is None and translation.failed is None:
            drops.add(f"{code}: no candidate was good enough", translation.key)
    return drops


def _captioned_in(image: BuiltImage) -> list[str]:
    """Return the languages other than English in which the image has captions."""
    return sorted({text.language for text in image.texts if text.source is None} - {SOURCE_LANGUAGE})
