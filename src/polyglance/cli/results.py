"""`polyglance results`."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

__all__ = ["show_results"]


def show_results(
    scores: Positional[tuple[str, ...]] = (),
    table: Literal["headline", "multi30k", "commute", "coco", "xm3600"] = "headline",
    format: Literal["md", "csv", "latex", "json"] = "md",
    out: Path | None = None,
) -> None:
    """Print a result table of the paper with the scores of your models below its rows.

    Args:
        scores: Folders with scores.json and prediction.json, or folders of such; NAME=FOLDER names the model.
        table: Table of the paper.
        format: Format of the table.
        out: File to write the table to, in place of the terminal.
    """
    from polyglance.files import refuse_folder, write_atomically
    from polyglance.report.result_tables import FORMATS, make_result_tables
    from polyglance.report.score_folders import read_models

    refuse_folder(out)
    text = FORMATS[format](make_result_tables(table, read_models(scores)))
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text)
