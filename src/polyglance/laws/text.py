"""Results as plain text for a terminal. Nothing is computed here."""

from collections.abc import Mapping, Sequence

from polyglance.laws.compare import Comparison
from polyglance.laws.forms import PowerSum
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, Law, Prediction
from polyglance.laws.plan import Plan

__all__ = ["comparison_text", "equation", "law_text", "plan_text", "prediction_text", "table_text"]


def table_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def equation(law: Law) -> str:
    """The law's equation with the names of its parameters."""
    form = next(iter(law.fits.values())).form
    y = law.columns.get("y", "y")
    if not isinstance(form, PowerSum):
        return f"{y} = {form.name}({', '.join(form.predictors)})"
    terms = []
    for term in form.terms:
        amplitude = f"10^{term.amplitude}" if form.log10_amplitude else term.amplitude
        power = " ".join(f"{predictor}^{exponent}" for predictor, exponent in term.exponents)
        if term.sign < 0:
            terms.append(f"{amplitude} / {power}")
        else:
            terms.append(f"{amplitude} {power}".strip())
    return f"{y} = {' + '.join(terms)}"


def law_text(law: Law) -> str:
    """Parameters with intervals, scores and warnings, group by group."""
    lines = [equation(law)]
    lines += [f"{warning.severity} {warning.code}: {warning.message}" for warning in law.warnings]
    for label, fit in law.fits.items():
        lines += ["", *_fit_lines(label if len(law.fits) > 1 else "", fit)]
    return "\n".join(lines)


def _fit_lines(label: str, fit: Fit) -> list[str]:
    rows = []
    for name, value in fit.parameters.items():
        low, high = fit.intervals.get(name, (None, None))
        shown = "not determined" if name in fit.unidentified else f"{value:.5g}"
        rows.append([name, shown, "" if low is None or high is None else f"[{low:.5g}, {high:.5g}]"])
    head = [f"{label}:"] if label else []
    scores = (
        f"objective {fit.objective:.10g}, {fit.num_rows} rows, R^2 of log y {fit.r2_log:.4f}, R^2 of y {fit.r2_raw:.4f}"
    )
    table = table_text(["", "value", f"{100 * fit.confidence:.0f} % interval"], rows)
    return [*head, table, *([scores] if fit.num_rows else []), *_warning_lines(fit)]


def _warning_lines(fit: Fit) -> list[str]:
    return [f"{warning.severity} {warning.code}: {warning.message}" for warning in fit.warnings]


def prediction_text(predictions: Mapping[str, Prediction]) -> str:
    """One line per predicted point and group: mean, interval of the mean, interval of a new run, extrapolation."""
    rows = []
    for label, one in predictions.items():
        for i in range(len(one.mean)):
            bands = []
            for low, high in ((one.low, one.high), (one.low_new, one.high_new)):
                bands.append("" if low is None or high is None else f"[{low[i]:.5g}, {high[i]:.5g}]")
            outside = f"{one.extrapolation[i]:.2f} decades" if one.extrapolation[i] > 0 else "inside"
            rows.append([label, f"{one.mean[i]:.5g}", *bands, outside])
    return table_text(["group", "mean", "of the mean", "of a new run", "beyond the data"], rows)


def comparison_text(comparison: Comparison) -> str:
    """One table: candidates down, ways of holding out across, mean relative error (and bias) in percent."""
    protocols = list(dict.fromkeys(score.protocol for score in comparison.scores))
    cells = {(score.candidate, score.protocol): score for score in comparison.scores}
    known = {candidate.name: candidate for candidate in comparison.candidates}
    rows = []
    for name in dict.fromkeys([*known, *(score.candidate for score in comparison.scores)]):
        candidate = known.get(name)
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
    lines = [table_text(["error in % (bias)", "R^2 log", "dAICc", *protocols], rows)]
    for protocol in protocols:
        best = comparison.best(protocol)
        if best is not None:
            lines.append(f"{protocol}: {best.candidate} predicts best")
    return "\n".join([*lines, *(f"not compared: {note}" for note in comparison.notes)])


def plan_text(plan: Plan) -> str:
    """Options, gains and next runs as tables, then what has to be said plainly."""
    parts = [f"target loss {plan.target.text()}"]
    header = ["model", "status", f"{plan.solve_for} needed", "C (GMAC)", "hours", "cost", "loss at cap", "cheapest in"]
    rows = [
        [
            option.name,
            option.status,
            option.needed.text(),
            *(_text(e) for e in (option.compute_gmac, option.hours, option.money, option.loss_at_cap)),
            f"{100 * option.share_cheapest:.0f} %",
        ]
        for option in plan.options
    ]
    parts.append(table_text(header, rows))
    if plan.cheapest is not None and len(plan.options) > 1:
        parts.append(f"cheapest: {plan.cheapest}")
    gains = [
        [f"{gain.predictor} {gain.start:.4g} -> {gain.end:.4g}", gain.ratio.text(), gain.loss_at_end.text()]
        for gain in plan.gains
    ]
    parts.append(table_text(["change", "loss ratio", "loss after"], gains))
    if plan.next_runs:
        runs = [
            [run.name, f"{run.samples:.3g}", f"{run.compute_gmac:.3g}", f"{100 * run.narrowing:.1f} %"]
            for run in plan.next_runs[:5]
        ]
        parts.append(table_text(["next run, best per GMAC first", "S", "C (GMAC)", "narrows the plan by"], runs))
    return "\n\n".join([*parts, "\n".join(plan.notes)]).rstrip()


def _text(estimate: Estimate | None) -> str:
    return "" if estimate is None else estimate.text()
