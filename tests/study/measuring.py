"""Work of each of the two processes that torchrun starts for test_measure.py: `-m tests.study.measuring FOLDER`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from polyglance.config import load
from polyglance.distributed import Runtime, RuntimeConfig
from polyglance.model.architecture import Polyglance
from polyglance.run_records import average_splits, cells_to_json
from polyglance.study.work.measure import make_evaluator, train_and_measure
from polyglance.train.config import RunConfig
from polyglance.train.loop import Hooks
from polyglance.train.run import train


def measure_and_train(config: RunConfig, folder: Path) -> None:
    """Train a run that is measured at every checkpoint; all processes have to get the same losses."""
    assert config.evaluation is not None
    assert config.test is not None
    evaluator = make_evaluator(config.training, config.evaluation, config.test)

    def validate(model: Polyglance, runtime: Runtime) -> dict[str, Any]:
        cells = evaluator.measure(model, runtime)
        assert runtime.gather(cells) == [cells] * runtime.world_size
        return average_splits(cells.values()) | {"cells": cells_to_json(cells)}

    train_and_measure(config.training, folder, lambda: evaluator, run_id="run", hooks=Hooks(validate=validate))


def main(folder: Path) -> None:
    dist.init_process_group("gloo")  # once for all runs: a second group would meet the first one's traces
    config = load(RunConfig, folder / "run.toml")
    replicas = RuntimeConfig(strategy="ddp", device="cpu", micro_batch_size=2)
    shards = replace(replicas, strategy="fsdp")
    measure_and_train(replace(config, engine=replicas), folder / "ddp")
    measure_and_train(replace(config, engine=shards), folder / "fsdp")
    measure_and_train(replace(config, engine=replace(shards, precision="bf16")), folder / "fsdp-bf16")
    train(replace(config.training, engine=shards, best=None), folder / "fsdp-not-measured")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
