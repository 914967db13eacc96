"""The training loop: every step spelt out, resumable bit for bit."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from polyglance.model.parts import train_mode
from polyglance.train.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from polyglance.train.log import MetricsLog, progress_bar
from polyglance.train.optim import OptimConfig

__all__ = ["optimise"]


def optimise(
    model: nn.Module,
    loss_of_step: Callable[[int], tuple[Tensor, int]],
    *,
    optim: OptimConfig,
    num_steps: int,
    run_dir: Path,
    save_every_steps: int,
    log_every_steps: int = 25,
    show_progress: bool = False,
) -> None:
    """Train `model` in place for `num_steps`, going on from the newest checkpoint in `run_dir` where there is one.

    Args:
        loss_of_step: step (from 0) -> sum of the step's token losses in nats, and the number of tokens. The gradient
            is that of their quotient: the mean over all valid tokens of the step.
        save_every_steps: steps between checkpoints.
        log_every_steps: steps between rows of metrics.jsonl.

    Raises:
        ValueError: the loss is no longer a finite number.
    """
    optimizer = optim.build(model)
    train_mode(model)
    first_step = 0
    if checkpoint := latest_checkpoint(run_dir):
        first_step, folder = checkpoint
        load_checkpoint(folder, model, optimizer)
    log = MetricsLog(run_dir, from_step=first_step)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nats, num_tokens, since_s = 0.0, 0, time.monotonic()
    with progress_bar(run_dir.name, num_steps, show=show_progress) as show:
        for step in range(first_step, num_steps):
            lr_share = optim.set_lr(optimizer, step, num_steps)
            loss_sum, tokens = loss_of_step(step)
            (loss_sum / tokens).backward()
            grad_norm = nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            nats, num_tokens = nats + loss_sum.item(), num_tokens + tokens
            done = step + 1
            if done % log_every_steps == 0 or done == num_steps:
                if not torch.isfinite(loss_sum):
                    raise ValueError(f"{run_dir}: the loss is {loss_sum.item()} at step {done}; try a lower lr")
                row = {"step": done, "loss_nats": nats / num_tokens, "lr": optim.lr * lr_share}
                now_s = time.monotonic()
                row |= {"grad_norm": grad_norm.item(), "tokens_per_s": num_tokens / (now_s - since_s)}
                log.write(row)
                show(done, f"loss {row['loss_nats']:.3f}")
                nats, num_tokens, since_s = 0.0, 0, now_s
            if done % save_every_steps == 0 and done < num_steps:
                save_checkpoint(run_dir, done, model, optimizer)
