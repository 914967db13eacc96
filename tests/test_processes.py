"""Programs that are run, and all processes that they have started, end with an exception in this process."""

import sys
from pathlib import Path

import pytest

from polyglance.processes import run_program

WORKER = """
import os, pathlib, signal, sys, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({folder!r}, os.environ["RANK"]).write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_interrupt_ends_torchrun_and_its_workers(tmp_path: Path, stubborn: bool) -> None:
    """Also workers that do not end at SIGTERM, which torchrun alone would wait for."""
    (tmp_path / "numbers").mkdir()
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(stubborn=stubborn, folder=str(tmp_path / "numbers")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

    def interrupt() -> bool:
        numbers = [path.read_text() for path in (tmp_path / "numbers").iterdir()]
        if len(numbers) == 2 and all(numbers):
            raise KeyboardInterrupt
        return False

    grace_s = 0.5 if stubborn else 60.0
    with pytest.raises(KeyboardInterrupt):
        run_program([*torchrun, str(script)], tmp_path / "log", should_stop=interrupt, grace_s=grace_s)
    for path in (tmp_path / "numbers").iterdir():
        assert not is_running(int(path.read_text()))


def is_running(number: int) -> bool:
    """Whether a process is there, and is more than the entry of one that has ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
