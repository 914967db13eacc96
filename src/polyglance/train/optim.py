"""Optimiser, learning-rate schedule, and the loss scale of float16."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["LossScale", "OptimConfig"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with a linear warm-up, then a cosine (paper section 3) or a constant rate with a cooldown at the end."""

    lr: float = 1.5e-3
    """Peak learning rate."""
    warmup_share: float = 0.05
    """Share of the steps over which the learning rate rises from zero to its peak."""
    warmup_steps: int | None = None
    """Number of warm-up steps, in place of `warmup_share` (published: 100)."""
    final_share: float = 0.0
    """Learning rate at the end, as a share of the peak."""
    cooldown_share: float | None = None
    """If given, the learning rate stays at its peak after the warm-up, and falls over this share of the steps, the
    last ones, as 1 - sqrt(progress) (Hägele et al. 2024, arXiv 2405.18392). 0: it never falls; other runs can go on
    from such a run, a trunk, with the setting `trunk`. If not given: a cosine from the warm-up to the end."""
    weight_decay: float = 0.01
    """Weight decay of the parameters that `decay` names."""
    decay: Literal["matrices", "published"] = "matrices"
    """Parameters that decay. `matrices`: all but norms, biases, embeddings and gates. `published`: all but biases and
    LayerNorms, so gates, RMSNorms and embeddings too (official code section 1.10)."""
    beta1: float = 0.9
    """Decay rate of the first moment's average."""
    beta2: float = 0.98
    """Decay rate of the second moment's average (published: 0.999)."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    clip_norm: float = 1.0
    """Gradients with a larger norm are scaled down to this norm."""
    gate_lr_scale: float = 1.0
    """Learning rate of the cross-attention gates, as a multiple of the others'."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or not 0 <= self.warmup_share < 1:
            raise ValueError("lr must be positive and warmup_share between 0 and 1")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; expected 0 or more")
        if self.cooldown_share is not None and not 0 <= self.cooldown_share <= 1:
            raise ValueError(f"cooldown_share is {self.cooldown_share}; expected a share between 0 and 1")
        if self.cooldown_share == 0 and self.final_share:
            raise ValueError("final_share has no effect without a cooldown")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps > 0 and self.clip_norm > 0):
            raise ValueError("beta1 and beta2 must be at least 0 and below 1, eps and clip_norm positive")

    def build(self, model: "torch.nn.Module") -> "torch.optim.AdamW":
        """Make the optimiser of the trained parameters; a model of another kind (a language model) is one group."""
        import torch  # imported late: a configuration is read without it

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
        """Set the learning rates of a step (from 0) of a run of `num_steps`; return their share of the peak."""
        share = self._share_of_peak(step, num_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
        return share

    def _share_of_peak(self, step: int, num_steps: int) -> float:
        warmup_steps = self.count_warmup_steps(num_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if self.cooldown_share is None:
            progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
            return self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
        first = self.first_cooldown_step(num_steps)
        progress = (step - first) / (num_steps - first) if step > first else 0.0
        return self.final_share + (1 - self.final_share) * (1 - math.sqrt(progress))

    def count_warmup_steps(self, num_steps: int) -> int:
        """Return the number of warm-up steps of a run of `num_steps`."""
        return max(1, round(self.warmup_share * num_steps)) if self.warmup_steps is None else self.warmup_steps

    def first_cooldown_step(self, num_steps: int) -> int:
        """Return the first step (from 0) of the cooldown of a run of `num_steps`; `num_steps` where there is none.
        What comes before it is the same in a run of any length, if `warmup_steps` is given."""
        return num_steps - (max(1, round(self.cooldown_share * num_steps)) if self.cooldown_share else 0)

    def check_length(self, num_steps: int) -> None:
        """Refuse a run of `num_steps` that is too short for its warm-up and its cooldown.

        Raises:
            ValueError: says how many steps each takes.
        """
        if self.cooldown_share is None:
            return
        warmup_steps, first = self.count_warmup_steps(num_steps), self.first_cooldown_step(num_steps)
        if warmup_steps > first:
            raise ValueError(
                f"{warmup_steps} steps of warm-up and {num_steps - first} of cooldown are more than the {num_steps} "
                "steps of the run"
            )


class LossScale:
    """Factor on the loss that keeps float16 gradients from vanishing: halved when they overflow, doubled after a number
    of steps in which they have not (as torch.amp.GradScaler).

    It is set from the gradient norm over all processes, so that all agree, sharded or not.

    Args:
        enabled: False keeps the factor at 1.
        state: result of `state` when a checkpoint was made.
    """

    growth_interval_steps: ClassVar[int] = 2000

    def __init__(self, *, enabled: bool, state: Mapping[str, Any] | None = None) -> None:
        self.enabled = enabled
        self.factor = float(state["factor"]) if state else 2.0**16 if enabled else 1.0
        self.good_steps = int(state["good_steps"]) if state else 0

    def state(self) -> dict[str, Any]:
        """Return factor and count, as JSON."""
        return {"factor": self.factor, "good_steps": self.good_steps}

    def reduce(self) -> bool:
        """Halve the factor, because gradients were not finite. Returns whether that may help."""
        if not self.enabled or self.factor <= 1:
            return False
        self.factor, self.good_steps = self.factor / 2, 0
        return True

    def note_good_step(self) -> None:
        """Count a step with finite gradients."""
        self.good_steps += 1
        if self.enabled and self.good_steps == self.growth_interval_steps:
            self.factor, self.good_steps = self.factor * 2, 0
