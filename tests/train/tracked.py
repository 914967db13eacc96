"""A run whose rows go to a sink, for test_sinks.py: `tracked.py FOLDER`. Stops half-way and goes on."""

import sys
from itertools import count
from pathlib import Path

from polyglance.config import load
from polyglance.train.config import TrainConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped


def main(folder: Path) -> None:
    config = load(TrainConfig, folder / "run.toml")
    asked = count()
    try:
        train(config, folder / "run", should_stop=lambda: next(asked) == 6)
    except Stopped:
        train(config, folder / "run")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
