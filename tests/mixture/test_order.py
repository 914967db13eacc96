"""Orders of large data: every image once per epoch, from few row groups at a time, as a function of the visit alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.coverage import Cell, Coverage
from polyglance.mixture.order import WindowOrder
from polyglance.mixture.random_streams import RandomStream
from polyglance.mixture.sampler import CellSampler, compute_cell_weights

CELLS = (Cell("caption", "en"), Cell("translation", "fr"), Cell("caption", "de"))


def order(pools: list[np.ndarray], starts: np.ndarray, window_images: int, seed: int = 0) -> WindowOrder:
    return WindowOrder(dict(zip(CELLS, pools, strict=False)), starts, window_images=window_images, seed=seed)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=12),
    st.lists(st.integers(0, 40), min_size=1, unique=True),
    st.integers(1, 30),
)
def test_every_image_comes_once_in_every_epoch(sizes: list[int], rows: list[int], window_images: int) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pool = np.array(sorted({row % starts[-1] for row in rows}))
    drawn = order([pool], starts, window_images)
    for epoch in (0, 5):
        visits = epoch * len(pool) + np.arange(len(pool))
        assert sorted(drawn.items(0, visits).tolist()) == list(range(len(pool)))


def test_any_visit_can_be_asked_for_alone() -> None:
    drawn = order([np.arange(0, 200, 3)], np.arange(0, 201, 8), 32)
    visits = np.random.default_rng(0).permutation(200)
    fresh = [order([np.arange(0, 200, 3)], np.arange(0, 201, 8), 32).items(0, np.array([v]))[0] for v in visits[:20]]
    assert (drawn.items(0, visits)[:20] == fresh).all()
    assert (
        order([np.arange(0, 200, 3)], np.arange(0, 201, 8), 32, seed=1).items(0, visits) != drawn.items(0, visits)
    ).any()


def test_few_row_groups_are_read_at_a_time_and_cells_share_them() -> None:
    starts = np.arange(0, 8001, 8)
    rows = np.flatnonzero(np.random.default_rng(0).random(8000) < 0.7)
    drawn = order([rows, rows], starts, 128)
    assert drawn.groups_per_window == 16
    groups = [rows[drawn.items(cell, np.arange(2000))] // 8 for cell in (0, 1)]
    for first in range(0, 1900, 50):
        seen = [set(g[first : first + 50].tolist()) for g in groups]
        assert len(seen[0] | seen[1]) <= 2 * drawn.groups_per_window
    # But within a window each cell goes its own way, and windows are made of row groups from anywhere.
    assert (groups[0] != groups[1]).mean() > 0.5
    assert np.diff(np.sort(groups[0][:80])).max() > 16


def test_another_cell_changes_nothing_for_the_others() -> None:
    starts, pools = np.arange(0, 401, 8), [np.arange(0, 400, 2), np.arange(1, 400, 3)]
    visits = np.arange(500)
    alone, beside = order(pools[:1], starts, 64), order(pools, starts, 64)
    assert (alone.items(0, visits) == beside.items(0, visits)).all()


@pytest.mark.parametrize("window_images", [0, 256])
def test_shares_are_kept_for_cells_a_hundred_times_as_frequent_as_others(window_images: int) -> None:
    """Within 0.5 % of the target after every thousand samples, and no image twice before all of its cell came."""
    shares = compute_cell_weights(Coverage(caption=("en", "de"), translation=("fr",)), "cell")
    every = {cell: np.arange(0, 60_000, step) for cell, step in zip(shares, (1, 10, 100), strict=True)}
    sizes = {cell: len(rows) for cell, rows in every.items()}
    windows = WindowOrder(every, np.arange(0, 60_001, 32), window_images=window_images or 1, seed=1)
    drawn = CellSampler(shares, sizes, batch_size=250, seed=1, order=windows if window_images else None)
    counts, items = np.zeros(3), [[], [], []]
    for step in range(24):
        draw = drawn.draw(step)
        counts += np.bincount(draw.cell, minlength=3)
        for cell in range(3):
            items[cell] += draw.item[np.argsort(draw.visit)][draw.cell[np.argsort(draw.visit)] == cell].tolist()
        if step % 4 == 3:
            assert np.abs(counts / counts.sum() - 1 / 3).max() < 0.005
    for cell, size in enumerate(sizes.values()):
        epoch = items[cell][:size]
        assert len(set(epoch)) == len(epoch)


def test_random_streams_are_those_of_earlier_runs() -> None:
    """The numbers are part of every run that goes on from a checkpoint."""
    numbers = {
        "STEP_ORDER": 1,
        "EPOCH_ORDER": 2,
        "SOURCE_MASKING": 3,
        "LANGUAGE_MODEL_TEXTS": 4,
        "GROUP_ORDER": 6,
        "WINDOW_ORDER": 7,
        "DROPOUT": 8,
    }
    drawn = {stream.name: stream.generator(5, 2, 9).random() for stream in RandomStream}
    assert drawn == {name: np.random.default_rng([5, number, 2, 9]).random() for name, number in numbers.items()}
