"""`polyglance train`: one run from a TOML file, in one process or, under torchrun, in many."""

import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from tyro.conf import Positional

from polyglance.cli.options import Settings
from polyglance.cli.output import show
from polyglance.config import load
from polyglance.distributed import is_main_process
from polyglance.settings import UnusedSettingError

__all__ = ["train_model"]


def train_model(
    config: Positional[Path],
    set_: Settings = (),
    dry_run: bool = False,
    profile: bool = False,
    steps: int | None = None,
    json: bool = False,
) -> None:
    """Train a model. Can be stopped or killed at any moment: the same command goes on. SIGTERM and SIGUSR1 finish the
    step, save and exit 0.

    Args:
        config: The run's TOML file.
        set_: Override a setting of the file.
        dry_run: Make the batches of the first steps, without a model, and print what they are like.
        profile: Train the first steps, in a folder of their own, and print where the time goes.
        steps: Number of steps of a dry run or a profile; 20 if not given.
        json: Print the result as JSON.
    """
    from polyglance.train.config import RunConfig

    if dry_run and profile:
        raise ValueError("--dry-run looks at the data alone, --profile trains: give one of them")
    if steps is not None and not (dry_run or profile):
        raise UnusedSettingError("`steps` has no effect without `dry_run` or `profile`")
    if steps is not None and steps < 2:
        raise ValueError(f"--steps is {steps}; expected 2 or more")
    settings = load(RunConfig, config, overrides=set_)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers shows one for every file that it saves
    if dry_run:
        from polyglance.distributed import Runtime
        from polyglance.train.dry_run import dry_run as inspect_batches
        from polyglance.train.start import make_tokenizer

        make_tokenizer(settings, Runtime.single())
        show(inspect_batches(settings.training, num_steps=steps or 20), json, _make_dry_run_table)
    elif profile:
        from polyglance.train.profile import profile_training

        measured = profile_training(settings, num_steps=steps or 20)
        if is_main_process():
            show(measured, json, _make_profile_table)
    else:
        _train(settings, json)


def _train(settings: Any, json: bool) -> None:
    from polyglance.study.work.measure import train_run
    from polyglance.train.signals import Stopped, catch_stop_requests

    try:
        with catch_stop_requests() as should_stop:
            result = train_run(settings, should_stop)
    except Stopped as stopped:
        print(f"polyglance: {stopped}", file=sys.stderr)
        return
    except OSError as error:  # a disk that is full or not writable
        raise ValueError(f"{error.filename or settings.out}: {error.strerror}") from None
    if is_main_process():
        show(result, json, _describe_result)


def _describe_result(result: Any) -> str:
    losses = "".join(f"\n{split}: {loss:.3f} nats per token" for split, loss in result.losses.items())
    return f"trained: {result.model}{losses}"


def _make_profile_table(profile: Any) -> RenderableType:
    total = sum(profile.seconds.values())
    table = Table("phase", "ms per step", "share")
    for phase, seconds in profile.seconds.items():
        table.add_row(phase, f"{1e3 * seconds / profile.steps:.1f}", f"{seconds / total:.1%}")
    row = profile.last_row
    mfu = f", MFU {row['mfu']:.1%}" if "mfu" in row else ""
    table.caption = (
        f"{profile.steps} steps, the device waited for at every phase; {row['samples_per_s']:,.1f} samples/s, "
        f"{row['tokens_per_s']:,.0f} target tokens/s{mfu}, {row['memory_bytes'] / 1e9:.2f} GB"
    )
    return Group(table, _make_kernel_table(profile.kernels)) if profile.kernels else table


def _make_kernel_table(kernels: Any) -> Table:
    total = sum(kernels.ms_per_step.values()) or 1.0
    table = Table("kind of kernel", "ms per step", "share")
    for kind, ms in kernels.ms_per_step.items():
        table.add_row(kind, f"{ms:.2f}", f"{ms / total:.1%}")
    idle = "" if kernels.idle_share is None else f", the GPU idle {kernels.idle_share:.1%} of the time"
    table.caption = (
        f"{kernels.steps} steps, nothing waited for; {kernels.launches_per_step:,.0f} launches a step, "
        f"{kernels.num_shapes} shapes of lookups{idle}"
    )
    return table


def _make_dry_run_table(result: Any) -> Table:
    table = Table("of the first steps", "")
    table.add_row("steps, samples", f"{result.num_steps:,}, {result.num_samples:,}")
    table.add_row("samples/s", f"{result.samples_per_s:,.0f}")
    for name, lengths in (("prompt", result.source_tokens), ("target", result.target_tokens)):
        table.add_row(f"{name} tokens, mean and longest", f"{lengths['mean']:.1f}, {lengths['longest']}")
    table.add_row("padding", f"{result.padding_share:.1%} of the positions")
    for cell, count in result.samples_per_cell.items():
        table.add_row(cell, f"{count:,} ({count / result.num_samples:.2%})")
    for reason, bad in result.bad_samples.items():
        table.add_row(f"bad, {reason}", f"{bad['count']:,}, for example {bad['examples'][0]}")
    return table
