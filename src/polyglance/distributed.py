"""Where a training run happens: processes, devices, precision. One process is the same code without the messages."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["Precision", "Runtime", "RuntimeConfig", "runtime"]

Strategy = Literal["single", "ddp", "fsdp"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How the work of an optimiser step is divided and computed. Nothing here changes which samples a step sees."""

    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """`single`: one process. `ddp`: a replica per process. `fsdp`: parameters, gradients and optimiser sharded over the
    processes. `auto`: `single`, or under torchrun `ddp` if a replica fits into a GPU and else `fsdp`."""
    precision: Precision = "fp32"
    """Of matrix products; weights, gradients and optimiser stay float32. `fp16` scales the loss, `bf16` need not."""
    micro_batch_size: int | None = None
    """Samples of one forward pass in one process; the others of its share follow in further passes of the same
    optimiser step. If not given, its whole share at once."""
    activation_checkpointing: bool = False
    """Keep of each layer its input only, and compute it again in the backward pass: less memory, a third more time."""
    num_workers: int = 0
    """Processes, per rank, that decode images and make batches; 0: the training process does it itself."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto`: on a GPU where there is one."""
    peak_tflops: float | Literal["measured"] | None = None
    """Peak of one device in 10^12 FLOP/s, for the MFU (H100, bf16, dense: 989); `measured`: that of a large matrix
    product, timed at the start; if not given, no MFU is logged."""

    def __post_init__(self) -> None:
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, not {self.micro_batch_size}")
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, not {self.num_workers}")
        if self.peak_tflops is not None and self.peak_tflops != "measured" and not float(self.peak_tflops) > 0:
            raise ValueError(f"peak_tflops must be a positive number or 'measured', not {self.peak_tflops}")

    def num_parts(self, batch_size: int, world_size: int) -> int:
        """Parts that an optimiser step's samples are divided into: processes times passes of each.

        Raises:
            ValueError: the samples cannot be divided evenly.
        """
        micro = self.micro_batch_size or max(1, batch_size // world_size)
        if batch_size % (micro * world_size):
            raise ValueError(
                f"a batch of {batch_size} samples cannot be divided over {world_size} processes in micro-batches of "
                f"{micro}: micro_batch_size x processes must divide batch_size"
            )
        return batch_size // micro


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One process of a run and what it needs to know of the others."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Processes."""
    device: "torch.device"
    """Where this process computes."""
    strategy: Strategy = "single"
    """How the model is divided."""
    precision: Precision = "fp32"
    """Of matrix products."""
    mesh: "DeviceMesh | None" = None
    """The processes as torch.distributed sees them; None for one process."""

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    def indices(self, num_parts: int) -> range:
        """The parts of every optimiser step that this process works on."""
        passes = num_parts // self.world_size
        return range(self.rank * passes, (self.rank + 1) * passes)

    def all_sum(self, values: np.ndarray) -> np.ndarray:
        """Sums over all processes, elementwise. Counts stay exact: they travel as float64."""
        if self.world_size == 1:
            return values
        import torch
        import torch.distributed as dist

        tensor = torch.from_numpy(values.astype(np.float64))
        dist.all_reduce(tensor)  # a tensor in main memory goes by gloo: no GPU is waited for
        return tensor.numpy()

    def all_true(self, value: bool) -> bool:
        """Whether it is true in every process."""
        return int(self.all_sum(np.array([not value]))[0]) == 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of rank, in every process. For small ones, now and then."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """The first process's value, in every process."""
        return self.gather(value)[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.all_sum(np.zeros(1))

    def autocast(self) -> AbstractContextManager[None]:
        """Matrix products in the run's precision."""
        if self.precision == "fp32":
            return nullcontext()
        import torch

        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def synchronise(self) -> None:
        """Wait until the device has done what it was given, so that a clock says something."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)


@contextmanager
def runtime(engine: RuntimeConfig, *, num_bytes_per_replica: int = 0) -> Iterator[Runtime]:
    """Join the other processes that torchrun has started, if it has; leave them in the end.

    Args:
        num_bytes_per_replica: memory of an undivided model in training, for `strategy = "auto"`.

    Raises:
        ValueError: a strategy that does not fit the number of processes, or no GPU where one is asked for.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    device = _device(engine, local_rank)
    strategy = _strategy(engine, world_size, device, num_bytes_per_replica)
    if strategy == "single":
        yield Runtime(device=device, precision=engine.precision)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if started := not dist.is_initialized():
        dist.init_process_group(backend, timeout=timedelta(seconds=_TIMEOUT_S))
    try:
        mesh = init_device_mesh(device.type, (world_size,))
        yield Runtime(
            rank=rank,
            world_size=world_size,
            device=device,
            strategy=strategy,
            precision=engine.precision,
            mesh=mesh,
        )
    finally:
        if started:
            dist.destroy_process_group()


_TIMEOUT_S = 3600
"""A process waits so long for the others: the first may be writing a checkpoint."""
_REPLICA_SHARE = 0.6
"""Share of a GPU's memory that a replica may take before the model is sharded; the rest is for activations."""


def _device(engine: RuntimeConfig, local_rank: int) -> "torch.device":
    import torch

    if engine.device == "cpu" or (engine.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ValueError(f"process {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _strategy(engine: RuntimeConfig, world_size: int, device: "torch.device", replica_bytes: int) -> Strategy:
    if engine.strategy == "auto":
        if world_size == 1:
            return "single"
        if device.type == "cpu":
            return "ddp"
        import torch

        room = _REPLICA_SHARE * torch.cuda.get_device_properties(device).total_memory
        return "fsdp" if replica_bytes > room else "ddp"
    if engine.strategy == "single" and world_size > 1:
        raise ValueError(f"strategy 'single' is for one process; torchrun has started {world_size}: use ddp or fsdp")
    if engine.strategy != "single" and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            f"strategy {engine.strategy!r} needs torchrun: torchrun --nproc-per-node 8 -m polyglance train ..."
        )
    return engine.strategy
