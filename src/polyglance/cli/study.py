"""`polyglance study plan | run | status | report`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from tyro.conf import Positional

from polyglance.cli.options import Settings
from polyglance.cli.output import format_count, show
from polyglance.train.watch import NOT_FINITE_EXIT_CODE

__all__ = ["plan", "run", "show_status", "write_report"]


def plan(config: Positional[Path], set_: Settings = (), workers: int | None = None, json: bool = False) -> None:
    """Print the grid with P, F, C, S, time and memory before anything is trained.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
        workers: Jobs at the same time; as many as there are cores if not given.
        json: Print the result as JSON.
    """
    from polyglance.study import plan_study

    show(plan_study(_load_study(config, set_), workers=workers), json, _make_plan_table)


def run(
    config: Positional[Path],
    set_: Settings = (),
    on: str = "local",
    workers: int | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Make data, runs, laws and report. Can be killed and run again: it continues where it was stopped. Runs that are
    no longer finite are left out, with exit code 3.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
        on: Place of the jobs: local, ray (the cluster of this machine, or that of RAY_ADDRESS), ray://HOST:PORT or
            slurm; [cluster] in the file says what each job asks for.
        workers: Jobs at the same time. If not given, as many as there are cores, or as the cluster has room for.
        dry_run: Print the plan, as `study plan` does, and make nothing.
        json: Print the result as JSON.
    """
    if dry_run:
        plan(config, set_, workers, json)
        return
    from polyglance.study import run_study

    study = _load_study(config, set_)
    result = run_study(study, workers=workers, on=on, say=lambda line: print(line, file=sys.stderr, flush=True))
    show(result, json, _describe_run)
    if result.failed:
        raise SystemExit(NOT_FINITE_EXIT_CODE)


def show_status(config: Positional[Path], set_: Settings = (), json: bool = False) -> None:
    """Print how far the study is.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
        json: Print the result as JSON.
    """
    from polyglance.study import read_study_status

    show(read_study_status(_load_study(config, set_)), json, _make_status_table)


def write_report(config: Positional[Path], set_: Settings = (), json: bool = False) -> None:
    """Write runs.csv, laws and report again from the runs as they are.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
        json: Print the result as JSON.
    """
    from polyglance.study import write_study_report

    show(write_study_report(_load_study(config, set_)), json, _describe_run)


def _load_study(path: Path, overrides: Sequence[str]) -> Any:
    """Read the study's file. The one in a study's folder is about that folder, wherever it has been moved to."""
    from polyglance.config import load
    from polyglance.study.config import StudyConfig
    from polyglance.study.inputs import is_study_folder

    config = load(StudyConfig, path, overrides=overrides)
    is_given = any(override.partition("=")[0].strip() == "out" for override in overrides)
    is_here = path.parent.resolve() == config.out.resolve()
    if path.name == "study.toml" and is_study_folder(path.parent) and not is_given and not is_here:
        print(f"{path}: its folder was moved from {config.out}; the study goes on where it is", file=sys.stderr)
        return replace(config, out=path.parent)
    return config


def _make_plan_table(plan: Any) -> list[Table | str]:
    """Return the runs as a table of at most 100 columns, and below it what the numbers rest on."""
    large = any(run.strategy for run in plan.runs)
    names = ["run", "P", "P_t", f"F, {'G' if large else 'M'}MAC", "S", "C, GMAC", "hours" if large else "s"]
    table = Table(*names, *([plan.currency] if plan.currency else []), "state", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[1:-1]:
        column.justify, column.no_wrap = "right", True
    for run in plan.runs:
        table.add_row(
            run.id,
            format_count(run.num_parameters),
            format_count(run.num_trained),
            f"{run.macs_per_sample / (1e9 if large else 1e6):.2f}",
            format_count(run.samples),
            f"{run.compute_gmac:.4g}",
            f"{run.seconds / 3600:.1f}" if large else f"{run.seconds:.0f}",
            *([f"{run.money:,.0f}"] if plan.currency else []),
            run.state,
        )
    left = f"{plan.seconds / 3600:.0f} hours" if large else f"{plan.seconds / 60:.1f} minutes"
    money = f" and {plan.money:,.0f} {plan.currency}" if plan.currency else ""
    lines = [
        f"about {left}{money} on {plan.machine}, {plan.memory_bytes / 1e9:.1f} GB{' per device' if large else ''}",
        f"F at {plan.source_tokens} prompt and {plan.target_tokens} target tokens",
        _compare_schedules(plan),
    ]
    lines += [f"P and F from a sample of {plan.sampled_images:,} images"] if plan.sampled_images else []
    lines += [f"{size}: {how}" for size, how in plan.strategies.items()]
    lines += [f"{size}: {rate}" for size, rate in plan.rates.items()]
    lines += plan.notes
    return [table, "\n".join(line for text in lines for line in wrap(text, 100, subsequent_indent="    "))]


def _compare_schedules(plan: Any) -> str:
    """Say what all runs train on together, with either schedule."""
    names = {"separate": "as separate runs", "trunk": "from trunks (schedule = 'trunk')"}
    costs = [
        f"{names[name]} {cost.samples:,} samples, {cost.compute_gmac:,.0f} GMAC" for name, cost in plan.training.items()
    ]
    return f"training in all: {'; '.join(costs)}; this study: {plan.schedule}"


def _make_status_table(status: Any) -> Table:
    table = Table("job", "state", "UC after the prefix (nats per token)")
    for job, state in status.jobs.items():
        table.add_row(job, state, f"{status.losses[job]:.3f}" if job in status.losses else "")
    return table


def _describe_run(result: Any) -> str:
    problems = "".join(f"\nnot fitted: {line}" for line in result.problems)
    failed = "".join(f"\nfailed: {line}" for line in result.failed)
    done = f"{result.num_runs} runs in {result.seconds / 60:.1f} minutes"
    predicted = "".join(f"\npredicted: {line}" for line in result.predictions)
    return f"{done}\ntable: {result.table}\nreport: {result.report}{predicted}{problems}{failed}"
