"""Program of a batch job of Slurm:
`python -m polyglance.study.places.batch_job FOLDER STUDY JOB FINGERPRINT VERSION REPORT`.

SIGTERM, which comes before a time limit and at preemption, ends the job after its next step, which is saved. Of a job
over several nodes each runs it; the first reports. Another one whose part has not ended well says why in the log of the
batch job, and exits with 1, which lets `srun` end the job.
"""

import os
import sys
from pathlib import Path

from polyglance.files import write_json
from polyglance.study.work.attempt import NamedJob, try_named_job
from polyglance.train.signals import catch_stop_requests

__all__ = ["main"]


def main(folder: str, study: str, job: str, fingerprint: str, version: str, report: str) -> None:
    """Do the job, and write its report, with the id of this batch job."""
    path, is_first = Path(report), os.environ.get("SLURM_PROCID", "0") == "0"
    if is_first:
        path.unlink(missing_ok=True)  # that of the same batch job before it was requeued
    named: NamedJob = {"folder": folder, "study": study, "job": job, "fingerprint": fingerprint, "version": version}
    with catch_stop_requests() as should_stop:
        ended = try_named_job(named, should_stop, is_first=is_first)
    if is_first:
        write_json(path, {"slurm_id": os.environ.get("SLURM_JOB_ID", ""), "report": ended})
    elif ended["ending"] != "done":
        sys.exit(f"polyglance: {ended['problem']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
