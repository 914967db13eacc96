"""Slurm as a place for a study's jobs: batch jobs, which go on without `study run` and are found again by it.

A batch job does one job or, where many short ones can start, several of them one after the other: a batch job has to be
scheduled, started, and has to load torch, which takes longer than a short job.

Slurm's own commands are called (sbatch, squeue, scancel), not submitit, whose documented way to learn of a job's end
is `sacct`: clusters without an accounting database, as that of `.ci/slurm`, do not answer it.
"""

import hashlib
import math
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Self

from polyglance.object_store import SilentStoreError
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.needs import JobNeeds
from polyglance.study.places.batch_reports import BatchReport, BatchReports
from polyglance.study.places.schedulers import NoRoomError
from polyglance.study.work.attempt import LIGHT_KINDS, Work, name_job, try_job
from polyglance.study.work.ending import NOT_BEGUN, EndedJob, Ending

__all__ = ["SlurmJobs", "divide_into_batch_jobs"]

_NUM_SLOTS = 500
"""Batch jobs in the queue at the same time; most clusters allow a user a thousand."""
_SPREAD = 64
"""Batch jobs over which the jobs that can start are spread."""
_LEAST_SHARED_S = 2.0
"""Expected seconds that a batch job is filled up to, however few jobs there are: to start another one takes longer."""
_MOST_SHARED_S = 60.0
"""Expected seconds above which a batch job is not filled, however many jobs there are."""
_MOST_SHARED = 48
"""Most jobs of a batch job: their marks are in its comment, which may have 1,023 bytes."""
_LOOK_S = 1.0
"""Seconds between two looks for the reports of jobs, or more: `_LOOK_FACTOR` times as long as a look takes, which with
many reports in a bucket are several requests."""
_LOOK_FACTOR = 4.0
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
_MESSAGE_PREFIX = re.compile(r"^(sbatch: |error: |allocation failure: |fatal: )+")
"""Beginning of sbatch's messages."""
_LOG_FOLDER = "/tmp"
"""Folder of a node for the logs of a study in a store, where the node does not see `out`."""
_MAY_GO_ON = ("stopped", "died", NOT_BEGUN)
"""Endings after which Slurm may requeue a batch job."""
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
class _BatchJob:
    number: str
    """Slurm's id."""
    jobs: list[Job] = field(default_factory=list)
    """Jobs of this call that have not ended, in their order."""
    gone_s: float | None = None
    """Time at which Slurm said that it has ended."""
    state: str = ""
    reason: str = ""


class _RefusalError(Exception):
    """Slurm does not take a job.

    Args:
        is_silent: because its controller, or the study's store, does not answer.
    """

    def __init__(self, message: str, *, is_silent: bool) -> None:
        super().__init__(message)
        self.is_silent = is_silent


class SlurmJobs:
    """Jobs as batch jobs of Slurm. All nodes have to see the study's folder, or its store.

    A job that is in the queue or at work from an earlier call is taken up, and not submitted again.

    Args:
        needs: resources of a job.
        num_slots: batch jobs in the queue at the same time.

    Raises:
        ValueError: Slurm is not there, or would refuse a job.
    """

    def __init__(self, config: Work, *, needs: JobNeeds, num_slots: int | None = None) -> None:
        self.seconds: Mapping[str, float] = {}
        """Job id -> expected seconds, of the jobs that may share a batch job."""
        self._max_batch_jobs = num_slots or _NUM_SLOTS
        self._config, self._needs = config, needs
        self._folder = config.out.resolve() / "cluster"
        self._store = config.cluster.store.rstrip("/") if isinstance(config, StudyConfig) else ""
        self._reports = BatchReports(f"{self._store}/cluster" if self._store else str(self._folder / "reports"))
        self._reported: dict[str, BatchReport | None] = {}
        """Job id -> report, of the jobs at work that have one."""
        digest = hashlib.sha256((self._store or str(config.out.resolve())).encode()).hexdigest()[:12]
        self._study = f"polyglance:{digest}"
        self._running: list[_BatchJob] = []
        self._gathered: list[Job] = []
        """Short jobs that wait for the next call of `wait`, which submits them together."""
        self._alone: set[str] = set()
        """Ids of jobs that share no batch job any more, because one that they were in has died."""
        self._takes_no_more = False
        self._done_here: list[EndedJob] = []
        self._asked_s = self._look_s = 0.0
        self._refused_s: float | None = None
        self._refusal = ""
        self._said = ""
        """Problem of the store that was said last."""
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

    @property
    def num_slots(self) -> int:
        """Jobs that can be in the queue: one for each further batch job, beside those that are held."""
        num_held = sum(len(batch.jobs) for batch in self._running) + len(self._gathered) + len(self._done_here)
        return num_held + self._max_batch_jobs - len(self._running)

    def start(self, job: Job) -> None:
        """Submit a job, or take up the one that an earlier call has submitted. Short ones are gathered.

        Raises:
            NoRoomError: Slurm does not take the job now, because of a limit of jobs or a controller that does not
                answer.
        """
        if job.kind in LIGHT_KINDS:
            self._done_here.append(try_job(self._config, job))
            return
        if (number := self._earlier.pop(job.mark, None)) is not None:
            batch = next((batch for batch in self._running if batch.number == number), None)
            if batch is None:
                batch = _BatchJob(number=number)
                self._running.append(batch)
            batch.jobs.append(job)
        elif job.id not in self._alone and self.seconds.get(job.id, _MOST_SHARED_S) < _MOST_SHARED_S:
            self._gathered.append(job)
        else:
            self._submit_batch([job])

    def wait(self) -> list[EndedJob]:
        """Wait until one job or more have ended, and return them; none when it is time to submit again a job that Slurm
        did not take.

        Raises:
            ValueError: Slurm takes none of the gathered jobs, and none is at work.
        """
        if self._done_here:
            return [self._done_here.pop()]
        self._submit_gathered()
        while True:
            if self._refused_s is not None and time.monotonic() - self._refused_s > _RETRY_S:
                return []
            if time.monotonic() - self._asked_s > _ASK_S:
                self._ask()
            num_gathered = len(self._gathered)
            ended = []
            if self._read_reports():
                ended = [end for batch in self._running for end in self._take_ended(batch)]
            self._running = [batch for batch in self._running if batch.jobs]
            if ended or len(self._gathered) != num_gathered:
                return ended
            time.sleep(max(_LOOK_S, _LOOK_FACTOR * self._look_s))

    def _read_reports(self) -> bool:
        """Read the reports of the jobs at work; False if the store does not answer, so that nothing is known of any."""
        held = [job.id for batch in self._running for job in batch.jobs]
        begun_s = time.monotonic()
        try:
            there = self._reports.list_jobs()
            self._reported = {name: self._reports.read(name) for name in held if name in there}
        except SilentStoreError as error:
            if str(error) != self._said:
                print(f"{error}; it is asked again, and jobs go on", file=sys.stderr, flush=True)
            self._said = str(error)
            return False
        finally:
            self._look_s = time.monotonic() - begun_s
        self._said = ""
        return True

    def cancel_waiting(self) -> int:
        """Take back the jobs that Slurm has not begun, and return their number."""
        self._takes_no_more = True
        num_taken, self._gathered = len(self._gathered), []
        self._cancel("--state=PENDING")
        if self._running:
            self._ask()
        num_taken += sum(len(batch.jobs) for batch in self._running if batch.state == "CANCELLED")
        self._running = [batch for batch in self._running if batch.state != "CANCELLED"]
        return num_taken

    def _cancel(self, *options: str) -> None:
        """End the jobs that are in the queue or at work. Those at work save their state first."""
        if numbers := [batch.number for batch in self._running]:
            _call(["scancel", *options, *numbers], check=False)

    def _submit_gathered(self) -> None:
        """Submit the gathered jobs, as long as there is room.

        Raises:
            ValueError: Slurm takes none of them, and none is at work.
        """
        for jobs in divide_into_batch_jobs(self._gathered, self.seconds, self._alone):
            if len(self._running) >= self._max_batch_jobs:
                return
            try:
                self._submit_batch(jobs)
            except NoRoomError as error:
                if not self._running:
                    raise ValueError(str(error)) from None
                return
            self._gathered = [job for job in self._gathered if job not in jobs]

    def _submit_batch(self, jobs: Sequence[Job]) -> None:
        """Submit a batch job.

        Raises:
            NoRoomError: as `start`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        name = jobs[0].id if len(jobs) == 1 else f"{jobs[0].id}+{len(jobs) - 1}"
        comment = f"{self._study}:{'+'.join(job.mark for job in jobs)}"
        log = "/dev/null" if self._store else f"{self._folder}/{name}".replace("%", "%%") + "-%j.log"
        options = [f"--job-name={name}", f"--comment={comment}", f"--output={log}", "--open-mode=append"]
        needs = self._needs.of(jobs[0])
        options = [*self._list_options(needs), *options]
        number = self._submit_when_there_is_room(options, self._make_script(name, jobs, needs), jobs)
        self._running.append(_BatchJob(number=number, jobs=list(jobs)))

    def _make_script(self, name: str, jobs: Sequence[Job], needs: JobNeeds) -> str:
        named = [name_job(self._config, job) for job in jobs]
        words = [named[0]["folder"], named[0]["study"], named[0]["version"], self._reports.place]
        words += [word for one in named for word in (one["job"], one["mark"])]
        python = self._config.cluster.python or shlex.quote(sys.executable)
        # srun does not take over sbatch's --cpus-per-task (man srun, since 22.05).
        srun = f"srun --wait=60 --cpus-per-task={needs.cpus} " if needs.nodes > 1 else ""
        command = f"{srun}{python} -m polyglance.study.places.batch_job {shlex.join(words)}"
        lines = ["#!/bin/bash", "set -e", *self._open_log(name), *self._config.cluster.setup, f"exec {command}", ""]
        return "\n".join(lines)

    def _open_log(self, name: str) -> list[str]:
        """Return shell lines that open the log of a batch job of a study in a store: beside the study's records where
        the node sees their folder, else in a folder that each node has. Slurm would not start a job whose log it cannot
        open."""
        if not self._store:
            return []
        here, there = shlex.quote(str(self._folder)), f"{_LOG_FOLDER}/polyglance-{name}"
        return [
            f"log={shlex.quote(there)}",
            f"if [ -w {here} ]; then log={shlex.quote(f'{self._folder}/{name}')}; fi",
            'exec >> "$log-$SLURM_JOB_ID.log" 2>&1',
        ]

    def _list_options(self, needs: JobNeeds) -> list[str]:
        cluster = self._config.cluster
        memory = None if needs.memory_bytes is None else f"{-(-needs.memory_bytes // 2**20)}M"
        minutes = None if cluster.time_limit_h is None else max(1, round(cluster.time_limit_h * 60))
        values = {
            "nodes": needs.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": needs.cpus,
            "gpus-per-node": math.ceil(needs.gpus) or None,
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
            self._submit([*self._list_options(self._needs), "--test-only"], "#!/bin/bash\ntrue\n")
        except _RefusalError as error:
            raise ValueError(str(error)) from None

    def _submit_when_there_is_room(self, options: Sequence[str], script: str, jobs: Sequence[Job]) -> str:
        """Remove the reports of earlier tries, submit a batch job and return Slurm's id. If no job of this call is in
        the queue yet, wait for those of an earlier one that fill it, or for a store or controller that does not answer.

        Raises:
            NoRoomError: as `start`.
        """
        begun_s = time.monotonic()
        while True:
            try:
                self._remove_reports(jobs)
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

    def _remove_reports(self, jobs: Sequence[Job]) -> None:
        """Remove the reports of earlier tries.

        Raises:
            _RefusalError: the store does not answer.
        """
        try:
            for job in jobs:
                self._reports.remove(job.id)
        except SilentStoreError as error:
            raise _RefusalError(str(error), is_silent=True) from None

    def _submit(self, options: Sequence[str], script: str) -> str:
        """Call sbatch and return its output.

        Raises:
            _RefusalError: Slurm does not take the job.
        """
        done = _call(["sbatch", *options], script)
        if done.returncode == 0:
            return done.stdout
        lines = [_MESSAGE_PREFIX.sub("", line) for line in done.stderr.splitlines() if not line.startswith("Try ")]
        reason = "; ".join(dict.fromkeys(line for line in lines if line)) or "no reason given"
        is_silent = any(mark in done.stderr for mark in ("contact slurm controller", "timed out"))
        raise _RefusalError(f"Slurm takes no job: {reason}", is_silent=is_silent)

    def _find_earlier(self) -> dict[str, str]:
        """Return mark -> Slurm's id of the jobs of this study that are in the queue or at work.

        Raises:
            ValueError: Slurm does not say. Without its answer they would be submitted again.
        """
        listed = _call(["squeue", "--me", "--noheader", "--format=%i %k"])
        if listed.returncode:
            raise ValueError(f"squeue does not list the jobs of an earlier call: {_last_line(listed.stderr)}")
        rows = [line.split() for line in listed.stdout.splitlines()]
        return {
            mark: row[0]
            for row in rows
            if len(row) == 2 and row[1].startswith(f"{self._study}:")
            for mark in row[1].rpartition(":")[2].split("+")
        }

    def _ask(self) -> None:
        """Ask Slurm for the states of the jobs. A controller that does not answer is asked again later."""
        self._asked_s = time.monotonic()
        numbers = ",".join(batch.number for batch in self._running)
        options = ["--noheader", "--states=all", "--format=%i|%T|%r", f"--jobs={numbers}"]
        done = _call(["squeue", *options])
        if done.returncode and "Invalid job id" not in done.stderr:
            print(f"Slurm does not answer ({_last_line(done.stderr)}); jobs go on", file=sys.stderr, flush=True)
            return
        states = {row[0]: row[1:] for line in done.stdout.splitlines() if len(row := line.split("|", 2)) == 3}
        for batch in self._running:
            batch.state, reason = states.get(batch.number, ("COMPLETED", "None"))
            if batch.state not in _TERMINAL:
                batch.gone_s = None
            elif batch.gone_s is None:
                batch.gone_s = time.monotonic()
            if batch.state == "PENDING" and reason != batch.reason and reason not in _USUAL_REASONS:
                print(f"{batch.jobs[0].id} waits in Slurm's queue: {reason}", file=sys.stderr, flush=True)
            batch.reason = reason

    def _take_ended(self, batch: _BatchJob) -> list[EndedJob]:
        """Take the jobs that have ended out of their batch job, and return how. Those that it has not come to are
        gathered again."""
        ended, has_died = [], False
        for job in list(batch.jobs):
            report = self._reported.get(job.id)
            report = report if report is not None and report.number == batch.number else None
            ending = None if report is None else report.ended["ending"]
            if ending in _MAY_GO_ON and batch.gone_s is None:  # Slurm may requeue it
                continue
            if report is None and (batch.gone_s is None or self._may_come_late(batch)):
                continue
            batch.jobs.remove(job)
            if ending == NOT_BEGUN or (report is None and has_died):
                self._alone |= {job.id} if has_died else set()
                if self._takes_no_more:
                    ended.append(EndedJob(job=job, ending="refused", problem=f"{job.id}: not begun"))
                else:
                    self._gathered.append(job)
            elif report is not None:
                ended.append(EndedJob.of(job, report.ended))
            else:
                has_died = True
                self._alone.add(job.id)
                ended.append(self._explain_death(batch, job))
        return ended

    @staticmethod
    def _may_come_late(batch: _BatchJob) -> bool:
        """Tell whether the reports of a batch job that Slurm calls completed may not be seen here yet."""
        assert batch.gone_s is not None
        return batch.state == "COMPLETED" and time.monotonic() - batch.gone_s < _LATE_S

    def _explain_death(self, batch: _BatchJob, job: Job) -> EndedJob:
        """Return the end of a job whose batch job has ended without a report of it."""
        ending: Ending = "failed" if batch.state == "CANCELLED" else "died"
        problem = f"{job.id}: {_TERMINAL[batch.state]}"
        if batch.state in ("FAILED", "COMPLETED"):
            logs = list(self._folder.glob(f"*-{batch.number}.log"))
            if logs or not self._store:
                log = logs[0] if logs else self._folder / f"{job.id}-{batch.number}.log"
                problem += f" ({_last_line(log.read_text(errors='replace') if logs else '')}; {log})"
            else:
                problem += f" (its log is on its node: {_LOG_FOLDER}/polyglance-*-{batch.number}.log)"
        return EndedJob(job=job, ending=ending, problem=problem)


def divide_into_batch_jobs(jobs: Sequence[Job], seconds: Mapping[str, float], alone: Set[str]) -> list[list[Job]]:
    """Divide jobs that can start into batch jobs, in their order: equal shares of the expected time.

    Args:
        seconds: job id -> expected seconds.
        alone: ids of jobs that share no batch job.
    """
    expected_s = [seconds.get(job.id, _MOST_SHARED_S) for job in jobs]
    share_s = min(max(sum(expected_s) / _SPREAD, _LEAST_SHARED_S), _MOST_SHARED_S)
    batches: list[list[Job]] = []
    filled_s = 0.0
    for job, job_s in zip(jobs, expected_s, strict=True):
        last = batches[-1] if batches else []
        has_room = 0 < len(last) < _MOST_SHARED and filled_s + job_s <= share_s
        if has_room and alone.isdisjoint((job.id, last[0].id)):
            last.append(job)
            filled_s += job_s
        else:
            batches.append([job])
            filled_s = job_s
    return batches


def _call(command: Sequence[str], script: str | None = None, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    except OSError:
        if not check:
            return subprocess.CompletedProcess(command, 1, "", "")
        raise ValueError(f"`{command[0]}` is not installed here: `--on slurm` needs a login node") from None


def _last_line(text: str) -> str:
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "nothing was printed")
