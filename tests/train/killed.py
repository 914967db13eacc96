"""Kill a run again and again, for test_resume.py: `killed.py FOLDER KILLS`.

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


def main(folder: Path, num_kills: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    config = load(TrainConfig, folder / "run.toml")
    moments = random.Random(num_kills)
    for step in sorted(moments.randrange(config.num_steps - 2) for _ in range(num_kills)):
        child = os.fork()
        if not child:
            train(config, folder / "killed")
            os._exit(0)
        while count_rows(folder / "killed" / "metrics.jsonl") < step:
            assert not wait_for_end(0.005), "the run ended before it was killed"
        assert not wait_for_end(moments.uniform(0, 0.05)), "the run ended before it was killed"
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert wait_for_end(1)
    train(config, folder / "killed")


def wait_for_end(seconds: float) -> bool:
    """Tell whether the forked process ends within this time; the kernel sends a signal then."""
    return signal.sigtimedwait({signal.SIGCHLD}, seconds) is not None


def count_rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
