"""Compare the losses and the laws of runs from trunks with those of separate runs on the same grid.

Both are studies with the same sizes, budgets and seeds, for example the demo and the same with separate runs:

    polyglance study run examples/micro.toml --set "seeds=[0,1,2]"
    polyglance study run examples/micro.toml --set "seeds=[0,1,2]" --set out=out/separate \\
        --set families.0.schedule=separate --set "families.0.optim={lr=3e-3}"
    PYTHONPATH=src python benchmarks/trunk_laws.py out/separate/runs.csv out/micro/runs.csv

Prints, for UC after the prefix, ST and SC: the median and the largest ratio of the losses (trunk / separate), the
exponents of the product law in P and S of each with their 95 % intervals, and the share of the held-in losses of one
that lie inside the interval for a new run of the law of the other. The branches of one trunk share their first samples,
as separate runs of one seed do: intervals count each run as one.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from polyglance.laws import FitConfig, Law, Table, fit_law
from polyglance.run_records import RunRow, read_runs

TARGETS = ("UC_prefix", "ST", "SC")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("separate", type=Path, help="runs.csv of separate runs")
    parser.add_argument("trunk", type=Path, help="runs.csv of runs from trunks")
    parser.add_argument("--family", default="scratch", help="family that is compared")
    parser.add_argument("--bootstrap", type=int, default=400, help="refits for the intervals")
    args = parser.parse_args()
    tables = [
        {_cell(run): run for run in read_runs(path) if run.family == args.family}
        for path in (args.separate, args.trunk)
    ]
    cells = sorted(tables[0].keys() & tables[1].keys())
    if not cells:
        raise SystemExit(f"the two tables have no run of family {args.family} in common")
    separate, trunk = ([table[cell] for cell in cells] for table in tables)
    print(
        f"{len(cells)} runs: {len({c[0] for c in cells})} sizes, {len({c[1] for c in cells})} budgets, "
        f"{len({c[2] for c in cells})} seeds"
    )
    print("| loss | trunk / separate: median, from, to | exponent | separate | trunk | runs of one inside the other |")
    print("|---|---|---|---|---|---|")
    for target in TARGETS:
        ratios = [b[target] / a[target] for a, b in zip(separate, trunk, strict=True)]
        laws = [_fit(runs, target, args.bootstrap) for runs in (separate, trunk)]
        inside = (_count_inside(laws[0], trunk, target), _count_inside(laws[1], separate, target))
        for exponent in ("b_P", "b_S"):
            shown = [_describe(law, exponent) for law in laws]
            print(
                f"| {target} | {median(ratios):.2f}, {min(ratios):.2f}, {max(ratios):.2f} | {exponent} | "
                f"{shown[0]} | {shown[1]} | {inside[0]} and {inside[1]} of {len(cells)} |"
            )


def _cell(run: RunRow) -> tuple[float, float, int]:
    return run["P"], run["S"], run.seed or 0


def _fit(runs: Sequence[RunRow], target: str, bootstrap: int) -> Law:
    table = Table.from_data({name: [run[name] for run in runs] for name in ("P", "S", target)})
    return fit_law(FitConfig(columns={"P": "P", "S": "S", "y": target}, bootstrap=bootstrap), table)


def _describe(law: Law, exponent: str) -> str:
    (fit,) = law.fits.values()
    low, high = fit.intervals[exponent]
    return f"{fit.parameters[exponent]:.2f} ({low:.2f} to {high:.2f})"


def _count_inside(law: Law, runs: Sequence[RunRow], target: str) -> int:
    (fit,) = law.fits.values()
    inside = 0
    for run in runs:
        predicted = fit.predict({"P": run["P"], "S": run["S"]})
        low, high = (
            math.nan if end is None else float(end.ravel()[0]) for end in (predicted.low_new, predicted.high_new)
        )
        inside += low <= run[target] <= high
    return inside


if __name__ == "__main__":
    main()
