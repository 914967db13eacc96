"""Steps that match bitext to images: vectors of both, the nearest sentences of each image, and those that are kept."""

import shutil
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from polyglance.data.align import (
    AlignConfig,
    AlignResult,
    Embeddings,
    FaissConfig,
    build_index,
    search,
    select,
    tune_search,
)
from polyglance.data.annotate import MatchedPair
from polyglance.data.build.describe import DescribeStep
from polyglance.data.build.ingest import BitextStep, ImagesStep, SelectStep
from polyglance.data.build.parts import PartId, PartReport, PartWork
from polyglance.data.build.row_files import read_rows, write_rows, write_vectors
from polyglance.data.build.step import Step
from polyglance.engines import Embedder, EngineConfig, open_embedder
from polyglance.engines.words import find_content_words
from polyglance.records import Drops

__all__ = [
    "CandidatesStep",
    "CaptionVectorsStep",
    "ImageVectorsStep",
    "IndexStep",
    "MatchConfig",
    "MatchesStep",
    "TextVectorsStep",
    "TuneStep",
]

_MATCHES = pa.schema([("key", pa.string()), ("language", pa.string()), ("pair", pa.int64()), ("score", pa.float32())])
"""Pairs of a language are numbered through all its files."""
_WORDLESS_IMAGE = "match: image without a content word in its English texts"
_WORDLESS_SENTENCE = "match: sentence without a content word"
_TUNED = ("num_probes", "refine_factor")


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """Matching of bitext sentences to the images that show what they say."""

    engine: EngineConfig
    """The embedder of images and English texts; `words` compares the sentences with the images' captions, and matches
    only sentences that share a content word with them."""
    align: AlignConfig = field(default_factory=AlignConfig)
    """Search for the nearest sentences, and which of them are kept; for each language on its own."""


@dataclass(frozen=True, kw_only=True)
class _VectorsStep(Step, ABC):
    """Vectors of images or texts; a part is a file of them."""

    suffix = ".npy"

    engine: EngineConfig

    @abstractmethod
    def read_items(self, part: PartId) -> Sequence[Any]:
        """Read the images or texts of a part."""

    @abstractmethod
    def embed(self, engine: Embedder, items: Sequence[Any]) -> Float[np.ndarray, "_ D"]:
        """Embed a batch."""

    def load_engine(self) -> Embedder:
        return open_embedder(self.engine)

    def run(self, work: PartWork) -> PartReport:
        items = self.read_items(work.part)
        batches = [
            items[first : first + self.engine.batch_size] for first in range(0, len(items), self.engine.batch_size)
        ]
        started_s = time.perf_counter()
        vectors = [self.embed(work.engine, batch) for batch in batches]
        engine_s = time.perf_counter() - started_s
        empty = np.empty((0, work.engine.dim), dtype=np.float32)
        with work.writing() as path:
            write_vectors(path, np.concatenate(vectors) if vectors else empty)
        drops = self.count_wordless(items) if self.engine.kind == "words" else Drops()
        return PartReport(num_in=len(items), num_out=len(items), drops=drops.to_dict(), engine_s=engine_s)

    def count_wordless(self, items: Sequence[Any]) -> Drops:  # noqa: ARG002
        """Count texts without a content word, which match nothing."""
        return Drops()


@dataclass(frozen=True, kw_only=True)
class ImageVectorsStep(_VectorsStep):
    """A vector of each image; a part is a file of images."""

    name = "image-vectors"
    unit = "images"

    images: ImagesStep
    select: SelectStep

    def parts(self) -> Sequence[PartId]:
        return self.select.folder.list_files()

    def read_items(self, part: PartId) -> Sequence[Any]:
        return [image.image for image in self.select.read_kept(part)]

    def embed(self, engine: Embedder, items: Sequence[Any]) -> Float[np.ndarray, "_ D"]:
        return engine.embed_images(items)

    def open_vectors(self, files: Sequence[PartId]) -> Embeddings:
        """Open the vectors of files of images, in this order."""
        return Embeddings([self.folder.file(file) for file in files])

    def check_matchable(self) -> None:
        """Refuse images if none of them can match. Vectors of pictures always can.

        Raises:
            ValueError: none can.
        """

    def find_related(
        self,
        file: PartId,  # noqa: ARG002
        candidates: AlignResult,
        read_sentences: Callable[[Sequence[int]], Sequence[str]],  # noqa: ARG002
    ) -> Bool[np.ndarray, "pairs"]:
        """Tell which candidates of a file of images may be matched, whatever their scores are.

        Args:
            read_sentences: reads English sentences by their numbers.
        """
        return np.ones(len(candidates.score), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class CaptionVectorsStep(ImageVectorsStep):
    """A vector of each image by its English texts; a part is a file of images."""

    describe: DescribeStep

    def read_items(self, part: PartId) -> list[str]:
        texts: defaultdict[str, list[str]] = defaultdict(list)
        for text in self.describe.read_texts(part):
            texts[text.key].append(text.text)
        return [" ".join(texts[key]) for key in self.select.read_kept_keys(part)]

    def embed(self, engine: Embedder, items: Sequence[Any]) -> Float[np.ndarray, "_ D"]:
        return engine.embed_texts(items)

    def count_wordless(self, items: Sequence[Any]) -> Drops:
        return _count_wordless(items, _WORDLESS_IMAGE)

    def check_matchable(self) -> None:
        reports = [self.folder.read_report(part) for part in self.parts()]
        num_images = sum(report.num_in for report in reports)
        num_wordless = sum(report.drops.get(_WORDLESS_IMAGE, {"count": 0})["count"] for report in reports)
        if num_images and num_wordless == num_images:
            raise ValueError(
                f"match.engine is words, but none of the {num_images} images has an English text with content words: "
                "give them captions (images.texts, captioned, recaption), or match with the engine clip"
            )

    def find_related(
        self, file: PartId, candidates: AlignResult, read_sentences: Callable[[Sequence[int]], Sequence[str]]
    ) -> Bool[np.ndarray, "pairs"]:
        """Tell which candidates share a content word. Scores do not show it: unrelated texts get some by chance."""
        words_of_image = [set(find_content_words(text)) for text in self.read_items(file)]
        numbers = np.unique(candidates.sentence_id).tolist()
        words_of_sentence = dict(zip(numbers, map(find_content_words, read_sentences(numbers)), strict=True))
        pairs = zip(candidates.image_index.tolist(), candidates.sentence_id.tolist(), strict=True)
        related = [not words_of_image[image].isdisjoint(words_of_sentence[sentence]) for image, sentence in pairs]
        return np.array(related, dtype=bool)


def _count_wordless(texts: Sequence[str], reason: str) -> Drops:
    drops = Drops()
    for text in texts:
        if not find_content_words(text):
            drops.add(reason, repr(text[:100]))
    return drops


@dataclass(frozen=True, kw_only=True)
class TextVectorsStep(_VectorsStep):
    """A vector of the English side of each pair; a part is a file of pairs."""

    name = "text-vectors"
    unit = "sentences"

    bitext: BitextStep

    def parts(self) -> Sequence[PartId]:
        return self.bitext.folder.list_files()

    def read_items(self, part: PartId) -> list[str]:
        return self.bitext.read_table(part)["source"].to_pylist()

    def embed(self, engine: Embedder, items: Sequence[Any]) -> Float[np.ndarray, "_ D"]:
        return engine.embed_texts(items)

    def count_wordless(self, items: Sequence[Any]) -> Drops:
        return _count_wordless(items, _WORDLESS_SENTENCE)

    def open_vectors(self, code: str) -> Embeddings:
        """Open the vectors of a language's English sentences, numbered as its pairs are."""
        return Embeddings([self.folder.file(file) for file in self.folder.list_files(PartId(language=code))])

    def read_sentences(self, code: str, numbers: Sequence[int]) -> list[str]:
        """Read English sentences of a language's pairs by number."""
        return [source for source, _ in _read_texts(self.bitext, code, numbers)]


@dataclass(frozen=True, kw_only=True)
class IndexStep(Step):
    """The index of an approximate search; a part is a language."""

    name = "index"
    unit = "sentences"
    suffix = ""

    texts: TextVectorsStep
    sizes: FaissConfig
    """Settings of the index; those of the search are not set."""
    seed: int

    def parts(self) -> Sequence[PartId]:
        return [PartId(language=code) for code in self.texts.bitext.list_languages()]

    def run(self, work: PartWork) -> PartReport:
        sentences = self.texts.open_vectors(work.part.language)
        if work.earlier_file is not None:
            shutil.rmtree(work.earlier_file)
        with work.writing() as folder:
            build_index(sentences, self.sizes, folder, seed=self.seed)
        return PartReport(num_in=len(sentences), num_out=len(sentences))


@dataclass(frozen=True, kw_only=True)
class TuneStep(Step):
    """Settings with which the search of an index reaches the wanted recall, and that recall; a part is a language."""

    name = "tuning"
    unit = "images"

    select: SelectStep
    images: ImageVectorsStep
    texts: TextVectorsStep
    index: IndexStep
    config: AlignConfig

    def parts(self) -> Sequence[PartId]:
        return self.index.parts() if self.select.list_files_with_images() else ()

    def run(self, work: PartWork) -> PartReport:
        code = work.part.language
        images = self.images.open_vectors(self.select.list_files_with_images())
        tuned = tune_search(images, self.texts.open_vectors(code), self.config, self.index.folder.file(work.part))
        with work.writing() as path:
            schema = pa.schema([(name, pa.int32()) for name in _TUNED])
            write_rows(path, schema, [{name: getattr(tuned.config, name) for name in _TUNED}])
        warning = f"{code}: {tuned.warning}" if tuned.warning else ""
        return PartReport(num_in=tuned.num_images, num_out=tuned.num_images, recall=tuned.recall, warning=warning)

    def read_tuned(self, code: str) -> AlignConfig:
        """Read the settings of the search of a language's index."""
        (values,) = read_rows(self.folder.file(PartId(language=code)))
        return replace(self.config, faiss=replace(self.config.faiss, **values))


@dataclass(frozen=True, kw_only=True)
class CandidatesStep(Step):
    """The nearest sentences of each image in each language; a part is a file of images and a language."""

    name = "candidates"
    unit = "images"
    suffix = ".npz"

    select: SelectStep
    images: ImageVectorsStep
    texts: TextVectorsStep
    tune: TuneStep | None
    """None: an exact search."""
    config: AlignConfig

    def parts(self) -> Sequence[PartId]:
        files = self.select.list_files_with_images()
        languages = self.texts.bitext.list_languages()
        if files and languages:
            self.images.check_matchable()
        return [file._replace(language=code) for code in languages for file in files]

    def run(self, work: PartWork) -> PartReport:
        code = work.part.language
        images = self.images.open_vectors([work.part._replace(language="")])
        sentences = self.texts.open_vectors(code)
        if self.tune is None:
            nearest = search(images, sentences, self.config)
        else:
            index = self.tune.index.folder.file(PartId(language=code))
            nearest = search(images, sentences, self.tune.read_tuned(code), index)
        num_found = len(nearest.score)
        related = self.images.find_related(
            work.part._replace(language=""), nearest, partial(self.texts.read_sentences, code)
        )
        nearest = nearest.choose(related)
        drops = Drops()
        if num_unrelated := num_found - len(nearest.score):
            drops.add(
                f"{code}: candidate that shares no content word with the image's texts", str(work.part), num_unrelated
            )
        with work.writing() as path, path.open("wb") as file:
            np.savez(file, image=nearest.image_index, sentence=nearest.sentence_id, score=nearest.score)
        return PartReport(num_in=len(images), num_out=len(nearest.score), drops=drops.to_dict())

    def read_candidates(self, file: PartId, num_images: int) -> AlignResult:
        """Read the candidates of a file of images, for a language."""
        with np.load(self.folder.file(file)) as arrays:
            return AlignResult(
                num_images=num_images,
                image_index=arrays["image"],
                sentence_id=arrays["sentence"],
                score=arrays["score"],
            )


@dataclass(frozen=True, kw_only=True)
class MatchesStep(Step):
    """Choice of the candidates to keep, over all images so that no sentence is used without limit; a part is a
    language, and makes a file for each file of images."""

    name = "matches"
    unit = "candidates"

    images: ImagesStep
    select: SelectStep
    bitext: BitextStep
    image_vectors: ImageVectorsStep
    text_vectors: TextVectorsStep
    candidates: CandidatesStep
    config: AlignConfig

    def parts(self) -> Sequence[PartId]:
        languages = {file.language for file in self.candidates.folder.list_files()}
        return [PartId(language=code) for code in self.bitext.list_languages() if code in languages]

    def run(self, work: PartWork) -> PartReport:
        code = work.part.language
        files = [file._replace(language="") for file in self.candidates.folder.list_files(work.part)]
        keys = [self.select.read_kept_keys(file) for file in files]
        candidates = AlignResult.concatenate(
            [
                self.candidates.read_candidates(file._replace(language=code), len(file_keys))
                for file, file_keys in zip(files, keys, strict=True)
            ]
        )
        vectors = self.image_vectors.open_vectors(files)
        kept = select(candidates, vectors, self.text_vectors.open_vectors(code), self.config)
        drops = Drops()
        if num_dropped := len(candidates.score) - len(kept.score):
            drops.add(f"{code}: candidate below the threshold, beyond top_n or of a hub", code, num_dropped)
        start = 0
        for file, file_keys in zip(files, keys, strict=True):
            chosen = (kept.image_index >= start) & (kept.image_index < start + len(file_keys))
            columns = (values[chosen].tolist() for values in (kept.image_index, kept.sentence_id, kept.score))
            rows = [
                {"key": file_keys[image - start], "language": code, "pair": pair, "score": score}
                for image, pair, score in zip(*columns, strict=True)
            ]
            with work.writing(file._replace(language=code)) as path:
                write_rows(path, _MATCHES, rows)
            start += len(file_keys)
        return PartReport(num_in=len(candidates.score), num_out=len(kept.score), drops=drops.to_dict())

    def read_pairs(self, file: PartId) -> dict[str, list[MatchedPair]]:
        """Read the pairs that are matched to the images of a file: key -> its pairs, the best first."""
        pairs: defaultdict[str, list[MatchedPair]] = defaultdict(list)
        for part in self.bitext.parts():
            path = self.folder.file(file._replace(language=part.language))
            if not path.exists():  # no pairs of this language, or no image of this file is kept
                continue
            rows = read_rows(path)
            texts = _read_texts(self.bitext, part.language, [row["pair"] for row in rows])
            for row, (source, target) in zip(rows, texts, strict=True):
                pairs[row["key"]].append(
                    MatchedPair(
                        language=part.language, source=source, target=target, origin="bitext", score=row["score"]
                    )
                )
        return pairs


def _read_texts(bitext: BitextStep, code: str, numbers: Sequence[int]) -> list[tuple[str, str]]:
    """Read source and target of a language's pairs by number; only the pages with these pairs are read."""
    tables = [bitext.read_table(file) for file in bitext.folder.list_files(PartId(language=code))]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    texts = []
    for number in numbers:
        place = int(np.searchsorted(starts, number, side="right")) - 1
        row = number - int(starts[place])
        texts.append((tables[place]["source"][row].as_py(), tables[place]["target"][row].as_py()))
    return texts
