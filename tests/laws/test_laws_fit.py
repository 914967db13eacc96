"""Fitting: recovery, fixed, bounded and shared parameters, custom forms, law files, groups, prediction."""

import json
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize
from synthetic_runs import TRUTH, grid, product_runs

from polyglance.laws import FitConfig, Form, Law, Table, fit_law
from polyglance.laws.fitting.objectives import OBJECTIVES


def product_table(**options):
    """36 runs: all combinations of four P, three S and three T."""
    return product_runs(*grid(np.geomspace(4e8, 1e10, 4), np.geomspace(1e6, 1e8, 3), [3.0, 6.0, 10.0]), **options)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_exact_data_give_back_the_truth(objective):
    law = fit_law(FitConfig(objective=objective, bootstrap=0), Table.from_columns(product_table(noise=0)))
    assert law.only.parameters == pytest.approx(TRUTH, rel=1e-4)
    assert law.only.r2_log > 1 - 1e-9


def test_the_huber_objective_of_values_is_minimal():
    table = product_table(noise=0.03)
    fit = fit_law(FitConfig(objective="huber", delta=0.002, bootstrap=0), Table.from_columns(table)).only

    def value(p):
        residual = np.exp(p[0] + np.log(np.stack([table[n] for n in "PST"], 1)) @ p[1:4]) + np.exp(p[4]) - table["y"]
        size = np.abs(residual)
        return np.where(size <= 0.002, size**2 / 2, 0.002 * (size - 0.001)).sum()

    names = ("b_P", "b_S", "b_T")
    start = [np.log(fit.parameters["b0"]), *(fit.parameters[n] for n in names), np.log(fit.parameters["eps"])]
    assert value(start) == pytest.approx(fit.objective, rel=1e-9)
    options = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 20_000, "maxfev": 20_000}
    assert optimize.minimize(value, start, method="Nelder-Mead", options=options).fun > fit.objective * (1 - 1e-6)
    wide = fit_law(FitConfig(objective="huber", delta=1e3, bootstrap=0), Table.from_columns(table)).only
    squares = fit_law(FitConfig(objective="raw-lsq", bootstrap=0), Table.from_columns(table)).only
    assert wide.parameters == pytest.approx(squares.parameters, rel=1e-4)
    assert wide.objective == pytest.approx(squares.objective / 2)


def test_fixed_and_bounded_parameters_are_kept_in_reported_units():
    table = Table.from_columns(product_table())
    free = fit_law(FitConfig(bootstrap=0), table).only
    fixed = fit_law(FitConfig(fix={"eps": 0.5, "b_T": 0.4}, bootstrap=50), table).only
    assert (fixed.parameters["eps"], fixed.parameters["b_T"]) == pytest.approx((0.5, 0.4))
    assert set(fixed.intervals) == {"b0", "b_P", "b_S"}
    assert fixed.objective > free.objective
    amplitude = fit_law(FitConfig(fix={"b0": TRUTH["b0"]}, bootstrap=0), table).only
    assert amplitude.parameters["b0"] == pytest.approx(TRUTH["b0"], rel=1e-9)
    assert amplitude.parameters["b_P"] == pytest.approx(TRUTH["b_P"], abs=0.02)
    bounded = fit_law(FitConfig(bounds={"b_T": (-np.inf, 0.0)}, bootstrap=0), table).only
    assert bounded.parameters["b_T"] == pytest.approx(0.0, abs=1e-12)
    assert bounded.solver.at_bound == ("b_T",)
    without = fit_law(FitConfig(fix={"eps": 0}, bootstrap=0), table).only
    assert without.form.parameters == ("b0", "b_P", "b_S", "b_T")


def test_groups_can_share_parameters_in_one_joint_fit():
    columns = product_table(noise=0.02)
    other = product_table(noise=0.02, seed=1, truth={**TRUTH, "b0": 90.0, "eps": 1.5})
    both = {name: np.concatenate([columns[name], other[name]]) for name in columns}
    both["split"] = np.repeat(["UC", "SC"], len(columns["y"]))
    table = Table.from_columns(both)
    apart = fit_law(FitConfig(group="split", bootstrap=0), table)
    joint = fit_law(FitConfig(group="split", share=("b_P", "b_S", "b_T"), bootstrap=100), table)
    for name in ("b_P", "b_S", "b_T"):
        assert joint["UC"].parameters[name] == joint["SC"].parameters[name]
        assert apart["UC"].parameters[name] != apart["SC"].parameters[name]
    assert joint["SC"].parameters["b0"] > 1.2 * joint["UC"].parameters["b0"]
    assert joint["UC"].objective > apart["UC"].objective + apart["SC"].objective
    assert list(apart.fits) == ["UC", "SC"]
    with pytest.raises(ValueError, match="has 2 groups"):
        _ = apart.only
    with pytest.raises(ValueError, match="did you mean 'UC'"):
        apart["UCC"]


def test_a_predictor_constant_within_groups_needs_a_shared_term():
    table = Table.from_columns(product_table())  # T as the group, too
    partly = fit_law(FitConfig(group="T", share=("b_P", "b_T"), bootstrap=50), table)
    assert partly["3.0"].unidentified == ("b_T",)
    assert "constant-predictor" in {warning.code for warning in partly["3.0"].warnings}
    whole_term = fit_law(FitConfig(group="T", share=("b0", "b_P", "b_S", "b_T"), bootstrap=50), table)
    assert whole_term["3.0"].unidentified == ()
    assert whole_term["3.0"].parameters["b_T"] == pytest.approx(TRUTH["b_T"], abs=0.05)


def test_weights_and_an_asymmetric_objective():
    columns = product_table(noise=0.05)
    heavy = np.where(np.arange(36) < 18, 1.0, 1e-6)
    weighted = fit_law(
        FitConfig(weight="w", objective="log-lsq", bootstrap=0), Table.from_columns({**columns, "w": heavy})
    )
    half = {name: column[:18] for name, column in columns.items()}
    alone = fit_law(FitConfig(objective="log-lsq", bootstrap=0), Table.from_columns(half))
    assert weighted.only.objective == pytest.approx(alone.only.objective, rel=1e-3)
    below = fit_law(FitConfig(objective="asymmetric", bootstrap=0), Table.from_columns(columns)).only
    assert 0.05 < (below.residuals > 0).mean() < 0.2  # a tenth of the rows lie below a 10:1 envelope


def test_the_same_seed_gives_the_same_law_and_a_reloaded_law_predicts_the_same_bits(tmp_path):
    table = Table.from_columns(product_table())
    config = FitConfig(objective="log-lsq", bootstrap=100)
    first, second = fit_law(config, table), fit_law(config, table)
    first.save(tmp_path / "law.json")
    second.save(tmp_path / "again.json")
    assert (tmp_path / "law.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    loaded = Law.load(tmp_path / "law.json")
    at = {"P": np.geomspace(1e8, 1e12, 7), "S": 3e7, "T": 6.02}
    before, after = first.only.predict(at), loaded.only.predict(at)
    for name, band in vars(before).items():
        assert (band == getattr(after, name)).all(), name
    loaded.save(tmp_path / "loaded.json")
    assert (tmp_path / "loaded.json").read_bytes() == (tmp_path / "law.json").read_bytes()
    content = json.loads((tmp_path / "law.json").read_text())
    assert len(content.pop("seal")) == 64
    for older in content["fits"].values():  # fields that former versions wrote
        older |= {"t_intervals": {"eps": [0.0, None]}, "profile_intervals": {}}
    (tmp_path / "older.json").write_text(json.dumps(content | {"config": {"profile": False}}))
    assert (Law.load(tmp_path / "older.json").only.predict(at).mean == before.mean).all()
    assert fit_law(FitConfig(objective="log-lsq", bootstrap=100, seed=1), table).only.intervals != first.only.intervals


def test_prediction_bands_are_nested_and_extrapolation_is_in_decades():
    law = fit_law(FitConfig(bootstrap=100), Table.from_columns(product_table()))
    prediction = law.only.predict({"P": [1e9, 1e11], "S": 1e7, "T": 6.0})
    bands = [prediction.low_new, prediction.low, prediction.mean, prediction.high, prediction.high_new]
    assert all((below < above).all() for below, above in pairwise(bands))
    assert prediction.extrapolation == pytest.approx([0.0, 1.0])
    with pytest.raises(ValueError, match="needs a value for T"):
        law.only.predict({"P": 1e9, "S": 1e7})
    with pytest.raises(ValueError, match="'s' is not a predictor of this law"):
        law.only.predict({"P": 1e9, "s": 1e7, "T": 3.0})
    with pytest.raises(ValueError, match="P: values must be finite and positive"):
        law.only.predict({"P": -1e9, "S": 1e7, "T": 3.0})


@dataclass(frozen=True)
class Shifted(Form):
    """A form that is not built in: y = a / (x + shift)."""

    name = "shifted"
    predictors = ("x",)
    parameters = ("log_a", "log_shift")
    logarithmic = False

    def log_mean(self, theta, design):
        return theta[:, :1] - np.log(design[:, 0] + np.exp(theta[:, 1:]))

    def starts(self, z, log_y):
        return np.array([[0.0, 0.0], [1.0, 1.0]])


def test_a_custom_form_needs_names_log_mean_and_starts(tmp_path):
    x = np.linspace(1, 20, 25)
    y = 7 / (x + 3) * np.exp(0.01 * np.random.default_rng(0).standard_normal(25))
    law = fit_law(FitConfig(bootstrap=50), Table.from_columns({"x": x, "y": y}), form=Shifted())
    assert np.exp(law.only.parameters["log_a"]) == pytest.approx(7, rel=0.03)
    assert np.exp(law.only.parameters["log_shift"]) == pytest.approx(3, rel=0.1)
    law.save(tmp_path / "own.json")
    with pytest.raises(ValueError, match="not built in"):
        Law.load(tmp_path / "own.json")
    assert Law.load(tmp_path / "own.json", forms=[Shifted()]).only.parameters == law.only.parameters


def test_a_score_falls_with_the_loss():
    loss = np.linspace(1.0, 4.0, 15)
    score = 90 / (1 + np.exp(2.0 * (loss - 2.0))) * np.exp(0.02 * np.random.default_rng(0).standard_normal(15))
    table = Table.from_columns({"loss": loss, "cider": score})
    law = fit_law(FitConfig(form="downstream", columns={"y": "cider"}, objective="log-lsq", bootstrap=100), table)
    assert law.only.parameters == pytest.approx({"top": 90, "slope": 2.0, "middle": 2.0}, rel=0.1)
    curve = law.only.predict({"loss": np.linspace(0.5, 6, 50)}).mean
    assert (np.diff(curve) < 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fix": {"b_X": 1.0}}, "fix: 'b_X' is not a parameter"),
        ({"fix": {"b0": -1.0}}, "fix: b0 is -1; expected a positive"),
        ({"form": "downstream", "columns": {"loss": "P"}, "fix": {"top": -1.0}}, "fix: top is -1; expected a positive"),
        ({"bounds": {"b_P": (1.0, 0.0)}}, "is empty; expected the smaller number first"),
        ({"objective": "hubert"}, "objective: 'hubert' is not a choice"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"bootstrap": 5}, "at least 20"),
        ({"frontier": True}, "several predictors"),
        ({"form": "addtive"}, "did you mean 'additive'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        fit_law(FitConfig(**{"bootstrap": 0, **options}), Table.from_columns(product_table()))
