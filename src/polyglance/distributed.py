"""Processes, devices and precision of a training run or a measurement. One process runs the same code without messages.

with join_processes(RuntimeConfig(strategy="ddp")) as runtime:      # under torchrun: one of its processes
    total = runtime.all_sum(np.array([1.0]))                        # the number of processes
Runtime.single()                                                    # one process on the CPU
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

__all__ = [
    "Precision",
    "Runtime",
    "RuntimeConfig",
    "choose_local_device",
    "count_launched",
    "divide_micro_batches",
    "is_main_process",
    "join_for_messages",
    "join_processes",
    "take_device_in_turn",
]

T = TypeVar("T")
Precision = Literal["fp32", "bf16", "fp16"]

_TIMEOUT = timedelta(hours=1)
"""Longest wait for the other processes of a run: the first one may be writing a checkpoint."""
_MESSAGE_TIMEOUT = timedelta(days=30)
"""Longest wait for processes that each do a share of an evaluation: shares differ by hours. torchrun ends the others
when one dies, whatever they wait for."""
_REPLICA_SHARE = 0.6
"""Largest share of a GPU's memory that a replica may take before the model is sharded; the rest is for activations."""


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How the work of an optimiser step is divided and computed. Nothing here changes which samples a step sees."""

    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """`single`: one process. `ddp`: each process holds a replica. `fsdp`: parameters, gradients and optimiser state are
    sharded over the processes. `auto`: `single` in one process; under torchrun `ddp` if a replica fits into a GPU, else
    `fsdp`."""
    precision: Precision = "fp32"
    """Number format of matrix products; weights, gradients and optimiser state stay in float32. `fp16` scales the loss,
    `bf16` does not need it."""
    micro_batch_size: int | Literal["auto"] | None = None
    """Samples of one forward pass in one process. The rest of the process's share of the step follows in further passes
    before the weights are updated. `auto`: at most as many as the device has memory for; planned at the start and, on a
    GPU, checked by a pass over the longest samples. With few shapes (`num_shapes`) the passes then differ in their
    samples, so that little is padding. If not given, the whole share is one pass."""
    num_shapes: int | None = None
    """Largest number of shapes (samples, length of prompts, length of targets) of the micro-batches of a run; they are
    chosen from the lengths of the data. A GPU prepares its work again for every new shape. 0: pad to the longest prompt
    and target of each micro-batch. If not given: 12 on a GPU, 0 on a CPU."""
    reduce_dtype: Literal["fp32", "bf16"] | None = None
    """Number format that gradients are sent in between processes; fp32 if not given. `bf16`: half the traffic; sums of
    many processes lose digits. Replicas (`ddp`) do it on GPUs alone."""
    shard_size: int | None = None
    """With `fsdp`: processes that share one copy of the weights. If it is less than all, there are several copies, and
    gradients are averaged over them as well (HSDP): weights are then gathered within a node, where links are fast. If
    not given: the processes of one node."""
    compile: bool | None = None
    """Compile the layers of the model when the run starts: fewer and larger kernels for a GPU. If not given: on a GPU,
    where it is possible."""
    deterministic: bool | None = None
    """Compute with algorithms that give the same bits every time on a GPU too, which are slower. A run that goes on has
    then the bits of one that was never stopped, as on a CPU. It holds for all that the process computes from then on;
    an operator that has no such algorithm is refused. If not given: no."""
    activation_checkpointing: bool = False
    """Keep only the input of each layer and compute the layer again backwards: less memory, about a third more time."""
    num_workers: int = 0
    """Processes, per rank, that decode images and make batches. 0: the training process makes them."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on. `auto`: a GPU if there is one."""
    peak_tflops: float | Literal["measured"] | None = None
    """Peak rate of one device in 10^12 FLOP/s, for the MFU (H100, bf16, dense: 989). `measured`: the rate of a large
    matrix product, timed at the start. If not given, no MFU is logged."""

    def __post_init__(self) -> None:
        if isinstance(self.micro_batch_size, int) and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {self.micro_batch_size}; expected at least 1")
        if self.shard_size is not None and self.shard_size < 1:
            raise ValueError(f"shard_size is {self.shard_size}; expected at least 1")
        if self.shard_size is not None and self.strategy not in ("auto", "fsdp"):
            raise ValueError(f"shard_size has no effect with strategy {self.strategy!r}: fsdp shards")
        if self.num_shapes is not None and self.num_shapes < 0:
            raise ValueError(f"num_shapes is {self.num_shapes}; expected 0 or more")
        if self.num_workers < 0:
            raise ValueError(f"num_workers is {self.num_workers}; expected 0 or more")
        if self.peak_tflops is not None and self.peak_tflops != "measured" and not float(self.peak_tflops) > 0:
            raise ValueError(f"peak_tflops is {self.peak_tflops}; expected a positive number or 'measured'")

    def choose_shard_size(self, world_size: int) -> int:
        """Return the number of processes that share one copy of a sharded model.

        Raises:
            ValueError: the processes cannot be divided into such groups.
        """
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
        size = self.shard_size or (local_size if world_size % local_size == 0 else world_size)
        if world_size % size:
            raise ValueError(f"shard_size {size} does not divide {world_size} processes")
        return size

    def count_shapes(self) -> int:
        """Return the largest number of shapes of a run's micro-batches; 0: any number."""
        if self.num_shapes is not None:
            return self.num_shapes
        import torch

        return 12 if self.device != "cpu" and torch.cuda.is_available() else 0

    def compiles(self, device_type: str) -> bool:
        """Tell whether layers are compiled on a device of this type."""
        return device_type == "cuda" if self.compile is None else self.compile

    def num_micro_batches(self, batch_size: int, world_size: int) -> int:
        """Return the number of micro-batches that an optimiser step is divided into: processes times passes of each.

        Raises:
            ValueError: the samples cannot be divided evenly.
        """
        assert self.micro_batch_size != "auto", "to be replaced by a number first"
        micro_batch_size = self.micro_batch_size or max(1, batch_size // world_size)
        if batch_size % (micro_batch_size * world_size):
            raise ValueError(
                f"a batch of {batch_size} samples cannot be divided over {world_size} processes in micro-batches of "
                f"{micro_batch_size}: micro_batch_size x processes must divide batch_size"
            )
        return batch_size // micro_batch_size


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One process of a run, its device, and its messages to the other processes."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """Number of processes."""
    device: "torch.device"
    """Device that this process computes on."""
    strategy: Literal["single", "ddp", "fsdp"] = "single"
    """How the model is divided over the processes (`RuntimeConfig.strategy`)."""
    precision: Precision = "fp32"
    """Number format of matrix products."""
    reduce_dtype: Literal["fp32", "bf16"] = "fp32"
    """Number format that gradients are sent in (`RuntimeConfig.reduce_dtype`)."""
    mesh: "DeviceMesh | None" = None
    """The processes as torch.distributed sees them; of two dimensions, copies and shards, where a sharded model is held
    several times. None for one process."""
    group: "ProcessGroup | None" = None
    """Group that messages go by; None: that of all processes."""

    @classmethod
    def single(cls) -> "Runtime":
        """Return the runtime of one process that works alone, on the CPU in float32."""
        import torch

        return cls(device=torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def dtype(self) -> "torch.dtype":
        """torch's name of the precision."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    def local_micro_batches(self, num_micro_batches: int) -> tuple[int, ...]:
        """Return the numbers of the micro-batches of every optimiser step that this process computes, one in each
        pass."""
        return divide_micro_batches(num_micro_batches, self.rank, self.world_size)

    def all_sum(self, values: np.ndarray) -> np.ndarray:
        """Add up the arrays of all processes, elementwise, as float64: counts stay exact."""
        if self.world_size == 1:
            return values
        import torch
        import torch.distributed as dist

        tensor = torch.from_numpy(values.astype(np.float64))
        dist.all_reduce(tensor, group=self.group)  # a tensor in main memory goes by gloo: no GPU is waited for
        return tensor.numpy()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank, in every process. For small values, now and then."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def gather_in_main(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank, in the first process; nothing in the others."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size if self.is_main else []
        dist.gather_object(value, values if self.is_main else None, group=self.group, group_dst=0)
        return values

    def from_main(self, value: Any) -> Any:
        """Return the first process's value, in every process."""
        return self.gather(value)[0]

    def first(self, value: T | None) -> T | None:
        """Return the first process's value that is not None, in every process; None if there is none."""
        return next((other for other in self.gather(value) if other is not None), None)

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        self.all_sum(np.zeros(1))

    def autocast(self, *, enabled: bool = True) -> AbstractContextManager[None]:
        """Compute the matrix products of a block in the run's precision, or if not `enabled` in that of their operands,
        inside such a block too."""
        if self.precision == "fp32":
            return nullcontext()
        import torch

        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)

    def keep_casts(self) -> AbstractContextManager[None]:
        """Return a block for several `autocast` blocks between which no weight changes: each weight is then cast once.
        Shards are cast whenever they are gathered, so for them the block has no effect."""
        return nullcontext() if self.strategy == "fsdp" else self.autocast()

    def synchronise(self) -> None:
        """Wait until the device has finished its queue; call it before a clock is read."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)


def divide_micro_batches(num_micro_batches: int, rank: int, world_size: int) -> tuple[int, ...]:
    """Return the numbers of the micro-batches of an optimiser step that a process computes, one in each pass.

    Micro-batches are numbered from the longest to the shortest. In each pass the processes take successive numbers,
    whose micro-batches take about equally long, and from pass to pass their order is reversed. So no process waits long
    for another, neither in a pass, in which shards exchange weights, nor at the end of the step.
    """
    places = (rank, world_size - 1 - rank)
    return tuple(number * world_size + places[number % 2] for number in range(num_micro_batches // world_size))


def count_launched() -> int:
    """Return the number of processes that torchrun started, this one included; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def choose_local_device(device: str) -> str:
    """Return the device of this process for a model of its own: under torchrun one of its machine's GPUs, in turn.

    Args:
        device: what is asked for; all but `auto` and `cuda` stays as it is.
    """
    if count_launched() == 1:
        return device
    return take_device_in_turn(device, int(os.environ.get("LOCAL_RANK", "0")))


def take_device_in_turn(device: str, number: int) -> str:
    """Return the device of one of this machine's processes that each have a model: its GPUs, in turn.

    Args:
        device: what is asked for; all but `auto` and `cuda` stays as it is.
        number: number of the process, from 0.
    """
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{number % torch.cuda.device_count()}"


@contextmanager
def join_for_messages() -> Iterator["Runtime"]:
    """Join the processes that torchrun has started, if it has, to send each other small values from main memory. Each
    computes with a model of its own, on its own device (`choose_local_device`)."""
    if count_launched() == 1:
        yield Runtime.single()
        return
    with join_processes(RuntimeConfig(strategy="ddp", device="cpu"), timeout=_MESSAGE_TIMEOUT) as runtime:
        yield runtime


def is_main_process() -> bool:
    """Tell whether this process is the first of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join_processes(
    config: RuntimeConfig, *, num_bytes_per_replica: int = 0, timeout: timedelta = _TIMEOUT
) -> Iterator[Runtime]:
    """Join the processes that torchrun has started, if it has, for the length of the block.

    Args:
        num_bytes_per_replica: memory of an undivided model in training, for `strategy = "auto"`.
        timeout: longest wait for the other processes, after which this one fails.

    Raises:
        ValueError: a strategy that does not fit the number of processes, or no GPU although one is asked for.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    world_size = count_launched()
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    device = set_up_device(config, local_rank)
    strategy = _choose_strategy(config, world_size, device, num_bytes_per_replica)
    if config.deterministic and device.type == "cuda":
        _choose_deterministic_algorithms()
    if strategy == "single":
        yield Runtime(device=device, precision=config.precision)
        return
    if strategy == "ddp" and config.reduce_dtype == "bf16" and device.type == "cpu":
        raise ValueError("reduce_dtype 'bf16' with ddp is for GPUs: torch sends gradients of replicas so by nccl alone")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if is_first := not dist.is_initialized():
        dist.init_process_group(backend, timeout=timeout, **_find_new_store())
    try:
        shape: tuple[int, ...] = (world_size,)
        if strategy == "fsdp" and (shard_size := config.choose_shard_size(world_size)) < world_size:
            shape = (world_size // shard_size, shard_size)
        names = ("copies", "shards")[-len(shape) :]
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
        yield Runtime(
            rank=rank,
            world_size=world_size,
            device=device,
            strategy=strategy,
            precision=config.precision,
            reduce_dtype=config.reduce_dtype or "fp32",
            mesh=mesh,
        )
    finally:
        if is_first:
            dist.destroy_process_group()


def set_up_device(config: RuntimeConfig, local_rank: int) -> "torch.device":
    """Return the device of a process of this machine; a GPU is made the current one of this process.

    Args:
        local_rank: number of the process among those of the machine.

    Raises:
        ValueError: there is no GPU for it.
    """
    import torch

    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ValueError(f"process {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _choose_deterministic_algorithms() -> None:
    """Let this process compute the same bits every time.

    This includes cuBLAS, which reads the environment variable when it is first used, and torch's compiler, which would
    otherwise choose kernels by their speed in a trial.
    """
    import torch
    from torch._inductor import config

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    if hasattr(config, "deterministic"):  # not in older releases
        config.deterministic = True


def _find_new_store() -> dict[str, Any]:
    """Return a part of torchrun's store for processes that it has started again. They would find the addresses of
    those before them, and wait for them."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return {"store": PrefixStore(f"attempt-{attempt}", store), "rank": rank, "world_size": world_size}


def _choose_strategy(
    config: RuntimeConfig, world_size: int, device: "torch.device", num_bytes_per_replica: int
) -> Literal["single", "ddp", "fsdp"]:
    if config.strategy == "auto":
        if world_size == 1:
            return "single"
        if device.type == "cpu":
            return "ddp"
        import torch

        room_bytes = _REPLICA_SHARE * torch.cuda.get_device_properties(device).total_memory
        return "fsdp" if num_bytes_per_replica > room_bytes else "ddp"
    if config.strategy == "single" and world_size > 1:
        raise ValueError(f"strategy 'single' is for one process; torchrun has started {world_size}: use ddp or fsdp")
    if config.strategy != "single" and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            f"strategy {config.strategy!r} needs torchrun: torchrun --nproc-per-node 8 -m polyglance train ..."
        )
    return config.strategy
