"""Diagnosis: coded warnings about a fit, each with the sentence a user needs.

Severity: info is good to know; warning is to be read before a number is used; error says which number not to use.
`CODES` lists them all; docs/laws.md explains what to do about each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.data import Rows
from polyglance.laws.forms import Form, PowerSum
from polyglance.laws.intervals import Interval
from polyglance.laws.law import SolverReport, Warning
from polyglance.laws.table import listed

__all__ = ["CODES", "Evidence", "diagnose"]

Floats = NDArray[np.float64]

MOST_NESTED = 200
"""A predictor with more levels than this is not looked at as a grouping of runs."""

CODES: Mapping[str, str] = {
    "rows-dropped": "rows that cannot be used were left out",
    "too-few-rows": "fewer rows than parameters + 2",
    "few-clusters": "fewer than ten independent clusters",
    "checkpoints-as-rows": "rows look like checkpoints of a few runs, but no cluster column was named",
    "duplicate-rows": "identical rows count as independent evidence",
    "constant-predictor": "a predictor never changes; its exponent was left out",
    "few-levels": "a predictor has fewer than three levels",
    "narrow-range": "a predictor covers less than a factor of two",
    "confounded": "predictors vary together; their effects cannot be told apart",
    "nested": "one predictor has a single value per level of another",
    "exponent-near-zero": "an exponent's interval contains zero",
    "offset-at-zero": "the offset ended at zero; the data show none",
    "offset-uncertain": "the offset's interval is wider than the range of y",
    "offset-against-exponent": "offset and exponent trade off",
    "bound-hit": "a parameter ended at a bound",
    "term-vanished": "a power term's amplitude ended at zero",
    "not-converged": "the solver stopped before the minimum was certain",
    "starts-disagree": "few starts reached the best minimum",
    "unmoved-start": "a parameter never left its start",
    "failed-refits": "bootstrap refits that did not converge",
    "influential-row": "one row (or cluster) moves a parameter by more than its standard error",
    "lack-of-fit": "the law misses by more than repeated runs differ",
    "poor-fit": "the law explains less than half of the variance of log y",
    "dominated-rows": "a compute law was fitted to runs that others beat",
    "frontier-short": "a frontier of fewer than five runs or 1.5 decades",
    "frontier-one-size": "one model supplies more than half of the frontier",
    "frontier-edge": "a model is on the frontier at the end of its training",
}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about one group's fit. Shapes: R draws, n rows, p parameters."""

    form: Form
    rows: Rows
    num_free: int
    clustered: bool
    """Whether the user named a cluster column."""
    estimate: Mapping[str, float]
    intervals: Mapping[str, Interval]
    draws: Floats
    """(R, p) at the origin, on the solver's scale."""
    num_failed: int
    """Refits that did not converge."""
    influence: Floats | None
    """(clusters, p) shift of each parameter when a cluster is left out, in standard errors."""
    residuals: Floats
    r2_log: float
    constant: tuple[str, ...]
    told_across: frozenset[str]
    """Predictors whose effect all groups share, so that the rows of one group are not all there is."""
    solver: SolverReport
    frontier: NDArray[np.int64] | None
    """Table indices of the group's frontier; None for laws in several predictors."""
    on_frontier: bool
    """Whether only the frontier was fitted."""
    all_rows: Rows
    """The group's rows before the frontier was chosen."""


def diagnose(evidence: Evidence) -> tuple[tuple[Warning, ...], tuple[str, ...]]:
    """All warnings about a fit, most severe first, and the parameters that are not identified."""
    checks = (_size, _levels, _confounding, _offset, _exponents, _solver, _influence, _misfit, _frontier)
    warnings = [warning for check in checks for warning in check(evidence)]
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(warnings, key=lambda warning: order[warning.severity])), tuple(_unidentified(evidence))


def _exponent_of(form: Form, predictor: str) -> str:
    """The parameter of a predictor, for messages."""
    if isinstance(form, PowerSum):
        for term in form.terms:
            for name, exponent in term.exponents:
                if name == predictor:
                    return exponent
    return predictor


def _term_of(form: PowerSum, exponent: str) -> str:
    return next(term.amplitude for term in form.terms if exponent in [name for _, name in term.exponents])


def _size(evidence: Evidence) -> Iterator[Warning]:
    num, free = len(evidence.rows), evidence.num_free
    if num < free + 2:
        yield Warning(
            "too-few-rows",
            "error",
            f"{num} rows for {free} parameters: the law follows its noise; at least {free + 2} are needed, better "
            f"{4 * free}.",
        )
    clusters = len(np.unique(evidence.rows.clusters))
    if clusters < 10 and clusters < num:
        yield Warning(
            "few-clusters",
            "warning",
            f"only {clusters} independent clusters: intervals are rough and probably too narrow.",
        )
    yield from _checkpoints(evidence)
    _, first, counts = np.unique(
        np.column_stack([evidence.rows.x, evidence.rows.y]), axis=0, return_index=True, return_counts=True
    )
    if (counts > 1).any():
        doubled = evidence.rows.indices[np.sort(first[counts > 1])].tolist()
        yield Warning(
            "duplicate-rows",
            "warning",
            f"{int((counts - 1).sum())} rows repeat another one exactly (see {listed(doubled)}); a copy is not "
            "independent evidence and makes intervals too narrow.",
        )


def _checkpoints(evidence: Evidence) -> Iterator[Warning]:
    x = evidence.rows.x
    if evidence.clustered or evidence.frontier is not None or x.shape[1] < 2 or len(x) < 12:
        return
    levels = [len(np.unique(x[:, i])) for i in range(x.shape[1])]
    others = np.delete(x, int(np.argmax(levels)), axis=1)
    runs = len(np.unique(others, axis=0))
    if len(x) >= 6 * runs:
        varying = evidence.form.predictors[int(np.argmax(levels))]
        yield Warning(
            "checkpoints-as-rows",
            "warning",
            f"the {len(x)} rows have only {runs} combinations of predictors besides {varying}: if they are checkpoints "
            "of the same runs they are not independent; name the run's column as cluster for honest intervals.",
        )


def _levels(evidence: Evidence) -> Iterator[Warning]:
    form = evidence.form
    for exponent in evidence.constant:
        yield Warning(
            "constant-predictor",
            "error",
            f"{exponent.removeprefix('b_')} is the same in every row: {exponent} cannot be found and was left out.",
        )
    z = evidence.rows.inputs(form)
    for i, predictor in enumerate(form.predictors):
        exponent = _exponent_of(form, predictor)
        if exponent in evidence.constant or predictor in evidence.told_across:
            continue
        levels = len(np.unique(z[:, i]))
        if levels == 1:
            yield Warning(
                "constant-predictor",
                "error",
                f"{predictor} is the same in these rows: they say nothing about {exponent}.",
            )
            continue
        if levels < 3:
            yield Warning(
                "few-levels",
                "warning",
                f"{predictor} has only {levels} levels: {exponent} is a contrast between them, not evidence of a power "
                "law; it cannot be trusted between or beyond them.",
            )
        decades = np.ptp(z[:, i]) / np.log(10)
        if form.logarithmic and decades < 0.3:
            yield Warning(
                "narrow-range",
                "error" if decades < 0.1 else "warning",
                f"{predictor} covers a factor of only {10**decades:.2f}: {exponent} and its amplitude are not "
                "determined by so narrow a range.",
            )


def _confounding(evidence: Evidence) -> Iterator[Warning]:
    form, z = evidence.form, evidence.rows.inputs(evidence.form)
    varying = [
        i
        for i, predictor in enumerate(form.predictors)
        if _exponent_of(form, predictor) not in evidence.constant and np.ptp(z[:, i]) > 0
    ]
    if len(varying) < 2:
        return
    centred = z - z.mean(axis=0)
    explained = {a: _explained(centred, a, [i for i in varying if i != a]) for a in varying}
    most = max(varying, key=lambda a: explained[a])
    if explained[most] > 0.8:
        alike = [i for i in varying if i != most and explained[i] > 0.5]
        names = " and ".join(form.predictors[i] for i in alike)
        exponents = ", ".join(_exponent_of(form, form.predictors[i]) for i in sorted((most, *alike)))
        yield Warning(
            "confounded",
            "error" if explained[most] > 1 - 1e-9 else "warning",
            f"{form.predictors[most]} is {100 * explained[most]:.0f} % determined by {names} in these rows (in logs): "
            f"how the effect is divided among {exponents} is hardly known; trust their joint prediction only.",
        )
    yield from _nesting(form, evidence.rows.x, varying)


def _explained(centred: Floats, column: int, others: list[int]) -> float:
    """R^2 of one column of inputs by others."""
    left = centred[:, column] - centred[:, others] @ np.linalg.lstsq(centred[:, others], centred[:, column])[0]
    return 1 - float((left**2).sum() / (centred[:, column] ** 2).sum())


def _nesting(form: Form, x: Floats, varying: list[int]) -> Iterator[Warning]:
    codes = {i: np.unique(x[:, i], return_inverse=True)[1] for i in varying}
    levels = {i: int(codes[i].max()) + 1 for i in varying}
    for a in varying:
        if levels[a] == len(x) or levels[a] > max(8, min(len(x) // 3, MOST_NESTED)):
            continue
        for b in varying:
            if levels[b] < levels[a] and len(np.unique(codes[a] * levels[b] + codes[b])) == levels[a]:
                outer, inner = form.predictors[a], form.predictors[b]
                yield Warning(
                    "nested",
                    "warning",
                    f"{inner} has one value for each of the {levels[a]} values of {outer} ({levels[b]} in all): it "
                    f"never changes while {outer} stays, so their effects are told apart only by the shape of the law.",
                )


def _offset(evidence: Evidence) -> Iterator[Warning]:
    form = evidence.form
    if not isinstance(form, PowerSum) or form.offset is None or form.offset not in evidence.intervals:
        if isinstance(form, PowerSum) and form.offset and _vanished(evidence, form.offset):
            yield _offset_at_zero(form.offset)
        return
    name = form.offset
    low, high = evidence.intervals[name]
    assert low is not None
    assert high is not None
    span = float(np.ptp(evidence.rows.y))
    if _vanished(evidence, name):
        yield _offset_at_zero(name)
    elif high - low > span:
        yield Warning(
            "offset-uncertain",
            "warning",
            f"{name} = {evidence.estimate[name]:.4g} [{low:.4g}, {high:.4g}]: its interval is wider than the range of "
            f"y ({span:.4g}); predictions far beyond the data depend on it.",
        )
    yield from _offset_trade(evidence, name)


def _offset_at_zero(name: str) -> Warning:
    return Warning(
        "offset-at-zero",
        "warning",
        f"{name} ended at zero: these data show no offset; the law without one fits as well and is to be preferred.",
    )


def _offset_trade(evidence: Evidence, name: str) -> Iterator[Warning]:
    form = evidence.form
    assert isinstance(form, PowerSum)
    draws = form.to_reported(evidence.draws)
    j = form.parameters.index(name)
    exponents = [exponent for term in form.terms for _, exponent in term.exponents]
    for exponent in exponents:
        other = draws[:, form.parameters.index(exponent)]
        if exponent in evidence.constant or np.ptp(other) == 0 or np.ptp(draws[:, j]) == 0:
            continue
        correlation = float(np.corrcoef(other, draws[:, j])[0, 1])
        if abs(correlation) > 0.9:
            yield Warning(
                "offset-against-exponent",
                "info",
                f"{name} and {exponent} trade off (correlation {correlation:.2f} over the bootstrap): neither is to be "
                "quoted without the other.",
            )


def _exponents(evidence: Evidence) -> Iterator[Warning]:
    if not isinstance(evidence.form, PowerSum):
        return
    for term in evidence.form.terms:
        for predictor, exponent in term.exponents:
            low, high = evidence.intervals.get(exponent, (None, None))
            if low is not None and high is not None and low <= 0 <= high and low < high:
                yield Warning(
                    "exponent-near-zero",
                    "warning",
                    f"{exponent} = {evidence.estimate[exponent]:.3g} [{low:.3g}, {high:.3g}] contains zero: these data "
                    f"do not show that {predictor} matters.",
                )
        if term.exponents and _vanished(evidence, term.amplitude):
            yield Warning(
                "term-vanished",
                "error",
                f"the term of {term.amplitude} ended at zero: the data show no effect of "
                f"{', '.join(predictor for predictor, _ in term.exponents)} of this form.",
            )


def _solver(evidence: Evidence) -> Iterator[Warning]:
    solver, draws = evidence.solver, len(evidence.draws)
    for name in solver.at_bound:
        if not (isinstance(evidence.form, PowerSum) and name in evidence.form.amplitudes):
            yield Warning(
                "bound-hit",
                "error",
                f"{name} ended at the bound {evidence.estimate[name]:.4g}: the data want it beyond, its value is the "
                "bound's.",
            )
    if not solver.converged:
        yield Warning(
            "not-converged",
            "error",
            f"the solver stopped while a step still promised {solver.decrement:.1e} of the objective: treat all "
            "numbers as approximate.",
        )
    if solver.agreement < 0.5:
        yield Warning(
            "starts-disagree",
            "warning",
            f"only {100 * solver.agreement:.0f} % of the polished starts reached the best minimum: the objective has "
            "several, and the parameters are poorly determined.",
        )
    for name in solver.unmoved:
        yield Warning("unmoved-start", "error", f"{name} never left its start: its value is a guess, not a fit.")
    if draws and evidence.num_failed > 0.05 * draws:
        yield Warning(
            "failed-refits",
            "info",
            f"{evidence.num_failed} of {draws} bootstrap refits did not converge fully (flat objective); their values "
            "were kept.",
        )


def _influence(evidence: Evidence) -> Iterator[Warning]:
    if evidence.influence is None or evidence.influence.size == 0:
        return
    cluster, j = np.unravel_index(int(np.argmax(np.abs(evidence.influence))), evidence.influence.shape)
    shift = float(evidence.influence[cluster, j])
    if abs(shift) > 1:
        rows = evidence.rows.indices[evidence.rows.clusters == cluster].tolist()
        yield Warning(
            "influential-row",
            "warning",
            f"leaving out {listed(rows)} moves {evidence.form.parameters[j]} by {abs(shift):.1f} standard errors: look "
            "at it before trusting the law.",
        )


def _misfit(evidence: Evidence) -> Iterator[Warning]:
    if evidence.r2_log < 0.5:
        yield Warning(
            "poor-fit", "warning", f"R^2 of log y is {evidence.r2_log:.2f}: the law explains less than half of it."
        )
    _, cells = np.unique(evidence.rows.x, axis=0, return_inverse=True)
    counts = np.bincount(cells.ravel())
    repeats, others = int((counts - 1).sum()), int(len(counts) - evidence.num_free)
    if repeats < 3 or others < 1:
        return
    means = np.bincount(cells.ravel(), evidence.residuals) / counts
    pure = float(((evidence.residuals - means[cells.ravel()]) ** 2).sum()) / repeats
    lack = float((counts * means**2).sum()) / others
    if pure > 0 and lack > pure * _f_limit(others, repeats):
        yield Warning(
            "lack-of-fit",
            "warning",
            f"the law misses by {100 * np.sqrt(lack):.1f} %, repeated runs differ by {100 * np.sqrt(pure):.1f} %: a "
            "real effect is not in the law.",
        )


def _f_limit(upper: int, lower: int) -> float:
    from scipy import stats

    return float(stats.f.ppf(0.99, upper, lower))


def _frontier(evidence: Evidence) -> Iterator[Warning]:
    if evidence.frontier is None:
        return
    everything, num = evidence.all_rows, len(evidence.frontier)
    if not evidence.on_frontier and num < len(everything):
        yield Warning(
            "dominated-rows",
            "info",
            f"{len(everything) - num} of {len(everything)} rows are beaten by a run of no more compute: this law is "
            "the average of them, not the frontier; fit with frontier to get that.",
        )
    if not evidence.on_frontier:
        return
    decades = float(np.log10(evidence.rows.x[:, 0].max() / evidence.rows.x[:, 0].min()))
    if num < 5 or decades < 1.5:
        yield Warning(
            "frontier-short",
            "warning",
            f"the frontier has {num} of {len(everything)} runs over {decades:.1f} decades of compute; five runs and "
            "1.5 decades are the least for an exponent.",
        )
    yield from _frontier_sizes(evidence)


def _frontier_sizes(evidence: Evidence) -> Iterator[Warning]:
    rows, everything = evidence.rows, evidence.all_rows
    if rows.sizes is None or everything.sizes is None:
        return
    sizes, counts = np.unique(rows.sizes, return_counts=True)
    if len(rows) > 1 and counts.max() > len(rows) / 2:
        yield Warning(
            "frontier-one-size",
            "warning",
            f"{int(counts.max())} of the frontier's {len(rows)} runs are of model {sizes[int(counts.argmax())]}: the "
            "law is that model's learning curve more than a law of compute.",
        )
    edges = []
    for size in sizes.tolist():
        end = everything.x[everything.sizes == size, 0].max()
        if rows.x[rows.sizes == size, 0].max() == end < rows.x[:, 0].max():
            edges.append(size)
    if edges:
        yield Warning(
            "frontier-edge",
            "info",
            f"model {', '.join(edges)}: still on the frontier where its training ended; longer runs may "
            "lower the frontier.",
        )


def _vanished(evidence: Evidence, amplitude: str) -> bool:
    """Whether an amplitude ended so low that its term is nothing beside the smallest y."""
    form = evidence.form
    assert isinstance(form, PowerSum)
    term = next(term for term in form.terms if term.amplitude == amplitude)
    if form.log10_amplitude:
        return False
    if not term.exponents:
        return evidence.estimate[amplitude] < 1e-6 * evidence.rows.y.min()
    return amplitude in evidence.solver.at_bound


def _unidentified(evidence: Evidence) -> Iterator[str]:
    form = evidence.form
    if not isinstance(form, PowerSum):
        yield from evidence.solver.at_bound
        return
    bad = {*evidence.constant, *evidence.solver.at_bound}
    z = evidence.rows.inputs(form)
    for i, predictor in enumerate(form.predictors):
        exponent = _exponent_of(form, predictor)
        if predictor in evidence.told_across:
            continue
        if np.ptp(z[:, i]) < 0.1 * np.log(10) and exponent in evidence.intervals:
            bad |= {exponent, _term_of(form, exponent)}
    for term in form.terms:
        if _vanished(evidence, term.amplitude):
            bad |= {term.amplitude, *(name for _, name in term.exponents)}
    yield from (name for name in form.parameters if name in bad)
