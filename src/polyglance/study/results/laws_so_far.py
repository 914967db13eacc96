"""Laws of a study on the way, read from its table and its law files while `study run` writes them again and again.
Importing this loads no torch.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from polyglance.laws import Law
from polyglance.report.live import LawSoFar
from polyglance.run_records import RunRow, read_runs
from polyglance.study.config import StudyConfig
from polyglance.study.results.laws import LAW_FORMS

__all__ = ["read_laws_so_far"]


def read_laws_so_far(config: StudyConfig, runs: Mapping[str, RunRow]) -> tuple[LawSoFar, ...]:
    """Read the laws of a study, as long as its table has what its runs have measured. None are read after a change of
    the study that has made runs others, until the table is written again.

    Args:
        runs: id -> what is measured, of the runs that are done.

    Raises:
        ValueError: the table or a law cannot be read.
    """
    table = config.out / "runs.csv"
    if not table.is_file() or not all(_is_of(row, runs.get(row.id), config.laws.targets) for row in read_runs(table)):
        return ()
    found: list[LawSoFar] = []
    for target in config.laws.targets:
        for form in LAW_FORMS:
            path = config.out / "laws" / f"{form}-{target}.json"
            if path.is_file():
                stat = path.stat()
                found += _read(path, target, stat.st_mtime_ns, stat.st_ino)
    return tuple(found)


def _is_of(row: RunRow, run: RunRow | None, targets: Sequence[str]) -> bool:
    """Tell whether a row of the table has what its run has measured."""
    return run is not None and all(row[name] == run[name] or math.isnan(row[name]) for name in targets)


@lru_cache(maxsize=64)
def _read(path: Path, target: str, changed_ns: int, inode: int) -> tuple[LawSoFar, ...]:  # noqa: ARG001 - another of them, another file
    law = Law.load(path)
    return tuple(
        LawSoFar(
            target=target,
            form=law.form,
            group=group,
            num_runs=fit.num_rows,
            parameters={name: None if name in fit.unidentified else value for name, value in fit.parameters.items()},
            intervals=dict(fit.intervals),
            held_out_error=None if fit.held_out is None else fit.held_out.median_error,
        )
        for group, fit in law.fits.items()
    )
