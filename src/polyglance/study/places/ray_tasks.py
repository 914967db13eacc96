"""A Ray cluster as a place for a study's jobs: each job is a task of Ray's own, and Ray chooses the node. The task of a
run over several nodes only starts Ray Train, whose workers have what the job asks for."""

import sys
import time
from typing import Any, Self

from polyglance.error_text import first_line
from polyglance.ray_connection import check_head, connect_ray, is_connected, send_messages_to_stderr
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import read_state
from polyglance.study.grid.jobs import Job
from polyglance.study.needs import JobNeeds
from polyglance.study.store.copy import refresh_copy
from polyglance.study.work.attempt import LIGHT_KINDS, NamedJob, Work, name_job, try_job, try_named_job
from polyglance.study.work.ending import EndedJob
from polyglance.study.work.ray_train import check_ray_train
from polyglance.train.signals import catch_stop_requests

__all__ = ["RayTasks"]

_LOOK_S = 2.0
"""Seconds between two looks at the cluster while jobs are at work."""
_LOST_S = 30.0
"""Seconds that the head may be silent before it counts as lost."""


class RayTasks:
    """Jobs as tasks on a Ray cluster. The study's folder has to be on a file system that all nodes see.

    Args:
        address: as for `connect_ray`.
        needs: resources of a job.
        num_slots: jobs at the same time; if not given, as many as the nodes that are there have room for. A larger
            number lets a cluster that grows on demand grow.

    Raises:
        ValueError: there is no cluster at the address, `num_slots` is not given and no node has what a job needs, or
            jobs need several nodes and Ray Train is not installed.
    """

    def __init__(self, config: Work, address: str, *, needs: JobNeeds, num_slots: int | None = None) -> None:
        self._config, self._address = config, address
        self._was_connected = is_connected()
        self._messages = send_messages_to_stderr()
        if needs.nodes > 1:
            check_ray_train()
        self._ray = connect_ray(address)
        self._head = address if "//" in address else self._ray.get_runtime_context().gcs_address
        self._num_slots = num_slots
        self._running: dict[Any, Job] = {}
        self._done_here: list[EndedJob] = []
        self._is_lost = False
        self._counted_s = time.monotonic()
        self._task = self._ray.remote(_try_until_stopped)
        self.needs = needs

    def __enter__(self) -> Self:
        self._messages.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """End the tasks that are at work, and the connection if it was opened here."""
        try:
            self._disconnect()
        finally:
            self._messages.__exit__(None, None, None)

    def _disconnect(self) -> None:
        if self._is_lost:  # Ray would wait for the head
            return
        if not self._was_connected:
            self._ray.shutdown()
            return
        for reference in self._running:
            self._ray.cancel(reference, force=True)

    @property
    def needs(self) -> JobNeeds:
        """Resources of a job.

        Raises:
            ValueError: set to what no node has, where `num_slots` is not given.
        """
        return self._needs

    @needs.setter
    def needs(self, needs: JobNeeds) -> None:
        self._needs = needs
        self._capacity = self._count_capacity()
        if not self._capacity:
            largest = max((self._describe(node) for node in self._list_nodes()), default="no node at all")
            no_node = f"no {needs.nodes} nodes of" if needs.nodes > 1 else "no node of"
            has = "have" if needs.nodes > 1 else "has"
            problem = f"{no_node} the Ray cluster at {self._address} {has} {needs} for a job; the largest: {largest} "
            if self._num_slots is None:
                raise ValueError(f"{problem}([cluster] cpus, gpus and memory_gb say what a job asks for)")
            print(f"{problem}(jobs wait until the cluster has grown)", file=sys.stderr, flush=True)

    def has_gpus(self) -> bool:
        """Tell whether a node that is there has a GPU."""
        return any(node["Resources"].get("GPU", 0) >= 1 for node in self._list_nodes())

    @property
    def num_slots(self) -> int:
        """Jobs that the nodes have room for now; at least one, which waits for a node. Jobs that ask for less than the
        others, as they measure a run, come on top."""
        num_light = sum(self._needs.of(job) != self._needs for job in self._running.values())
        if self._num_slots is not None:
            return self._num_slots + num_light
        if time.monotonic() - self._counted_s > _LOOK_S and self._is_head_there():  # else Ray would wait for the head
            self._capacity, self._counted_s = self._count_capacity(), time.monotonic()
        return max(self._capacity, 1) + num_light

    def start(self, job: Job) -> None:
        """Hand the job to Ray."""
        if job.kind in LIGHT_KINDS:
            self._done_here.append(try_job(self._config, job))
            return
        needs = self._needs.of(job)
        is_alone = needs.nodes == 1  # else Ray Train asks for the resources
        options = {
            "num_cpus": needs.cpus if is_alone else 0,
            "num_gpus": needs.gpus or None if is_alone else None,
            "memory": needs.memory_bytes if is_alone else None,
            "max_retries": 0,  # `run_jobs` tries again
            "name": job.id,
        }
        self._running[self._task.options(**options).remote(name_job(self._config, job))] = job

    def wait(self) -> list[EndedJob]:
        """Wait until one job or more have ended, and return them.

        Raises:
            ValueError: the head of the cluster is lost.
        """
        if self._done_here:
            return [self._done_here.pop()]
        seen_s = time.monotonic()
        while True:
            try:
                ready, _ = self._ray.wait(list(self._running), timeout=_LOOK_S)
            except ConnectionError:
                raise self._lost() from None
            if ready:
                return [self._end(reference) for reference in ready]
            if self._is_head_there():
                seen_s = time.monotonic()
            elif time.monotonic() - seen_s > _LOST_S:
                raise self._lost()

    def cancel_waiting(self) -> int:
        """Take back the jobs that wait for room on a node, and return their number. One that an earlier try has begun
        may be at work, and goes on."""
        if isinstance(self._config, StudyConfig):
            refresh_copy(self._config)
        waiting = {key: job for key, job in self._running.items() if read_state(self._config.out, job) == "to do"}
        for reference in waiting:
            self._ray.cancel(reference)
            del self._running[reference]
        return len(waiting)

    def _end(self, reference: Any) -> EndedJob:
        """Return how a task has ended; one without a report died."""
        from ray.exceptions import RayError, RayTaskError

        job = self._running.pop(reference)
        try:
            return EndedJob.of(job, self._ray.get(reference))
        except RayTaskError as error:  # an error that was raised on the node
            print(error, file=sys.stderr, flush=True)
            reason = str(error).strip().splitlines()[-1]
        except RayError as error:
            reason = _REASONS.get(type(error).__name__, first_line(error))
        return EndedJob(job=job, ending="died", problem=f"{job.id}: {reason}")

    def _count_capacity(self) -> int:
        return sum(self._count_slots(node) for node in self._list_nodes()) // self._needs.nodes

    def _list_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _count_slots(self, node: dict[str, Any]) -> int:
        """Return how many jobs a node has room for."""
        has = node["Resources"]
        wanted = {"CPU": self._needs.cpus, "GPU": self._needs.gpus, "memory": self._needs.memory_bytes or 0}
        return min(int(has.get(name, 0) / amount + 1e-9) for name, amount in wanted.items() if amount)

    @staticmethod
    def _describe(node: dict[str, Any]) -> str:
        has = node["Resources"]
        needs = JobNeeds(
            cpus=int(has.get("CPU", 0)), gpus=has.get("GPU", 0), memory_bytes=int(has.get("memory", 0)) or None
        )
        return f"{node['NodeManagerHostname']} with {needs}"

    def _is_head_there(self) -> bool:
        try:
            check_head(self._head)
        except ValueError:
            return False
        return True

    def _lost(self) -> ValueError:
        self._is_lost = True
        return ValueError(
            f"the head of the Ray cluster at {self._address} is lost; start the cluster again and run again: jobs go "
            "on from their last checkpoints"
        )


def _try_until_stopped(named: NamedJob) -> dict[str, Any]:
    """Do a job in a worker of Ray. On SIGTERM, as before a node is taken away, it saves its state and ends."""
    with catch_stop_requests() as should_stop:
        return try_named_job(named, should_stop)


_REASONS = {
    "NodeDiedError": "its node was lost",
    "OutOfMemoryError": "Ray ended it because its node was out of memory",
    "WorkerCrashedError": "its worker was killed",
}
"""Class of an exception of Ray's -> its meaning; their own texts have many lines."""
