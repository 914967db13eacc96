"""Cross-entropy over a large vocabulary without ever holding all logits.

With 256k tokens in the vocabulary, the logits of one batch outweigh the rest of the model, and the plain computation
keeps five tensors of their size. Here tokens go through the head a few at a time; ignored ones do not go at all. The
gradients are taken in the same pass (they only need the upstream scalar, which is a factor), so that the head is
multiplied three times, as in the plain computation, and not four.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from polyglance.mixture.collate import IGNORED

__all__ = ["IGNORED", "head_loss", "summed_loss", "token_nats"]

_CHUNK_BYTES = (9 * 2**23, 2**28)
"""Least and largest size of a chunk of logits in float32; one is alive at a time. Between the two a chunk is a seventh
of the logits: matrix products of few rows are slow, and the plain computation would hold five times all of them."""
_BLOCK = 2**13
"""Columns of a chunk of which more than one copy is made at a time."""


def head_loss(
    hidden_states: Float[Tensor, "*batch D"],
    head: Float[Tensor, "V D"],
    labels: Int[Tensor, "*batch"],
    *,
    softcap: float | None = None,
    reduction: str = "mean",
) -> Float[Tensor, ""]:
    """Cross-entropy, in nats, of `softcap * tanh(hidden_states @ head.T / softcap)` against the labels.

    Gradients for hidden states and head are exact and equal those of the plain computation. They are consumed by one
    backward pass; a second one through the same loss is refused, as for any freed graph.

    Args:
        labels: token ids; positions labelled `IGNORED` are skipped before the projection.
        softcap: logits are bounded to plus or minus this by tanh; None leaves them as they are.
        reduction: "mean" over the positions that count (NaN where none does), or "sum".

    Raises:
        ValueError: another reduction, or a label outside the vocabulary.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"the reduction {reduction!r} is not known; mean or sum")
    if reduction == "sum":
        return summed_loss(hidden_states, head, labels, softcap=softcap)[0]
    num_kept = int((labels != IGNORED).sum())
    denominator = num_kept if num_kept else float("nan")
    return summed_loss(hidden_states, head, labels, softcap=softcap, denominator=float(denominator))[0]


def summed_loss(
    hidden_states: Float[Tensor, "*batch D"],
    head: Float[Tensor, "V D"],
    labels: Int[Tensor, "*batch"],
    *,
    softcap: float | None = None,
    denominator: float = 1.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, "*batch"]]:
    """As `head_loss`: the sum over a denominator of the caller's choice, such as the tokens of several batches; and
    each position's nats, zero where the label is `IGNORED`, without gradient."""
    kept_states, kept_labels = _kept(hidden_states, labels, len(head))
    if torch.is_autocast_enabled(hidden_states.device.type):
        kept_states = kept_states.to(torch.get_autocast_dtype(hidden_states.device.type))
    loss, kept_nats = _HeadLoss.apply(kept_states, head, kept_labels, softcap, 1 / denominator)  # type: ignore[no-untyped-call]
    nats = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
    nats[labels != IGNORED] = kept_nats
    return loss, nats


@torch.no_grad()
def token_nats(
    hidden_states: Float[Tensor, "*batch D"],
    head: Float[Tensor, "V D"],
    labels: Int[Tensor, "*batch"],
    *,
    softcap: float | None = None,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of each position, in nats, zero where the label is `IGNORED`; for evaluation, without gradients."""
    kept_states, kept_labels = _kept(hidden_states, labels, len(head))
    nats = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
    chunks = _chunks(kept_states, kept_labels, len(head))
    found = [_chunk_loss(states, head, targets, softcap, 1.0, None, None) for states, targets in chunks]
    nats[labels != IGNORED] = torch.cat(found)
    return nats


class _HeadLoss(torch.autograd.Function):
    """`scale` times the sum of the cross-entropies of [N, D] hidden states, none of them ignored; and each of them."""

    @staticmethod
    def forward(
        ctx: Any, hidden_states: Tensor, head: Tensor, labels: Tensor, softcap: float | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        wants_states, wants_head = ctx.needs_input_grad[:2]
        grad_states = torch.empty_like(hidden_states) if wants_states else None
        grad_head = torch.zeros_like(head) if wants_head else None
        head = head.to(hidden_states.dtype)
        nats = torch.empty(len(hidden_states), dtype=torch.float32, device=hidden_states.device)
        start = 0
        for states, targets in _chunks(hidden_states, labels, len(head)):
            chosen = slice(start, start + len(states))
            rows = None if grad_states is None else grad_states[chosen]
            nats[chosen] = _chunk_loss(states, head, targets, softcap, scale, rows, grad_head)
            start += len(states)
        ctx.gradients = (grad_states, grad_head)
        ctx.mark_non_differentiable(nats)
        ctx.set_materialize_grads(False)
        return nats.sum() * scale, nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: None) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("backward a second time through a head_loss, whose gradients are gone after the first")
        # Handed over, not kept: autograd may then adopt the tensors instead of copying them.
        gradients = ctx.gradients
        ctx.gradients = None
        if upstream.device.type != "cpu" or upstream != 1:  # asking a GPU would make the program wait for it
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(upstream)
        return (*gradients, None, None, None)


def _chunk_loss(
    states: Tensor,
    head: Tensor,
    targets: Tensor,
    softcap: float | None,
    scale: float,
    grad_states: Tensor | None,
    grad_head: Tensor | None,
) -> Tensor:
    """Nats of one chunk's positions; its gradients, times `scale`, go into the tensors given. A function of its own, so
    that the buffers of one chunk are gone when the next begins."""
    logits = _logits(states, head, softcap)
    log_normaliser = _log_normaliser(logits, softcap)
    nats = _nats(logits, log_normaliser, targets, softcap)
    if grad_states is not None or grad_head is not None:
        grad_logits = _to_gradient(logits, log_normaliser, targets, softcap).to(head.dtype)
        if grad_states is not None:
            torch.mm(grad_logits, head, out=grad_states).mul_(scale)
        if grad_head is not None:
            _add_outer(grad_head, grad_logits, states, scale)
    return nats


def _nats(logits: Tensor, log_normaliser: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    return (log_normaliser - logits.gather(1, targets[:, None]).mul_(softcap or 1.0))[:, 0]


def _add_outer(grad_head: Tensor, grad_logits: Tensor, states: Tensor, scale: float) -> None:
    """grad_head += scale * grad_logits.T @ states, summed in the head's own precision."""
    if grad_head.dtype == states.dtype:
        grad_head.addmm_(grad_logits.T, states, alpha=scale)
        return
    for rows, columns in zip(grad_head.split(2**14), grad_logits.split(2**14, dim=1), strict=True):
        rows.add_(columns.T @ states, alpha=scale)


def _kept(hidden_states: Tensor, labels: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Hidden states [N, D] and labels [N] of the positions that count."""
    labels = labels.flatten()
    kept = (labels != IGNORED).nonzero()[:, 0]
    kept_labels = labels[kept]
    if len(kept_labels) and not 0 <= int(kept_labels.min()) <= int(kept_labels.max()) < vocab_size:
        raise ValueError(
            f"labels between {int(kept_labels.min())} and {int(kept_labels.max())} do not fit a vocabulary of "
            f"{vocab_size}: is this the model's tokenizer?"
        )
    return hidden_states.flatten(0, -2)[kept], kept_labels


def _chunks(hidden_states: Tensor, labels: Tensor, vocab_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    least, largest = (num_bytes // (4 * vocab_size) for num_bytes in _CHUNK_BYTES)
    size = max(1, least, min(largest, len(labels) // 7))
    return zip(hidden_states.split(size), labels.split(size), strict=True)


def _logits(hidden_states: Tensor, head: Tensor, softcap: float | None) -> Tensor:
    """Float32 logits [N, V]; with a cap, their tanh: `softcap` times it are the capped logits."""
    logits = (hidden_states @ head.T).float()
    return logits if softcap is None else logits.div_(softcap).tanh_()


def _log_normaliser(logits: Tensor, softcap: float | None) -> Tensor:
    """Log of the sum of the exponentials of what `_logits` gives [N, 1], a block of the vocabulary at a time."""
    scale = softcap or 1.0
    largest = logits.amax(1, keepdim=True).mul_(scale)
    total = torch.zeros_like(largest)
    for block in logits.split(_BLOCK, dim=1):
        total += block.mul(scale).sub_(largest).exp_().sum(1, keepdim=True)
    return total.log_().add_(largest)


def _to_gradient(logits: Tensor, log_normaliser: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    """d loss / d (logits before the cap), in place of the logits: (softmax - one-hot) * (1 - tanh^2)."""
    rows = torch.arange(len(targets), device=targets.device)
    of_targets = logits[rows, targets]
    for block in logits.split(_BLOCK, dim=1):
        softmax = block.mul(softcap or 1.0).sub_(log_normaliser).exp_()
        if softcap is None:
            block.copy_(softmax)
        else:
            block.square_().neg_().add_(1).mul_(softmax)
    logits[rows, targets] -= 1.0 if softcap is None else 1 - of_targets.square()
    return logits
