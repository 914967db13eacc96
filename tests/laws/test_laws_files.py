"""Law files that were edited: read as they say, or refused in one line."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest

from polyglance.files import unseal
from polyglance.laws import Budget, FitConfig, Law, PlanConfig, fit_law, spend_budget

ODD = (None, True, -1, 0, 10**400, 1e308, float("nan"), "", "x", [], {}, [[]], [1, 2, 3], {"N": "a"}, ["a", "b"])


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    n, d = (column.ravel() for column in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    noise = np.exp(0.005 * np.random.default_rng(0).normal(size=25))
    table = {"N": n, "D": d, "y": (1.7 + 400 / n**0.34 + 410 / d**0.28) * noise}
    path = tmp_path_factory.mktemp("law") / "law.json"
    fit_law(FitConfig(form="additive", bootstrap=20), table).save(path)
    return unseal(json.loads(path.read_text()), "law.json")


def load(values, folder: Path) -> Law:
    (folder / "edited.json").write_text(json.dumps(values))
    return Law.load(folder / "edited.json")


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("form", "product", "parameter_names are .*form 'product' has"),
        ("predictors", ["D", "N"], "predictors are"),
        ("parameter_names", ["beta", "alpha", "E", "B", "A"], "parameter_names are"),
        ("fits", {}, "fits is empty"),
        ("columns", {"N": "N"}, "columns has no name for D"),
        ("parameters", {"E": 9.0}, r"parameters: E is 9.0, but theta says 1\.\d+"),
        ("theta", [1.0, 2.0, 3.0], "theta: expected 5 finite numbers"),
        ("theta", [float("nan")] * 5, "theta: expected 5 finite numbers"),
        ("reference", [1.0], "reference: expected 2 finite numbers"),
        ("draws", [[1.0, 2.0, 3.0]] * 5, "draws: expected n x 5 finite numbers"),
        ("draws", [[1.0], [1.0, 2.0]], "draws: expected n x 5 finite numbers"),
        ("residuals", [0.1], "residuals: 1 for 25 rows"),
        ("rows", [0.5] * 25, "rows: expected row numbers"),
        ("spread", -3.0, "spread is -3.0; expected a positive"),
        ("confidence", 2.0, "confidence is 2.0; expected at least 0.5"),
        ("seed", -1, "seed is -1"),
        ("ranges", {"N": [1e9, 1e7], "D": [1e9, 1e11]}, "ranges: N from 1e.09 to 1e.07"),
        ("ranges", {"N": [1e7, 1e9]}, "ranges: D missing"),
        ("intervals", {"gamma": [0.1, 0.2]}, "intervals: 'gamma' is not a parameter"),
        ("held_out", {"median_error": "x"}, "held_out: median_error is 'x'"),
        ("solver", {"converged": 3.0}, "solver: converged is 3.0"),
    ],
)
def test_what_no_fit_writes_is_refused_with_the_file_and_the_part(values, tmp_path, part, value, message):
    edited = copy.deepcopy(values)
    where = edited if part in edited else edited["fits"]["all"]
    where[part] = {**where[part], **value} if part in ("parameters", "held_out", "solver") else value
    with pytest.raises(ValueError, match=rf"edited\.json: {message}.*; fit the law again") as error:
        load(edited, tmp_path)
    assert "\n" not in str(error.value)


def test_a_sealed_file_that_was_edited_and_another_version_say_what_to_do(values, tmp_path):
    with pytest.raises(ValueError, match=r"damaged .* fit the law again"):
        load({**values, "seal": "0" * 64}, tmp_path)
    with pytest.raises(ValueError, match=r"its format is 'polyglance.law/2', not 'polyglance.law/1'"):
        load({**values, "format": "polyglance.law/2"}, tmp_path)


def test_an_edited_file_predicts_finite_numbers_or_is_refused(values, tmp_path):
    rng, at, read = random.Random(0), {"N": 3e9, "D": 6e10}, 0
    messages = []
    expected = load(values, tmp_path).only.predict(at).mean
    for _ in range(1_000):
        edited = copy.deepcopy(values)
        part = edited if rng.random() < 0.3 else edited["fits"]["all"]
        name = rng.choice(sorted(part))
        inner = part[name]
        if inner and rng.random() < 0.5 and isinstance(inner, dict | list):
            inner[rng.choice(sorted(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))] = rng.choice(ODD)
        else:
            part[name] = rng.choice(ODD)
        try:
            law = load(edited, tmp_path)
            fit = next(iter(law.fits.values()))
        except ValueError as error:
            messages.append(str(error))
            continue
        read += 1
        prediction = fit.predict(at)
        assert np.isfinite(prediction.mean).all()
        if law.form == values["form"] and name not in ("theta", "reference", "transform"):
            assert prediction.mean == expected
        spend_budget(PlanConfig(budget=Budget(max_gmac=1e12), group=next(iter(law.fits))), law)
    assert 100 < read < 900
    assert all(m.startswith(f"{tmp_path / 'edited.json'}: ") and "\n" not in m for m in messages)
