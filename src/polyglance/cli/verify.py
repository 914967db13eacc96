"""`polyglance verify`: the files of a folder compared with their digests."""

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from polyglance.cli.output import show

__all__ = ["verify"]

_SHOWN = 5


def verify(folder: Positional[Path], json: bool = False) -> None:
    """Read a data set, run, study, cache or model whole, and compare its files with the digests that were written with
    them. Exit code 1 if a file is damaged, changed or missing.

    Args:
        folder: The folder.
        json: Print the result as JSON.
    """
    from polyglance.study.grid.verify import verify_folder

    result = verify_folder(folder)
    show(result, json, _describe)
    if result.problems:
        raise SystemExit(1)


def _describe(result: Any) -> str:
    lines = list(result.problems)
    num = len(result.problems)
    problems = "1 problem" if num == 1 else f"{num:,} problems"
    lines.append(f"{result.num_files:,} files compared ({result.num_bytes / 1e6:,.1f} MB), {problems}")
    if names := result.without_digest:
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        lines.append(
            f"{len(names):,} files have no digest (of an older version, an unfinished run or another program): {shown}"
        )
    return "\n".join(lines)
