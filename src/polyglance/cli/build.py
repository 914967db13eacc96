"""`polyglance data build | audit`."""

import sys
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from tyro.conf import Positional

from polyglance.cli.data import data_app
from polyglance.cli.output import show
from polyglance.cli.study import Settings

__all__ = ["data_audit", "data_build"]


@data_app.command(name="build")
def data_build(
    recipe: Positional[Path],
    set_: Settings = (),
    workers: int = 1,
    ray: str | None = None,
    gpus_per_worker: float = 0.0,
    retry_failed: bool = False,
    json: bool = False,
) -> None:
    """Build a data set from images, bitext and engines. Can be killed and run again: it goes on where it was.

    Args:
        recipe: The recipe's TOML file.
        set_: Override a setting of the file.
        workers: Processes (with --ray: actors) of each step.
        ray: Address of a Ray cluster to run on, such as auto or 127.0.0.1:6379.
        gpus_per_worker: GPUs that each actor is given; with --ray only.
        retry_failed: Try records that an engine could not do again, and no others.
        json: Print the result for machines.
    """
    from polyglance.config import load
    from polyglance.data.build.build import build
    from polyglance.data.build.executors import InProcess, Processes, RayCluster
    from polyglance.data.build.recipe import Recipe
    from polyglance.progress import track_progress

    if gpus_per_worker and ray is None:
        raise ValueError("--gpus-per-worker is for --ray; without it, workers take turns at CUDA_VISIBLE_DEVICES")
    config = load(Recipe, recipe, overrides=set_)
    executor: InProcess | Processes | RayCluster = InProcess() if workers == 1 else Processes(workers)
    if ray is not None:
        executor = RayCluster(ray, num_workers=workers, num_gpus=gpus_per_worker)
    with track_progress() as show_progress:
        result = build(config, executor, retry_failed=retry_failed, on_progress=show_progress)
    show(result, json, _build_tables)
    if failed := sum(step.num_failed for step in result.steps):
        print(f"{failed} records failed; --retry-failed tries them again", file=sys.stderr)
    if not any(result.images.values()):
        raise ValueError(f"{config.out}: not a single image is left; what was left out, and why, is printed above")


@data_app.command(name="audit")
def data_audit(
    directory: Positional[Path],
    out: Path = Path("audit.html"),
    images: int = 24,
    texts_per_cell: int = 1000,
    balance: Literal["cell", "task", "language"] = "cell",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Show a data set on one page: cells, lengths, languages, scores, what was left out, and a sample of images.

    Args:
        directory: A data set: the folder with manifest.json.
        out: The HTML file; the same numbers go beside it as JSON.
        images: Images on the sample sheet.
        texts_per_cell: Texts of each cell whose language is identified.
        balance: The mixture's balancing that shares in training are told for.
        seed: Of what is drawn.
        json: Print the result for machines.
    """
    from polyglance.report.audit import AuditConfig, write_audit

    config = AuditConfig(
        directory=directory, num_images=images, texts_per_cell=texts_per_cell, balance=balance, seed=seed
    )
    show(write_audit(config, out), json, _audit_table)


def _build_tables(result: Any) -> Group:
    steps = Table("step", "parts", "in", "out", "dropped", "failed", "time (s)", "in engines (s)")
    drops = Table("step", "left out because", "count", "first places")
    for step in result.steps:
        count = sum(drop["count"] for drop in step.drops.values())
        numbers = (f"{value:,}" for value in (step.num_parts, step.num_in, step.num_out, count, step.num_failed))
        steps.add_row(step.name, *numbers, f"{step.seconds:.1f}", f"{step.engine_s:.1f}")
        for reason, drop in step.drops.items():
            drops.add_row(step.name, reason, f"{drop['count']:,}", ", ".join(drop["examples"][:2]))
    steps.caption = ", ".join(f"{result.out / name}: {count:,} images" for name, count in result.images.items())
    return Group(steps, drops) if drops.row_count else Group(steps)


def _audit_table(audit: Any) -> Table:
    table = Table("cell", "texts", "share", "in training", "other language", "score", title=str(audit.page))
    for cell in audit.cells:
        score = "" if cell.mean_score is None else f"{cell.mean_score:.3f}"
        shares = (f"{100 * value:.1f} %" for value in (cell.share, cell.balanced_share, cell.in_other_language))
        table.add_row(cell.cell, f"{cell.num_texts:,}", *shares, score)
    return table
