"""`polyglance train`: one run from a TOML file, in one process or, under torchrun, in many."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from tyro.conf import Positional, UseAppendAction, arg

from polyglance.cli.output import show
from polyglance.files import locked

__all__ = ["train"]

Settings = Annotated[UseAppendAction[tuple[str, ...]], arg(name="set", metavar="KEY=VALUE")]
"""Dotted overrides of the file: `--set optim.lr=3e-4`, as often as needed."""


def train(
    config: Positional[Path],
    set_: Settings = (),
    dry_run: bool = False,
    profile: bool = False,
    steps: int = 20,
    json: bool = False,
) -> None:
    """Train a model. Can be stopped or killed at any moment: the same command goes on. SIGTERM and SIGUSR1 finish the
    step, save and exit 0.

    Args:
        config: The run's TOML file.
        set_: Override a setting of the file.
        dry_run: Make the batches of the first steps, without a model, and print what they are like.
        profile: Train the first steps, in a folder of their own, and print where the time goes.
        steps: Steps of a dry run or a profile.
        json: Print the result for machines.
    """
    from polyglance.config import load
    from polyglance.train.config import RunConfig
    from polyglance.train.start import make_tokenizer

    if dry_run and profile:
        raise ValueError("--dry-run looks at the data alone, --profile trains: give one of them")
    if steps < 2:
        raise ValueError(f"--steps is {steps}; 2 or more is right")
    settings = load(RunConfig, config, overrides=set_)
    make_tokenizer(settings)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of transformers too: a bar for every file saved
    if dry_run:
        from polyglance.train.dry_run import dry_run as run_dry

        show(run_dry(settings.training, num_steps=steps), json, _dry_run_table)
    elif profile:
        _profile(settings, steps, json)
    else:
        _train(settings, json)


def _train(settings: Any, json: bool) -> None:
    from polyglance.train.signals import Stopped, catch_stop_requests

    try:
        held = locked(settings.out, "polyglance train") if _is_main() else nullcontext()
        with held, catch_stop_requests() as should_stop:
            result = _run(settings, should_stop)
    except Stopped as stopped:
        print(f"polyglance: {stopped}", file=sys.stderr)
        return
    except OSError as error:  # a disk that is full or not writable, where it is not the data's
        raise ValueError(f"{error.filename or settings.out}: {error.strerror}") from None
    if _is_main():
        show(result, json, _result_lines)


def _run(settings: Any, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train, and measure if the file asks for it. Where the model is and, if measured, the losses of the splits."""
    from polyglance.run_records import average_splits
    from polyglance.study.measure import make_evaluator, train_and_measure
    from polyglance.train.loop import Hooks
    from polyglance.train.run import train

    result: dict[str, Any] = {"run": str(settings.out), "model": str(settings.out / "checkpoints" / "final")}
    hooks = Hooks(should_stop=should_stop)
    if settings.evaluation is None:
        train(settings.training, settings.out, hooks=hooks, show_progress=True)
        return result

    @cache
    def evaluator() -> Any:
        return make_evaluator(settings.training, settings.evaluation, settings.test)

    if settings.best in ("UC", "ST", "SC"):

        def validate(model: Any, runtime: Any) -> dict[str, float]:
            return average_splits(evaluator().measure_plain(model, runtime).values())

        hooks = replace(hooks, validate=validate)
    run_id = settings.out.name
    record = train_and_measure(
        settings.training, settings.out, evaluator, run_id=run_id, hooks=hooks, show_progress=True
    )
    if record is not None:
        result["losses"] = average_splits(record.cells.values())
    return result


def _profile(settings: Any, steps: int, json: bool) -> None:
    """Train the first steps in a folder that is removed again; one checkpoint is written on the way."""
    from polyglance.train.loop import Hooks
    from polyglance.train.run import train

    seconds: dict[str, float] = {}
    rows: list[Mapping[str, Any]] = []
    folder = settings.out / "profile"
    config = replace(
        settings.training,
        num_samples=steps * settings.mixture.batch_size,
        save_every_steps=max(1, steps // 2),
        log_every_steps=max(1, steps // 2),
        best=None,
    )
    if _is_main():
        shutil.rmtree(folder, ignore_errors=True)
    train(config, folder, hooks=Hooks(on_phases=seconds.update, on_row=rows.append), show_progress=True)
    if _is_main():
        shutil.rmtree(folder, ignore_errors=True)
        show({"steps": steps, "seconds": seconds, "last_row": rows[-1]}, json, _profile_table)


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _result_lines(result: Mapping[str, Any]) -> str:
    losses = "".join(f"\n{split}: {loss:.3f} nats per token" for split, loss in result.get("losses", {}).items())
    return f"trained: {result['model']}{losses}"


def _profile_table(result: Mapping[str, Any]) -> Table:
    total = sum(result["seconds"].values())
    table = Table("phase", "ms per step", "share")
    for phase, seconds in result["seconds"].items():
        table.add_row(phase, f"{1e3 * seconds / result['steps']:.1f}", f"{seconds / total:.1%}")
    row = result["last_row"]
    mfu = f", MFU {row['mfu']:.1%}" if "mfu" in row else ""
    table.caption = (
        f"{result['steps']} steps, the device waited for at every phase; {row['samples_per_s']:,.1f} samples/s, "
        f"{row['tokens_per_s']:,.0f} target tokens/s{mfu}, {row['memory_bytes'] / 1e9:.2f} GB"
    )
    return table


def _dry_run_table(result: Any) -> Table:
    table = Table("of the first steps", "")
    table.add_row("steps, samples", f"{result.num_steps:,}, {result.num_samples:,}")
    table.add_row("samples/s", f"{result.samples_per_s:,.0f}")
    for name, lengths in (("prompt", result.source_tokens), ("target", result.target_tokens)):
        table.add_row(f"{name} tokens, mean and longest", f"{lengths['mean']:.1f}, {lengths['longest']}")
    table.add_row("padding", f"{result.padding_share:.1%} of the positions")
    for cell, count in result.samples_per_cell.items():
        table.add_row(cell, f"{count:,} ({count / result.num_samples:.2%})")
    for reason, found in result.bad_samples.items():
        table.add_row(f"bad, {reason}", f"{found['count']:,}, for example {found['examples'][0]}")
    return table
