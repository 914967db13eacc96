"""Error on the largest runs of published tables, of laws that are fitted to the smaller ones, beside baselines.

    PYTHONPATH=src python benchmarks/laws_held_out.py [--data ../shared/data/scaling] [--json FILE]

For each table and way of holding out: the median of |predicted / measured - 1| in percent of the law by log-huber (the
default) and log-lsq, the share of held-out runs inside the 95 % interval of a new run (log-huber, 200 refits; what a
user gets), the same with every row taken as independent, and the median error of the baselines: the law without its
offset, the value of the nearest smaller run, the mean of the smaller runs. "largest fifth" holds out the largest fifth
of the distinct scales (size times data). In the other rows OLMo ladder predicts its 7B and 13B targets, as its authors
do, and the table of routed language models its largest P, T and S.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyglance.laws import FitConfig, Table, fit_law
from polyglance.laws.fitting.accuracy import predict_nearest
from polyglance.laws.fitting.rows import resolve_form, select_rows

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """Median errors in percent."""

    table: str
    held_out: str
    num_train: int
    num_test: int
    log_huber: float
    log_lsq: float
    coverage: float
    coverage_of_rows: float
    """Coverage where every row is a run of its own."""
    without_offset: float
    nearest: float
    mean: float


def list_splits(data: Path) -> Iterator[tuple[str, str, FitConfig, Table, Mask]]:
    """Return table, way of holding out, settings, table, rows to fit."""
    for name in ("cool_end", "hot_100b+_512x", "slim_chinchilla"):
        table = Table.read(data / "gemstones" / f"wandb_df_for_fitting_{name}.jsonl")
        columns = {"N": "params_active_precise", "D": "tokens", "y": "final_loss"}
        yield (
            f"gemstones {name}",
            "largest fifth",
            FitConfig(form="additive", columns=columns),
            table,
            keep_smaller(table, columns),
        )
    table = Table.read(data / "olmo_ladder" / "derived_c4_points.csv")
    columns = {"N": "N", "D": "D", "y": "c4_loss"}
    is_train = np.array([mode == "train" for mode in table.column("mode")])
    yield "OLMo ladder", "7B, 13B targets", FitConfig(form="additive", columns=columns), table, is_train
    ladder = take(table, is_train)
    yield (
        "OLMo ladder",
        "largest fifth",
        FitConfig(form="additive", columns=columns),
        ladder,
        keep_smaller(ladder, columns),
    )
    table = Table.read(data / "routed_lm" / "derived_PST_1334.csv")
    columns = {"P": "P", "S": "S", "T": "T", "y": "y"}
    p, s, t = (table.numbers(name)[0] for name in "PST")
    for label, train in (("P >= 1e9", p < 1e9), ("T >= 128", t < 128), ("S > 1e5", s <= 1e5)):
        yield "routed LM", label, FitConfig(columns=columns), table, train
    yield "routed LM", "largest fifth", FitConfig(columns=columns), table, keep_smaller(table, columns)


def keep_smaller(table: Table, columns: dict[str, str]) -> Mask:
    size, data = list(columns.values())[:2]
    scale = np.log(table.numbers(size)[0]) + np.log(table.numbers(data)[0])
    levels = np.unique(scale)
    return np.asarray(scale < levels[-max(1, round(0.2 * len(levels)))])


def take(table: Table, chosen: Mask) -> Table:
    rows = np.flatnonzero(chosen).tolist()
    return Table.from_columns({name: [cells[i] for i in rows] for name, cells in table.columns.items()})


def score(name: str, label: str, config: FitConfig, table: Table, train: Mask) -> Score:
    columns = {key: table.numbers(column)[0] for key, column in config.columns.items()}
    y = columns.pop("y")
    at = {key: values[~train] for key, values in columns.items()}
    smaller = take(table, train)
    rows = Table.from_columns({**smaller.columns, "row number": list(map(str, range(len(smaller))))})
    errors, coverage = {}, {}
    for key, settings in (
        ("log-huber", replace(config, bootstrap=200)),
        ("rows", replace(config, bootstrap=200, cluster="row number")),
        ("log-lsq", replace(config, objective="log-lsq", bootstrap=0)),
        ("without offset", replace(config, bootstrap=0, offset=False)),
    ):
        fit = fit_law(settings, rows).only
        if key == "rows":  # without the widening by the table's own largest runs
            fit = replace(fit, held_out=None)
        prediction = fit.predict(at)
        errors[key] = median_error(prediction.mean, y[~train])
        if prediction.low_new is not None and prediction.high_new is not None:
            inside = (prediction.low_new <= y[~train]) & (y[~train] <= prediction.high_new)
            coverage[key] = 100 * float(inside.mean())
    form, names, _ = resolve_form(config)
    chosen, _ = select_rows(config, form, names, table)
    return Score(
        table=name,
        held_out=label,
        num_train=int(train.sum()),
        num_test=int((~train).sum()),
        log_huber=errors["log-huber"],
        log_lsq=errors["log-lsq"],
        coverage=coverage["log-huber"],
        coverage_of_rows=coverage["rows"],
        without_offset=errors["without offset"],
        nearest=median_error(predict_nearest(form, chosen, train)[~train], y[~train]),
        mean=median_error(np.full((~train).sum(), y[train].mean()), y[~train]),
    )


def median_error(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    return float(100 * np.median(np.abs(predicted / measured - 1)))


def print_scores(scores: Sequence[Score]) -> None:
    header = (
        "table",
        "held out",
        "fit",
        "test",
        "log-huber",
        "log-lsq",
        "inside 95 %",
        "as rows",
        "no offset",
        "nearest",
        "mean",
    )
    print(("{:<27}{:<18}" + "{:>6}" * 2 + "{:>12}" * 7).format(*header))
    for one in scores:
        numbers = (
            one.log_huber,
            one.log_lsq,
            one.coverage,
            one.coverage_of_rows,
            one.without_offset,
            one.nearest,
            one.mean,
        )
        print(
            f"{one.table:<27}{one.held_out:<18}{one.num_train:>6}{one.num_test:>6}"
            + "".join(f"{x:>12.2f}" for x in numbers)
        )
    for key in ("log_huber", "log_lsq", "without_offset", "nearest", "mean"):
        middle = np.median([getattr(one, key) for one in scores])
        print(f"median over the rows above, {key.replace('_', ' ')}: {middle:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "scaling")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scores = [score(*split) for split in list_splits(options.data)]
    print_scores(scores)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in scores], indent=2) + "\n")


if __name__ == "__main__":
    main()
