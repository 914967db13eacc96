"""The sampler: shares hold at every point, and a step is a function of seed and step."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.coverage import Cell, Coverage
from polyglance.mixture.sampler import CellSampler, compute_cell_weights

COVERAGE = Coverage(caption=("en", "de"), translation=("de", "fr", "es", "ru", "zh"))


def sampler(weights: dict[Cell, float], *, size: int = 50, batch_size: int = 16, seed: int = 0) -> CellSampler:
    return CellSampler(weights, dict.fromkeys(weights, size), batch_size=batch_size, seed=seed)


def test_balances_are_the_published_ones() -> None:
    shares = {str(cell): share for cell, share in compute_cell_weights(COVERAGE, "task").items()}
    assert shares["caption-en"] == pytest.approx(0.25)
    assert shares["translation-zh"] == pytest.approx(0.10)
    shares = {str(cell): share for cell, share in compute_cell_weights(COVERAGE, "language").items()}
    assert shares["caption-de"] == shares["translation-de"] == pytest.approx(1 / 12)
    assert shares["caption-en"] == shares["translation-fr"] == pytest.approx(1 / 6)
    assert set(compute_cell_weights(COVERAGE, "cell").values()) == {1 / 7}


def test_a_table_of_shares_has_to_fit_the_coverage() -> None:
    table = {str(cell): 1.0 for cell in COVERAGE.cells}
    assert compute_cell_weights(COVERAGE, {**table, "caption-en": 4.0})[Cell("caption", "en")] == pytest.approx(0.4)
    with pytest.raises(ValueError, match="no share for caption-de"):
        compute_cell_weights(COVERAGE, {name: share for name, share in table.items() if name != "caption-de"})
    with pytest.raises(ValueError, match="caption-zh, which the coverage does not train"):
        compute_cell_weights(COVERAGE, {**table, "caption-zh": 1.0})
    with pytest.raises(ValueError, match="must be a positive number"):
        compute_cell_weights(COVERAGE, {**table, "caption-de": 0.0})


weights = st.lists(st.floats(0.001, 1), min_size=1, max_size=7).map(
    lambda values: {cell: value / sum(values) for cell, value in zip(COVERAGE.cells, values, strict=False)}
)


@given(weights, st.integers(1, 64), st.integers(0, 10**9))
def test_counts_are_within_half_the_cells_of_their_shares_and_never_go_back(
    shares: dict[Cell, float], batch_size: int, start: int
) -> None:
    drawn = sampler(shares, batch_size=batch_size)
    before, after = drawn.counts_before(start), drawn.counts_before(start + batch_size)
    assert before.sum() == start
    assert after.sum() == start + batch_size
    assert (after >= before).all()
    assert np.abs(before - np.array(list(shares.values())) * start).max() <= 0.5 * (len(shares) + 1) + 1e-9 * start


def test_a_step_is_a_function_of_seed_and_step_alone() -> None:
    shares = compute_cell_weights(COVERAGE, "task")
    in_order = [sampler(shares).draw(step) for step in range(20)]
    one = sampler(shares)
    for step in (19, 3, 7, 3):
        again, expected = one.draw(step), in_order[step]
        assert (again.cell == expected.cell).all()
        assert (again.item == expected.item).all()
        assert (again.visit == expected.visit).all()
    other = sampler(shares, seed=1).draw(3)
    assert (other.item != in_order[3].item).any()


def test_the_order_of_existing_studies_is_kept() -> None:
    """The samples of earlier versions are drawn again."""
    shares = compute_cell_weights(COVERAGE, "task")
    pools = dict(zip(shares, (50, 7, 31, 200, 3, 64, 11), strict=True))
    drawn, digest = CellSampler(shares, pools, batch_size=32, seed=9), hashlib.sha256()
    for step in (0, 1, 2, 77):
        draw = drawn.draw(step)
        digest.update(np.stack([draw.cell, draw.item, draw.visit]).astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "bfe63e92dfb249e7"


def test_a_cell_without_images_is_named() -> None:
    with pytest.raises(ValueError, match="no image for caption-de"):
        CellSampler(compute_cell_weights(COVERAGE, "cell"), {Cell("caption", "en"): 3}, batch_size=4, seed=0)
