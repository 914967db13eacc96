"""Intervals cover what they claim to, and resampling respects clusters."""

import numpy as np
import pytest

from polyglance.laws import FitConfig, Table, fit
from polyglance.laws.forms import make_form
from polyglance.laws.uncertainty import resampled_counts

TRUTHS = {
    "compute": {"a0": 60.0, "a1": -0.2, "eps": 1.0},
    "product": {"b0": 300.0, "b_P": -0.15, "b_S": -0.12, "eps": 0.8},
    "additive": {"A": 400.0, "B": 2000.0, "E": 1.7, "alpha": 0.34, "beta": 0.36},
}
NUM_REPLICATIONS = 300


def grid(*axes):
    return np.array(np.meshgrid(*axes)).reshape(len(axes), -1)


def coverage(form_name, inputs, noise, *, runs=None, run_noise=0.0, **options):
    """Share of replications whose 95 % intervals hold the truth: per parameter, of the curve and of a new run (at three
    times the largest inputs)."""
    rng = np.random.default_rng(11)
    form, truth = make_form(form_name, tuple(inputs)), TRUTHS[form_name]
    theta = form.to_internal(truth)[None]
    log_mean = form.log_mean(theta, form.design(np.log(np.column_stack(list(inputs.values())))))[0]
    at = {name: 3 * values.max() for name, values in inputs.items()}
    true_there = form.log_mean(theta, form.design(np.log(np.array([list(at.values())]))))[0, 0]
    hits = dict.fromkeys((*truth, "curve", "new run"), 0)
    for replication in range(NUM_REPLICATIONS):
        log_y = log_mean + noise * rng.standard_normal(len(log_mean))
        columns = dict(inputs)
        if runs is not None:
            log_y += run_noise * rng.standard_normal(runs.max() + 1)[runs]
            columns["run"] = runs
        config = FitConfig(
            form=form_name,
            columns={n: n for n in inputs},
            cluster=None if runs is None else "run",
            seed=replication,
            **options,
        )
        f = fit(config, Table.from_columns({**columns, "y": np.exp(log_y)})).only
        for name, value in truth.items():
            low, high = f.intervals[name]
            hits[name] += low <= value <= high
        there = f.predict(at)
        new = true_there + noise * rng.standard_normal() + run_noise * rng.standard_normal()
        hits["curve"] += there.low[0] <= np.exp(true_there) <= there.high[0]
        hits["new run"] += there.low_new[0] <= np.exp(new) <= there.high_new[0]
    return {name: count / NUM_REPLICATIONS for name, count in hits.items()}


def assert_covers(shares):
    assert all(0.90 <= share <= 0.98 for share in shares.values()), shares


@pytest.mark.slow
def test_coverage_of_a_small_compute_law():
    inputs = {"C": np.geomspace(1e6, 1e9, 12)}
    assert_covers(coverage("compute", inputs, 0.02, objective="log-lsq", bootstrap=200))


@pytest.mark.slow
def test_coverage_of_the_default_objective():
    inputs = {"C": np.geomspace(1e6, 1e9, 12)}
    assert_covers(coverage("compute", inputs, 0.02, bootstrap=100))


@pytest.mark.slow
def test_coverage_of_a_product_law_by_resampled_pairs():
    p, s = grid(np.geomspace(4e8, 1e10, 4), np.geomspace(1e6, 1e8, 9))
    assert_covers(coverage("product", {"P": p, "S": s}, 0.01, objective="log-lsq", method="pairs", bootstrap=200))


@pytest.mark.slow
def test_coverage_where_rows_are_checkpoints_of_runs():
    runs = np.repeat(np.arange(24), 5)
    p, s = np.repeat(np.tile(np.geomspace(4e8, 1e10, 4), 6), 5), np.tile(np.geomspace(1e6, 1e8, 5), 24)
    shares = coverage("product", {"P": p, "S": s}, 0.01, runs=runs, run_noise=0.02, objective="log-lsq", bootstrap=200)
    assert_covers(shares)


def test_a_cluster_is_drawn_as_a_whole_and_widens_the_interval():
    counts = resampled_counts(6, 500, seed=3)
    assert (counts.sum(axis=1) == 6).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(6), abs=0.2)
    rng = np.random.default_rng(0)
    runs = np.repeat(np.arange(70), 6)
    c = np.exp(rng.uniform(14, 21, 70))[runs] * np.tile(np.arange(1, 7), 70)
    y = (60 * c**-0.2 + 1) * np.exp(0.05 * rng.standard_normal(70)[runs] + 0.005 * rng.standard_normal(420))
    table = Table.from_columns({"C": c, "y": y, "run": runs})
    config = {"form": "compute", "columns": {"C": "C"}, "objective": "log-lsq", "bootstrap": 200}
    alone = fit(FitConfig(**config), table).only.intervals["a1"]
    together = fit(FitConfig(**config, cluster="run"), table).only.intervals["a1"]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_a_profile_interval_is_the_f_interval_of_a_regression_and_open_where_there_is_no_end():
    rng = np.random.default_rng(1)
    c = np.geomspace(1e3, 1e6, 20)
    y = 50 * c**-0.3 * np.exp(0.05 * rng.standard_normal(20))
    f = fit(
        FitConfig(form="compute", columns={"C": "C"}, offset=False, objective="log-lsq", bootstrap=0, profile=True),
        Table.from_columns({"C": c, "y": y}),
    ).only
    slope, covariance = np.polyfit(np.log(c), np.log(y), 1, cov=True)
    reach = 2.100922 * np.sqrt(covariance[0, 0])  # t of 18 degrees of freedom
    assert f.profile_intervals["a1"] == pytest.approx((slope[0] - reach, slope[0] + reach), rel=1e-3)
    offset = fit(
        FitConfig(form="compute", columns={"C": "C"}, objective="log-lsq", bootstrap=0, profile=True),
        Table.from_columns({"C": c, "y": y}),
    ).only
    assert offset.profile_intervals["eps"][0] is None


def test_many_rows_give_the_same_intervals_by_single_steps(monkeypatch):
    rng = np.random.default_rng(2)
    c = np.exp(rng.uniform(10, 20, 3000))
    y = (60 * c**-0.2 + 1) * np.exp(0.02 * rng.standard_normal(3000))
    config = FitConfig(form="compute", columns={"C": "C"}, objective="log-lsq", bootstrap=300)
    full = fit(config, Table.from_columns({"C": c, "y": y})).only
    for module in ("setup", "uncertainty", "describe"):
        monkeypatch.setattr(f"polyglance.laws.{module}.MANY_ROWS", 1000)
    stepped = fit(config, Table.from_columns({"C": c, "y": y})).only
    assert stepped.parameters == pytest.approx(full.parameters, rel=1e-6)
    for name in full.intervals:
        assert stepped.intervals[name] == pytest.approx(full.intervals[name], rel=0.03)
