"""Runs of published sizes as programs: `polyglance train`, under torchrun on one node or on several."""

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from polyglance.config import save
from polyglance.processes import FinishedProgram, run_program
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_configs import make_run_config
from polyglance.study.grid.jobs import Job
from polyglance.study.work.ending import DiedError
from polyglance.study.work.ray_train import is_for_ray_train, run_with_ray_train
from polyglance.train.signals import Stopped
from polyglance.train.watch import NOT_FINITE_EXIT_CODE, NotFiniteError

__all__ = ["find_last_step", "join_run", "launch_run"]

_MISTAKE_EXIT_CODE = 2
"""Exit code of a command after a user's mistake."""
_SAVE_S = 110
"""Seconds that torchrun gives its processes to save after SIGTERM; Slurm sends it two minutes before a time limit."""
_CHECKPOINT = re.compile(r"step-(\d+)")
_EXIT_CODE_IN_REPORT = re.compile(r"exitcode\s*: (-?\d+)")
"""Exit code of the process that failed first, in torchrun's own report."""
_RANK_IN_REPORT = re.compile(r"^ *rank +: (\d+) ", re.MULTILINE)
"""Number of the process that failed first, at the end of that report."""
_ERROR = re.compile(r"^(?:\[rank(?P<rank>\d+)\]: ?)?(?P<error>(?:\w+\.)*\w*(?:Error|Exception)\b.*)$", re.MULTILINE)
"""Last line of a traceback; torch writes the number of the process before it."""


def launch_run(config: StudyConfig, job: Job, trunk: Path | None, should_stop: Callable[[], bool], lock: int) -> None:
    """Train a published size with `polyglance train`, under torchrun where the machine has several devices, or with Ray
    Train on several nodes of Ray; or measure it with one of them, where another job has trained it.

    Args:
        trunk: folder of the finished run that it goes on from.
        should_stop: asked each second; the program then saves its state and ends.
        lock: descriptor of the job's lock, which the program holds too.

    Raises:
        NotFiniteError: losses or weights are not finite.
        Stopped: it was asked to stop, and has saved its state.
        DiedError: it was killed, or broke down.
        GivenUpError: so did all that Ray Train has started after it.
        ValueError: the user has to change something.
    """
    folder = config.out / job.folder
    save(make_run_config(config, job, folder, trunk), folder / "run.toml")
    step = find_last_step(folder)
    log = folder / "train.log"
    if is_for_ray_train(config, job):
        finished = run_with_ray_train(config, job, log, should_stop, lock)
    else:
        finished = _run(config, job, log, should_stop, keep_open=(lock,))
    result = folder / ("losses.json" if job.kind == "run" else "checkpoints/final")
    code = _find_exit_code(finished.code, finished.stderr)
    if result.exists() and (code == 0 or finished.was_asked):
        return
    messages = [line for line in finished.stderr.splitlines() if line.startswith("polyglance: ")]
    last = messages[-1].removeprefix("polyglance: ") if messages else ""
    if code == NOT_FINITE_EXIT_CODE:
        raise NotFiniteError(last or f"{folder}: not finite")
    if code == _MISTAKE_EXIT_CODE and last:
        raise ValueError(last)
    saved = find_last_step(folder)
    # torchrun ends with 1 on SIGTERM, also if all of its processes have saved and ended with 0.
    if code == 0 or (finished.was_asked and saved > step):
        raise Stopped(saved)
    raise _make_died_error(finished, log)


def join_run(config: StudyConfig, job: Job, should_stop: Callable[[], bool]) -> None:
    """Take part, on another node of the batch job, in the run that its first node launches.

    Raises:
        DiedError: the processes of this node were killed, or broke down.
    """
    log = config.out / job.folder / f"train-{os.environ['SLURM_PROCID']}.log"
    finished = _run(config, job, log, should_stop)
    if finished.code and not finished.was_asked:
        raise _make_died_error(finished, log)


def find_last_step(folder: Path) -> int:
    """Return the step of the last checkpoint in a job's folder; 0 where there is none."""
    names = [_CHECKPOINT.fullmatch(path.name) for path in folder.glob("checkpoints/step-*")]
    return max((int(name[1]) for name in names if name is not None), default=0)


def _run(
    config: StudyConfig, job: Job, log: Path, should_stop: Callable[[], bool], keep_open: Sequence[int] = ()
) -> FinishedProgram:
    return run_program(
        _make_command(config, job),
        log,
        environment={"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_SAVE_S)},
        should_stop=should_stop,
        keep_open=keep_open,
        grace_s=_SAVE_S + 10,
    )


def _make_command(config: StudyConfig, job: Job) -> list[str]:
    devices, nodes = (1, 1) if job.trained_by else (config.machine.devices, config.cluster.nodes)
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={devices // nodes}"]
    if nodes > 1:  # the processes begin once all nodes are there, and the first has written run.toml by then
        number = int(os.environ["SLURM_JOB_ID"])
        torchrun += [
            f"--nnodes={nodes}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={os.environ['SLURM_LAUNCH_NODE_IPADDR']}:{20_000 + number % 40_000}",
            f"--rdzv-id={number}-{os.environ.get('SLURM_RESTART_COUNT', '0')}",
        ]
    else:
        torchrun += ["--standalone"]
    path = config.out / job.folder / "run.toml"
    return [sys.executable, *(torchrun if devices > 1 else ()), "-m", "polyglance", "train", str(path)]


def _make_died_error(finished: FinishedProgram, log: Path) -> DiedError:
    code = _find_exit_code(finished.code, finished.stderr)
    return DiedError(f"`polyglance train` did not finish: {_describe_death(code, finished.stderr)} ({log})")


def _find_exit_code(code: int, stderr: str) -> int:
    """Return the exit code of the process that failed first; torchrun's own is 1 whatever that was."""
    reported = _EXIT_CODE_IN_REPORT.findall(stderr)
    return int(reported[-1]) if code and reported else code


def _describe_death(code: int, stderr: str) -> str:
    """Return why a program has died: the error of the process that failed first. torchrun's own report at the end is
    left out."""
    if code < 0:
        return f"killed by signal {-code}{' (out of memory, or by hand)' if code == -signal.SIGKILL else ''}"
    raised = [error for error in _ERROR.finditer(stderr) if "ChildFailedError" not in error["error"]]
    first = _RANK_IN_REPORT.findall(stderr)[-1:]
    for error in reversed([error for error in raised if error["rank"] in first] or raised):
        return error["error"].strip()[:200]
    lines = [line.strip() for line in stderr.splitlines() if line.strip(" =-")]
    return lines[-1][:200] if lines else f"exit code {code}"
