"""The planner: needed amounts, costs, limits, corners, next runs, candidates, published laws."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_runs import grid, product_loss, product_runs

from polyglance.laws import (
    Budget,
    Candidate,
    FitConfig,
    PlanConfig,
    Table,
    fit_law,
    load_law,
    plan_with_law,
    predict_new_group,
    read_candidates,
)

SMALL = Candidate(name="small", P=4e8, P_t=3e8, F_gmac=50, inputs={"T": 10.0}, memory_bytes=8e9)
LARGE = Candidate(name="large", P=4e9, P_t=1e9, F_gmac=500, inputs={"T": 6.0}, memory_bytes=80e9)


def ask(law, *, candidates=(), downstream=None, **question):
    return plan_with_law(PlanConfig(**question), law, candidates=candidates, downstream=downstream)


@pytest.fixture(scope="module")
def law():
    runs = grid(np.geomspace(1e8, 1e10, 4), np.geomspace(1e5, 1e8, 5), [2.0, 6.0, 12.0])
    config = FitConfig(objective="log-lsq", bootstrap=200)
    return fit_law(config, Table.from_columns(product_runs(*runs, noise=0.005)))


def test_samples_needed_bring_the_loss_to_the_target(law):
    target = float(product_loss(4e8, 2e7, 10.0))
    (option,) = ask(law, target=target, candidates=(SMALL,)).options
    assert option.needed.value == pytest.approx(2e7, rel=0.1)
    assert option.needed.low < 2e7 < option.needed.high
    predicted = law.only.predict({"P": 4e8, "S": option.needed.value, "T": 10.0}).mean[0]
    assert predicted == pytest.approx(target, rel=1e-9)
    assert option.compute_gmac.value == pytest.approx(option.needed.value * 50 * (1 + 3 / 4))
    assert (option.status, option.share_reached, option.share_cheapest) == ("ok", 1.0, 1.0)


def test_the_cheapest_of_several_within_the_limits(law):
    question = {"target": float(product_loss(4e8, 2e7, 10.0)), "candidates": (SMALL, LARGE)}
    free = ask(law, **question)
    costs = {option.name: option.compute_gmac.value for option in free.options}
    assert free.cheapest == min(costs, key=costs.get)
    assert sum(option.share_cheapest for option in free.options) == pytest.approx(1.0)
    caps = {
        "samples": Budget(max_samples=1e7),
        "GB of memory": Budget(max_memory_gb=20),
        "hours": Budget(max_hours=1e-3, gmac_per_gpu_s=1e5),
    }
    for word, budget in caps.items():
        answer = ask(law, **question, budget=budget)
        blocked = [option for option in answer.options if option.status == "over a cap"]
        assert blocked
        assert all(word in option.reasons[0] for option in blocked)
        assert answer.cheapest not in {option.name for option in blocked}


@pytest.mark.parametrize(
    ("budget", "candidates", "message"),
    [
        (Budget(max_hours=3), (SMALL,), r"max_hours cannot be checked \('small'\): it needs gmac_per_gpu_s"),
        (Budget(price_per_gpu_hour=3), (replace(SMALL, samples_per_s=9.0), LARGE), r"price_per_gpu_hour .*\('large'\)"),
        (Budget(max_memory_gb=3), (replace(SMALL, memory_bytes=None),), "candidates with memory_bytes"),
        (Budget(max_hours=3, gmac_per_gpu_s=1e5), (), "no candidates are given"),
    ],
)
def test_a_limit_that_cannot_be_checked_is_refused(law, budget, candidates, message):
    with pytest.raises(ValueError, match=message):
        ask(law, target=2.0, candidates=candidates, budget=budget)


def test_hours_and_money_follow_from_throughput_and_price(law):
    budget = Budget(gpus=8, gmac_per_gpu_s=1e5, price_per_gpu_hour=2.5)
    (option,) = ask(law, target=2.5, candidates=(LARGE,), budget=budget).options
    assert option.hours.value == pytest.approx(option.compute_gmac.value / 8e5 / 3600)
    assert option.gpu_hours.value == pytest.approx(8 * option.hours.value)
    assert option.money.value == pytest.approx(2.5 * option.gpu_hours.value)
    measured = replace(LARGE, samples_per_s=1000.0)
    (option,) = ask(law, target=2.5, candidates=(measured,), budget=budget).options
    assert option.hours.value == pytest.approx(option.needed.value / 1000 / 3600)


def test_a_target_below_the_offset_cannot_be_reached(law):
    answer = ask(law, target=0.7, candidates=(SMALL, LARGE))
    assert {option.status for option in answer.options} == {"cannot be reached"}
    assert all(option.needed.value is None for option in answer.options)
    assert answer.cheapest is None
    assert "even with unlimited S" in answer.options[0].reasons[0]
    assert "no candidate reaches the target within the caps" in answer.notes


def test_a_target_near_the_offset_is_reached_in_some_draws(law):
    low, high = law.only.intervals["eps"]
    (option,) = ask(law, target=high, candidates=(LARGE,)).options
    assert 0.9 < option.share_reached < 1
    answer = ask(law, target=(low + high) / 2, candidates=(LARGE,))
    assert any("cannot be reached at all" in note for note in answer.notes)


def test_the_corner_is_stated_in_place_of_an_optimum(law):
    (corner,) = [note for note in ask(law, target=2.0, candidates=(SMALL,)).notes if "corner" in note]
    assert "the loss rises with P" in corner  # b_S < b_P: at equal P S samples are the better buy
    assert "100 % of the draws agree" in corner


def test_gains_are_two_to_the_exponent_without_the_offset(law):
    answer = ask(law, target=2.5, candidates=(SMALL,), moves={"T": 5.0})
    gains = {gain.predictor: gain for gain in answer.gains}
    exponents = law.only.parameters
    assert gains["P"].reducible_ratio.value == pytest.approx(2 ** exponents["b_P"], rel=1e-6)
    assert gains["S"].reducible_ratio.value == pytest.approx(2 ** exponents["b_S"], rel=1e-6)
    assert gains["T"].reducible_ratio.value == pytest.approx(0.5 ** exponents["b_T"], rel=1e-6)
    assert gains["S"].ratio.low < gains["S"].ratio.value < gains["S"].ratio.high < 1


def test_the_next_run_narrows_most_where_the_question_lies(law):
    answer = ask(law, target=1.9, candidates=(SMALL, LARGE))
    assert all(0 <= run.narrowing <= 1 for run in answer.next_runs)
    rates = [run.narrowing_per_million_gmac for run in answer.next_runs]
    assert rates == sorted(rates, reverse=True)
    chosen = [run for run in answer.next_runs if run.name == answer.cheapest]
    assert max(chosen, key=lambda run: run.narrowing).amount == max(run.amount for run in chosen)


def test_extrapolation_is_stated_with_its_distance(law):
    huge = Candidate(name="huge", P=1e12, P_t=1e11, F_gmac=1e5, inputs={"T": 6.0})
    answer = ask(law, target=1.5, candidates=(huge,))
    assert answer.options[0].extrapolation == pytest.approx(2.0)
    assert "huge: extrapolates 2.00 decades beyond the data" in answer.notes
    edge = Candidate(name="edge", P=1.005e10, P_t=1e9, F_gmac=1e5, inputs={"T": 6.0})
    answer = ask(law, target=1.55, candidates=(edge,))
    assert 0 < answer.options[0].extrapolation < 0.005
    assert not [note for note in answer.notes if "extrapolates" in note]


def test_a_plan_for_a_score_goes_through_the_loss(law):
    loss = np.linspace(1.2, 4.0, 25)
    score = 90 / (1 + np.exp(2.0 * (loss - 2.0))) * np.exp(0.01 * np.random.default_rng(0).standard_normal(25))
    scores = fit_law(
        FitConfig(form="downstream", columns={"y": "cider"}, objective="log-lsq", bootstrap=100),
        Table.from_columns({"loss": loss, "cider": score}),
    )
    answer = ask(law, target_score=45.0, downstream=scores, candidates=(SMALL,))
    assert answer.target.value == pytest.approx(2.0, abs=0.05)
    assert answer.target.low < answer.target.value < answer.target.high
    plain = ask(law, target=answer.target.value, candidates=(SMALL,))
    assert answer.options[0].needed.value == pytest.approx(plain.options[0].needed.value)
    wide, narrow = answer.options[0].needed, plain.options[0].needed
    assert wide.high / wide.low > narrow.high / narrow.low
    with pytest.raises(ValueError, match="score 95 cannot be reached"):
        ask(law, target_score=95.0, downstream=scores, candidates=(SMALL,))


def test_a_new_group_differs_from_the_known_ones_as_they_do():
    rng = np.random.default_rng(0)
    c, factor = grid(np.geomspace(1e3, 1e6, 12), [0.9, 1.0, 1.1, 1.3])
    y = factor * (20 * c**-0.2 + 1) * np.exp(0.003 * rng.standard_normal(48))
    config = FitConfig(form="compute", columns={"C": "C"}, group="language", objective="log-lsq", bootstrap=50)
    table = Table.from_columns({"C": c, "y": y, "language": factor})
    law = fit_law(config, table)
    new = predict_new_group(law, {"C": 1e5})
    known = [fit.predict({"C": 1e5}).mean[0] for fit in law.fits.values()]
    assert min(known) < new.value < max(known)
    assert new.low < min(known)
    assert new.high > max(known)
    narrower = predict_new_group(fit_law(replace(config, confidence=0.5), table), {"C": 1e5})
    assert new.low < narrower.low < narrower.value == new.value < narrower.high < new.high
    with pytest.raises(ValueError, match="at least three"):
        predict_new_group(replace(law, fits={"1.0": law["1.0"]}), {"C": 1e5})


def test_candidates_come_from_tables_and_model_cards(tmp_path):
    (tmp_path / "models.csv").write_text("name,P,P_t,F_gmac,T,memory_gb\nsmall,4e8,3e8,50,10,8\n")
    (candidate,) = read_candidates(tmp_path / "models.csv", ("P", "S", "T"))
    assert candidate == SMALL
    (tmp_path / "card.json").write_text(
        '{"name": "large", "num_parameters": 4e9, "num_trained": 1e9, "macs_per_sample": 5e11, "T": 6, "memory_gb": 80}'
    )
    assert read_candidates(tmp_path / "card.json", ("P", "S", "T")) == (replace(LARGE, F_unit="sample"),)
    (tmp_path / "bad.csv").write_text("name,P\nx,big\n")
    with pytest.raises(ValueError, match="row 1: P is 'big', not a number"):
        read_candidates(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": -1.0}, "expected a positive number"),
        ({"target": None, "target_score": 45.0}, "needs a downstream law"),
        ({"solve_for": "D"}, "no predictor 'D'"),
        ({"candidates": (Candidate(name="m", P=1e9, P_t=1e9, F_gmac=1),)}, "candidate 'm' has no T"),
        ({"moves": {"D": 1.0}}, "no predictor 'D'"),
    ],
)
def test_wrong_questions_are_named(law, options, message):
    with pytest.raises(ValueError, match=message):
        ask(law, **{"target": 2.0, "candidates": (SMALL,), **options})


def test_the_published_laws_are_the_papers():
    law = load_law("paper-v1-product")
    assert law["UC"].predict({"P": 0.4e9, "S": 1.024e7}).mean[0] == pytest.approx(4.4, abs=0.05)
    assert law["SC"].predict({"P": 11.2e9, "S": 1.024e7}).mean[0] == pytest.approx(0.70, abs=0.01)
    assert law["ST"].intervals["b_S"] == (-0.24, -0.15)
    compute = load_law("paper-v1-compute")
    assert compute["UC"].parameters == pytest.approx({"a0": 1.86, "a1": -0.15})
    assert compute["UC"].predict({"C": 1.8e10}).mean[0] == pytest.approx(2.1, abs=0.05)
    assert compute["UC"].predict({"C": 1.8e10}).low is None
    with pytest.raises(ValueError, match="no such file; published laws: paper-v1-compute, paper-v1-product"):
        load_law("paper-v1-compte")
