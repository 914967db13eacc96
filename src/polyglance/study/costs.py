"""Expected cost of a study before it is run: the time of every job, and the memory of the largest model."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from heapq import heappop, heappush
from pathlib import Path

import torch
from torch import Tensor, nn

from polyglance.config import fingerprint, from_dict
from polyglance.data.shard import ShardReader
from polyglance.files import read_json, write_json
from polyglance.mixture.collate import Batch
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.assemble import build_language_model
from polyglance.model.components import freeze
from polyglance.processes import num_cores
from polyglance.study.config import StudyConfig
from polyglance.study.job_configs import make_language_model_config, make_train_config
from polyglance.study.jobs import Job
from polyglance.study.models import count_published
from polyglance.study.schedulers import EndedJob, run_jobs
from polyglance.train.step import CaptionObjective, LanguageModelObjective

__all__ = ["StudyCosts", "estimate_costs", "estimate_s"]

_TIMED_STEPS = 4
_EVALUATION_SHARE = 0.8
"""Time to measure one held-out sample in all variants (two passes of the encoder, two of the decoder), as a share of
the time of a training step on it."""


@dataclass(frozen=True, kw_only=True)
class StudyCosts:
    """Expected costs of a study's jobs."""

    seconds: Mapping[str, float]
    """Job id -> seconds on one core or, for published sizes, on the whole machine; 0 for data and tokenizer."""
    memory_bytes: int
    """Peak memory of a process that trains the largest model; for published sizes, of one device."""
    strategies: Mapping[str, str] = field(default_factory=dict)
    """Published sizes: run id -> recommended way of training on the machine, in words."""

    def write(self, path: Path, mark: str) -> None:
        """Write costs.json, with the fingerprint of what the costs depend on."""
        write_json(path, {"fingerprint": mark, **asdict(self)})

    @classmethod
    def read(cls, path: Path, mark: str) -> "StudyCosts | None":
        """Read costs.json; None where there is none with this fingerprint."""
        try:
            values = read_json(path)
            kept_mark = values.pop("fingerprint")
        except (ValueError, KeyError, AttributeError):
            return None
        return from_dict(cls, values) if kept_mark == mark else None


def estimate_costs(config: StudyConfig, jobs: Sequence[Job]) -> StudyCosts:
    """Return the expected costs of the jobs.

    Micro models: a few training steps of every model are timed, once; the result is kept in costs.json. Data and
    tokenizer have to be there already. Published sizes: computed from their operations and the machine's peak and MFU.
    """
    if not config.is_micro:
        return _published_costs(config, jobs)
    mark, path = fingerprint(config, num_cores()), config.out / "costs.json"
    if (kept := StudyCosts.read(path, mark)) is not None:
        return kept
    torch.set_num_threads(1)
    batch = _first_batch(config)
    step_s = {model: _time_step(config, job, batch) for model, job in _one_job_per_model(jobs).items()}
    seconds = {job.id: step_s.get(_model_of(job), 0.0) * _num_steps(config, job) for job in jobs}
    costs = StudyCosts(seconds=seconds, memory_bytes=_peak_memory_bytes())
    costs.write(path, mark)
    return costs


def _published_costs(config: StudyConfig, jobs: Sequence[Job]) -> StudyCosts:
    machine = config.machine
    flops_per_s = machine.devices * machine.peak_tflops * 1e12 * machine.mfu
    costs = {job.size: count_published(config, job.size) for job in jobs if job.kind == "run"}
    seconds = {
        job.id: 2 * costs[job.size].training_macs * job.samples / flops_per_s if job.size in costs else 0.0
        for job in jobs
    }
    strategies = [cost.strategy for cost in costs.values() if cost.strategy is not None]
    return StudyCosts(
        seconds=seconds,
        memory_bytes=max((strategy.bytes_per_device for strategy in strategies), default=0),
        strategies={job.id: str(costs[job.size].strategy or "does not fit") for job in jobs if job.kind == "run"},
    )


class _Simulation:
    """A scheduler that does no work: its clock moves on by the expected seconds of each job."""

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


def _model_of(job: Job) -> tuple[str, str, int]:
    """Return what the time of a training step depends on."""
    return job.kind, job.family, job.width


def _one_job_per_model(jobs: Sequence[Job]) -> dict[tuple[str, str, int], Job]:
    return {_model_of(job): job for job in jobs if job.kind in ("tower", "language_model", "run")}


def _num_steps(config: StudyConfig, job: Job) -> float:
    """Return the steps of training, and the cost of measuring counted in such steps."""
    batch_size = config.mixture.batch_size
    match job.kind:
        case "language_model":
            return config.language_models[job.start].steps
        case "tower":
            return job.samples / batch_size
        case "run":
            num_cells = len(config.coverage.cells) + len(config.coverage.split("UC"))
            measured = num_cells * config.evaluation.samples_per_cell
            return (job.samples + _EVALUATION_SHARE * measured) / batch_size
    return 0.0


def _first_batch(config: StudyConfig) -> Batch:
    tokenizer = load_tokenizer(config.out / "tokenizer" / "tokenizer.json")
    reader = ShardReader(config.train_dir)
    mixture = Mixture(config.mixture, config.coverage, reader, tokenizer, image_size=config.image_size, seed=0)
    return mixture.batch(0)


def _time_step(config: StudyConfig, job: Job, batch: Batch) -> float:
    """Return the median seconds of a training step of the job's model, after one step to warm up."""
    model, loss = _model_and_loss(config, job, batch)
    optimizer = make_train_config(config, job).optim.build(model) if job.kind != "language_model" else None
    times_s = []
    for _ in range(1 + _TIMED_STEPS):
        started_s = time.perf_counter()
        loss().backward()
        if optimizer is not None:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s[1:])


def _model_and_loss(config: StudyConfig, job: Job, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
    vocab_size = load_tokenizer(config.out / "tokenizer" / "tokenizer.json").get_vocab_size()
    if job.kind == "language_model":
        lm = build_language_model(make_language_model_config(config, job).model.build(vocab_size))
        texts = replace(batch, input_ids=batch.labels[:, :-1].clamp(min=0), labels=batch.labels[:, 1:])
        return lm, lambda: LanguageModelObjective(lm)(texts, float(texts.num_tokens))[0]
    start = make_train_config(config, job).start
    assert not isinstance(start.trained, str)
    model = Polyglance(start.model.build(vocab_size))
    freeze(model, start.trained)
    return model, lambda: CaptionObjective(model)(batch, float(batch.num_tokens))[0]


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
