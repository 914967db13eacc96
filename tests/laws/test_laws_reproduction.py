"""Published tables of runs, with the fits to reproduce (../shared/data/scaling)."""

import json
from pathlib import Path

import numpy as np
import pytest

from polyglance.laws import CompareConfig, FitConfig, Table, compare_laws, fit_law

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "scaling"
pytestmark = pytest.mark.skipif(
    not DATA.exists(), reason="needs ../shared/data/scaling, which is not part of the project"
)

GEMSTONES = {"N": "params_active_precise", "D": "tokens", "y": "final_loss"}
RELATIVE = 1 + 1e-7
"""Largest ratio of the objective to the lower of the published and the recomputed optimum."""


def expected(folder):
    return json.loads((DATA / folder / "expected.json").read_text())


def rounding(value):
    """Half a unit in the last printed digit of a published number."""
    digits = f"{value:.10g}".split("e")[0].replace(".", "").lstrip("0")
    return 0.5 * 10.0 ** (np.floor(np.log10(value)) - len(digits) + 1)


@pytest.mark.parametrize("delta", [1e-3, 1e-4])
@pytest.mark.parametrize("name", ["cool_end", "slim_chinchilla", "hot_100b+_512x"])
def test_gemstones(name, delta):
    wanted = expected("gemstones")[f"delta_{delta:.0e}".replace("e-0", "e-")][name]
    table = Table.read(DATA / "gemstones" / f"wandb_df_for_fitting_{name}.jsonl")
    law = fit_law(FitConfig(form="additive", columns=GEMSTONES, delta=delta, bootstrap=0), table)
    best = min(wanted["published"], wanted["own"])
    assert law.only.objective <= best * RELATIVE + rounding(best)
    if name == "cool_end" and delta == 1e-3:
        values = law.only.parameters
        fitted = [np.log(values["A"]), np.log(values["B"]), np.log(values["E"]), values["alpha"], values["beta"]]
        assert fitted == pytest.approx(wanted["own_a_b_e_alpha_beta"], abs=1e-4)
    if name == "cool_end" and delta == 1e-4:
        assert law.only.parameters["beta"] == pytest.approx(wanted["own_beta"], abs=1e-4)


def test_an_exponent_from_a_single_width_is_not_identified():
    table = Table.read(DATA / "gemstones" / "wandb_df_for_fitting_hot_100b+_512x.jsonl")
    law = fit_law(FitConfig(form="additive", columns=GEMSTONES, bootstrap=200), table)
    assert {"A", "alpha"} <= set(law.only.unidentified)
    assert ("narrow-range", "error") in {(w.code, w.severity) for w in law.only.warnings}
    assert law.summary()["parameters"]["alpha"] is None


def olmo():
    rows = [line.split(",") for line in (DATA / "olmo_ladder" / "derived_c4_points.csv").read_text().splitlines()]
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    train = np.array([mode == "train" for mode in columns["mode"]])
    return {name: np.array(columns[name], dtype=float) for name in ("N", "D", "c4_loss")}, train, columns["label"]


def test_olmo_ladder():
    wanted = expected("olmo_ladder")
    columns, train, labels = olmo()
    law = fit_law(
        FitConfig(form="additive", columns={"y": "c4_loss"} | {"N": "N", "D": "D"}, bootstrap=400),
        Table.from_columns({name: column[train] for name, column in columns.items()}),
    )
    values = law.only.parameters
    assert law.only.objective <= wanted["fit"]["objective"] * RELATIVE
    fitted = {"logA": np.log(values["A"]), "logB": np.log(values["B"])} | {k: values[k] for k in ("alpha", "beta", "E")}
    assert fitted == pytest.approx({k: wanted["fit"][k] for k in fitted}, abs=1e-4)
    for label, held_out in wanted["heldout"].items():
        row = labels.index(label)
        prediction = law.only.predict({"N": columns["N"][row], "D": columns["D"][row]})
        assert prediction.mean[0] == pytest.approx(held_out["pred"], rel=1e-5)
        assert prediction.extrapolation[0] > 0.7
    low, high = law.only.intervals["E"]
    assert high - low > 0.8  # sixteen points to 0.25 %, and yet E is not known: the interval has to say so


@pytest.mark.parametrize("objective", ["raw-lsq", "log-lsq"])
def test_product_law(objective):
    wanted = expected("routed_lm")["product_law_1334"][objective.replace("-", "_")]
    law = fit_law(FitConfig(objective=objective, bootstrap=0), Table.read(DATA / "routed_lm" / "derived_PST_1334.csv"))
    f = law.only
    assert f.objective <= wanted.get("sse", wanted.get("sse_log")) * RELATIVE
    assert [f.parameters[name] for name in ("b_P", "b_S", "b_T")] == pytest.approx(wanted["b"], abs=1e-6)
    assert f.parameters["eps"] == pytest.approx(wanted["eps"], abs=1e-6)
    assert f.parameters["b0"] == pytest.approx(wanted["b0"], rel=1e-5)
    assert (f.r2_raw, f.r2_log) == pytest.approx((wanted["r2_raw"], wanted["r2_log"]), abs=1e-8)


@pytest.mark.parametrize("held_out", ["P>=1e9", "T>=128", "S>100000"])
def test_extrapolation_anchors(held_out):
    wanted = expected("routed_lm")["holdout_log_lsq"][held_out]
    table = Table.read(DATA / "routed_lm" / "derived_PST_1334.csv")
    columns = {name: table.numbers(name)[0] for name in "PSTy"}
    test = {"P>=1e9": columns["P"] >= 1e9, "T>=128": columns["T"] >= 128, "S>100000": columns["S"] > 100000}[held_out]
    train = Table.from_columns({name: column[~test] for name, column in columns.items()})
    f = fit_law(FitConfig(objective="log-lsq", bootstrap=0), train).only
    predicted = f.predict({name: columns[name][test] for name in "PST"}).mean
    assert f.num_rows == wanted["n_train"]
    assert 100 * np.abs(predicted / columns["y"][test] - 1).mean() == pytest.approx(wanted["mre_percent"], abs=1e-4)
    assert f.parameters["eps"] == pytest.approx(wanted["eps"], abs=1e-5)


@pytest.mark.slow
def test_compare_finds_the_known_order_of_the_forms():
    table = Table.read(DATA / "routed_lm" / "derived_PST_1334.csv")
    result = compare_laws(CompareConfig(objective="log-lsq"), table)["all"]
    best = result.best("expanding window")
    assert best is not None
    assert best.candidate == "product(P, S, T)"
    deltas = {candidate.name: candidate.delta_aicc for candidate in result.candidates}
    assert deltas["saturating(P, S, T)"] == 0  # two more parameters fit 1,334 rows better, but extrapolate worse
    assert deltas["product(P, S, T) without offset"] - deltas["product(P, S, T)"] > 100
    assert deltas["product(P, S)"] - deltas["product(P, S, T)"] > 1000
