"""How evenly the processes of a run share its work, and measured against estimated scaling efficiency.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py

First table: the time of a step in which processes wait for the one with the longest micro-batches, as a share of the
step without waiting. Samples have the published lengths (official code section 2.3); the time of a pass is taken as
proportional to its positions, image tokens included. Replicas wait at the end of a step, shards in every pass.
`random`: micro-batches go to the processes in random order. `neighbours`: as the loop divides them.

Second table: seconds of a step on 1, 2 and 4 processes of this machine (gloo, float32, one thread each), the same
samples for each process, against `estimate_step` with the bandwidth and latency of an all-reduce measured before. Four
processes on two cores share them, which the estimate takes into account. Run it on a quiet machine.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import torch
import torch.distributed as dist

from polyglance.distributed import Runtime, divide_micro_batches
from polyglance.mixture.collate import Batch, collate
from polyglance.mixture.shapes import divide_by_length
from polyglance.model.architecture import Polyglance
from polyglance.model.components import count_parameters
from polyglance.model.micro import MicroConfig
from polyglance.model.scaling import Network, estimate_step
from polyglance.study.grid.waiting import draw_published_lengths, waiting_shares
from polyglance.train.optim import OptimConfig
from polyglance.train.parallel import distribute, synchronise_gradients
from polyglance.train.step import CaptionObjective

IMAGE_TOKENS = 50
MACHINES = ((2, 4, 32), (8, 1, 32), (8, 4, 32), (8, 4, 64), (64, 2, 32))
"""Processes, passes a step, samples a pass."""
WIDTH, VOCABULARY, SAMPLES, PASSES, STEPS = 256, 8192, 8, 2, 9
WARM_UP = 3


def measure_waiting(world_size: int, passes: int, size: int, num_steps: int = 20) -> dict[str, float]:
    """Return the time lost by waiting over the time of a step, for replicas and shards, and the padding."""
    random = np.random.default_rng(0)
    neighbours = np.array([divide_micro_batches(world_size * passes, rank, world_size) for rank in range(world_size)])
    sums = dict.fromkeys(("padding", "ddp random", "ddp neighbours", "fsdp random", "fsdp neighbours"), 0.0)
    for _ in range(num_steps):
        lengths = draw_published_lengths(random, world_size * passes * size)
        longest = lengths[divide_by_length(lengths, world_size * passes)].max(1)
        positions = size * (longest.sum(1) + IMAGE_TOKENS)
        sums["padding"] += 1 - (lengths.sum() + IMAGE_TOKENS * len(lengths)) / positions.sum()
        orders = {"random": random.permutation(len(positions)).reshape(world_size, passes), "neighbours": neighbours}
        for name, order in orders.items():
            for strategy, share in waiting_shares(positions[order]).items():
                sums[f"{strategy} {name}"] += share
    return {name: value / num_steps for name, value in sums.items()}


def make_batch(random: np.random.Generator) -> Batch:
    ids = [[random.integers(5, VOCABULARY, 40).tolist() for _ in range(SAMPLES)] for _ in range(2)]
    images = random.integers(0, 256, (SAMPLES, 32, 32, 3), dtype=np.uint8)
    return collate(images, ids[0], ids[1], np.zeros(SAMPLES, dtype=np.int64))


def measure_step(runtime: Runtime) -> dict[str, float]:
    """Return the median seconds of a step, and of an all-reduce of 1 and of 16 MiB."""
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(width=WIDTH).build(VOCABULARY))
    optimizer = OptimConfig().build(model)
    module = distribute(CaptionObjective(model), runtime)
    batches = [make_batch(np.random.default_rng(runtime.rank)) for _ in range(PASSES)]
    seconds = []
    for _ in range(STEPS):
        if runtime.world_size > 1:
            dist.barrier()
        since_s = time.perf_counter()
        for number, batch in enumerate(batches):
            with synchronise_gradients(module, is_last=number == PASSES - 1):
                module(batch, 1.0)[0].backward()
        seconds.append(time.perf_counter() - since_s)
        optimizer.step()
        optimizer.zero_grad()
    result = {"seconds": float(np.median(seconds[WARM_UP:])), "parameters": count_parameters(model)}
    return result | {f"message {mib}": measure_message(runtime, mib) for mib in (1, 16)}


def measure_message(runtime: Runtime, mib: int) -> float:
    if runtime.world_size == 1:
        return 0.0
    tensor, seconds = torch.zeros(mib << 18), []
    for _ in range(12):
        dist.barrier()
        since_s = time.perf_counter()
        dist.all_reduce(tensor)
        seconds.append(time.perf_counter() - since_s)
    return float(np.median(seconds))


def start_process(world_size: int) -> None:
    """Measure as one of the processes that torchrun started, or as the only one."""
    torch.set_num_threads(1)
    if world_size == 1:
        print(json.dumps(measure_step(Runtime.single())))
        return
    dist.init_process_group("gloo")
    mesh = dist.device_mesh.init_device_mesh("cpu", (world_size,))
    rank = dist.get_rank()
    runtime = Runtime(rank=rank, world_size=world_size, device=torch.device("cpu"), strategy="ddp", mesh=mesh)
    result = measure_step(runtime)
    if rank == 0:
        print(json.dumps(result))
    dist.destroy_process_group()


def measure(world_size: int) -> dict[str, float]:
    launcher = (
        [] if world_size == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]
    )
    command = [sys.executable, *launcher, __file__, str(world_size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_efficiency() -> None:
    single = measure(1)
    cores = os.cpu_count() or 1
    print("\n| processes | step, s | efficiency | estimated step, s | estimated efficiency |\n|---|---|---|---|---|")
    print(f"| 1 | {single['seconds']:.3f} | 1 | | |")
    for world_size in (2, 4):
        result = measure(world_size)
        shared = max(1.0, world_size / cores)
        bytes_per_s = 2 * (world_size - 1) / world_size * (15 << 20) / (result["message 16"] - result["message 1"])
        network = Network(within_gb_s=bytes_per_s / 1e9, latency_s=100e-6)
        estimate = estimate_step(
            "ddp",
            devices=world_size,
            compute_s=shared * single["seconds"],
            passes=PASSES,
            num_parameters=int(single["parameters"]),
            num_trained=int(single["parameters"]),
            network=network,
        )
        measured = shared * single["seconds"] / result["seconds"]
        row = (result["seconds"], measured, estimate.seconds, estimate.efficiency)
        print(f"| {world_size} | {' | '.join(f'{value:.3f}' for value in row)} |")


def main() -> None:
    print("| processes | passes | samples | padding | replicas: random | neighbours | shards: random | neighbours |")
    print("|---|---|---|---|---|---|---|---|")
    for machine in MACHINES:
        shares = measure_waiting(*machine)
        print("| " + " | ".join([*map(str, machine), *(f"{share:.1%}" for share in shares.values())]) + " |")
    print_efficiency()


if __name__ == "__main__":
    start_process(int(sys.argv[1])) if len(sys.argv) > 1 else main()
