"""Expected cost of a study before it is run: the time of every job, and the memory of the largest model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from heapq import heappop, heappush
from pathlib import Path

from polyglance.config import fingerprint, from_dict
from polyglance.files import read_record, write_record
from polyglance.processes import num_cores
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job, list_work
from polyglance.study.grid.published import PublishedCost, count_published
from polyglance.study.places.schedulers import run_jobs
from polyglance.study.work.ending import EndedJob

__all__ = ["StudyCosts", "divide_seconds", "estimate_costs", "estimate_s", "find_costs"]


@dataclass(frozen=True, kw_only=True)
class StudyCosts:
    """Expected costs of a study's jobs."""

    seconds: Mapping[str, float]
    """Job id -> seconds on one core or, for published sizes, on the whole machine; 0 for data and tokenizer."""
    memory_bytes: int
    """Peak memory of a process that trains the largest model; for published sizes, of one device."""
    strategies: Mapping[str, str] = field(default_factory=dict)
    """Published sizes: run id -> recommended way of training on the machine, in words."""
    rates: Mapping[str, str] = field(default_factory=dict)
    """Published sizes: size -> rate that the hours are computed from, measured or estimated, in words."""

    def write(self, path: Path, mark: str) -> None:
        """Write costs.json, with the fingerprint of what the costs depend on."""
        write_record(path, {"fingerprint": mark, **asdict(self)})

    @classmethod
    def read(cls, path: Path, mark: str) -> "StudyCosts | None":
        """Read costs.json; None where there is none with this fingerprint."""
        try:
            values = read_record(path)
            kept_mark = values.pop("fingerprint")
        except (ValueError, KeyError, AttributeError):
            return None
        return from_dict(cls, values) if kept_mark == mark else None


def estimate_costs(config: StudyConfig, jobs: Sequence[Job], *, num_slots: int) -> StudyCosts:
    """Return the expected costs of the jobs.

    Micro models: a few training steps of every model are timed, once; the result is kept in costs.json. Data and
    tokenizer have to be there already. On a card they are estimated from assumptions, which `rates` lists. Published
    sizes: computed from measured rates (`polyglance.model.rates`).

    Args:
        num_slots: jobs at work at the same time.
    """
    if not config.is_micro:
        return _published_costs(config, jobs)
    if config.is_on_card:
        return _card_costs(config, jobs, num_slots)
    mark, path = fingerprint([job.fingerprint for job in jobs], num_cores()), config.out / "costs.json"
    if (kept := StudyCosts.read(path, mark)) is not None:
        return kept
    from polyglance.study.planning.timing import time_jobs

    seconds, memory_bytes = time_jobs(config, jobs)
    costs = StudyCosts(seconds=seconds, memory_bytes=memory_bytes)
    costs.write(path, mark)
    return costs


def find_costs(config: StudyConfig, jobs: Sequence[Job]) -> StudyCosts | None:
    """Return the expected costs of the jobs where they are known without any work: those of published sizes, and of
    micro models those that a plan or a run has kept on a machine with as many cores. None where there are none."""
    if not config.is_micro:
        return _published_costs(config, jobs)
    mark = fingerprint([job.fingerprint for job in jobs], num_cores())
    return StudyCosts.read(config.out / "costs.json", mark)


def _published_costs(config: StudyConfig, jobs: Sequence[Job]) -> StudyCosts:
    costs = {size: count_published(config, size) for size in dict.fromkeys(j.size for j in jobs if j.kind == "run")}
    seconds = {
        job.id: (job.samples - job.begins_at) / costs[job.size].samples_per_s if job.size in costs else 0.0
        for job in jobs
    }
    strategies = [cost.strategy for cost in costs.values() if cost.strategy is not None]
    return StudyCosts(
        seconds=seconds,
        memory_bytes=max((strategy.bytes_per_device for strategy in strategies), default=0),
        strategies={job.id: str(costs[job.size].strategy or "does not fit") for job in jobs if job.kind == "run"},
        rates={size: _describe_rate(config, cost) for size, cost in costs.items()},
    )


def _card_costs(config: StudyConfig, jobs: Sequence[Job], num_slots: int) -> StudyCosts:
    """Estimate the costs of micro models that share a card. A step takes the host's time for its launches or the card's
    time for its operations, at the MFU of a single run, whichever is longer."""
    from polyglance.study.grid.models import count_models

    runs = [job for job in jobs if job.kind == "run"]
    counts, batch_size = count_models(config, runs), config.mixture.batch_size
    mfu = config.machine.mfu or _ASSUMED_MFU
    flops_per_s = config.machine.peak_tflops * 1e12 * mfu
    per_cell, num_unseen = config.evaluation.samples_per_cell, len(config.coverage.split("UC"))
    measured = {"start": num_unseen * per_cell, "run": (len(config.coverage.cells) + num_unseen) * per_cell}
    seconds = {}
    for job in jobs:
        model = counts.get((job.family, job.size))
        macs = model.macs_per_sample if model is not None else max(c.macs_per_sample for c in counts.values())
        samples = job.samples - job.begins_at
        step_s = max(_ASSUMED_STEP_S, 6 * macs * batch_size / flops_per_s)  # both passes are 3 F, and 1 MAC is 2 FLOP
        measuring_s = step_s * measured.get(job.kind, 0) / batch_size
        is_trained = job.kind in ("run", "trunk", "tower")
        seconds[job.id] = measuring_s + (samples / batch_size * step_s if is_trained else 0.0)
    largest = max(model.num_parameters for model in counts.values())
    rate = (
        f"assumed, not measured: {_ASSUMED_STEP_S * 1e3:.0f} ms of the host for a step, or {mfu:.0%} of "
        f"{config.machine.peak_tflops:g} TFLOP/s; {num_slots} runs side by side do not slow each other; data and "
        "language models not counted"
    )
    return StudyCosts(
        seconds=seconds, memory_bytes=_CONTEXT_BYTES + _BYTES_PER_PARAMETER * largest, rates={"micro models": rate}
    )


_ASSUMED_STEP_S = 0.03
"""Host time of a step of a model with few layers on a GPU: about 2,000 launches."""
_ASSUMED_MFU = 0.05
"""MFU of small models, as one of 0.4B parameters has it with short batches (model/rates.csv)."""
_CONTEXT_BYTES = 2 * 10**9
"""CUDA context, kernels and activations of a process."""
_BYTES_PER_PARAMETER = 16
"""Weight, gradient and two moments, in float32."""


def _describe_rate(config: StudyConfig, cost: PublishedCost) -> str:
    devices = config.machine.devices
    shared = f", {cost.efficiency:.0%} of it on {devices} (estimated)" if devices > 1 else ""
    return f"{cost.rate.samples_per_s(cost.training_gmac):,.0f} samples/s a device, {cost.rate.basis}{shared}"


def divide_seconds(config: StudyConfig, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return id of a job as it is handed out -> expected seconds. The measurement of published sizes is not estimated.

    Args:
        seconds: id of a job of the study -> expected seconds.
    """
    divided = dict(seconds)
    for job in list_work(config):
        if job.trained_by:
            share = 0.0
            if config.is_micro:
                from polyglance.study.planning.timing import count_measured

                measured = count_measured(config)
                share = measured / (measured + job.samples - job.begins_at)
            divided[job.trained_by] = (1 - share) * seconds[job.id]
            divided[job.id] = share * seconds[job.id]
    return divided


class _Simulation:
    """A scheduler that does no work; its clock advances by the expected seconds of each job."""

    def __init__(self, num_slots: int, seconds: Mapping[str, float]) -> None:
        self.num_slots = num_slots
        self.now_s = 0.0
        self._seconds = seconds
        self._running: list[tuple[float, str, Job]] = []

    def start(self, job: Job) -> None:
        heappush(self._running, (self.now_s + self._seconds[job.id], job.id, job))

    def wait(self) -> list[EndedJob]:
        self.now_s, _, job = heappop(self._running)
        return [EndedJob(job=job)]

    def cancel_waiting(self) -> int:
        return 0


def estimate_s(jobs: Sequence[Job], *, done: set[str], seconds: Mapping[str, float], num_slots: int) -> float:
    """Return the expected seconds until all jobs are done, in the order in which `run_jobs` does them.

    Args:
        jobs: each after those it needs.
        done: ids of the jobs that are done already.
        seconds: job id -> expected seconds.
        num_slots: jobs at work at the same time.
    """
    simulation = _Simulation(num_slots, seconds)
    run_jobs(jobs, simulation, done=done, seconds=seconds)
    return simulation.now_s
