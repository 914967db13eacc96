"""Slurm as a place for a study's jobs: each is a batch job, which goes on without `study run` and is found again by it.

Slurm's own commands are called (sbatch, squeue, scancel), not submitit, whose documented way to learn of a job's end
is `sacct`: clusters without an accounting database, as that of `.ci/slurm`, do not answer it.
"""

import hashlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from polyglance.files import read_json
from polyglance.study.grid.jobs import Job
from polyglance.study.places.needs import JobNeeds
from polyglance.study.places.schedulers import NoRoomError
from polyglance.study.work.attempt import LIGHT_KINDS, Work, name_job, try_job
from polyglance.study.work.ending import EndedJob, Ending

__all__ = ["SlurmJobs"]

_NUM_SLOTS = 500
"""Jobs in the queue at the same time; most clusters allow a user a thousand."""
_LOOK_S = 1.0
"""Seconds between two looks for the reports of jobs."""
_ASK_S = 10.0
"""Seconds between two questions to Slurm's controller."""
_PATIENCE_S = 600.0
"""Seconds for which a controller that does not answer is asked again while no job is in the queue."""
_RETRY_S = 60.0
"""Seconds after which a job that Slurm did not take is submitted again; also when another job has ended."""
_LATE_S = 60.0
"""Seconds that a report may take to be seen on another machine (caches of NFS)."""
_SAVE_S = 120
"""Seconds before the time limit at which a job is told to save its state."""
_WHO = re.compile(r"^(sbatch: |error: |allocation failure: |fatal: )+")
"""Beginning of sbatch's messages."""
_USUAL_REASONS = {"None", "Priority", "Resources", "Dependency", "BeginTime", "Cleaning"}
_TERMINAL = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "it was cancelled in Slurm",
    "COMPLETED": "it ended without a report",
    "DEADLINE": "it came to its deadline",
    "FAILED": "it was killed or broke down",
    "NODE_FAIL": "its node was lost",
    "OUT_OF_MEMORY": "it was out of memory (cluster.memory_gb)",
    "PREEMPTED": "it was preempted",
    "TIMEOUT": "it came to its time limit",
}
"""State of a job that has ended -> its meaning."""


@dataclass(kw_only=True)
class _Submitted:
    job: Job
    number: str
    """Slurm's id."""
    gone_s: float | None = None
    """Time at which Slurm said that it has ended."""
    state: str = ""
    reason: str = ""


class _RefusalError(Exception):
    """Slurm does not take a job.

    Args:
        is_silent: as its controller does not answer.
    """

    def __init__(self, message: str, *, is_silent: bool) -> None:
        super().__init__(message)
        self.is_silent = is_silent


class SlurmJobs:
    """Jobs as batch jobs of Slurm. The study's folder has to be on a file system that all nodes see.

    A job that is in the queue or at work from an earlier call is taken up, and not submitted again.

    Args:
        needs: resources of a job.
        num_slots: jobs in the queue at the same time.

    Raises:
        ValueError: Slurm is not there, or would refuse a job.
    """

    def __init__(self, config: Work, *, needs: JobNeeds, num_slots: int | None = None) -> None:
        self.num_slots = num_slots or _NUM_SLOTS
        self._config, self._needs = config, needs
        self._folder = config.out / "cluster"
        digest = hashlib.sha256(str(config.out.resolve()).encode()).hexdigest()[:12]
        self._study = f"polyglance:{digest}"
        self._running: list[_Submitted] = []
        self._done_here: list[EndedJob] = []
        self._asked_s = 0.0
        self._refused_s: float | None = None
        self._refusal = ""
        self._test()
        self._earlier = self._find_earlier()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._cancel()

    @property
    def needs(self) -> JobNeeds:
        """Resources of a job.

        Raises:
            ValueError: set to what Slurm would refuse.
        """
        return self._needs

    @needs.setter
    def needs(self, needs: JobNeeds) -> None:
        if needs != self._needs:
            self._needs = needs
            self._test()

    def start(self, job: Job) -> None:
        """Submit a job, or take up the one that an earlier call has submitted.

        Raises:
            NoRoomError: Slurm does not take the job now: at a limit of jobs, or as its controller does not answer.
        """
        if job.kind in LIGHT_KINDS:
            self._done_here.append(try_job(self._config, job))
            return
        if (number := self._earlier.pop(job.fingerprint, None)) is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._report_path(job).unlink(missing_ok=True)
            comment = f"{self._study}:{job.fingerprint}"
            log = self._log_path(job, "%j").resolve()
            options = [f"--job-name={job.id}", f"--comment={comment}", f"--output={log}", "--open-mode=append"]
            number = self._submit_when_there_is_room(options, self._make_script(job))
        self._running.append(_Submitted(job=job, number=number))

    def wait(self) -> list[EndedJob]:
        """Wait until one job or more have ended, and return them; none when it is time to submit again a job that Slurm
        did not take."""
        if self._done_here:
            return [self._done_here.pop()]
        while True:
            if self._refused_s is not None and time.monotonic() - self._refused_s > _RETRY_S:
                return []
            if time.monotonic() - self._asked_s > _ASK_S:
                self._ask()
            if ended := [(entry, end) for entry in self._running if (end := self._find_end(entry)) is not None]:
                for entry, _ in ended:
                    self._running.remove(entry)
                return [end for _, end in ended]
            time.sleep(_LOOK_S)

    def cancel_waiting(self) -> int:
        """Take back the jobs that Slurm has not begun, and return their number."""
        self._cancel("--state=PENDING")
        if self._running:
            self._ask()
        num_before = len(self._running)
        self._running = [entry for entry in self._running if entry.state != "CANCELLED"]
        return num_before - len(self._running)

    def _cancel(self, *options: str) -> None:
        """End the jobs that are in the queue or at work. Those at work save their state first."""
        if numbers := [entry.number for entry in self._running]:
            _call(["scancel", *options, *numbers], check=False)

    def _report_path(self, job: Job) -> Path:
        return self._folder / f"{job.id}.json"

    def _log_path(self, job: Job, number: str) -> Path:
        return self._folder / f"{job.id}-{number}.log"

    def _make_script(self, job: Job) -> str:
        named = name_job(self._config, job)
        report = self._report_path(job).resolve()
        python = self._config.cluster.python or shlex.quote(sys.executable)
        words = [*map(str, named.values()), str(report)]
        # srun does not take over sbatch's --cpus-per-task (man srun, since 22.05).
        srun = f"srun --wait=60 --cpus-per-task={self._needs.cpus} " if self._needs.nodes > 1 else ""
        command = f"{srun}{python} -m polyglance.study.places.batch_job {shlex.join(words)}"
        return "\n".join(["#!/bin/bash", "set -e", *self._config.cluster.setup, f"exec {command}", ""])

    def _list_options(self) -> list[str]:
        needs, cluster = self._needs, self._config.cluster
        memory = None if needs.memory_bytes is None else f"{-(-needs.memory_bytes // 2**20)}M"
        minutes = None if cluster.time_limit_h is None else max(1, round(cluster.time_limit_h * 60))
        values = {
            "nodes": needs.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": needs.cpus,
            "gpus-per-node": round(needs.gpus) or None,
            "mem": memory,
            "time": minutes,
            "partition": cluster.partition or None,
            "account": cluster.account or None,
            # Without a limit of ours it comes before the end that the partition sets.
            "signal": f"{'B:' if needs.nodes == 1 else ''}TERM@{_SAVE_S}"
            if minutes is None or minutes * 60 > 2 * _SAVE_S
            else None,
        }
        given = [f"--{name}={value}" for name, value in values.items() if value is not None]
        return ["--parsable", "--requeue", *given, *cluster.sbatch]

    def _test(self) -> None:
        """Ask Slurm whether it would take a job."""
        if self._needs.gpus % 1:
            raise ValueError(f"cluster.gpus is {self._needs.gpus:g}; Slurm gives whole GPUs")
        try:
            self._submit(["--test-only"], "#!/bin/bash\ntrue\n")
        except _RefusalError as error:
            raise ValueError(str(error)) from None

    def _submit_when_there_is_room(self, options: Sequence[str], script: str) -> str:
        """Submit a job and return Slurm's id. If no job of this call is in the queue yet, wait for those of an earlier
        one that fill it, or for a controller that does not answer.

        Raises:
            NoRoomError: as `start`.
        """
        begun_s = time.monotonic()
        while True:
            try:
                number = self._submit(options, script).partition(";")[0].strip()
            except _RefusalError as error:
                is_patient = error.is_silent and time.monotonic() - begun_s < _PATIENCE_S
                if not self._running and (is_patient or self._earlier):
                    time.sleep(_ASK_S)
                    if not error.is_silent:
                        self._earlier = self._find_earlier()
                    continue
                if self._running and str(error) != self._refusal:
                    print(f"{error}; it is asked again while jobs go on", file=sys.stderr, flush=True)
                self._refused_s, self._refusal = time.monotonic(), str(error)
                raise NoRoomError(str(error)) from None
            self._refused_s = None
            return number

    def _submit(self, options: Sequence[str], script: str) -> str:
        """Call sbatch and return its output.

        Raises:
            _RefusalError: Slurm does not take the job.
        """
        done = _call(["sbatch", *self._list_options(), *options], script)
        if done.returncode == 0:
            return done.stdout
        lines = [_WHO.sub("", line) for line in done.stderr.splitlines() if not line.startswith("Try ")]
        reason = "; ".join(dict.fromkeys(line for line in lines if line)) or "no reason given"
        is_silent = any(mark in done.stderr for mark in ("contact slurm controller", "timed out"))
        raise _RefusalError(f"Slurm takes no job: {reason}", is_silent=is_silent)

    def _find_earlier(self) -> dict[str, str]:
        """Return fingerprint -> Slurm's id of the jobs of this study that are in the queue or at work.

        Raises:
            ValueError: Slurm does not say. Without its answer they would be submitted again.
        """
        listed = _call(["squeue", "--me", "--noheader", "--format=%i %k"])
        if listed.returncode:
            raise ValueError(f"squeue does not list the jobs of an earlier call: {_last_line(listed.stderr)}")
        rows = [line.split() for line in listed.stdout.splitlines()]
        return {
            row[1].rpartition(":")[2]: row[0] for row in rows if len(row) == 2 and row[1].startswith(f"{self._study}:")
        }

    def _ask(self) -> None:
        """Ask Slurm for the states of the jobs. A controller that does not answer is asked again later."""
        self._asked_s = time.monotonic()
        numbers = ",".join(entry.number for entry in self._running)
        options = ["--noheader", "--states=all", "--format=%i|%T|%r", f"--jobs={numbers}"]
        done = _call(["squeue", *options])
        if done.returncode and "Invalid job id" not in done.stderr:
            print(f"Slurm does not answer ({_last_line(done.stderr)}); jobs go on", file=sys.stderr, flush=True)
            return
        states = {row[0]: row[1:] for line in done.stdout.splitlines() if len(row := line.split("|", 2)) == 3}
        for entry in self._running:
            entry.state, reason = states.get(entry.number, ("COMPLETED", "None"))
            if entry.state not in _TERMINAL:
                entry.gone_s = None
            elif entry.gone_s is None:
                entry.gone_s = time.monotonic()
            if entry.state == "PENDING" and reason != entry.reason and reason not in _USUAL_REASONS:
                print(f"{entry.job.id} waits in Slurm's queue: {reason}", file=sys.stderr, flush=True)
            entry.reason = reason

    def _find_end(self, entry: _Submitted) -> EndedJob | None:
        """Return how a job has ended; None if it has not."""
        report = self._read_report(entry)
        may_go_on = report is not None and report["ending"] in ("stopped", "died")  # Slurm may requeue it
        if report is not None and (not may_go_on or entry.gone_s is not None):
            return EndedJob.of(entry.job, report)
        if entry.gone_s is None or (entry.state == "COMPLETED" and time.monotonic() - entry.gone_s < _LATE_S):
            return None
        ending: Ending = "failed" if entry.state == "CANCELLED" else "died"
        problem = f"{entry.job.id}: {_TERMINAL[entry.state]}"
        if entry.state in ("FAILED", "COMPLETED"):
            log = self._log_path(entry.job, entry.number)
            problem += f" ({_last_line(log.read_text(errors='replace') if log.is_file() else '')}; {log})"
        return EndedJob(job=entry.job, ending=ending, problem=problem)

    def _read_report(self, entry: _Submitted) -> dict[str, Any] | None:
        """Return the report of a job that has ended; None if there is none of this submission."""
        try:
            report = read_json(self._report_path(entry.job))
        except ValueError:
            return None
        return report["report"] if report.get("slurm_id") == entry.number else None


def _call(command: Sequence[str], script: str | None = None, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    except OSError:
        if not check:
            return subprocess.CompletedProcess(command, 1, "", "")
        raise ValueError(f"`{command[0]}` is not installed here: `--on slurm` needs a login node") from None


def _last_line(text: str) -> str:
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "nothing was printed")
