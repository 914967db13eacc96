"""`polyglance law columns | fit | make | list | compare | predict | plan`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tyro.conf import Positional

from polyglance.cli.options import Options
from polyglance.cli.output import show
from polyglance.files import check_output_file
from polyglance.laws import (
    Budget,
    Candidate,
    CompareConfig,
    FitConfig,
    Law,
    MakeConfig,
    PlanConfig,
    Prediction,
    PrepareConfig,
    Table,
    compare_laws,
    describe_table,
    fit_law,
    list_published_laws,
    load_law,
    make_law,
    plan_with_law,
    predict_new_group,
    predict_with_law,
    read_candidates,
    spend_budget,
)
from polyglance.laws.constants.paper_laws import PAPER_LAWS
from polyglance.laws.equations.roles import find_by_role, resolve_roles
from polyglance.laws.text import (
    format_budget,
    format_catalogue,
    format_columns,
    format_comparisons,
    format_law,
    format_plan,
    format_prediction_rows,
    format_predictions,
)
from polyglance.settings import UnusedSettingError

__all__ = ["columns", "compare", "fit", "list_laws", "make", "plan", "predict"]


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Options for reading the file of a table."""

    header_rows: int | None = None
    """Lines of the header of a CSV or TSV; their cells are joined to one name, such as N with a unit below it."""
    encoding: str = "auto"
    """Encoding of a table of text, such as cp1252 or gb18030; auto knows UTF-8, UTF-16 and UTF-32."""

    def read(self, path: Path) -> Table:
        return Table.read(path, header_rows=self.header_rows, encoding=self.encoding)


def columns(
    table: Positional[Path], config: Options[PrepareConfig], file: Options[TableFile] = TableFile(), json: bool = False
) -> None:
    """Print what is read from a table: its columns, their ranges and gaps, and the roles guessed from their names.

    Args:
        table: Table with a row for each run: .csv, .tsv, .jsonl, .json or .parquet.
        json: Print the result as JSON.
    """
    show(describe_table(config, file.read(table)), json, format_columns)


def fit(
    table: Positional[Path],
    config: Options[FitConfig],
    file: Options[TableFile] = TableFile(),
    out: Path | None = None,
    plot: Path | None = None,
    plot_x: str | None = None,
    json: bool = False,
) -> None:
    """Fit a scaling law to a table of runs.

    Args:
        table: Table with a row for each run: .csv, .tsv, .jsonl, .json or .parquet.
        out: File to write the law to (.json).
        plot: File to draw the law to (.svg).
        plot_x: Predictor on the plot's horizontal axis.
        json: Print the result as JSON.
    """
    if plot_x is not None and plot is None:
        raise UnusedSettingError("`plot_x` has no effect without `plot`")
    if config.size is not None and not config.frontier:
        raise UnusedSettingError("`size` has no effect without `frontier`")
    _check_files(out, plot)
    runs = file.read(table)
    law = fit_law(config, runs)
    if out is not None:
        law.save(out)
    if plot is not None:
        from polyglance.laws.plot import plot_law

        plot_law(law, runs, plot, x=plot_x)
    show(law.summary() if json else law, json, format_law)


def make(config: Options[MakeConfig], out: Path | None = None, json: bool = False) -> None:
    """Make a law from its constants, such as those of a publication, to predict and plan with.

    Args:
        out: File to write the law to (.json).
        json: Print the result as JSON.
    """
    _check_files(out)
    law = make_law(config)
    if out is not None:
        law.save(out)
    show(law.summary() if json else law, json, format_law)


def list_laws(name: Positional[str | None] = None, json: bool = False) -> None:
    """List the published laws that have a name, or print one of them.

    Args:
        name: A published law, to be printed with its constants.
        json: Print the result as JSON.
    """
    if name is None:
        show(list_published_laws(), json, format_catalogue)
        return
    law = load_law(name)
    show(law.summary() if json else law, json, lambda law: f"source: {law.data['source']}\n{format_law(law)}")


def compare(
    table: Positional[Path], config: Options[CompareConfig], file: Options[TableFile] = TableFile(), json: bool = False
) -> None:
    """Score a law, simpler and other forms, and baselines by held-out error.

    Args:
        table: Table with a row for each run: .csv, .tsv, .jsonl, .json or .parquet.
        json: Print the result as JSON.
    """
    show(compare_laws(config, file.read(table)), json, format_comparisons)


def predict(
    law: Positional[str],
    at: Mapping[str, float] = {},
    table: Path | None = None,
    group: str | None = None,
    new_group: bool = False,
    json: bool = False,
) -> None:
    """Predict with a law, with intervals for the mean and for a new run.

    Args:
        law: A law file, or the name of a published law (`polyglance law list`).
        at: Values of the predictors, as in P=1e9,S=1e7,T=6.02.
        table: Table of rows to predict, with a column per predictor, in place of --at.
        group: Group of the law; all of them if not given.
        new_group: Predict a group that the law has not seen, from the differences between the known groups.
        json: Print the result as JSON.
    """
    if table is not None and (at or new_group):
        raise UnusedSettingError(f"`table` has no effect beside `{'at' if at else 'new_group'}`: give one of them")
    if group is not None and new_group:
        raise UnusedSettingError("`group` has no effect beside `new_group`: give one of them")
    loaded = load_law(law)
    if not at and table is None and law in PAPER_LAWS and "P" in loaded.first.form.predictors:
        show(_predict_published(loaded, group), json, partial(_format_published_predictions, loaded))
        return
    if new_group:
        show(predict_new_group(loaded, at), json, lambda estimate: f"new group: {estimate}")
        return
    predictions = predict_with_law(loaded, at if table is None else Table.read(table), group=group)
    content = {name: {**vars(one), "warnings": loaded.list_warnings(name)} for name, one in predictions.items()}
    show(content if json else predictions, json, partial(format_predictions, loaded))


def plan(
    law: Positional[str],
    config: Options[PlanConfig],
    downstream: str | None = None,
    candidates: Path | None = None,
    page: Path | None = None,
    plot: Path | None = None,
    json: bool = False,
) -> None:
    """Compute what a target loss or score needs at the lowest cost, or the best size and data for a budget.

    With a target: the data that each candidate needs, and the cheapest. Without one: the lowest loss within --max-gmac,
    --max-flop, --max-hours, --max-gpu-hours or --max-money. Without both: what each candidate reaches with the most
    data of the runs behind the law. The laws of the paper know the four published models as candidates.

    Args:
        law: A law file (product, additive or compute), or the name of a published law (`polyglance law list`); `paper`
            needs no table of your own.
        downstream: A law file of the score against the loss (form downstream), or the name of a published one, for
            --target-score and for the scores to be expected.
        candidates: Models to choose from: a table, or model cards as .json.
        page: File to write the planner to (.html): an interactive page, which needs no network.
        plot: File to draw the sizes along a budget to (.svg), the isoFLOP curve.
        json: Print the result as JSON.
    """
    if plot is not None and config.has_target:
        raise UnusedSettingError("`plot` has no effect beside a target")
    _check_files(None, plot, page)
    loaded = load_law(law)
    config = _fill_group(config, law)
    models = _find_candidates(config, law, loaded, candidates)
    scores = _find_downstream(config, law, downstream, has_models=bool(models))
    if page is not None:
        from polyglance.report.planner import write_planner

        write_planner(page, loaded, models, config=config, downstream=scores)
    if config.has_target:
        show(plan_with_law(config, loaded, candidates=models, downstream=scores), json, format_plan)
        return
    spent = spend_budget(_use_all_data(config, loaded, models), loaded, candidates=models, downstream=scores)
    if plot is not None:
        from polyglance.laws.plot import plot_budget

        plot_budget(spent, plot)
    show(spent, json, format_budget)


def _check_files(out: Path | None, plot: Path | None = None, page: Path | None = None) -> None:
    """Refuse names of a law's file, plot and page that cannot be written, or are those of other files."""
    if out is not None:
        check_output_file(out, "--out", (".json",))
    if plot is not None and plot.suffix.lower() != ".svg":
        raise ValueError(f"--plot {plot}: expected a file name that ends in .svg")
    if plot is not None:
        check_output_file(plot, "--plot", (".svg",))
    if page is not None:
        check_output_file(page, "--page", (".html",))


def _fill_group(config: PlanConfig, law: str) -> PlanConfig:
    """Choose the group UC (unseen captioning) for a law of the paper if no group is given."""
    return replace(config, group="UC") if config.group is None and law in PAPER_LAWS else config


def _find_candidates(config: PlanConfig, name: str, law: Law, path: Path | None) -> tuple[Candidate, ...]:
    """Return the candidates of a file; without a file, the published models for a law of the paper with a size."""
    is_published = name in PAPER_LAWS and "P" in law.first.form.predictors and "P" not in config.at
    has_cards = is_published if path is None else path.suffix.lower() == ".json"
    if config.budget.gpu != Budget.gpu and not has_cards:
        raise UnusedSettingError(
            "`gpu` has no effect without model cards (`candidates` as .json) or a law of the paper"
        )
    if path is not None:
        return read_candidates(path, law.first.form.predictors, gpu=config.budget.gpu)
    if not is_published:
        return ()
    from polyglance.report.published_models import list_published_models

    models = list_published_models(config.budget.gpu)
    given = {"T": config.at["T"]} if "T" in config.at else {}
    return tuple(replace(one, inputs={**one.inputs, **given}) for one in models)


def _find_downstream(config: PlanConfig, name: str, downstream: str | None, *, has_models: bool) -> Law | None:
    """Return the given downstream law; by default, for UC by a law of the paper, that of CIDEr after the prefix."""
    if downstream is not None:
        return load_law(downstream)
    is_paper = name in PAPER_LAWS and config.group == "UC"
    return load_law("paper-cider-prefix") if is_paper and (config.has_target or has_models) else None


def _use_all_data(config: PlanConfig, law: Law, models: Sequence[Candidate]) -> PlanConfig:
    """Limit the data to the largest amount behind the law if neither a target nor a limit is given."""
    budget, fit = config.budget, law.first
    limits = (budget.max_samples, budget.max_tokens)
    data = find_by_role(resolve_roles(law.columns, {**law.roles, **config.roles}), ("samples",))
    if budget.can_be_spent or any(limits) or not models or not data or data[0] not in fit.ranges:
        return config
    cells = 1.0 if budget.cells is None else budget.cells / float(law.data.get("cells") or budget.cells)
    return replace(config, budget=replace(budget, max_samples=fit.ranges[data[0]][1] * cells))


def _predict_published(law: Law, group: str | None) -> dict[str, dict[str, Prediction]]:
    """Return published model -> group -> prediction, with the most data of the published runs."""
    from polyglance.report.published_models import list_published_models

    samples = law.first.ranges["S"][1]
    at = {one.name: {"P": one.P, "S": samples, **one.inputs} for one in list_published_models()}
    predictors = law.first.form.predictors
    return {
        name: predict_with_law(law, {key: value for key, value in values.items() if key in predictors}, group=group)
        for name, values in at.items()
    }


def _format_published_predictions(law: Law, predictions: Mapping[str, Mapping[str, Prediction]]) -> str:
    ranges = ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in law.first.ranges.items())
    parts = [
        f"Laws of {', '.join(law.fits)} in {', '.join(law.first.form.predictors)}; the runs behind them: {ranges}.",
        f"The published models with {law.first.ranges['S'][1]:,.0f} samples (--at P=1e9,S=1e7,T=6.02 for any point):",
    ]
    merged = {f"{name} {group}": one for name, groups in predictions.items() for group, one in groups.items()}
    return "\n".join(
        [
            *parts,
            format_prediction_rows(merged),
            *dict.fromkeys(
                f"{warning.severity} {warning.code}: {warning.message}"
                for group in law.fits
                for warning in law[group].warnings
            ),
        ]
    )
