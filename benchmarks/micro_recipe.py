"""Compare training recipes of a micro study on a few of its runs, one line each: what a CPU-second of training buys.

    python benchmarks/micro_recipe.py examples/micro.toml /tmp/kept scratch-d96-s5000-seed0 --set mixture.batch_size=8

Everything that a run needs (data, tokenizer, tower, language model) is made as in the study, and kept below the second
argument by its fingerprint, so that a recipe changes only what depends on it. Recipes were chosen with seed 0 and
confirmed with others: `--set seeds=[1]` makes runs that end in `-seed1`. One thread; CPU seconds, not wall time. The
trunk of a run is among its starts.
"""

import argparse
import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from polyglance.config import load
from polyglance.run_records import LossRecord, average_split
from polyglance.study import StudyConfig
from polyglance.study.grid.jobs import Job, list_jobs
from polyglance.study.work.do_job import do_job

_COLUMNS = "run, CPU s of the starts, CPU s, UC prefix, UC, UC prefix other images, ST, SC, attributes, whole captions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--label", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.runs:
        with TemporaryDirectory(dir=options.cache) as out:
            config = replace(load(StudyConfig, options.study, overrides=options.set), out=Path(out))
            print(options.label or " ".join(options.set), *_measure(config, options.cache, name), sep=" | ", flush=True)


def _measure(config: StudyConfig, cache: Path, name: str) -> list[str]:
    jobs = {job.id: job for job in list_jobs(config)}
    started_s = _cpu_s()
    for need in _list_needs(jobs, name):
        _do_once(config, cache, need)
    made_s = _cpu_s()
    do_job(config, jobs[name])
    trained_s = _cpu_s()
    record = LossRecord.read(config.out / jobs[name].folder / "losses.json")
    cells = record.cells.values()
    numbers = [
        record.split_loss("UC", "prefix"),
        record.split_loss("UC"),
        record.split_loss("UC", "prefix_shuffled"),
        record.split_loss("ST"),
        record.split_loss("SC"),
        average_split(cells, "UC", lambda cell: cell.score("attribute_accuracy", "prefix")),
        average_split(cells, "UC", lambda cell: cell.score("exact_match", "prefix")),
    ]
    return [
        name,
        f"{made_s - started_s:.0f}",
        f"{trained_s - made_s:.0f}",
        *(f"{number or 0:.3f}" for number in numbers),
        time.strftime("%H:%M"),
    ]


def _list_needs(jobs: dict[str, Job], name: str) -> list[Job]:
    """List the jobs that come before a run, in order."""
    wanted = {name}
    for job in reversed(jobs.values()):
        if job.id in wanted:
            wanted |= set(job.needs)
    return [job for job in jobs.values() if job.id in wanted and job.id != name]


def _do_once(config: StudyConfig, cache: Path, job: Job) -> None:
    kept, folder = cache / "kept" / job.fingerprint, config.out / job.folder
    if not kept.exists():
        do_job(config, job)
        shutil.copytree(folder, kept)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(kept.resolve())


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
