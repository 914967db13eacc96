"""The verbs `polyglance law fit | compare | predict | plan`: arguments are parsed, results printed, no more."""

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

__all__ = ["compare", "fit", "plan", "predict"]

ObjectiveChoice = Literal["log-huber", "log-lsq", "raw-lsq", "asymmetric"]


def fit(
    table: Positional[Path],
    *,
    form: str = "product",
    columns: str = "",
    group: str | None = None,
    cluster: str | None = None,
    weight: str | None = None,
    size: str | None = None,
    objective: ObjectiveChoice = "log-huber",
    delta: float = 1e-3,
    overestimate: float = 10.0,
    offset: bool | None = None,
    fix: str = "",
    bounds: str = "",
    share: str = "",
    frontier: bool = False,
    frontier_window: int = 1,
    frontier_final_only: bool = False,
    frontier_min_gap: float = 0.0,
    bootstrap: int = 1000,
    method: Literal["auto", "pairs", "wild"] = "auto",
    confidence: float = 0.95,
    seed: int = 0,
    drop_bad_rows: bool = False,
    out: Path | None = None,
    plot: Path | None = None,
    plot_x: str | None = None,
    json: bool = False,
) -> None:
    """Fit a scaling law to a table of runs.

    Args:
        table: Runs, one row each: .csv, .tsv, .jsonl or .parquet.
        form: compute, product, additive, compute-v1, product-v1 or downstream.
        columns: Which column is what, as P=params,S=samples,T=t0,y=loss; same names need no entry.
        group: Column whose values each get a law of their own.
        cluster: Column that tells which rows belong to one run.
        weight: Column of positive weights.
        size: Column that names the model of a row.
        objective: What is minimised, summed over rows.
        delta: Where log-huber turns linear, in log y.
        overestimate: How much more an overestimate counts (asymmetric).
        offset: Whether the form has its offset (eps, E).
        fix: Given parameters, as eps=1.6,b_T=0.
        bounds: Bounds of parameters, as b_T=0:inf,alpha=0:1.
        share: Parameters all groups have in common, as b_P,b_S.
        frontier: Fit the Pareto frontier only (compute law).
        frontier_window: Median over this many checkpoints of a run before comparing.
        frontier_final_only: Only the last checkpoint of each run.
        frontier_min_gap: Least distance of frontier points, in decades.
        bootstrap: Number of bootstrap replicates; 0 gives no intervals.
        method: How replicates are drawn.
        confidence: Of all intervals.
        seed: Of the bootstrap.
        drop_bad_rows: Leave out rows that cannot be used, with a warning, instead of stopping.
        out: Where to write the law (.json).
        plot: Where to draw the law (.svg).
        plot_x: Predictor on the plot's horizontal axis.
        json: Print the result for machines.
    """
    from polyglance.laws import FitConfig, FrontierConfig, Table, fit_law
    from polyglance.laws.text import format_law

    config = FitConfig(
        form=form,
        columns=_pairs(columns, "--columns"),
        group=group,
        cluster=cluster,
        weight=weight,
        size=size,
        objective=objective,
        delta=delta,
        overestimate=overestimate,
        offset=offset,
        fix=_numbers(fix, "--fix"),
        bounds=_bounds(bounds),
        share=tuple(name.strip() for name in share.split(",") if name.strip()),
        frontier=frontier,
        frontier_options=FrontierConfig(
            window=frontier_window, final_only=frontier_final_only, min_gap_decades=frontier_min_gap
        ),
        bootstrap=bootstrap,
        method=method,
        confidence=confidence,
        seed=seed,
        bad_rows="drop" if drop_bad_rows else "error",
    )
    runs = Table.read(table)
    law = fit_law(config, runs)
    if out is not None:
        law.save(out)
    if plot is not None:
        from polyglance.laws.plot import plot_law

        plot_law(law, runs, plot, x=plot_x)
    print(_dump(law.summary()) if json else format_law(law))


def compare(
    table: Positional[Path],
    *,
    form: str = "product",
    columns: str = "",
    group: str | None = None,
    size: str | None = None,
    language: str | None = None,
    scale: str | None = None,
    objective: ObjectiveChoice = "log-huber",
    delta: float = 1e-3,
    drop_bad_rows: bool = False,
    json: bool = False,
) -> None:
    """Score a law, simpler and other forms, and baselines by held-out error.

    Args:
        table: Runs, one row each: .csv, .tsv, .jsonl or .parquet.
        form: The full law: compute, product or additive.
        columns: Which column is what, as P=params,S=samples,T=t0,y=loss.
        group: Column whose values are compared each on their own.
        size: Column that names the model of a row, for leave-one-model-out.
        language: Column for leave-one-language-out.
        scale: Column that says which runs are larger; by default P times S (N times D).
        objective: What is minimised.
        delta: Where log-huber turns linear, in log y.
        drop_bad_rows: Leave out rows that cannot be used, with a warning, instead of stopping.
        json: Print the result for machines.
    """
    from polyglance.laws import CompareConfig, FitConfig, Table, compare_laws
    from polyglance.laws.text import format_comparison

    config = FitConfig(
        form=form,
        columns=_pairs(columns, "--columns"),
        group=group,
        size=size,
        objective=objective,
        delta=delta,
        bootstrap=0,
        bad_rows="drop" if drop_bad_rows else "error",
    )
    results = compare_laws(CompareConfig(fit=config, language=language, scale=scale), Table.read(table))
    if json:
        print(_dump({label: asdict(result) for label, result in results.items()}))
        return
    for label, result in results.items():
        print(format_comparison(result) if len(results) == 1 else f"{label}\n{format_comparison(result)}\n")


def predict(
    law: Positional[str],
    *,
    at: str = "",
    table: Path | None = None,
    group: str | None = None,
    new_group: bool = False,
    json: bool = False,
) -> None:
    """Predict with a law, with intervals for the mean and for a new run.

    Args:
        law: A law file, or paper-v1-compute or paper-v1-product.
        at: Values of the predictors, as P=1e9,S=1e7,T=6.02.
        table: Rows to predict, with a column per predictor, in place of --at.
        group: Which group of the law; all of them if not given.
        new_group: Expect the value of a group the law has not seen, from how the known ones differ.
        json: Print the result for machines.
    """
    from polyglance.laws import Table, load_law, predict_new_group, predict_with_law
    from polyglance.laws.text import format_predictions

    loaded = load_law(law)
    if new_group:
        estimate = predict_new_group(loaded, _numbers(at, "--at"))
        print(_dump(asdict(estimate)) if json else f"new group: {estimate}")
        return
    values = _numbers(at, "--at") if table is None else Table.read(table)
    results = predict_with_law(loaded, values, group=group)
    if json:
        plain = {label: {k: v if v is None else v.tolist() for k, v in vars(p).items()} for label, p in results.items()}
        print(_dump(plain))
        return
    print(format_predictions(results))


def plan(
    law: Positional[Path],
    *,
    target: float | None = None,
    target_score: float | None = None,
    downstream: Path | None = None,
    candidates: Path | None = None,
    at: str = "",
    moves: str = "",
    group: str | None = None,
    solve_for: str = "S",
    max_samples: float | None = None,
    max_memory_gb: float | None = None,
    max_hours: float | None = None,
    gpus: int = 1,
    gmac_per_gpu_s: float | None = None,
    price_per_gpu_hour: float | None = None,
    json: bool = False,
) -> None:
    """Say what a target loss or score costs, and which model is the cheapest way to it.

    Args:
        law: A law file (product, additive or compute).
        target: Loss to be reached.
        target_score: Score to be reached, with --downstream.
        downstream: A law file of the score against the loss (form downstream).
        candidates: Models to choose from: a table, or model cards as .json.
        at: Values of predictors that candidates do not bring, as T=6.02.
        moves: What else to tell the gain of, as T=3.0.
        group: Which group of the law.
        solve_for: Predictor whose needed amount is asked for.
        max_samples: Samples there is data for.
        max_memory_gb: Memory there is, in GB.
        max_hours: Wall-clock hours there are.
        gpus: Number of GPUs.
        gmac_per_gpu_s: Training throughput of one GPU, in GMAC per second.
        price_per_gpu_hour: What a GPU-hour costs.
        json: Print the result for machines.
    """
    from polyglance.laws import Budget, Law, PlanConfig, load_law, plan_with_law, read_candidates
    from polyglance.laws.text import format_plan

    loaded = load_law(str(law))
    config = PlanConfig(
        group=group,
        target=target,
        target_score=target_score,
        solve_for=solve_for,
        at=_numbers(at, "--at"),
        budget=Budget(
            max_samples=max_samples,
            max_memory_bytes=None if max_memory_gb is None else max_memory_gb * 1e9,
            max_hours=max_hours,
            num_gpus=gpus,
            gmac_per_gpu_s=gmac_per_gpu_s,
            price_per_gpu_hour=price_per_gpu_hour,
        ),
        moves=_numbers(moves, "--moves"),
    )
    result = plan_with_law(
        config,
        loaded,
        candidates=read_candidates(candidates, loaded.first.form.predictors) if candidates else (),
        downstream=Law.load(downstream) if downstream else None,
    )
    print(_dump(asdict(result)) if json else format_plan(result))


def _pairs(text: str, option: str) -> dict[str, str]:
    """`a=b,c=d` as a dict."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ValueError(f"{option}: {part!r} is not of the form name=value")
        if name in pairs:
            raise ValueError(f"{option}: {name!r} is given twice")
        pairs[name] = value
    return pairs


def _numbers(text: str, option: str) -> dict[str, float]:
    return {name: _number(value, f"{option}: {name}") for name, value in _pairs(text, option).items()}


def _bounds(text: str) -> dict[str, tuple[float, float]]:
    bounds = {}
    for name, value in _pairs(text, "--bounds").items():
        low, colon, high = value.partition(":")
        if not colon:
            raise ValueError(f"--bounds: {name}={value} is not of the form name=low:high")
        bounds[name] = (_number(low, f"--bounds: {name}"), _number(high, f"--bounds: {name}"))
    return bounds


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where} is {text!r}, not a number") from None


def _dump(value: Any) -> str:
    return json_module.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
