"""Print the tables of docs/demo.md from a study's runs.csv: `python benchmarks/study_tables.py out/micro-full`."""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from polyglance.run_records import RunRow, read_runs

COLUMNS = ("UC_prefix", "UC", "UC_prefix_shuffled", "ST", "SC", "right_language", "attribute_accuracy_prefix")


def main(study: Path) -> None:
    """Print the means over the seeds of every setting, and the spread between seeds."""
    settings: defaultdict[tuple[str, str, str, float], list[RunRow]] = defaultdict(list)
    for run in read_runs(study / "runs.csv"):
        settings[run.family, run.start, run.size, run["S"]].append(run)
    print("| family | start | size | P | S | T | " + " | ".join(COLUMNS) + " |")
    print("|---" * (6 + len(COLUMNS)) + "|")
    spreads = []
    for (family, start, size, samples), runs in settings.items():
        means = [f"{mean(run[column] for run in runs):.3f}" for column in COLUMNS]
        start_loss = f"{mean(run['T'] for run in runs):.2f}"
        cells = [family, start, size, f"{runs[0]['P']:,.0f}", f"{samples:,.0f}", start_loss, *means]
        print(f"| {' | '.join(cells)} |")
        if len(runs) > 1:
            spreads.append(stdev(run["UC_prefix"] for run in runs))
    if spreads:
        pooled = mean(spread**2 for spread in spreads) ** 0.5
        print(f"\nUC after the prefix differs between seeds by a standard deviation of {pooled:.3f} (pooled).")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
