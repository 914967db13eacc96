"""Costs of a study of micro models, from timing a few training steps of every model."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from polyglance.data.shard import ShardReader
from polyglance.error_text import first_line
from polyglance.mixture.collate import Batch
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.assemble import build_language_model
from polyglance.model.components import count_replica_bytes, freeze
from polyglance.processes import memory_bytes
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_configs import make_language_model_config, make_train_config
from polyglance.study.grid.jobs import Job
from polyglance.train.metrics import measure_peak_bytes
from polyglance.train.step import CaptionObjective, LanguageModelObjective

__all__ = ["count_measured", "time_jobs"]

_TIMED_STEPS = 4
_EVALUATION_SHARE = 0.8
"""Time to measure one held-out sample in all variants (two passes of the encoder, two of the decoder), as a share of
the time of a training step on it."""


def time_jobs(config: StudyConfig, jobs: Sequence[Job]) -> tuple[Mapping[str, float], int]:
    """Return job id -> expected seconds on one core, and the peak memory of this process in bytes. Data and tokenizer
    have to be there already.

    Raises:
        ValueError: a model for which this machine has not enough memory.
    """
    torch.set_num_threads(1)
    models = _one_job_per_model(jobs)
    for job in models.values():
        with torch.device("meta"):
            model = _make_model(config, job)
        _refuse_too_large(job.id, "weights, gradients and moments", count_replica_bytes(model, is_cast=False))
    _refuse_too_large(
        "mixture.batch_size", "the images of a step", 3 * config.image_size**2 * config.mixture.batch_size
    )
    batch = _first_batch(config)
    step_s = {model: _time_step(config, job, batch) for model, job in models.items()}
    seconds = {job.id: step_s.get(_model_of(job), 0.0) * _num_steps(config, job) for job in jobs}
    return seconds, measure_peak_bytes(torch.device("cpu"))


def _model_of(job: Job) -> tuple[str, str, int]:
    """Return what the time of a training step depends on."""
    return "run" if job.kind in ("start", "trunk") else job.kind, job.family, job.width


def _one_job_per_model(jobs: Sequence[Job]) -> dict[tuple[str, str, int], Job]:
    return {_model_of(job): job for job in jobs if job.kind in ("tower", "language_model", "trunk", "run")}


def _num_steps(config: StudyConfig, job: Job) -> float:
    """Return the steps of training, and the cost of measuring counted in such steps."""
    batch_size = config.mixture.batch_size
    match job.kind:
        case "language_model":
            return config.language_models[job.start].steps
        case "tower" | "trunk":
            return (job.samples - job.begins_at) / batch_size
        case "start":
            return _count_at_start(config) / batch_size
        case "run":
            return (job.samples - job.begins_at + count_measured(config)) / batch_size
    return 0.0


def count_measured(config: StudyConfig) -> float:
    """Return the samples of training that take as long as the measurement of a run."""
    trained = _EVALUATION_SHARE * len(config.coverage.cells) * config.evaluation.samples_per_cell
    return trained + _count_at_start(config)


def _count_at_start(config: StudyConfig) -> float:
    """Return the same of the measurement of an untrained model."""
    return _EVALUATION_SHARE * len(config.coverage.split("UC")) * config.evaluation.samples_per_cell


def _first_batch(config: StudyConfig) -> Batch:
    tokenizer = load_tokenizer(config.out / "tokenizer" / "tokenizer.json")
    reader = ShardReader(config.train_dir)
    mixture = Mixture(config.mixture, config.coverage, reader, tokenizer, image_size=config.image_size, seed=0)
    return mixture.batch(0)


def _refuse_too_large(what: str, parts: str, needed: int) -> None:
    """Refuse, before it is made, what does not fit into this machine's memory."""
    if needed > memory_bytes():
        raise ValueError(
            f"{what} needs at least {needed / 1e9:,.0f} GB of memory for {parts}; this machine has "
            f"{memory_bytes() / 1e9:,.0f} GB"
        )


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


def _make_model(config: StudyConfig, job: Job) -> Any:
    """Make the job's model with random weights."""
    vocab_size = load_tokenizer(config.out / "tokenizer" / "tokenizer.json").get_vocab_size()
    try:
        if job.kind == "language_model":
            return build_language_model(make_language_model_config(config, job).model.build(vocab_size))
        start = make_train_config(config, job).start
        assert not isinstance(start.trained, str)
        model = Polyglance(start.model.build(vocab_size))
    except Exception as error:  # noqa: BLE001 - torch raises errors of several kinds at sizes beyond 2^63
        raise ValueError(f"{job.id}: no model of width {job.width:,} is possible ({first_line(error)})") from None
    freeze(model, start.trained)
    return model


def _model_and_loss(config: StudyConfig, job: Job, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = _make_model(config, job)
    if job.kind != "language_model":
        return model, lambda: CaptionObjective(model)(batch, float(batch.num_tokens))[0]
    ids = batch.labels[:, :-1].clamp(min=0)
    texts = replace(batch, input_ids=ids, attention_mask=torch.ones_like(ids), labels=batch.labels[:, 1:])
    return model, lambda: LanguageModelObjective(model)(texts, float(texts.num_tokens))[0]
