"""The Pareto frontier: definition, options, warnings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.laws import FitConfig, Table, find_pareto_frontier, fit_law

POINTS = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0, 13.0]), st.sampled_from([1.0, 1.5, 2.0, 2.5, 3.0])), max_size=20
)


@given(points=POINTS)
def test_the_frontier_agrees_with_its_definition(points):
    compute, loss = np.array(points).reshape(-1, 2).T
    frontier = find_pareto_frontier(compute, loss)
    expected = {(c, y) for c, y in points if not any((c2 <= c and y2 < y) or (c2 < c and y2 <= y) for c2, y2 in points)}
    assert {(compute[i], loss[i]) for i in frontier} == expected
    assert len(frontier) == len(expected)  # of equal runs one is kept
    assert (np.diff(compute[frontier]) > 0).all()
    assert (np.diff(loss[frontier]) < 0).all()


def test_options_of_the_frontier():
    compute = np.array([1.0, 2.0, 3.0, 1.5, 3.5, 20.0])
    loss = np.array([5.0, 3.0, 4.0, 4.5, 2.0, 1.0])
    runs = ["a", "a", "a", "b", "b", "b"]
    assert find_pareto_frontier(compute, loss).tolist() == [0, 3, 1, 4, 5]
    final = find_pareto_frontier(compute, loss, runs=runs, final_only=True)
    assert final.tolist() == [2, 5]
    assert find_pareto_frontier(compute, loss, min_gap=0.5).tolist() == [0, 4, 5]
    smooth = find_pareto_frontier(compute, loss, runs=runs, window=3)
    assert 1 not in smooth.tolist() or loss[1] == 3.0
    with pytest.raises(ValueError, match="name its column as cluster"):
        find_pareto_frontier(compute, loss, final_only=True)


def runs_table():
    """Three models with learning curves of ten checkpoints each."""
    rows = []
    for size, floor in (("small", 2.0), ("medium", 1.7), ("large", 1.5)):
        for step in range(1, 11):
            cost = {"small": 1e3, "medium": 1e4, "large": 1e5}[size] * step
            rows.append((cost, floor + 3 * (step + 0.5) ** -1.2, size))
    cost, loss, size = zip(*rows, strict=True)
    return Table.from_columns({"C": list(cost), "y": list(loss), "model": list(size)})


def test_a_compute_law_is_fitted_to_the_frontier_when_asked():
    table = runs_table()
    config = {"form": "compute", "columns": {"C": "C"}, "size": "model", "bootstrap": 50}
    everything = fit_law(FitConfig(**config), table).only
    frontier = fit_law(FitConfig(**config, frontier=True), table).only
    assert everything.num_rows == 30
    assert "dominated-rows" in {warning.code for warning in everything.warnings}
    assert frontier.rows.tolist() == sorted(frontier.frontier.tolist())
    assert frontier.num_rows < 30
    assert everything.frontier.tolist() == frontier.frontier.tolist()


def test_a_frontier_of_one_model_or_few_runs_gives_warnings():
    table = runs_table()
    loss = np.array(table.columns["y"])
    loss[10:] += 5  # only the small model is left on the frontier
    one = Table.from_columns({**table.columns, "y": loss})
    law = fit_law(FitConfig(form="compute", columns={"C": "C"}, size="model", frontier=True, bootstrap=50), one)
    codes = {warning.code for warning in law.only.warnings}
    assert {"frontier-one-size", "frontier-short"} <= codes


def test_the_frontier_of_scores_keeps_the_highest_and_is_asked_for():
    table = Table.read(Path(__file__).parent / "cases" / "accuracy.csv")
    config = FitConfig(
        form="compute", columns={"C": "gflops", "y": "acc"}, frontier=True, maximise=True, offset=False, bootstrap=0
    )
    assert [str(table.columns["run"][i]) for i in fit_law(config, table).only.rows] == [f"r{i}0" for i in range(8)]
    with pytest.raises(ValueError, match=r"higher is better \(`maximise`\)"):
        fit_law(replace(config, maximise=False), table)
    with pytest.raises(ValueError, match="`maximise` has no effect"):
        fit_law(FitConfig(columns={"P": "gflops", "S": "acc", "y": "acc"}, maximise=True, bootstrap=0), table)


def test_a_start_that_is_the_optimum_is_no_error():
    c = np.geomspace(1e3, 1e6, 20)
    for seed in range(15):  # pure power laws: the offset goes to zero, where one of the starts is
        y = 50 * c**-0.3 * np.exp(0.003 * np.random.default_rng(seed).standard_normal(20))
        config = FitConfig(form="compute", columns={"C": "C"}, objective="log-lsq", bootstrap=0)
        fit = fit_law(config, Table.from_columns({"C": c, "y": y})).only
        assert "unmoved-start" not in {warning.code for warning in fit.warnings} or not fit.solver.converged


def test_the_lowest_run_of_each_bin_keeps_its_compute():
    c = np.array([1.0, 5.0, 9.0, 20.0, 90.0, 1000.0, 2.0, 3.0])
    y = np.array([5.0, 4.0, 4.0, 4.5, 6.0, 3.0, 4.0, 9.0])
    assert find_pareto_frontier(c, y, bins=3).tolist() == [6, 3, 5]  # 1-10, 10-100, 100-1000; of equals the cheapest
    assert find_pareto_frontier(c, y).tolist() == [0, 6, 5]
    config = FitConfig(form="compute", columns={"C": "C"}, frontier=True, frontier_bins=3, bootstrap=0)
    law = fit_law(config, {"C": c, "y": y})
    assert law.only.rows.tolist() == [3, 5, 6]
    assert law.config["frontier_options"]["bins"] == 3
    for options in ({"bins": 1}, {"bins": -2}, {"bins": 4, "min_gap": 0.1}):
        with pytest.raises(ValueError, match="the frontier has"):
            find_pareto_frontier(c, y, **options)
    with pytest.raises(ValueError, match="`frontier_bins` has no effect without `frontier`"):
        FitConfig(form="compute", frontier_bins=3)
