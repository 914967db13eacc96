"""Builds on a Ray cluster of this machine: the same shards, whoever is killed."""

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
from polyglance.data.build.build import BuildResult, build
from polyglance.data.build.recipe import Recipe
from polyglance.data.shard import read_records

from .recipes import NUM_IMAGES, world_recipe
from .test_build import ENV, POLYGLANCE, shards, shards_after_kills

pytest.importorskip("ray.data", reason="Ray is not installed")
pytestmark = pytest.mark.slow

RAY = (sys.executable, "-m", "ray.scripts.scripts")
RAY_ENV = {**ENV, "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world_recipe(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def built(recipe_path: Path) -> BuildResult:
    return build(load(Recipe, recipe_path))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a cluster on loopback with two CPUs."""
    port = 20_000 + os.getpid() % 10_000  # so that a second test run does not meet the first
    folder = Path("/tmp") / f"polyglance-ray-{os.getpid()}"  # short: sockets lie in it, whose paths have a limit
    command = [*RAY, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    more = ["--include-dashboard=false", "--object-store-memory=100000000", f"--temp-dir={folder}"]
    started = subprocess.run([*command, *more], check=False, env=RAY_ENV, capture_output=True, text=True)
    if started.returncode:
        pytest.skip(f"Ray cannot start a cluster on this machine: {started.stderr.strip()[-300:]}")
    yield f"127.0.0.1:{port}"
    subprocess.run([*RAY, "stop", "--force"], check=False, env=RAY_ENV, capture_output=True)


def command(recipe_path: Path, out: Path, cluster: str) -> list[str]:
    overrides = ["--set", f"out={out}", "--set", "images_per_part=4"]
    return [*POLYGLANCE, "data", "build", str(recipe_path), *overrides, "--ray", cluster, "--workers", "2"]


def test_killed_at_ten_random_moments_gives_the_same_shards(
    built: BuildResult, recipe_path: Path, tmp_path: Path, cluster: str
) -> None:
    out, expected = tmp_path / "out", shards(built.out)
    assert shards_after_kills(command(recipe_path, out, cluster), out, expected, kills=10, seconds=20) == expected


def test_a_killed_worker_costs_no_record_and_makes_no_duplicate(
    built: BuildResult, recipe_path: Path, tmp_path: Path, cluster: str
) -> None:
    out = tmp_path / "out"
    killed = 0
    with subprocess.Popen(command(recipe_path, out, cluster), env=RAY_ENV, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if killed < 2 and list((out / "work").glob("*/*.parquet")):
                killed += kill_an_actor()
            time.sleep(0.05)  # looks at what another process does; nothing is timed
    assert process.returncode == 0
    assert killed
    assert shards(out) == shards(built.out)
    keys = [record.key for name in ("train", "test") for record in read_records(out / name)]
    assert len(keys) == len(set(keys)) == NUM_IMAGES


def test_no_cluster_is_one_line(recipe_path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(recipe_path, tmp_path / "out", "127.0.0.1:1"), env=RAY_ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("polyglance: no Ray cluster at 127.0.0.1:1")


def kill_an_actor() -> int:
    """Kill a worker process of the build, as the out-of-memory killer would; how many were found."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_worker = re.match(rb"ray::.*(MapWorker|_Worker)", path.read_bytes())
            if is_worker:
                os.kill(int(path.parent.name), signal.SIGKILL)
                return 1
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
    return 0
