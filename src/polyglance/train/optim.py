"""Optimiser and learning-rate schedule."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["OptimConfig"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW under a cosine with warm-up (paper section 3)."""

    lr: float = 1.5e-3
    """Peak learning rate."""
    warmup_share: float = 0.05
    """Share of the steps over which the rate rises from zero to its peak."""
    warmup_steps: int | None = None
    """The same as a number of steps, in place of the share (published: 100)."""
    final_share: float = 0.0
    """The rate at the end, as a share of the peak."""
    weight_decay: float = 0.01
    """Weight decay, of what `decay` says."""
    decay: Literal["matrices", "published"] = "matrices"
    """What decays. `matrices`: neither norms, biases, embeddings nor gates. `published`: everything but biases and
    LayerNorms, so gates, RMSNorms and embeddings too (official code section 1.10)."""
    beta1: float = 0.9
    """Decay of the first moment's average."""
    beta2: float = 0.98
    """Decay of the second moment's average (published: 0.999)."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    gate_lr_scale: float = 1.0
    """Learning rate of the cross-attention gates, as a multiple."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or not 0 <= self.warmup_share < 1:
            raise ValueError("lr must be positive and warmup_share between 0 and 1")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be 0 or more, not {self.warmup_steps}")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps > 0 and self.clip_norm > 0):
            raise ValueError("beta1 and beta2 must be at least 0 and below 1, eps and clip_norm positive")

    def build(self, model: "torch.nn.Module") -> "torch.optim.AdamW":
        """The optimiser over the parameters that are trained; plain modules (a language model) make one group."""
        import torch  # here, so that reading a configuration takes no seconds

        from polyglance.model import Polyglance
        from polyglance.model.components import group_parameters

        if isinstance(model, Polyglance):
            groups = group_parameters(
                model,
                lr=self.lr,
                weight_decay=self.weight_decay,
                gate_lr_scale=self.gate_lr_scale,
                published_decay=self.decay == "published",
            )
        else:
            groups = [{"params": list(model.parameters()), "lr": self.lr, "weight_decay": self.weight_decay}]
        for group in groups:
            group["peak_lr"] = group["lr"]
        return torch.optim.AdamW(groups, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)

    def set_lr(self, optimizer: "torch.optim.Optimizer", step: int, num_steps: int) -> float:
        """Set the rates for a step (counted from 0) of a run of `num_steps`; returns the share of the peak."""
        warmup_steps = self.warmup_steps
        if warmup_steps is None:
            warmup_steps = max(1, round(self.warmup_share * num_steps))
        if step < warmup_steps:
            share = (step + 1) / warmup_steps
        else:
            progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
            share = self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
        return share
