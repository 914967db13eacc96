"""Batches of a data set under a coverage, an endless sequence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Integer, UInt8
from tokenizers import Tokenizer

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.collate import BadSample, Batch, collate
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.images import Defect, ImageStore
from polyglance.mixture.order import Order, WindowOrder
from polyglance.mixture.passes import Pass, divide_into_passes, plan_passes
from polyglance.mixture.prompts import prompt_of, write_prompt
from polyglance.mixture.random_streams import RandomStream
from polyglance.mixture.sampler import CellSampler, compute_cell_weights
from polyglance.mixture.shapes import Shape, choose_shapes, divide_by_length
from polyglance.mixture.texts import CellPool, Frames, MemoryTexts, Tokens
from polyglance.mixture.token_cache import TextStore, open_token_cache
from polyglance.mixture.tokenizer import encode_with_gaps, find_language_token
from polyglance.records import Annotation

__all__ = ["Mixture"]

_WINDOW_IMAGES = 1024
_CACHED_ANNOTATIONS = 500_000
"""From this number of annotations on, texts are kept as tokens on disk, not as objects in memory."""
_MAX_TRIES = 64
"""Number of samples that are tried in place of a bad one before an error is raised."""
_OBSERVED_STEPS = 64
"""Number of steps whose lengths the shapes of a run are chosen from."""
_EMPTY = Defect("text: empty", "no tokens")


class _Samples(NamedTuple):
    """Samples of a step, before their images are read: cell and visit as in `Draw`, row and annotation of the data set,
    and the sample's number within the step."""

    cell: Int[np.ndarray, "B"]
    visit: Int[np.ndarray, "B"]
    row: Int[np.ndarray, "B"]
    annotation: Int[np.ndarray, "B"]
    number: Int[np.ndarray, "B"]


class Mixture:
    """Batches of a data set. `batch(step)` depends on the configuration, the seed and the step only.

    A sample that cannot be used (an image that does not decode, a damaged or missing shard, an empty text) is replaced
    by the sample that the next visit of the same cell shows, and noted in the batch; no other sample changes.

    Args:
        tokenizer: tokenizer of the targets, and of the prompts unless `prompt_tokenizer` is given.
        image_size: side of the square images, in pixels.
        prompt_tokenizer: tokenizer of the prompts.
        frames: ids around prompts and targets.
        features: cached features of the vision tower; the images are then not decoded.
        shapes: shapes that micro-batches are padded to (`plan_shapes`); None: to their longest prompt and target.
        passes: number of samples and shape of each micro-batch of a step (`plan_passes`); None: all have the same
            number of samples.
        vocab_sizes: rows of the model's tables for prompts and for targets, to check ids against.

    Raises:
        ValueError: the data has no image for a trained cell, the balance table does not fit the coverage, source
            masking with a tokenizer without `<mask>`, a tokenizer with language tokens but none for a trained language,
            or features of other data.
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
        shapes: tuple[Shape, ...] | None = None,
        passes: tuple[Pass, ...] | None = None,
        vocab_sizes: tuple[int, int] | None = None,
    ) -> None:
        self.config, self.coverage, self.tokenizer = config, coverage, tokenizer
        self.image_size, self.seed = image_size, seed
        self.prompt_tokenizer = prompt_tokenizer or tokenizer
        self.frames = frames
        self.features = features
        self.shapes, self.passes, self.vocab_sizes = shapes, passes, vocab_sizes
        if features is not None and len(features) != len(reader):
            raise ValueError(f"{features.folder}: features of {len(features)} images; the data has {len(reader)}")
        if config.source_masking.samples:
            encode_with_gaps(self.prompt_tokenizer, ["", ""])
        for code in coverage.languages:
            find_language_token(self.prompt_tokenizer, write_prompt("caption", code))
        self._reader = reader
        self._images = ImageStore(reader, image_size, decode=config.decode, memory_bytes=config.image_memory_bytes)
        self._texts = _open_texts(config, reader, self.prompt_tokenizer, tokenizer)
        pools = self._texts.pools(coverage.cells)
        self._pools = list(pools.values())
        self._sampler = CellSampler(
            compute_cell_weights(coverage, config.balance),
            {cell: len(pool.rows) for cell, pool in pools.items()},
            batch_size=config.batch_size,
            seed=seed,
            order=self._make_order(pools),
        )
        self.cells = self._sampler.cells

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments: another process opens caches and memory-mapped files itself."""
        make = partial(
            type(self),
            image_size=self.image_size,
            seed=self.seed,
            prompt_tokenizer=self.prompt_tokenizer,
            frames=self.frames,
            features=self.features,
            shapes=self.shapes,
            passes=self.passes,
            vocab_sizes=self.vocab_sizes,
        )
        return make, (self.config, self.coverage, self._reader, self.tokenizer)

    @property
    def in_memory(self) -> bool:
        """Whether all images are kept decoded in memory, so that loader processes would not help."""
        return self.features is None and self._images.in_memory

    def batch(self, step: int) -> Batch:
        """Return the samples of an optimiser step."""
        return self._load(step, self._draw(step))

    def micro_batch(self, step: int, index: int, num_micro_batches: int) -> Batch:
        """Return one of the micro-batches of a step, all of the same number of samples unless `passes` say otherwise.

        Together they are the samples of `batch(step)`. The samples of a micro-batch are about equally long, so that
        little of it is padding; the longest is micro-batch 0, the shortest the last one. All of this is a function of
        (seed, step, num_micro_batches), `passes` and `shapes`.

        Raises:
            ValueError: the batch cannot be divided evenly.
        """
        if self.passes is not None:
            return self._pass_batch(step, index, num_micro_batches)
        size, remainder = divmod(self.config.batch_size, num_micro_batches)
        if remainder or not size:
            raise ValueError(
                f"a batch of {self.config.batch_size} samples does not divide into {num_micro_batches} micro-batches"
            )
        assert 0 <= index < num_micro_batches, (index, num_micro_batches)
        samples = self._draw(step)
        if num_micro_batches > 1:
            chosen = self._divide(samples, num_micro_batches)[index]
            samples = _Samples(*(values[chosen] for values in samples))
        return self._load(step, samples, self.shapes)

    def _pass_batch(self, step: int, index: int, num_micro_batches: int) -> Batch:
        assert self.passes is not None
        world_size, remainder = divmod(num_micro_batches, len(self.passes))
        assert not remainder, (num_micro_batches, self.passes)
        samples = self._draw(step)
        lengths = self._exact_lengths(step, samples)
        chosen, shape = divide_into_passes(lengths, self.passes, self._limit, world_size)[index]
        # A sample in place of a bad one may be too long for the shape.
        return self._load(step, _Samples(*(values[chosen] for values in samples)), (shape, self._limit))

    @property
    def _limit(self) -> Shape:
        """Longest prompt and target that there can be, in their frames."""
        return Shape(self.config.max_source_tokens, self.config.max_target_tokens)

    def plan_passes(
        self, num_shapes: int, *, num_steps: int, image_tokens: int, world_size: int, max_samples: int
    ) -> tuple[Pass, ...] | None:
        """Plan micro-batches whose numbers of samples differ, from the lengths in the first steps.

        Args:
            num_shapes: largest number of shapes.
            num_steps: steps of the run.
            image_tokens: tokens that the encoder reads before the prompt.
            world_size: number of processes; it divides the batch.
            max_samples: most samples of a micro-batch.
        """
        steps = [self._exact_lengths(step, self._draw(step)) for step in range(min(num_steps, _OBSERVED_STEPS))]
        return plan_passes(
            steps,
            self._limit,
            num_shapes=num_shapes,
            world_size=world_size,
            max_samples=max_samples,
            image_tokens=image_tokens,
        )

    def plan_shapes(self, num_micro_batches: int, num_shapes: int, *, num_steps: int, image_tokens: int) -> None:
        """Choose the shapes that the micro-batches of a run are padded to, from the lengths in its first steps.

        Args:
            num_shapes: largest number of shapes.
            num_steps: steps of the run.
            image_tokens: tokens that the encoder reads before the prompt.
        """
        longest = []
        for step in range(min(num_steps, _OBSERVED_STEPS)):
            samples = self._draw(step)
            lengths = self._exact_lengths(step, samples)
            groups = divide_by_length(self._framed_lengths(samples), num_micro_batches)
            longest += [lengths[chosen].max(0) for chosen in groups]
        self.shapes = choose_shapes(np.array(longest), self._limit, num_shapes, image_tokens=image_tokens)

    def samples_per_cell(self, num_steps: int) -> dict[str, int]:
        """Return the number of samples of each cell after `num_steps` steps, without drawing them."""
        counts = self._sampler.counts_before(num_steps * self.config.batch_size)
        return {str(cell): int(count) for cell, count in zip(self.cells, counts, strict=True)}

    def _make_order(self, pools: dict[Cell, CellPool]) -> Order | None:
        window_images = self.config.shuffle_window_images
        if window_images is None:
            window_images = 0 if self._images.in_memory else _WINDOW_IMAGES
        if not window_images or not len(self._reader):
            return None
        rows = {cell: np.asarray(pool.rows) for cell, pool in pools.items()}
        order = WindowOrder(rows, self._texts.group_starts(), window_images=window_images, seed=self.seed)
        # Cells go through the data at different speeds, so each has its own window, and one of them begins a new one.
        self._reader.keep_groups(order.groups_per_window * (len(pools) + 1))
        # Cells of equal speed show the same images within a window: each image is decoded once for all of them.
        self._images.keep(order.images_per_window)
        return order

    def _draw(self, step: int) -> _Samples:
        draw = self._sampler.draw(step)
        row, annotation = np.empty_like(draw.item), np.empty_like(draw.item)
        for cell in range(len(self.cells)):
            chosen = draw.cell == cell
            row[chosen], annotation[chosen] = self._entries(cell, draw.item[chosen], draw.visit[chosen])
        return _Samples(draw.cell, draw.visit, row, annotation, np.arange(len(row)))

    def _entries(
        self, cell: int, item: Int[np.ndarray, " K"], visit: Int[np.ndarray, " K"]
    ) -> tuple[Integer[np.ndarray, " K"], Integer[np.ndarray, " K"]]:
        """Return the rows and annotations that visits of a cell show."""
        pool = self._pools[cell]
        first, last = pool.first[item].astype(np.int64), pool.first[item + 1].astype(np.int64)
        # One annotation per visit, in turn: each is shown once before any is repeated.
        chosen = first + (visit // len(pool.rows) + item) % (last - first)
        return pool.rows[item], pool.annotations[chosen]

    def _divide(self, samples: _Samples, num: int) -> Int[np.ndarray, "num K"]:
        """Return the positions of the samples of each of `num` micro-batches, from the longest to the shortest."""
        if self.shapes is not None:
            return divide_by_length(self._framed_lengths(samples), num)
        prompt, target = np.minimum(self._texts.lengths(samples.annotation), self._limit).T
        return np.lexsort((prompt, target))[::-1].reshape(num, -1)

    def _framed_lengths(self, samples: _Samples) -> Int[np.ndarray, "B 2"]:
        """Return the tokens of prompt and target of samples with their frames, before any masking."""
        lengths = self.frames.lengths(self._texts.lengths(samples.annotation).astype(np.int64))
        return np.minimum(lengths, self._limit)

    def _exact_lengths(self, step: int, samples: _Samples) -> Int[np.ndarray, "B 2"]:
        """Return the tokens of prompt and target of samples as the model reads them."""
        if not self.config.source_masking.samples:
            return self._framed_lengths(samples)
        sides = self._frame(step, samples, self._texts.tokens(samples.annotation))
        return np.array([[len(ids) for ids in side] for side in sides]).T

    def _load(self, step: int, samples: _Samples, shapes: Sequence[Shape] | None = None) -> Batch:
        images, image_defects = self._load_pixels(samples.row)
        tokens = self._texts.tokens(samples.annotation)
        defects = {**image_defects, **{i: _EMPTY for i, (_, target) in enumerate(tokens) if not target}}
        bad = []
        for position, defect in sorted(defects.items()):
            cell, visit, row = (int(values[position]) for values in (samples.cell, samples.visit, samples.row))
            where = f"{self.cells[cell]}, row {row}: {defect.detail}"
            bad.append(BadSample(reason=defect.reason, where=where))
            row, annotation, image = self._find_replacement(cell, visit, bad[-1])
            samples.row[position], samples.annotation[position], images[position] = row, annotation, image
        if bad:
            tokens = self._texts.tokens(samples.annotation)
        prompts, targets = self._frame(step, samples, tokens)
        if self.vocab_sizes is not None:
            _check_ids("prompt", prompts, self.vocab_sizes[0])
            _check_ids("target", targets, self.vocab_sizes[1])
        return collate(
            images,
            prompts,
            targets,
            samples.cell,
            prompt_pad=self.frames.prompt_pad,
            features=None if self.features is None else self.features[samples.row.tolist()],
            bad=tuple(bad),
            shapes=shapes,
            token_weights=self._token_weights,
        )

    @property
    def _token_weights(self) -> dict[int, float] | None:
        """Position in the framed targets -> its weight in the loss. The first token comes after the frame's, which are
        the same for all targets."""
        weight = self.config.first_token_weight
        return None if weight is None else {len(self.frames.target_start): weight}

    def _load_pixels(
        self, rows: Integer[np.ndarray, " B"]
    ) -> tuple[UInt8[np.ndarray, "B _ _ 3"], Mapping[int, Defect]]:
        if self.features is not None:
            return np.empty((len(rows), 0, 0, 3), np.uint8), {}
        return self._images.load(rows.tolist())

    def _find_replacement(self, cell: int, visit: int, bad: BadSample) -> tuple[int, int, UInt8[np.ndarray, "H W 3"]]:
        """Return row, annotation and pixels of the first usable sample among the cell's next visits."""
        for later in range(visit + 1, visit + 1 + _MAX_TRIES):
            visits = np.array([later])
            row, annotation = self._entries(cell, self._sampler.items(cell, visits), visits)
            pixels, defects = self._load_pixels(row)
            if not defects and self._texts.tokens(annotation)[0][1]:
                return int(row[0]), int(annotation[0]), pixels[0]
        raise ValueError(
            f"{self._reader.directory}: {_MAX_TRIES + 1} samples in a row cannot be used; the first: "
            f"{bad.reason} ({bad.where})"
        )

    def _frame(self, step: int, samples: _Samples, tokens: Sequence[Tokens]) -> tuple[list[list[int]], list[list[int]]]:
        """Return the ids of prompts and targets as the model reads them: masked, cut and framed."""
        prompts = [self.frames.prompt(ids, self._limit.prompt) for ids in self._mask_prompts(step, samples, tokens)]
        return prompts, [self.frames.target(ids, self._limit.target) for _, ids in tokens]

    def _mask_prompts(self, step: int, samples: _Samples, tokens: Sequence[Tokens]) -> list[Sequence[int]]:
        """Return the ids of the prompts; source masking hides some source words of some translations."""
        prompts = [prompt for prompt, _ in tokens]
        masking = self.config.source_masking
        if not masking.samples:
            return prompts
        for position, cell in enumerate(samples.cell.tolist()):
            if self.cells[cell].task == "caption":
                continue
            random = RandomStream.SOURCE_MASKING.generator(self.seed, step, int(samples.number[position]))
            if random.random() < masking.samples:
                entry = self._texts.annotation(int(samples.row[position]), int(samples.annotation[position]))
                texts = _split_at_gaps(entry, masking.words, random)
                prompts[position] = [
                    *find_language_token(self.prompt_tokenizer, texts[0]),
                    *encode_with_gaps(self.prompt_tokenizer, texts),
                ]
        return prompts


def _check_ids(side: str, sequences: Sequence[Sequence[int]], vocab_size: int) -> None:
    """Refuse ids that the model has no row for: an accelerator would fail later, without naming the id."""
    largest = max(map(max, sequences))
    if largest >= vocab_size:
        raise ValueError(
            f"a {side} has the token id {largest}, the model {vocab_size} rows for {side}s: is this its tokenizer?"
        )


def _open_texts(
    config: MixtureConfig, reader: ShardReader, prompt_tokenizer: Tokenizer, tokenizer: Tokenizer
) -> TextStore:
    num_annotations = sum(reader.manifest.rows_per_cell.values())
    if config.token_cache is None and num_annotations < _CACHED_ANNOTATIONS:
        return MemoryTexts(reader, prompt_tokenizer, tokenizer)
    root = config.token_cache or reader.directory
    if not isinstance(root, Path):
        raise ValueError(f"{root}: cannot be written to; set mixture.token_cache to a folder for the texts' tokens")
    return open_token_cache(reader, prompt_tokenizer, tokenizer, root=root)


def _split_at_gaps(annotation: Annotation, share: float, random: np.random.Generator) -> list[str]:
    """Return the prompt of a translation in pieces; between each two of them a source word is hidden."""
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
