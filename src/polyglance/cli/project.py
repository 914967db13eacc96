"""`polyglance init` and `polyglance doctor`."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional

from polyglance.cli.options import Paths
from polyglance.cli.output import abbreviate_count, show

__all__ = ["begin", "examine"]


def begin(
    out: Positional[Path],
    want: tuple[str, ...],
    captions: tuple[str, ...] = ("en",),
    images: Path | None = None,
    bitext: Paths = (),
    engines: Path = Path("models"),
    size: str | None = None,
    budget: float | None = None,
    price_per_gpu_hour: float = 2.5,
    currency: str = "USD",
    gpus: int = 8,
    gpu: str = "H100",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Begin a project for your languages: look at the data, write recipe, trial run and study, say what is missing and
    what it will cost.

    Args:
        out: Folder of the project.
        want: Languages that have no captions, and are wanted.
        captions: Languages that have captions.
        images: Images: a folder, tars, Parquet. Text files beside them are captions.
        bitext: Sentence pairs with English, the language in the file's name (en-uk.tsv).
        engines: Folder of the checkpoints that describe, translate and match.
        size: Published size to train; if not given, the best for the budget, and without one 3.5b.
        budget: Most money for one run.
        price_per_gpu_hour: Price of one GPU for one hour.
        currency: Currency of budget and price, as it is printed.
        gpus: Number of GPUs.
        gpu: Kind of GPU, such as H100.
        overwrite: Write over files of the project that are there.
        json: Print the result as JSON.
    """
    from polyglance.study.project.begin import ProjectConfig, begin_project

    config = ProjectConfig(
        out=out,
        want=want,
        captions=captions,
        images=images,
        bitext=tuple(path for group in bitext for path in group),
        engines=engines,
        size=size,
        budget=budget,
        price_per_gpu_hour=price_per_gpu_hour,
        currency=currency,
        gpus=gpus,
        gpu=gpu,
        overwrite=overwrite,
    )
    show(begin_project(config), json, _describe_start)


def examine(files: Positional[tuple[Path, ...]] = (), extras: tuple[str, ...] = (), json: bool = False) -> None:
    """Look at machine, packages and disk, and at what recipes, runs and studies need. The exit code is 1 if something
    that was asked for cannot work.

    Args:
        files: Recipes, runs and studies (TOML) whose data and checkpoints are looked for.
        extras: Extras that have to be installed, such as train,ray.
        json: Print the result as JSON.
    """
    from polyglance.study.doctor import examine_machine

    checks = examine_machine(files, extras)
    show(checks, json, _make_check_table)
    if any(check.state == "missing" for check in checks):
        raise SystemExit(1)


def _make_check_table(checks: Any) -> Table:
    table = Table("", "state", "found", "what to do", box=SIMPLE_HEAD)
    for check in checks:
        table.add_row(*map(escape, (check.name, check.state, check.found, check.advice)))
    return table


def _describe_start(start: Any) -> list[Table | str]:
    lines = ["There is:", *(f"  {line}" for line in start.found or ["nothing yet"])]
    if start.missing:
        lines += ["", "Missing:", *(f"  {line}" for line in start.missing)]
    lines += ["", "Written: " + ", ".join(map(str, start.files))]
    table = Table("size", "samples", "GPU-hours", start.plan.currency, "expected loss", "CIDEr x 100", box=SIMPLE_HEAD)
    for option in start.plan.options:
        table.add_row(
            f"{option.name}{' (study.toml)' if option.name == start.size else ''}",
            abbreviate_count(option.costs["samples"]),
            f"{option.costs['gpu_hours']:,.0f}",
            f"{option.costs['money']:,.0f}",
            _format_estimate(option.loss, 2),
            _format_estimate(option.score, 0),
        )
    plan = ["", "One run, by the law of the paper, with 95 % intervals:"]
    below = [f"extrapolated: {line}" for line in start.extrapolated]
    below += [
        "",
        "Next:" if not start.missing else "Next, when nothing is missing:",
        *(f"  {one}" for one in start.commands),
    ]
    return ["\n".join([*lines, *plan]), table, "\n".join(below)]


def _format_estimate(estimate: Any, digits: int) -> str:
    if estimate is None or estimate.value is None:
        return "-"
    ends = " to ".join("?" if end is None else f"{end:.{digits}f}" for end in (estimate.low, estimate.high))
    return f"{estimate.value:.{digits}f} ({ends})"
