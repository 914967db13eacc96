"""The solver's problem, made from rows and options: which parameters are free, fixed, bounded or shared.

The solver's free vector holds log amplitudes at the reference point (the geometric mean of the inputs) and exponents.
An amplitude that the user fixed or bounded, or that groups share, is free at the origin instead, because such values
refer to the origin. Shapes: n rows, k predictors, p parameters of a form, q free parameters, R parameter sets.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats, Indices
from polyglance.laws.config import FitConfig
from polyglance.laws.equations.form import Form
from polyglance.laws.fitting.rows import ALL, Rows
from polyglance.laws.fitting.solve import POLISH, SCAN, Block, FitProblem, Solution, minimise
from polyglance.settings import UnusedSettingError

__all__ = ["MANY_ROWS", "FreeParameter", "Layout", "Sample", "lay_out", "minimise_from_starts"]

MANY_ROWS = 20_000
"""With more rows than this, starts are made and ranked on a sample of this many rows."""
_FEWEST_RUNS = 500
"""Smallest number of clusters of a sample, if the table has as many."""
FreeParameter = tuple[str, str | None]
"""Name and group of a free parameter; the group is None where all groups share it."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A problem with the meaning of its free parameters. The rows of the groups follow one another."""

    form: Form
    problem: FitProblem
    reference: Floats
    """(k,)"""
    groups: Mapping[str, Rows]
    free: tuple[FreeParameter, ...]
    at_origin: frozenset[str]
    """Amplitudes that are free at the origin."""
    constant: Mapping[str, str]
    """Predictor -> its exponent, where the predictor never changes and the exponent is fixed at zero."""
    shared_predictors: frozenset[str]
    """Predictors whose effect all groups share."""
    tie: Mapping[str, str]
    """Exponent -> the exponent that it is equal to."""

    @cached_property
    def y(self) -> Floats:
        return np.concatenate([rows.y for rows in self.groups.values()])

    @cached_property
    def weights(self) -> Floats:
        return np.concatenate([rows.weights for rows in self.groups.values()])

    @cached_property
    def clusters(self) -> Indices:
        """(n,) cluster of each row; clusters of different groups are different."""
        numbers, used = [], 0
        for rows in self.groups.values():
            numbers.append(rows.clusters + used)
            used += int(rows.clusters.max()) + 1
        return np.concatenate(numbers)

    @property
    def num_clusters(self) -> int:
        return int(self.clusters.max()) + 1

    @property
    def has_noise(self) -> bool:
        """Whether there are more independent runs than free parameters. If not, the law passes through all runs, and
        its error cannot be estimated."""
        return self.num_clusters > len(self.free)

    def find_user_bounds(self, config: FitConfig) -> Floats:
        """Return the user's bounds on the solver's scale, (q, 2); nan where there is none."""
        ends = np.full((len(self.free), 2), np.nan)
        for i, (name, _) in enumerate(self.free):
            if name in config.bounds:
                ends[i] = [_to_internal(self.form, name, end) for end in config.bounds[name]]
        return ends

    def block(self, label: str) -> Block:
        return self.problem.blocks[list(self.groups).index(label)]

    def position(self, parameter: str, label: str) -> int | None:
        """Return the position of a group's parameter in the free vector; None if it is fixed."""
        parameter = self.tie.get(parameter, parameter)
        for key in ((parameter, label), (parameter, None)):
            if key in self.free:
                return self.free.index(key)
        return None

    @cached_property
    def starts(self) -> Floats:
        """Free vectors (starts, q) from the data; a shared parameter gets the mean over the groups' starts."""
        sample = self.draw_sample(MANY_ROWS)
        by_group = {
            label: self.form.starts(inputs, np.log(self.y[rows])) for label, inputs, rows in sample.list_groups(self)
        }
        to_origin = np.linalg.inv(self.form.centring(self.reference))
        columns = []
        for parameter, label in self.free:
            j = self.form.parameters.index(parameter)
            chosen = [by_group[label]] if label is not None else list(by_group.values())
            thetas = [theta @ to_origin.T if parameter in self.at_origin else theta for theta in chosen]
            columns.append(np.mean([theta[:, j] for theta in thetas], axis=0))
        return np.stack(columns, axis=1)

    def draw_sample(self, limit: int, most: int = MANY_ROWS) -> "Sample":
        """Return whole clusters at random, with about `limit` rows in all; every row if there are no more rows.

        Clusters are drawn at the same rate in all groups. If they are so large that few would be left, more are taken.
        If these have more than `most` rows, rows within clusters are drawn as well; the noise within runs then counts
        too much, which makes intervals too wide, not too narrow.
        """
        num_rows = len(self.y)
        everything = Sample(problem=self.problem, rows=np.arange(num_rows), num_clusters=self.num_clusters)
        smallest = min(map(len, self.groups.values()))
        rate = max(limit / num_rows, min(1.0, 50 * len(self.free) / smallest))
        if rate >= 1:
            return everything
        rng = np.random.default_rng(num_rows)
        kept = max(round(rate * self.num_clusters), min(_FEWEST_RUNS, self.num_clusters))
        chosen = np.zeros(self.num_clusters, dtype=bool)
        chosen[rng.permutation(self.num_clusters)[:kept]] = True
        rows = np.flatnonzero(chosen[self.clusters])
        most = max(round(1.5 * rate * num_rows), most)
        if len(rows) > most:
            rows = np.sort(rng.permutation(rows)[:most])
        blocks, begin = [], 0
        for block, group in zip(self.problem.blocks, self.groups.values(), strict=True):
            inside = rows[(rows >= block.rows[0]) & (rows <= block.rows[-1])] - block.rows[0]
            design = self.form.design(group.inputs(self.form)[inside] - self.reference)
            blocks.append(replace(block, design=design, rows=np.arange(begin, begin + len(inside))))
            begin += len(inside)
        num_clusters = len(np.unique(self.clusters[rows]))
        return Sample(problem=replace(self.problem, blocks=tuple(blocks)), rows=rows, num_clusters=num_clusters)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Some rows of a layout, as a problem of their own."""

    problem: FitProblem
    rows: Indices
    """(m,) positions in the layout."""
    num_clusters: int
    """Clusters with a row in the sample."""

    def list_groups(self, layout: Layout) -> Iterator[tuple[str, Floats, Indices]]:
        """Yield each group with its inputs (m, k) about the reference, and the positions of its rows in the layout."""
        for block, (label, group) in zip(layout.problem.blocks, layout.groups.items(), strict=True):
            rows = self.rows[(self.rows >= block.rows[0]) & (self.rows <= block.rows[-1])]
            yield label, group.inputs(layout.form)[rows - block.rows[0]] - layout.reference, rows


def minimise_from_starts(layout: Layout, weights: Floats, num_polished: int) -> Solution:
    """Scan the starts from the data, and minimise from the best of them.

    Args:
        weights: (K, n), one set of row weights per problem; zero leaves a row out.
        num_polished: number of starts per problem that are followed to the end.

    Returns:
        The polished starts (K * polished, q), problem by problem.
    """
    starts = layout.starts
    sample = layout.draw_sample(MANY_ROWS)
    problem, rows = sample.problem, sample.rows
    num_problems = len(weights)
    scanned = minimise(
        problem,
        np.tile(starts, (num_problems, 1)),
        layout.y[None, rows],
        _repeat_weights(weights[:, rows], len(starts)),
        SCAN,
    )
    values = np.where(np.isfinite(scanned.value), scanned.value, np.inf).reshape(num_problems, -1)
    best = np.argsort(values, axis=1, kind="stable")[:, :num_polished]
    chosen = scanned.free.reshape(num_problems, len(starts), -1)[np.arange(num_problems)[:, None], best]
    chosen, effort, count = chosen.reshape(-1, starts.shape[1]), POLISH, best.shape[1]
    if len(rows) < len(layout.y):  # most of the way on the sample
        chosen = minimise(problem, chosen, layout.y[None, rows], _repeat_weights(weights[:, rows], count)).free
        effort = replace(POLISH, coarsest=2 * float(np.sqrt(len(layout.free) / len(rows))))
    return minimise(layout.problem, chosen, layout.y[None], _repeat_weights(weights, count), effort)


def _repeat_weights(weights: Floats, count: int) -> Floats:
    """Return weights (K * count, n); a single set stays (1, n), which saves memory on large tables."""
    return weights if len(weights) == 1 else np.repeat(weights, count, axis=0)


def lay_out(config: FitConfig, form: Form, groups: Mapping[str, Rows]) -> Layout:
    """Return the layout of one (joint) fit.

    Raises:
        ValueError: an option names an unknown parameter, or the rows do not determine a law.
    """
    _check_names(config, form)
    inputs = {label: rows.inputs(form) for label, rows in groups.items()}
    reference = form.reference(np.concatenate(list(inputs.values())))
    shared = set(config.share) if len(groups) > 1 else set()
    shared_predictors = frozenset(
        predictor
        for term in form.terms
        for predictor, exponent in term.exponents
        if {term.amplitude, exponent} <= shared
    )
    constant = _find_constant_predictors(form, inputs, shared_predictors)
    fixed = {**dict.fromkeys(constant.values(), 0.0), **config.fix}
    free = tuple(
        (name, None if name in shared else label)
        for label in groups
        for name in form.parameters
        if name not in fixed and name not in config.tie and (name not in shared or label == next(iter(groups)))
    )
    if not free:
        raise ValueError("every parameter is fixed; leave at least one of them out of fix")
    amplitudes = {term.amplitude for term in form.terms if term.exponents}
    at_origin = frozenset(amplitudes & (set(config.fix) | set(config.bounds) | shared))
    blocks, begin = [], 0
    for label, z in inputs.items():
        matrix, shift = _map_parameters(form, reference, free, label, fixed, at_origin, config.tie)
        rows = np.arange(begin, begin + len(z))
        blocks.append(Block(form=form, design=form.design(z - reference), rows=rows, matrix=matrix, shift=shift))
        begin += len(z)
    log_y = np.log(np.concatenate([rows.y for rows in groups.values()]))
    lower, upper = _make_bounds(config, form, free, at_origin, log_y)
    problem = FitProblem(blocks=tuple(blocks), objective=config.make_objective(), lower=lower, upper=upper)
    return Layout(
        form=form,
        problem=problem,
        reference=reference,
        groups=groups,
        free=free,
        at_origin=at_origin,
        constant=constant,
        shared_predictors=shared_predictors,
        tie=config.tie,
    )


def _check_names(config: FitConfig, form: Form) -> None:
    """Refuse parameters that the form does not have, and settings of one parameter that exclude each other."""
    left_out = {name for name, value in config.fix.items() if value == 0 and name in ("eps", "E") and not form.offset}
    fixed = {name: value for name, value in config.fix.items() if name not in left_out}
    for option, names in (("fix", fixed), ("bounds", config.bounds), ("share", config.share)):
        for name in names:
            if name not in form.parameters:
                raise ValueError(f"{option}: {name!r} is not a parameter; {did_you_mean(name, form.parameters)}")
    for name, value in fixed.items():
        _check_fixed_value(name, value, is_positive=name in form.positive)
    _check_ties(config, [exponent for term in form.terms for _, exponent in term.exponents])
    for option, names in (("bounds", config.bounds), ("share", config.share)):
        for name in names:
            if name in config.fix:
                raise UnusedSettingError(f"`{option}` {name} has no effect beside `fix` {name}: give one of them")
    for name, (low, high) in config.bounds.items():
        if not low < high:
            raise ValueError(f"bounds: {name} from {low:g} to {high:g} is empty; expected the smaller number first")


def _check_fixed_value(name: str, value: float, *, is_positive: bool) -> None:
    if not np.isfinite(value) or (is_positive and value <= 0):
        raise ValueError(f"fix: {name} is {value:g}; expected a {'positive, ' if is_positive else ''}finite number")


def _check_ties(config: FitConfig, exponents: Sequence[str]) -> None:
    """Refuse ties of what is no exponent, chains of ties, and other settings of a tied exponent."""
    for name, other in config.tie.items():
        for one in (name, other):
            if one not in exponents:
                raise ValueError(f"tie: {one!r} is not an exponent of the law; {did_you_mean(one, exponents)}")
        if other == name or other in config.tie:
            raise ValueError(f"tie: {name}={other} is part of a chain of ties; tie every exponent to the same one")
        if name in config.fix or name in config.bounds or name in config.share:
            raise ValueError(f"tie: {name} is tied to {other}; fix, bound or share {other} in its place")


def _find_constant_predictors(form: Form, inputs: Mapping[str, Floats], shared_predictors: Set[str]) -> dict[str, str]:
    """Return predictor -> exponent for the predictors that are left out of the law because they are constant.

    A predictor has to vary within a group that has its own law; differences between groups count only if the groups
    share its effect.

    Raises:
        ValueError: a constant predictor that the law needs.
    """
    groups = list(inputs.values())
    within = np.max([np.ptp(z, axis=0) for z in groups if len(z)], axis=0, initial=0.0)
    across = np.ptp(np.concatenate(groups), axis=0) if any(map(len, groups)) else within
    constant = [
        name for i, name in enumerate(form.predictors) if (across if name in shared_predictors else within)[i] <= 1e-9
    ]
    exponents = {name: form.removable_exponent(name) for name in constant}
    removable = {name: exponent for name, exponent in exponents.items() if exponent is not None}
    if constant and (len(removable) < len(constant) or len(constant) == len(form.predictors)):
        num_rows = sum(map(len, groups))
        count = "the only row" if num_rows == 1 else f"all {num_rows} rows"
        of_group = "" if ALL in inputs else f" of group {next(iter(inputs))!r}"
        where = f"in {count}{of_group}" if len(groups) == 1 else "in all rows of each group"
        name = next((name for name in constant if name not in removable), constant[0])
        raise ValueError(f"{name} is the same {where}; a law in {name} needs it to vary")
    return removable


def _map_parameters(
    form: Form,
    reference: Floats,
    free: Sequence[FreeParameter],
    label: str,
    fixed: Mapping[str, float],
    at_origin: Set[str],
    tie: Mapping[str, str],
) -> tuple[Floats, Floats]:
    """Return matrix (p, q) and shift (p,) from free parameters to one group's parameters at the reference."""
    num = len(form.parameters)
    matrix, shift = np.zeros((num, len(free))), np.zeros(num)
    values = form.to_internal({name: fixed.get(name, 1.0) for name in form.parameters})
    for j, parameter in enumerate(form.parameters):
        name = tie.get(parameter, parameter)
        if name in fixed:
            shift[j] = values[form.parameters.index(name)]
        else:
            matrix[j, free.index((name, label) if (name, label) in free else (name, None))] = 1.0
    centring = form.centring(reference)
    moved = np.array([name in at_origin for name in form.parameters])
    return np.where(moved[:, None], centring @ matrix, matrix), np.where(moved, centring @ shift, shift)


def _make_bounds(
    config: FitConfig, form: Form, free: Sequence[FreeParameter], at_origin: Set[str], log_y: Floats
) -> tuple[Floats, Floats]:
    """Return the box (q,), (q,): the form's own bounds, narrowed by the user's, which are in reported units."""
    form_lower, form_upper = form.bounds(log_y)
    lower, upper = np.empty(len(free)), np.empty(len(free))
    for i, (name, _) in enumerate(free):
        j = form.parameters.index(name)
        lower[i], upper[i] = (-700.0, 700.0) if name in at_origin else (form_lower[j], form_upper[j])
        if name in config.bounds:
            low, high = (_to_internal(form, name, end) for end in config.bounds[name])
            lower[i], upper[i] = max(lower[i], low), min(upper[i], high)
    return lower, upper


def _to_internal(form: Form, name: str, value: float) -> float:
    """Return a reported value on the solver's scale; a negative bound of a positive parameter becomes -inf."""
    values = {**dict.fromkeys(form.parameters, 1.0), name: max(value, 0.0) if name in form.positive else value}
    return float(form.to_internal(values)[form.parameters.index(name)])
