"""A study in a fork that is killed at a certain call."""

import os
import signal
from typing import Any

import pytest

from polyglance.study import StudyConfig, run_study


def run_until_killed(config: StudyConfig, owner: Any, name: str) -> None:
    """Run a study in a fork of this process, which is killed (SIGKILL) where it calls a function of a class or module.

    Args:
        owner: the class or module; name: its function.
    """
    child = os.fork()
    if not child:
        pytest.MonkeyPatch().setattr(owner, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            run_study(config)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
