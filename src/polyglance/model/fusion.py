"""Elementwise functions that a GPU should compute in one pass over their operands."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["fuse_on_gpu"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def fuse_on_gpu(function: _Function) -> _Function:
    """Compile a function of tensors, once for all shapes, for arguments on a GPU; on a CPU call it as it is. A function
    of ten operations becomes one kernel, which reads and writes its operands once.

    The function itself stays reachable as `__wrapped__`.
    """
    compiled = functools.cache(lambda: torch.compile(function, dynamic=True, fullgraph=True))

    @functools.wraps(function)
    def call(tensor: Tensor, *args: Any) -> Any:
        return (compiled() if tensor.is_cuda else function)(tensor, *args)

    return call  # type: ignore[return-value]
