"""Steps that match bitext to images: vectors of both, the nearest sentences of each image, those that are kept."""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.align import AlignConfig, AlignResult, Embeddings, search, select, tune_search
from polyglance.data.align.approximate import build_index
from polyglance.data.build.annotate import MatchedPair
from polyglance.data.build.files import read_rows, write_rows, write_vectors
from polyglance.data.build.ingest import (
    BitextStep,
    SelectStep,
    kept_images,
    kept_keys,
    num_kept,
    pair_parts,
    read_pairs,
)
from polyglance.data.build.tasks import Report, Task, output_digests
from polyglance.engines import Embedder, EngineConfig, open_embedder
from polyglance.files import replacing
from polyglance.records import Drops

__all__ = ["AlignStep", "HubsStep", "ImageVectorsStep", "IndexStep", "MatchConfig", "TextVectorsStep", "TuneStep"]

T = TypeVar("T")

_PAIRS = pa.schema([("key", pa.string()), ("language", pa.string()), ("pair", pa.int64()), ("score", pa.float32())])
"""A pair's number counts the pairs of its language through all parts."""
_TUNED = pa.schema([("num_probes", pa.int32()), ("refine_factor", pa.int32())])


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """Bitext sentences matched to images by what they show."""

    engine: EngineConfig
    """The embedder of images and English texts."""
    align: AlignConfig = field(default_factory=AlignConfig)
    """How the nearest sentences are searched, and which are kept: for each language on its own."""


@dataclass(frozen=True, kw_only=True)
class ImageVectorsStep:
    """A vector of each image."""

    work_dir: Path
    select: SelectStep
    engine: EngineConfig
    name: str = "image-vectors"
    unit: str = "images"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.engine, self.engine.weights, self.select.fingerprint)

    def parts(self) -> Sequence[str]:
        return self.select.image_parts()

    def inputs(self, part: str) -> tuple[str, ...]:
        return self.select.kept_digests(part)

    def parts_with_images(self) -> list[str]:
        """Those of which an image is kept."""
        return [part for part in self.parts() if num_kept(self.work_dir, part)]

    def start(self) -> Embedder:
        return open_embedder(self.engine)

    def run(self, task: Task) -> Report:
        engine: Embedder = task.engine
        images = [image.image for image in kept_images(self.work_dir, task.part)]
        return _write_embedded(task, engine.embed_images, images, self.engine.batch_size)


@dataclass(frozen=True, kw_only=True)
class TextVectorsStep:
    """A vector of the English side of each pair."""

    work_dir: Path
    bitext: BitextStep
    engine: EngineConfig
    name: str = "text-vectors"
    unit: str = "sentences"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.engine, self.engine.weights, self.bitext.fingerprint)

    def parts(self) -> Sequence[str]:
        return [f"{code}-{path.stem}" for code in self.bitext.parts() for path in pair_parts(self.work_dir, code)]

    def inputs(self, part: str) -> tuple[str, ...]:
        code, _, number = part.rpartition("-")
        return (output_digests(self.work_dir / self.bitext.name, code)[f"{code}/{number}.arrow"],)

    def languages(self) -> list[str]:
        """Those that have pairs."""
        return [code for code in self.bitext.parts() if pair_parts(self.work_dir, code)]

    def of_language(self, code: str) -> str:
        """Digest of a language's vectors."""
        return self._of_languages[code]

    @cached_property
    def _of_languages(self) -> dict[str, str]:
        folder = self.work_dir / self.name
        found: defaultdict[str, list[str]] = defaultdict(list)
        for part in self.parts():
            found[part.rpartition("-")[0]] += output_digests(folder, part).values()
        return {code: fingerprint(digests) for code, digests in found.items()}

    def start(self) -> Embedder:
        return open_embedder(self.engine)

    def run(self, task: Task) -> Report:
        engine: Embedder = task.engine
        code, _, number = task.part.rpartition("-")
        texts = read_pairs(self.work_dir / "bitext" / code / f"{number}.arrow")["source"].to_pylist()
        return _write_embedded(task, engine.embed_texts, texts, self.engine.batch_size)


@dataclass(frozen=True, kw_only=True)
class IndexStep:
    """The index of an approximate search; a part is a language. An exact search has none."""

    work_dir: Path
    texts: TextVectorsStep
    config: AlignConfig
    name: str = "index"
    unit: str = "sentences"

    @property
    def fingerprint(self) -> str:
        faiss = self.config.faiss
        sizes = (faiss.num_lists, faiss.code_bytes, faiss.num_train)  # the rest is of the search alone
        return fingerprint(__version__, self.name, *sizes, self.config.seed, self.texts.fingerprint)

    def parts(self) -> Sequence[str]:
        """The languages, where an index is used."""
        return self.texts.languages() if self.config.method == "faiss" else ()

    def inputs(self, part: str) -> tuple[str, ...]:
        return (self.texts.of_language(part),)

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        sentences = sentence_vectors(self.work_dir, task.part)
        shutil.rmtree(task.out, ignore_errors=True)  # of other sentences
        build_index(sentences, self.config.faiss, task.out, seed=self.config.seed)
        return Report(num_in=len(sentences), num_out=len(sentences))


@dataclass(frozen=True, kw_only=True)
class TuneStep:
    """How thorough the search of an index is to be, and what it finds then; a part is a language."""

    work_dir: Path
    images: ImageVectorsStep
    index: IndexStep
    config: AlignConfig
    name: str = "tuning"
    unit: str = "images"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.config, self.images.fingerprint, self.index.fingerprint)

    def parts(self) -> Sequence[str]:
        return self.index.parts() if self.images.parts_with_images() else ()

    def inputs(self, part: str) -> tuple[str, ...]:
        folder = self.work_dir / self.images.name
        vectors = [list(output_digests(folder, name).items()) for name in self.images.parts_with_images()]
        return (fingerprint(vectors), self.index.texts.of_language(part))

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        folder = self.work_dir / self.images.name
        images = Embeddings([folder / f"{name}.npy" for name in self.images.parts_with_images()])
        sentences = sentence_vectors(self.work_dir, task.part)
        measured = tune_search(images, sentences, self.config, self.work_dir / self.index.name / task.part)
        found = {name: getattr(measured.config, name) for name in _TUNED.names}
        write_rows(task.out.with_suffix(".parquet"), _TUNED, [found])
        warning = f"{task.part}: {measured.warning}" if measured.warning else ""
        num_images = measured.num_images
        return Report(num_in=num_images, num_out=num_images, recall=measured.recall, warning=warning)

    def tuned(self, code: str) -> AlignConfig:
        """The search of a language's index; an exact search is as it is."""
        if self.config.method == "exact":
            return self.config
        (found,) = read_rows(self.work_dir / self.name / f"{code}.parquet")
        return replace(self.config, faiss=replace(self.config.faiss, **found), num_recall_images=0)


@dataclass(frozen=True, kw_only=True)
class AlignStep:
    """The nearest sentences of each image in each language; a part is a part of images and a language."""

    work_dir: Path
    tune: TuneStep
    name: str = "candidates"
    unit: str = "images"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.tune.fingerprint)

    @property
    def images(self) -> ImageVectorsStep:
        return self.tune.images

    @property
    def texts(self) -> TextVectorsStep:
        return self.tune.index.texts

    def parts(self) -> Sequence[str]:
        """Every part of images with every language that has pairs."""
        images = self.images.parts_with_images()
        return [f"{part}-{code}" for code in self.texts.languages() for part in images]

    def inputs(self, part: str) -> tuple[str, ...]:
        images, _, code = part.rpartition("-")
        vectors = output_digests(self.work_dir / self.images.name, images).values()
        return (*vectors, self.texts.of_language(code), *output_digests(self.work_dir / self.tune.name, code).values())

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        part, _, code = task.part.rpartition("-")
        images = Embeddings(self.work_dir / self.images.name / f"{part}.npy")
        sentences = sentence_vectors(self.work_dir, code)
        found = search(images, sentences, self.tune.tuned(code), self.work_dir / self.tune.index.name / code)
        with (
            replacing(task.out.with_suffix(".npz"), several_writers=True) as partial,
            partial.open("wb") as file,
        ):
            np.savez(file, image=found.image_index, sentence=found.sentence_id, score=found.score)
        return Report(num_in=len(images), num_out=len(found.score))

    def candidates(self, code: str) -> tuple[AlignResult, list[str]]:
        """Candidates of all images for a language, and the parts of images in the order they are numbered in."""
        parts = [part.rpartition("-")[0] for part in self.parts() if part.rpartition("-")[2] == code]
        results = []
        for part in parts:
            with np.load(self.work_dir / self.name / f"{part}-{code}.npz") as arrays:
                found = (arrays["image"], arrays["sentence"], arrays["score"])
            results.append(
                AlignResult(
                    num_images=len(kept_keys(self.work_dir, part)),
                    image_index=found[0],
                    sentence_id=found[1],
                    score=found[2],
                )
            )
        return AlignResult.concatenate(results), parts


@dataclass(frozen=True, kw_only=True)
class HubsStep:
    """Which candidates are kept, seen over all images, so that no sentence wins without limit; a part is a language."""

    work_dir: Path
    align: AlignStep
    name: str = "matches"
    unit: str = "candidates"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.align.fingerprint)

    def parts(self) -> Sequence[str]:
        return self.align.texts.languages() if self.align.images.parts_with_images() else ()

    def inputs(self, part: str) -> tuple[str, ...]:
        found = []
        for name in self.align.parts():
            images, _, code = name.rpartition("-")
            if code == part:
                found += [images, *self.align.images.inputs(images), *self.align.inputs(name)]
                found += output_digests(self.work_dir / self.align.name, name).values()
        return tuple(found)

    def matched_digests(self, part: str) -> tuple[str, ...]:
        """Digests of what `matched_pairs` reads."""
        bitext = self.align.texts.bitext.name
        found = []
        for code in self.parts():
            own = output_digests(self.work_dir / self.name, code).get(f"{code}/{part}.parquet")
            if own is not None:  # and its pairs' texts, which the numbers in it do not tell
                found += [own, fingerprint(list(output_digests(self.work_dir / bitext, code).values()))]
        return tuple(found)

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        candidates, parts = self.align.candidates(task.part)
        vectors = [self.work_dir / self.align.images.name / f"{part}.npy" for part in parts]
        sentences = sentence_vectors(self.work_dir, task.part)
        kept = select(candidates, Embeddings(vectors), sentences, self.align.tune.config)
        drops = Drops()
        num_dropped = len(candidates.score) - len(kept.score)
        if num_dropped:
            drops.add(f"{task.part}: candidate below the threshold, beyond top_n or of a hub", task.part, num_dropped)
        start = 0
        for part in parts:
            keys = kept_keys(self.work_dir, part)
            own = np.flatnonzero((kept.image_index >= start) & (kept.image_index < start + len(keys)))
            rows = [
                {"key": keys[image - start], "language": task.part, "pair": pair, "score": score}
                for image, pair, score in zip(
                    kept.image_index[own].tolist(),
                    kept.sentence_id[own].tolist(),
                    kept.score[own].tolist(),
                    strict=True,
                )
            ]
            write_rows(task.out / f"{part}.parquet", _PAIRS, rows)
            start += len(keys)
        return Report(num_in=len(candidates.score), num_out=len(kept.score), drops=drops.to_dict())

    def matched_pairs(self, part: str) -> dict[str, list[MatchedPair]]:
        """Key of an image of this part -> its pairs, the best first."""
        found: defaultdict[str, list[MatchedPair]] = defaultdict(list)
        for code in self.parts():
            path = self.work_dir / self.name / code / f"{part}.parquet"
            if not path.exists():  # no image of the part was kept
                continue
            rows = read_rows(path)
            texts = _texts(self.work_dir, code, [row["pair"] for row in rows])
            for row, (source, target) in zip(rows, texts, strict=True):
                found[row["key"]].append(
                    MatchedPair(language=code, source=source, target=target, origin="bitext", score=row["score"])
                )
        return found


def sentence_vectors(work_dir: Path, code: str) -> Embeddings:
    """Vectors of a language's English sentences, numbered as its pairs are."""
    return Embeddings([work_dir / "text-vectors" / f"{code}-{path.stem}.npy" for path in pair_parts(work_dir, code)])


def _texts(work_dir: Path, code: str, pairs: Sequence[int]) -> list[tuple[str, str]]:
    """Source and target of pairs by number: only the pages they lie on are read."""
    tables = [read_pairs(path) for path in pair_parts(work_dir, code)]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    found = []
    for pair in pairs:
        number = int(np.searchsorted(starts, pair, side="right")) - 1
        row = pair - int(starts[number])
        found.append((tables[number]["source"][row].as_py(), tables[number]["target"][row].as_py()))
    return found


def _write_embedded(
    task: Task, embed: Callable[[Sequence[T]], Float[np.ndarray, "_ D"]], items: Sequence[T], batch_size: int
) -> Report:
    """Vectors of images or texts into the task's file, a batch at a time."""
    started_s = time.perf_counter()
    vectors = [embed(items[first : first + batch_size]) for first in range(0, len(items), batch_size)]
    engine_s = time.perf_counter() - started_s
    empty = np.empty((0, task.engine.dim), dtype=np.float32)
    write_vectors(task.out.with_suffix(".npy"), np.concatenate(vectors) if vectors else empty)
    return Report(num_in=len(items), num_out=len(items), engine_s=engine_s)
