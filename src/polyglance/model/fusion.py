"""Elementwise functions that a GPU should compute in one pass over their operands."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["explain_compiler", "fuse_on_gpu"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def fuse_on_gpu(function: _Function) -> _Function:
    """Compile a function of tensors, once for all shapes, for arguments on a GPU; on a CPU call it as it is. A function
    of ten operations becomes one kernel, which reads and writes its operands once. If compiling fails, the function
    runs as it is, and a message says so once.

    The function itself stays reachable as `__wrapped__`.
    """
    compiled = functools.cache(lambda: torch.compile(function, dynamic=True, fullgraph=True))
    can_compile = True

    @functools.wraps(function)
    def call(tensor: Tensor, *args: Any) -> Any:
        nonlocal can_compile
        if can_compile and tensor.is_cuda:
            try:
                return compiled()(tensor, *args)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001  compilers and drivers raise errors of many kinds
                can_compile, reason = False, explain_compiler(error)
                print(f"{function.__name__} is not compiled, which is slower: {reason}", file=sys.stderr, flush=True)
        return function(tensor, *args)

    return call  # type: ignore[return-value]


def explain_compiler(error: Exception) -> str:
    """Return in one line why something could not be compiled: torch gives the cause with its error."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines()[:2]]
    return ": ".join(line for line in lines if line) or type(error).__name__
