"""Diagnosis of a fit: coded warnings, each with a sentence for the user.

Severity: info: good to know; warning: read it before using a number; error: names a number not to use. docs/laws.md
lists all codes with what to do about each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

from polyglance.laws.equations.form import Form
from polyglance.laws.fitting.accuracy import r_squared
from polyglance.laws.fitting.columns import notice_copies
from polyglance.laws.fitting.layout import Layout
from polyglance.laws.fitting.levels import AlikeLevels
from polyglance.laws.fitting.rows import Rows
from polyglance.laws.law import Fit, LawWarning
from polyglance.laws.tables.table import list_rows

__all__ = ["Evidence", "InfluentialRun", "diagnose"]

_MOST_NESTED = 200
"""Largest number of levels of a predictor that is examined as a grouping of runs."""
_CHECKPOINT_ALIKENESS = 2.6
"""Threshold for the sum of products of the signs of neighbouring residuals, in standard deviations."""
_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, kw_only=True)
class InfluentialRun:
    """A run whose removal changes the law by more than noise."""

    cluster: int
    parameter: str
    """Parameter that moves most when the run is left out."""
    shift: float
    """Change of the parameter, in standard errors."""
    distance: float
    """Largest distance of the run's rows from the law fitted without them, in log y."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One group's fit, and what else the diagnosis needs. Shapes: n rows, p parameters."""

    fit: Fit
    """The fit, without warnings."""
    rows: Rows
    """Rows that were fitted."""
    all_rows: Rows
    """Rows of the group before the frontier was chosen."""
    layout: Layout
    has_clusters: bool
    """Whether the user named a cluster column."""
    num_failed: int
    """Bootstrap refits that did not converge."""
    influential: InfluentialRun | None
    """The run that moves the law by more than noise would, if there is one."""
    on_frontier: bool
    """Whether only the frontier was fitted."""
    levels: AlikeLevels | None
    """Levels of a predictor whose rows the bootstrap drew together."""

    @property
    def form(self) -> Form:
        return self.fit.form

    def has_vanished(self, amplitude: str) -> bool:
        """Tell whether an amplitude ended so low that its term adds nothing even to the smallest y."""
        if amplitude not in self.form.positive:
            return False
        if amplitude == self.form.offset:
            return self.fit.parameters[amplitude] < 1e-6 * self.rows.y.min()
        solver = self.fit.solver
        return amplitude in solver.at_bound and amplitude not in solver.at_user_bound


def diagnose(evidence: Evidence) -> tuple[tuple[LawWarning, ...], tuple[str, ...]]:
    """Return all warnings about a fit, most severe first, and the parameters that are not identified."""
    checks = (
        *(_check_size, _check_checkpoints, _check_alike, _check_duplicates, _check_levels, _check_confounding),
        *(_check_nesting, _check_offset, _check_exponents, _check_solver, _check_influence, _check_misfit),
        *(_check_frontier, _check_frontier_sizes),
    )
    warnings = [warning for check in checks for warning in check(evidence)]
    by_severity = sorted(warnings, key=lambda warning: _SEVERITIES.index(warning.severity))
    return tuple(by_severity), tuple(_list_unidentified(evidence))


def _check_size(evidence: Evidence) -> Iterator[LawWarning]:
    num, free = len(evidence.rows), len(evidence.layout.free)
    if num < free + 2:
        yield LawWarning(
            "too-few-rows",
            "error",
            f"{num} rows for {free} parameters: the law follows the noise; at least {free + 2} rows are needed, better "
            f"{4 * free}.",
        )
    if not evidence.layout.has_noise:
        runs = evidence.layout.num_clusters
        yield LawWarning(
            "no-interval",
            "error",
            f"{runs} independent runs for {free} parameters: the law passes through them, and nothing is left to tell "
            "how far it may be off; it has no interval, and neither has any prediction or plan made with it.",
        )
    clusters = len(np.unique(evidence.rows.clusters))
    if clusters < 10 and clusters < num:
        yield LawWarning(
            "few-clusters",
            "warning",
            f"only {clusters} independent clusters: intervals are rough and probably too narrow.",
        )


def _check_checkpoints(evidence: Evidence) -> Iterator[LawWarning]:
    x = evidence.rows.x
    if evidence.has_clusters or x.shape[1] < 2 or len(x) < 12:
        return
    levels = [len(np.unique(column)) for column in x.T]
    most = int(np.argmax(levels))
    _, runs = np.unique(np.delete(x, most, axis=1), axis=0, return_inverse=True)
    num_runs = int(runs.max()) + 1
    if len(x) < 6 * num_runs:
        return
    order = np.lexsort((x[:, most], runs.ravel()))
    follows = runs.ravel()[order[1:]] == runs.ravel()[order[:-1]]
    signs = np.sign(evidence.fit.residuals - np.median(evidence.fit.residuals))
    alike = (signs[order[1:]] * signs[order[:-1]])[follows]
    if alike.sum() < _CHECKPOINT_ALIKENESS * np.sqrt(len(alike)):
        return
    name = evidence.form.predictors[most]
    otherwise = "" if evidence.levels else ", or the intervals are too narrow"
    yield LawWarning(
        "checkpoints-as-rows",
        "warning",
        f"the {len(x)} rows have only {num_runs} combinations of predictors besides {name}, and residuals that follow "
        f"one another along {name} are alike: if they are checkpoints of the same runs, or share their data, they are "
        f"not independent; name the column of the run as cluster{otherwise}.",
    )


def _check_alike(evidence: Evidence) -> Iterator[LawWarning]:
    levels = evidence.levels
    if levels is not None:
        yield LawWarning(
            "alike-levels",
            "info",
            f"runs with the same {levels.predictor} miss the law together ({100 * levels.share:.0f} % of the variance "
            f"of the residuals): the bootstrap draws them together, as {levels.num_levels} clusters, and intervals are "
            "wider for it; a cluster column, where one is named, is used instead.",
        )


def _check_duplicates(evidence: Evidence) -> Iterator[LawWarning]:
    return notice_copies(evidence.rows)


def _check_levels(evidence: Evidence) -> Iterator[LawWarning]:
    form, layout, z = evidence.form, evidence.layout, evidence.rows.inputs(evidence.form)
    for predictor, exponent in layout.constant.items():
        yield LawWarning(
            "constant-predictor",
            "error",
            f"{predictor} is the same in every row: {exponent} cannot be determined and was left out.",
        )
    for predictor, column in zip(form.predictors, z.T, strict=True):
        if predictor in layout.constant or predictor in layout.shared_predictors:
            continue
        exponent, levels = form.exponent_of(predictor), len(np.unique(column))
        if levels == 1:
            yield LawWarning(
                "constant-predictor",
                "error",
                f"{predictor} is the same in these rows: they do not determine {exponent}.",
            )
            continue
        if levels < 3:
            yield LawWarning(
                "few-levels",
                "warning",
                f"{predictor} has only {levels} levels: {exponent} is a contrast between them, not evidence of a power "
                "law; it cannot be trusted between or beyond them.",
            )
        decades = np.ptp(column) / np.log(10)
        if form.logarithmic and decades < 0.3:
            yield LawWarning(
                "narrow-range",
                "error" if decades < 0.1 else "warning",
                f"{predictor} covers a factor of only {10**decades:.2f}: {exponent} and its amplitude are not "
                "determined by so narrow a range.",
            )


def _list_varying(evidence: Evidence) -> list[int]:
    """Return the positions of the predictors that vary and have a free exponent."""
    names, x = evidence.form.predictors, evidence.rows.x
    return [i for i, name in enumerate(names) if name not in evidence.layout.constant and np.ptp(x[:, i]) > 0]


def _check_confounding(evidence: Evidence) -> Iterator[LawWarning]:
    form, varying = evidence.form, _list_varying(evidence)
    if len(varying) < 2:
        return
    z = evidence.rows.inputs(form)
    z = z - z.mean(axis=0)
    explained = {}
    for i in varying:
        others = z[:, [j for j in varying if j != i]]
        explained[i] = r_squared(z[:, i], others @ np.linalg.lstsq(others, z[:, i])[0])
    most = max(varying, key=lambda i: explained[i])
    if explained[most] > 0.8:
        alike = [i for i in varying if i != most and explained[i] > 0.5]
        names = " and ".join(form.predictors[i] for i in alike)
        exponents = ", ".join(form.exponent_of(form.predictors[i]) for i in sorted((most, *alike)))
        yield LawWarning(
            "confounded",
            "error" if explained[most] > 1 - 1e-9 else "warning",
            f"{form.predictors[most]} is {100 * explained[most]:.0f} % determined by {names} in these rows (in logs): "
            f"the division of the effect among {exponents} is hardly known; trust their joint prediction only.",
        )


def _check_nesting(evidence: Evidence) -> Iterator[LawWarning]:
    x, varying = evidence.rows.x, _list_varying(evidence)
    codes = {i: np.unique(x[:, i], return_inverse=True)[1] for i in varying}
    levels = {i: int(codes[i].max()) + 1 for i in varying}
    for a in varying:
        if levels[a] == len(x) or levels[a] > max(8, min(len(x) // 3, _MOST_NESTED)):
            continue
        for b in varying:
            if levels[b] < levels[a] and len(np.unique(codes[a] * levels[b] + codes[b])) == levels[a]:
                outer, inner = evidence.form.predictors[a], evidence.form.predictors[b]
                yield LawWarning(
                    "nested",
                    "warning",
                    f"{inner} has one value for each of the {levels[a]} values of {outer} ({levels[b]} in all): it "
                    f"never changes while {outer} stays, so only the shape of the law separates their effects.",
                )


def _check_offset(evidence: Evidence) -> Iterator[LawWarning]:
    fit, name = evidence.fit, evidence.form.offset
    if name is None:
        return
    low, high = fit.intervals.get(name, (None, None))
    span = float(np.ptp(evidence.rows.y))
    if low is not None and high is not None and high - low > span:
        yield LawWarning(
            "offset-uncertain",
            "warning",
            f"{name} = {fit.parameters[name]:.4g} [{low:.4g}, {high:.4g}]: its interval is wider than the range of "
            f"{fit.transform.describe('y')} ({span:.4g}); predictions far beyond the data depend on it.",
        )
    elif evidence.has_vanished(name):
        yield LawWarning(
            "offset-at-zero",
            "warning",
            f"{name} ended at zero: these data show no offset; the law without one fits as well and is to be "
            "preferred.",
        )
    if name in fit.intervals:
        yield from _check_offset_correlation(evidence, name)


def _check_offset_correlation(evidence: Evidence, name: str) -> Iterator[LawWarning]:
    form, fit = evidence.form, evidence.fit
    draws = dict(zip(form.parameters, form.to_reported(fit.at_origin(fit.draws)).T, strict=True))
    for predictor, exponent in (pair for term in form.terms for pair in term.exponents):
        if predictor in evidence.layout.constant or np.ptp(draws[exponent]) == 0 or np.ptp(draws[name]) == 0:
            continue
        correlation = float(np.corrcoef(draws[exponent], draws[name])[0, 1])
        if abs(correlation) > 0.9:
            yield LawWarning(
                "offset-against-exponent",
                "info",
                f"{name} and {exponent} trade off (correlation {correlation:.2f} over the bootstrap): quote neither "
                "without the other.",
            )


def _check_exponents(evidence: Evidence) -> Iterator[LawWarning]:
    for term in evidence.form.terms:
        for predictor, exponent in term.exponents:
            low, high = evidence.fit.intervals.get(exponent, (None, None))
            if low is not None and high is not None and low <= 0 <= high and low < high:
                yield LawWarning(
                    "exponent-near-zero",
                    "warning",
                    f"{exponent} = {evidence.fit.parameters[exponent]:.3g} [{low:.3g}, {high:.3g}] contains zero: "
                    f"these data do not show that {predictor} matters.",
                )
        if term.exponents and evidence.has_vanished(term.amplitude):
            yield LawWarning(
                "term-vanished",
                "error",
                f"the term of {term.amplitude} ended at zero: the data show no effect of "
                f"{', '.join(predictor for predictor, _ in term.exponents)} of this form.",
            )


def _check_solver(evidence: Evidence) -> Iterator[LawWarning]:
    solver, num_draws = evidence.fit.solver, len(evidence.fit.draws)
    amplitudes = {term.amplitude for term in evidence.form.terms}
    for name in solver.at_bound:
        if name not in amplitudes or name in solver.at_user_bound:
            yield LawWarning(
                "bound-hit",
                "error",
                f"{name} ended at the bound {evidence.fit.parameters[name]:.4g}: a better value lies beyond it; this "
                "value is that of the bound.",
            )
    if not solver.converged:
        yield LawWarning(
            "not-converged",
            "error",
            f"the solver stopped while a step still promised {solver.decrement:.1e} of the objective: treat all "
            "numbers as approximate.",
        )
    if solver.agreement < 0.5:
        yield LawWarning(
            "starts-disagree",
            "warning",
            f"only {100 * solver.agreement:.0f} % of the polished starts reached the best minimum: the objective has "
            "several, and the parameters are poorly determined.",
        )
    for name in () if solver.converged else solver.unmoved:  # a start may be the optimum
        yield LawWarning("unmoved-start", "error", f"{name} never left its start: its value is a guess, not a fit.")
    if num_draws and evidence.num_failed > 0.05 * num_draws:
        yield LawWarning(
            "failed-refits",
            "info",
            f"{evidence.num_failed} of {num_draws} bootstrap refits did not converge fully (flat objective); their "
            "values were kept.",
        )


def _check_influence(evidence: Evidence) -> Iterator[LawWarning]:
    run = evidence.influential
    if run is None:
        return
    rows = list_rows(evidence.rows.indices[evidence.rows.clusters == run.cluster].tolist())
    far = np.expm1(min(run.distance, 50.0))
    moves = f"without it {run.parameter} moves by {run.shift:.1f} standard errors"
    yield LawWarning(
        "influential-row",
        "warning" if run.shift > 1 else "info",
        f"{rows} lies {100 * far:.2g} %{_describe_quantity(evidence)} off the law of the others, more than "
        f"noise explains; {moves}: examine it before trusting the law.",
    )


def _describe_quantity(evidence: Evidence) -> str:
    """Return ` of 1 - y` where residuals are those of a transformed y."""
    transform = evidence.fit.transform
    return f" of {transform.describe('y')}" if transform.is_score else ""


def _check_misfit(evidence: Evidence) -> Iterator[LawWarning]:
    r2, residuals = evidence.fit.r2_log, evidence.fit.residuals
    if r2 < 0.5:
        what = "log y" if not evidence.fit.transform.is_score else f"the log of {evidence.fit.transform.describe('y')}"
        yield LawWarning("poor-fit", "warning", f"R^2 of {what} is {r2:.2f}: the law explains less than half of it.")
    _, cells = np.unique(evidence.rows.x, axis=0, return_inverse=True)
    counts = np.bincount(cells.ravel())
    repeats, others = int((counts - 1).sum()), int(len(counts) - len(evidence.layout.free))
    if repeats < 3 or others < 1:
        return
    means = np.bincount(cells.ravel(), residuals) / counts
    pure = float(((residuals - means[cells.ravel()]) ** 2).sum()) / repeats
    lack = float((counts * means**2).sum()) / others
    if pure > 0 and lack > pure * float(special.fdtri(others, repeats, 0.99)):
        yield LawWarning(
            "lack-of-fit",
            "warning",
            f"the law misses by {100 * np.sqrt(lack):.1f} %{_describe_quantity(evidence)}, repeated runs differ by "
            f"{100 * np.sqrt(pure):.1f} %: the law lacks a real effect.",
        )


def _check_frontier(evidence: Evidence) -> Iterator[LawWarning]:
    num, num_all, compute = len(evidence.fit.frontier), len(evidence.all_rows), evidence.rows.x[:, 0]
    if len(evidence.form.predictors) > 1:
        return
    if not evidence.on_frontier:
        if num < num_all:
            yield LawWarning(
                "dominated-rows",
                "info",
                f"for {num_all - num} of {num_all} rows another run has a better y at no more compute: this law is "
                "an average over all rows, not the frontier; fit the frontier to get that.",
            )
        return
    decades = float(np.log10(compute.max() / compute.min()))
    if num < 5 or decades < 1.5:
        yield LawWarning(
            "frontier-short",
            "warning",
            f"the frontier has {num} of {num_all} runs over {decades:.1f} decades of compute; an exponent needs at "
            "least five runs and 1.5 decades.",
        )


def _check_frontier_sizes(evidence: Evidence) -> Iterator[LawWarning]:
    rows, all_rows = evidence.rows, evidence.all_rows
    if not evidence.on_frontier or rows.sizes is None or all_rows.sizes is None:
        return
    sizes, counts = np.unique(rows.sizes, return_counts=True)
    if len(rows) > 1 and counts.max() > len(rows) / 2:
        yield LawWarning(
            "frontier-one-size",
            "warning",
            f"{int(counts.max())} of the frontier's {len(rows)} runs are of model {sizes[int(counts.argmax())]}: the "
            "law is the learning curve of that model more than a law of compute.",
        )
    edges = []
    for size in sizes.tolist():
        end = all_rows.x[all_rows.sizes == size, 0].max()
        if rows.x[rows.sizes == size, 0].max() == end < rows.x[:, 0].max():
            edges.append(size)
    if edges:
        yield LawWarning(
            "frontier-edge",
            "info",
            f"model {', '.join(edges)}: still on the frontier at the end of its training; longer runs may lower the "
            "frontier.",
        )


def _list_unidentified(evidence: Evidence) -> Iterator[str]:
    """Return the parameters, in order, at a bound, or of a constant or narrow predictor or a vanished term."""
    form, layout, z = evidence.form, evidence.layout, evidence.rows.inputs(evidence.form)
    unidentified = {*layout.constant.values(), *evidence.fit.solver.at_bound}
    narrow = {
        predictor
        for predictor, column in zip(form.predictors, z.T, strict=True)
        if predictor not in layout.shared_predictors and np.ptp(column) < 0.1 * np.log(10)
    }
    for term in form.terms:
        for predictor, exponent in term.exponents:
            if predictor in narrow and exponent in evidence.fit.intervals:
                unidentified |= {exponent, term.amplitude}
        if evidence.has_vanished(term.amplitude):
            unidentified |= {term.amplitude, *dict(term.exponents).values()}
    yield from (name for name in form.parameters if name in unidentified)
