"""A study on a Ray cluster of two nodes: the same table as on this machine, whatever is killed."""

import re
import signal
import subprocess
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig, read_study_status, run_study
from polyglance.study.work.launch import find_last_step

from .clusters import ENV, POLYGLANCE, RayNodes, find_running, wait_until, write_grid
from .test_predictions import NEW, START, read_results, write_study_with_starts

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow


def test_a_killed_worker_a_killed_node_and_a_killed_call_change_no_byte(tmp_path: Path, ray_nodes: RayNodes) -> None:
    nodes = ray_nodes
    out, path = tmp_path / "out", write_grid(tmp_path, samples=800)
    command = [*POLYGLANCE, "study", "run", str(path), "--on", nodes.address]
    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: any(nodes.kill_worker(job) for job in find_running(out)), process)
        wait_until(lambda: any(nodes.is_on_node(job) for job in find_running(out)), process)
        nodes.kill_node()
        wait_until(lambda: bool(list(out.glob("runs/*/done.json"))), process)
        process.kill()
        assert process.stderr is not None
        said = process.stderr.read()
    assert "it goes on from its last checkpoint (retry 1 of 2)" in said  # what Ray calls a death depends on its timing
    before = {job: find_last_step(out / "runs" / job) for job in find_running(out)}

    def stop_one() -> bool:
        steps = {job: find_last_step(out / "runs" / job) for job in find_running(out)}
        further = [job for job, step in steps.items() if step > before.get(job, 0)]
        return any(nodes.kill_worker(job, signal.SIGTERM) for job in further)

    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as process:
        wait_until(stop_one, process)
        said = process.communicate()[1]
    assert process.returncode == 0, said
    assert re.search(r"stopped after step \d+; it goes on from there", said), said
    assert set(read_study_status(load(StudyConfig, path)).jobs.values()) == {"done"}
    run_study(load(StudyConfig, path, overrides=[f"out={tmp_path / 'local'}"]), workers=1)
    assert (out / "runs.csv").read_bytes() == (tmp_path / "local" / "runs.csv").read_bytes()


def test_new_starting_points_are_measured_by_workers_and_give_the_same_predictions(
    tmp_path: Path, ray_nodes: RayNodes
) -> None:
    path = write_study_with_starts(tmp_path, NEW)
    command = [*POLYGLANCE, "study", "run", str(path), "--on", ray_nodes.address]
    called = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)
    assert called.returncode == 0, called.stderr
    said = {line.split()[1]: line for line in called.stderr.splitlines() if line.startswith("[")}
    assert all(re.search(r" in \d+ s on \S+;", said[name]) for name in START), "a node has done it, not the call"
    assert re.search(r" in \d+ s;", said["prediction"])
    local = load(StudyConfig, path, overrides=[f"out={tmp_path / 'local'}"])
    run_study(local, workers=1)
    assert read_results(load(StudyConfig, path)) == read_results(local)
