"""Errors of every form of law on the runs that a study has predicted.

    python benchmarks/prediction_forms.py out/micro-full

Each form is fitted to the runs that the study's predictions were made from. The study has chosen one of them before its
largest runs had started; the smallest error here is known afterwards only.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from polyglance.laws import Fit, FitConfig, Table, fit_law
from polyglance.run_records import RunRow, read_runs

FORMS = [
    (form, predictors, offset)
    for form, predictors in (
        ("product", ("P", "S", "T")),
        ("product", ("P", "S")),
        ("saturating", ("P", "S", "T")),
        ("saturating", ("P", "S")),
        ("additive", ("P", "S")),
    )
    for offset in (True, False)
]


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
        for target in ("UC_prefix", "ST", "SC"):
            errors = {
                f"{form}({', '.join(names)}){'' if offset else ' without offset'}": measure(
                    fit(form, names, offset, target, smaller), target, smaller, largest
                )
                for form, names, offset in FORMS
            }
            for name, error in sorted(errors.items(), key=lambda item: item[1]):
                print(f"{family:10} {target:10} {name:40} {error:6.1%}")


def fit(form: str, names: Sequence[str], offset: bool, target: str, runs: Sequence[RunRow]) -> Fit:
    """Fit one form to runs."""
    columns = {**{name: name for name in names}, "y": target}
    table = Table.from_data({name: [run[name] for run in runs] for name in columns.values()})
    (one,) = fit_law(FitConfig(form=form, columns=columns, bootstrap=0, offset=offset), table).fits.values()
    return one


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
