"""Table, laws and report of a study, made of the runs that are done: on the way, and when all have ended.

`study run` alone writes them. While jobs are at work elsewhere it has time for that:

    results = ResultsSoFar(config, print)
    run_jobs(..., on_done=lambda ended: results.note(ended.job, left_s), before_wait=results.refresh)
"""

import time
from collections.abc import Callable, Sequence

from polyglance.error_text import one_line
from polyglance.files import seal_files
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import read_state
from polyglance.study.grid.jobs import Job, list_runs
from polyglance.study.results.conclusion import Conclusion
from polyglance.study.store.copy import refresh_copy

__all__ = ["ResultsSoFar", "write_results"]

_EVERY_S = 120.0
"""Shortest time between two times that results are written on the way, in seconds."""
_SHARE = 0.05
"""Largest share of the time that this takes."""
_LAST_S = 300.0
"""Expected time until all jobs have ended, in seconds, below which the results are left for the end."""


def write_results(config: StudyConfig) -> Conclusion:
    """Write runs.csv, laws and report of the runs that are done. The page says how many are not.

    Returns:
        What they were made from; not written.
    """
    from polyglance.report import write_report  # torch and matplotlib take a while to load
    from polyglance.study.results.laws import fit_laws
    from polyglance.study.results.table import write_table

    states = {job.id: read_state(config.out, job) for job in list_runs(config)}
    finished = [job for job in list_runs(config) if states[job.id] == "done"]
    table = write_table(config, config.out / "runs.csv", finished)
    problems = fit_laws(config)
    report = write_report(config.out, _describe_missing_runs(list(states.values())))
    seal_files(config.out, [table.name, "study.toml"])
    for folder in (config.out / "laws", report.page.parent):
        seal_files(folder, [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else [])
    return Conclusion.of(config, finished, num_runs=report.num_runs, problems=problems, predictions=report.predictions)


def _describe_missing_runs(states: Sequence[str]) -> list[str]:
    """Return a sentence about the runs that the report is without, if there are any."""
    num_failed, num_done = states.count("failed"), states.count("done")
    if num_done == len(states):
        return []
    failed = f", {num_failed} failed" if num_failed else ""
    return [f"{num_done} of {len(states)} runs are done{failed}: table, laws and this page are of those that are done."]


class ResultsSoFar:
    """Results that are written again as runs end, seldom enough to cost a twentieth of the time at most, and not in the
    last five minutes.

    Args:
        say: called with a line when they are written, or cannot be.
        upload: called when they are written.
    """

    def __init__(
        self, config: StudyConfig, say: Callable[[str], None], upload: Callable[[], None] = lambda: None
    ) -> None:
        self._config, self._say, self._upload = config, say, upload
        self._has_new = False
        self._left_s = 0.0
        self._next_s = time.monotonic() + _EVERY_S

    def note(self, job: Job, left_s: float) -> None:
        """Note that a job is done.

        Args:
            left_s: expected time until all jobs have ended, in seconds.
        """
        self._has_new = self._has_new or job.kind == "run"
        self._left_s = left_s

    def refresh(self) -> None:
        """Write table, laws and report, if runs have ended since the last time and that is long enough ago. What is
        wrong with them is said, and stops nothing: they are written again when all runs have ended."""
        started_s = time.monotonic()
        if not self._has_new or self._left_s < _LAST_S or started_s < self._next_s:
            return
        self._has_new = False
        try:
            refresh_copy(self._config)
            written = write_results(self._config)
            self._upload()
            self._say(f"table, laws and report so far: {written.num_runs} runs ({self._config.out / 'report'})")
        except (ValueError, OSError) as error:
            self._say(f"table, laws and report are not written yet: {one_line(error)}")
        ended_s = time.monotonic()
        self._next_s = ended_s + max(_EVERY_S, (ended_s - started_s) / _SHARE)
