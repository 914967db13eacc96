"""Cross-entropy over a large vocabulary without ever holding all logits.

With 256k tokens in the vocabulary, the logits of one batch outweigh the rest of the model, and the plain computation
keeps five tensors of their size. There are two ways round it.

`chunked`, for CPUs, takes a few positions at a time through the head; ignored positions do not go through it at all. It
computes the gradients in the same pass, so that the head is multiplied three times, as in the plain computation.

`blocked`, for accelerators, takes all positions through a block of the vocabulary at a time, and once more in the
backward pass: four products. In return the host reads no value of the device: positions that do not count get weight
zero. The gradient of a block of the head is one product, summed in float32 and written once. Between the passes only
one number per position is kept.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from polyglance.mixture.collate import IGNORED
from polyglance.model.fusion import fuse_on_gpu

__all__ = ["IGNORED", "capped_logits", "logit_nats", "token_nats"]

_LARGE_VOCABULARY = 2**14
"""From this number of tokens on the chunked computation is the default."""
_CHUNK_BYTES = (9 * 2**23, 2**28)
"""Least and largest size of a chunk of logits in float32; one is alive at a time. Between the two a chunk is a seventh
of the logits: matrix products of few rows are slow, and the plain computation would hold five times all of them."""
_BLOCK = 2**13
"""Columns of a chunk that are copied at a time."""
_BLOCK_LOGITS = 2**24
"""Logits of a block, positions times tokens: 32 MiB in bfloat16. Products of this size use a GPU well."""
_BLOCK_TOKENS = (2**11, 2**14)
"""Least and largest number of tokens of a block."""


def token_nats(
    hidden_states: Float[Tensor, "*batch D"],
    head: Float[Tensor, "V D"],
    labels: Int[Tensor, "*batch"],
    *,
    softcap: float | None = None,
    backend: Literal["plain", "chunked", "blocked"] | None = None,
    places: Int[Tensor, " K"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return the cross-entropy of each position in nats, 0 where the label is `IGNORED`, from hidden states and head.

    Gradients for hidden states and head equal those of the plain computation. `chunked` has them ready where all
    positions have the same weight in what is differentiated, as in `token_nats(...).sum() / n`; for other weights, and
    for a second backward pass, it computes the logits again.

    Args:
        labels: token ids, or `IGNORED`. `chunked` skips ignored positions before the projection.
        softcap: logits are bounded to plus or minus this by tanh; None leaves them as they are.
        backend: `plain` holds all logits, `chunked` those of a few positions, `blocked` those of a few tokens. None:
            `plain` for a small vocabulary, `chunked` for a large one on a CPU, `blocked` elsewhere.
        places: places of the flattened labels among which are all that count (`Batch.places`), each once. `blocked`
            takes only these through the head; without them it takes all, because it reads no label.

    Raises:
        ValueError: a label outside the vocabulary (`chunked`). Labels on an accelerator are not read: `Mixture` checks
            them where it makes them.
    """
    if backend is None:
        large = "chunked" if labels.device.type == "cpu" else "blocked"
        backend = "plain" if len(head) < _LARGE_VOCABULARY else large  # type: ignore[assignment]
    if backend == "plain":
        return logit_nats(capped_logits(F.linear(hidden_states, head), softcap), labels)
    device_type = hidden_states.device.type
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        hidden_states = hidden_states.to(torch.get_autocast_dtype(device_type))
    if not torch.is_grad_enabled():  # or gradients would be computed that nobody can ask for
        hidden_states, head = hidden_states.detach(), head.detach()
    if backend == "blocked":
        states, targets = hidden_states.flatten(0, -2), labels.flatten()
        if places is not None:
            states, targets = states.index_select(0, places), targets.index_select(0, places)
        nats = _BlockedNats.apply(states, head, targets, softcap)  # type: ignore[no-untyped-call]
        if places is not None:
            nats = nats.new_zeros(labels.numel()).index_copy(0, places, nats)
        return nats.view(labels.shape)
    _check_labels(labels, len(head))
    return _ChunkedNats.apply(hidden_states, head, labels, softcap)  # type: ignore[no-untyped-call]


def capped_logits(logits: Float[Tensor, "*batch V"], softcap: float | None) -> Float[Tensor, "*batch V"]:
    """Bound logits to plus or minus `softcap` by tanh; None leaves them as they are."""
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def logit_nats(logits: Float[Tensor, "*batch V"], labels: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return the cross-entropy of each position in nats, 0 where the label is `IGNORED`, from logits."""
    nats = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return nats.view(labels.shape)


class _BlockedNats(torch.autograd.Function):
    """Nats of each of N positions, by blocks of the vocabulary; no operation waits for the device."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, labels: Tensor, softcap: float | None) -> Tensor:
        counts, targets = labels != IGNORED, labels.clamp(min=0)
        sums = torch.promote_types(states.dtype, torch.float32)
        largest = torch.full((len(states), 1), -torch.inf, dtype=sums, device=states.device)
        total = torch.zeros_like(largest)
        for block in _token_blocks(len(states), len(head)):
            logits = states @ head[block].to(states.dtype).T
            largest, total = _add_block(logits, largest, total, softcap)
        log_normaliser = total.log().add_(largest)
        of_targets = (states.to(sums) * head[targets].to(states.dtype)).sum(1, keepdim=True)
        ctx.save_for_backward(states, head, targets, counts, log_normaliser)
        ctx.softcap = softcap
        return (log_normaliser - capped_logits(of_targets, softcap))[:, 0].mul_(counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        states, head, targets, counts, log_normaliser = ctx.saved_tensors
        weights = (weights * counts)[:, None]
        grad_states = torch.zeros_like(states, dtype=log_normaliser.dtype) if ctx.needs_input_grad[0] else None
        grad_head = torch.empty_like(head) if ctx.needs_input_grad[1] else None
        for block in _token_blocks(len(states), len(head)):
            head_block = head[block].to(states.dtype)
            relative_targets = (targets - block.start)[:, None]
            grad_logits = _block_gradient(states @ head_block.T, log_normaliser, relative_targets, weights, ctx.softcap)
            if grad_states is not None:
                grad_states += grad_logits @ head_block
            if grad_head is not None:
                grad_head[block] = grad_logits.T @ states
        return None if grad_states is None else grad_states.to(states.dtype), grad_head, None, None


def _token_blocks(num_positions: int, vocab_size: int) -> Iterator[slice]:
    least, largest = _BLOCK_TOKENS
    size = max(least, min(largest, _BLOCK_LOGITS // max(num_positions, 1) // 256 * 256))
    return (slice(start, start + size) for start in range(0, vocab_size, size))


@fuse_on_gpu
def _add_block(logits: Tensor, largest: Tensor, total: Tensor, softcap: float | None) -> tuple[Tensor, Tensor]:
    """Add a block of logits [N, K] to the largest one [N, 1] and to the sum of exponentials relative to it [N, 1]."""
    logits = capped_logits(logits.to(total.dtype), softcap)
    larger = torch.maximum(largest, logits.amax(1, keepdim=True))
    return larger, total * (largest - larger).exp() + (logits - larger).exp().sum(1, keepdim=True)


@fuse_on_gpu
def _block_gradient(
    logits: Tensor, log_normaliser: Tensor, targets: Tensor, weights: Tensor, softcap: float | None
) -> Tensor:
    """Compute the gradient of the weighted nats for a block of logits [N, K], in their number format.

    Args:
        targets: ids relative to the first token of the block [N, 1].
    """
    capped = capped_logits(logits.to(log_normaliser.dtype), softcap)
    is_target = torch.arange(logits.shape[1], device=logits.device) == targets
    gradient = ((capped - log_normaliser).exp() - is_target.to(capped.dtype)) * weights
    if softcap is not None:
        gradient = gradient * (1 - (capped / softcap).square())
    return gradient.to(logits.dtype)


class _ChunkedNats(torch.autograd.Function):
    """Nats of each position; the gradients of their sum are computed with them, if wanted."""

    @staticmethod
    def forward(ctx: Any, hidden_states: Tensor, head: Tensor, labels: Tensor, softcap: float | None) -> Tensor:
        ctx.save_for_backward(hidden_states, head, labels)
        ctx.softcap = softcap
        nats, *ctx.gradients = _nats_and_gradients(hidden_states, head, labels, softcap, None, ctx.needs_input_grad)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        # `sum` hands back one value expanded to the shape. The strides show this; reading the values would make the
        # program wait for a GPU.
        is_uniform = all(stride == 0 or size == 1 for stride, size in zip(weights.stride(), weights.shape, strict=True))
        if ctx.gradients is None or not is_uniform or not weights.numel():
            states, head, labels = ctx.saved_tensors
            _, *gradients = _nats_and_gradients(states, head, labels, ctx.softcap, weights, ctx.needs_input_grad)
            return (*gradients, None, None)
        # Handed over, not kept: autograd may then adopt the tensors instead of copying them.
        gradients, ctx.gradients = ctx.gradients, None
        weight = weights.flatten()[0]
        if weight.device.type != "cpu" or weight != 1:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(weight)
        return (*gradients, None, None)


def _nats_and_gradients(
    hidden_states: Tensor,
    head: Tensor,
    labels: Tensor,
    softcap: float | None,
    weights: Tensor | None,
    needs_grad: tuple[bool, ...],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the nats of each position and, where needed, the gradients of their weighted sum for states and head.

    Args:
        weights: weight of each position, of the labels' shape; None: all 1.
    """
    kept = (labels.flatten() != IGNORED).nonzero()[:, 0]
    states, targets = hidden_states.flatten(0, -2)[kept], labels.flatten()[kept]
    kept_weights = None if weights is None else weights.flatten()[kept][:, None]
    grad_states = torch.empty_like(states) if needs_grad[0] else None
    grad_head = torch.zeros_like(head) if needs_grad[1] else None
    head = head.to(states.dtype)
    kept_nats = torch.empty(len(kept), dtype=torch.float32, device=labels.device)
    for chunk in _chunks(len(kept), len(head)):
        kept_nats[chunk] = _chunk_nats(
            states[chunk],
            head,
            targets[chunk],
            softcap,
            None if kept_weights is None else kept_weights[chunk],
            None if grad_states is None else grad_states[chunk],
            grad_head,
        )
    nats = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
    nats.view(-1)[kept] = kept_nats
    if grad_states is not None:
        grad_kept, grad_states = grad_states, torch.zeros_like(hidden_states, memory_format=torch.contiguous_format)
        grad_states.view(-1, states.shape[1])[kept] = grad_kept
    return nats, grad_states, grad_head


def _chunk_nats(
    states: Tensor,
    head: Tensor,
    targets: Tensor,
    softcap: float | None,
    weights: Tensor | None,
    grad_states: Tensor | None,
    grad_head: Tensor | None,
) -> Tensor:
    """Return the nats of one chunk's positions, and write its gradients into the tensors given.

    This is a function of its own so that the buffers of a chunk are freed before the next chunk begins.
    """
    logits = (states @ head.T).float()
    if softcap is not None:
        logits.div_(softcap).tanh_()  # `softcap` times these are the capped logits
    log_normaliser = _log_normaliser(logits, softcap)
    nats = (log_normaliser - logits.gather(1, targets[:, None]).mul_(softcap or 1.0))[:, 0]
    if grad_states is not None or grad_head is not None:
        grad_logits = _to_gradient(logits, log_normaliser, targets, softcap)
        if weights is not None:
            grad_logits.mul_(weights)
        grad_logits = grad_logits.to(head.dtype)
        if grad_states is not None:
            torch.mm(grad_logits, head, out=grad_states)
        if grad_head is not None:
            _add_outer(grad_head, grad_logits, states)
    return nats


def _add_outer(grad_head: Tensor, grad_logits: Tensor, states: Tensor) -> None:
    """Compute grad_head += grad_logits.T @ states, summed in the head's own precision."""
    if grad_head.dtype == states.dtype:
        grad_head.addmm_(grad_logits.T, states)
        return
    for rows, columns in zip(grad_head.split(2**14), grad_logits.split(2**14, dim=1), strict=True):
        rows.add_(columns.T @ states)


def _check_labels(labels: Tensor, vocab_size: int) -> None:
    kept = labels[labels != IGNORED]
    if len(kept) and not 0 <= int(kept.min()) <= int(kept.max()) < vocab_size:
        raise ValueError(
            f"labels between {int(kept.min())} and {int(kept.max())} do not fit a vocabulary of {vocab_size}: "
            "is this the model's tokenizer?"
        )


def _chunks(num_rows: int, vocab_size: int) -> Iterator[slice]:
    least, largest = (num_bytes // (4 * vocab_size) for num_bytes in _CHUNK_BYTES)
    size = max(1, least, min(largest, num_rows // 7))
    return (slice(start, start + size) for start in range(0, num_rows, size))


def _log_normaliser(logits: Tensor, softcap: float | None) -> Tensor:
    """Return the log of the sum of the exponentials of the capped logits [N, 1], a block of the vocabulary at a time.

    Args:
        logits: with a cap, their tanh: `softcap` times it are the capped logits.
    """
    scale = softcap or 1.0
    largest = logits.amax(1, keepdim=True).mul_(scale)
    total = torch.zeros_like(largest)
    for block in logits.split(_BLOCK, dim=1):
        total += block.mul(scale).sub_(largest).exp_().sum(1, keepdim=True)
    return total.log_().add_(largest)


def _to_gradient(logits: Tensor, log_normaliser: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    """Put d nats / d (logits before the cap) in place of the logits: (softmax - one-hot) * (1 - tanh^2)."""
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
