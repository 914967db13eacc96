"""Time to list the jobs of a large study, which every job of it asks for.

    python benchmarks/list_jobs.py [--runs 10000] [--trunks]

Compared are the first list of a configuration in a process and a second one. Runs are 4 sizes and 10 budgets of one
family with as many seeds as it takes; with `--trunks` the budgets branch off trunks, so that there are twice the jobs.
"""

import argparse
import tempfile
import time
from pathlib import Path

from polyglance.coverage import Coverage
from polyglance.data.world import WorldConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.study.config import DataConfig, FamilyConfig, PredictionConfig, StudyConfig
from polyglance.study.grid.jobs import list_jobs
from polyglance.train.optim import OptimConfig


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--trunks", action="store_true")
    args = parser.parse_args()
    family = FamilyConfig(
        name="scratch",
        widths=(32, 64, 96, 128),
        samples=tuple(range(1_600, 17_600, 1_600)),
        schedule="trunk" if args.trunks else "separate",
        optim=OptimConfig(warmup_steps=1, cooldown_share=0.2),
    )
    with tempfile.TemporaryDirectory() as folder:
        config = StudyConfig(
            out=Path(folder),
            data=DataConfig(world=WorldConfig()),
            coverage=Coverage(caption=("en",), translation=("en", "de", "fr", "es", "ru", "zh")),
            mixture=MixtureConfig(batch_size=16),
            families=(family,),
            seeds=tuple(range(args.runs // 40)),
            prediction=PredictionConfig(),
        )
        for name in ("first list", "second list"):
            started_s = time.perf_counter()
            num_jobs = len(list_jobs(config))
            print(f"{name}: {num_jobs:,} jobs in {time.perf_counter() - started_s:.3f} s")


if __name__ == "__main__":
    main()
