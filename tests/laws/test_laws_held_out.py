"""The error of a law on the largest runs of its own table, which plans state first."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_runs import grid, product_runs

from polyglance.laws import Budget, FitConfig, Law, PlanConfig, Table, fit_law, load_law, plan_with_law, spend_budget
from polyglance.laws.fitting.held_out import find_widening
from polyglance.laws.text import format_budget, format_law, format_plan, format_predictions

AT = {"N": 3e10, "D": 1e12}
SIZES, TOKENS = np.geomspace(1e8, 1e10, 5), np.geomspace(1e9, 1e11, 6)


def additive_table(noise=0.01, seed=0, bend=0.0):
    n, d = grid(SIZES, TOKENS)
    scale = np.log10(n * d)
    y = 1.8 + 480 / n**0.35 + 2100 / d**0.37
    y *= np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)) + bend * (scale > np.quantile(scale, 0.8)))
    return Table.from_columns({"N": n, "D": d, "y": y})


def fit(table, **options):
    return fit_law(
        FitConfig(**{"form": "additive", "columns": {"N": "N", "D": "D"}, "bootstrap": 50, **options}), table
    )


def test_it_is_the_error_of_the_law_that_the_smaller_runs_give():
    table = additive_table()
    held_out = fit(table, objective="log-lsq").only.held_out
    n, d, y = (np.array(table.columns[name]) for name in ("N", "D", "y"))
    levels = np.unique(np.log(n) + np.log(d))
    train = np.log(n) + np.log(d) < levels[-round(0.2 * len(levels))]
    smaller = Table.from_columns({"N": n[train], "D": d[train], "y": y[train]})
    again = fit(smaller, objective="log-lsq", bootstrap=0).only
    error = again.predict({"N": n[~train], "D": d[~train]}).mean / y[~train] - 1
    assert (held_out.num_train, held_out.num_rows) == (train.sum(), (~train).sum())
    assert held_out.median_error == pytest.approx(np.median(np.abs(error)), rel=1e-6)
    assert held_out.mean_error == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert held_out.bias == pytest.approx(error.mean(), rel=1e-6)
    assert held_out.decades == pytest.approx(np.log10((n * d).max() / (n * d)[train].max()))
    assert held_out.median_error < held_out.last_value_error


def test_its_coverage_is_that_of_the_interval_where_the_law_holds_and_falls_where_it_does_not():
    good = [fit(additive_table(seed=seed), objective="log-lsq").only.held_out for seed in range(20)]
    assert 0.85 < np.mean([one.coverage for one in good]) <= 1.0
    assert sum(one.widening > 1 for one in good) <= 2
    laws = [fit(additive_table(seed=seed, bend=0.15), objective="log-lsq") for seed in range(5)]
    broken = [law.only.held_out for law in laws]
    assert np.mean([one.coverage for one in broken]) < 0.2
    assert np.mean([one.median_error for one in broken]) == pytest.approx(0.14, abs=0.03)
    assert all(one.bias < 0 and one.widening > 2 for one in broken)
    for law in laws:
        widening = law.only.held_out.widening
        plain = replace(law.only, held_out=None).predict(AT)
        wide = law.only.predict(AT)
        assert np.log(wide.high_new / wide.mean) == pytest.approx(widening * np.log(plain.high_new / plain.mean))
        assert np.log(wide.low_new / wide.mean) == pytest.approx(widening * np.log(plain.low_new / plain.mean))
        assert (wide.low == plain.low).all()
        assert f"{widening:.2g} times as wide" in format_law(law)
        stated = format_predictions(law, {"all": wide})
        assert f"the interval of a new run is made {widening:.2g} times as wide" in stated


def test_the_widening_is_one_unless_the_coverage_is_no_chance():
    """By hand: 16 of 20 inside is chance (probability 0.016), 15 is not (0.003); the quantile is the 20th of 20."""
    inside = np.linspace(0.1, 0.9, 15)
    assert find_widening(np.array([*inside, 0.95, 1.2, 1.3, 1.5, 3.0]), 0.95) == 1.0
    assert find_widening(np.array([*inside, 1.1, 1.2, 1.3, 1.5, 3.0]), 0.95) == 3.0
    assert find_widening(np.array([5.0, 7.0]), 0.95) == 7.0
    assert find_widening(np.concatenate([np.full(80, 0.5), np.arange(2.0, 22.0)]), 0.95) == 17.0  # the 96th of 100


def test_every_plan_states_it_first(tmp_path):
    law = fit(additive_table())
    law.save(tmp_path / "law.json")
    loaded = Law.load(tmp_path / "law.json")
    assert loaded.only.held_out == law.only.held_out
    spent = spend_budget(PlanConfig(budget=Budget(max_gmac=1e12)), loaded)
    planned = plan_with_law(PlanConfig(target=2.5, at={"N": 1e9}), loaded)
    assert spent.held_out == planned.held_out == law.only.held_out
    stated = f"held-out error: fitted to the {law.only.held_out.num_train} smaller runs, this law misses"
    assert format_budget(spent).splitlines()[2].startswith(stated)
    assert format_plan(planned).splitlines()[2].startswith(stated)
    assert stated in format_law(loaded)
    made = spend_budget(PlanConfig(budget=Budget(max_gmac=1e12)), load_law("chinchilla"))
    assert format_budget(made).splitlines()[2].startswith("held-out error: not known: this law has no runs")


def test_too_few_smaller_runs_give_none():
    n, d = grid(SIZES[:2], TOKENS[:3])
    few = Table.from_columns({"N": n, "D": d, "y": 1.8 + 480 / n**0.35 + 2100 / d**0.37})
    assert fit(few).only.held_out is None
    one_size = Table.from_columns(product_runs(*grid([1e8, 1e9], [1e6, 2e6], [3.0])))
    law = fit_law(FitConfig(columns={"P": "P", "S": "S"}, bootstrap=0), one_size)
    assert law.only.held_out is None
    assert fit(additive_table(), bootstrap=0).only.held_out.coverage is None
