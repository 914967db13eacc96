"""A wall clock that jumps, for test_clock.py: as sitecustomize.py in a folder on Python's path, which every process
loads first. Each reading is three days after the true time or three days before it."""

import itertools
import os
import time
from pathlib import Path

_true_time, _true_time_ns = time.time, time.time_ns
_days = itertools.cycle((3, -3, -3, 3, 3))
_DAY_S = 86_400


def _time() -> float:
    return _true_time() + next(_days) * _DAY_S


def _time_ns() -> int:
    return _true_time_ns() + next(_days) * _DAY_S * 10**9


time.time, time.time_ns = _time, _time_ns
(Path(__file__).parent / f"{os.getpid()}.jumps").touch()
