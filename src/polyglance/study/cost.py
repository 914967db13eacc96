"""What a study will take before it is run: steps of every model are timed, then the schedule is played through."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from heapq import heappop, heappush

import torch
from torch import Tensor, nn

from polyglance.config import fingerprint
from polyglance.data.shard import ShardReader
from polyglance.files import write_atomically
from polyglance.mixture.collate import Batch
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.assemble import build_language_model
from polyglance.model.card import make_card
from polyglance.model.components import PUBLISHED_TRAINED, freeze
from polyglance.model.flops import count_training_macs
from polyglance.model.sizes import resolve_size
from polyglance.model.training_setup import recommend_setup
from polyglance.processes import num_cores
from polyglance.study.config import StudyConfig
from polyglance.study.executors import urgency
from polyglance.study.grid import Job
from polyglance.study.table import lengths
from polyglance.study.work import data_dirs, language_model_config, train_config
from polyglance.train.step import CaptionObjective, LanguageModelObjective

__all__ = ["Costs", "expected_costs", "schedule_s"]

_TIMED_STEPS = 4
_EVALUATION_SHARE = 0.8
"""Measuring a held-out sample in all variants (two encoder passes, two decoder passes), in training steps on it."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Expected costs of a study's jobs, each on one core."""

    seconds: Mapping[str, float]
    """Job id -> seconds, on one core or, for published sizes, on the whole machine; data and tokenizer cost nothing."""
    memory_bytes: int
    """Peak memory of a process that has trained the largest model; for published sizes, of one device."""
    strategies: Mapping[str, str] = field(default_factory=dict)
    """Published sizes: run id -> how it is best trained on the machine, in words."""


def expected_costs(config: StudyConfig, jobs: Sequence[Job]) -> Costs:
    """Time a few training steps of every model of the study, once; the result is kept in costs.json.

    Data and tokenizer have to be there already. Published sizes are not timed but reckoned from their operations and
    the machine's peak and MFU.
    """
    if not config.is_micro:
        return _reckoned_costs(config, jobs)
    mark = fingerprint(config, num_cores())
    path = config.out / "costs.json"
    if path.exists() and (kept := json.loads(path.read_text()))["fingerprint"] == mark:
        return Costs(seconds=kept["seconds"], memory_bytes=kept["memory_bytes"])
    torch.set_num_threads(1)
    batch = _batch(config)
    step_s = {model: _time_step(config, job, batch) for model, job in _by_model(jobs).items()}
    seconds = {job.id: step_s.get(_model(job), 0.0) * _num_steps(config, job) for job in jobs}
    costs = Costs(seconds=seconds, memory_bytes=_peak_memory_bytes())
    write_atomically(path, json.dumps({"fingerprint": mark, **asdict(costs)}, indent=1) + "\n")
    return costs


def _reckoned_costs(config: StudyConfig, jobs: Sequence[Job]) -> Costs:
    machine = config.machine
    flops_per_s = machine.devices * machine.peak_tflops * 1e12 * machine.mfu
    runs = [job for job in jobs if job.kind == "run"]
    macs, strategies = {}, {}
    for name in dict.fromkeys(job.size for job in runs):
        model = resolve_size(name)
        trained = PUBLISHED_TRAINED[model.decoder_config.model_type]
        macs[name] = count_training_macs(model, trained, image_size=config.image_size, **lengths(config))
        strategies[name] = recommend_setup(
            make_card(name, image_size=config.image_size, **lengths(config)),
            devices=machine.devices,
            device_bytes=int(machine.memory_gb * 1e9),
            batch_size=config.mixture.batch_size,
        )
    return Costs(
        seconds={job.id: 2 * macs[job.size] * job.samples / flops_per_s if job.size in macs else 0.0 for job in jobs},
        memory_bytes=max((s.bytes_per_device for s in strategies.values() if s is not None), default=0),
        strategies={job.id: str(strategies[job.size] or "does not fit") for job in runs},
    )


def schedule_s(jobs: Sequence[Job], *, done: set[str], seconds: Mapping[str, float], num_workers: int) -> float:
    """Expected seconds until all jobs are done: the most urgent first, as the executor does them."""
    urgent = urgency(jobs, seconds)
    waiting = sorted((job for job in jobs if job.id not in done), key=lambda job: -urgent[job.id])
    done = set(done)
    now_s, running = 0.0, list[tuple[float, str]]()
    while waiting or running:
        ready = next((job for job in waiting if done.issuperset(job.needs)), None)
        if ready is not None and len(running) < num_workers:
            waiting.remove(ready)
            heappush(running, (now_s + seconds[ready.id], ready.id))
        else:
            now_s, finished = heappop(running)
            done.add(finished)
    return now_s


def _model(job: Job) -> tuple[str, str, int]:
    """What a step's time depends on."""
    return job.kind, job.family, job.width


def _by_model(jobs: Sequence[Job]) -> dict[tuple[str, str, int], Job]:
    return {_model(job): job for job in jobs if job.kind in ("tower", "language_model", "run")}


def _num_steps(config: StudyConfig, job: Job) -> float:
    """Steps of training, and what measuring costs in such steps."""
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


def _batch(config: StudyConfig) -> Batch:
    tokenizer = load_tokenizer(config.out / "tokenizer" / "tokenizer.json")
    reader = ShardReader(data_dirs(config)[0])
    mixture = Mixture(config.mixture, config.coverage, reader, tokenizer, image_size=config.image_size, seed=0)
    return mixture.batch(0)


def _time_step(config: StudyConfig, job: Job, batch: Batch) -> float:
    """Median seconds of a training step of the job's model, after one that warms up."""
    model, loss = _model_and_loss(config, job, batch)
    optimizer = train_config(config, job).optim.build(model) if job.kind != "language_model" else None
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
        lm = build_language_model(language_model_config(config, job).model.build(vocab_size))
        texts = replace(batch, input_ids=batch.labels[:, :-1].clamp(min=0), labels=batch.labels[:, 1:])
        return lm, lambda: LanguageModelObjective(lm)(texts, float(texts.num_tokens))[0]
    start = train_config(config, job).start
    assert not isinstance(start.trained, str)
    model = Polyglance(start.model.build(vocab_size))
    freeze(model, start.trained)
    return model, lambda: CaptionObjective(model)(batch, float(batch.num_tokens))[0]


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
