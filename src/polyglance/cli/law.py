"""`polyglance law columns | fit | make | list | compare | predict | plan`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tyro.conf import Positional

from polyglance.cli.options import Options
from polyglance.cli.output import show
from polyglance.laws import (
    CompareConfig,
    FitConfig,
    Law,
    LawComparison,
    MakeConfig,
    PlanConfig,
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
from polyglance.laws.text import (
    format_budget,
    format_catalogue,
    format_columns,
    format_comparison,
    format_law,
    format_plan,
    format_predictions,
)
from polyglance.settings import UnusedSettingError

__all__ = ["columns", "compare", "fit", "list_laws", "make", "plan", "predict"]


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """How the file of a table is read."""

    header_rows: int | None = None
    """Lines of the header of a CSV or TSV; their cells are joined to one name, such as N with a unit below it."""
    encoding: str = "auto"
    """Encoding of a table of text, such as cp1252 or gb18030; auto knows UTF-8, UTF-16 and UTF-32."""

    def read(self, path: Path) -> Table:
        return Table.read(path, header_rows=self.header_rows, encoding=self.encoding)


def columns(
    table: Positional[Path], config: Options[PrepareConfig], file: Options[TableFile] = TableFile(), json: bool = False
) -> None:
    """Print what is read from a table: its columns, their ranges and gaps, the roles that their names say.

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
    if plot is not None and plot.suffix.lower() != ".svg":
        raise ValueError(f"--plot {plot}: expected a file name that ends in .svg")
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
    show(compare_laws(config, file.read(table)), json, _format_comparisons)


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
        new_group: Expect the value of a group that the law has not seen, from the differences of the known ones.
        json: Print the result as JSON.
    """
    if table is not None and (at or new_group):
        raise UnusedSettingError(f"`table` has no effect beside `{'at' if at else 'new_group'}`: give one of them")
    if group is not None and new_group:
        raise UnusedSettingError("`group` has no effect beside `new_group`: give one of them")
    loaded = load_law(law)
    if new_group:
        show(predict_new_group(loaded, at), json, lambda estimate: f"new group: {estimate}")
        return
    predictions = predict_with_law(loaded, at if table is None else Table.read(table), group=group)
    content = {name: {**vars(one), "warnings": loaded.list_warnings(name)} for name, one in predictions.items()}
    show(content if json else predictions, json, partial(format_predictions, loaded))


def plan(
    law: Positional[str],
    config: Options[PlanConfig],
    downstream: Path | None = None,
    candidates: Path | None = None,
    plot: Path | None = None,
    json: bool = False,
) -> None:
    """Compute what a target loss or score needs at the lowest cost, or the best size and data for a budget.

    With a target: the data that each candidate needs, and the cheapest. Without one: the lowest loss within --max-gmac,
    --max-flop, --max-hours, --max-gpu-hours or --max-money.

    Args:
        law: A law file (product, additive or compute), or the name of a published law (`polyglance law list`).
        downstream: A law file of the score against the loss (form downstream), for --target-score.
        candidates: Models to choose from: a table, or model cards as .json.
        plot: File to draw the sizes along a budget to (.svg), the isoFLOP curve.
        json: Print the result as JSON.
    """
    loaded = load_law(law)
    models = read_candidates(candidates, loaded.first.form.predictors) if candidates else ()
    if not config.has_target:
        if downstream is not None:
            raise UnusedSettingError("`downstream` has no effect without `target_score`")
        spent = spend_budget(config, loaded, candidates=models)
        if plot is not None:
            from polyglance.laws.plot import plot_budget

            plot_budget(spent, plot)
        show(spent, json, format_budget)
        return
    if plot is not None:
        raise UnusedSettingError("`plot` has no effect beside a target")
    scores = Law.load(downstream) if downstream else None
    show(plan_with_law(config, loaded, candidates=models, downstream=scores), json, format_plan)


def _format_comparisons(results: Mapping[str, LawComparison]) -> str:
    if len(results) == 1:
        return format_comparison(next(iter(results.values())))
    return "\n".join(f"{label}\n{format_comparison(result)}\n" for label, result in results.items())
