"""A data set under a coverage, as an endless sequence of batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Integer, UInt8
from tokenizers import Tokenizer

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.collate import BadSample, Batch, collate
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.images import ImageStore, Problem
from polyglance.mixture.order import Order, WindowOrder
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.sampler import CellSampler, cell_weights
from polyglance.mixture.texts import CellPool, Frames, MemoryTexts, Texts, Tokens, cell_pools
from polyglance.mixture.token_cache import cached_texts
from polyglance.mixture.tokenizer import encode_with_gaps
from polyglance.records import Annotation

__all__ = ["Mixture", "cell_pools"]

_WINDOW_IMAGES = 1024
_CACHED_ANNOTATIONS = 500_000
"""From so many on, texts are tokens on disk rather than objects in memory."""
_MAX_TRIES = 64
"""Samples that may replace a bad one before the data is given up."""
_EMPTY: Problem = ("text: empty", "no tokens")


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Samples of a step, before their images are looked at."""

    cell: Int[np.ndarray, "B"]
    visit: Int[np.ndarray, "B"]
    row: Int[np.ndarray, "B"]
    annotation: Int[np.ndarray, "B"]
    place: Int[np.ndarray, "B"]
    """Number within the step."""

    def __getitem__(self, chosen: Int[np.ndarray, " K"]) -> "_Samples":
        return _Samples(
            cell=self.cell[chosen],
            visit=self.visit[chosen],
            row=self.row[chosen],
            annotation=self.annotation[chosen],
            place=self.place[chosen],
        )


class Mixture:
    """Batches of a data set. `batch(step)` depends on nothing but the configuration, the seed and the step.

    A sample that cannot be used (an image that does not decode, a damaged or missing shard, an empty text) is replaced
    by the one that the next visit of the same cell shows, and noted in the batch; no other sample changes.

    Args:
        tokenizer: of the targets, and of the prompts unless those have their own.
        image_size: side of the square images, in pixels.
        prompt_tokenizer: of the prompts, where it is another one.
        frames: the ids around prompts and targets.
        features: what the vision tower makes of the images; they are then not decoded.

    Raises:
        ValueError: the data has no image for a covered cell, the balance table does not fit the coverage, source
            masking with a tokenizer without `<mask>`, or features of other data.
    """

    def __init__(
        self,
        config: MixtureConfig,
        coverage: Coverage,
        reader: ShardReader,
        tokenizer: Tokenizer,
        *,
        image_size: int,
        seed: int,
        prompt_tokenizer: Tokenizer | None = None,
        frames: Frames = Frames(),  # noqa: B008  frozen
        features: FeatureStore | None = None,
    ) -> None:
        self.config, self.coverage, self.tokenizer = config, coverage, tokenizer
        self.image_size, self.seed = image_size, seed
        self.prompt_tokenizer = prompt_tokenizer or tokenizer
        self.frames = frames
        self.features = features
        if features is not None and len(features) != len(reader):
            raise ValueError(f"{features.folder}: features of {len(features)} images; the data has {len(reader)}")
        if config.source_masking.samples:
            encode_with_gaps(self.prompt_tokenizer, ["", ""])
        self._reader = reader
        self._images = ImageStore(reader, image_size, decode=config.decode, memory_bytes=config.image_memory_bytes)
        self._texts = _texts(config, reader, self.prompt_tokenizer, tokenizer)
        pools = self._texts.pools(coverage.cells)
        self._pools = list(pools.values())
        self._sampler = CellSampler(
            cell_weights(coverage, config.balance),
            {cell: len(pool.rows) for cell, pool in pools.items()},
            batch_size=config.batch_size,
            seed=seed,
            order=self._windows(pools),
        )
        self.cells = self._sampler.cells

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes make their own from the same parts: caches and memory-mapped files do not travel."""
        keywords = {"image_size": self.image_size, "seed": self.seed, "prompt_tokenizer": self.prompt_tokenizer}
        keywords |= {"frames": self.frames, "features": self.features}
        return _mixture, ((self.config, self.coverage, self._reader, self.tokenizer), keywords)

    @property
    def in_memory(self) -> bool:
        """All images are kept decoded in memory, so that loader processes have nothing to do."""
        return self.features is None and self._images.in_memory

    def batch(self, step: int) -> Batch:
        """The samples of an optimiser step."""
        return self._load(step, self._samples(step))

    def micro_batch(self, step: int, index: int, num: int) -> Batch:
        """One of the `num` parts of a step, all of the same number of samples.

        The parts together are the samples of `batch(step)`. The samples of a part are about equally long, so that
        little of it is padding; which part is the longest changes from step to step. All of it is a function of
        (seed, step, num).

        Raises:
            ValueError: the batch does not divide into so many parts.
        """
        size, rest = divmod(self.config.batch_size, num)
        if rest or not size:
            raise ValueError(f"a batch of {self.config.batch_size} samples does not divide into {num} parts")
        assert 0 <= index < num, (index, num)
        samples = self._samples(step)
        if num > 1:
            samples = samples[self._parts(step, samples, num)[index]]
        return self._load(step, samples)

    def samples_per_cell(self, num_steps: int) -> dict[str, int]:
        """S by cell after so many steps: exact, because the draw is a formula."""
        counts = self._sampler.counts_before(num_steps * self.config.batch_size)
        return {str(cell): int(count) for cell, count in zip(self.cells, counts, strict=True)}

    def _windows(self, pools: dict[Cell, CellPool]) -> Order | None:
        window_images = self.config.shuffle_window_images
        if window_images is None:
            window_images = 0 if self._images.in_memory else _WINDOW_IMAGES
        if not window_images or not len(self._reader):
            return None
        rows = {cell: pool.rows for cell, pool in pools.items()}
        order = WindowOrder(rows, self._texts.group_starts(), window_images=window_images, seed=self.seed)
        # Cells go through the data at different speeds, so each has a window of its own, and one begins a new one.
        self._reader.keep_groups(order.groups_per_window * (len(pools) + 1))
        # Cells that keep step show the same images within a window: each is decoded once for all of them.
        self._images.keep(order.images_per_window)
        return order

    def _samples(self, step: int) -> _Samples:
        draw = self._sampler.draw(step)
        row, annotation = np.empty_like(draw.item), np.empty_like(draw.item)
        for cell in range(len(self.cells)):
            chosen = draw.cell == cell
            row[chosen], annotation[chosen] = self._entries(cell, draw.item[chosen], draw.visit[chosen])
        place = np.arange(len(row))
        return _Samples(cell=draw.cell, visit=draw.visit, row=row, annotation=annotation, place=place)

    def _entries(
        self, cell: int, item: Int[np.ndarray, " K"], visit: Int[np.ndarray, " K"]
    ) -> tuple[Integer[np.ndarray, " K"], Integer[np.ndarray, " K"]]:
        """Rows and annotations that visits of a cell show."""
        pool = self._pools[cell]
        first, last = pool.first[item].astype(np.int64), pool.first[item + 1].astype(np.int64)
        # One annotation per visit; going round them shows all before any is shown again.
        chosen = first + (visit // len(pool.rows) + item) % (last - first)
        return pool.rows[item], pool.annotations[chosen]

    def _parts(self, step: int, samples: _Samples, num: int) -> Int[np.ndarray, "num K"]:
        limits = (self.config.max_source_tokens, self.config.max_target_tokens)
        prompt, target = np.minimum(self._texts.lengths(samples.annotation), limits).T
        parts = np.lexsort((prompt, target)).reshape(num, -1)
        return parts[np.random.default_rng([self.seed, 5, step]).permutation(num)]

    def _load(self, step: int, samples: _Samples) -> Batch:
        images, problems = self._pixels(samples.row)
        tokens = self._texts.tokens(samples.annotation)
        found = {**problems, **{i: _EMPTY for i, (_, target) in enumerate(tokens) if not target}}
        bad = []
        for position, (reason, detail) in sorted(found.items()):
            cell, visit, row = (int(values[position]) for values in (samples.cell, samples.visit, samples.row))
            bad.append(BadSample(reason=reason, where=f"{self.cells[cell]}, row {row}: {detail}"))
            row, annotation, image = self._replacement(cell, visit, bad[-1])
            samples.row[position], samples.annotation[position], images[position] = row, annotation, image
        if bad:
            tokens = self._texts.tokens(samples.annotation)
        limits = (self.config.max_source_tokens, self.config.max_target_tokens)
        return collate(
            images,
            [self.frames.prompt(ids, limits[0]) for ids in self._prompts(step, samples, tokens)],
            [self.frames.target(ids, limits[1]) for _, ids in tokens],
            samples.cell,
            prompt_pad=self.frames.prompt_pad,
            features=None if self.features is None else self.features[samples.row.tolist()],
            bad=tuple(bad),
        )

    def _pixels(self, rows: Integer[np.ndarray, " B"]) -> tuple[UInt8[np.ndarray, "B _ _ 3"], Mapping[int, Problem]]:
        if self.features is not None:
            return np.empty((len(rows), 0, 0, 3), np.uint8), {}
        return self._images.load(rows.tolist())

    def _replacement(self, cell: int, visit: int, bad: BadSample) -> tuple[int, int, UInt8[np.ndarray, "H W 3"]]:
        """Row, annotation and pixels of the first usable sample among the cell's next visits."""
        for later in range(visit + 1, visit + 1 + _MAX_TRIES):
            visits = np.array([later])
            row, annotation = self._entries(cell, self._sampler.items(cell, visits), visits)
            pixels, problems = self._pixels(row)
            if not problems and self._texts.tokens(annotation)[0][1]:
                return int(row[0]), int(annotation[0]), pixels[0]
        raise ValueError(
            f"{self._reader.directory}: {_MAX_TRIES + 1} samples in a row cannot be used; the first: "
            f"{bad.reason} ({bad.where})"
        )

    def _prompts(self, step: int, samples: _Samples, tokens: Sequence[Tokens]) -> list[Sequence[int]]:
        """Ids of the prompts, with some source words hidden where masking is on and hits the sample."""
        prompts = [prompt for prompt, _ in tokens]
        masking = self.config.source_masking
        if not masking.samples:
            return prompts
        for position, cell in enumerate(samples.cell.tolist()):
            if self.cells[cell].task == "caption":
                continue
            random = np.random.default_rng([self.seed, 3, step, int(samples.place[position])])
            if random.random() < masking.samples:
                entry = self._texts.annotation(int(samples.row[position]), int(samples.annotation[position]))
                texts = _with_gaps(entry, masking.words, random)
                prompts[position] = encode_with_gaps(self.prompt_tokenizer, texts)
        return prompts


def _mixture(parts: tuple[Any, ...], keywords: dict[str, Any]) -> Mixture:
    return Mixture(*parts, **keywords)


def _texts(config: MixtureConfig, reader: ShardReader, prompt_tokenizer: Tokenizer, tokenizer: Tokenizer) -> Texts:
    num_annotations = sum(reader.manifest.rows_per_cell.values())
    if config.token_cache is None and num_annotations < _CACHED_ANNOTATIONS:
        return MemoryTexts(reader, prompt_tokenizer, tokenizer)
    root = config.token_cache or reader.directory
    if not isinstance(root, Path):
        raise ValueError(f"{root}: nothing is written there; set mixture.token_cache to a folder for the texts' tokens")
    return cached_texts(reader, prompt_tokenizer, tokenizer, root=root)


def _with_gaps(annotation: Annotation, share: float, random: np.random.Generator) -> list[str]:
    """The prompt of a translation in pieces: between each two of them a source word is hidden."""
    assert annotation.source is not None
    words = annotation.source.split(" ")
    hidden = set(random.permutation(len(words))[: round(share * len(words))].tolist())
    pieces = [prompt_of(replace(annotation, source=""))]
    for index, word in enumerate(words):
        space = " " if index else ""
        if index in hidden:
            pieces[-1] += space
            pieces.append("")
        else:
            pieces[-1] += space + word
    return pieces
