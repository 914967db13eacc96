"""From rows and options to the problem the solver sees: which parameters are free, fixed, bounded or shared.

The solver's free vector holds log amplitudes at the reference point (the geometric mean of the inputs) and exponents.
An amplitude that a user fixed or bounded, or that groups share, is free at the origin instead, where it has its
meaning.
Shapes: n rows, k predictors, p parameters of a form, q free parameters, R parameter sets.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyglance.languages import did_you_mean
from polyglance.laws.data import Rows
from polyglance.laws.forms import Form, PowerSum
from polyglance.laws.objectives import Objective
from polyglance.laws.solve import Block, Problem

if TYPE_CHECKING:
    from polyglance.laws.fit import FitConfig

__all__ = ["MANY_ROWS", "Layout", "lay_out", "second_start", "thinned"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MANY_ROWS = 20_000
"""Beyond this many rows scans of starts see a part of them, and bootstrap replicates are single Newton steps."""
OFFSET_ELSEWHERE = 0.3
"""A second start's log offset differs from the optimum's by at least this."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A problem with the meaning of its free parameters. Rows of the groups lie one after the other."""

    form: Form
    problem: Problem
    reference: Floats
    groups: Mapping[str, Rows]
    free: tuple[tuple[str, str | None], ...]
    """Per free parameter its name and group; None where all groups share it."""
    anchored: frozenset[str]
    """Amplitudes that are free at the origin."""
    constant: tuple[str, ...]
    """Exponents fixed at zero because their predictor never changes."""
    told_across: frozenset[str]
    """Predictors whose effect all groups share."""

    @cached_property
    def y(self) -> Floats:
        return np.concatenate([rows.y for rows in self.groups.values()])

    @cached_property
    def weights(self) -> Floats:
        return np.concatenate([rows.weights for rows in self.groups.values()])

    @cached_property
    def clusters(self) -> Indices:
        """Clusters of all rows; those of different groups are different."""
        parts, used = [], 0
        for rows in self.groups.values():
            parts.append(rows.clusters + used)
            used += int(rows.clusters.max()) + 1
        return np.concatenate(parts)

    def block(self, label: str) -> Block:
        return self.problem.blocks[list(self.groups).index(label)]

    def theta(self, label: str, free: Floats) -> Floats:
        """The form's parameters (R, p) of one group, at the reference, from free ones (R, q)."""
        block = self.block(label)
        return free @ block.matrix.T + block.shift

    def position(self, parameter: str, label: str) -> int | None:
        """Where a group's parameter is in the free vector; None if it is fixed."""
        for key in ((parameter, label), (parameter, None)):
            if key in self.free:
                return self.free.index(key)
        return None

    def starts(self) -> Floats:
        """Free vectors (starts, q) from the data: each group's own starts side by side, shared parameters averaged."""
        own = {
            label: self.form.starts(rows.inputs(self.form) - self.reference, np.log(rows.y))
            for label, rows in self.groups.items()
        }
        to_origin = np.linalg.inv(self.form.centring(self.reference))
        columns = []
        for parameter, label in self.free:
            j = self.form.parameters.index(parameter)
            chosen = [own[label]] if label is not None else list(own.values())
            thetas = [theta @ to_origin.T if parameter in self.anchored else theta for theta in chosen]
            columns.append(np.mean([theta[:, j] for theta in thetas], axis=0))
        return np.stack(columns, axis=1)


def second_start(layout: Layout, optimum: Floats) -> Floats:
    """A start (q,) unlike the optimum, for refits that should not all begin in one place: the best data-driven start
    whose offsets (where the form has any) lie elsewhere than the optimum's."""
    starts = layout.starts()
    offset = layout.form.offset if isinstance(layout.form, PowerSum) else None
    places = [i for i, (name, _) in enumerate(layout.free) if name == offset]
    values = layout.problem.value(starts, layout.y[None], layout.weights[None])
    elsewhere = (np.abs(starts[:, places] - optimum[places]) > OFFSET_ELSEWHERE).all(axis=1)
    ranked = np.where(elsewhere & np.isfinite(values), values, np.inf)
    return np.asarray(starts[int(np.argmin(ranked))])


def lay_out(config: "FitConfig", form: Form, groups: Mapping[str, Rows], reference: Floats | None = None) -> Layout:
    """The layout of one (joint) fit, about a given reference point or the rows' own.

    Raises:
        ValueError: an option names no parameter, or the rows cannot determine a law at all.
    """
    _check_names(config, form)
    z = np.concatenate([rows.inputs(form) for rows in groups.values()])
    log_y = np.log(np.concatenate([rows.y for rows in groups.values()]))
    reference = form.reference(z) if reference is None else reference
    shared = set(config.share) if len(groups) > 1 else set()
    told_across = _told_across(form, shared)
    constant = _constant_exponents(form, [rows.inputs(form) for rows in groups.values()], told_across)
    fixed = {**dict.fromkeys(constant, 0.0), **config.fix}
    free = tuple(
        (name, None if name in shared else label)
        for label in groups
        for name in form.parameters
        if name not in fixed and (name not in shared or label == next(iter(groups)))
    )
    if not free:
        raise ValueError("every parameter is fixed; there is nothing to fit")
    amplitudes = {term.amplitude for term in form.terms if term.exponents} if isinstance(form, PowerSum) else set()
    anchored = frozenset(amplitudes & (set(config.fix) | set(config.bounds) | shared))
    blocks, begin = [], 0
    for label, rows in groups.items():
        matrix, shift = _affine(form, reference, free, label, fixed, anchored)
        block_rows = np.arange(begin, begin + len(rows))
        design = form.design(rows.inputs(form) - reference)
        blocks.append(Block(form=form, design=design, rows=block_rows, matrix=matrix, shift=shift))
        begin += len(rows)
    lower, upper = _bounds(config, form, free, anchored, log_y)
    objective = Objective(name=config.objective, delta=config.delta, overestimate=config.overestimate)
    problem = Problem(blocks=tuple(blocks), objective=objective, lower=lower, upper=upper)
    return Layout(
        form=form,
        problem=problem,
        reference=reference,
        groups=groups,
        free=free,
        anchored=anchored,
        constant=tuple(constant),
        told_across=told_across,
    )


def thinned(config: "FitConfig", layout: Layout) -> Layout:
    """The layout with every k-th row only, where rows are many; the same one otherwise."""
    step = -(-len(layout.y) // MANY_ROWS)
    if step == 1:
        return layout
    part = {label: rows.take(np.arange(0, len(rows), step)) for label, rows in layout.groups.items()}
    return lay_out(config, layout.form, part, layout.reference)


def _check_names(config: "FitConfig", form: Form) -> None:
    dropped = {name for name, value in config.fix.items() if value == 0 and name in ("eps", "E")}  # no offset at all
    for option, names in (("fix", config.fix), ("bounds", config.bounds), ("share", config.share)):
        for name in names:
            if name not in form.parameters and not (option == "fix" and name in dropped):
                raise ValueError(f"{option}: {name!r} is not a parameter; {did_you_mean(name, form.parameters)}")
    for name, value in config.fix.items():
        if name in dropped:
            continue
        amplitude = isinstance(form, PowerSum) and name in form.amplitudes and not form.log10_amplitude
        if not np.isfinite(value) or (amplitude and value <= 0):
            raise ValueError(f"fix: {name} is {value:g}; it must be {'positive and ' if amplitude else ''}finite")
    for name, (low, high) in config.bounds.items():
        if not low < high:
            raise ValueError(f"bounds: {name} from {low:g} to {high:g} leaves nothing between")


def _told_across(form: Form, shared: Set[str]) -> frozenset[str]:
    """Predictors whose whole term all groups have in common: differences between groups tell of their effect, too."""
    terms = form.terms if isinstance(form, PowerSum) else ()
    return frozenset(
        name for term in terms for name, exponent in term.exponents if {term.amplitude, exponent} <= shared
    )


def _constant_exponents(form: Form, groups: Sequence[Floats], told_across: Set[str]) -> list[str]:
    """Exponents that cannot be found because their predictor is constant, in every group that has its own law."""
    within = np.max([np.ptp(z, axis=0) for z in groups if len(z)], axis=0, initial=0.0)
    across = np.ptp(np.concatenate(groups), axis=0) if any(map(len, groups)) else within
    constant = [
        name for i, name in enumerate(form.predictors) if (across if name in told_across else within)[i] <= 1e-9
    ]
    if not constant:
        return []
    num_rows = sum(map(len, groups))
    if not isinstance(form, PowerSum) or form.name not in ("product", "product-v1") or len(constant) == len(within):
        where = f"in all {num_rows} rows" if len(groups) == 1 else "in all rows of each group"
        raise ValueError(f"{constant[0]} is the same {where}; a law in {constant[0]} needs it to vary")
    return [f"b_{name}" for name in constant]


def _affine(
    form: Form,
    reference: Floats,
    free: tuple[tuple[str, str | None], ...],
    label: str,
    fixed: Mapping[str, float],
    anchored: frozenset[str],
) -> tuple[Floats, Floats]:
    """matrix (p, q) and shift (p,) from free parameters to one group's parameters at the reference."""
    num = len(form.parameters)
    matrix, shift = np.zeros((num, len(free))), np.zeros(num)
    values = form.to_internal({name: fixed.get(name, 1.0) for name in form.parameters})
    for j, name in enumerate(form.parameters):
        if name in fixed:
            shift[j] = values[j]
        else:
            matrix[j, free.index((name, label) if (name, label) in free else (name, None))] = 1.0
    centring = form.centring(reference)
    centred = np.array([name in anchored for name in form.parameters])
    return np.where(centred[:, None], centring @ matrix, matrix), np.where(centred, centring @ shift, shift)


def _bounds(
    config: "FitConfig",
    form: Form,
    free: tuple[tuple[str, str | None], ...],
    anchored: frozenset[str],
    log_y: Floats,
) -> tuple[Floats, Floats]:
    """The box (q,), (q,): the form's own bounds, and the user's in reported units."""
    own_lower, own_upper = form.bounds(log_y)
    lower, upper = np.empty(len(free)), np.empty(len(free))
    for i, (name, _) in enumerate(free):
        j = form.parameters.index(name)
        lower[i], upper[i] = (-700.0, 700.0) if name in anchored else (own_lower[j], own_upper[j])
        if name in config.bounds:
            low, high = (_internal(form, name, end) for end in config.bounds[name])
            lower[i], upper[i] = max(lower[i], low), min(upper[i], high)
    return lower, upper


def _internal(form: Form, name: str, value: float) -> float:
    """One reported value on the solver's scale; a negative bound of an amplitude is no bound."""
    amplitude = isinstance(form, PowerSum) and name in form.amplitudes and not form.log10_amplitude
    values = {**dict.fromkeys(form.parameters, 1.0), name: max(value, 0.0) if amplitude else value}
    return float(form.to_internal(values)[form.parameters.index(name)])
