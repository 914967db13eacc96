"""The wall clock is set while a run goes on, by days, forwards and backwards: the run does not notice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from polyglance.config import save
from polyglance.distributed import RuntimeConfig
from polyglance.train.config import VisionCacheConfig
from polyglance.train.run import train
from polyglance.train.watch import WatchConfig
from tests.train.runs import small_run, weights, write_tokenizer

SCRIPT = Path(__file__).with_name("tracked.py")
CLOCK = ("tokens_per_s", "samples_per_s", "data_wait_share")


def test_the_wall_clock_jumps_by_days(world: Path, tmp_path: Path) -> None:
    """In the training process, in its loader process, over a stop and a new start; and a day without a step would have
    been called a stall."""
    config = small_run(
        world,
        write_tokenizer(world, tmp_path),
        vision_cache=VisionCacheConfig(use="never"),
        engine=RuntimeConfig(device="cpu", num_workers=1),
        watch=WatchConfig(stall_s=86_400 / 2),
        log_every_steps=1,
    )
    save(config, tmp_path / "run.toml")
    (tmp_path / "site").mkdir()
    shutil.copy(Path(__file__).with_name("jumping.py"), tmp_path / "site" / "sitecustomize.py")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])}
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "site").glob("*.jumps"))) > 1, "the loader's clock jumped too"
    assert "no progress" not in done.stderr

    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    for row in rows:
        assert row["tokens_per_s"] > row["samples_per_s"] > 1e-3
        assert 0 <= row["data_wait_share"] <= 1
    train(config, tmp_path / "true")
    found, expected = weights(tmp_path / "run"), weights(tmp_path / "true")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
