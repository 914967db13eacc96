"""Laws of scores with a ceiling: fitted to the error or the odds, and used in the unit of the score."""

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import grid

from polyglance.cli import main
from polyglance.files import unseal
from polyglance.laws import (
    Budget,
    Candidate,
    CompareConfig,
    FitConfig,
    Law,
    MakeConfig,
    PlanConfig,
    Table,
    compare_laws,
    fit_law,
    make_law,
    plan_with_law,
    predict_new_group,
    predict_with_law,
    spend_budget,
)
from polyglance.laws.equations.transforms import Transform
from polyglance.laws.text import format_predictions
from polyglance.settings import UnusedSettingError

CASES = Path(__file__).parent / "cases"
N, D = grid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e8, 1e11, 6))
NOISE = np.exp(0.01 * np.random.default_rng(0).standard_normal(len(N)))
TRUTH = {
    "error": ({"E": 0.05, "A": 40.0, "B": 60.0, "alpha": 0.3, "beta": 0.28}, 0.05 + 40 / N**0.3 + 60 / D**0.28),
    "log-odds": ({"E": 0.1, "A": 300.0, "B": 500.0, "alpha": 0.33, "beta": 0.3}, 0.1 + 300 / N**0.33 + 500 / D**0.3),
}
ADDITIVE = {"form": "additive", "columns": {"N": "N", "D": "D", "y": "acc"}}
SMALL = Candidate(name="small", P=1e8, P_t=1e8, F_gmac=0.1, F_unit="token")
LARGE = Candidate(name="large", P=5e9, P_t=5e9, F_gmac=5.0, F_unit="token")


def score_of(name, fitted, ceiling):
    return ceiling - fitted if name == "error" else ceiling / (1 + fitted)


def fit_scores(name, ceiling=1.0, noise=1.0, **options):
    fitted = TRUTH[name][1] * ceiling if name == "error" else TRUTH[name][1]
    table = Table.from_columns({"N": N, "D": D, "acc": score_of(name, fitted * noise, ceiling)})
    given = {"ceiling": ceiling} if ceiling == 10 else {}  # the others are told from the scores
    return fit_law(FitConfig(**ADDITIVE, transform=name, **{"bootstrap": 40, **given, **options}), table)


@pytest.mark.parametrize("ceiling", [1.0, 100.0, 10.0])
@pytest.mark.parametrize("name", ["error", "log-odds"])
def test_constants_and_predictions_of_known_scores(name, ceiling, tmp_path):
    law = fit_scores(name, ceiling, bootstrap=0)
    scale = ceiling if name == "error" else 1.0
    truth = {key: value * (scale if key in "EAB" else 1.0) for key, value in TRUTH[name][0].items()}
    assert law.only.parameters == pytest.approx(truth, rel=1e-6)
    at = {"N": 3e9, "D": 2e12}
    fitted = truth["E"] + truth["A"] / 3e9 ** truth["alpha"] + truth["B"] / 2e12 ** truth["beta"]
    expected = score_of(name, fitted, ceiling)
    law.save(tmp_path / "law.json")
    again = Law.load(tmp_path / "law.json")
    assert again.only.transform == Transform(name, ceiling)
    for one in (law, again, make_law(MakeConfig(form="additive", set=truth, transform=name, ceiling=ceiling))):
        assert predict_with_law(one, at)["all"].mean[0] == pytest.approx(expected, rel=1e-6)
        plan = plan_with_law(PlanConfig(target=expected, at={"N": 3e9}), one)
        assert plan.options[0].needed.value == pytest.approx(2e12, rel=1e-4)
        assert plan.noun == "score"


def test_intervals_are_those_of_the_errors_upside_down():
    law = fit_scores("error", noise=NOISE)
    table = Table.from_columns({"N": N, "D": D, "acc": TRUTH["error"][1] * NOISE})
    errors = fit_law(FitConfig(**ADDITIVE, bootstrap=40), table)
    at = {"N": [1e9, 3e10], "D": [1e11, 1e12]}
    scores, mirrored = predict_with_law(law, at)["all"], predict_with_law(errors, at)["all"]
    assert scores.mean == pytest.approx(1 - mirrored.mean, rel=1e-6)
    for end, other in (("low", "high"), ("high", "low"), ("low_new", "high_new"), ("high_new", "low_new")):
        assert getattr(scores, end) == pytest.approx(1 - getattr(mirrored, other), rel=1e-4)
    assert (scores.low_new < scores.low).all()
    assert (scores.low < scores.mean).all()
    assert law.only.held_out.coverage == errors.only.held_out.coverage
    bias = law.only.held_out.bias, errors.only.held_out.bias
    assert np.sign(bias[0]) == -np.sign(bias[1])
    assert law.only.ranges["y"] == pytest.approx((1 - errors.only.ranges["y"][1], 1 - errors.only.ranges["y"][0]))


@pytest.mark.parametrize("name", ["error", "log-odds"])
def test_budget_buys_the_highest_score(name):
    law = fit_scores(name, noise=NOISE)
    plan = spend_budget(PlanConfig(budget=Budget(max_gmac=1e12)), law, candidates=(SMALL, LARGE))
    sizes = np.geomspace(1e7, 1e12, 20001)
    scores = law.only.predict({"N": sizes, "D": 1e12 / (2e-9 * sizes)}).mean
    assert plan.best.loss.value == pytest.approx(scores.max(), rel=1e-6)
    assert plan.best.size.value == pytest.approx(sizes[scores.argmax()], rel=1e-2)
    assert plan.best.loss.low < plan.best.loss.value < plan.best.loss.high
    assert all(point.excess.value <= 0 for point in plan.curve)
    own = {one.name: law.only.predict({"N": one.size, "D": one.data}).mean[0] for one in plan.options}
    assert plan.chosen == max(own, key=own.get)
    assert {one.name: one.loss.value for one in plan.options} == pytest.approx(own)
    assert [one.excess.value for one in plan.options] == pytest.approx([own[n] / own[plan.chosen] - 1 for n in own])
    target = own["small"] - 0.01
    reached = plan_with_law(PlanConfig(target=target), law, candidates=(SMALL, LARGE))
    for option in reached.options:
        size = {"small": 1e8, "large": 5e9}[option.name]
        assert law.only.predict({"N": size, "D": option.needed.value}).mean[0] == pytest.approx(target)
    assert all(gain.loss_at_end.value > gain.loss_at_start.value and gain.ratio.value > 1 for gain in reached.gains)
    far = plan_with_law(PlanConfig(target=0.9, at={"N": 1e8}), law)
    assert far.options[0].status == "cannot be reached"
    assert f"stays at {law.only.predict({'N': 1e8, 'D': 1e60}).mean[0]:.4g}" in far.options[0].reasons[0]


def test_the_frontier_of_scores_keeps_the_highest(capsys, tmp_path):
    out = tmp_path / "law.json"
    command = ["law", "fit", str(CASES / "accuracy.csv"), "--form", "compute", "--columns", "C=gflops,y=acc"]
    main([*command, "--frontier", "--transform", "error", "--bootstrap", "50", "--out", str(out)])
    assert "1 - acc = a0 C^a1 + eps" in (printed := capsys.readouterr().out)
    assert "the score rises to" in printed
    assert "score-like" not in printed
    table = Table.read(CASES / "accuracy.csv")
    compute, scores = (table.numbers(name)[0] for name in ("gflops", "acc"))
    kept = Law.load(out).only.rows
    best = [row for row in range(len(scores)) if scores[row] == scores[compute <= compute[row]].max()]
    assert kept.tolist() == best
    main(["law", "plan", str(out), "--target", "0.85", "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["noun"] == "score"
    needed = plan["options"][0]["needed"]["value"]
    main(["law", "predict", str(out), "--at", f"C={needed!r}", "--json"])
    assert json.loads(capsys.readouterr().out)["all"]["mean"] == pytest.approx([0.85])


def test_scores_of_groups_and_of_forms_are_compared_in_their_unit():
    fitted = TRUTH["error"][1]
    groups = {"N": np.tile(N, 3), "D": np.tile(D, 3), "language": np.repeat(["de", "fr", "ru"], len(N))}
    acc = 1 - np.concatenate([fitted * factor for factor in (0.9, 1.0, 1.1)])
    law = fit_law(
        FitConfig(**ADDITIVE, transform="error", group="language", bootstrap=0),
        Table.from_columns({**groups, "acc": acc}),
    )
    new = predict_new_group(law, {"N": 1e9, "D": 1e11})
    assert new.low < new.value < new.high
    assert new.value == pytest.approx(1 - (0.9 * 1.0 * 1.1) ** (1 / 3) * (0.05 + 40 / 1e9**0.3 + 60 / 1e11**0.28))
    comparison = compare_laws(
        CompareConfig(**ADDITIVE, transform="error"), Table.from_columns({"N": N, "D": D, "acc": 1 - fitted * NOISE})
    )["all"]
    window = [one for one in comparison.scores if one.protocol == "expanding window"]
    last = next(one for one in window if one.candidate == "last value")
    assert last.bias < 0  # the score of a smaller run is lower
    assert comparison.best("expanding window").candidate == "additive(N, D)"


def test_scores_that_no_law_of_them_has_are_refused_or_said():
    table = {"N": N, "D": D, "acc": 1 - TRUTH["error"][1] * NOISE}
    for column, options, message in (
        ([1.0, *table["acc"][1:]], {"transform": "error"}, "row 1: y .* is 1, must be below the ceiling 1"),
        ([0.0, *table["acc"][1:]], {"transform": "log-odds"}, "row 1: y .* is 0, must be positive"),
        (5 * table["acc"], {"transform": "error"}, "the highest y is 4.* give `ceiling`"),
        (table["acc"], {"transform": "error", "ceiling": -1.0}, "`ceiling` is -1"),
        (
            table["acc"],
            {"transform": "error", "form": "downstream", "columns": {"loss": "N", "y": "acc"}},
            "not for form",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fit_law(FitConfig(**{**ADDITIVE, **options}), Table.from_columns({**table, "acc": column}))
    for options, message in (
        ({"ceiling": 100.0}, "`ceiling` has no effect without `transform`"),
        ({"transform": "error", "maximise": True}, "`maximise` has no effect beside `transform`"),
    ):
        with pytest.raises(UnusedSettingError, match=message):
            FitConfig(**ADDITIVE, **options)
    raw = fit_law(FitConfig(**ADDITIVE, bootstrap=0), Table.from_columns(table))
    assert "--transform error or log-odds, --ceiling 1" in raw.warnings[0].message
    with pytest.raises(ValueError, match=r"score-like.*`transform` error or log-odds"):
        spend_budget(PlanConfig(budget=Budget(max_gmac=1e12)), raw)
    loss = fit_law(
        FitConfig(**ADDITIVE, transform="error", bootstrap=0), Table.from_columns({**table, "acc": TRUTH["error"][1]})
    )
    assert [one.code for one in loss.warnings] == ["loss-like"]


def test_targets_beyond_the_ceiling_are_refused():
    law = fit_scores("error", bootstrap=0)
    for question, message in (
        ({"target": 1.2}, "`target` is 1.2, must be below the ceiling 1; it is a score, in the unit of acc"),
        ({"target_score": 0.5}, "give the score as `target`"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_with_law(PlanConfig(**question, at={"N": 1e9}), law)


def test_a_score_below_zero_is_said_to_be_beyond_the_law():
    law = fit_scores("error", bootstrap=0)
    far, near = (predict_with_law(law, {"N": size, "D": size}) for size in (10.0, 1e9))
    assert far["all"].mean[0] < 0 < near["all"].mean[0]
    assert "the law does not hold there" in format_predictions(law, far)
    assert "the law does not hold there" not in format_predictions(law, near)


def test_a_damaged_transform_is_refused(tmp_path):
    fit_scores("error", bootstrap=0).save(tmp_path / "law.json")
    values = unseal(json.loads((tmp_path / "law.json").read_text()), "law.json")  # older files have no seal
    for transform in ({"name": "probit", "ceiling": 1.0}, {"name": "error", "ceiling": -1.0}, {"name": "error"}):
        (tmp_path / "bad.json").write_text(json.dumps({**values, "transform": transform}))
        with pytest.raises(ValueError, match=r"transform .* is not known|damaged law file"):
            Law.load(tmp_path / "bad.json")
    values["fits"]["all"]["held_out"]["widening"] = None
    (tmp_path / "bad.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="held_out: widening is None"):
        Law.load(tmp_path / "bad.json")
    del values["transform"], values["fits"]["all"]["held_out"]["widening"]  # a file of an older version has none
    (tmp_path / "old.json").write_text(json.dumps(values))
    assert Law.load(tmp_path / "old.json").only.transform.name == "none"
