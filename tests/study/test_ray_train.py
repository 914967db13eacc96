"""Runs of several processes on two nodes of Ray: Ray Train starts them, and starts them again when one is killed."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from polyglance.config import load
from polyglance.processes import FinishedProgram
from polyglance.study import StudyConfig, read_study_status, run_study
from polyglance.study.grid.jobs import Job, list_jobs, list_runs
from polyglance.study.work import ray_train
from polyglance.study.work.attempt import try_job
from polyglance.study.work.launch import find_last_step
from polyglance.train.config import RunConfig
from polyglance.train.watch import NotFiniteError
from tests.study.test_published_run import write_published_study

from .clusters import ENV, POLYGLANCE, RayNodes, wait_until

pytest.importorskip("ray", reason="Ray is not installed")

OPTIONS = ["families.0.samples=[1600]", "save_every_steps=10"]


@pytest.mark.slow
def test_processes_on_two_nodes_are_started_again_and_change_no_byte(
    world: Path, tmp_path: Path, ray_nodes: RayNodes
) -> None:
    path = write_published_study(world, tmp_path)
    config = load(StudyConfig, path, overrides=OPTIONS)
    (run,) = list_runs(config)
    saved: list[int] = []

    def kill_one() -> bool:
        saved[:] = [find_last_step(config.out / run.folder)]
        return saved[0] > 0 and ray_nodes.kill_on_node("RayTrainWorker")

    command = [*POLYGLANCE, "study", "run", str(path), "--on", ray_nodes.address]
    command += [word for option in (*OPTIONS, "cluster.nodes=2") for word in ("--set", option)]
    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as process:
        wait_until(kill_one, process)
        said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "retry" not in said  # Ray Train has started them again, not `study run`
    assert set(read_study_status(config).jobs.values()) == {"done"}

    plain = load(StudyConfig, path, overrides=[*OPTIONS, f"out={tmp_path / 'plain'}"])
    run_study(plain)
    assert (config.out / "runs.csv").read_bytes() == (plain.out / "runs.csv").read_bytes()
    rows = [(study.out / run.folder / "metrics.jsonl").read_text().splitlines() for study in (config, plain)]
    losses = [[(row["step"], row["loss_nats"]) for row in map(json.loads, lines)] for lines in rows]
    assert losses[0] == losses[1]


class FakeTrainer:
    """TorchTrainer whose processes are calls in this one."""

    given: ClassVar[dict[str, Any]] = {}
    error: ClassVar[Exception | None] = None

    def __init__(self, work: Callable[[dict[str, Any]], None], **given: Any) -> None:
        type(self).given = given
        self._work = work

    def fit(self) -> None:
        """Let one process fail and the next try follow, or fail for good."""
        if self.error is not None:
            raise self.error
        with suppress(ValueError):
            self._work(self.given["train_loop_config"])
        self._work(self.given["train_loop_config"])


FakeTrainer.__module__ = "ray.train.v2.fake"


def run_here(command: list[str], log: Path, **options: object) -> FinishedProgram:
    """Stand for the program that starts Ray Train."""
    try:
        ray_train.drive_ray_train(command[-1])
    except SystemExit as ended:
        return FinishedProgram(code=cast(int, ended.code), stderr="", was_asked=False)
    return FinishedProgram(code=0, stderr="", was_asked=False)


@pytest.fixture
def one_run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StudyConfig, Job]:
    """A run over two nodes with all that it needs, on a stand-in for Ray Train."""
    pytest.importorskip("ray.train.torch", reason="Ray Train is not installed", exc_type=ImportError)
    monkeypatch.setattr("ray.train.torch.TorchTrainer", FakeTrainer)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:9"))
    monkeypatch.setattr("ray.init", lambda address: None)
    monkeypatch.setattr(ray_train, "is_connected", lambda: True)
    monkeypatch.setattr(ray_train, "run_program", run_here)
    path = write_published_study(world, tmp_path)
    config = load(StudyConfig, path, overrides=["cluster.nodes=2", "cluster.cpus=3", "cluster.memory_gb=2.0"])
    *before, run = list_jobs(config)
    for job in before:
        try_job(config, job)
    return config, run


def test_processes_that_die_too_often_fail_the_run_with_the_error_of_the_first(
    one_run: tuple[StudyConfig, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import ActorDiedError
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    config, run = one_run
    lost: Exception = RuntimeError("gloo: Connection closed by peer")
    dead = WorkerHealthCheckFailedError("not healthy", ActorDiedError())
    mine = RuntimeError("CUDA error: an illegal memory access")
    for failures, why in (
        ({0: lost, 1: dead}, "a process was killed, or its node was lost"),
        ({0: mine, 1: lost}, "RuntimeError: CUDA error: an illegal memory access"),
    ):
        monkeypatch.setattr(FakeTrainer, "error", WorkerGroupError("many\nlines", failures))
        ended = try_job(config, run)
        assert ended.ending == "failed"
        assert ended.problem == (
            f"{run.id}: {why}; given up after Ray Train started its processes again 2 times (cluster.retries)"
        )
    assert FakeTrainer.given["run_config"].failure_config.max_failures == 2
    scaling = FakeTrainer.given["scaling_config"]
    assert (scaling.num_workers, scaling.resources_per_worker) == (2, {"CPU": 3, "memory": 2e9})
    assert FakeTrainer.given["torch_config"].backend == "gloo"


@pytest.mark.parametrize(("kind", "ending"), [(ValueError, "refused"), (NotFiniteError, "failed")])
def test_a_mistake_ends_the_processes_that_are_started_after_it(
    one_run: tuple[StudyConfig, Job], monkeypatch: pytest.MonkeyPatch, kind: type[ValueError], ending: str
) -> None:
    config, run = one_run
    calls: list[Path] = []

    def fail(settings: RunConfig, should_stop: object, *, waits: bool) -> None:
        assert waits
        calls.append(settings.out)
        raise kind("the loss is wrong")

    monkeypatch.setattr("polyglance.study.work.measure.train_run", fail)
    for tries in (1, 2):  # the next call tries it again
        ended = try_job(config, run)
        assert (ended.ending, ended.problem) == (ending, f"{run.id}: the loss is wrong")
        assert calls == [config.out / run.folder] * tries


def test_ray_train_is_asked_for_before_anything_is_made(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_published_study(world, tmp_path)
    config = load(StudyConfig, path, overrides=["cluster.nodes=2"])
    first = SimpleNamespace(TorchTrainer=type("TorchTrainer", (), {"__module__": "ray.train.torch.torch_trainer"}))
    for module, line in (
        (None, "cluster.nodes: a run over several nodes of Ray needs Ray Train: pip install 'polyglance"),
        (first, "cluster.nodes: a run over several nodes of Ray needs Ray Train V2, which Ray .* does not use: pip"),
    ):
        monkeypatch.setitem(sys.modules, "ray.train.torch", cast(Any, module))
        with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
            run_study(config, on="ray://127.0.0.1:9")
        assert not (config.out / "data").exists()


def test_a_run_waits_until_its_processes_have_room(
    one_run: tuple[StudyConfig, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first, and again after one was lost; a run that has ended does not wait, whatever ended it."""
    config, run = one_run
    states: list[str] = []

    def note(name: str) -> None:
        states.append(f"{name}: {read_study_status(config).jobs[run.id]}")

    class Trainer(FakeTrainer):
        def fit(self) -> None:
            for _ in range(2):
                note("no room")
                with suppress(RuntimeError):
                    self._work(self.given["train_loop_config"])
            note("lost")
            raise TrainingFailedError("lost")

    def lose_another(settings: RunConfig, should_stop: object, *, waits: bool) -> None:
        note("at work")
        raise RuntimeError("gloo: Connection closed by peer")

    from ray.train.v2.api.exceptions import TrainingFailedError

    Trainer.__module__ = FakeTrainer.__module__
    monkeypatch.setattr("ray.train.torch.TorchTrainer", Trainer)
    monkeypatch.setattr("polyglance.study.work.measure.train_run", lose_another)
    assert try_job(config, run).ending == "failed"
    note("ended")
    assert states == [
        "no room: waiting",
        "at work: begun",
        "no room: waiting",
        "at work: begun",
        "lost: waiting",
        "ended: begun",
    ]
