"""Kills a run again and again, for test_kills.py: `killed.py FOLDER SEED KILLS`.

The run is a forked process, so that only the first start has to load the libraries. It is killed after a random step
and a random moment more, which may be in the middle of a batch, a checkpoint or a row.
"""

import os
import random
import signal
import sys
from pathlib import Path

from polyglance.config import load
from polyglance.train.config import TrainConfig
from polyglance.train.run import train


def main(folder: Path, seed: int, num_kills: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    config = load(TrainConfig, folder / "run.toml")
    moments = random.Random(seed)
    steps = sorted(moments.randrange(config.num_steps - 2) for _ in range(num_kills))
    for step in steps:
        child = os.fork()
        if not child:
            train(config, folder / "killed")
            os._exit(0)
        while not has_reached(folder / "killed" / "metrics.jsonl", step):
            assert not ended_within(0.005), "the run ended before it was killed"
        assert not ended_within(moments.uniform(0, 0.05)), "the run ended before it was killed"
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert ended_within(1)
    train(config, folder / "killed")


def ended_within(seconds: float) -> bool:
    """Whether the forked process ends within this time: the kernel says so by a signal."""
    return signal.sigtimedwait({signal.SIGCHLD}, seconds) is not None


def has_reached(path: Path, step: int) -> bool:
    return path.exists() and path.read_bytes().count(b"\n") >= step


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
