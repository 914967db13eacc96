"""A run over several nodes of a Ray cluster: Ray Train's TorchTrainer starts its processes, and starts all of them
again when one dies or its node is lost. They go on from the run's last checkpoint, which is in the study's folder.

Called in the task of the job (`places/ray_tasks.py`), which itself takes no resources.
"""

import os
from pathlib import Path
from typing import Any

from polyglance.config import load
from polyglance.files import read_json, write_json
from polyglance.ray_connection import is_connected
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.needs import JobNeeds, find_needs
from polyglance.study.work.ending import GivenUpError
from polyglance.train.config import RunConfig
from polyglance.train.watch import NotFiniteError

__all__ = ["check_ray_train", "is_for_ray_train", "train_on_ray"]

_MISTAKE_NAME = "mistake.json"
"""File in a run's folder: why it cannot go on, although its processes could be started again."""
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
        reason = " ".join(str(error).split())[:200]
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


def train_on_ray(config: StudyConfig, job: Job, run: Path) -> None:
    """Train a run with Ray Train, and measure it, to its end.

    Args:
        run: its run.toml, in a folder that all nodes see.

    Raises:
        NotFiniteError: losses or weights are not finite.
        GivenUpError: its processes died more often than `cluster.retries`.
        ValueError: the user has to change something.
    """
    check_ray_train()
    from ray.train import FailureConfig, ScalingConfig
    from ray.train import RunConfig as TrainerConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    mistake, needs = run.with_name(_MISTAKE_NAME), find_needs(config)
    mistake.unlink(missing_ok=True)
    trainer = TorchTrainer(
        _take_part,
        train_loop_config={"folder": str(Path.cwd()), "run": str(run)},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if needs.gpus else "gloo", timeout_s=3600),
        scaling_config=ScalingConfig(
            num_workers=needs.nodes * needs.devices,
            use_gpu=bool(needs.gpus),
            resources_per_worker=_divide(needs),
        ),
        run_config=TrainerConfig(
            name=job.id,
            storage_path=str((config.out / "cluster").resolve()),
            failure_config=FailureConfig(max_failures=config.cluster.retries),
        ),
    )
    problem = ""
    try:
        trainer.fit()
    except TrainingFailedError as error:
        problem = _describe(error)
    if mistake.exists():
        found = read_json(mistake)
        mistake.unlink()
        raise (NotFiniteError if found["is_not_finite"] else ValueError)(found["problem"])
    if problem:
        again = f"Ray Train started its processes again {config.cluster.retries} times (cluster.retries)"
        raise GivenUpError(f"{problem}; given up after {again}")


def _divide(needs: JobNeeds) -> dict[str, float]:
    """Return what each process asks for: its share of what the job asks for on a node."""
    amounts = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory_bytes or 0}
    return {name: amount / needs.devices for name, amount in amounts.items() if amount}


def _take_part(settings: dict[str, Any]) -> None:
    """Work of each process, in a worker of Ray that Ray Train has joined to the others (`torch.distributed`), with
    torchrun's variables. Ray Train would start the processes again whatever ends one of them: what would end them the
    same way is noted, and ends the next ones at once."""
    import torch

    from polyglance.study.work.measure import train_run

    run = Path(settings["run"])
    mistake = run.with_name(_MISTAKE_NAME)
    if mistake.exists():
        return
    os.chdir(settings["folder"])
    torch.set_num_threads(1)  # as torchrun lets its processes have
    try:
        train_run(load(RunConfig, run), lambda: False, waits=True)
    except ValueError as error:
        write_json(mistake, {"is_not_finite": isinstance(error, NotFiniteError), "problem": str(error)})
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
