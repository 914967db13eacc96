"""Warnings: each for the data that deserve it, none for good data, all of them in the guide."""

import re
from pathlib import Path

import numpy as np
from synthetic_runs import grid, product_runs

import polyglance.laws
from polyglance.laws import FitConfig, Table, fit_law

LSQ = {"objective": "log-lsq", "bootstrap": 100}


def warnings_of(data, **options):
    law = fit_law(FitConfig(**{**LSQ, **options}), Table.from_columns(data))
    return {warning.code: warning for warning in (*law.warnings, *law.only.warnings)}


def test_the_guide_lists_every_code():
    guide = Path(__file__).parents[2] / "docs" / "laws.md"
    folder = Path(polyglance.laws.__file__).parent
    sources = "".join(path.read_text() for path in folder.rglob("*.py"))
    codes = set(re.findall(r'LawWarning\(\s*"([a-z0-9-]+)"', sources)) - {"published", "published-typo"}
    assert len(codes) >= 27
    assert codes <= set(re.findall(r"[a-z0-9-]+", guide.read_text().split("| code |")[1].split("\n\n")[0]))


def full_grid():
    return product_runs(*grid(np.geomspace(1e7, 1e11, 4), np.geomspace(1e5, 1e9, 4), [1.5, 4.0, 12.0]))


def paper_grid():
    """The published design: four sizes of two families, four numbers of samples; T belongs to the family."""
    p = np.repeat([0.4e9, 1.0e9, 3.5e9, 11.2e9], 4)
    return product_runs(p, np.tile([0.5e6, 2e6, 5e6, 10e6], 4), np.where(p < 2e9, 10.44, 6.02))


def test_good_data_give_no_warning():
    assert {w.severity for w in warnings_of(full_grid()).values()} <= {"info"}


def test_the_published_grid_confounds_size_and_multilinguality():
    warnings = warnings_of(paper_grid())
    assert {"confounded", "few-levels", "nested"} <= set(warnings)
    assert "P" in warnings["confounded"].message
    assert "T" in warnings["confounded"].message
    assert "T has one value for each of the 4 values of P (2 in all)" in warnings["nested"].message


def test_a_column_that_follows_from_another_is_an_error():
    columns = full_grid()
    warnings = warnings_of({**columns, "T": columns["P"] ** 0.5})
    assert warnings["confounded"].severity == "error"


def test_an_influential_row_is_named():
    columns = full_grid()
    y = columns["y"].copy()
    y[0] *= 2  # the smallest run of all
    warnings = warnings_of({**columns, "y": y})
    assert "row 1 " in warnings["influential-row"].message


def test_duplicates_checkpoints_and_lack_of_fit():
    columns = full_grid()
    doubled = {name: np.concatenate([column, column[:3]]) for name, column in columns.items()}
    assert "3 rows repeat" in warnings_of(doubled)["duplicate-rows"].message
    p, s = np.repeat([1e8, 1e9, 1e10], 10), np.tile(np.geomspace(1e5, 1e7, 10), 3)
    checkpoints = {"P": p, "S": s, "y": 60 * p**-0.12 * s**-0.2 + 0.8 + 0.001 * np.sin(np.arange(30) / 2)}
    assert "checkpoints-as-rows" in warnings_of(checkpoints, columns={"P": "P", "S": "S"})
    independent = {**checkpoints, "y": checkpoints["y"] * np.exp(0.01 * np.random.default_rng(1).standard_normal(30))}
    assert "checkpoints-as-rows" not in warnings_of(independent, columns={"P": "P", "S": "S"})
    rng = np.random.default_rng(0)
    c = np.repeat(np.geomspace(1e3, 1e6, 6), 4)
    bumpy = (50 * c**-0.3 + 1) * (1 + 0.1 * np.sin(np.log(c))) * np.exp(0.003 * rng.standard_normal(24))
    assert "lack-of-fit" in warnings_of({"C": c, "y": bumpy}, form="compute", columns={"C": "C"})


def test_an_offset_of_zero_is_reported_as_not_identified():
    c = np.geomspace(1e3, 1e6, 20)
    y = 50 * c**-0.3 * np.exp(0.01 * np.random.default_rng(5).standard_normal(20) - 2e-8 * c)
    law = fit_law(FitConfig(form="compute", columns={"C": "C"}, **LSQ), Table.from_columns({"C": c, "y": y}))
    assert "offset-at-zero" in {warning.code for warning in law.only.warnings}
    assert law.only.unidentified == ("eps",)
    assert law.summary()["parameters"]["eps"] is None
    assert law.only.intervals["eps"][0] == 0


def test_too_few_rows():
    p, s = np.geomspace(1e8, 1e10, 5), np.array([1e5, 1e7, 1e6, 1e8, 3e5])
    warnings = warnings_of({"P": p, "S": s, "y": 60 * p**-0.12 * s**-0.2 + 0.8}, columns={"P": "P", "S": "S"})
    assert warnings["too-few-rows"].severity == "error"
    c = np.geomspace(1e3, 1e9, 4)
    y = (20 * c**-0.2 + 0.5) * np.exp(0.005 * np.random.default_rng(0).standard_normal(4))
    warnings = warnings_of({"C": c, "y": y}, form="compute", columns={"C": "C"})
    assert "too-few-rows" in warnings
    assert "influential-row" not in warnings


def test_an_exponent_beyond_the_bounds():
    x = np.linspace(1.0, 1.5, 20)
    y = x**-30.0 + 1
    warnings = warnings_of({"C": x, "y": y}, form="compute", columns={"C": "C"})
    assert warnings["bound-hit"].severity == "error"
    assert "narrow-range" in warnings


def test_noise_alone_is_a_poor_fit():
    rng = np.random.default_rng(4)
    c = np.geomspace(1e3, 1e6, 30)
    warnings = warnings_of({"C": c, "y": np.exp(0.1 * rng.standard_normal(30))}, form="compute", columns={"C": "C"})
    assert {"poor-fit"} <= set(warnings)
