"""`micro_batch_size = "auto"`: as many samples a pass as the device has memory for.

The size is planned from the free memory, and on a GPU checked by a first pass over the longest samples that the run can
meet, before any weight changes. If the memory does not suffice the size is halved. It bounds the samples of a pass:
where a run has few shapes, the passes of its steps are planned with it (`polyglance.mixture.passes`). What came of both
is written into the run's folder, and a run that goes on keeps them.
"""

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from polyglance.config import from_dict, to_dict
from polyglance.distributed import Runtime
from polyglance.files import read_record, write_record
from polyglance.mixture.collate import Batch
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.passes import Pass
from polyglance.model.architecture import Polyglance
from polyglance.model.card_counts import count_recomputed_bytes, count_saved_bytes
from polyglance.model.components import count_parameters, freeze_like, set_train_mode
from polyglance.model.flops import build_on_meta
from polyglance.model.training_setup import USABLE_SHARE, find_divisors
from polyglance.model.vision import count_channels
from polyglance.train.config import TrainConfig
from polyglance.train.parallel import measure_free_bytes

__all__ = ["MicroBatchRecord", "PassesRecord", "Trial", "fix_micro_batch_size", "fix_passes"]

_RECORD = "micro_batch_size.json"
_PASSES = "passes.json"
_FIRST_SAMPLES = 32
"""Most samples of the pass that layers are compiled by."""


@dataclass(frozen=True, kw_only=True)
class MicroBatchRecord:
    """micro_batch_size.json: how the size of a run's micro-batches was found."""

    micro_batch_size: int
    """Most samples of one pass."""
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


@dataclass(frozen=True, kw_only=True)
class PassesRecord:
    """passes.json: the passes that each step of a run is divided into."""

    passes: tuple[tuple[int, int, int], ...]
    """Samples of a process, and tokens that their prompts and targets are padded to."""
    world_size: int
    """Number of processes."""


class Trial:
    """Passes over the longest samples that a run can meet, before it starts. They leave nothing behind.

    Args:
        objective: the run's objective, on its device, not yet distributed.
        is_cached: the run trains on features of the vision tower.
    """

    def __init__(
        self, config: TrainConfig, objective: nn.Module, runtime: Runtime, *, image_size: int, is_cached: bool
    ) -> None:
        self.config, self.objective, self.runtime = config, objective, runtime
        self.model: Polyglance = objective.get_submodule("model")  # type: ignore[assignment]
        self.image_size, self.is_cached = image_size, is_cached

    def make_batch(self, num_samples: int) -> Batch:
        """Make a batch of the longest prompts and targets."""
        source_tokens, target_tokens = self.config.mixture.max_source_tokens, self.config.mixture.max_target_tokens
        side = 0 if self.is_cached else self.image_size
        places = self.model.config.num_image_tokens(self.image_size) - 1
        width = count_channels(self.model.config.vision_config)
        with torch.device(self.runtime.device):
            return Batch(
                images=torch.zeros(num_samples, side, side, 3, dtype=torch.uint8),
                input_ids=torch.zeros(num_samples, source_tokens, dtype=torch.long),
                attention_mask=torch.ones(num_samples, source_tokens, dtype=torch.long),
                labels=torch.zeros(num_samples, target_tokens, dtype=torch.long),
                cell=np.zeros(num_samples, dtype=np.int64),
                features=torch.zeros(num_samples, places, width) if self.is_cached else None,
            )

    def make_pass(self, num_samples: int) -> None:
        """Make a pass as in training, with the optimiser's two moments in memory.

        Raises:
            torch.OutOfMemoryError: it does not fit.
        """
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        moments = [torch.empty(2 * p.numel(), dtype=p.dtype, device=p.device) for p in trained]
        try:
            self._compute(num_samples)
        finally:
            moments.clear()

    def make_first_pass(self) -> None:
        """Make the pass that layers are compiled by. On a GPU of 32 samples, or as many as fit: the compiler divides
        sums over the positions of a batch into as many parts as suit the first one, for all later ones."""
        if self.runtime.device.type == "cuda":
            _halve_until_it_fits(find_divisors(_FIRST_SAMPLES), _FIRST_SAMPLES, self._compute)
        else:
            self._compute(2)  # for one sample the compiler would make special code

    def _compute(self, num_samples: int) -> None:
        set_train_mode(self.model)
        try:
            with self.runtime.keep_casts(), self.runtime.autocast():
                loss, _ = self.objective(self.make_batch(num_samples), 1.0)
                with self.runtime.autocast(enabled=False):
                    loss.backward()
            self.runtime.synchronise()
        finally:
            self.objective.zero_grad(set_to_none=True)


def fix_micro_batch_size(trial: Trial, run_dir: Path) -> int | None:
    """Return the most samples of a pass if their number is `auto`, else None.

    Raises:
        ValueError: not even one sample fits.
    """
    runtime = trial.runtime
    if trial.config.engine.micro_batch_size != "auto":
        return None
    path = run_dir / _RECORD
    record = runtime.from_main(_read_record(MicroBatchRecord, path))
    if record is None or record.world_size != runtime.world_size:
        record = _find_size(trial)
        if runtime.is_main:
            write_record(path, to_dict(record))
            print(f"{run_dir.name}: {_describe(record)}", file=sys.stderr, flush=True)
    return record.micro_batch_size


def fix_passes(mixture: Mixture, plan: Callable[[], int], run_dir: Path, runtime: Runtime) -> int:
    """Plan the micro-batches of a step, where the number of their samples is `auto`, and return their number, over all
    processes. If they differ in their samples, the record of them is written, or read where the run goes on with as
    many processes.

    Args:
        plan: plans them, keeps the passes that `mixture` has, and returns their number.
    """
    path = run_dir / _PASSES
    record = runtime.from_main(_read_record(PassesRecord, path))
    if record is not None and record.world_size == runtime.world_size:
        mixture.passes = tuple(Pass(*one) for one in record.passes)
    number = plan()
    mixture.passes = runtime.from_main(mixture.passes)
    if runtime.is_main and mixture.passes is not None:
        write_record(path, to_dict(PassesRecord(passes=mixture.passes, world_size=runtime.world_size)))
    return number


_Record = TypeVar("_Record")


def _read_record(kind: type[_Record], path: Path) -> _Record | None:
    """Read the record of a run that goes on from a checkpoint; None if there is none."""
    if not path.exists() or not any(path.parent.glob("checkpoints/step-*")):
        return None
    return from_dict(kind, read_record(path))


def _find_size(trial: Trial) -> MicroBatchRecord:
    runtime, batch_size = trial.runtime, trial.config.mixture.batch_size
    share, remainder = divmod(batch_size, runtime.world_size)
    if remainder or not share:
        raise ValueError(f"a batch of {batch_size} samples cannot be divided over {runtime.world_size} processes")
    sizes = find_divisors(share)
    free_bytes = min(runtime.gather(measure_free_bytes(runtime.device)))
    per_sample = _plan_bytes_per_sample(trial)
    planned = _plan_size(sizes, free_bytes - _count_state_bytes(trial.model, runtime), per_sample)
    # Shards exchange parameters within a pass: a process that ran out of memory would leave the others waiting.
    is_checked = runtime.device.type == "cuda" and runtime.strategy != "fsdp"
    size, too_large = planned, list[int]()
    if is_checked:
        size, too_large = _halve_until_it_fits(sizes, planned, trial.make_pass)
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
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        smaller = [other for other in sizes if other <= size // 2]
        if not smaller:
            raise ValueError(
                "not even one sample fits into the device's memory: set engine.activation_checkpointing, or shard the "
                "model over several devices (engine.strategy = 'fsdp')"
            )
        size = max(smaller)


def _plan_bytes_per_sample(trial: Trial) -> int:
    """Estimate the memory of one of the longest samples: what autograd keeps, counted on the meta device."""
    model, mixture, dtype = trial.model, trial.config.mixture, trial.runtime.dtype
    meta = build_on_meta(model.config)
    freeze_like(meta, model)
    lengths = {
        "image_size": trial.image_size,
        "source_tokens": mixture.max_source_tokens,
        "target_tokens": mixture.max_target_tokens,
    }
    saved = count_saved_bytes(meta, dtype, **lengths)
    if not trial.config.engine.activation_checkpointing:
        return saved
    return count_recomputed_bytes(model.config, saved, num_bytes=dtype.itemsize, **lengths)


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
