"""Roles of predictors: costs, limits and prices by what a column counts; plans against answers computed by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polyglance.laws import (
    Budget,
    Candidate,
    Fit,
    FitConfig,
    Law,
    MakeConfig,
    PlanConfig,
    Table,
    fit_law,
    load_law,
    make_form,
    make_law,
    plan_with_law,
    read_candidates,
)
from polyglance.laws.equations.roles import guess_compute_unit, resolve_roles
from polyglance.laws.equations.transforms import NO_TRANSFORM, Transform
from polyglance.laws.law import SolverReport

CASES = Path(__file__).parent / "cases"
MODELS = read_candidates(CASES / "candidates.csv")
MEASURED = read_candidates(CASES / "candidates-with-speeds.csv")


def law_of(form, columns, parameters, draws=(), transform=NO_TRANSFORM):
    """Return a law with known parameters, and with draws of them."""
    built = make_form(form, tuple(columns))
    theta = built.to_internal(parameters)
    fit = Fit(
        form=built,
        transform=transform,
        theta=theta,
        reference=np.zeros(len(columns)),
        draws=np.array([built.to_internal(one) for one in draws]).reshape(-1, len(theta)),
        objective=0.0,
        r2_log=1.0,
        r2_raw=1.0,
        rows=np.empty(0, dtype=np.int64),
        frontier=np.empty(0, dtype=np.int64),
        ranges=dict.fromkeys(columns, (1e6, 1e12)),
        residuals=np.empty(0),
        intervals={},
        solver=SolverReport(num_starts=0, agreement=1.0, decrement=0.0, converged=True),
    )
    return Law(form=form, columns=columns, roles=resolve_roles(columns), fits={"all": fit})


@pytest.fixture(scope="module")
def additive():
    config = FitConfig(form="additive", columns={"N": "N", "D": "D", "y": "loss"}, bootstrap=20)
    return fit_law(config, Table.read(CASES / "additive-N-D.csv"))


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ({"N": "N", "D": "D"}, ["parameters", "tokens"]),
        ({"P": "params", "S": "samples", "T": "t0"}, ["parameters", "samples", "starting-loss"]),
        ({"C": "Training FLOP"}, ["compute"]),
        ({"D": "samples"}, ["samples"]),
        ({"x": "numTokens", "e": "epoch"}, ["tokens", "epochs"]),
        ({"D": "tokens (billions)", "x": "flops_per_token", "w": "log10 params"}, ["none", "none", "none"]),
        ({"a": "params", "b": "parameters"}, ["none", "none"]),
    ],
)
def test_roles_are_guessed_from_names(columns, roles):
    assert list(resolve_roles(columns).values()) == roles


def test_compute_units_are_read_from_the_column():
    units = {name: guess_compute_unit(name) for name in ("gflops", "C (GMAC)", "Training FLOP", "PFLOPs", "C")}
    assert units == {"gflops": 0.5, "C (GMAC)": 1.0, "Training FLOP": 0.5e-9, "PFLOPs": 0.5e6, "C": None}
    words = {"petaflops": 0.5e6, "GigaMACs": 1.0, "exaFLOP": 0.5e9, "YFLOPs": 0.5e15}
    assert {name: guess_compute_unit(name) for name in words} == pytest.approx(words)


@pytest.mark.parametrize("column", ["PFLOP/s-days", "petaflop/s-days", "FLOPs (1e18)", "FLOP/s"])
def test_a_plan_by_compute_of_unknown_unit_is_refused(column):
    """It was taken for PFLOP, or for GMAC."""
    constants = {"a0": 50.0, "a1": -0.1, "eps": 1.0}
    law = make_law(MakeConfig(form="compute", set=constants, columns={"C": column}, roles={"C": "compute"}))
    assert resolve_roles({"x": column}) == {"x": "none"}
    with pytest.raises(ValueError, match=r"the unit of compute of C .* is not known"):
        plan_with_law(PlanConfig(target=2.0), law, candidates=MODELS)


def test_the_cheapest_model_of_an_additive_law_in_tokens(additive):
    plan = plan_with_law(PlanConfig(target=2.2), additive, candidates=MODELS)
    by_name = {option.name: option for option in plan.options}
    by_hand = {
        "m1e+09": (1.641773e12, 3.283546e12),
        "m3e+09": (2.431423e11, 1.458854e12),
        "m1e+10": (9.339023e10, 1.867805e12),
        "m3e+10": (5.761253e10, 3.456752e12),
    }
    for name, (tokens, compute) in by_hand.items():
        assert by_name[name].needed.value == pytest.approx(tokens, rel=1e-6)
        assert by_name[name].compute_gmac.value == pytest.approx(compute, rel=1e-6)
    assert [by_name[name].status for name in ("m1e+08", "m3e+08")] == ["cannot be reached"] * 2
    assert (plan.cheapest, plan.measure) == ("m3e+09", "compute")
    assert by_name["m3e+09"].share_cheapest == 1.0
    assert plan_with_law(PlanConfig(target=2.1), additive, candidates=MODELS).cheapest == "m1e+10"


def test_limits_and_prices_count_whatever_the_predictor_is_called(additive):
    budget = Budget(max_tokens=1e11, gmac_per_gpu_s=1e5, gpus=8, price_per_gpu_hour=2.0)
    plan = plan_with_law(PlanConfig(target=2.2, budget=budget), additive, candidates=MODELS)
    statuses = {option.name: option.status for option in plan.options}
    assert statuses["m3e+09"] == "over a cap"
    assert plan.cheapest == "m1e+10"
    (option,) = [option for option in plan.options if option.name == "m1e+10"]
    assert option.hours.value == pytest.approx(1.867805e12 / 8e5 / 3600, rel=1e-6)
    assert option.money.value == pytest.approx(16 * option.hours.value)
    in_samples = Budget(max_samples=1e11 / 512, tokens_per_sample=512.0)
    assert plan_with_law(PlanConfig(target=2.2, budget=in_samples), additive, candidates=MODELS).cheapest == "m1e+10"


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(max_samples=1e9), "max_samples cannot be checked .*it needs tokens_per_sample"),
        (Budget(max_hours=1.0), "max_hours cannot be checked .*gmac_per_gpu_s"),
        (Budget(max_money=1.0, gmac_per_gpu_s=1e5), "max_money cannot be checked .*price_per_gpu_hour"),
        (Budget(gpus=8), "`gpus` has no effect"),
        (Budget(tokens_per_sample=512.0), "`tokens_per_sample` has no effect"),
        (Budget(samples_per_epoch=512.0), "`samples_per_epoch` has no effect"),
    ],
)
def test_what_cannot_be_reckoned_or_has_no_effect_is_refused(additive, budget, message):
    with pytest.raises(ValueError, match=message):
        plan_with_law(PlanConfig(target=2.2, budget=budget), additive, candidates=MODELS)


def test_the_cheapest_by_money_follows_the_measured_speed():
    columns = {"P": "params", "S": "samples", "y": "loss"}
    config = FitConfig(columns=columns, fix={"eps": 0.0}, bootstrap=20)
    law = fit_law(config, Table.read(CASES / "product.csv"))
    budget = Budget(price_per_gpu_hour=2.0)
    by_money = plan_with_law(PlanConfig(target=0.02, budget=budget), law, candidates=MEASURED)
    by_compute = plan_with_law(PlanConfig(target=0.02, budget=budget, cheapest_by="compute"), law, candidates=MEASURED)
    assert (by_money.cheapest, by_money.measure) == ("s", "money")
    assert by_compute.cheapest == "l"
    small, large = by_money.options
    for option, model in ((small, MEASURED[0]), (large, MEASURED[1])):
        samples = (0.02 / 400 / model.P**-0.26) ** (1 / -0.28)
        assert option.needed.value == pytest.approx(samples, rel=1e-6)
        assert option.compute_gmac.value == pytest.approx(samples * model.F_gmac * (1 + model.P_t / model.P), rel=1e-6)
        assert option.money.value == pytest.approx(samples / model.samples_per_s / 3600 * 2, rel=1e-6)


def test_a_law_of_compute_ties_and_keeps_limits():
    law = load_law("paper-v1-compute")
    models = tuple(replace(one, samples_per_s=None) for one in MEASURED)
    free = plan_with_law(PlanConfig(group="UC", target=2.5), law, candidates=models)
    assert (free.cheapest, free.tied) == (None, ("s", "l"))
    assert any(note.startswith("a tie by compute: s, l") for note in free.notes)
    capped = PlanConfig(group="UC", target=2.5, budget=Budget(max_samples=1e7))
    plan = plan_with_law(capped, law, candidates=models)
    assert (plan.options[0].status, plan.cheapest) == ("over a cap", "l")


def test_a_role_that_does_not_fit_the_form_is_refused():
    table = Table.from_columns({"N": [1e8, 1e9], "Training FLOP": [1e18, 1e20], "loss": [3.0, 2.5]})
    config = FitConfig(form="additive", columns={"N": "N", "C": "Training FLOP", "y": "loss"})
    with pytest.raises(ValueError, match=r"C \(column 'Training FLOP'\) has the role compute"):
        fit_law(config, table)


def test_size_and_data_may_be_named_in_any_order(additive):
    table = Table.read(CASES / "additive-N-D.csv")
    columns = {"tokens": "D", "size": "N", "y": "loss"}
    law = fit_law(FitConfig(form="additive", columns=columns, bootstrap=0), table)
    assert law.only.form.predictors == ("size", "tokens")
    assert law.only.parameters == pytest.approx(additive.only.parameters)


TRANSFORMS = (NO_TRANSFORM, NO_TRANSFORM, Transform("error", 1000.0), Transform("log-odds", 1.0))


def random_question(rng):
    """Return a random law with draws (of a loss or a score, one group or two), candidates (some twice), a budget."""
    kind = rng.choice(["additive", "product"])
    if kind == "additive":
        columns = {"N": "N", "D": "D"}
        centre = {"A": 406.4, "B": 410.7, "E": 1.7, "alpha": rng.uniform(0.2, 0.5), "beta": rng.uniform(0.2, 0.5)}
        unit = "token"
    else:
        columns = {"size": "params", "seen": "samples"}
        centre = {"b0": 400.0, "b_size": -rng.uniform(0.1, 0.3), "b_seen": -rng.uniform(0.1, 0.3), "eps": 1.0}
        unit = "sample"
    if rng.random() < 0.2:  # tied exponents
        first, second = list(centre)[3:5] if kind == "additive" else list(centre)[1:3]
        centre[first] = centre[second]
    draws = [{k: v * np.exp(0.05 * rng.standard_normal()) for k, v in centre.items()} for _ in range(20)]
    transform = TRANSFORMS[rng.integers(4)]
    law = law_of(kind, columns, centre, draws if rng.random() < 0.7 else (), transform)
    group = None
    if rng.random() < 0.3:
        other = law_of(kind, columns, {name: 1.1 * value for name, value in centre.items()}, (), transform)
        law, group = replace(law, fits={"other": other.only, "asked": law.only}), "asked"
    models = []
    for i, size in enumerate(rng.uniform(8, 11, rng.integers(1, 6))):
        p = 10**size
        speeds = {"samples_per_s": 10 ** rng.uniform(1, 5)} if unit == "sample" and rng.random() < 0.5 else {}
        f_gmac = p / 1e9 * rng.uniform(0.5, 2)
        models.append(Candidate(name=f"m{i}", P=p, P_t=p * rng.uniform(), F_gmac=f_gmac, memory_bytes=16 * p, **speeds))
    if rng.random() < 0.1:
        models.append(replace(models[0], name="again"))
    caps = {
        f"max_{unit}s": 10 ** rng.uniform(6, 14),
        "max_gmac": 10 ** rng.uniform(6, 16),
        "max_hours": 10 ** rng.uniform(0, 6),
        "max_money": 10 ** rng.uniform(0, 6),
        "max_memory_gb": 10 ** rng.uniform(0, 4),
    }
    chosen = {name: value for name, value in caps.items() if rng.random() < 0.3}
    budget = Budget(gmac_per_gpu_s=1e5, gpus=4, price_per_gpu_hour=2.0, **chosen)
    measure = str(rng.choice(["compute", "hours", "money"]))
    target = float(transform.invert(np.array(rng.uniform(1.5, 4))))
    return law, tuple(models), PlanConfig(target=target, budget=budget, cheapest_by=measure, group=group)


def brute_force(law, models, config):
    """Return the cheapest cost by the measure over a fine grid of data amounts, within the limits (and a step of the
    grid); inf if none."""
    fit, budget, best = law[config.group or "all"], config.budget, np.inf
    size, data = fit.form.predictors

    def reaches(model, amounts):
        y = fit.predict({size: model.P, data: amounts}).mean
        return y >= config.target if fit.transform.is_score else y <= config.target

    for model in models:
        amounts = np.geomspace(1e-20, 1e40, 3001)
        enough = reaches(model, amounts)
        if not enough.any():
            continue
        first = max(int(np.argmax(enough)), 1)
        amounts = np.geomspace(amounts[first - 1], amounts[first], 101)
        gmac = amounts * model.F_gmac * (1 + model.P_t / model.P)
        hours = amounts / model.samples_per_s / 3600 if model.samples_per_s else gmac / 4e5 / 3600
        costs = {"compute": gmac, "hours": hours, "money": hours * 8}
        fits = reaches(model, amounts)
        for cap, cost in (
            (budget.max_samples, amounts),
            (budget.max_tokens, amounts),
            (budget.max_gmac, gmac),
            (budget.max_hours, hours),
            (budget.max_money, costs["money"]),
        ):
            fits &= cap is None or cost <= cap * 1.0008
        fits &= budget.max_memory_gb is None or model.memory_bytes <= budget.max_memory_gb * 1e9
        best = min(best, np.where(fits, costs[config.cheapest_by], np.inf).min())
    return best


def test_plans_are_those_of_a_brute_force_search_and_no_note_contradicts_the_table():
    rng = np.random.default_rng(0)
    ties = 0
    for _ in range(500):
        law, models, config = random_question(rng)
        plan = plan_with_law(config, law, candidates=models)
        found = [option for option in plan.options if option.name in (plan.cheapest, *plan.tied)]
        ties += bool(plan.tied)
        expected = brute_force(law, models, config)
        if found:
            assert found[0].cost(plan.measure) == pytest.approx(expected, rel=1e-3)
        else:
            assert np.isinf(expected)
        check_notes(plan, models)
    assert ties > 5


def check_notes(plan, models):
    """Compare each note with the numbers that are printed beside it."""
    options = {option.name: option for option in plan.options}
    costs = {name: option.cost(plan.measure) for name, option in options.items() if option.status == "ok"}
    lowest = {name for name, cost in costs.items() if cost == min(costs.values())}
    if len(lowest) > 1:
        assert plan.cheapest is None
        assert set(plan.tied) == lowest
        assert any(note.startswith(f"a tie by {plan.measure}: ") for note in plan.notes)
    elif costs:
        assert {plan.cheapest} == lowest
    else:
        assert plan.cheapest is None
    sizes = {model.name: model.P for model in models}
    for note in plan.notes:
        if note.startswith("corner: within"):
            extreme = max if "the largest is cheapest" in note else min
            assert plan.cheapest == extreme(costs, key=sizes.get)
        if note.startswith("corner: at equal"):
            assert len(models) == 1
        if note.startswith("close: "):
            other = note.split("estimate, ")[1].split(" in more")[0]
            assert options[other].share_cheapest > options[plan.cheapest].share_cheapest
        if note == "no candidate reaches the target within the caps":
            assert not costs
    for option in plan.options:
        shown = [note for note in plan.notes if note.startswith(f"{option.name}: {option.status}")]
        assert bool(shown) == (option.status != "ok")


@pytest.mark.parametrize(
    "column", ["Tokens (T)", "tokens_T", "tokens/1e9", "tokens (10^9)", "train tokens [1e9]", "tokens in billions"]
)
def test_a_count_with_a_scale_has_no_role_and_is_given_none(column):
    assert resolve_roles({"D": column}) == {"D": "none"}
    if column != "tokens_T":  # a T may be anything
        with pytest.raises(ValueError, match=r"counts tokens in .*and costs would be wrong by that factor; compute"):
            resolve_roles({"D": column}, {"D": "tokens"})
    assert resolve_roles({"D": column}, {"D": "none"}) == {"D": "none"}


@pytest.mark.parametrize("column", ["tokens", "train_tokens", "unique tokens", "tokens_t", "tokens (total)", "D2"])
def test_a_role_that_is_given_is_taken_where_the_name_has_no_scale(column):
    assert resolve_roles({"D": column}, {"D": "tokens"}) == {"D": "tokens"}


def test_compute_with_a_scale_in_its_name_has_no_unit():
    assert guess_compute_unit("train FLOPs") == pytest.approx(0.5e-9)
    assert [guess_compute_unit(name) for name in ("FLOPs (1e18)", "flops_1e21", "FLOPs (10^18)")] == [None] * 3
