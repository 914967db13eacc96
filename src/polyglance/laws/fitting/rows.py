"""Selection of the rows that are fitted, with the reason for every row that is left out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polyglance.laws.arrays import Floats, Indices, Labels, Mask
from polyglance.laws.config import FitConfig
from polyglance.laws.equations.form import Form
from polyglance.laws.equations.forms import make_form
from polyglance.laws.equations.roles import Role, check_roles, find_by_role, resolve_roles
from polyglance.laws.equations.transforms import NO_TRANSFORM, Transform, choose_transform
from polyglance.laws.fitting.frontier import find_pareto_frontier
from polyglance.laws.law import LawWarning
from polyglance.laws.tables.expressions import parse_expression
from polyglance.laws.tables.numerals import has_spread
from polyglance.laws.tables.table import Table, list_rows
from polyglance.settings import UnusedSettingError

__all__ = [
    "ALL",
    "Rows",
    "choose_rows",
    "correlate_ranks",
    "find_frontier",
    "find_order_roles",
    "find_scale",
    "list_labels",
    "resolve_form",
    "select_rows",
]

_RISING = 0.3
"""Rank correlation of y and compute above which y may be a score, although the frontier of a loss is requested."""
ALL = "all"
"""Name of the only group of a table without groups."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The usable rows of a table, n of them."""

    x: Floats
    """(n, k) predictors, in the form's order."""
    y: Floats
    """(n,) quantity that the law is fitted to: the column, or its transform."""
    weights: Floats
    """(n,)"""
    clusters: Indices
    """(n,) cluster of each row, numbered from 0 without gaps."""
    groups: Labels
    """(n,) group of each row; each group has its own law."""
    sizes: Labels | None
    """(n,) model of each row; None where the table has no such column."""
    indices: Indices
    """(n,) index of each row in the table."""
    dropped: Mapping[int, str]
    """Index in the table -> reason, for the rows that were left out."""
    transform: Transform = NO_TRANSFORM
    """How y was made from the column."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, chosen: Mask | Indices) -> "Rows":
        """Return a subset, with clusters renumbered."""
        return replace(
            self,
            x=self.x[chosen],
            y=self.y[chosen],
            weights=self.weights[chosen],
            clusters=np.unique(self.clusters[chosen], return_inverse=True)[1],
            groups=self.groups[chosen],
            sizes=None if self.sizes is None else self.sizes[chosen],
            indices=self.indices[chosen],
        )

    def inputs(self, form: Form) -> Floats:
        """Return the inputs of the form, (n, k): log x, or x."""
        return np.log(self.x) if form.logarithmic else self.x

    def split_groups(self) -> dict[str, "Rows"]:
        """Return group -> its rows, in order of appearance."""
        return {label: self.take(self.groups == label) for label in list_labels(self.groups)}


def resolve_form(config: FitConfig, form: Form | None = None) -> tuple[Form, dict[str, str], dict[str, Role]]:
    """Return the form, the column of the table for each of its predictors and for y, and the predictors' roles.

    Args:
        form: a form in place of the config's.

    Raises:
        ValueError: unknown form, a predictor that the form does not have, or a role that does not fit the form.
    """
    columns = dict(config.columns)
    target = columns.pop("y", "y")
    if form is None:
        if config.form in ("additive", "saturating") and len(columns) >= 2:
            columns = _put_size_first(columns, resolve_roles(columns, config.roles))
        form = make_form(config.form, tuple(columns), offset=config.offset)
        if form.offset and config.fix.get(form.offset) == 0:
            form = make_form(config.form, tuple(columns), offset=False)
    for name in columns:
        if name not in form.predictors:
            raise ValueError(f"form {form.name!r} has no predictor {name!r}; it has {', '.join(form.predictors)}")
    columns = {name: columns.get(name, name) for name in form.predictors}
    roles = resolve_roles(columns, config.roles)
    check_roles(form.name, columns, roles)
    return form, {**columns, "y": target}, roles


def _put_size_first(columns: Mapping[str, str], roles: Mapping[str, Role]) -> dict[str, str]:
    """Return the columns with the size first, if by the roles it was named second."""
    first, second, *others = columns
    if roles[second] == "parameters" and roles[first] != "parameters":
        first, second = second, first
    return {name: columns[name] for name in (first, second, *others)}


def find_order_roles(form: Form, roles: Mapping[str, Role], given: Mapping[str, str]) -> dict[str, Role]:
    """Return the roles by which runs are ordered: for a column in millions, `N=Params (M)`, which has no role because
    costs would be wrong by that factor, the role of the predictor's name.

    Args:
        given: predictor -> role, by the user.
    """
    by_name = resolve_roles({name: name for name in form.predictors})
    return {name: by_name[name] if role == "none" and name not in given else role for name, role in roles.items()}


def find_scale(form: Form, roles: Mapping[str, Role]) -> list[str]:
    """Return the predictors whose product is the scale of a run: compute; or size, samples (or else tokens) and epochs;
    or else the first two."""
    data = find_by_role(roles, ("samples",)) or find_by_role(roles, ("tokens",))
    names = find_by_role(roles, ("compute",)) or [
        *find_by_role(roles, ("parameters",)),
        *data,
        *find_by_role(roles, ("epochs",)),
    ]
    return [name for name in names if name in form.predictors] or list(form.predictors[:2])


def select_rows(
    config: FitConfig,
    form: Form,
    columns: Mapping[str, str],
    table: Table,
    *,
    language: str | None = None,
    scale: str | None = None,
) -> tuple[Rows, tuple[LawWarning, ...]]:
    """Return the usable rows, and a warning about the others.

    Args:
        language: column whose cells may not be empty; `scale`: column of positive numbers.

    Raises:
        ValueError: a column is missing, a row cannot be used (unless the config says to drop such rows), or no row is
            left.
    """
    if len(table) == 0:
        raise ValueError(f"{table.source}: no rows")
    kept, bad, warnings = _filter_rows(config, table)
    x = np.column_stack(
        [_read_column(table, columns[name], name, bad, positive=form.logarithmic) for name in form.predictors]
    )
    y, transform = _read_response(table, config, form, columns["y"], kept, bad)
    weights = _read_column(table, config.weight, "weight", bad, positive=True) if config.weight else np.ones(len(table))
    if scale is not None:
        _read_column(table, scale, "scale", bad, positive=True)
    others = {"cluster": config.cluster, "size": config.size, "language": language}
    labelled = {**dict.fromkeys(config.groups, "group"), **{column: name for name, column in others.items() if column}}
    for column, name in labelled.items():
        _find_empty_labels(table, column, name, bad)
    bad = {index: reason for index, reason in bad.items() if kept[index]}
    warnings += (*_note_spreads(table, columns.values()), *_note_spellings(table, labelled))
    warnings += _report_bad_rows(table, config, bad, int(kept.sum()))
    clusters = table.labels(config.cluster) if config.cluster else range(len(table))
    rows = Rows(
        x=x,
        y=y,
        weights=weights,
        clusters=np.unique(np.array(clusters), return_inverse=True)[1],
        groups=_label_groups(table, config.groups),
        sizes=np.array(table.labels(config.size)) if config.size else None,
        indices=np.arange(len(table)),
        dropped=dict(sorted(bad.items())),
        transform=transform,
    )
    kept[list(bad)] = False
    return rows.take(np.flatnonzero(kept)), warnings


def _filter_rows(config: FitConfig, table: Table) -> tuple[Mask, dict[int, str], tuple[LawWarning, ...]]:
    """Return the rows that the config's condition keeps (n,), row -> why it is undecided, and warnings.

    A row that cannot be decided is kept, so that it counts among those that cannot be used.
    """
    notes = tuple(LawWarning("table-as-read", "info", note) for note in table.notes)
    if config.where is None:
        return np.ones(len(table), dtype=bool), {}, notes
    try:
        kept, undecided = parse_expression(config.where).choose_rows(table)
    except ValueError as error:
        raise ValueError(f"where: {error}") from None
    kept[list(undecided)] = True
    if not kept.any():
        raise ValueError(f"{table.source}: `where`: none of the {len(table)} rows is {config.where!r}")
    left_out = len(table) - int(kept.sum())
    note = LawWarning(
        "rows-filtered", "info", f"{left_out} of {len(table)} rows were left out: they are not {config.where!r}."
    )
    return kept, {row: f"where cannot be decided: {problem}" for row, problem in undecided.items()}, (*notes, note)


def _note_spreads(table: Table, names: Iterable[str]) -> Iterator[LawWarning]:
    """Yield a note on columns whose cells are means with standard deviations, of which the means are read."""
    for name in names:
        if (count := sum(map(has_spread, table.column(name)))) > 0:
            yield LawWarning(
                "table-as-read", "info", f"{count} cells of {name!r} have a spread (3.1 ± 0.2): their means are read."
            )


def _note_spellings(table: Table, labelled: Mapping[str, str]) -> Iterator[LawWarning]:
    """Yield a note on labels that are one number in several spellings.

    Args:
        labelled: column -> its use.
    """
    for column, use in labelled.items():
        if spellings := table.find_spellings(column):
            listed = ", ".join(f"{other!r} is {label!r}" for other, label in list(spellings.items())[:3])
            more = f" and {len(spellings) - 3} more" if len(spellings) > 3 else ""
            yield LawWarning(
                "table-as-read",
                "info",
                f"{use} (column {column!r}): cells of one number are one label: {listed}{more}.",
            )


def _label_groups(table: Table, names: Sequence[str]) -> Labels:
    """Return the group of each row (n,); with several columns their labels, joined by a comma.

    Raises:
        ValueError: labels contain commas, so that two groups would have the same name.
    """
    if not names:
        return np.array([ALL] * len(table))
    parts = list(zip(*(table.labels(name) for name in names), strict=True))
    joined = [", ".join(labels) for labels in parts]
    if len(set(joined)) < len(set(parts)):
        raise ValueError(
            f"{table.source}: group: two combinations of {' and '.join(names)} give the same label; remove commas "
            "from the cells"
        )
    return np.array(joined)


def choose_rows(config: FitConfig, form: Form, rows: Rows) -> dict[str, Rows]:
    """Return group -> the rows to fit: all of its rows, or its frontier.

    Raises:
        ValueError: a frontier for a form with several predictors, or of values that look like scores, without
            `maximise`.
    """
    groups = rows.split_groups()
    if config.maximise and len(form.predictors) != 1:
        raise UnusedSettingError("`maximise` has no effect: only laws with one predictor have a frontier")
    if not config.frontier:
        return groups
    if len(form.predictors) == 1 and not config.maximise and config.transform == "none":
        for group in groups.values():
            _ask_for_direction(group)
    if len(form.predictors) != 1:
        raise ValueError(f"a frontier needs compute as the only predictor; form {form.name!r} has several predictors")
    return {label: group.take(np.sort(find_frontier(config, group))) for label, group in groups.items()}


def _ask_for_direction(rows: Rows) -> None:
    """Refuse a frontier of the lowest y where y is within 0 and 100 and rises with compute, as scores do."""
    if len(rows) < 4 or rows.y.max() > 100 or np.ptp(rows.y) == 0 or np.ptp(rows.x[:, 0]) == 0:
        return
    middle = np.sqrt(rows.x[:, 0].min() * rows.x[:, 0].max())
    worst, best = rows.x[rows.y.argmin(), 0], rows.x[rows.y.argmax(), 0]
    correlation = correlate_ranks(rows.x[:, 0], rows.y)
    if correlation > _RISING and worst < middle < best:
        raise ValueError(
            f"y rises with compute (rank correlation {correlation:.2f}), from {rows.y.min():.4g} to "
            f"{rows.y.max():.4g}: a frontier of the lowest runs would keep the worst ones if these are scores; say "
            "that higher is better (`maximise`), or fit the distance to the ceiling (`transform` error or log-odds)"
        )


def correlate_ranks(a: Floats, b: Floats) -> float:
    """Return Spearman's rank correlation of two columns (n,) that vary; equal values share their mean rank."""
    ranks = []
    for column in (a, b):
        _, codes, counts = np.unique(column, return_inverse=True, return_counts=True)
        rank = (np.cumsum(counts) - (counts - 1) / 2)[codes.ravel()]
        ranks.append((rank - rank.mean()) / rank.std())
    return float((ranks[0] * ranks[1]).mean())


def find_frontier(config: FitConfig, rows: Rows) -> Indices:
    """Return the positions of a group's non-dominated rows. The first predictor is the compute."""
    runs = rows.clusters.tolist() if config.cluster else None
    return find_pareto_frontier(
        rows.x[:, 0],
        -rows.y if config.maximise else rows.y,
        runs=runs,
        window=config.frontier_window,
        final_only=config.frontier_final_only,
        min_gap=config.frontier_min_gap,
        bins=config.frontier_bins,
    )


def list_labels(labels: Sequence[str] | Labels) -> list[str]:
    """Return the distinct labels, in order of appearance."""
    return list(dict.fromkeys(map(str, labels)))


def _read_column(table: Table, column: str, name: str, bad: dict[int, str], *, positive: bool) -> Floats:
    """Return a column as floats (n,), and add the rows that cannot be used to `bad`, with the reason."""
    values, problems = table.numbers(column)
    label = name if name == column else f"{name} (column {column!r})"
    for index, problem in problems.items():
        bad.setdefault(index, f"{label} {problem}")
    if positive:
        for index in np.flatnonzero(np.isfinite(values) & (values <= 0)).tolist():
            bad.setdefault(index, f"{label} is {values[index]:g}, must be positive")
    extreme = np.isfinite(values) & (values != 0) & ((np.abs(values) > 1e150) | (np.abs(values) < 1e-150))
    for index in np.flatnonzero(extreme).tolist():
        bad.setdefault(index, f"{label} is {values[index]:g}, beyond 1e-150 to 1e150")
    return values


def _find_empty_labels(table: Table, column: str, name: str, bad: dict[int, str]) -> None:
    """Add the rows with an empty cell to `bad`: rows without a label are not alike, as rows of one label are."""
    for index, label in enumerate(table.labels(column)):
        if not label:
            bad.setdefault(index, f"{name} (column {column!r}) is empty")


def _read_response(
    table: Table, config: FitConfig, form: Form, column: str, kept: Mask, bad: dict[int, str]
) -> tuple[Floats, Transform]:
    """Return what the law is fitted to (n,), and how it was made; add the rows that have none to `bad`."""
    if config.transform == "none":
        return _read_column(table, column, "y", bad, positive=True), NO_TRANSFORM
    if not form.logarithmic:
        raise ValueError(f"`transform` is not for form {form.name!r}, which has a highest score of its own")
    y = _read_column(table, column, "y", bad, positive=False)
    known = y[kept & np.isfinite(y)]
    transform = choose_transform(config.transform, config.ceiling, lambda: float(known.max(initial=0.0)))
    for index in np.flatnonzero(np.isfinite(y)).tolist():
        if reason := transform.explain_unusable(float(y[index])):
            bad.setdefault(index, f"y (column {column!r}) {reason}")
    with np.errstate(divide="ignore", invalid="ignore"):  # of rows that are left out
        return transform.apply(y), transform


def _report_bad_rows(table: Table, config: FitConfig, bad: Mapping[int, str], num_rows: int) -> tuple[LawWarning, ...]:
    """Return a warning about the rows that are left out; raise ValueError where the config or the table forbids it."""
    if not bad:
        return ()
    order = sorted(bad)
    examples = "; ".join(f"row {index + 1}: {bad[index]}" for index in order[:5])
    more = f"; and {len(order) - 5} more" if len(order) > 5 else ""
    count = f"{len(order)} of {num_rows} rows cannot be used"
    if not config.drop_bad_rows:
        raise ValueError(f"{table.source}: {count}: {examples}{more} (repair them, or leave them out: `drop_bad_rows`)")
    if len(bad) == num_rows:
        raise ValueError(f"{table.source}: none of the {num_rows} rows can be used: {examples}{more}")
    return (
        LawWarning("rows-dropped", "warning", f"{count} and were left out ({list_rows(order)}): {examples}{more}."),
    )
