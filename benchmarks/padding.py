"""Padding at the published lengths, by cause, before and after passes that differ in their samples; and its cost.

    OMP_NUM_THREADS=1 python benchmarks/padding.py

Samples have the published lengths (official code section 2.3), prompt and target drawn independently. `even`:
micro-batches of equal size, in 12 shapes. `planned`: `polyglance.mixture.passes`, in 12 shapes, the number of samples
included. Shares are of all text positions of the steps after those that shapes were chosen from:

- `division`: what the longest prompt and the longest target of a micro-batch add to the other samples;
- `shapes`: what rounding these up to the shape adds.

`with images`: share of all positions of encoder and decoder, 50 image tokens of a sample included. `waiting`: what
replicas lose at the end of a step because one of them has more positions. `head`: positions that go through the loss
head of an accelerator, as a share of the padded target positions: before, all of them went.

The last lines are CPU seconds of a step of a small model in both divisions, alternated in one process.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch

from polyglance.distributed import divide_micro_batches
from polyglance.mixture.collate import Batch, collate
from polyglance.mixture.passes import divide_into_passes, plan_passes
from polyglance.mixture.shapes import Shape, choose_shapes, divide_by_length, find_shape
from polyglance.model.architecture import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.study.grid.waiting import draw_published_lengths, waiting_shares
from polyglance.train.step import CaptionObjective

LIMIT, IMAGE_TOKENS, OBSERVED, MEASURED = Shape(128, 128), 50, 64, 60
MACHINES = ((1024, 1, 64), (1024, 1, 128), (1024, 1, 512), (1024, 8, 32), (1024, 8, 128), (128, 1, 32), (128, 1, 128))
"""Samples of a step, processes, most samples of a pass."""
MicroBatches = list[tuple[np.ndarray, Shape]]


@dataclass
class Division:
    """Micro-batches of steps, and the lengths of their samples."""

    steps: list[tuple[np.ndarray, MicroBatches]]
    world_size: int

    def row(self) -> list[str]:
        """Return the columns of the table."""
        real = longest = padded = targets = counted = samples = 0
        waiting, shapes = [], set()
        for lengths, micro_batches in self.steps:
            real, samples = real + int(lengths.sum()), samples + len(lengths)
            for chosen, shape in micro_batches:
                longest += len(chosen) * int(lengths[chosen].max(0).sum())
                padded += len(chosen) * sum(shape)
                targets += len(chosen) * shape.target
                counted += min(len(chosen) * shape.target, -(-int(lengths[chosen, 1].sum()) // 128) * 128)
                shapes.add((len(chosen), *shape))
            positions = np.array([len(chosen) * (IMAGE_TOKENS + sum(shape)) for chosen, shape in micro_batches])
            ranks = [divide_micro_batches(len(positions), rank, self.world_size) for rank in range(self.world_size)]
            waiting.append(waiting_shares(positions[np.array(ranks)])["ddp"])
        images = IMAGE_TOKENS * samples
        shares = [1 - real / padded, (longest - real) / padded, (padded - longest) / padded]
        shares += [(padded - real) / (padded + images), float(np.mean(waiting)), counted / targets]
        passes = len(self.steps[0][1]) // self.world_size
        per_step = (padded + images) / len(self.steps)
        return [str(passes), str(len(shapes)), *(f"{share:.1%}" for share in shares), f"{per_step:,.0f}"]


def divide(batch_size: int, world_size: int, max_samples: int) -> dict[str, Division]:
    """Divide the same steps in both ways."""
    random = np.random.default_rng(0)
    steps = [draw_published_lengths(random, batch_size) for _ in range(OBSERVED + MEASURED)]
    number = batch_size // min(max_samples, batch_size // world_size)
    longest = np.concatenate([step[divide_by_length(step, number)].max(1) for step in steps[:OBSERVED]])
    shapes = choose_shapes(longest, LIMIT, 12, image_tokens=IMAGE_TOKENS)
    even = [
        (step, [(group, find_shape(shapes, *step[group].max(0).tolist())) for group in divide_by_length(step, number)])
        for step in steps[OBSERVED:]
    ]
    passes = plan_passes(
        steps[:OBSERVED],
        LIMIT,
        num_shapes=12,
        world_size=world_size,
        max_samples=max_samples,
        image_tokens=IMAGE_TOKENS,
    )
    assert passes is not None
    planned = [(step, divide_into_passes(step, passes, LIMIT, world_size)) for step in steps[OBSERVED:]]
    return {"even": Division(even, world_size), "planned": Division(planned, world_size)}


def make_batches(lengths: np.ndarray, micro_batches: MicroBatches, vocab_size: int) -> list[Batch]:
    """Make the micro-batches of a step, of random images and tokens."""
    random = np.random.default_rng(0)
    prompts, targets = ([random.integers(5, vocab_size, n).tolist() for n in side] for side in lengths.T)
    images = random.integers(0, 256, (len(lengths), 32, 32, 3), dtype=np.uint8)
    return [
        collate(
            images[chosen],
            [prompts[number] for number in chosen],
            [targets[number] for number in chosen],
            np.zeros(len(chosen), dtype=np.int64),
            shapes=(shape,),
        )
        for chosen, shape in micro_batches
    ]


def measure_seconds(divisions: dict[str, Division], repeats: int = 5) -> dict[str, tuple[float, float]]:
    """Return the least CPU seconds of a step's passes, and the loss of the step, of both divisions."""
    torch.manual_seed(0)
    vocab_size = 4096
    objective = CaptionObjective(Polyglance(MicroConfig(width=128, layers=4, max_tokens=256).build(vocab_size)))
    batches = {name: make_batches(*one.steps[0], vocab_size) for name, one in divisions.items()}
    found = dict.fromkeys(divisions, (float("inf"), 0.0))
    for _ in range(repeats):
        for name, parts in batches.items():
            denominator = float(sum(part.num_tokens for part in parts))
            since_s, loss = time.process_time(), 0.0
            for part in parts:
                share, _ = objective(part, denominator)
                share.backward()
                loss += float(share.detach())
            found[name] = min(found[name][0], time.process_time() - since_s), loss
            objective.zero_grad()
    return found


def main() -> None:
    print("| samples | processes | most a pass | division | passes | shapes | padding | division | shapes |", end="")
    print(" with images | waiting | head | positions a step |\n|" + "---|" * 13)
    for machine in MACHINES:
        for name, division in divide(*machine).items():
            print("| " + " | ".join([*map(str, machine), name, *division.row()]) + " |", flush=True)
    for max_samples in (32, 128):  # as few passes as the memory of a small and of a large card bears
        found = measure_seconds(divide(128, 1, max_samples))
        (even_s, even), (planned_s, planned) = found["even"], found["planned"]
        print(
            f"128 samples, at most {max_samples} a pass, width 128, 4 + 4 layers: CPU s of a step: even {even_s:.2f}, "
            f"planned {planned_s:.2f}, ratio {planned_s / even_s:.2f}; losses differ by {abs(planned / even - 1):.0e}"
        )


if __name__ == "__main__":
    main()
