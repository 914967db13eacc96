"""Jobs on a stand-in for the module `ray`, connected by its caller. `test_on_ray.py` has a real cluster."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.needs import JobNeeds
from polyglance.study.places.clusters import open_cluster
from polyglance.study.places.ray_tasks import RayTasks

from .clusters import write_grid

NEEDS = JobNeeds(cpus=2, gpus=0, memory_bytes=None)
JOB = Job(id="run-1", kind="run", folder=Path("runs/1"))


class StandIn:
    """Ray with one node; its tasks never end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cpus, self.gpus = 2.0, 0.0
        self.calls: list[str] = []
        self.ready: list[str] = []
        self.options: dict[str, Any] = {}

    def is_initialized(self) -> bool:
        return "shutdown" not in self.calls

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address=self.address)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "NodeManagerHostname": "one", "Resources": {"CPU": self.cpus, "GPU": self.gpus}}]

    def remote(self, function: object) -> Any:
        task = SimpleNamespace(remote=lambda named: f"task of {named['job']}")

        def set_options(**options: Any) -> Any:
            self.options = options
            return task

        return SimpleNamespace(options=set_options)

    def wait(self, references: list[str], timeout: float) -> tuple[list[str], list[str]]:
        return self.ready, references

    def get(self, reference: str) -> dict[str, str]:
        return {"ending": "done"}

    def cancel(self, reference: str, *, force: bool = False) -> None:
        self.calls.append(f"cancel {reference}")

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    return load(StudyConfig, write_grid(tmp_path, samples=80))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    ray = StandIn("127.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    return ray


def test_a_connection_of_the_caller_stays_and_its_tasks_are_ended(ray: StandIn, config: StudyConfig) -> None:
    with RayTasks(config, ray.address, needs=NEEDS) as tasks:
        tasks.start(JOB)
    assert ray.calls == ["cancel task of run-1"]


def test_another_address_than_that_of_the_connection_is_refused(ray: StandIn, config: StudyConfig) -> None:
    with pytest.raises(ValueError, match=r"already connected to 127.0.0.1:[0-9]+, not to ray://elsewhere:10001"):
        RayTasks(config, "ray://elsewhere:10001", needs=NEEDS)
    RayTasks(config, "auto", needs=NEEDS)


def test_a_job_that_no_node_has_room_for_waits_for_the_cluster_to_grow_where_slots_are_given(
    ray: StandIn, config: StudyConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    ray.cpus = 1
    with pytest.raises(ValueError, match=r"no node .* has 2 CPUs for a job; the largest: one with 1 CPUs"):
        RayTasks(config, "auto", needs=NEEDS)
    assert RayTasks(config, "auto", needs=NEEDS, num_slots=7).num_slots == 7
    assert "jobs wait until the cluster has grown" in capfd.readouterr().err


def test_nodes_of_a_job_are_counted_together_and_its_task_asks_for_nothing(
    ray: StandIn, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyglance.study.places.ray_tasks.check_ray_train", lambda: None)
    needs = replace(NEEDS, nodes=2)
    with pytest.raises(ValueError, match=r"no 2 nodes of the Ray cluster at auto have 2 CPUs for a job; the large"):
        RayTasks(config, "auto", needs=needs)
    ray.cpus = 10.0
    tasks = RayTasks(config, "auto", needs=needs)
    assert tasks.num_slots == 2
    tasks.start(JOB)
    assert (ray.options["num_cpus"], ray.options["num_gpus"], ray.options["memory"]) == (0, None, None)


def test_a_job_asks_for_a_gpu_where_a_node_has_one(ray: StandIn, config: StudyConfig) -> None:
    def ask(**options: bool) -> float:
        return open_cluster(config, "ray", NEEDS, **options).needs.gpus

    assert ask(takes_gpu_if_there=True) == 0
    ray.gpus = 8.0
    assert (ask(takes_gpu_if_there=True), ask()) == (1, 0)


def test_the_head_is_lost_only_after_half_a_minute_of_silence(
    ray: StandIn, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = RayTasks(config, "auto", needs=NEEDS, num_slots=1)
    now_s, looks = [0.0], [0]

    def look(references: list[str], timeout: float) -> tuple[list[str], list[str]]:
        looks[0] += 1
        now_s[0] += timeout
        return [], references

    def find_nothing(address: str) -> None:
        raise ValueError(address)

    monkeypatch.setattr("polyglance.study.places.ray_tasks.check_head", find_nothing)
    monkeypatch.setattr("polyglance.study.places.ray_tasks.time.monotonic", lambda: now_s[0])
    ray.wait = look  # type: ignore[method-assign]
    tasks.start(JOB)
    now_s[0] += 1000.0
    with pytest.raises(ValueError, match="is lost"):
        tasks.wait()
    assert looks[0] == 16  # of 2 s
