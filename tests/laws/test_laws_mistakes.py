"""Mistakes in what is given to laws and plans from Python: named in one line, with what would be right."""

import numpy as np
import pytest

from polyglance.laws import (
    Budget,
    FitConfig,
    MakeConfig,
    PlanConfig,
    fit_law,
    make_law,
    plan_with_law,
    predict_with_law,
    read_candidates,
    spend_budget,
)
from polyglance.laws.planning.costs import Candidate

P, S = (column.ravel() for column in np.meshgrid([1e7, 1e8, 1e9], [1e5, 1e6, 1e7]))
Y = 0.5 + 30 * P**-0.2 * S**-0.1
COLUMNS = {"P": "P", "S": "S", "y": "y"}


def fit(table=None, **options):
    config = FitConfig(**{"form": "product", "columns": COLUMNS, "bootstrap": 0, **options})
    return fit_law(config, {"P": P, "S": S, "y": Y, "g": ["a"] * 8 + ["b"], **(table or {})})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fix": {"eps": "0.5"}}, "fix.eps: expected a number, got '0.5'"),
        ({"bootstrap": 1e3}, "bootstrap: expected a whole number, got 1000.0"),
        ({"share": "b_P", "group": "g"}, "share: expected a list"),
        ({"bounds": {"eps": 0.5}}, "bounds.eps: expected a list"),
        ({"columns": "P"}, "columns: expected a table"),
        ({"objective": "lsq"}, "objective: 'lsq' is not a choice"),
        ({"frontier": 1}, "frontier: expected true or false, got 1"),
        ({"fix": {"eps": 0.5}, "bounds": {"eps": (0.1, 0.2)}}, "`bounds` eps has no effect beside `fix` eps"),
        ({"fix": {"b_P": -0.2}, "share": ("b_P",), "group": "g"}, "`share` b_P has no effect beside `fix` b_P"),
        ({"fix": {"E": 0.0}}, "fix: 'E' is not a parameter"),
        ({"group": "g"}, "P is the same in the only row of group 'b'"),
    ],
)
def test_options_of_a_fit(options, message):
    with pytest.raises(ValueError, match=message) as error:
        fit(**options)
    assert "\n" not in str(error.value)


def test_scalars_of_numpy_are_numbers():
    law = fit(fix={"eps": np.float32(0.5)}, bootstrap=np.int64(0))
    assert law.only.parameters["b_P"] == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("make_config", "message"),
    [
        (lambda: Budget(max_gmac="1e9"), "max_gmac: expected a number, got '1e9'"),
        (lambda: PlanConfig(target="2.0"), "target: expected a number"),
        (lambda: PlanConfig(target=2.0, budget={"gpus": 2}), "budget: expected Budget"),
        (lambda: MakeConfig(set={"E": "1.69"}), "set.E: expected a number"),
    ],
)
def test_types_of_plans_and_constants(make_config, message):
    with pytest.raises(ValueError, match=message):
        make_config()


def test_cells_without_a_number_in_arrays():
    masked = np.ma.masked_array(Y, mask=[True] + [False] * 8)
    with pytest.raises(ValueError, match="1 of 9 rows cannot be used: row 1: y is empty"):
        fit({"y": masked})
    expected = fit({"y": [None, *Y[1:]]}, drop_bad_rows=True).only
    assert fit({"y": masked}, drop_bad_rows=True).only.parameters == expected.parameters
    with pytest.raises(ValueError, match=r"y is \(.*j\), not a number"):
        fit({"y": Y.astype(complex)})
    with pytest.raises(ValueError, match="the column '1' occurs twice"):
        fit({1: Y, "1": Y})


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"P": [1e8, 1e9], "S": [1e6] * 3}, r"different numbers of values: \{'P': 2, 'S': 3\}"),
        ({"P": [], "S": 1e6}, "P: no values"),
        ({"P": np.ones((2, 2)), "S": 1e6}, "'P' is not one-dimensional"),
        ({"P": [[1e8], [1e8, 1e9]], "S": 1e6}, r"P, value 1, is \[100000000.0\], not a number"),
        ({"P": True, "S": 1e6}, "P is True, not a number"),
        ({"P": None, "S": 1e6}, "P is empty"),
        ({"P": ["1B", "large"], "S": 1e6}, "P, value 2, is 'large', not a number"),
        ({"P": np.ma.masked_array([1e8, 1e9], mask=[False, True]), "S": 1e6}, "P, value 2, is empty"),
    ],
)
def test_points_to_predict(at, message):
    with pytest.raises(ValueError, match=message):
        predict_with_law(fit(), at)


def test_points_are_read_as_cells_of_tables_are():
    law = fit()
    expected = predict_with_law(law, {"P": [1e8, 1e9], "S": 1e6})["all"]
    for at in ({"P": ["100M", "1B"], "S": "1e6"}, {"P": (10**8, 10**9), "S": np.array(1e6)}):
        predicted = predict_with_law(law, at)["all"]
        assert (predicted.mean == expected.mean).all()
        assert (predicted.extrapolation == expected.extrapolation).all()


def test_two_candidates_of_one_name_are_refused(tmp_path):
    """The better of the two was taken for the other one: the plan named a third as the best."""
    constants = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    law = make_law(MakeConfig(form="additive", set=constants))
    sizes = {"a": 1.5e9, "a ": 1e7, "b": 7e8}
    models = [Candidate(name=name.strip(), P=p, P_t=p, F_gmac=p * 1e-9) for name, p in sizes.items()]
    message = "candidates 1 and 2 are both named 'a'; give each its own name"
    with pytest.raises(ValueError, match=message):
        spend_budget(PlanConfig(budget=Budget(max_gmac=1e12)), law, candidates=models)
    with pytest.raises(ValueError, match=message):
        plan_with_law(PlanConfig(target=2.5), law, candidates=models)
    (tmp_path / "models.csv").write_text("name,P,F\na,1e9,1\na,2e9,2\n")
    with pytest.raises(ValueError, match=f"models.csv: {message}"):
        read_candidates(tmp_path / "models.csv")
