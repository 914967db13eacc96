"""`polyglance results`: a published result table with the user's models in it."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

__all__ = ["results"]


def results(
    scores: Positional[tuple[str, ...]] = (),
    *,
    table: Literal["headline", "multi30k", "commute", "coco", "xm3600"] = "headline",
    format: Literal["md", "csv", "latex", "json"] = "md",
    out: Path | None = None,
) -> None:
    """Print a result table of the paper with the scores of your models below its rows.

    Args:
        scores: Folders with scores.json and prediction.json, or folders of such; NAME=FOLDER names the model.
        table: Which of the paper's result tables.
        format: How it is written.
        out: Write it to this file.
    """
    from polyglance.files import write_atomically
    from polyglance.report.result_tables import FORMATS, make_result_tables
    from polyglance.report.score_folders import read_models

    text = FORMATS[format](make_result_tables(table, read_models(scores)))
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text)
