"""The verbs of a study: plan, run, status, report. Each is one function from a configuration to a result."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from polyglance.config import save
from polyglance.files import locked
from polyglance.processes import num_cores
from polyglance.study.config import StudyConfig
from polyglance.study.executors import run_local
from polyglance.study.grid import Job, jobs, runs
from polyglance.study.store import is_done, state

__all__ = ["Plan", "PlannedRun", "RunResult", "Status", "plan", "report", "run", "status"]

_CHEAP = ("data", "tokenizer")
"""Jobs that are done in this process, before anything is planned: seconds, and no training."""


def _silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """What one run will cost."""

    id: str
    num_parameters: int
    num_trained: int
    macs_per_sample: int
    samples: int
    compute_gmac: float
    seconds: float
    state: str
    strategy: str = ""
    """Published sizes: how it is best trained on the machine."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study will cost."""

    runs: tuple[PlannedRun, ...]
    seconds: float
    """Expected wall time of what is left, on `machine`."""
    machine: str
    """`2 cores`, or what published sizes are trained on, at the MFU that is assumed."""
    memory_bytes: int
    """Of all workers together; of one device, where runs are of published sizes."""
    source_tokens: int
    """Prompt tokens at which F is counted."""
    target_tokens: int
    """Target tokens at which F is counted."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What `run` leaves."""

    num_runs: int
    seconds: float
    table: Path
    report: Path
    problems: tuple[str, ...]
    """Laws that could not be fitted, a line each."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a study is: job id -> `done`, `begun` or `to do`."""

    jobs: Mapping[str, str]
    losses: Mapping[str, float]
    """Run -> UC after the prefix, of those that are done."""


def plan(config: StudyConfig, *, workers: int | None = None) -> Plan:
    """What the grid will cost: P, F, C, S, time and memory of every run.

    For micro models data and tokenizer are made, which takes seconds, since P and F depend on them; nothing is
    trained. For published sizes nothing is made or needed.

    Raises:
        ValueError: data and configuration do not fit each other.
    """
    with locked(config.out, "polyglance study run"):
        return _plan(config, workers or num_cores())


def run(config: StudyConfig, *, workers: int | None = None, say: Callable[[str], None] = _silent) -> RunResult:
    """Make everything that is not made yet: data, starting points, runs, runs.csv, laws, report.

    Can be killed at any moment and run again: what is done is skipped, a run goes on from its last checkpoint, and
    the table that comes out is the same to the bit.

    Args:
        workers: jobs at once; as many as there are cores if not given.
        say: gets a line for each thing that is done.

    Raises:
        ValueError: a job failed, or another process works on the study.
    """
    started_s = time.monotonic()
    with locked(config.out, "polyglance study run"):
        save(config, config.out / "study.toml")
        num_workers = (workers or num_cores()) if config.is_micro else 1
        planned = _plan(config, num_workers)
        say(
            f"{len(planned.runs)} runs, {sum(r.state == 'done' for r in planned.runs)} of them done; "
            f"about {planned.seconds / 60:.1f} minutes on {planned.machine}"
        )
        _train(config, num_workers, say)
        problems, report_path = _conclude(config)
    return RunResult(
        num_runs=len(planned.runs),
        seconds=time.monotonic() - started_s,
        table=config.out / "runs.csv",
        report=report_path,
        problems=tuple(problems),
    )


def report(config: StudyConfig) -> RunResult:
    """Write runs.csv, laws and report again from the runs as they are.

    Raises:
        ValueError: a run is not done yet.
    """
    started_s = time.monotonic()
    if left := [job.id for job in runs(config) if not is_done(config.out, job)]:
        raise ValueError(f"{len(left)} runs are not done ({left[0]}, ...); `polyglance study run` makes them")
    problems, path = _conclude(config)
    return RunResult(
        num_runs=len(runs(config)),
        seconds=time.monotonic() - started_s,
        table=config.out / "runs.csv",
        report=path,
        problems=tuple(problems),
    )


def status(config: StudyConfig) -> Status:
    """How far the study is. Reads files only."""
    states = {job.id: state(config.out, job) for job in jobs(config)}
    losses = {}
    for job in runs(config):
        if states[job.id] == "done":
            cells = json.loads((config.out / job.folder / "losses.json").read_text())["cells"].values()
            unseen = [cell["losses"]["prefix"]["mean_nats"] for cell in cells if cell["split"] == "UC"]
            if unseen:
                losses[job.id] = sum(unseen) / len(unseen)
    return Status(jobs=states, losses=losses)


def _plan(config: StudyConfig, num_workers: int) -> Plan:
    from polyglance.study.cost import expected_costs, schedule_s
    from polyglance.study.table import counts_of, lengths, vocab_size_of
    from polyglance.study.work import do

    all_jobs = jobs(config)
    if config.is_micro:
        for job in all_jobs:
            if job.kind in _CHEAP:
                do(config, job)
    else:
        num_workers = 1  # a run takes the whole machine
    vocab_size = vocab_size_of(config)
    costs = expected_costs(config, all_jobs)
    counts = {(job.family, job.size): counts_of(config, job, vocab_size) for job in _one_of_each_model(config)}
    planned = [
        PlannedRun(
            id=job.id,
            num_parameters=(own := counts[job.family, job.size]).num_parameters,
            num_trained=own.num_trained,
            macs_per_sample=own.macs_per_sample,
            samples=job.samples,
            compute_gmac=own.compute_gmac(job.samples),
            seconds=costs.seconds[job.id],
            state=state(config.out, job),
            strategy=costs.strategies.get(job.id, ""),
        )
        for job in runs(config)
    ]
    done = {job.id for job in all_jobs if is_done(config.out, job)}
    return Plan(
        runs=tuple(planned),
        seconds=schedule_s(all_jobs, done=done, seconds=costs.seconds, num_workers=num_workers),
        machine=f"{num_workers} cores" if config.is_micro else f"{config.machine.name} at MFU {config.machine.mfu:g}",
        memory_bytes=costs.memory_bytes * num_workers,
        **lengths(config),
    )


def _one_of_each_model(config: StudyConfig) -> list[Job]:
    return list({(job.family, job.size): job for job in runs(config)}.values())


def _train(config: StudyConfig, num_workers: int, say: Callable[[str], None]) -> None:
    from polyglance.study.cost import expected_costs, schedule_s

    all_jobs = jobs(config)
    seconds = expected_costs(config, all_jobs).seconds
    done = {job.id for job in all_jobs if is_done(config.out, job)}
    finished = set(done)

    def on_done(job: Job, elapsed_s: float) -> None:
        finished.add(job.id)
        left_s = schedule_s(all_jobs, done=finished, seconds=seconds, num_workers=num_workers)
        say(f"[{len(finished)}/{len(all_jobs)}] {job.id} in {elapsed_s:.0f} s; about {left_s / 60:.1f} minutes left")

    run_local(config, all_jobs, done=done, cost_s=seconds, num_workers=num_workers, on_done=on_done)


def _conclude(config: StudyConfig) -> tuple[list[str], Path]:
    """From finished runs to table, laws and report."""
    from polyglance.report import write_report
    from polyglance.study.laws import fit_laws
    from polyglance.study.table import write_table

    write_table(config)
    _, problems = fit_laws(config)
    write_report(config.out)
    return problems, config.out / "report" / "index.html"
