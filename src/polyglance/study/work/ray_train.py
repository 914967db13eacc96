"""A run over several nodes of a Ray cluster: Ray Train's TorchTrainer starts its processes, and starts all of them
again when one dies or its node is lost. They go on from the run's last checkpoint, which is in the study's folder.

`run_with_ray_train` is called in the task of the job (`places/ray_tasks.py`), which itself takes no resources. It
starts a program (`drive_ray_train`) as a driver of its own: when that ends, for whatever reason, Ray ends its processes
and frees what they have reserved.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyglance.config import load
from polyglance.error_text import one_line
from polyglance.files import read_json, write_json
from polyglance.processes import FinishedProgram, run_program
from polyglance.ray_connection import is_connected
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import end_waiting, note_waiting
from polyglance.study.grid.jobs import Job
from polyglance.study.needs import JobNeeds, find_needs
from polyglance.study.work.ending import GivenUpError
from polyglance.train.config import RunConfig
from polyglance.train.watch import NotFiniteError

__all__ = ["check_ray_train", "drive_ray_train", "is_for_ray_train", "run_with_ray_train"]

_PROGRAM = "import sys; from polyglance.study.work.ray_train import drive_ray_train; drive_ray_train(sys.argv[1])"
"""Not `-m`, with which Ray would send functions of `__main__`."""
_PROBLEM_NAME = "problem.json"
"""File in a run's folder: why it cannot go on, although its processes could be started again."""
_ERRORS = {"not finite": NotFiniteError, "refused": ValueError, "given up": GivenUpError}
"""Kind of a problem in that file -> the error that it is for the caller."""
_KILLED = ("ActorDiedError", "ActorUnavailableError", "WorkerHealthCheckFailedError", "WorkerHealthCheckTimeoutError")
"""Classes of Ray's errors of a process that does not answer."""
_LOST_ANOTHER = ("Connection closed by peer", "Connection reset by peer", "NCCL")
"""Parts of torch's errors in processes that wait for one that is gone."""


def check_ray_train() -> None:
    """Check that Ray Train is installed here.

    Raises:
        ValueError: it is not, or it is the first version, which restarts runs in another way.
    """
    try:
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        reason = one_line(error)[:200]
        raise ValueError(
            f"cluster.nodes: a run over several nodes of Ray needs Ray Train: pip install 'polyglance[ray]' ({reason})"
        ) from None
    if not TorchTrainer.__module__.startswith("ray.train.v2"):
        import ray

        raise ValueError(
            f"cluster.nodes: a run over several nodes of Ray needs Ray Train V2, which Ray {ray.__version__} does not "
            "use: pip install -U 'ray[train]' on all nodes"
        )


def is_for_ray_train(config: StudyConfig, job: Job) -> bool:
    """Tell whether the processes of a job are on several nodes of the Ray cluster that this process belongs to."""
    return config.cluster.nodes > 1 and not job.trained_by and is_connected()


def run_with_ray_train(
    config: StudyConfig, job: Job, log: Path, should_stop: Callable[[], bool], lock: int
) -> FinishedProgram:
    """Train a run with Ray Train, and measure it.

    Args:
        log: file for what its processes print, in the run's folder, which has its run.toml and is seen by all nodes.
        should_stop: asked each second; the processes are then ended.
        lock: descriptor of the job's lock, which the program holds too.

    Raises:
        NotFiniteError: losses or weights are not finite.
        GivenUpError: its processes died more often than `cluster.retries`.
        ValueError: the user has to change something.
    """
    check_ray_train()
    import ray

    problem, needs = log.with_name(_PROBLEM_NAME), find_needs(config)
    problem.unlink(missing_ok=True)
    settings = {
        "address": ray.get_runtime_context().gcs_address,
        "folder": str(Path.cwd()),
        "run": str(log.with_name("run.toml")),
        "name": job.id,
        "fingerprint": job.fingerprint,
        "results": str((config.out / "cluster").resolve()),
        "num_workers": needs.nodes * needs.devices,
        "resources": _divide(needs),
        "retries": config.cluster.retries,
    }
    note_waiting(log.parent, job.fingerprint)
    try:
        finished = run_program(
            [sys.executable, "-c", _PROGRAM, json.dumps(settings)], log, should_stop=should_stop, keep_open=(lock,)
        )
    finally:
        end_waiting(log.parent)
    if problem.exists():
        found = read_json(problem)
        problem.unlink()
        raise _ERRORS[found["kind"]](found["problem"])
    return finished


def drive_ray_train(text: str) -> None:
    """Start the processes of a run, and wait for their end. Exits with 1 if they died too often.

    Args:
        text: settings as JSON, from `run_with_ray_train`.
    """
    import ray
    from ray.train import FailureConfig, ScalingConfig
    from ray.train import RunConfig as TrainerConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    settings = json.loads(text)
    uses_gpu = "GPU" in settings["resources"]
    ray.init(address=settings["address"])
    trainer = TorchTrainer(
        _take_part,
        train_loop_config={name: settings[name] for name in ("folder", "run", "fingerprint")},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if uses_gpu else "gloo", timeout_s=3600),
        scaling_config=ScalingConfig(
            num_workers=settings["num_workers"], use_gpu=uses_gpu, resources_per_worker=settings["resources"]
        ),
        run_config=TrainerConfig(
            name=settings["name"],
            storage_path=settings["results"],
            failure_config=FailureConfig(max_failures=settings["retries"]),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        path = Path(settings["run"]).with_name(_PROBLEM_NAME)
        if not path.exists():
            again = f"Ray Train started its processes again {settings['retries']} times (cluster.retries)"
            write_json(path, {"kind": "given up", "problem": f"{_describe(error)}; given up after {again}"})
        sys.exit(1)


def _divide(needs: JobNeeds) -> dict[str, float]:
    """Return what each process asks for: its share of what the job asks for on a node."""
    amounts = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory_bytes or 0}
    return {name: amount / needs.devices for name, amount in amounts.items() if amount}


def _take_part(settings: dict[str, Any]) -> None:
    """Train in one of the run's processes. It is a worker of Ray that Ray Train has joined to the others
    (`torch.distributed`), with torchrun's variables.

    Whatever ends a process, Ray Train starts all of them again. A problem that would end them in the same way is
    therefore noted in a file, and the next processes end at once. While they have no room, the run is marked as
    waiting.
    """
    import torch

    from polyglance.study.work.measure import train_run

    run = Path(settings["run"])
    problem = run.with_name(_PROBLEM_NAME)
    if problem.exists():
        return
    os.chdir(settings["folder"])
    end_waiting(run.parent)
    torch.set_num_threads(1)  # as torchrun sets it
    try:
        train_run(load(RunConfig, run), lambda: False, waits=True)
    except ValueError as error:
        kind = "not finite" if isinstance(error, NotFiniteError) else "refused"
        write_json(problem, {"kind": kind, "problem": str(error)})
        raise
    except Exception:  # as one that has lost another process: all are started again
        note_waiting(run.parent, settings["fingerprint"])
        raise


def _describe(error: Exception) -> str:
    """Return in one line why processes died. A process that was killed comes before errors, and an error before those
    of processes that have only lost another one."""
    failures = [failure for _, failure in sorted(getattr(error, "worker_failures", {}).items())]
    if any(type(failure).__name__ in _KILLED for failure in failures):
        return "a process was killed, or its node was lost"
    own = [failure for failure in failures if not any(mark in str(failure) for mark in _LOST_ANOTHER)]
    first = next(iter(own or failures), error)
    lines = [line.strip() for line in str(first).splitlines() if line.strip()]
    return f"{type(first).__name__}: {lines[-1] if lines else 'no reason given'}"[:200]
