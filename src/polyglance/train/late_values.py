"""Values of the device that the host reads without waiting for the work queued behind them."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LateValues"]


class LateValues:
    """Numbers on their way to main memory.

    The copy is queued behind the work that computes them. Whoever reads them after queueing the next step waits for
    that work at most, while the device goes on with the next step.
    """

    def __init__(self, values: Float[Tensor, " N"]) -> None:
        is_cuda = values.is_cuda
        self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=is_cuda)
        self._host.copy_(values.detach(), non_blocking=is_cuda)
        self._copied = torch.cuda.Event() if is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> list[float]:
        """Return the numbers; wait until they are copied."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.tolist()
