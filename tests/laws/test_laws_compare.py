"""Comparison of forms by held-out error."""

import numpy as np
import pytest
from synthetic_runs import grid, product_runs

from polyglance.laws import CompareConfig, FitConfig, Table, compare_laws, fit_law


def runs():
    p, s, t = grid(np.geomspace(1e8, 1e10, 4), np.geomspace(1e5, 1e8, 5), [2.0, 6.0, 12.0])
    languages = np.array(["de", "fr", "ru"])[np.arange(len(p)) % 3]
    return {**product_runs(p, s, t, noise=0.003), "size": [f"{value:.0e}" for value in p], "language": languages}


def test_the_true_form_wins_and_each_way_of_holding_out_is_scored():
    config = CompareConfig(objective="log-lsq", size="size", language="language")
    result = compare_laws(config, Table.from_columns(runs()))["all"]
    protocols = {score.protocol for score in result.scores}
    assert protocols == {
        "expanding window",
        "largest P",
        "largest S",
        "largest T",
        "leave one model out",
        "leave one language out",
    }
    for protocol in protocols:
        assert result.best(protocol).candidate == "product(P, S, T)"
    names = {score.candidate for score in result.scores}
    assert {
        "product(P, S, T) without offset",
        "product(P, S)",
        "saturating(P, S, T)",
        "additive(P, S)",
        "last value",
    } <= names
    by_name = {candidate.name: candidate for candidate in result.candidates}
    assert by_name["product(P, S, T)"].delta_aicc == 0
    assert by_name["product(P, S)"].delta_aicc > 50
    last = next(s for s in result.scores if (s.candidate, s.protocol) == ("last value", "expanding window"))
    assert last.bias > 0.02  # losses fall, the last one is too high
    assert sum(last.by_distance.values()) > 0


def test_no_held_out_row_touches_its_own_prediction():
    columns = runs()
    config = CompareConfig(objective="log-lsq")
    before = compare_laws(config, Table.from_columns(columns))["all"]
    y = columns["y"].copy()
    y[columns["P"] == columns["P"].max()] *= 3
    after = compare_laws(config, Table.from_columns({**columns, "y": y}))["all"]

    def predicted(result, factor):
        score = next(s for s in result.scores if (s.candidate, s.protocol) == ("product(P, S, T)", "largest P"))
        return (score.bias + 1) * factor

    assert predicted(after, 3) == pytest.approx(predicted(before, 1), rel=1e-6)


def test_splits_that_cannot_determine_a_law_are_skipped_and_counted():
    columns = runs()
    two = {name: np.asarray(column)[np.asarray(columns["T"]) != 6.0] for name, column in columns.items()}
    two["size"] = np.where(two["T"] == 2.0, "a", "b")
    config = CompareConfig(objective="log-lsq", size="size")
    result = compare_laws(config, Table.from_columns(two))["all"]
    full = next(s for s in result.scores if (s.candidate, s.protocol) == ("product(P, S, T)", "leave one model out"))
    assert (full.num_splits, full.num_skipped, full.mean_relative_error) == (0, 2, None)
    without = next(s for s in result.scores if (s.candidate, s.protocol) == ("product(P, S)", "leave one model out"))
    assert without.num_splits == 2


def test_too_few_rows_to_compare_are_an_error():
    few = {"P": [1e8, 1e9, 1e10], "S": [1e5, 1e7, 1e6], "T": [2.0, 3.0, 4.0], "y": [3.0, 2.0, 1.5]}
    with pytest.raises(ValueError, match="nothing to compare"):
        compare_laws(CompareConfig(objective="log-lsq"), Table.from_columns(few))


def test_the_r2_of_a_candidate_is_that_of_the_fit():
    table = Table.from_columns({**runs(), "w": np.geomspace(0.1, 10, 60)})
    fit = fit_law(FitConfig(objective="log-lsq", weight="w", bootstrap=0), table).only
    candidate = compare_laws(CompareConfig(objective="log-lsq", weight="w"), table)["all"].candidates[0]
    assert (candidate.r2_log, candidate.r2_raw) == pytest.approx((fit.r2_log, fit.r2_raw), rel=1e-9)
