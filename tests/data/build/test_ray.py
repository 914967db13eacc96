"""Builds on a Ray cluster of this machine: the same shards, whatever is killed."""

import subprocess
import time
from pathlib import Path

import pytest
from tests.study.clusters import ENV, POLYGLANCE, RayNodes

from polyglance.config import load
from polyglance.data.build.build import build
from polyglance.data.build.recipe import Recipe
from polyglance.data.shard import read_records

from .recipes import shards, world_recipe
from .test_build import kill_when

pytest.importorskip("ray.data", reason="Ray is not installed")
pytestmark = pytest.mark.slow

NUM_IMAGES = 24
_ACTORS = ("MapWorker", "_MapWorker")
"""Beginnings of the names of actors, in releases of Ray."""


def command(recipe_path: Path, out: Path, cluster: str) -> list[str]:
    return [*POLYGLANCE, "data", "build", str(recipe_path), "--set", f"out={out}", "--ray", cluster, "--workers", "2"]


def test_killed_drivers_and_workers_change_nothing(tmp_path: Path, ray_nodes: RayNodes) -> None:
    """The driver is killed once; then it runs to the end, while an actor is killed in two of its steps."""
    recipe_path, out = world_recipe(tmp_path, num_images=NUM_IMAGES), tmp_path / "ray"
    expected = shards(build(load(Recipe, recipe_path)).out)
    build_command = command(recipe_path, out, ray_nodes.address)
    kill_when(build_command, out / "work" / "images" / "000_*.json", ENV)
    left = ["descriptions", "annotations"]
    with subprocess.Popen(build_command, env=ENV, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if left and (out / "work" / left[0] / "step.json").exists() and any(map(ray_nodes.kill_worker, _ACTORS)):
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
        command(recipe_path, tmp_path / "out", "127.0.0.1:1"), env=ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("polyglance: no Ray cluster at 127.0.0.1:1")
