"""Builds on a Ray cluster of this machine: the same shards, whatever is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.data.build.build import build
from polyglance.data.build.recipe import Recipe
from polyglance.data.shard import read_records

from .recipes import ENV, POLYGLANCE, shards, world_recipe
from .test_build import kill_when

pytest.importorskip("ray.data", reason="Ray is not installed")
pytestmark = pytest.mark.slow

RAY = (sys.executable, "-m", "ray.scripts.scripts")
RAY_ENV = {**ENV, "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
NUM_IMAGES = 24


FOLDER = Path("/tmp") / f"polyglance-ray-{os.getpid()}"
"""Folder of the cluster; short, as sockets lie in it, whose paths have a limit."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster on loopback with two CPUs."""
    port = 20_000 + os.getpid() % 10_000  # so that a second test run does not meet the first
    command = [*RAY, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    more = ["--include-dashboard=false", "--object-store-memory=100000000", f"--temp-dir={FOLDER}"]
    started = subprocess.run([*command, *more], check=False, env=RAY_ENV, capture_output=True, text=True)
    if started.returncode:
        pytest.skip(f"Ray cannot start a cluster on this machine: {started.stderr.strip()[-300:]}")
    yield f"127.0.0.1:{port}"
    subprocess.run([*RAY, "stop", "--force"], check=False, env=RAY_ENV, capture_output=True)


def command(recipe_path: Path, out: Path, cluster: str) -> list[str]:
    return [*POLYGLANCE, "data", "build", str(recipe_path), "--set", f"out={out}", "--ray", cluster, "--workers", "2"]


def test_killed_drivers_and_workers_change_nothing(tmp_path: Path, cluster: str) -> None:
    """The driver is killed once; then it runs to the end, while an actor is killed in two of its steps."""
    recipe_path, out = world_recipe(tmp_path, num_images=NUM_IMAGES), tmp_path / "ray"
    expected = shards(build(load(Recipe, recipe_path)).out)
    build_command = command(recipe_path, out, cluster)
    kill_when(build_command, out / "work" / "images" / "000_*.json")
    left = ["descriptions", "annotations"]
    with subprocess.Popen(build_command, env=RAY_ENV, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if left and (out / "work" / left[0] / "step.json").exists() and kill_an_actor():
                left.pop(0)
            time.sleep(0.05)  # looks at what another process does; nothing is timed
    assert process.returncode == 0
    assert left == []
    assert shards(out) == expected
    keys = [record.key for name in ("train", "test") for record in read_records(out / name)]
    assert len(keys) == len(set(keys)) == NUM_IMAGES


def test_no_cluster_is_one_line(tmp_path: Path) -> None:
    recipe_path = world_recipe(tmp_path, num_images=1)
    done = subprocess.run(
        command(recipe_path, tmp_path / "out", "127.0.0.1:1"), env=RAY_ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("polyglance: no Ray cluster at 127.0.0.1:1")


def kill_an_actor() -> bool:
    """Kill a worker process of this cluster, as the out-of-memory killer would; return whether there was one."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = re.match(rb"ray::.*(MapWorker|_Worker)", (path / "cmdline").read_bytes())
            if is_worker:
                parent = re.search(r"^PPid:\s*(\d+)", (path / "status").read_text(), re.MULTILINE)
                assert parent is not None
                if str(FOLDER).encode() in (Path("/proc") / parent[1] / "cmdline").read_bytes():
                    os.kill(int(path.name), signal.SIGKILL)
                    return True
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
    return False
