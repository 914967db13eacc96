"""Errors of every form of law on the runs that a study has predicted.

    python benchmarks/prediction_forms.py out/micro-full

Each form is fitted to the runs that the study's predictions were made from. The study has chosen one of them before its
largest runs had started; the smallest error here is known afterwards only.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from polyglance.laws import Fit, Table, fit_law
from polyglance.run_records import RunRow, read_runs
from polyglance.study.results.predictions import list_forms

TARGETS = ("UC_prefix", "ST", "SC")


def main(study: Path) -> None:
    """Print the median error of each form, for each family and loss."""
    known = read_runs(study / "prediction" / "runs.csv")
    ids = {run.id for run in known}
    models = {(run.family, run.start, run.P, run.seed) for run in known}
    predicted = [
        run
        for run in read_runs(study / "runs.csv")
        if run.id not in ids
        and (run.family, run.start, run.P, run.seed) in models  # T of a new start is not in a table
    ]
    for family in dict.fromkeys(run.family for run in predicted):
        smaller, largest = ([run for run in runs if run.family == family] for runs in (known, predicted))
        columns = {name: [run[name] for run in smaller] for name in ("P", "S", "T", *TARGETS)}
        table = Table.from_data({**columns, "size": [run.size for run in smaller]})
        for target in TARGETS:
            errors = {}
            for config in list_forms(target):
                (law,) = fit_law(config, table).fits.values()
                offset = "" if config.offset else " without offset"
                errors[f"{config.form}({', '.join(law.form.predictors)}){offset}"] = measure(
                    law, target, smaller, largest
                )
            for name, error in sorted(errors.items(), key=lambda item: item[1]):
                print(f"{family:10} {target:10} {name:40} {error:6.1%}")


def measure(law: Fit, target: str, smaller: Sequence[RunRow], largest: Sequence[RunRow]) -> float:
    """Return the median of |predicted / measured - 1|. T of a run is that of the smaller budgets of its model."""
    errors = []
    for run in largest:
        alike = [other for other in smaller if (other.start, other.P, other.seed) == (run.start, run.P, run.seed)]
        inputs = {"P": run["P"], "S": run["S"], "T": fmean(other["T"] for other in alike)}
        predicted = law.predict({name: inputs[name] for name in law.form.predictors})
        errors.append(abs(float(predicted.mean.ravel()[0]) / run[target] - 1))
    return median(errors)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
