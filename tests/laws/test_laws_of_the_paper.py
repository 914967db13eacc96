"""`law plan paper` and `law predict paper`: answers without a table of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest

from polyglance.cli import main
from polyglance.laws import Budget, PlanConfig, load_law, plan_with_law, read_candidates, spend_budget
from polyglance.report.published_models import list_published_models


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    main([*words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_paper_answers_without_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    """The four published models with the most data of the published runs."""
    plan = ask(capsys, "law", "plan", "paper")
    law = load_law("paper")["UC"]
    assert [option["name"] for option in plan["options"]] == ["0.4b", "1.0b", "3.5b", "11.2b"]
    for option, t in zip(plan["options"], (10.44, 10.44, 6.02, 6.02), strict=True):
        expected = law.predict({"P": option["size"], "S": 10_240_000, "T": t})
        assert option["loss"]["value"] == pytest.approx(expected.mean[0])
        assert option["loss"]["low"] == pytest.approx(expected.low[0], rel=0.01)
        assert option["score"]["low"] < option["score"]["value"] < option["score"]["high"]
        assert option["extrapolation"] == 0
    predicted = ask(capsys, "law", "predict", "paper")
    assert predicted["11.2b"]["UC"]["mean"] == [plan["options"][3]["loss"]["value"]]
    assert set(predicted["0.4b"]) == {"UC", "ST", "SC"}


def test_cells_multiply_what_a_run_sees(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("law", "plan", "paper", "--target", "2.6", "--price-per-gpu-hour", "2.5", "--currency", "EUR")
    few, many = ask(capsys, *words), ask(capsys, *words, "--cells", "21")
    assert few["currency"] == "EUR"
    for one, other in zip(few["options"], many["options"], strict=True):
        assert other["needed"] == one["needed"]
        for name in ("samples", "compute_gmac", "gpu_hours", "money"):
            assert other[name]["value"] == pytest.approx(3 * one[name]["value"])
        assert one["samples"]["value"] == one["needed"]["value"]
        assert one["money"]["value"] == pytest.approx(2.5 * one["gpu_hours"]["value"])
    assert any("21 cells" in note for note in many["notes"])
    budget = Budget(max_money=5000, price_per_gpu_hour=2.5, cells=21)
    spent = spend_budget(PlanConfig(group="UC", budget=budget), load_law("paper"), candidates=list_published_models())
    for option in spent.options:
        assert option.costs["samples"] == pytest.approx(3 * option.data)
        assert option.costs["money"] == pytest.approx(5000)


def test_model_cards_are_candidates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cards = [ask(capsys, "model", "card", "--size", size) for size in ("0.4b", "3.5b")]
    path = tmp_path / "cards.json"
    path.write_text(json.dumps(cards))
    plan = ask(capsys, "law", "plan", "paper", "--target", "3.0", "--candidates", str(path))
    built_in = ask(capsys, "law", "plan", "paper", "--target", "3.0")
    for name in ("0.4b", "3.5b"):
        [one], [other] = ([option for option in p["options"] if option["name"] == name] for p in (plan, built_in))
        assert {**one, "share_cheapest": 0} == {**other, "share_cheapest": 0}
    with pytest.raises(ValueError, match="no rate of gpu 'H300'; did you mean"):
        read_candidates(path, ("P", "S", "T"), gpu="H300")
    path.write_text(json.dumps([{**cards[0], "rates": {"H100": 3}}]))
    with pytest.raises(ValueError, match="row 1: the rate of H100 has no number tflops"):
        read_candidates(path, ("P", "S", "T"))


def test_a_score_of_the_paper_becomes_a_loss() -> None:
    """The sigmoid goes through the six printed scores, and a plan for a score plans for its loss."""
    scores = load_law("paper-cider-prefix")
    law, models = load_law("paper"), list_published_models()
    printed = {"0.4b": 1.7, "1.0b": 5.6, "3.5b": 24.1, "11.2b": 26.6}
    spent = spend_budget(
        PlanConfig(group="UC", budget=Budget(max_samples=10.24e6)), law, candidates=models, downstream=scores
    )
    for option in spent.options:
        assert option.score.low < printed[option.name] < option.score.high
    plan = plan_with_law(PlanConfig(group="UC", target_score=20.0), law, candidates=models, downstream=scores)
    assert scores.only.predict({"loss": plan.target.value}).mean[0] == pytest.approx(20.0)
    exact = plan_with_law(PlanConfig(group="UC", target=2.6), law, candidates=models, downstream=scores)
    band = scores.only.predict({"loss": 2.6})
    assert (exact.score.value, exact.score.low) == pytest.approx((band.mean[0], band.low[0]), rel=0.02)
    wide = load_law("paper-cider-finetuned").only.predict({"loss": np.array([2.5])})
    assert 40 < wide.mean[0] < 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("paper", "--cells", "0"), "cells is 0"),
        (("chinchilla", "--target", "2.2", "--at", "N=1e9", "--cells", "9"), "cells has no effect"),
        (("paper", "--currency", "EUR"), "currency has no effect"),
        (("paper", "--gpu", "H300"), "no rates of 'H300'"),
        (("paper-compute-reconstructed",), "give a target loss"),
        (("paper", "--target", "2.6", "--downstream", "paper"), "expected 'downstream'"),
        (("papr",), "did you mean 'paper'"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["law", "plan", *words])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
