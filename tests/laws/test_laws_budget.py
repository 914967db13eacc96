"""The budget question: the best size and candidate, against formulas by hand and searches by brute force."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_laws_roles import TRANSFORMS, law_of

from polyglance.laws import Budget, Candidate, PlanConfig, plan_with_law, read_candidates, spend_budget
from polyglance.laws.plot import plot_budget

CASES = Path(__file__).parent / "cases"
MODELS = read_candidates(CASES / "candidates.csv")
ADDITIVE = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
LIMITED = {  # limit -> cost of one unit of data, from GMAC of one unit and the speeds of `random_question`
    "max_gmac": lambda gmac, tokens: gmac,
    "max_flop": lambda gmac, tokens: 2e9 * gmac,
    "max_hours": lambda gmac, tokens: gmac / (4 * 1e5 * 3600),
    "max_gpu_hours": lambda gmac, tokens: gmac / (1e5 * 3600),
    "max_money": lambda gmac, tokens: 2 * gmac / (1e5 * 3600),
    "max_tokens": lambda gmac, tokens: tokens,
    "max_samples": lambda gmac, tokens: tokens / 64,
}


def ask(law, candidates=(), **budget):
    options = {name: budget.pop(name) for name in ("at", "inference_tokens", "roles") if name in budget}
    return spend_budget(PlanConfig(budget=Budget(**budget), **options), law, candidates=candidates)


def additive(draws=()):
    return law_of("additive", {"N": "N", "D": "D"}, ADDITIVE, draws)


def product(b_p=-0.26, b_s=-0.28, **more):
    parameters = {
        "b0": 400.0,
        "b_P": b_p,
        "b_S": b_s,
        "eps": 1.0,
        **{f"b_{name}": value for name, value in more.items()},
    }
    return law_of("product", {"P": "params", "S": "samples", **{name: name for name in more}}, parameters)


@pytest.mark.parametrize(("budget", "size", "data", "loss"), [(1e12, 2.996062e9, 1.668857e11, 2.229710)])
@pytest.mark.parametrize("candidates", [(), MODELS])
def test_the_best_size_of_an_additive_law_by_hand(budget, size, data, loss, candidates):
    plan = ask(additive(), candidates, max_gmac=budget)
    assert plan.best.size.value == pytest.approx(size, rel=1e-6)
    assert plan.best.data.value == pytest.approx(data, rel=1e-6)
    assert plan.best.loss.value == pytest.approx(loss, rel=1e-6)
    assert plan.best.limited_by == ("max_gmac",)
    assert plan.best.costs == pytest.approx({"compute": budget})
    if candidates:
        assert plan.chosen == "m3e+09"
    else:
        assert any("2 MAC (4 FLOP)" in note for note in plan.notes)


def test_six_n_d_is_three_mac_for_each_parameter_and_token():
    best = ask(additive(), max_flop=5.76e23, macs_per_parameter=3.0).best
    assert 6 * best.size.value * best.data.value == pytest.approx(5.76e23)
    assert best.size.value == pytest.approx(
        3.2190e10, rel=1e-4
    )  # equation 4 of Hoffmann et al. with these five numbers


def test_the_curve_of_a_budget_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "budget.svg"
    plot_budget(ask(additive(), MODELS, max_gmac=1e12), path)
    drawn = path.read_text()
    for text in ("max_gmac 1e+12", "best size 2.996e+09", "along the budget", *(model.name for model in MODELS)):
        assert f">{text}<" in drawn
    first = path.read_bytes()
    plot_budget(ask(additive(), MODELS, max_gmac=1e12), path)
    assert path.read_bytes() == first
    plot_budget(ask(product(), (), max_gmac=1e12, tokens_per_sample=64.0), path)  # a corner has no curve beyond its end
    with pytest.raises(ValueError, match=r"written as \.svg"):
        plot_budget(ask(additive(), max_gmac=1e12), tmp_path / "budget.png")


def test_half_and_twice_the_best_size_lose_what_the_law_says():
    plan = ask(additive(), max_gmac=1e12)
    curve = {point.factor: point for point in plan.curve}
    for factor in (0.5, 1.0, 2.0):
        n, d = factor * 2.996062e9, 1.668857e11 / factor
        loss = 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28
        assert curve[factor].loss.value == pytest.approx(loss, rel=1e-6)
        assert curve[factor].excess.value == pytest.approx(loss / 2.229710 - 1, abs=1e-6)
    assert [point.size for point in plan.curve] == sorted(point.size for point in plan.curve)


def test_intervals_cover_the_draws():
    rng = np.random.default_rng(0)
    draws = [{k: v * np.exp(0.03 * rng.standard_normal()) for k, v in ADDITIVE.items()} for _ in range(200)]
    plan = ask(additive(draws), MODELS, max_gmac=1e12)
    sizes = []
    for one in draws:
        a, b, alpha, beta = (one[name] for name in ("A", "B", "alpha", "beta"))
        sizes.append((alpha * a / (beta * b)) ** (1 / (alpha + beta)) * 5e20 ** (beta / (alpha + beta)))
    low, high = np.quantile(sizes, [0.025, 0.975], method="inverted_cdf")
    assert (plan.best.size.low, plan.best.size.high) == pytest.approx((low, high), rel=1e-2)
    assert plan.best.loss.low < plan.best.loss.value < plan.best.loss.high
    assert sum(option.share_best for option in plan.options) == pytest.approx(1.0)


def test_a_product_law_has_a_corner_and_a_limit_on_data_gives_a_best_size():
    corner = ask(product(), max_gmac=1e12, tokens_per_sample=64.0)
    assert corner.best.is_corner
    assert corner.best.size.value == pytest.approx(1e6)  # an end of the range of the law
    assert any("only rises with P" in note for note in corner.notes)
    limited = ask(product(), max_gmac=1e12, tokens_per_sample=64.0, max_samples=1e9)
    assert not limited.best.is_corner
    assert limited.best.data.value == pytest.approx(1e9)
    assert limited.best.size.value == pytest.approx(1e21 / 2 / 64e9)
    assert set(limited.best.limited_by) == {"max_gmac", "max_samples"}
    flat = ask(product(b_s=-0.26), max_gmac=1e12, tokens_per_sample=64.0)
    assert any("is the same for every P" in note for note in flat.notes)


def test_candidates_that_differ_beside_their_size_are_compared_without_a_size_in_between():
    models = [
        Candidate(name=f"m{i}", P=10.0**i, P_t=10.0**i, F_gmac=10.0 ** (i - 8), inputs={"T": 12 - i}) for i in (8, 9)
    ]
    plan = ask(product(T=0.4), models, max_gmac=1e9)
    losses = {}
    for one in models:
        samples = 1e9 / (2 * one.F_gmac)
        losses[one.name] = 400 * one.P**-0.26 * samples**-0.28 * one.inputs["T"] ** 0.4 + 1
    assert plan.best is None
    assert {option.name: option.loss.value for option in plan.options} == pytest.approx(losses)
    assert plan.chosen == min(losses, key=losses.get)
    assert any("differ in T" in note for note in plan.notes)


def test_memory_and_a_budget_below_one_sample_leave_candidates_out():
    models = [replace(one, memory_bytes=16 * one.P) for one in MODELS]
    plan = ask(additive(), models, max_gmac=1e12, max_memory_gb=20.0)
    assert {option.name for option in plan.options if option.status == "ok"} == {"m1e+08", "m3e+08", "m1e+09"}
    assert plan.chosen == "m1e+09"
    assert plan.best.size.value == pytest.approx(20e9 / 16)
    assert "max_memory_gb" in plan.best.limited_by
    tiny = ask(additive(), MODELS, max_gmac=1e-3)
    assert tiny.chosen is None
    assert any("no candidate can be trained" in note for note in tiny.notes)


def test_smaller_models_of_equal_loss_and_the_least_compute_with_inference():
    """Sardana et al. 2024 (arXiv 2401.00448): training and inference together, at the loss of the best size."""
    plan = ask(additive(), max_gmac=1e12, inference_tokens=1e13)
    loss = plan.best.loss.value
    sizes = np.geomspace(4e8, 3e9, 400_001)
    data = (410.7 / (loss - 1.69 - 406.4 / sizes**0.34).clip(1e-12)) ** (1 / 0.28)
    total = 2e-9 * sizes * data + 1e-9 * sizes * 1e13
    (least,) = [one for one in plan.smaller if one.is_best]
    assert least.size == pytest.approx(sizes[total.argmin()], rel=1e-4)
    assert least.total_gmac.value == pytest.approx(total.min(), rel=1e-6)
    half = next(one for one in plan.smaller if one.factor == 0.5)
    n = plan.best.size.value / 2
    assert half.data.value == pytest.approx((410.7 / (loss - 1.69 - 406.4 / n**0.34)) ** (1 / 0.28), rel=1e-6)
    assert half.training_ratio == pytest.approx(half.data.value / plan.best.data.value / 2)
    assert half.inference_ratio == pytest.approx(0.5)
    tiny = next(one for one in plan.smaller if one.factor == 0.0625)
    assert (tiny.data.value, tiny.training_ratio) == (None, None)
    capped = ask(additive(), max_gmac=1e12, inference_tokens=1e13, max_tokens=half.data.value)
    assert all(one.data.value is None or one.data.value <= half.data.value * 1.0001 for one in capped.smaller)
    (least,) = [one for one in capped.smaller if one.is_best]
    assert least.size == pytest.approx(half.size, rel=1e-4)  # the smallest one that the data suffice for


@pytest.mark.parametrize(
    ("law", "options", "message"),
    [
        (law_of("compute", {"C": "C"}, {"a0": 9.0, "a1": -0.1, "eps": 1.0}), {}, "a law of compute has no size"),
        (
            law_of("product", {"S": "samples"}, {"b0": 9.0, "b_S": -0.1, "eps": 1.0}),
            {},
            "no predictor counts parameters",
        ),
        (law_of("product", {"P": "params"}, {"b0": 9.0, "b_P": -0.1, "eps": 1.0}), {}, "no predictor counts samples"),
        (product(), {}, "max_gmac cannot be checked .*tokens_per_sample"),
        (product(T=0.4), {"tokens_per_sample": 64.0}, "the plan has no T"),
        (additive(), {"max_gmac": 1e-9}, "the budget is too small"),
        (additive(), {"at": {"N": 1e9}}, "`at` N has no effect"),
        (additive(), {"max_samples": 1e9}, "max_samples cannot be checked .*tokens_per_sample"),
        (additive(), {"max_hours": 9.0}, "max_hours cannot be checked .*gmac_per_gpu_s"),
        (additive(), {"max_memory_gb": 9.0}, "candidates with memory_bytes"),
        (additive(), {"gpus": 8}, "`gpus` has no effect"),
        (additive(), {"candidates": MODELS, "macs_per_parameter": 3.0}, "`macs_per_parameter` has no effect"),
    ],
)
def test_what_cannot_be_answered_is_refused(law, options, message):
    with pytest.raises(ValueError, match=message):
        ask(law, **{"max_gmac": 1e12, **options})


def test_a_question_has_a_target_or_a_budget():
    with pytest.raises(ValueError, match="or a budget to spend: max_gmac"):
        spend_budget(PlanConfig(budget=Budget(max_tokens=1e12)), additive())
    with pytest.raises(ValueError, match="`moves` has no effect without a target"):
        PlanConfig(budget=Budget(max_gmac=1e12), moves={"N": 1e9})
    with pytest.raises(ValueError, match="`inference_tokens` has no effect beside a target"):
        PlanConfig(target=2.0, inference_tokens=1e12)
    with pytest.raises(ValueError, match="call spend_budget"):
        plan_with_law(PlanConfig(budget=Budget(max_gmac=1e12)), additive())


def random_question(rng):
    """Return a random law with draws, of a loss or a score, candidates (or none), and a budget."""
    if rng.random() < 0.5:
        names = ("N", "D")
        centre = {"A": 400.0, "B": 410.0, "E": 1.7, "alpha": rng.uniform(0.2, 0.5), "beta": rng.uniform(0.2, 0.5)}
        form, columns, unit = "additive", {"N": "N", "D": "D"}, "token"
    else:
        names = ("size", "seen")
        centre = {"b0": 400.0, "b_size": -rng.uniform(0.1, 0.3), "b_seen": -rng.uniform(0.1, 0.3), "eps": 1.0}
        form, columns, unit = "product", {"size": "params", "seen": "tokens"}, "token"
    draws = [{k: v * np.exp(0.05 * rng.standard_normal()) for k, v in centre.items()} for _ in range(20)]
    law = law_of(form, columns, centre, draws if rng.random() < 0.7 else (), TRANSFORMS[rng.integers(4)])
    slope, models = 1.0, ()
    if rng.random() < 0.7:
        slope = rng.uniform(0.8, 1.2)
        sizes = 10 ** rng.uniform(8, 11, rng.integers(2, 6))
        models = tuple(
            Candidate(name=f"m{i}", P=p, P_t=p, F_gmac=(p / 1e9) ** slope, F_unit=unit, memory_bytes=16 * p)
            for i, p in enumerate(sizes)
        )
    budget = {"max_gmac": 10 ** rng.uniform(8, 16)}
    for limit, exponents in (
        ("max_flop", (17, 25)),
        ("max_hours", (0, 6)),
        ("max_gpu_hours", (0, 6)),
        ("max_money", (0, 6)),
        ("max_tokens", (9, 14)),
        ("max_samples", (7, 12)),
    ):
        if rng.random() < 0.3:
            budget[limit] = 10 ** rng.uniform(*exponents)
    if models and rng.random() < 0.3:
        budget["max_memory_gb"] = 10 ** rng.uniform(0, 4)
    return law, names, slope, models, budget


def loss_along(law, names, sizes, budget, gmac):
    """Return the loss (or score) of sizes with the most data that every limit allows; gmac is that of one token."""
    data = np.min([cap / LIMITED[limit](gmac, 1.0) * np.ones_like(sizes) for limit, cap in budget.items()], axis=0)
    return law.only.predict({names[0]: sizes, names[1]: data}).mean, data


def test_budgets_are_spent_as_a_brute_force_search_does_for_500_random_questions():
    rng = np.random.default_rng(1)
    corners = 0
    for _ in range(500):
        law, names, slope, models, budget = random_question(rng)
        fixed = {"gmac_per_gpu_s": 1e5, "gpus": 4, "price_per_gpu_hour": 2.0}
        fixed |= {"tokens_per_sample": 64.0} if "max_samples" in budget else {}
        served = {"inference_tokens": 10 ** rng.uniform(8, 15)} if rng.random() < 0.5 else {}
        plan = ask(law, models, **budget, **fixed, **served)
        memory = budget.pop("max_memory_gb", np.inf) * 1e9 / 16
        largest = min(memory, 1e18)
        low, high = 1.0, largest
        if plan.best and plan.best.is_corner:
            corners += 1
            low, high = (min(m.P for m in models), max(m.P for m in models)) if models else (1e6, 1e12)
            high = min(high, memory)
        if plan.best:
            check_best(plan, law, names, slope, budget, (low, high))
        if plan.best and served and not plan.best.is_corner:
            check_total(plan, law, names, slope, budget, served["inference_tokens"])
        fitting = {}
        for model in models:
            (loss,), (data,) = loss_along(law, names, np.array([model.P]), budget, 2 * model.F_gmac)
            if memory >= model.P and data >= 1:
                fitting[model.name] = loss
        shown = {option.name: option.loss.value for option in plan.options if option.status == "ok"}
        assert shown == pytest.approx(fitting, rel=1e-9)
        best = max if law.only.transform.is_score else min
        assert plan.chosen == best(fitting, key=fitting.get, default=None)
        check_notes(plan, {model.name: model.P for model in models})
    assert 20 < corners < 250


def check_best(plan, law, names, slope, budget, ends):
    """Compare the best size and the curve with a search over sizes that is refined six times."""
    low, high = np.log(ends)
    for _ in range(6):
        sizes = np.exp(np.linspace(low, high, 401))
        losses, _ = loss_along(law, names, sizes, budget, 2 * (sizes / 1e9) ** slope)
        best = int(losses.argmax() if law.only.transform.is_score else losses.argmin())
        low, high = np.log(sizes[max(best - 1, 0)]), np.log(sizes[min(best + 1, 400)])
    assert plan.best.loss.value == pytest.approx(losses[best], rel=1e-6)
    sign = -1 if law.only.transform.is_score else 1
    assert sign * plan.best.loss.value <= sign * losses[best] + 1e-9 * abs(losses[best])
    assert plan.best.size.value == pytest.approx(sizes[best], rel=1e-3)
    for point in plan.curve:
        (loss,), (data,) = loss_along(law, names, np.array([point.size]), budget, 2 * (point.size / 1e9) ** slope)
        assert (point.loss.value, point.data) == pytest.approx((loss, data), rel=1e-6)
        assert sign * point.excess.value >= -1e-9
    for limit, cap in budget.items():  # every limit is kept, and those named are used up
        spent = plan.best.data.value * LIMITED[limit](2 * (plan.best.size.value / 1e9) ** slope, 1.0)
        assert spent <= cap * (1 + 1e-6)
        assert (spent >= cap * (1 - 1e-6)) == (limit in plan.best.limited_by)


def check_total(plan, law, names, slope, budget, tokens):
    """Compare the size with the least compute in all with a search over smaller sizes that reach the same y."""
    most = min(
        (cap * {"max_tokens": 1.0, "max_samples": 64.0}[limit] for limit, cap in budget.items() if limit[4] in "ts"),
        default=np.inf,
    )
    log_y = law.only.log_mean({names[0]: plan.best.size.value, names[1]: plan.best.data.value})[0]
    low, high = np.log(plan.best.size.value / 1e6), np.log(plan.best.size.value)
    for _ in range(6):
        sizes = np.exp(np.linspace(low, high, 41))
        data = np.exp([float(law.only.solve_for(names[1], {names[0]: size}, log_y)[0]) for size in sizes])
        gmac = (sizes / 1e9) ** slope
        totals = np.where(np.isfinite(data) & (data <= most * (1 + 1e-9)), 2 * gmac * data + gmac * tokens, np.inf)
        at = int(totals.argmin())
        low, high = np.log(sizes[max(at - 1, 0)]), np.log(sizes[min(at + 1, 40)])
    (least,) = [one for one in plan.smaller if one.is_best]
    assert least.total_gmac.value == pytest.approx(totals[at], rel=1e-4)


def check_notes(plan, sizes):
    """Compare each note with the numbers beside it."""
    for note in plan.notes:
        if note.startswith("corner") and plan.best:
            assert plan.best.is_corner
            assert plan.noun in note
            rises = "only rises" in note
            assert [point.loss.value for point in plan.curve] == sorted(
                (point.loss.value for point in plan.curve), reverse=not rises
            )
            rises ^= plan.noun == "score"
            if sizes and "max_memory_gb" not in plan.best.limited_by:
                assert plan.best.size.value == pytest.approx((min if rises else max)(sizes.values()))
        if note == "no candidate can be trained within the budget":
            assert plan.chosen is None
    for option in plan.options:
        shown = [note for note in plan.notes if note.startswith(f"{option.name}: {option.status}")]
        assert bool(shown) == (option.status != "ok")
