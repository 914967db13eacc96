"""A run whose rows go to a tracker, for test_sinks.py: `tracked.py FOLDER`. It stops half-way and goes on."""

import sys
from pathlib import Path

from polyglance.config import load
from polyglance.train.config import TrainConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import stop_after


def main(folder: Path) -> None:
    config = load(TrainConfig, folder / "run.toml")
    try:
        train(config, folder / "run", hooks=stop_after(7))
    except Stopped:
        train(config, folder / "run")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
