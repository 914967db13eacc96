"""Comparison of forms by held-out error."""

import re
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from synthetic_runs import grid, product_runs

from polyglance.laws import CompareConfig, FitConfig, Table, compare_laws, fit_law
from polyglance.laws.text import format_comparisons


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


def numbers_of(result):
    """Return (protocol, name without the order of its predictors) -> error, and the winner of each protocol."""
    errors = {
        (one.protocol, *sorted(re.findall(r"\w+", one.candidate))): one.mean_relative_error for one in result.scores
    }
    winners = {protocol: result.best(protocol).candidate.split("(")[0] for protocol, *_ in errors}
    return errors, winners


@pytest.mark.parametrize(
    ("order", "in_millions"),
    [
        *((order, False) for order in permutations(("params", "tokens", "start"))),
        (("start", "tokens", "params"), True),
        *((order, False) for order in permutations(("params", "samples", "epochs"))),
    ],
)
def test_the_order_in_which_columns_are_named_changes_nothing(order, in_millions):
    start, data = ("epochs", "samples") if "epochs" in order else ("start", "tokens")
    p, s, t = grid(np.geomspace(1e8, 1e10, 4), np.geomspace(1e9, 1e11, 4), [2.0, 6.0])
    y = (150 * p**-0.05 * s**-0.2 + 20 * s**-0.15) * t**0.3  # saturating in size, not in data
    y = y * np.exp(0.001 * np.random.default_rng(1).standard_normal(len(y)))
    units = {"params": "Params (M)", "tokens": "Tokens (M)"} if in_millions else {}
    scale = 1e6 if in_millions else 1.0
    table = {units.get("params", "params"): p / scale, units.get(data, data): s / scale, start: t, "y": y}

    def compare(names):
        columns = {name: units.get(name, name) for name in (*names, "y")}
        return compare_laws(CompareConfig(objective="log-lsq", columns=columns), table)["all"]

    errors, winners = numbers_of(compare(order))
    expected, _ = numbers_of(compare(("params", data, start)))
    assert errors == pytest.approx(expected, rel=1e-3)
    assert winners["expanding window"] == "saturating"
    assert "leave one model out" in winners


def test_a_form_that_few_rows_do_not_determine_is_judged_on_the_splits_that_all_forms_share():
    p, s = grid(np.geomspace(1e8, 1e9, 3), np.geomspace(1e9, 1e11, 3))
    y = 1.7 + 400 / p**0.34 + 410 / s**0.28
    result = compare_laws(CompareConfig(form="additive", columns={"N": "N", "D": "D"}), {"N": p, "D": s, "y": y})["all"]
    window = {one.candidate: one for one in result.scores if one.protocol == "expanding window"}
    assert window["additive(N, D)"].split_errors[:2] == (None, None)  # four and five rows for five parameters
    assert window["last value"].num_skipped == 0
    assert result.find_shared("expanding window") == (2, 3)
    assert result.best("expanding window").candidate == "additive(N, D)"
    assert "(on the 2 of 4 splits" in format_comparisons({"all": result})
    last, levels = window["last value"], np.unique(p * s)
    for share, error, num in zip((0.4, 0.55, 0.7, 0.85), last.split_errors, last.split_rows, strict=True):
        test = p * s > levels[round(share * len(levels)) - 1]
        z = np.log(np.stack([p, s], 1)) / np.log(np.stack([p, s], 1)).std(0)
        nearest = ((z[test][:, None] - z[~test][None]) ** 2).sum(-1).argmin(1)
        assert (error, num) == (pytest.approx(np.abs(y[~test][nearest] / y[test] - 1).mean()), test.sum())


def test_a_form_that_could_be_fitted_nowhere_is_named_beside_the_best():
    p, s = grid(np.geomspace(1e8, 1e9, 2), np.geomspace(1e9, 1e11, 3))
    y = 400 / p**0.34 + 410 / s**0.28
    result = compare_laws(CompareConfig(columns={"P": "P", "S": "S"}), {"P": p, "S": s, "y": y})["all"]
    aside = result.find_left_aside("expanding window")
    fitted = {one.candidate for one in result.scores if one.protocol == "expanding window" and one.num_splits}
    assert aside
    assert result.best("expanding window").candidate not in aside
    assert set(aside) >= {one.candidate for one in result.scores if not one.num_splits} - fitted
    assert f"all forms but {', '.join(aside)} could be fitted to)" in format_comparisons({"all": result})


def test_no_form_is_said_to_predict_best_where_only_the_last_value_could_be_had():
    few = {"P": [1e8] * 3, "S": [1e5, 1e6, 1e7], "y": [3.0, 2.0, 1.5]}
    result = compare_laws(CompareConfig(columns={"P": "P", "S": "S"}), few)["all"]
    assert result.best("largest S") is None
    assert "no form could be fitted" in format_comparisons({"all": result})


def test_a_score_against_a_loss_is_predicted_for_the_smaller_losses():
    loss = np.linspace(4, -1, 14)
    score = 1 / (1 + np.exp(2.5 * (loss - 3)))
    config = CompareConfig(form="downstream", columns={"loss": "loss", "y": "score"})
    result = compare_laws(config, {"loss": loss, "score": score})["all"]
    last = {one.protocol: one for one in result.scores if one.candidate == "last value"}
    assert set(last) == {"expanding window", "smallest loss"}
    assert last["smallest loss"].bias == pytest.approx(np.mean(score[-4] / score[-3:] - 1))
    assert not last["expanding window"].by_distance


@pytest.mark.parametrize("option", ["language", "size", "group", "scale"])
def test_rows_without_a_label_are_no_label_of_their_own(option):
    table = {**runs(), "label": [str(1 + i % 3) for i in range(60)]}
    table["label"][7] = table["label"][30] = None
    config = CompareConfig(**{option: "label"})
    with pytest.raises(ValueError, match=rf"2 of 60 rows cannot be used: row 8: {option} \(column 'label'\) is empty"):
        compare_laws(config, table)
    result = compare_laws(replace(config, drop_bad_rows=True, form="product"), table)
    kept = {name: [cell for i, cell in enumerate(column) if i not in (7, 30)] for name, column in table.items()}
    expected = compare_laws(config, kept)
    for group, comparison in result.items():
        assert comparison.scores == expected[group].scores
        assert [one.code for one in comparison.warnings] == ["rows-dropped"]


def test_what_a_fit_warns_of_is_said_of_a_comparison_too():
    table = {name: np.tile(column, 2) for name, column in runs().items()}
    result = compare_laws(CompareConfig(where="P<5e9"), table)["all"]
    assert {one.code for one in result.warnings} == {"rows-filtered", "duplicate-rows"}
    text = format_comparisons({"a": result, "b": result})
    assert text.count("duplicate-rows") == 1


def test_weights_count_in_the_criterion_and_rounding_does_not():
    p, s = grid(np.geomspace(1e8, 1e10, 4), np.geomspace(1e5, 1e8, 4))
    rng = np.random.default_rng(3)
    weight, noise = rng.uniform(0.1, 10, 16), 0.05 * rng.standard_normal(16)
    config = CompareConfig(objective="log-lsq", columns={"P": "P", "S": "S"}, offset=False, weight="w")
    exact = 60 * p**-0.1 * s**-0.1
    x = np.column_stack([np.ones(16), np.log(p), np.log(s)])
    root = np.sqrt(weight)
    y = np.log(exact) + noise
    residual = y - x @ np.linalg.lstsq(x * root[:, None], y * root)[0]
    expected = 16 * np.log((weight * residual**2).sum() / 16) + 2 * 4 + 2 * 4 * 5 / (16 - 4 - 1)
    (first, *_) = compare_laws(config, {"P": p, "S": s, "y": exact * np.exp(noise), "w": weight})["all"].candidates
    assert first.aicc == pytest.approx(expected, rel=1e-9)
    noiseless = compare_laws(config, {"P": p, "S": s, "y": exact, "w": weight})["all"]
    by_name = {one.name: one for one in noiseless.candidates}
    assert by_name["product(P, S) without offset"].delta_aicc == 0
    assert 0 < by_name["product(P, S)"].delta_aicc < 10  # its one parameter more


def test_a_group_that_cannot_be_compared_is_named():
    table = {**runs(), "g": ["a"] * 59 + ["b"]}
    with pytest.raises(ValueError, match="group 'b': nothing to compare"):
        compare_laws(CompareConfig(group="g"), table)
