"""Time to fit laws, in seconds on one core, beside two packages from the package index in the same run.

    OMP_NUM_THREADS=1 python benchmarks/laws_speed.py [--peers PYTHON]

PYTHON is an interpreter with `chinchilla` and `simple-scaling-laws` installed (the latter needs Python 3.12). All
figures are CPU seconds of one process with one thread, and every program fits the same generated rows: 240 rows of
E + A/N^alpha + B/D^beta, a frontier of 68 rows, 1,334 rows of the product law. Objectives differ between programs and
are printed. Intervals are those of each program (`chinchilla` has none; its row is a single fit from 32 starts).
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyglance.laws import FitConfig, Table, fit_law
from polyglance.laws.fitting.objectives import ObjectiveName

Columns = dict[str, NDArray[np.float64]]


def additive_runs() -> Columns:
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), 240)), np.exp(rng.uniform(np.log(1e9), np.log(5e11), 240))
    y = (1.8 + 480 / n**0.35 + 2100 / d**0.37) * np.exp(0.008 * rng.standard_normal(240))
    return {"N": n, "D": d, "y": y}


def frontier_runs() -> Columns:
    c = np.geomspace(1e18, 1e22, 68)
    return {"C": c, "y": (1.76 + 900 * c**-0.169) * np.exp(0.003 * np.random.default_rng(1).standard_normal(68))}


def product_runs() -> Columns:
    rng = np.random.default_rng(2)
    p, s, t = (
        rng.choice(np.geomspace(1e7, 1e9, 6), 1334),
        rng.uniform(3e4, 2.5e5, 1334),
        rng.choice(2.0 ** np.arange(10), 1334),
    )
    y = (56 * p**-0.141 * s**-0.0915 * t**-0.0542 + 1.386) * np.exp(0.014 * rng.standard_normal(1334))
    return {"P": p, "S": s, "T": t, "y": y}


TABLES = {"additive": additive_runs(), "compute": frontier_runs(), "product": product_runs()}


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def measure_ours() -> None:
    cases: tuple[tuple[ObjectiveName, int, str], ...] = (
        ("log-huber", 0, "full multi-start"),
        ("log-huber", 1000, "1000 refits, intervals, warnings"),
        ("raw-lsq", 1000, "1000 refits, intervals, warnings"),
    )
    for form, columns in TABLES.items():
        table = Table.from_columns(columns)
        for objective, num_draws, what in cases:
            predictors = {name: name for name in columns if name != "y"}
            config = FitConfig(form=form, columns=predictors, objective=objective, bootstrap=num_draws)
            report(f"polyglance ({objective})", form, len(table), what, seconds(partial(fit_law, config, table)))


def measure_import() -> None:
    clock = "time.process_time()"
    code = f"import time, numpy, scipy.stats; start = {clock}; import polyglance.laws; print({clock} - start)"
    spent = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    print(f"import polyglance.laws beyond numpy and scipy: {spent:.2f} s")


def report(program: str, form: str, num_rows: int, what: str, spent: float) -> None:
    print(f"{program:42s} {form:9s} {num_rows:5d} rows  {what:34s} {spent:7.2f} s", flush=True)


PEER = """
import logging, sys, time, numpy as np, pandas as pd
folder = sys.argv[1]
def report(program, form, num, what, start):
    print(f"{program:42s} {form:9s} {num:5d} rows  {what:34s} {time.process_time() - start:7.2f} s", flush=True)
import chinchilla
from chinchilla._metrics import log_huber
frame = pd.read_csv(f"{folder}/additive.csv")
grid = {"E": [1.1, 1.5], "A": [150, 1100], "B": [400, 3000], "alpha": [0.3, 0.5], "beta": [0.3, 0.5]}
law = chinchilla.Chinchilla(folder, grid, loss_fn=log_huber, log_level=logging.ERROR)
law.database.df = frame.rename(columns={"y": "loss"}).assign(C=6 * frame.N * frame.D)[["C", "N", "D", "loss"]]
start = time.process_time(); law.fit(parallel=False)
report("chinchilla (log_huber, delta 1)", "additive", len(frame), "32 starts, no intervals", start)
import simple_scaling_laws as ssl
for form, law in (("additive", "separable-power"), ("compute", "separable-power"), ("product", "multiplicative-power")):
    frame = pd.read_csv(f"{folder}/{form}.csv")
    names = [name for name in frame.columns if name != "y"]
    renamed = {name: f"model_size__{name}" for name in names} | {"y": "test_loss__y"}
    runs = [f"run{i}" for i in range(len(frame))]
    frame.rename(columns=renamed).assign(training_run_id=runs).to_csv(f"{folder}/ssl.csv", index=False)
    start = time.process_time(); ssl.fit(f"{folder}/ssl.csv", law=law, n_draws=1000)
    report("simple-scaling-laws (raw least squares)", form, len(frame), "1000 draws", start)
"""


def measure_peers(python: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for form, columns in TABLES.items():
            with (Path(folder) / f"{form}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([list(columns), *zip(*(c.tolist() for c in columns.values()), strict=True)])
        result = subprocess.run([python, "-c", PEER, folder], capture_output=True, text=True, check=False)
        print(result.stdout, end="")
        if result.returncode:
            print(f"the peers stopped: {result.stderr.strip().splitlines()[-1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter with chinchilla and simple-scaling-laws")
    peers = parser.parse_args().peers
    measure_ours()
    measure_import()
    if peers:
        measure_peers(peers)


if __name__ == "__main__":
    main()
