"""A model divided over processes: replicas (DDP) or shards (FSDP2), with or without recomputed activations."""

import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from polyglance.distributed import Runtime

__all__ = [
    "allow_submodule_calls",
    "copy_into",
    "count_not_finite",
    "distribute",
    "find_layers",
    "gather_full",
    "measure_free_bytes",
    "recompute_activations",
    "synchronise_gradients",
]


def find_layers(model: nn.Module) -> list[nn.Module]:
    """Return the repeated layers of encoder and decoder: each is sharded and recomputed as a unit."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]


def distribute(objective: nn.Module, runtime: Runtime) -> nn.Module:
    """Divide an objective over the run's processes. Call the returned module in place of `objective`.

    Replicas: DDP averages the gradients in the backward pass, a bucket at a time while the rest is computed. Shards:
    each layer is gathered while the one before it is computed, in the run's precision, and its gradients are averaged
    in `reduce_dtype`. With a mesh of two dimensions there are several copies of the sharded model. The rest
    (embeddings, norms, projector) is one unit and stays in float32, so that the loss over a large vocabulary is summed
    in it. Frozen parameters are sharded too, but have neither gradient nor optimiser state.
    """
    if runtime.strategy == "single":
        return objective
    assert runtime.mesh is not None
    if runtime.strategy == "ddp":
        replica = DistributedDataParallel(objective, gradient_as_bucket_view=True)
        if runtime.reduce_dtype == "bf16":
            replica.register_comm_hook(None, bf16_compress_hook)
        return replica
    dtype = None if runtime.precision == "fp32" else runtime.dtype
    sent_dtype = torch.bfloat16 if runtime.reduce_dtype == "bf16" else torch.float32
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=sent_dtype)
    towers = [module for name, module in objective.named_modules() if name.endswith("vision_tower")]
    for module in (*find_layers(objective), *towers):
        fully_shard(module, mesh=runtime.mesh, mp_policy=policy)
    fully_shard(objective, mesh=runtime.mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=sent_dtype))
    _prefetch_layers(objective)
    return objective


def _prefetch_layers(objective: nn.Module) -> None:
    """Gather the next layer of a stack while one is computed, forwards and backwards."""
    for stack in (module for module in objective.modules() if isinstance(module, nn.ModuleList)):
        layers = [layer for layer in stack if isinstance(layer, FSDPModule)]
        for layer, following in pairwise(layers):
            layer.set_modules_to_forward_prefetch([following])
            following.set_modules_to_backward_prefetch([layer])


@contextmanager
def allow_submodule_calls(module: nn.Module, runtime: Runtime) -> Iterator[None]:
    """Let the model inside a distributed objective be called by its methods (`encode`, `nats`) in a block,
    without gradient. The objective must have been called before.

    It computes in the run's precision, as in training. Shards: a layer is gathered whenever it is called, so all
    processes must make the same calls. The rest is gathered here, once.
    """
    if not isinstance(module, FSDPModule):
        with runtime.autocast():
            yield
        return
    module.unshard()
    try:
        with runtime.autocast():
            yield
    finally:
        module.reshard()


def recompute_activations(model: nn.Module) -> None:
    """Make every layer keep only its input, and compute the rest again in the backward pass. Call this before
    `distribute`: a gathered layer is then computed again from the input that it had first."""
    for layer in find_layers(model):
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def synchronise_gradients(module: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
    """Surround the passes of an optimiser step. Replicas exchange gradients once, in the last pass. Shards do so in
    every pass, because sharding is there to save the memory of undivided gradients."""
    if isinstance(module, DistributedDataParallel) and not is_last:
        return module.no_sync()
    return nullcontext()


def gather_full(tensor: Tensor) -> Tensor:
    """Return a tensor, gathered if it is sharded, without gradient. All processes must call this together."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def count_not_finite(model: nn.Module) -> int:
    """Count the tensors that training changes and that hold values which are not finite, in this process alone: of
    sharded ones it sees its shard."""
    tensors = [*(p for p in model.parameters() if p.requires_grad), *model.buffers()]
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    checks = [tensor.isfinite().all() for tensor in local if tensor.is_floating_point()]
    return len(checks) - int(torch.stack(checks).sum()) if checks else 0


@torch.no_grad()
def copy_into(target: Tensor, source: Tensor) -> None:
    """Copy a full tensor, which every process has, into a tensor that may be sharded."""
    if isinstance(target, DTensor):
        source = source.to(target.device_mesh.device_type)
        source = distribute_tensor(source, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(source)


def measure_free_bytes(device: torch.device) -> int:
    """Measure the memory that a device has left for this process, in bytes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
