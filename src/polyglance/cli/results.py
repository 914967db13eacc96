"""`polyglance results`."""

import sys
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

__all__ = ["show_results"]


def show_results(
    scores: Positional[tuple[str, ...]] = (),
    table: Literal["headline", "multi30k", "commute", "coco", "xm3600"] = "headline",
    format: Literal["md", "csv", "latex", "json"] | None = None,
    out: Path | None = None,
) -> None:
    """Print a result table of the paper with the scores of your models below its rows.

    Args:
        scores: Folders with scores.json and prediction.json, or folders of such; NAME=FOLDER names the model.
        table: Table of the paper.
        format: Format of the table; if not given, that of the ending of --out (.md, .csv, .tex, .json), else md.
        out: File to write the table to, in place of the terminal.
    """
    from polyglance.files import write_atomically
    from polyglance.report.result_tables import TABLE_FORMATS, choose_format, make_result_tables
    from polyglance.report.score_folders import note_unscored, read_models

    chosen = choose_format(format, out)
    tables = make_result_tables(table, read_models(scores), note_unscored(scores))
    text = TABLE_FORMATS[chosen].write(tables)
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text)
    if chosen == "csv":  # has no place for them
        for note in dict.fromkeys(note for one in tables for note in one.notes):
            print(f"note: {note}", file=sys.stderr)
