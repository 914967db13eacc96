"""Passes that differ in their samples hold every sample once, fit it, have few shapes, and cost less padding."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture import passes as module
from polyglance.mixture.collate import IGNORED
from polyglance.mixture.config import MixtureConfig, SourceMasking
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.passes import Pass, divide_into_passes, plan_passes
from polyglance.mixture.shapes import Shape, choose_shapes, divide_by_length, find_shape
from polyglance.mixture.tokenizer import read_training_texts, train_tokenizer
from polyglance.study.grid.waiting import draw_published_lengths

LIMIT = Shape(128, 128)


def count_even_positions(steps: list[np.ndarray], world_size: int, num_passes: int) -> int:
    """Positions of micro-batches of equal size in twelve shapes; in a pass all processes wait for the longest."""
    num = world_size * num_passes
    longest = [lengths[divide_by_length(lengths, num)].max(1) for lengths in steps]
    shapes = choose_shapes(np.concatenate(longest[:64]), LIMIT, 12, image_tokens=50)
    padded = np.array([[sum(find_shape(shapes, *one)) for one in step.tolist()] for step in longest[64:]])
    return len(steps[0]) // num_passes * int(padded.reshape(-1, num_passes, world_size).max(2).sum())


@pytest.mark.parametrize(
    ("batch_size", "world_size", "max_samples", "most_padding", "of_even"),
    [(1024, 1, 512, 0.33, 0.75), (1024, 8, 128, 0.45, 0.65), (128, 1, 128, 0.45, 0.7)],
)
def test_padding_at_the_published_lengths(
    batch_size: int, world_size: int, max_samples: int, most_padding: float, of_even: float
) -> None:
    """In steps that the plan was not made from, against as few micro-batches of equal size as the memory allows."""
    random = np.random.default_rng(0)
    steps = [draw_published_lengths(random, batch_size) for _ in range(164)]
    passes = plan_passes(
        steps[:64], LIMIT, num_shapes=12, world_size=world_size, max_samples=max_samples, image_tokens=50
    )
    assert passes is not None
    assert max(one.samples for one in passes) <= max_samples
    met, positions, real = set(), 0, 0
    for lengths in steps[64:]:
        micro_batches = divide_into_passes(lengths, passes, LIMIT, world_size)
        met |= {(len(chosen), *shape) for chosen, shape in micro_batches}
        positions += sum(len(chosen) * sum(shape) for chosen, shape in micro_batches)
        real += int(lengths.sum())
    assert len(met) <= 12
    assert 1 - real / positions < most_padding
    assert positions < of_even * count_even_positions(steps, world_size, batch_size // world_size // max_samples)


lengths_of_steps = st.tuples(st.integers(0, 2**16), st.sampled_from([16, 24, 48]), st.floats(0.2, 4.0))


@given(
    drawn=lengths_of_steps, world_size=st.sampled_from([1, 2, 4]), max_samples=st.integers(4, 50), later=st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_every_sample_is_in_one_micro_batch_that_it_fits(
    drawn: tuple[int, int, float], world_size: int, max_samples: int, later: bool
) -> None:
    """Also in a step that is nothing like those that the plan was made from."""
    seed, batch_size, spread = drawn
    random = np.random.default_rng(seed)

    def draw(scale: float) -> np.ndarray:
        return np.clip(random.gamma(1 / spread, scale * spread, (batch_size, 2)).round().astype(int), 1, (60, 40))

    steps, limit = [draw(8.0) for _ in range(5)], Shape(60, 40)
    passes = plan_passes(steps, limit, num_shapes=6, world_size=world_size, max_samples=max_samples)
    if passes is None:
        return
    assert sum(one.samples for one in passes) * world_size == batch_size
    assert all(1 <= one.samples <= max_samples for one in passes)
    assert len(set(passes)) <= 4
    for lengths in [draw(60.0)] if later else steps:
        divided = divide_into_passes(lengths, passes, limit, world_size)
        assert len(divided) == len(passes) * world_size
        assert sorted(np.concatenate([chosen for chosen, _ in divided])) == list(range(batch_size))
        for number, (chosen, shape) in enumerate(divided):
            assert (lengths[chosen] <= shape).all()
            planned = passes[number // world_size]
            if not later:
                assert (len(chosen), *shape) == planned, "the plan has room for the steps that it was made from"
            assert len(chosen) <= max_samples
            assert (len(chosen), *shape) == planned or shape == limit


def test_samples_find_room_wherever_there_is_room_for_all() -> None:
    """A greedy choice would put the short sample where only it fits beside, and leave the other without a place."""
    passes = (Pass(1, 10, 20), Pass(1, 20, 10), Pass(1, 5, 5))
    for lengths in ([[10, 10], [9, 20], [4, 4]], [[9, 20], [10, 10], [4, 4]], [[20, 9], [10, 10], [5, 1]]):
        divided = divide_into_passes(np.array(lengths), passes, Shape(50, 50), 1)
        assert [shape for _, shape in divided] == [one.shape for one in passes]
    divided = divide_into_passes(np.array([[9, 20], [9, 20], [4, 4]]), passes, Shape(50, 50), 1)
    assert [shape for _, shape in divided] == [Shape(50, 50)] * 3, "no room: divided evenly"


def test_a_mixture_divided_into_passes_has_the_samples_of_its_steps(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With words of sources hidden, and in another process, which gets the mixture by pickle."""
    monkeypatch.setattr(module, "_PASS_POSITIONS", 10)
    tokenizer = train_tokenizer(read_training_texts(world / "train", {"en", "fr", "zh"}), vocab_size=1024)
    config = MixtureConfig(batch_size=32, source_masking=SourceMasking(samples=0.3, words=0.5))
    coverage = Coverage(caption=("en", "fr"), translation=("en", "fr", "zh"))
    mixture = Mixture(config, coverage, ShardReader(world / "train"), tokenizer, image_size=8, seed=5)
    passes = mixture.plan_passes(12, num_steps=100, image_tokens=5, world_size=2, max_samples=16)
    assert passes is not None
    assert len(passes) > 1
    mixture.passes = passes
    mixture = pickle.loads(pickle.dumps(mixture))
    number, met = 2 * len(passes), set()
    for step in range(100):
        parts = [mixture.micro_batch(step, index, number) for index in range(number)]
        met |= {(*part.input_ids.shape, *part.labels.shape) for part in parts}
        whole = mixture.batch(step)
        rows = sorted(tuple(row[row != IGNORED].tolist()) for part in parts for row in part.labels)
        assert rows == sorted(tuple(row[row != IGNORED].tolist()) for row in whole.labels)
        prompts = sorted(
            tuple(ids[mask == 1].tolist())
            for part in parts
            for ids, mask in zip(part.input_ids, part.attention_mask, strict=True)
        )
        expected = zip(whole.input_ids, whole.attention_mask, strict=True)
        assert prompts == sorted(tuple(ids[mask == 1].tolist()) for ids, mask in expected)
        for one in range(len(passes)):
            shapes = {part.labels.shape for part in parts[2 * one : 2 * one + 2]}
            assert len(shapes) == 1, "all processes compute the same shape in a pass"
    assert len(met) <= 12
    assert torch.is_tensor(parts[0].places)
