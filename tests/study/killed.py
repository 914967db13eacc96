"""Runs a study whole, and once more with kills in between, for test_study.py: `-m tests.study.killed CONFIG KILLS`.

The killed process is a fork that does the jobs itself, so that only this process has to load the libraries. It is
killed after a random number of jobs and a random moment more, which may be in the middle of a checkpoint or of a row.
"""

import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

from polyglance.config import load
from polyglance.study import StudyConfig, run_study, study
from polyglance.study.grid.job_state import is_done
from polyglance.study.grid.jobs import list_jobs
from polyglance.study.places.schedulers import ThisProcess


def main(path: Path, num_kills: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    study.LocalWorkers = lambda config, num_slots: ThisProcess(config)
    config = load(StudyConfig, path)
    killed = replace(config, out=config.out / "killed")
    moments = random.Random(7)
    jobs = list_jobs(killed)
    for num_jobs in sorted(moments.randrange(len(jobs) - 1) for _ in range(num_kills)):
        child = os.fork()
        if not child:
            run_study(killed)
            os._exit(0)
        while sum(is_done(killed.out, job) for job in jobs) < num_jobs:
            assert not ended_within(0.005), "the study ended before it was killed"
        assert not ended_within(moments.uniform(0, 0.2)), "the study ended before it was killed"
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert ended_within(1)
    run_study(killed)
    run_study(replace(config, out=config.out / "whole"))


def ended_within(seconds: float) -> bool:
    """Whether the forked process ends within this time: the kernel says so by a signal."""
    return signal.sigtimedwait({signal.SIGCHLD}, seconds) is not None


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
