"""The loss over a 257,024-token vocabulary: chunked against plain, in memory, time and gradients.

    python benchmarks/loss_head.py

Both variants compute loss, gradient of the hidden states and gradient of the head, as a training step does. Memory is
the peak beyond inputs, weights and both gradients, each variant in a process of its own, because a peak cannot be
reset. Times are CPU seconds, the best of several turns, taken alternately in one process.
"""

import resource
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from polyglance.model.loss import IGNORED, token_nats

VOCAB, WIDTH, TOKENS, SOFTCAP = 257_024, 768, 512, 30.0
TURNS = 2


def plain(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Compute the loss as the published code does: all logits, capped, then cross-entropy."""
    logits = SOFTCAP * torch.tanh(hidden @ head.T / SOFTCAP)
    return F.cross_entropy(logits, labels, ignore_index=IGNORED)


def chunked(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    nats = token_nats(hidden, head, labels, softcap=SOFTCAP, backend="chunked")
    return nats.sum() / (labels != IGNORED).sum()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def inputs(ignored: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(VOCAB, (TOKENS,))
    labels[: round(TOKENS * ignored)] = IGNORED
    return torch.randn(TOKENS, WIDTH, requires_grad=True), torch.randn(VOCAB, WIDTH).mul_(0.05).requires_grad_(), labels


def step_seconds(variant: str, hidden: Tensor, head: Tensor, labels: Tensor) -> float:
    hidden.grad = head.grad = None
    start = time.process_time()
    VARIANTS[variant](hidden, head, labels).backward()
    return time.process_time() - start


def print_extra_bytes(variant: str) -> None:
    """Print the peak bytes beyond inputs, weights and gradients. The whole of a process."""
    hidden, head, labels = inputs()
    before = peak_bytes()
    step_seconds(variant, hidden, head, labels)
    print(peak_bytes() - before - head.nbytes - hidden.nbytes)


def extra_bytes(variant: str) -> int:
    return int(subprocess.run([sys.executable, __file__, variant], check=True, capture_output=True, text=True).stdout)


def best_seconds() -> tuple[float, float, float]:
    """Measure seconds of plain, chunked, and chunked with 60 % of the labels ignored."""
    hidden, head, labels = inputs()
    sparse = inputs(ignored=0.6)[2]
    turns = [
        (
            step_seconds("plain", hidden, head, labels),
            step_seconds("chunked", hidden, head, labels),
            step_seconds("chunked", hidden, head, sparse),
        )
        for _ in range(TURNS)
    ]
    plain_s, chunked_s, sparse_s = (min(column) for column in zip(*turns, strict=True))
    return plain_s, chunked_s, sparse_s


def gradient_error() -> float:
    """Return the largest difference of the head's gradient, relative to its largest entry (a quarter of the tokens)."""
    torch.manual_seed(1)
    hidden = torch.randn(TOKENS // 4, WIDTH)
    head = torch.randn(VOCAB, WIDTH).mul_(0.05).requires_grad_()
    labels = torch.randint(VOCAB, (TOKENS // 4,))
    (expected,) = torch.autograd.grad(plain(hidden, head, labels), head)
    (got,) = torch.autograd.grad(chunked(hidden, head, labels), head)
    return float((got - expected).abs().max() / expected.abs().max())


def main() -> None:
    plain_bytes, chunked_bytes = extra_bytes("plain"), extra_bytes("chunked")
    plain_s, chunked_s, sparse_s = best_seconds()
    print(f"vocabulary {VOCAB:,}, width {WIDTH}, {TOKENS} tokens, float32, {torch.get_num_threads()} threads")
    ratio = chunked_bytes / plain_bytes
    print(f"memory, MB: plain {plain_bytes / 1e6:.0f}, chunked {chunked_bytes / 1e6:.0f}, ratio {ratio:.3f}")
    print(f"CPU time, s: plain {plain_s:.2f}, chunked {chunked_s:.2f}, ratio {chunked_s / plain_s:.2f}")
    print(f"with 60 % of the labels ignored, s: {sparse_s:.2f}, ratio {sparse_s / chunked_s:.2f} (in proportion: 0.40)")
    print(f"gradient of the head: largest difference, relative to its largest entry: {gradient_error():.1e}")


VARIANTS = {"plain": plain, "chunked": chunked}

if __name__ == "__main__":
    print_extra_bytes(sys.argv[1]) if len(sys.argv) > 1 else main()
