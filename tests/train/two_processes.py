"""What each of two processes does that torchrun starts for test_distributed.py: `two_processes.py FOLDER`."""

import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch.distributed as dist

from polyglance.config import load
from polyglance.distributed import RuntimeConfig
from polyglance.train.config import TrainConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped


def main(folder: Path) -> None:
    dist.init_process_group("gloo")  # once for all runs: a second group would meet the first one's traces
    config = load(TrainConfig, folder / "run.toml")
    engines = {
        "ddp": RuntimeConfig(strategy="ddp", device="cpu", micro_batch_size=2),
        "fsdp": RuntimeConfig(strategy="fsdp", device="cpu", micro_batch_size=2),
        "recomputed": RuntimeConfig(strategy="fsdp", device="cpu", micro_batch_size=2, activation_checkpointing=True),
        "bf16": RuntimeConfig(
            strategy="fsdp", device="cpu", micro_batch_size=2, activation_checkpointing=True, precision="bf16"
        ),
    }
    for name, engine in engines.items():
        train(replace(config, engine=engine), folder / name)
    train(replace(config, engine=engines["fsdp"]), folder / "single-stopped")  # gone on with
    for name in ("ddp", "fsdp"):
        asked = count()
        stopped_at = None
        try:
            train(
                replace(config, engine=engines[name]),
                folder / f"{name}-stopped",
                should_stop=lambda asked=asked: next(asked) == 3,
            )
        except Stopped as stopped:
            stopped_at = stopped.step
        assert stopped_at == 4
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
