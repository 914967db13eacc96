"""A model divided over processes: replicas (DDP) or shards (FSDP2), with or without recomputed activations."""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from polyglance.distributed import Precision, Runtime

__all__ = [
    "copy_into",
    "layers",
    "parallel",
    "part_by_part",
    "recompute_activations",
    "replica_bytes",
    "synchronising",
    "whole",
]

_DTYPES: dict[Precision, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def layers(model: nn.Module) -> list[nn.Module]:
    """The repeated layers of encoder and decoder: what is sharded and recomputed as a unit."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]


def parallel(objective: nn.Module, runtime: Runtime) -> nn.Module:
    """The objective as this run's processes compute it; to be called in place of `objective`.

    Replicas' gradients are averaged by DDP in the backward pass. Shards: each layer is gathered when it is needed, in
    the run's precision, and its gradients are summed in float32; what is left (embeddings, norms, projector) is one
    unit and stays in float32, so that the loss over a large vocabulary is summed in it. Frozen parameters are sharded
    too, but have neither gradient nor optimiser state.
    """
    if runtime.strategy == "single":
        return objective
    assert runtime.mesh is not None
    if runtime.strategy == "ddp":
        return DistributedDataParallel(objective, gradient_as_bucket_view=True)
    policy = MixedPrecisionPolicy(param_dtype=_DTYPES[runtime.precision], reduce_dtype=torch.float32)
    towers = [module for name, module in objective.named_modules() if name.endswith("vision_tower")]
    for module in (*layers(objective), *towers):
        fully_shard(module, mesh=runtime.mesh, mp_policy=policy)
    fully_shard(objective, mesh=runtime.mesh)
    return objective


@contextmanager
def part_by_part(module: nn.Module, runtime: Runtime) -> Iterator[None]:
    """Within it the model inside what `parallel` gave can be called without gradient in its parts (`encode`, `decoder`,
    `logits`), and not only through `module`, which has to have been called before.

    Shards: a layer is gathered whenever it is called, so that all processes have to make the same calls. What is left
    is gathered here, once; it computes in the run's precision, as in training, because the layers do.
    """
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        with runtime.autocast():
            yield
    finally:
        module.reshard()


def recompute_activations(model: nn.Module) -> None:
    """Let every layer keep its input only, and compute the rest again in the backward pass. Inside what `parallel`
    does to the layer, so that a gathered layer is computed again from what it was given in the first place."""
    for layer in layers(model):
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def synchronising(module: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
    """Around the passes of an optimiser step: replicas exchange gradients once, after the last. Shards do so after
    every pass, because the memory that whole gradients would take is what sharding is there to save."""
    if isinstance(module, DistributedDataParallel) and not is_last:
        return module.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or the gathered whole of a sharded one. All processes have to ask for it together."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_into(target: Tensor, source: Tensor) -> None:
    """Copy a whole tensor, which every process has, into a tensor that may be sharded."""
    if isinstance(target, DTensor):
        source = source.to(target.device_mesh.device_type)
        source = distribute_tensor(source, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(source)


def replica_bytes(model: nn.Module, precision: Precision) -> int:
    """Memory of an undivided model in training, activations apart: weights, gradients, two moments, cast weights."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return total * (4 if precision == "fp32" else 6) + 12 * trained
