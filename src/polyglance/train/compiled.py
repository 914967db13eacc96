"""Layers compiled one by one: a pass launches a few fused kernels a layer in place of each of its operations.

Layers of one kind share one compilation, for all lengths: their weights are arguments of it, so that 42 layers compile
in the time of one. A kernel that inductor chooses by the number of rows (`triton.mix_order_reduction`: both sums of a
norm's gradient in one) is left out, because the layers would be compiled again for batches beyond each of its bounds.
The blocks of a frozen tower are compiled for one size of images and any number of them: with sides that vary too, the
arithmetic of windows makes much code. torch keeps what it has compiled on disk (`TORCHINDUCTOR_CACHE_DIR`).
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from polyglance.distributed import Runtime
from polyglance.model.fusion import explain_compiler
from polyglance.train.parallel import find_layers

__all__ = ["CompiledLayers"]


class CompiledLayers:
    """The layers of encoder and decoder and the blocks of a frozen Florence-2 tower, compiled when they are first
    called in training. In evaluation they run as they are.

    Dropout draws other numbers in a compiled layer; they too are a function of the seed. Make this before
    `recompute_activations`.

    Args:
        model: the whole model.
        backend: torch.compile's.
    """

    def __init__(self, model: nn.Module, *, backend: str | Callable[..., Any] = "inductor") -> None:
        self._model = model
        self._is_on = True
        options = _find_options() if backend == "inductor" else None
        for layer in find_layers(model):
            compiled = torch.compile(layer.forward, dynamic=True, backend=backend, options=options)
            layer.forward = functools.partial(self._call, compiled, layer.forward)
        for block in (module for module in model.modules() if type(module).__name__ == "Florence2VisionBlock"):
            compiled = torch.compile(block.forward, backend=backend, options=options)
            block.forward = functools.partial(self._call_block, block, compiled, block.forward)

    def _call(self, compiled: Callable[..., Any], forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return (compiled if self._is_on and self._model.training else forward)(*args, **kwargs)

    def _call_block(
        self, block: nn.Module, compiled: Callable[..., Any], forward: Callable[..., Any], features: Tensor
    ) -> Any:
        """Call a block of a tower, for any number of images of one size. In a tower that is trained each block drops
        another share of its paths, and would be compiled by itself: such a tower runs as it is."""
        if block.training:
            return forward(features)
        torch._dynamo.maybe_mark_dynamic(features, 0)  # documented by torch under this name alone
        return self._call(compiled, forward, features)

    def warm_up(self, make_pass: Callable[[], None], runtime: Runtime, *, is_required: bool) -> None:
        """Make a pass, which compiles the layers, and print the seconds that it took. If they cannot be compiled, and
        that is not required, say so and let them run as they are.

        Raises:
            ValueError: they cannot be compiled, and it is required.
        """
        since_s = time.monotonic()
        try:
            make_pass()
        except (torch.OutOfMemoryError, ValueError):
            raise  # not even one sample fits
        except Exception as error:  # compilers and drivers raise errors of many kinds
            reason = explain_compiler(error)
            if is_required:
                hint = "set engine.compile = false"
                raise ValueError(f"the layers cannot be compiled here ({reason}): {hint}") from error
            self._is_on = False
            text = f"layers are not compiled, which is slower: {reason}"
        else:
            text = f"layers compiled in {time.monotonic() - since_s:.0f} s"
        if runtime.is_main:
            print(text, file=sys.stderr, flush=True)


def _find_options() -> dict[str, Any]:
    """Return inductor's options, of those that this torch knows: later releases have kernels that earlier ones lack."""
    from torch._inductor import config  # costs the start of a run that compiles nothing

    return {"triton.mix_order_reduction": False} if hasattr(config.triton, "mix_order_reduction") else {}
