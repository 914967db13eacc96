"""Work of each of the processes that torchrun starts for test_parallel.py: `two_processes.py FOLDER WORK`."""

import os
import signal
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import torch.distributed as dist

from polyglance.config import load
from polyglance.distributed import RuntimeConfig
from polyglance.mixture import passes
from polyglance.train.config import TrainConfig
from polyglance.train.loop import Hooks
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import stop_after


def main(folder: Path) -> None:
    dist.init_process_group("gloo")  # once for all runs: a second group would meet the first one's traces
    config = load(TrainConfig, folder / "run.toml")
    ddp = RuntimeConfig(strategy="ddp", device="cpu", micro_batch_size=2)
    fsdp = replace(ddp, strategy="fsdp")
    recomputed = replace(fsdp, activation_checkpointing=True)
    train(replace(config, engine=ddp), folder / "ddp")
    train(replace(config, engine=recomputed), folder / "continued")  # a run that one process has begun
    train(replace(config, engine=replace(recomputed, precision="bf16")), folder / "bf16")
    for engine in (ddp, fsdp):
        run = folder / f"{engine.strategy}-stopped"
        with pytest.raises(Stopped, match="stopped after step 4,"):
            train(replace(config, engine=engine), run, hooks=stop_after(4))
    planned = load(TrainConfig, folder / "planned.toml")
    passes._PASS_POSITIONS = 10  # or such small steps would be one pass
    for strategy in ("ddp", "fsdp"):
        divided = replace(planned, engine=replace(planned.engine, strategy=strategy))
        train(divided, folder / f"planned-{strategy}")
        saved = replace(divided, save_in_background=True, save_every_steps=2, keep_last=9)
        with pytest.raises(Stopped):
            train(saved, folder / f"saved-{strategy}", hooks=stop_after(5))
    dist.destroy_process_group()


def compare_meshes(folder: Path) -> None:
    """Work of each of four processes: two copies of a model in two shards each, and gradients sent in bf16."""
    dist.init_process_group("gloo")
    config = load(TrainConfig, folder / "run.toml")
    hsdp = RuntimeConfig(strategy="fsdp", device="cpu", micro_batch_size=2, shard_size=2)
    train(replace(config, engine=hsdp), folder / "hsdp")
    train(replace(config, engine=replace(hsdp, reduce_dtype="bf16")), folder / "sent-in-bf16")
    ddp = RuntimeConfig(strategy="ddp", device="cpu", micro_batch_size=2, reduce_dtype="bf16")
    with pytest.raises(ValueError, match="'bf16' with ddp is for GPUs"):
        train(replace(config, engine=ddp), folder / "ddp-sent-in-bf16")
    dist.destroy_process_group()


def die(folder: Path) -> None:
    """Work of two processes, the second of which ends without a word in its fourth step; where torchrun starts them
    again, they go on."""
    ddp = RuntimeConfig(strategy="ddp", device="cpu", micro_batch_size=2)
    config = replace(load(TrainConfig, folder / "run.toml"), engine=ddp, save_every_steps=2)
    steps = count(1)

    def end_second_process() -> bool:
        is_first_try = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if is_first_try and next(steps) == 4 and dist.get_rank() == 1:
            os._exit(9)
        return False

    train(config, folder / "died", hooks=Hooks(should_stop=end_second_process))


def lose_node(folder: Path) -> None:
    """Work of a process on each of two nodes. In the fourth step the second node is lost: its process, and torchrun
    there. The other one goes on alone."""
    engine = RuntimeConfig(strategy=cast(Any, sys.argv[3]), device="cpu", micro_batch_size=2)
    config = replace(load(TrainConfig, folder / "run.toml"), engine=engine, save_every_steps=2)
    with (folder / "processes").open("a") as file:
        file.write(f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']}\n")
    steps = count(1)

    def end_second_node() -> bool:
        if next(steps) == 4 and sys.argv[4] == "1":
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    train(config, folder / "lost", hooks=Hooks(should_stop=end_second_node))


if __name__ == "__main__":
    works = {"main": main, "compare_meshes": compare_meshes, "die": die, "lose_node": lose_node}
    works[sys.argv[2]](Path(sys.argv[1]))
