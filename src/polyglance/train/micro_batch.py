"""`micro_batch_size = "auto"`: as many samples a pass as the device has memory for.

The size is planned from the free memory, and on a GPU checked by a first pass over the longest samples that the run can
meet, before any weight changes. If the memory does not suffice the size is halved. What came of it is written into the
run's folder, and a run that goes on keeps its size.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from polyglance.config import from_dict, to_dict
from polyglance.distributed import Runtime
from polyglance.files import read_json, write_json
from polyglance.mixture.collate import Batch
from polyglance.model.architecture import Polyglance
from polyglance.model.card_counts import count_recomputed_bytes, count_saved_bytes
from polyglance.model.components import count_parameters, freeze_like, set_train_mode
from polyglance.model.flops import build_on_meta
from polyglance.model.training_setup import USABLE_SHARE, find_divisors
from polyglance.model.vision import count_channels
from polyglance.train.config import TrainConfig
from polyglance.train.parallel import measure_free_bytes

__all__ = ["MicroBatchRecord", "fix_micro_batch_size"]

_RECORD = "micro_batch_size.json"


@dataclass(frozen=True, kw_only=True)
class MicroBatchRecord:
    """micro_batch_size.json: how the size of a run's micro-batches was found."""

    micro_batch_size: int
    """Samples of one pass."""
    planned: int
    """Samples that the plan says fit."""
    is_checked: bool
    """Whether a pass over so many of the longest samples was made."""
    too_large: tuple[int, ...]
    """Sizes that ran out of memory."""
    free_bytes: int
    """Free memory of the device with the least, before the first pass."""
    bytes_per_sample: int
    """Memory that a sample was planned with."""
    world_size: int
    """Number of processes."""


def fix_micro_batch_size(
    config: TrainConfig, objective: nn.Module, run_dir: Path, runtime: Runtime, *, image_size: int, is_cached: bool
) -> TrainConfig:
    """Return the configuration with a number in place of `auto`.

    Args:
        objective: the run's objective, on its device, not yet distributed.
        is_cached: the run trains on features of the vision tower.

    Raises:
        ValueError: not even one sample fits.
    """
    if config.engine.micro_batch_size != "auto":
        return config
    path = run_dir / _RECORD
    record = from_dict(MicroBatchRecord, read_json(path)) if path.exists() else None
    is_continued = record is not None and any(run_dir.glob("checkpoints/step-*"))
    record = runtime.from_main(record if is_continued else None)
    if record is None:
        model: Polyglance = objective.get_submodule("model")  # type: ignore[assignment]
        record = _find_size(config, objective, model, runtime, image_size=image_size, is_cached=is_cached)
        if runtime.is_main:
            write_json(path, to_dict(record))
            print(f"{run_dir.name}: {_describe(record)}", file=sys.stderr, flush=True)
    return replace(config, engine=replace(config.engine, micro_batch_size=record.micro_batch_size))


def _find_size(
    config: TrainConfig, objective: nn.Module, model: Polyglance, runtime: Runtime, *, image_size: int, is_cached: bool
) -> MicroBatchRecord:
    share, remainder = divmod(config.mixture.batch_size, runtime.world_size)
    if remainder or not share:
        raise ValueError(
            f"a batch of {config.mixture.batch_size} samples cannot be divided over {runtime.world_size} processes"
        )
    sizes = find_divisors(share)
    free_bytes = min(runtime.gather(measure_free_bytes(runtime.device)))
    per_sample = _plan_bytes_per_sample(config, model, runtime, image_size)
    planned = _plan_size(sizes, free_bytes - _count_state_bytes(model, runtime), per_sample)
    # Shards exchange parameters within a pass: a process that ran out of memory would leave the others waiting.
    is_checked = runtime.device.type == "cuda" and runtime.strategy != "fsdp"
    size, too_large = planned, list[int]()
    if is_checked:
        set_train_mode(model)
        features = model.config.num_image_tokens(image_size) - 1 if is_cached else None

        def attempt(num_samples: int) -> None:
            _make_pass(objective, _make_longest_batch(config, model, num_samples, image_size, features), runtime)

        size, too_large = _halve_until_it_fits(sizes, planned, attempt)
    return MicroBatchRecord(
        micro_batch_size=min(runtime.gather(size)),
        planned=planned,
        is_checked=is_checked,
        too_large=tuple(too_large),
        free_bytes=free_bytes,
        bytes_per_sample=per_sample,
        world_size=runtime.world_size,
    )


def _plan_size(sizes: Sequence[int], room_bytes: int, per_sample: int) -> int:
    return max((size for size in sizes if size * per_sample <= USABLE_SHARE * room_bytes), default=1)


def _halve_until_it_fits(sizes: Sequence[int], planned: int, attempt: Callable[[int], None]) -> tuple[int, list[int]]:
    """Return the first of the sizes, from `planned` downwards by halves, whose attempt does not run out of memory, and
    those that did.

    Raises:
        ValueError: one sample is too much.
    """
    size, too_large = planned, []
    while True:
        try:
            attempt(size)
        except torch.OutOfMemoryError:
            too_large.append(size)
        else:
            return size, too_large
        # Outside the handler, whose traceback would keep the tensors of the failed pass.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        smaller = [other for other in sizes if other <= size // 2]
        if not smaller:
            raise ValueError(
                "not even one sample fits into the device's memory: set engine.activation_checkpointing, or shard the "
                "model over several devices (engine.strategy = 'fsdp')"
            )
        size = max(smaller)


def _make_pass(objective: nn.Module, batch: Batch, runtime: Runtime) -> None:
    """Make a pass as in training, with the optimiser's two moments in memory; leave nothing behind."""
    moments = [
        torch.empty(2 * p.numel(), dtype=p.dtype, device=p.device) for p in objective.parameters() if p.requires_grad
    ]
    try:
        with runtime.keep_casts(), runtime.autocast():
            loss, _ = objective(batch, 1.0)
            with runtime.autocast(enabled=False):
                loss.backward()
        runtime.synchronise()
    finally:
        moments.clear()
        objective.zero_grad(set_to_none=True)


def _make_longest_batch(
    config: TrainConfig, model: Polyglance, num_samples: int, image_size: int, features: int | None
) -> Batch:
    """Make a batch of the longest prompts and targets that the run can meet."""
    shape = config.mixture.max_source_tokens, config.mixture.max_target_tokens
    with torch.device(next(model.parameters()).device):
        side = 0 if features is not None else image_size
        width = count_channels(model.config.vision_config)
        return Batch(
            images=torch.zeros(num_samples, side, side, 3, dtype=torch.uint8),
            input_ids=torch.zeros(num_samples, shape[0], dtype=torch.long),
            attention_mask=torch.ones(num_samples, shape[0], dtype=torch.long),
            labels=torch.zeros(num_samples, shape[1], dtype=torch.long),
            cell=np.zeros(num_samples, dtype=np.int64),
            features=torch.zeros(num_samples, features, width) if features else None,
        )


def _plan_bytes_per_sample(config: TrainConfig, model: Polyglance, runtime: Runtime, image_size: int) -> int:
    """Estimate the memory of one of the longest samples: what autograd keeps, counted on the meta device."""
    meta = build_on_meta(model.config)
    freeze_like(meta, model)
    lengths = {
        "image_size": image_size,
        "source_tokens": config.mixture.max_source_tokens,
        "target_tokens": config.mixture.max_target_tokens,
    }
    saved = count_saved_bytes(meta, runtime.dtype, **lengths)
    if not config.engine.activation_checkpointing:
        return saved
    num_bytes = runtime.dtype.itemsize
    return count_recomputed_bytes(model.config, saved, num_bytes=num_bytes, **lengths)


def _count_state_bytes(model: Polyglance, runtime: Runtime) -> int:
    """Count gradients, two moments and cast weights: what training adds to the weights. Shards free most weights, which
    are whole when the memory is measured, and gather embeddings and their gradient in float32."""
    trained = count_parameters(model, trained_only=True)
    cast_bytes = 0 if runtime.precision == "fp32" else 2
    added = (12 + cast_bytes) * trained
    if runtime.strategy != "fsdp":
        return added
    freed = 4 * count_parameters(model) * (runtime.world_size - 1) // runtime.world_size
    return added // runtime.world_size - freed + 8 * model.lm_head.weight.numel()


def _describe(record: MicroBatchRecord) -> str:
    text = f"micro-batches of {record.micro_batch_size} samples: planned {record.planned} from "
    text += f"{record.free_bytes / 1e9:.1f} GB of free memory and {record.bytes_per_sample / 1e6:.0f} MB a sample"
    if record.too_large:
        text += f"; out of memory with {', '.join(map(str, record.too_large))}"
    return text if record.is_checked else f"{text}; not checked by a pass"
