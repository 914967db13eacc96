"""`polyglance data world | import | stats`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from tyro.conf import Positional
from tyro.extras import SubcommandApp

from polyglance.cli.output import show

__all__ = ["data_app"]

data_app = SubcommandApp()


@data_app.command(name="world")
def data_world(
    out: Path,
    level: Literal["pairs", "counts", "full"] = "pairs",
    image_size: int = 32,
    languages: str = "en,de,fr,es,ru,zh",
    styles: str = "short",
    num_train_images: int = 20_000,
    num_test_images: int = 1_000,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Draw the built-in world: scenes described in every language, as a training and a test data set.

    Args:
        out: Folder that gets the data sets `train` and `test`.
        level: Difficulty: which attributes vary.
        image_size: Side of the square images, in pixels.
        languages: Languages of the texts, separated by commas.
        styles: Kinds of captions, of `short` and `detailed`, separated by commas.
        num_train_images: Images to train on.
        num_test_images: Images held out; none shows what a training image shows.
        seed: Of scenes and their rendering.
        json: Print the result for machines.
    """
    from polyglance.config import from_dict
    from polyglance.data.world import WorldConfig, generate

    values = {"level": level, "image_size": image_size, "languages": _list(languages), "styles": _list(styles)}
    values |= {"num_train_images": num_train_images, "num_test_images": num_test_images, "seed": seed}
    show(generate(from_dict(WorldConfig, values), out), json, _facts)


@data_app.command(name="import")
def data_import(
    out: Path,
    format: Literal["table", "cc12m-ccmatrix", "baked"] = "table",
    table: Path | None = None,
    images: Path | None = None,
    test_fraction: float = 0.1,
    languages: str = "",
    background: str = "255,255,255",
    max_pixels: int | None = None,
    max_side: int | None = None,
    licence: str = "",
    seed: int = 0,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Make data sets of your own images and texts. What cannot be used is counted, with file and line.

    Args:
        out: Folder that gets the data sets `train` and `test`.
        format: A table of your own; CC12M's WebDataset shards with the published annotations; or the shards that the
            published code makes of them.
        table: JSON lines, CSV, TSV or Parquet: an image and its texts by language in each row. For cc12m-ccmatrix:
            the folder (or URL) of the annotations, a Parquet file per shard.
        images: Folder the image paths start from; without a table, of `<name>.jpg` and `<name>.<language>.txt`. For
            cc12m-ccmatrix and baked: the folder (or URL) of the shards.
        test_fraction: Share of the pictures held out.
        languages: Languages to keep, separated by commas; all if not given.
        background: Red,green,blue that shows through transparent images.
        max_pixels: Images with more pixels are left out undecoded.
        max_side: Larger images are reduced to this, in pixels.
        licence: Licence of images and texts, for the manifest.
        seed: Another seed holds out other pictures.
        overwrite: Replace data sets that are there.
        json: Print the result for machines.
    """
    from polyglance.config import from_dict
    from polyglance.data.importer import ImportConfig, import_data

    try:
        colour = tuple(int(value) for value in background.split(","))
    except ValueError:
        raise ValueError(f"--background {background}: expected three numbers such as 255,255,255") from None
    values: dict[str, Any] = {
        "out": out,
        "format": format,
        "table": table,
        "images": images,
        "test_fraction": test_fraction,
    }
    values |= {"languages": _list(languages), "background": colour, "max_pixels": max_pixels, "max_side": max_side}
    values |= {"licence": licence, "seed": seed, "overwrite": overwrite}
    given = {key: value for key, value in values.items() if value is not None}
    show(import_data(from_dict(ImportConfig, given)), json, _facts)


@data_app.command(name="stats")
def data_stats(
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
        json: Print the result for machines.
    """
    from polyglance.data.stats import measure_data_set
    from polyglance.mixture.tokenizer import load_tokenizer

    if not like_paper:
        show(measure_data_set(directory, None if tokenizer is None else load_tokenizer(tokenizer)), json, _stats_tables)
        return
    if tokenizer is None:
        raise ValueError("--like-paper counts tokens: give --tokenizer (and --decoder-tokenizer, where it is another)")
    from polyglance.mixture.paper_counts import count_like_paper

    counts = count_like_paper(directory, tokenizer, decoder_tokenizer)
    show([asdict(cell) for cell in counts] if json else counts, json, _paper_table)


def _paper_table(counts: Any) -> Table:
    table = Table("cell", "samples", "encoder tokens, mean", "max", "decoder tokens, mean", "max")
    for cell in counts:
        encoder = (f"{cell.mean_encoder_tokens:.2f}", f"{cell.max_encoder_tokens:,}")
        decoder = (f"{cell.mean_decoder_tokens:.2f}", f"{cell.max_decoder_tokens:,}")
        table.add_row(cell.cell, f"{cell.samples:,}", *encoder, *decoder)
    table.caption = f"{sum(cell.samples for cell in counts):,} samples"
    return table


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _facts(result: Any) -> Table:
    table = Table(show_header=False)
    for name, value in (result if isinstance(result, dict) else asdict(result)).items():
        shown = ", ".join(f"{key}: {count}" for key, count in value.items()) if isinstance(value, dict) else value
        table.add_row(name.replace("_", " "), str(shown))
    return table


def _stats_tables(stats: Any) -> Group:
    rows = stats.rows()
    columns = [name for name in (rows[0] if rows else {}) if any(row[name] is not None for row in rows)]
    cells = Table(*(name.replace("_", " ") for name in columns), title=f"{stats.num_images:,} images")
    for column in cells.columns[:1]:  # a cell's name stays whole however narrow the terminal is
        column.no_wrap = True
    for row in rows:
        cells.add_row(*(_cell(row[name]) for name in columns))
    drops = Table("left out because", "count", "first places")
    for reason, drop in stats.drops.items():
        drops.add_row(reason, f"{drop['count']:,}", ", ".join(drop["examples"][:3]))
    return Group(cells, drops) if stats.drops else Group(cells)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {count:,}" for key, count in value.items())
    if value is None:
        return ""
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
