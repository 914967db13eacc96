"""Predicted runs beside what they measured."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_study import grid, write_study

from polyglance.prediction_records import ChosenForm, RunPrediction, RunPredictions
from polyglance.report import write_report
from polyglance.report.folder import read_study
from polyglance.report.predictions import check_predictions, describe_predictions

ROWS = grid(seeds=1, frozen=False)
FIRST, SECOND = ROWS[-1], ROWS[-2]


def made(run: str, value: float, low: float | None, high: float | None, target: str = "UC_prefix") -> RunPrediction:
    return RunPrediction(run=run, target=target, value=value, low=low, high=high, num_runs=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_study(tmp_path, ROWS)
    first, second = FIRST["UC_prefix"], SECOND["UC_prefix"]
    record = RunPredictions(
        confidence=0.95,
        predictions=(
            made(FIRST["id"], 1.1 * first, 0.9 * first, 1.3 * first),
            made(SECOND["id"], 0.7 * second, 0.6 * second, 0.8 * second),
            made(FIRST["id"], FIRST["ST"], None, None, "ST"),
            made("not-finished", 0.5, None, None),
        ),
        forms=(
            ChosenForm(
                family=FIRST["family"],
                target="UC_prefix",
                form="additive(P, S)",
                errors={"product(P, S, T)": 0.5, "additive(P, S)": 0.25},
                protocol="smaller corners",
                num_runs=4,
            ),
        ),
        already_measured=(SECOND["id"],),
        problems=("SC: too few runs",),
    )
    record.write(tmp_path / "prediction" / "predictions.json")
    return tmp_path


def test_errors_and_intervals(folder: Path) -> None:
    study = read_study(folder)
    checked = check_predictions(study)
    assert [one.error for one in checked] == [pytest.approx(0.1), pytest.approx(-0.3), pytest.approx(0.0)]
    assert [one.is_inside for one in checked] == [True, False, None]
    assert describe_predictions(study.predictions, checked) == (
        "From scratch, unseen captioning after the prefix: median error 20 % (2 predicted from 10 smaller ones); "
        "1 of 2 intervals hold what was measured. Law: additive(P, S), which was best at predicting smaller corners of "
        "the grid: off by a factor of 1.28, and product(P, S, T) by 1.65.",
        "From scratch, seen translation: median error 0 % (1 predicted from 10 smaller ones).",
        f"Measured before they were predicted, because the study was changed: {SECOND['id']}.",
        "Not predicted: SC: too few runs.",
    )


def test_errors_are_beside_the_differences_between_seeds(tmp_path: Path) -> None:
    rows = grid(seeds=3, frozen=False)
    write_study(tmp_path, rows)
    (largest,) = {(row["size"], row["S"]) for row in rows if row["P"] == max(row["P"] for row in rows)} & {
        (row["size"], row["S"]) for row in rows if row["S"] == max(row["S"] for row in rows)
    }
    runs = [row for row in rows if (row["size"], row["S"]) == largest]
    losses = [row["UC_prefix"] for row in runs]
    assert len(set(losses)) == len(losses) == 3
    record = RunPredictions(confidence=0.95, predictions=tuple(made(row["id"], 1.0, None, None) for row in runs))
    checked = check_predictions(replace(read_study(tmp_path), predictions=record))
    a, b, c = losses
    off = sorted((abs(math.sqrt(b * c) / a - 1), abs(math.sqrt(a * c) / b - 1), abs(math.sqrt(a * b) / c - 1)))[1]
    (line,) = describe_predictions(record, checked)
    assert f"predicted from its other seeds a run would be off by {100 * off:.1f} %" in line
    assert "other seeds" not in describe_predictions(record, checked[:1])[0]


def test_the_page_and_results_hold_them(folder: Path) -> None:
    result = write_report(folder)
    html = result.page.read_text()
    assert '<section id="predictions">' in html
    assert html.count("Predicted UC: unseen captioning after the prefix") == 1
    assert "−30.0 %" in html
    assert "+10.0 %" in html
    values = json.loads(result.results.read_text())["predictions"]
    assert [value["inside"] for value in values] == [True, False, None]
    assert json.loads(result.results.read_text())["prediction_forms"][0]["form"] == "additive(P, S)"
    assert result.predictions[0].startswith("From scratch, unseen captioning after the prefix: median error 20 %")
    assert values[0]["measured"] == FIRST["UC_prefix"]


@pytest.mark.parametrize("text", ["{", '{"format": 9}', '{"format": 1, "confidence": 0.9}', "[]"])
def test_a_damaged_file_leaves_a_note(folder: Path, text: str) -> None:
    (folder / "prediction" / "predictions.json").write_text(text)
    result = write_report(folder)
    (note,) = result.notes
    assert note.startswith("prediction/predictions.json")
    assert "\n" not in note
    assert 'id="predictions"' not in result.page.read_text()


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, 1e-30])
def test_odd_numbers_give_a_page(folder: Path, value: float) -> None:
    record = RunPredictions(confidence=0.95, predictions=(made(FIRST["id"], value, -value, value),))
    if math.isfinite(value):
        record.write(folder / "prediction" / "predictions.json")
    assert write_report(folder).num_runs == len(ROWS)
