"""Frozen weights in the run's precision: half the memory, and no cast of them in every pass."""

import torch
from torch import Tensor, nn

__all__ = ["FrozenWeights"]


class FrozenWeights:
    """The frozen weights and biases of linear and convolutional layers, cast to a half precision until `restore`.

    Autocast would cast the same numbers to the same format in every pass, so that losses stay the same, bit for bit.
    Embeddings and norms, which autocast leaves alone, are left alone here.

    Numbers that the format cannot hold are kept in main memory. A Gemma-2, published in bfloat16, loses none.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._lossy: list[tuple[nn.Parameter, Tensor]] = []
        self._exact: list[nn.Parameter] = []
        if dtype == torch.float32:
            return
        others = {id(p) for m in model.modules() if not _is_product(m) for p in m.parameters(recurse=False)}
        found = {id(p): p for m in model.modules() if _is_product(m) for p in m.parameters(recurse=False)}
        for key, parameter in found.items():
            if not parameter.requires_grad and key not in others:
                self._cast(parameter, dtype)

    @torch.no_grad()
    def _cast(self, parameter: nn.Parameter, dtype: torch.dtype) -> None:
        cast = parameter.to(dtype)
        if torch.equal(cast.to(parameter.dtype), parameter):
            self._exact.append(parameter)
        else:
            self._lossy.append((parameter, parameter.detach().cpu().clone()))
        parameter.data = cast

    @torch.no_grad()
    def restore(self) -> None:
        """Give every weight the numbers and the format that it had, on the device where it is now."""
        for parameter in self._exact:
            parameter.data = parameter.data.float()
        for parameter, original in self._lossy:
            parameter.data = original.to(parameter.device)


def _is_product(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.Conv2d))
