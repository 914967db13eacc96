"""Linear layers that are fast on a CPU for the few rows of a decoding step.

For 2 to 8 rows the product should take the time of reading the weights once. On a CPU `x @ W.T` takes about twice that;
the same product as `(W @ x.T).T` does not (benchmarks/decoding.py).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["FewRowsLinear", "few_rows_linear", "use_few_rows_linear"]


def few_rows_linear(
    x: Float[Tensor, "*rows D"], weight: Float[Tensor, "E D"], bias: Float[Tensor, " E"] | None = None
) -> Float[Tensor, "*rows E"]:
    """Compute `F.linear`, as `(W @ x.T).T` where that is faster: 2 to 8 rows on a CPU without gradients. Quantised
    weights support only `F.linear`."""
    rows = x.numel() // x.shape[-1]
    is_plain = x.device.type == "cpu" and x.dtype == torch.float32 and type(weight) in (nn.Parameter, Tensor)
    if torch.is_grad_enabled() or not 2 <= rows <= 8 or not is_plain:
        return F.linear(x, weight, bias)
    columns = x.reshape(rows, -1).T
    product = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
    return product.T.contiguous().view(*x.shape[:-1], -1)


class FewRowsLinear(nn.Linear):
    """`nn.Linear` computed by `few_rows_linear`."""

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows E"]:
        return few_rows_linear(x, self.weight, self.bias)


def use_few_rows_linear(module: nn.Module) -> None:
    """Make every plain linear layer inside `module` a `FewRowsLinear`, with the same parameters and hooks."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = FewRowsLinear
