"""`polyglance data world | import | build | stats | audit`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from tyro.conf import Positional

from polyglance.cli.options import Options, Settings
from polyglance.cli.output import make_plain, show
from polyglance.data.import_plan import format_import_plan
from polyglance.data.importer import ImportConfig, import_data, plan_import
from polyglance.data.world import WorldConfig, generate
from polyglance.report.audit import AuditConfig, write_audit
from polyglance.settings import UnusedSettingError

__all__ = ["audit_data_set", "build_data_sets", "count_data_set", "import_data_sets", "make_world"]


def make_world(out: Path, config: Options[WorldConfig], json: bool = False) -> None:
    """Draw the built-in world: scenes described in every language, as a training and a test data set.

    Args:
        out: Folder that gets the data sets `train` and `test`.
        json: Print the result as JSON.
    """
    show(generate(config, out), json, _make_fact_table)


def import_data_sets(config: Options[ImportConfig], dry_run: bool = False, json: bool = False) -> None:
    """Make data sets of your own images and texts. What cannot be used is counted, with file and line.

    Args:
        dry_run: Print columns, languages and encoding of the table with sample rows, and write nothing.
        json: Print the result as JSON.
    """
    if dry_run:
        show(plan_import(config), json, format_import_plan)
        return
    result = import_data(config)
    show(result, json, _make_fact_table)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    if config.test_fraction and not result.num_test:
        print(f"no image fell into the test split ({config.test_fraction:g} of {result.num_train})", file=sys.stderr)


def build_data_sets(
    recipe: Positional[Path],
    set_: Settings = (),
    workers: int = 1,
    ray: str | None = None,
    gpus_per_worker: float = 0.0,
    retry_failed: bool = False,
    json: bool = False,
) -> None:
    """Build a data set from images, bitext and engines. Can be killed and run again: it continues where it was stopped.

    Args:
        recipe: The recipe's TOML file.
        set_: Override a setting of the file.
        workers: Processes (with --ray: actors) of each step.
        ray: Address of a Ray cluster to run on, such as auto or 127.0.0.1:6379.
        gpus_per_worker: GPUs that each actor is given; with --ray only.
        retry_failed: Try records that an engine could not do again, and no others.
        json: Print the result as JSON.
    """
    from polyglance.config import load
    from polyglance.data.build.build import build
    from polyglance.data.build.executors import InProcess, RayCluster, WorkerPool
    from polyglance.data.build.recipe import Recipe
    from polyglance.progress import track_progress

    if gpus_per_worker and ray is None:
        raise UnusedSettingError(
            "`gpus_per_worker` has no effect without `ray`: workers take turns at CUDA_VISIBLE_DEVICES"
        )
    config = load(Recipe, recipe, overrides=set_)
    executor: InProcess | WorkerPool | RayCluster = InProcess() if workers == 1 else WorkerPool(workers)
    if ray is not None:
        executor = RayCluster(ray, num_workers=workers, num_gpus=gpus_per_worker)
    with track_progress() as show_progress:
        result = build(config, executor, retry_failed=retry_failed, on_progress=show_progress)
    show(result, json, _make_build_tables)
    if failed := sum(step.num_failed for step in result.steps):
        print(f"{failed} records failed; --retry-failed tries them again", file=sys.stderr)
    if not any(result.images.values()):
        raise ValueError(f"{config.out}: not a single image is left; what was left out, and why, is printed above")


def count_data_set(
    directory: Positional[Path],
    tokenizer: Path | None = None,
    decoder_tokenizer: Path | None = None,
    like_paper: bool = False,
    json: bool = False,
) -> None:
    """Print how many texts of which cell a data set holds, how long they are, and what was left out.

    Args:
        directory: A data set: the folder with manifest.json.
        tokenizer: A tokenizer.json, to count tokens with.
        decoder_tokenizer: With --like-paper: the targets' tokenizer.json, where it is not the prompts'.
        like_paper: Count as the paper counted its data: per cell samples, tokens of whole prompts and of targets.
        json: Print the result as JSON.
    """
    from polyglance.data.stats import measure_data_set
    from polyglance.mixture.paper_counts import count_like_paper
    from polyglance.mixture.tokenizer import load_tokenizer

    if not like_paper:
        if decoder_tokenizer is not None:
            raise UnusedSettingError("`decoder_tokenizer` has no effect without `like_paper`")
        loaded = None if tokenizer is None else load_tokenizer(tokenizer)
        show(measure_data_set(directory, loaded), json, _make_stats_tables)
    elif tokenizer is None:
        raise ValueError("--like-paper counts tokens: give --tokenizer (and --decoder-tokenizer, where it is another)")
    else:
        show(count_like_paper(directory, tokenizer, decoder_tokenizer), json, _make_paper_table)


def audit_data_set(
    directory: Positional[Path],
    config: Options[AuditConfig],
    out: Path = Path("audit.html"),
    json: bool = False,
) -> None:
    """Show a data set on one page: cells, lengths, languages, scores, what was left out, and a sample of images.

    Args:
        directory: A data set: the folder with manifest.json.
        out: The HTML file; the same numbers go beside it as JSON.
        json: Print the result as JSON.
    """
    show(write_audit(directory, config, out), json, _make_audit_table)


def _make_fact_table(result: Any) -> Table:
    """Return names and values of a result, one line each."""
    table = Table(show_header=False)
    for name, value in make_plain(result).items():
        if name == "notes":  # stand below the table
            continue
        text = ", ".join(f"{key}: {count}" for key, count in value.items()) if isinstance(value, Mapping) else value
        table.add_row(name.replace("_", " "), str(text))
    return table


def _make_build_tables(result: Any) -> list[Table]:
    steps = Table("step", "parts", "in", "out", "dropped", "failed", "time (s)", "in engines (s)")
    drops = Table("step", "left out because", "count", "first places")
    for step in result.steps:
        count = sum(drop["count"] for drop in step.drops.values())
        numbers = (f"{value:,}" for value in (step.num_parts, step.num_in, step.num_out, count, step.num_failed))
        steps.add_row(step.name, *numbers, f"{step.seconds:.1f}", f"{step.engine_s:.1f}")
        for reason, drop in step.drops.items():
            drops.add_row(step.name, reason, f"{drop['count']:,}", ", ".join(drop["examples"][:2]))
    steps.caption = ", ".join(f"{result.out / name}: {count:,} images" for name, count in result.images.items())
    return [steps, drops] if drops.row_count else [steps]


def _make_stats_tables(stats: Any) -> list[Table]:
    tables = [_make_length_table(f"{stats.num_images:,} images", [(cell, cell.text) for cell in stats.cells])]
    if sources := [(cell, cell.source) for cell in stats.cells if cell.source is not None]:
        tables.append(_make_length_table("English texts of the translations", sources))
    drops = Table("left out because", "count", "first places")
    for reason, drop in stats.drops.items():
        drops.add_row(reason, f"{drop['count']:,}", ", ".join(drop["examples"][:3]))
    return [*tables, drops] if stats.drops else tables


def _make_length_table(title: str, rows: Sequence[tuple[Any, Any]]) -> Table:
    """Return mean and longest length of the texts of each cell; a table of less than 100 columns."""
    units = {"words": "words", "chars": "characters", "utf8_bytes": "bytes", "tokens": "tokens"}
    units = {unit: name for unit, name in units.items() if any(getattr(text, unit) is not None for _, text in rows)}
    table = Table("cell", "texts", *units.values(), title=title, caption="lengths: mean, longest")
    table.columns[0].no_wrap = True  # the name of a cell is not broken in a narrow terminal
    for cell, text in rows:
        lengths = (getattr(text, unit) for unit in units)
        shown = (f"{length.mean:,.1f}, {length.max:,}" for length in lengths)
        styles = ", ".join(f"{count:,} {style}" for style, count in cell.styles.items())
        table.add_row(str(cell.cell), styles or f"{cell.num_texts:,}", *shown)
    return table


def _make_paper_table(counts: Any) -> Table:
    table = Table("cell", "samples", "encoder tokens, mean", "max", "decoder tokens, mean", "max")
    for cell in counts:
        encoder = (f"{cell.mean_encoder_tokens:.2f}", f"{cell.max_encoder_tokens:,}")
        decoder = (f"{cell.mean_decoder_tokens:.2f}", f"{cell.max_decoder_tokens:,}")
        table.add_row(cell.cell, f"{cell.samples:,}", *encoder, *decoder)
    table.caption = f"{sum(cell.samples for cell in counts):,} samples"
    return table


def _make_audit_table(audit: Any) -> list[Table | str]:
    table = Table("cell", "texts", "share", "in training", "other language", "partly", "score", title=str(audit.page))
    for cell in audit.cells:
        score = "" if cell.mean_score is None else f"{cell.mean_score:.3f}"
        values = (cell.share, cell.balanced_share, cell.in_other_language, cell.partly_in_other_language)
        table.add_row(cell.cell, f"{cell.num_texts:,}", *(f"{100 * value:.1f} %" for value in values), score)
    return [table, *audit.warnings]
