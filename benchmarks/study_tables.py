"""The README's tables from a study's runs.csv: `python benchmarks/study_tables.py out/micro-full`."""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

COLUMNS = ("UC_prefix", "UC", "UC_prefix_shuffled", "ST", "SC", "right_language", "attribute_accuracy_prefix")


def main(study: Path) -> None:
    """Print means over seeds of every setting, and the spread between seeds."""
    with (study / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    settings: defaultdict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        settings[row["family"], row["start"], row["size"], row["S"]].append(row)
    print("| family | start | size | P | S | T | " + " | ".join(COLUMNS) + " |")
    print("|---" * (6 + len(COLUMNS)) + "|")
    spreads = []
    for (family, start, size, samples), found in settings.items():
        values = [mean(float(row[column]) for row in found) for column in COLUMNS]
        t = mean(float(row["T"]) for row in found)
        cells = [family, start, size, f"{int(found[0]['P']):,}", f"{int(samples):,}", f"{t:.2f}"]
        print("| " + " | ".join([*cells, *(f"{value:.3f}" for value in values)]) + " |")
        if len(found) > 1:
            spreads.append(stdev(float(row["UC_prefix"]) for row in found))
    if spreads:
        pooled = mean(spread**2 for spread in spreads) ** 0.5
        print(f"\nUC after the prefix differs between seeds by a standard deviation of {pooled:.3f} (pooled).")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
