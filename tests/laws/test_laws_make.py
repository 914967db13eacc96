"""Laws from constants, the catalogue of published laws, and exponents that are tied to each other."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from polyglance.laws import (
    PUBLISHED_LAWS,
    Budget,
    FitConfig,
    Law,
    MakeConfig,
    PlanConfig,
    Table,
    fit_law,
    list_published_laws,
    load_law,
    make_law,
    plan_with_law,
    predict_with_law,
    spend_budget,
)
from polyglance.laws.text import format_law, format_predictions

CHINCHILLA = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
AT = {"N": 7e10, "D": 1.4e12}


def test_a_law_from_constants_predicts_plans_and_is_read_again_bit_for_bit(tmp_path):
    law = make_law(MakeConfig(form="additive", set=CHINCHILLA))
    expected = 1.69 + 406.4 / 7e10**0.34 + 410.7 / 1.4e12**0.28
    prediction = predict_with_law(law, AT)["all"]
    assert prediction.mean[0] == pytest.approx(expected, rel=1e-12)
    assert prediction.low is None
    assert np.isnan(prediction.extrapolation[0])
    assert "not known" in format_predictions(law, {"all": prediction})
    law.save(tmp_path / "law.json")
    again = Law.load(tmp_path / "law.json")
    assert again.only.predict(AT).mean[0] == prediction.mean[0]
    assert again.roles == {"N": "parameters", "D": "tokens"}
    plan = plan_with_law(PlanConfig(target=2.0, at={"N": 7e10}), again)
    assert plan.options[0].extrapolation is None
    best = spend_budget(PlanConfig(budget=Budget(max_gmac=1e12)), again).best
    assert (best.size.value, best.extrapolation) == (pytest.approx(2.996062e9, rel=1e-6), None)
    assert "no-interval" in format_law(again)


def test_standard_errors_give_intervals_and_a_warning_that_they_are_independent():
    ranges = {"N": (7e7, 1.6e10), "D": (5e9, 5e11)}
    law = make_law(MakeConfig(set=CHINCHILLA, errors={"E": 0.03, "A": 20.0}, ranges=ranges))
    fit = law.only
    assert fit.intervals["E"] == pytest.approx((1.69 * np.exp(-0.0588 / 1.69), 1.69 * np.exp(0.0588 / 1.69)), rel=1e-3)
    prediction = fit.predict(AT)
    a = 20.0 / 7e10**0.34
    assert (prediction.high[0] - prediction.low[0]) / 2 == pytest.approx(1.96 * np.hypot(0.03, a), rel=0.1)
    assert prediction.low_new is None
    assert prediction.extrapolation[0] == pytest.approx(np.log10(7e10 / 1.6e10))
    assert "independent-errors" in {warning.code for warning in fit.warnings}


@pytest.mark.parametrize(
    ("form", "constants", "predictors", "offset"),
    [
        ("additive", {**CHINCHILLA, "E": 0.0}, ("N", "D"), None),
        ("compute", {"a0": 9.0, "a1": -0.1, "eps": 1.0}, ("C",), "eps"),
        ("compute", {"a0": 9.0, "a1": -0.1}, ("C",), None),
        ("product", {"b0": 9.0, "b_width": -0.1, "b_S": -0.2, "eps": 1.0}, ("width", "S"), "eps"),
        ("saturating", {"A": 9.0, "b_N": -0.1, "b_D": -0.2, "B": 3.0, "c_D": -0.2}, ("N", "D"), None),
        (
            "saturating",
            {"A": 9.0, "b_N": -1, "b_D": -0.2, "b_T": 1, "B": 3, "c_D": -1, "eps": 2},
            ("N", "D", "T"),
            "eps",
        ),
        ("product-v1", {"b0": 2.3, "b_P": -0.16, "b_S": -0.04}, ("P", "S"), None),
        ("downstream", {"top": 90.0, "slope": 2.0, "middle": 2.0}, ("loss",), None),
    ],
)
def test_the_predictors_and_the_offset_follow_from_the_constants(form, constants, predictors, offset):
    made = make_law(MakeConfig(form=form, set=constants)).only
    assert (made.form.predictors, made.form.offset) == (predictors, offset)
    assert made.parameters == pytest.approx({name: value for name, value in constants.items() if value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "aditive"}, "did you mean 'additive'"),
        ({"set": {"E": 1.69}}, r"A, B, alpha, beta missing; the law is A / N\^alpha"),
        ({"set": {**CHINCHILLA, "gamma": 1.0}}, "no constant 'gamma'"),
        ({"set": {**CHINCHILLA, "A": -1.0}}, "A is -1; expected a positive"),
        ({"set": {**CHINCHILLA, "alpha": float("nan")}}, "alpha is nan"),
        ({"errors": {"A": 0.0}}, "expected a positive, finite standard error"),
        ({"errors": {"a": 1.0}}, "'a' is not a constant"),
        ({"ranges": {"N": (1e9, 1e8)}}, "the smaller first"),
        ({"ranges": {"N": (1e8, 1e9)}}, "ranges: D missing"),
        ({"columns": {"N": "tokens", "D": "parameters", "y": "loss"}}, "its first predictor is the size"),
    ],
)
def test_wrong_constants_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_law(MakeConfig(**{"set": CHINCHILLA, **options}))


def test_every_published_law_has_a_source_predicts_and_is_listed():
    listed = {law.name: law for law in list_published_laws()}
    assert tuple(listed) == PUBLISHED_LAWS
    assert all("arXiv" in law.source for law in listed.values())
    losses = {}
    for name in PUBLISHED_LAWS:
        law = load_law(name)
        at = {"N": 1e9, "D": 2e10, "C": 1e9 if "paper" in name else 1e21, "P": 1e9, "S": 1e7, "T": 10.44, "loss": 3}
        values = {predictor: at[predictor] for predictor in law.first.form.predictors}
        losses[name] = law.first.predict(values).mean[0]
        assert "none" not in law.roles.values() or law.form == "downstream"
    assert losses["chinchilla"] == pytest.approx(2.58, abs=0.01)
    assert losses["chinchilla-besiroglu"] == pytest.approx(losses["chinchilla-refit"], rel=2e-3)
    assert losses["kaplan-2020-size"] == pytest.approx((8.8e13 / 1e9) ** 0.076, rel=1e-4)
    assert losses["kaplan-2020-data"] == pytest.approx((5.4e13 / 2e10) ** 0.095, rel=1e-4)
    assert losses["kaplan-2020-compute"] == pytest.approx((3.1e8 * 8.64e19 / 1e21) ** 0.05, rel=1e-4)
    assert losses["muennighoff-2023"] == pytest.approx(
        np.exp(0.6254804) + np.exp(6.255414) / 1e9**0.3526596 + np.exp(7.3049974) / 2e10**0.3526596, rel=1e-4
    )


def test_the_best_size_of_chinchilla_is_the_published_one():
    budget = Budget(max_flop=5.76e23, macs_per_parameter=3.0)
    best = spend_budget(PlanConfig(budget=budget), load_law("chinchilla-unrounded")).best
    assert best.size.value == pytest.approx(40e9, rel=0.02)  # Hoffmann et al. 2022, table 3 and section 3.4
    ratio = spend_budget(PlanConfig(budget=budget), load_law("chinchilla-besiroglu")).best
    assert 15 < ratio.data.value / ratio.size.value < 30  # Besiroglu et al. 2024: about 20 tokens for a parameter


def test_the_bands_of_the_paper_are_those_of_its_intervals():
    """The draws give back the printed intervals, and bands that are narrowest in the middle of the grid."""
    law = load_law("paper-product-reconstructed")
    assert {"reconstructed", "reconstructed-t"} <= {warning.code for warning in law["UC"].warnings}
    slope = np.polyfit(np.log([0.4, 1, 3.5, 11.2]), np.log([10.44, 10.44, 6.02, 6.02]), 1)[0]
    total = law["UC"].draws[:, 1] + law["UC"].draws[:, 3] * slope
    assert np.percentile(total, [2.5, 97.5]) == pytest.approx((-0.19, -0.13), abs=0.006)  # b_P of version 1
    assert np.percentile(law["UC"].draws[:, 2], [2.5, 97.5]) == pytest.approx((-0.075, -0.005), abs=0.006)
    inside = law["UC"].predict({"P": 2e9, "S": 3e6, "T": 8.0})
    outside = law["UC"].predict({"P": 1e12, "S": 1e9, "T": 3.0})
    assert 0.01 < np.log(inside.high / inside.low)[0] < 0.12
    assert np.log(outside.high / outside.low)[0] > 3 * np.log(inside.high / inside.low)[0]
    compute = load_law("paper-compute-reconstructed")["UC"]
    assert np.percentile(compute.draws[:, 1], [2.5, 97.5]) == pytest.approx((-0.26, -0.04), abs=0.01)
    assert np.percentile(compute.draws[:, 0] / np.log(10), [2.5, 97.5]) == pytest.approx((0.92, 2.80), abs=0.1)
    band = compute.predict({"C": [2.5e7, 5e8, 1.8e10]})
    width = np.log(band.high / band.low)
    assert width[1] < width[0] < 1.5
    assert predict_with_law(load_law("paper-v1-compute"), {"C": 1e9})["UC"].low is None  # as printed


def test_tied_exponents_are_one_parameter_of_the_fit():
    rng = np.random.default_rng(0)
    n, d = (np.exp(rng.uniform(np.log(low), np.log(high), 60)) for low, high in ((5e7, 2e10), (1e9, 5e11)))
    y = (1.8 + 500 / n**0.36 + 1500 / d**0.36) * np.exp(0.01 * rng.standard_normal(60))
    config = FitConfig(
        form="additive", columns={"N": "N", "D": "D"}, objective="log-lsq", tie={"alpha": "beta"}, bootstrap=50
    )
    fit = fit_law(config, Table.from_columns({"N": n, "D": d, "y": y})).only

    def residuals(x):
        return np.log(np.exp(x[0]) * n ** -x[3] + np.exp(x[1]) * d ** -x[3] + np.exp(x[2])) - np.log(y)

    best = least_squares(residuals, [6.0, 7.0, 0.6, 0.36], xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    assert fit.parameters["alpha"] == fit.parameters["beta"]
    assert fit.parameters["alpha"] == pytest.approx(best[3], rel=1e-5)
    assert fit.parameters["A"] == pytest.approx(np.exp(best[0]), rel=1e-4)
    assert fit.intervals["alpha"] == fit.intervals["beta"]
    assert (fit.draws[:, 3] == fit.draws[:, 4]).all()
    for tie, message in (
        ({"alpha": "A"}, "'A' is not an exponent"),
        ({"alpha": "alpha"}, "part of a chain of ties"),
        ({"gamma": "beta"}, "'gamma' is not an exponent"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_law(FitConfig(form="additive", tie=tie), Table.from_columns({"N": n, "D": d, "y": y}))
