"""A run pads its micro-batches to few shapes, which fit the data, lose no token, and cost little padding."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.mixture.collate import IGNORED
from polyglance.mixture.config import MixtureConfig, SourceMasking
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.shapes import Shape, choose_shapes, divide_by_length, find_shape
from polyglance.mixture.tokenizer import read_training_texts, train_tokenizer
from polyglance.study.grid.waiting import draw_published_lengths

LIMIT = Shape(128, 128)


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Tokenizer:
    return train_tokenizer(read_training_texts(world / "train", {"en", "fr", "zh"}), vocab_size=1024)


def make_mixture(world: Path, tokenizer: Tokenizer, *, vocab_sizes: tuple[int, int] = (1024, 1024)) -> Mixture:
    config = MixtureConfig(batch_size=32, source_masking=SourceMasking(samples=0.3, words=0.5))
    coverage = Coverage(caption=("en", "fr"), translation=("en", "fr", "zh"))
    reader = ShardReader(world / "train")
    return Mixture(config, coverage, reader, tokenizer, image_size=8, seed=5, vocab_sizes=vocab_sizes)


def count_padding(lengths: np.ndarray, groups: np.ndarray, shapes: tuple[Shape, ...] | None = None) -> tuple[int, int]:
    """Positions of prompts and targets, and those of them that are real."""
    padded = [tuple(lengths[group].max(0).tolist()) for group in groups]
    if shapes is not None:
        padded = [find_shape(shapes, *longest) for longest in padded]
    return groups.shape[1] * int(np.sum(padded)), int(lengths.sum())


def test_a_thousand_steps_of_a_real_mixture_have_few_shapes_and_little_padding(
    world: Path, tokenizer: Tokenizer
) -> None:
    """With words of sources hidden, which changes lengths. The same tokens as without shapes, in the same cells."""
    shaped, plain = make_mixture(world, tokenizer), make_mixture(world, tokenizer)
    shaped.plan_shapes(4, 12, num_steps=1000, image_tokens=5)
    assert shaped.shapes is not None
    assert len(shaped.shapes) <= 12
    shaped = pickle.loads(pickle.dumps(shaped))  # as loader processes get it
    met, positions, longest, real = set(), 0, 0, 0
    for step in range(1000):
        for index in range(4):
            batch = shaped.micro_batch(step, index, 4)
            met.add((*batch.input_ids.shape, *batch.labels.shape))
            positions += batch.input_ids.numel() + batch.labels.numel()
            used = batch.attention_mask.sum(1), (batch.labels != IGNORED).sum(1)
            longest += len(batch.cell) * int(used[0].max() + used[1].max())
            real += int(used[0].sum() + used[1].sum())
        if step < 50:
            whole = plain.batch(step)
            parts = [shaped.micro_batch(step, index, 4) for index in range(4)]
            assert sum(part.num_tokens for part in parts) == whole.num_tokens
            assert sorted(np.concatenate([part.cell for part in parts])) == sorted(whole.cell)
    assert len(met) <= 12
    assert 1 - longest / positions < 0.12
    assert 1 - real / positions < 0.25


@pytest.mark.parametrize(("batch_size", "num", "added", "total"), [(1024, 8, 0.10, 0.44), (1024, 16, 0.14, 0.38)])
def test_padding_at_the_published_lengths(batch_size: int, num: int, added: float, total: float) -> None:
    """Shapes add little to what the longest sample of each micro-batch needs, and steps that they were not chosen from
    fit them."""
    random = np.random.default_rng(0)
    steps = [draw_published_lengths(random, batch_size) for _ in range(120)]
    divided = [divide_by_length(lengths, num) for lengths in steps]
    pairs = list(zip(steps, divided, strict=True))
    observed = np.array([lengths[group].max(0) for lengths, groups in pairs[:64] for group in groups])
    shapes = choose_shapes(observed, LIMIT, 12, image_tokens=50)
    own, real = np.sum([count_padding(*pair) for pair in pairs[64:]], axis=0)
    padded, _ = np.sum([count_padding(*pair, shapes) for pair in pairs[64:]], axis=0)
    assert 1 - own / padded < added
    assert 1 - real / padded < total
    by_target = [np.lexsort(lengths.T).reshape(num, -1) for lengths in steps[64:]]
    old, _ = np.sum([count_padding(*pair) for pair in zip(steps[64:], by_target, strict=True)], axis=0)
    assert padded < old, "fewer positions than lengths sorted by target alone need, without any shapes"


@given(
    lengths=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 60)), min_size=1, max_size=60),
    num=st.integers(1, 12),
    image_tokens=st.integers(0, 50),
)
def test_any_lengths_fit_their_shapes(lengths: list[tuple[int, int]], num: int, image_tokens: int) -> None:
    limit = Shape(90, 60)
    shapes = choose_shapes(np.array(lengths), limit, num, image_tokens=image_tokens)
    assert 1 <= len(shapes) <= num
    assert limit in shapes
    assert all(1 <= shape.prompt <= 90 and 1 <= shape.target <= 60 for shape in shapes)
    for prompt, target in lengths:
        shape = find_shape(shapes, prompt, target)
        assert shape.prompt >= prompt
        assert shape.target >= target


def test_processes_wait_little_for_each_other() -> None:
    """Neighbours in length make a pass together: 8 processes of 4 passes wait less than half as long as with
    micro-batches in random order, replicas at the end of a step, shards in every pass."""
    random = np.random.default_rng(0)
    processes = [Runtime(rank=rank, world_size=8, device=torch.device("cpu")) for rank in range(8)]
    neighbours = np.array([process.local_micro_batches(32) for process in processes])
    waited = np.zeros((2, 2))
    for _ in range(20):
        lengths = draw_published_lengths(random, 1024)
        longest = lengths[divide_by_length(lengths, 32)].max(1).sum(1)
        assert (np.diff(longest) <= 0).all(), "the longest micro-batch comes first"
        for row, order in enumerate((neighbours, random.permutation(32).reshape(8, 4))):
            divided = longest[order]
            waited[row] += divided.sum(1).max() - divided.sum(1).mean(), (divided.max(0) - divided.mean(0)).sum()
    assert (waited[0] < 0.5 * waited[1]).all(), waited


@given(num=st.integers(1, 7), size=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_sample_is_in_one_group(num: int, size: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 9, (num * size, 2))
    groups = divide_by_length(lengths, num)
    assert groups.shape == (num, size)
    assert sorted(groups.ravel()) == list(range(num * size))


def test_ids_that_the_model_has_no_row_for_are_refused_where_they_are_made(world: Path, tokenizer: Tokenizer) -> None:
    for vocab_sizes, side in (((40, 1024), "prompt"), ((1024, 40), "target")):
        with pytest.raises(ValueError, match=f"a {side} has the token id .*, the model 40 rows for {side}s"):
            make_mixture(world, tokenizer, vocab_sizes=vocab_sizes).micro_batch(0, 0, 4)
    assert torch.is_tensor(make_mixture(world, tokenizer).micro_batch(0, 0, 4).labels)
