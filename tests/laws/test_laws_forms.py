"""Forms and objectives: derivatives against finite differences, equations, names, inverse."""

import numpy as np
import pytest

from polyglance.laws import make_form
from polyglance.laws.fitting.objectives import OBJECTIVES, FitObjective
from polyglance.laws.fitting.solve import Block, FitProblem

FORMS = {
    "compute": make_form("compute"),
    "compute without offset": make_form("compute", offset=False),
    "product": make_form("product"),
    "additive": make_form("additive"),
    "saturating": make_form("saturating", ("P", "S", "T")),
    "downstream": make_form("downstream"),
}


def example(form):
    """Inputs (20, k), y (20,) and three parameter vectors near where the law passes through the data."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(20, len(form.predictors)))
    theta = rng.normal(0.0, 0.4, size=(3, len(form.parameters)))
    y = np.exp(form.log_mean(theta[:1], form.design(z))[0] + 0.05 * rng.normal(size=20))
    return z, y, theta


def differences(function, theta, step=1e-6):
    """Central differences of a function of (R, p) with values (R, ...), as (R, ..., p)."""
    columns = []
    for j in range(theta.shape[1]):
        shift = np.zeros_like(theta)
        shift[:, j] = step
        columns.append((function(theta + shift) - function(theta - shift)) / (2 * step))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("name", FORMS)
def test_jacobian_agrees_with_finite_differences(name):
    form = FORMS[name]
    z, _, theta = example(form)
    design = form.design(z)
    expected = differences(lambda t: form.log_mean(t, design), theta)
    assert np.allclose(form.jacobian(theta, design), expected, atol=1e-7)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["compute", "compute without offset", "product", "additive", "saturating"])
def test_gradient_and_hessian_agree_with_finite_differences(name, objective):
    form = FORMS[name]
    z, y, theta = example(form)
    num = len(form.parameters)
    block = Block(form=form, design=form.design(z), rows=np.arange(20), matrix=np.eye(num), shift=np.zeros(num))
    wide = np.full(num, 50.0)
    problem = FitProblem(blocks=(block,), objective=FitObjective(name=objective, delta=0.3), lower=-wide, upper=wide)
    weights = np.linspace(0.5, 2.0, 20)[None]
    smoothing = 0.3 if objective == "asymmetric" else None
    _, gradient, hessian = problem.derivatives(theta, y[None], weights, smoothing)
    value = differences(lambda t: problem.derivatives(t, y[None], weights, smoothing)[0], theta)
    assert np.allclose(gradient, value, rtol=1e-6, atol=1e-6)
    slope = differences(lambda t: problem.derivatives(t, y[None], weights, smoothing)[1], theta)
    assert np.allclose(hessian, slope, rtol=1e-5, atol=1e-4)


def test_parameters_have_their_published_names():
    assert make_form("compute").parameters == ("a0", "a1", "eps")
    assert make_form("product").parameters == ("b0", "b_P", "b_S", "b_T", "eps")
    assert make_form("product", ("width", "epochs")).parameters == ("b0", "b_width", "b_epochs", "eps")
    assert make_form("additive").parameters == ("A", "B", "E", "alpha", "beta")
    assert make_form("saturating").parameters == ("A", "b_P", "b_S", "B", "c_S", "eps")
    assert make_form("saturating", ("N", "D", "T")).parameters == ("A", "b_N", "b_D", "b_T", "B", "c_D", "eps")
    assert make_form("product", ("P",), offset=False).parameters == ("b0", "b_P")


def test_values_are_those_of_the_equations():
    x = np.array([[2e9, 3e7]])
    law = make_form("additive")
    theta = law.to_internal({"A": 400.0, "B": 2000.0, "E": 1.7, "alpha": 0.34, "beta": 0.36})[None]
    expected = 1.7 + 400 / 2e9**0.34 + 2000 / 3e7**0.36
    assert np.exp(law.log_mean(theta, law.design(np.log(x)))[0, 0]) == pytest.approx(expected, rel=1e-12)
    law = make_form("saturating", ("N", "D", "T"), offset=False)
    theta = law.to_internal({"A": 400.0, "b_N": -0.34, "b_D": -0.3, "b_T": 0.5, "B": 2000.0, "c_D": -0.36})[None]
    x = np.array([[2e9, 3e7, 6.0]])
    expected = 6**0.5 * (400 / 2e9**0.34 / 3e7**0.3 + 2000 / 3e7**0.36)
    assert np.exp(law.log_mean(theta, law.design(np.log(x)))[0, 0]) == pytest.approx(expected, rel=1e-12)
    x = np.array([[2e9, 3e7]])
    law = make_form("product-v1")
    theta = law.to_internal({"b0": 2.3, "b_P": -0.16, "b_S": -0.04})[None]
    expected = 10 ** (2.3 - 0.16 * np.log10(2e9) - 0.04 * np.log10(3e7))
    assert np.exp(law.log_mean(theta, law.design(np.log(x)))[0, 0]) == pytest.approx(expected, rel=1e-12)


def test_centring_moves_parameters_to_the_reference_and_changes_no_prediction():
    form = make_form("additive")
    z, _, theta = example(form)
    reference = np.array([0.7, -1.3])
    moved = theta @ form.centring(reference).T
    assert np.allclose(form.log_mean(theta, form.design(z)), form.log_mean(moved, form.design(z - reference)))


def test_solve_for_inverts_the_law_where_it_can():
    form = make_form("product", ("P", "S"))
    theta = form.to_internal({"b0": 40.0, "b_P": -0.1, "b_S": -0.2, "eps": 0.9})[None]
    z = np.log(np.array([1e9, 3e7]))
    target = form.log_mean(theta, form.design(z[None]))[0, 0]
    assert form.solve_for("S", theta, z, target)[0] == pytest.approx(np.log(3e7), rel=1e-10)
    assert form.solve_for("S", theta, z, np.log(0.89))[0] == np.inf  # below eps
    rising = form.to_internal({"b0": 40.0, "b_P": -0.1, "b_S": 0.2, "eps": 0.9})[None]
    assert form.solve_for("S", rising, z, target)[0] == np.inf  # more S makes it worse
    several = make_form("saturating", ("P", "S", "T"))
    constants = {"A": 3e4, "b_P": -0.5, "b_S": -0.3, "b_T": 0.4, "B": 60.0, "c_S": -0.2, "eps": 0.5}
    theta = np.repeat(several.to_internal(constants)[None], 2, axis=0)
    theta[1, several.parameters.index("c_S")] = 0.2  # a second term that rises
    z = np.log(np.array([1e9, 3e7, 6.0]))
    targets = several.log_mean(theta, several.design(z[None]))[:, 0]
    found = several.solve_for("S", theta, z + np.array([0, 5, 0]), targets)
    assert found[0] == pytest.approx(z[1], rel=1e-10)
    assert found[1] == np.inf
    assert several.solve_for("P", theta[:1], z + np.array([5, 0, 0]), targets[0])[0] == pytest.approx(z[0], rel=1e-10)
    without_size = several.log_mean(theta[:1], several.design(z[None] + np.array([60, 0, 0])))[0, 0]
    assert several.solve_for("P", theta[:1], z, without_size - 0.01)[0] == np.inf  # no size is enough
    scores = make_form("downstream")
    theta = scores.to_internal({"top": 90.0, "slope": 2.0, "middle": 1.5})[None]
    at_two = scores.log_mean(theta, np.array([[2.0]]))[0, 0]
    assert scores.solve_for("loss", theta, np.zeros(1), at_two)[0] == pytest.approx(2.0, rel=1e-10)
    assert np.isnan(scores.solve_for("loss", theta, np.zeros(1), np.log(91.0))[0])  # above the top


@pytest.mark.parametrize(
    ("name", "predictors", "offset", "message"),
    [
        ("produkt", (), None, "did you mean 'product'"),
        ("compute", ("C", "S"), None, "one predictor"),
        ("additive", ("N",), None, "2 predictors"),
        ("saturating", ("N",), None, "size and data as its first two predictors, got N"),
        ("product-v1", (), True, "has no offset; use 'product' for one"),
        ("downstream", (), True, "has no offset"),
    ],
)
def test_wrong_forms_are_named(name, predictors, offset, message):
    with pytest.raises(ValueError, match=message):
        make_form(name, predictors, offset=offset)
