"""`polyglance study plan | run | status | serve | report`."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from tyro.conf import Positional

from polyglance.cli.options import Options, Settings
from polyglance.cli.output import abbreviate_count, show
from polyglance.settings import UnusedSettingError
from polyglance.study.planning.simulation_config import SimulatedClusterConfig
from polyglance.study.watching.serve_config import ServeConfig
from polyglance.train.watch import NOT_FINITE_EXIT_CODE

__all__ = ["rewrite_report", "run", "serve", "show_plan", "show_status"]


def show_plan(
    config: Positional[Path],
    options: Options[SimulatedClusterConfig],
    set_: Settings = (),
    workers: int | None = None,
    json: bool = False,
) -> None:
    """Print the grid with P, F, C, S, time and memory before anything is trained; with --cluster, its course there.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
        workers: Micro models: jobs at the same time; as many as there are cores if not given.
        json: Print the result as JSON.
    """
    from polyglance.study import plan_study

    show(plan_study(_load_study(config, set_), workers=workers, cluster=options), json, _make_plan_table)


def run(
    config: Positional[Path],
    set_: Settings = (),
    on: str = "local",
    workers: int | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Make data, runs, laws and report. Can be killed and run again: it continues where it was stopped. Runs that fail
    (no longer finite, or killed more often than they are tried again) are left out, with exit code 3.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
        on: Place of the jobs: local, ray (the cluster of this machine, or that of RAY_ADDRESS), ray://HOST:PORT or
            slurm; [cluster] in the file says what each job asks for.
        workers: Jobs at the same time. If not given, as many as there are cores, or as the cluster has room for. Local
            runs of published sizes take the whole machine, one after the other.
        dry_run: Print the plan, as `study plan` does, and make nothing.
        json: Print the result as JSON.
    """
    if dry_run:
        if on != "local":
            raise UnusedSettingError("`on` has no effect with `dry_run`: the plan is that of one machine")
        show_plan(config, SimulatedClusterConfig(), set_, workers, json)
        return
    from polyglance.study import run_study

    study = _load_study(config, set_)
    result = run_study(study, workers=workers, on=on, say=lambda line: print(line, file=sys.stderr, flush=True))
    show(result, json, _describe_run)
    if result.failed:
        raise SystemExit(NOT_FINITE_EXIT_CODE)


def show_status(config: Positional[Path], set_: Settings = (), page: Path | None = None, json: bool = False) -> None:
    """Print how far the study is.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
        page: File that gets the page of `study serve`, as it is now: states, losses, predictions, hours and money.
        json: Print the result as JSON.
    """
    from polyglance.study import read_study_status

    study = _load_study(config, set_)
    if page is not None:
        from polyglance.study.watching.progress import write_progress_page

        write_progress_page(study, page)
    show(read_study_status(study), json, _make_status_table)


def serve(config: Positional[Path], options: Options[ServeConfig], set_: Settings = ()) -> None:
    """Show a live page of the study, read-only: runs, losses as they come, predictions, hours and money. Ends with
    Ctrl-C.

    Args:
        config: The study's TOML file.
        set_: Override a setting of the file.
    """
    from polyglance.study.watching.serve import open_server

    with open_server(_load_study(config, set_), options) as server:
        print(server.address, flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def rewrite_report(config: Positional[Path], set_: Settings = (), json: bool = False) -> None:
    """Write runs.csv, laws and report again from the runs that are done; the page says how many are not.

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
    from polyglance.study.grid.inputs import is_study_folder

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
            abbreviate_count(run.num_parameters),
            abbreviate_count(run.num_trained),
            f"{run.macs_per_sample / (1e9 if large else 1e6):.2f}",
            abbreviate_count(run.samples),
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
    lines += [] if plan.cluster is None else ["", *_describe_cluster(plan.cluster)]
    return [table, "\n".join(line for text in lines for line in wrap(text, 100, subsequent_indent="    ") or [""])]


def _describe_cluster(cluster: Any) -> list[str]:
    """Return lines on the course of a study on a cluster, its costs, its limits, and the sources of these numbers."""
    shortest, longest = cluster.wall_hours_range
    spread = f" ({shortest:,.1f} to {longest:,.1f} in the trials)" if longest > shortest else ""
    parts = {
        "work": cluster.work_gpu_hours,
        "done again": cluster.lost_gpu_hours,
        "checkpoints": cluster.checkpoint_gpu_hours,
        "starting": cluster.start_gpu_hours,
    }
    money = ""
    if cluster.money is not None:
        money = f", {cluster.money:,.0f} {cluster.currency}; the whole cluster: {cluster.reserved_money:,.0f}"
    return [
        f"simulated on {cluster.cluster}, room for {cluster.places:,} x {cluster.gpus_per_run} GPUs at a time: "
        f"{cluster.wall_hours:,.1f} hours{spread}, {cluster.utilisation:.0%} of the GPUs used",
        f"{cluster.gpu_hours:,.0f} GPU hours{money}",
        f"of them {', '.join(f'{name} {hours:,.1f}' for name, hours in parts.items())}; "
        f"{cluster.preemptions:,.1f} preemptions",
        *(f"limited by {limit}" if cluster.gpu_hours else limit for limit in cluster.limits),
        *cluster.assumptions,
    ]


def _compare_schedules(plan: Any) -> str:
    """Return a line with the samples and the compute of all runs together, for each schedule."""
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
