"""Runs a study in a store, with a kill in between, for test_in_store.py: `-m tests.study.killed_in_store CONFIG`.

The killed process is a fork that does the run itself, so that only this process has to load the libraries. It is killed
once a checkpoint of it is in the store, and what it has left on its machine is removed.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from polyglance.config import load
from polyglance.object_store import open_store
from polyglance.study import StudyConfig, run_study, study
from polyglance.study.grid.jobs import list_jobs
from polyglance.study.places.schedulers import ThisProcess
from polyglance.study.store.stored_job import StoredJob
from polyglance.study.work.attempt import try_job

from .killed import ended_within


def main(path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    study.LocalWorkers = lambda config, num_slots: ThisProcess(config)
    config = load(StudyConfig, path)
    run_jobs = study.run_jobs
    killed: list[int] = []

    def run_jobs_after_a_kill(*args: object, **options: object) -> object:
        """Kill the first run once, when data and tokenizer are in the store."""
        job = next(job for job in list_jobs(config) if job.kind == "run" and job.samples > 100)
        stored = StoredJob(open_store(config.cluster.store), job)
        checkpoints = f"*/{job.folder}/checkpoints/step-*[0-9]"

        def wait_with_checkpoint() -> bool:
            """Wait for the kill once a checkpoint is written. Its upload, by a thread, goes on."""
            if any(Path(config.cluster.scratch).glob(checkpoints)):
                signal.pause()
            return False

        child = os.fork()
        if not child:
            try_job(config, job, wait_with_checkpoint)
            os._exit(0)
        while (saved := stored.read_saved()) is None:
            assert not ended_within(0.005), "the run ended before it was killed"
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert not stored.is_done()
        killed.append(saved[1].step)
        for folder in Path(config.cluster.scratch).glob(f"*/{job.folder}"):
            shutil.rmtree(folder)
        return run_jobs(*args, **options)

    study.run_jobs = run_jobs_after_a_kill
    run_study(config, say=print)
    assert killed, "nothing was killed"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
