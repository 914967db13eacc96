"""Best runs, ladders, seed spread."""

import math
from typing import Any

import pytest
from scipy.stats import spearmanr

from polyglance.report.comparisons import (
    choose_headline,
    find_best_run,
    find_best_runs,
    find_blind_loss,
    find_ladders,
    fit_monotone,
    measure_seed_spread,
)
from polyglance.run_records import RunRow


def run(family: str = "scratch", size: str = "d32", start: str = "random", seed: int = 0, **numbers: Any) -> RunRow:
    return RunRow(id="", family=family, size=size, start=start, seed=seed, **numbers)


def test_ladders_join_only_runs_that_differ_in_the_variable_and_average_seeds() -> None:
    runs = [
        run(size="d48", P=2.0, S=10.0, UC_prefix=0.9),
        run(size="d32", P=1.0, S=10.0, UC_prefix=1.2),
        run(size="d32", P=1.0, S=10.0, seed=1, UC_prefix=1.0),
        run(size="d32", P=1.0, S=20.0, UC_prefix=0.7),
        run(size="d32", P=1.0, S=40.0),  # no loss
        run("frozen", "d32", "six", P=1.5, S=10.0, UC_prefix=0.5),
    ]
    by_size = find_ladders(runs, "P", "UC_prefix")
    assert [[(rung.x, pytest.approx(rung.y)) for rung in one.rungs] for one in by_size] == [
        [(1.0, 1.1), (2.0, 0.9)],
        [(1.0, 0.7)],
        [(1.5, 0.5)],
    ]
    assert [one.name for one in by_size] == ["10 samples", "20 samples", "“six”, 10 samples"]
    by_samples = find_ladders(runs, "S", "UC_prefix")
    assert [[rung.x for rung in one.rungs] for one in by_samples] == [[10.0], [10.0, 20.0], [10.0]]


def test_ladder_of_starting_points_goes_by_name_and_lies_in_the_order_of_t() -> None:
    runs = [run("frozen", "d48", start, T=t, S=10.0, ST=y) for start, t, y in (("en", 6.5, 1.3), ("six", 0.9, 0.8))]
    (only,) = find_ladders(runs, "T", "ST")
    assert [(rung.x, rung.y) for rung in only.rungs] == [(0.9, 0.8), (6.5, 1.3)]
    assert only.name == "d48, 10 samples"


def test_seed_spread_pools_within_settings() -> None:
    runs = [run(S=1.0, seed=i, UC=y) for i, y in enumerate((1.0, 1.2))]
    runs += [run(S=2.0, seed=i, UC=y) for i, y in enumerate((5.0, 5.0, 5.3))]
    runs += [run(S=3.0, UC=9.0)]
    spread, settings = measure_seed_spread(runs, "UC")
    assert spread == pytest.approx(math.sqrt((2 * 0.1**2 + 2 * 0.1**2 + 0.2**2) / 3))
    assert settings == 2
    assert measure_seed_spread(runs[-1:], "UC")[1] == 0


def test_best_and_headline() -> None:
    runs = [run(UC_prefix=0.9, UC=0.1), run("frozen", UC_prefix=math.nan, UC=0.2), run(UC_prefix=0.8, T_prefix=1.0)]
    assert choose_headline(runs) == "UC_prefix"
    assert choose_headline(runs[1:2]) == "UC"
    assert find_best_run(runs, "UC_prefix") is runs[2]
    assert find_best_runs(runs, "UC_prefix") == (runs[2],)
    assert find_blind_loss(runs)[1] is None, "a random start does not know the texts"
    knows = run(start="six", T_prefix=1.1)
    assert find_blind_loss([*runs, knows]) == (1.1, knows)
    assert find_best_run(runs, "SC") is None


def test_the_monotone_fit_falls_and_its_correlation_is_spearmans() -> None:
    losses, scores = [0.1, 0.2, 0.3, 0.5, 0.9], [9.0, 8.0, 8.5, 2.0, 2.0]
    runs = [RunRow(id=str(x), family="a", UC=x, cider=y) for x, y in zip(losses, scores, strict=True)]
    fit = fit_monotone(runs[::-1], "UC", "cider")
    assert fit is not None
    assert fit.x == tuple(losses)
    assert fit.y == pytest.approx((9.0, 8.25, 8.25, 2.0, 2.0))
    assert fit.rank_correlation == pytest.approx(spearmanr(losses, scores).statistic)
    assert fit_monotone(runs[:2], "UC", "cider") is None
    assert fit_monotone(runs, "UC", "bleu") is None
    assert fit_monotone([RunRow(id=str(x), family="a", UC=x, cider=1.0) for x in losses], "UC", "cider") is None
