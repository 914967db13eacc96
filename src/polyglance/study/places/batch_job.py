"""Program of a batch job of Slurm:
`python -m polyglance.study.places.batch_job FOLDER STUDY VERSION REPORTS JOB MARK [JOB MARK ...]`.

It does its jobs one after the other, and writes a report of each into REPORTS, a folder or the URL of a store. SIGTERM,
which comes before a time limit and at preemption, ends the job at work after its next step, which is saved; the others
are then not begun. Of a job over several nodes each runs it; the first reports. Another one whose part has not ended
well says why in the log of the batch job, and exits with 1, which lets `srun` end the job.
"""

import os
import sys
from typing import Any

from polyglance.object_store import StoreError
from polyglance.study.places.batch_reports import BatchReport, BatchReports
from polyglance.study.work.attempt import NamedJob, try_named_job
from polyglance.study.work.ending import NOT_BEGUN
from polyglance.train.signals import catch_stop_requests

__all__ = ["do_batch_job"]


def do_batch_job(folder: str, study: str, version: str, reports: str, *jobs: str) -> None:
    """Do the jobs, and write their reports, with the id of this batch job."""
    named: list[NamedJob] = [
        {"folder": folder, "study": study, "job": job, "mark": mark, "version": version}
        for job, mark in zip(jobs[::2], jobs[1::2], strict=True)
    ]
    written = BatchReports(reports)
    with catch_stop_requests() as should_stop:
        if os.environ.get("SLURM_PROCID", "0") != "0":
            for one in named:
                ended = try_named_job(one, should_stop, is_first=False)
                if ended["ending"] != "done":
                    sys.exit(f"polyglance: {ended['problem']}")
            return
        number = os.environ.get("SLURM_JOB_ID", "")
        try:
            before = {one["job"]: written.read(one["job"]) for one in named}
            left = [one for one in named if not _has_ended(before[one["job"]], number)]
            for one in left:
                if before[one["job"]] is not None:
                    written.remove(one["job"])  # from before this batch job was requeued
        except StoreError as error:
            sys.exit(f"polyglance: {error}")
        for one in left:
            is_too_late = should_stop() and one is not left[0]
            report: dict[str, Any] = {"ending": NOT_BEGUN} if is_too_late else try_named_job(one, should_stop)
            try:
                written.write(one["job"], BatchReport(number=number, ended=report))
            except StoreError as error:
                sys.exit(f"polyglance: {one['job']}: {report['ending']}, but its report is not written: {error}")


def _has_ended(report: BatchReport | None, number: str) -> bool:
    """Tell whether this batch job has done the job, or found out that it cannot be done, before it was requeued."""
    return report is not None and report.number == number and report.ended["ending"] in ("done", "refused", "failed")


if __name__ == "__main__":
    do_batch_job(*sys.argv[1:])
