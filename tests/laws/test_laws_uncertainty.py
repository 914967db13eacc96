"""Bootstrap intervals: coverage of the truth, clusters, widening, many rows."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_runs import grid, product_loss

from polyglance.laws import FitConfig, PlanConfig, Table, fit_law, make_form, plan_with_law
from polyglance.laws.fitting.layout import lay_out
from polyglance.laws.fitting.rows import resolve_form, select_rows
from polyglance.laws.fitting.uncertainty import _add_leverage, _exchange_sizes, resample_clusters
from polyglance.laws.text import format_predictions

TRUTHS = {
    "compute": {"a0": 60.0, "a1": -0.2, "eps": 1.0},
    "product": {"b0": 300.0, "b_P": -0.15, "b_S": -0.12, "eps": 0.8},
}


def coverage(form_name, inputs, noise, *, runs=None, run_noise=0.0, num_tables=150, **options):
    """Share of made-up tables whose 95 % intervals hold the truth: of each parameter, of the curve and of a new run (at
    three times the largest inputs)."""
    rng = np.random.default_rng(11)
    form, truth = make_form(form_name, tuple(inputs)), TRUTHS[form_name]
    theta = form.to_internal(truth)[None]
    log_mean = form.log_mean(theta, form.design(np.log(np.column_stack(list(inputs.values())))))[0]
    at = {name: 3 * values.max() for name, values in inputs.items()}
    true_log = form.log_mean(theta, form.design(np.log(np.array([list(at.values())]))))[0, 0]
    hits = dict.fromkeys((*truth, "curve", "new run"), 0)
    config = FitConfig(
        form=form_name,
        columns={n: n for n in inputs},
        cluster=None if runs is None else "run",
        bootstrap=100,
        **options,
    )
    for seed in range(num_tables):
        log_y = log_mean + noise * rng.standard_normal(len(log_mean))
        columns = dict(inputs)
        if runs is not None:
            log_y += run_noise * rng.standard_normal(runs.max() + 1)[runs]
            columns["run"] = runs
        f = fit_law(replace(config, seed=seed), Table.from_columns({**columns, "y": np.exp(log_y)})).only
        for name, value in truth.items():
            low, high = f.intervals[name]
            hits[name] += low <= value <= high
        predicted = f.predict(at)
        new = true_log + noise * rng.standard_normal() + run_noise * rng.standard_normal()
        hits["curve"] += predicted.low[0] <= np.exp(true_log) <= predicted.high[0]
        hits["new run"] += predicted.low_new[0] <= np.exp(new) <= predicted.high_new[0]
    return {name: count / num_tables for name, count in hits.items()}


def assert_covers(shares, lowest=0.90):
    """Without the leverage, or with the residuals of the absolute error, the shares are 0.78 to 0.87."""
    assert all(lowest <= share <= 0.99 for share in shares.values()), shares


@pytest.mark.slow
def test_coverage_of_the_default_objective_for_few_rows_by_wild_bootstrap():
    assert_covers(coverage("compute", {"C": np.geomspace(1e6, 1e9, 12)}, 0.02))


@pytest.mark.slow
def test_coverage_of_a_product_law_by_resampled_pairs():
    p, s = grid(np.geomspace(4e8, 1e10, 4), np.geomspace(1e6, 1e8, 9))
    assert_covers(coverage("product", {"P": p, "S": s}, 0.01, objective="log-lsq", method="pairs"))


@pytest.mark.slow
def test_coverage_where_rows_are_checkpoints_of_runs():
    runs = np.repeat(np.arange(24), 5)
    inputs = {"P": np.repeat(np.tile(np.geomspace(4e8, 1e10, 4), 6), 5), "S": np.tile(np.geomspace(1e6, 1e8, 5), 24)}
    assert_covers(coverage("product", inputs, 0.01, runs=runs, run_noise=0.02, objective="log-lsq", num_tables=250))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["log-lsq", "log-huber"])
def test_coverage_where_few_runs_have_many_checkpoints(objective):
    """With the leverage of rows in place of runs the shares are 0.78 to 0.83."""
    runs = np.repeat(np.arange(16), 5)
    p, s = (column[runs] for column in grid(np.geomspace(1e7, 1e9, 4), np.geomspace(1e5, 1e8, 4)))
    inputs = {"P": p, "S": s * np.tile(np.linspace(0.2, 1.0, 5), 16)}
    shares = coverage("product", inputs, 0.002, runs=runs, run_noise=0.01, objective=objective, num_tables=100)
    assert_covers(shares, lowest=0.88)


def test_residuals_are_those_of_a_law_fitted_without_the_row_or_run():
    """In a law that is linear in its parameters the correction is exact, with any weights."""
    rng = np.random.default_rng(0)
    design, log_y = np.column_stack([np.ones(24), rng.normal(size=(24, 2))]), rng.normal(size=24)
    weights = np.exp(2 * rng.normal(size=24))
    scale = np.sqrt(weights)

    def residuals_of(kept):
        solution = np.linalg.lstsq(design[kept] * scale[kept, None], log_y[kept] * scale[kept], rcond=None)[0]
        return log_y - design @ solution

    exact = 0
    for clusters in (np.arange(24), np.repeat(np.arange(8), 3), rng.permutation(np.repeat(np.arange(8), 3))):
        added = _add_leverage(residuals_of(np.ones(24, bool)), design, weights, clusters)
        for cluster in range(clusters.max() + 1):
            rows = clusters == cluster
            block = (design * scale[:, None])[rows] @ np.linalg.pinv(design * scale[:, None])[:, rows]
            if np.linalg.eigvalsh((block + block.T) / 2).max() < 0.9:
                exact += 1
                assert added[rows] == pytest.approx(residuals_of(~rows)[rows], rel=1e-9)
    assert exact > 25


def test_rows_exchange_sizes_with_rows_of_their_weight():
    weights = np.array([1.0, 100.0] * 8 + [7.0, 8.0])
    sizes = np.where(weights == 100, 1.0, 0.0)
    drawn = _exchange_sizes(sizes, weights, 200, np.random.default_rng(0))
    assert (drawn[:, weights == 100] == 1).all()
    assert (drawn[:, weights == 1] == 0).all()
    own = np.arange(18.0)
    drawn = _exchange_sizes(own, weights, 200, np.random.default_rng(0))
    assert all(set(drawn[:, j]) == set(own[weights == weights[j]]) for j in range(16))
    assert len(set(drawn[:, 16])) == 5  # few rows have its weight: the five nearest by weight


@pytest.mark.parametrize(("method", "factor"), [("wild", 1.0), ("pairs", np.sqrt(12 / 9))])
def test_intervals_are_widened_by_student_quantiles_and_for_pairs_by_the_rows_spent(method, factor):
    c = np.geomspace(1e6, 1e9, 12)
    y = (60 * c**-0.2 + 1) * np.exp(0.02 * np.random.default_rng(0).standard_normal(12))
    config = FitConfig(form="compute", columns={"C": "C"}, objective="log-lsq", method=method, bootstrap=200)
    f = fit_law(config, Table.from_columns({"C": c, "y": y})).only
    assert f.spread == pytest.approx(2.262157 / 1.959964 * factor, rel=1e-6)  # 12 rows, 3 parameters
    j = f.form.parameters.index("a1")
    ends = np.percentile(f.draws[:, j], [2.5, 97.5])
    assert f.intervals["a1"] == pytest.approx(f.theta[j] + f.spread * (ends - f.theta[j]))


def test_a_cluster_is_drawn_as_a_whole_and_widens_the_interval():
    counts = resample_clusters(6, FitConfig(bootstrap=500, seed=3))
    assert (counts.sum(axis=1) == 6).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(6), abs=0.2)
    rng = np.random.default_rng(0)
    runs = np.repeat(np.arange(70), 6)
    c = np.exp(rng.uniform(14, 21, 70))[runs] * np.tile(np.arange(1, 7), 70)
    y = (60 * c**-0.2 + 1) * np.exp(0.05 * rng.standard_normal(70)[runs] + 0.005 * rng.standard_normal(420))
    table = Table.from_columns({"C": c, "y": y, "run": runs})
    config = {"form": "compute", "columns": {"C": "C"}, "objective": "log-lsq", "bootstrap": 200}
    alone = fit_law(FitConfig(**config), table).only.intervals["a1"]
    together = fit_law(FitConfig(**config, cluster="run"), table).only.intervals["a1"]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


@pytest.mark.parametrize("objective", ["log-lsq", "log-huber", "asymmetric"])
def test_many_rows_are_refitted_on_a_sample_with_the_same_intervals(monkeypatch, objective):
    rng = np.random.default_rng(2)
    c = np.exp(rng.uniform(10, 20, 4000))
    p = np.tile([2.0, 5.0], 2000)  # every second row alike: a sample of every k-th row would not see it vary
    y = (60 * c**-0.2 * p**-0.3 + 1) * np.exp(0.02 * rng.standard_normal(4000))
    config = FitConfig(columns={"C": "C", "P": "P"}, objective=objective, bootstrap=300)
    table = Table.from_columns({"C": c, "P": p, "y": y})
    full = fit_law(config, table).only
    monkeypatch.setattr("polyglance.laws.fitting.uncertainty._MOST_REFITTED", 1000)
    monkeypatch.setattr("polyglance.laws.fitting.layout.MANY_ROWS", 1500)
    sampled = fit_law(config, table).only
    assert sampled.parameters == pytest.approx(full.parameters, rel=1e-6)
    for name in full.intervals:
        assert np.ptp(sampled.intervals[name]) == pytest.approx(np.ptp(full.intervals[name]), rel=0.3)


def test_few_runs_of_many_rows_are_refitted_whole(monkeypatch):
    rng = np.random.default_rng(3)
    c, runs = np.exp(rng.uniform(10, 20, 4000)), np.arange(4000) % 8
    y = (60 * c**-0.2 + 1) * np.exp(0.01 * rng.standard_normal(4000) + 0.02 * rng.standard_normal(8)[runs])
    config = FitConfig(
        form="compute", columns={"C": "C"}, cluster="run", objective="log-lsq", bootstrap=300, method="pairs"
    )
    table = Table.from_columns({"C": c, "y": y, "run": runs})
    full = fit_law(config, table).only
    monkeypatch.setattr("polyglance.laws.fitting.uncertainty._MOST_REFITTED", 800)
    sampled = fit_law(config, table).only
    assert sampled.spread == pytest.approx(2.570582 / 1.959964 * np.sqrt(8 / 5), rel=1e-6)
    assert sampled.intervals == full.intervals


def test_a_sample_has_whole_clusters_of_every_group():
    groups = np.repeat(["a", "b"], [6000, 3000])
    runs = np.arange(9000) // 2
    c = np.geomspace(1e3, 1e8, 9000)
    config = FitConfig(form="compute", columns={"C": "C", "y": "y"}, group="g", cluster="run", share=("a1",))
    form, columns, _ = resolve_form(config)
    table = Table.from_columns({"C": c, "y": 3 * c**-0.1 + 1, "g": groups, "run": runs})
    rows, _ = select_rows(config, form, columns, table)
    layout = lay_out(config, form, rows.split_groups())
    sample = layout.draw_sample(3000)
    assert len(sample.rows) == pytest.approx(3000, abs=100)
    assert sample.num_clusters == len(sample.rows) / 2  # both rows of each run
    assert (layout.clusters[sample.rows[::2]] == layout.clusters[sample.rows[1::2]]).all()
    assert (sample.rows < 6000).mean() == pytest.approx(2 / 3, abs=0.05)
    theta = np.array([[1.0, -0.1, 0.5, 0.4, 0.2]])[:, : len(layout.free)]
    whole = layout.problem.log_mean(theta, 9000)[0, sample.rows]
    assert sample.problem.log_mean(theta, len(sample.rows))[0] == pytest.approx(whole)


def test_as_many_parameters_as_runs_give_no_interval_anywhere():
    law = fit_law(
        FitConfig(form="compute", columns={"C": "C"}),
        Table.from_columns({"C": [1e18, 1e19, 1e20], "y": [3.1, 2.7, 2.45]}),
    )
    assert "no-interval" in {warning.code for warning in law.only.warnings if warning.severity == "error"}
    assert law.only.intervals == {}
    prediction = law.only.predict({"C": 1e23})
    assert (prediction.low, prediction.high_new) == (None, None)
    assert "no-interval: " in format_predictions(law, {"all": prediction})
    plan = plan_with_law(PlanConfig(target=2.3), law)
    assert plan.options[0].needed.low is None
    assert any(note.startswith("no-interval: ") for note in plan.notes)


@pytest.mark.parametrize(
    "bounds", [{"eps": (1.6, 1.7)}, {"a1": (-0.07, 0.0)}, {"a0": (0.0, 10.0)}, {"a0": (1.0, 90.0)}]
)
def test_intervals_hold_the_estimate_and_keep_to_bounds(bounds):
    c = np.geomspace(1e3, 1e8, 20)
    y = (20 * c**-0.2 + 1.2) * np.exp(0.005 * np.random.default_rng(0).standard_normal(20))
    config = FitConfig(form="compute", columns={"C": "C"}, bounds=bounds, bootstrap=100)
    fit = fit_law(config, Table.from_columns({"C": c, "y": y})).only
    for name, (low, high) in fit.intervals.items():
        slack = 1e-9 * abs(fit.parameters[name])
        assert low - slack <= fit.parameters[name] <= high + slack
    (name, (lowest, highest)) = next(iter(bounds.items()))
    low, high = fit.intervals[name]
    assert lowest <= low <= high <= highest
    value = fit.parameters[name]
    said = any(w.code == "bound-hit" and w.message.startswith(f"{name} ended") for w in fit.warnings)
    assert said == any(abs(value / end - 1) < 1e-6 for end in (lowest, highest) if end)
    assert "term-vanished" not in {warning.code for warning in fit.warnings}


def make_level_runs(effect, seed=0, levels=8):
    """Return an 8 x 9 grid of the product law with noise of 1 %, and a common shift of all runs of one size."""
    sizes = np.geomspace(1e8, 1e10, levels)
    p, s, t = grid(sizes, np.geomspace(1e5, 1e9, 9), [4.0])
    rng = np.random.default_rng(seed)
    shift = effect * rng.standard_normal(levels)[np.searchsorted(sizes, p)]
    return {"P": p, "S": s, "y": product_loss(p, s, t) * np.exp(shift + 0.01 * rng.standard_normal(len(p)))}


def test_runs_of_one_size_that_miss_together_are_drawn_together():
    config = FitConfig(columns={"P": "P", "S": "S"}, objective="log-lsq", bootstrap=100)
    codes = []
    covered = {"levels": 0, "rows": 0}
    for seed in range(20):
        alike = fit_law(config, Table.from_columns(make_level_runs(0.02, seed))).only
        found = [warning for warning in alike.warnings if warning.code == "alike-levels"]
        assert len(found) == 1
        assert "the same P" in found[0].message
        assert "8 clusters" in found[0].message
        low, high = alike.intervals["b_P"]
        covered["levels"] += low <= -0.12 <= high
        rows = np.arange(72).astype(str)  # each row is a run of its own, as the user says
        named = Table.from_columns({**make_level_runs(0.02, seed), "run": rows})
        low, high = fit_law(replace(config, cluster="run"), named).only.intervals["b_P"]
        covered["rows"] += low <= -0.12 <= high
        clean = fit_law(replace(config, bootstrap=20), Table.from_columns(make_level_runs(0.0, seed))).only
        codes += [warning.code for warning in clean.warnings]
    assert covered["levels"] >= 16
    assert covered["rows"] <= covered["levels"] - 4
    assert codes.count("alike-levels") <= 1


def test_an_envelope_has_no_levels_that_are_alike():
    config = FitConfig(columns={"P": "P", "S": "S"}, objective="asymmetric", bootstrap=20)
    law = fit_law(config, Table.from_columns(make_level_runs(0.02)))
    assert "alike-levels" not in [warning.code for warning in law.only.warnings]
