"""Results as plain text for a terminal. Nothing is computed here."""

from collections.abc import Mapping, Sequence

import numpy as np

from polyglance.laws.constants.published import PublishedLaw
from polyglance.laws.fitting.compare import LawComparison
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, HeldOut, Law, LawWarning, Prediction
from polyglance.laws.planning.plan import LawPlan
from polyglance.laws.planning.spend import BudgetPlan
from polyglance.laws.tables.describe import TableDescription

__all__ = [
    "format_budget",
    "format_catalogue",
    "format_columns",
    "format_comparison",
    "format_law",
    "format_plan",
    "format_prediction_rows",
    "format_predictions",
]


def _format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_columns(table: TableDescription) -> str:
    """Return a line for each column of a table, then the notes of the reader."""
    header = ["column", "kind", "missing", "distinct", "lowest", "highest", "role", "first rows"]
    rows = [
        [
            column.name,
            column.kind,
            str(column.num_missing or ""),
            str(column.num_distinct),
            *("" if end is None else f"{end:.6g}" for end in (column.low, column.high)),
            "" if column.role == "none" else column.role,
            ", ".join(column.samples),
        ]
        for column in table.columns
    ]
    remarks = [f"{column.name}: {column.remark}" for column in table.columns if column.remark]
    lines = [f"{table.num_rows} rows, {len(rows)} columns", "", _format_table(header, rows)]
    notes = [*table.notes, *remarks]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def format_law(law: Law) -> str:
    """Return the equation, and per group the parameters with intervals, scores and warnings."""
    lines = [law.equation, _format_roles(law.roles)]
    lines += _format_warnings(law.warnings)
    for label, fit in law.fits.items():
        lines += ["", *_format_fit(label if len(law.fits) > 1 else "", fit)]
    return "\n".join(lines)


def _format_roles(roles: Mapping[str, str]) -> str:
    return f"roles: {', '.join(f'{name} {role}' for name, role in roles.items())}"


def _format_fit(label: str, fit: Fit) -> list[str]:
    rows = []
    for name, value in fit.parameters.items():
        low, high = fit.intervals.get(name, (None, None))
        shown = "not determined" if name in fit.unidentified else f"{value:.5g}"
        rows.append([name, shown, "" if low is None or high is None else f"[{low:.5g}, {high:.5g}]"])
    head = [f"{label}:"] if label else []
    fitted = "log y" if not fit.transform.is_score else f"log of {fit.transform.describe('y')}"
    scores = (
        f"objective {fit.objective:.10g}, {fit.num_rows} rows, R^2 of {fitted} {fit.r2_log:.4f}, "
        f"R^2 of y {fit.r2_raw:.4f}"
    )
    table = _format_table(["", "value", f"{100 * fit.confidence:.0f} % interval"], rows)
    known = [scores, _format_held_out(fit.held_out)] if fit.num_rows else []
    return [*head, table, *_format_ceiling(fit), *known, *_format_warnings(fit.warnings)]


def _format_ceiling(fit: Fit) -> list[str]:
    """Return the score that the law rises to, from its offset."""
    if not fit.transform.is_score:
        return []
    offset, invert = fit.form.offset, fit.transform.invert
    values = [0.0] if offset is None else [fit.parameters[offset], *fit.intervals.get(offset, ())]
    ends = ["-" if value is None else f"{float(invert(np.array(value))):.5g}" for value in values]
    interval = f" [{ends[2]}, {ends[1]}]" if len(ends) == 3 else ""
    return [f"the score rises to {ends[0]}{interval}"]


def _format_held_out(held_out: HeldOut | None) -> str:
    if held_out is None:
        return "held-out error: not known: this law has no runs, shared parameters, or too few smaller runs to fit"
    return f"held-out error: {held_out}"


def _format_warnings(warnings: Sequence[LawWarning]) -> list[str]:
    return [f"{warning.severity} {warning.code}: {warning.message}" for warning in warnings]


def format_predictions(law: Law, predictions: Mapping[str, Prediction]) -> str:
    """Return the table of `format_prediction_rows`, then the law's warnings of severity error."""
    warnings = [
        line
        for label in predictions
        for line in _format_warnings([one for one in law.list_warnings(label) if one.severity == "error"])
    ]
    remarks = [_format_widening(label, law[label].held_out) for label in predictions]
    if law.first.transform.is_score and any((one.mean < 0).any() for one in predictions.values()):
        remarks.append("a score below 0 is an error above the ceiling: the law does not hold there")
    return "\n".join([format_prediction_rows(predictions), *filter(None, remarks), *dict.fromkeys(warnings)])


def format_prediction_rows(predictions: Mapping[str, Prediction]) -> str:
    """Return a line per group and point: mean, interval of the mean, interval of a new run, extrapolation."""
    rows = []
    for label, one in predictions.items():
        for i in range(len(one.mean)):
            intervals = []
            for low, high in ((one.low, one.high), (one.low_new, one.high_new)):
                intervals.append("" if low is None or high is None else f"[{low[i]:.5g}, {high[i]:.5g}]")
            outside = f"{one.extrapolation[i]:.2f} decades" if one.extrapolation[i] >= 0.005 else "inside"
            outside = outside if one.extrapolation[i] >= 0 else "not known"
            rows.append([label, f"{one.mean[i]:.5g}", *intervals, outside])
    return _format_table(["group", "mean", "of the mean", "of a new run", "beyond the data"], rows)


def _format_widening(label: str, held_out: HeldOut | None) -> str:
    """Return why the intervals of a new run are widened, if they are."""
    if held_out is None or held_out.coverage is None or held_out.widening == 1:
        return ""
    return (
        f"{label}: the interval of a new run is made {held_out.widening:.2g} times as wide, because only "
        f"{100 * held_out.coverage:.0f} % of the table's {held_out.num_rows} largest runs were inside, predicted from "
        "the smaller ones"
    )


def format_comparisons(comparisons: Mapping[str, LawComparison]) -> str:
    """Return the tables of all groups, then the warnings about them."""
    lines = []
    for label, comparison in comparisons.items():
        lines += (
            [format_comparison(comparison)] if len(comparisons) == 1 else [label, format_comparison(comparison), ""]
        )
    warnings = dict.fromkeys(warning for comparison in comparisons.values() for warning in comparison.warnings)
    return "\n".join([*lines, *dict.fromkeys(_format_warnings(list(warnings)))])


def format_comparison(comparison: LawComparison) -> str:
    """Return a table of mean relative errors (and biases) in percent: candidates down, ways of holding out across."""
    protocols = list(dict.fromkeys(score.protocol for score in comparison.scores))
    cells = {(score.candidate, score.protocol): score for score in comparison.scores}
    fitted = {candidate.name: candidate for candidate in comparison.candidates}
    rows = []
    for name in dict.fromkeys([*fitted, *(score.candidate for score in comparison.scores)]):
        candidate = fitted.get(name)
        delta = "" if candidate is None or candidate.delta_aicc is None else f"{candidate.delta_aicc:.1f}"
        r2 = "" if candidate is None else f"{candidate.r2_log:.4f}"
        row = [name, r2, delta]
        for protocol in protocols:
            score = cells.get((name, protocol))
            if score is None or score.mean_relative_error is None or score.bias is None:
                row.append("-")
            else:
                skipped = f" ({score.num_skipped} skipped)" if score.num_skipped else ""
                row.append(f"{100 * score.mean_relative_error:.2f} ({100 * score.bias:+.2f}){skipped}")
        rows.append(row)
    lines = [_format_table(["error in % (bias)", "R^2 log", "dAICc", *protocols], rows)]
    for protocol in protocols:
        best, num_shared = comparison.best(protocol), len(comparison.find_shared(protocol))
        if best is None:
            lines.append(f"{protocol}: no form could be fitted to what is left")
            continue
        num_splits = len(best.split_errors)
        some = num_shared < num_splits
        aside = comparison.find_left_aside(protocol)
        forms = f"all forms but {', '.join(aside)}" if aside else "all forms"
        splits = f"{num_shared} of {num_splits} splits"
        judged = f" (on the {splits} that {forms} could be fitted to)" if some or aside else ""
        lines.append(f"{protocol}: {best.candidate} predicts best{judged}")
    return "\n".join([*lines, *(f"not compared: {note}" for note in comparison.notes)])


def format_plan(plan: LawPlan) -> str:
    """Return options, gains and next runs as tables, then the notes."""
    score = "" if plan.score is None else f"score {plan.score}\n"
    head = f"target {plan.noun} {plan.target}\n{score}"
    sections = [f"{head}{_format_roles(plan.roles)}\n{_format_held_out(plan.held_out)}"]
    costs = ["C (GMAC)", "hours", f"cost ({plan.currency})" if plan.currency else "cost"]
    header = ["model", "status", f"{plan.solve_for} needed", *costs, f"{plan.noun} at cap", "cheapest in"]
    rows = [
        [
            option.name,
            option.status,
            str(option.needed),
            *(
                "" if e is None else str(e)
                for e in (option.compute_gmac, option.hours, option.money, option.loss_at_cap)
            ),
            "" if option.share_cheapest is None else f"{100 * option.share_cheapest:.0f} %",
        ]
        for option in plan.options
    ]
    sections.append(_format_table(header, rows))
    if plan.tied:
        sections.append(f"cheapest: a tie of {', '.join(plan.tied)} (by {plan.measure})")
    elif plan.cheapest is not None and len(plan.options) > 1:
        sections.append(f"cheapest: {plan.cheapest} (by {plan.measure})")
    gains = [
        [f"{gain.predictor} {gain.start:.4g} -> {gain.end:.4g}", str(gain.ratio), str(gain.loss_at_end)]
        for gain in plan.gains
    ]
    sections.append(_format_table(["change", f"{plan.noun} ratio", f"{plan.noun} after"], gains))
    if plan.next_runs:
        runs = [
            [run.name, f"{run.amount:.3g}", f"{run.compute_gmac:.3g}", f"{100 * run.narrowing:.1f} %"]
            for run in plan.next_runs[:5]
        ]
        sections.append(
            _format_table(["next run, best per GMAC first", plan.solve_for, "C (GMAC)", "narrows the plan by"], runs)
        )
    return "\n\n".join([*sections, "\n".join(plan.notes)]).rstrip()


def format_catalogue(laws: Sequence[PublishedLaw]) -> str:
    """Return a line for each law: name, equation, groups, source."""
    widths = [max(len(getattr(law, name)) for law in laws) for name in ("name", "equation")]
    return "\n".join(
        f"{law.name:<{widths[0]}}  {law.equation:<{widths[1]}}  {law.source}"
        + (f"; groups {', '.join(law.groups)}" if law.groups else "")
        for law in laws
    )


_SHOWN_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Multiples of the best size that are printed."""


def format_budget(plan: BudgetPlan) -> str:
    """Return the best size, the candidates, the curve along the budget and smaller models as tables, then the notes."""
    limits = ", ".join(f"{name} {value:.6g}" for name, value in plan.limits.items())
    sections = [f"budget {limits}\n{_format_roles(plan.roles)}\n{_format_held_out(plan.held_out)}"]
    if plan.best is not None:
        best = plan.best
        costs = ", ".join(f"{_COSTS[name]} {value:.4g}" for name, value in best.costs.items())
        head = "size at the end of the range" if best.is_corner else "best size"
        sections.append(
            f"{head}: {plan.size} {best.size}, {plan.data} {best.data}\nexpected {plan.noun} {best.loss}\n"
            f"uses up {', '.join(best.limited_by)}: {costs}"
        )
    if plan.options:
        sections.append(_format_options(plan))
    if plan.curve:
        rows = [
            [f"{p.factor:g} x", f"{p.size:.4g}", f"{p.data:.4g}", str(p.loss), _format_percent(p.excess)]
            for p in plan.curve
            if p.factor in _SHOWN_FACTORS
        ]
        sections.append(_format_table(["along the budget", plan.size, plan.data, plan.noun, _excess_head(plan)], rows))
    if plan.smaller:
        header = [
            f"same {plan.noun}, smaller",
            plan.size,
            f"{plan.data} needed",
            "training",
            "inference",
            "in all (GMAC)",
        ]
        rows = [
            [
                f"{one.factor:.3g} x{' (least in all)' if one.is_best else ''}",
                f"{one.size:.4g}",
                str(one.data),
                "-" if one.training_ratio is None else f"{one.training_ratio:.3g} x",
                f"{one.inference_ratio:.3g} x",
                "" if one.total_gmac is None else str(one.total_gmac),
            ]
            for one in plan.smaller
            if one.is_best or one.factor in _SHOWN_FACTORS
        ]
        sections.append(_format_table(header, rows))
    return "\n\n".join([*sections, "\n".join(plan.notes)]).rstrip()


_COSTS = {"samples": "samples", "compute": "GMAC", "hours": "hours", "gpu_hours": "GPU-hours", "money": "money"}


def _format_options(plan: BudgetPlan) -> str:
    names = [name for name in _COSTS if any(name in option.costs for option in plan.options)]
    if all(option.costs.get("samples", option.data) == option.data for option in plan.options):
        names = [name for name in names if name != "samples"]
    units = {**_COSTS, "money": plan.currency or "money"}
    has_score = any(option.score is not None for option in plan.options)
    header = ["model", "status", plan.data, *(units[name] for name in names), plan.noun]
    header += [*(["score"] if has_score else []), _excess_head(plan), "best in"]
    rows = [
        [
            option.name,
            option.status,
            f"{option.data:.4g}",
            *(f"{option.costs[name]:.4g}" if name in option.costs else "" for name in names),
            "" if option.loss is None else str(option.loss),
            *(["" if option.score is None else str(option.score)] if has_score else []),
            "" if option.excess is None else _format_percent(option.excess),
            "" if option.share_best is None else f"{100 * option.share_best:.0f} %",
        ]
        for option in plan.options
    ]
    best = f"best: {plan.chosen}" if plan.chosen else f"best: a tie of {', '.join(plan.tied)}" if plan.tied else ""
    return _format_table(header, rows) + (f"\n{best}" if best else "")


def _excess_head(plan: BudgetPlan) -> str:
    return "above the best" if plan.noun == "loss" else "against the best"


def _format_percent(excess: Estimate) -> str:
    return f"{excess.map(lambda value: 100 * value)} %"
