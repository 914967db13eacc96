"""A study on two Ray nodes that share nothing but a store: the same table as of one process, also after one is lost."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.object_store import open_store
from polyglance.study import StudyConfig, read_study_status, run_study
from polyglance.study.grid.jobs import Job, list_runs
from polyglance.study.store.stored_job import StoredJob

from .clusters import ENV, POLYGLANCE, RayNodes, open_ray_nodes, wait_until, write_grid

pytestmark = pytest.mark.slow

FAMILY = '[{ name = "grid", widths = [8], samples = [1600, 1616] }]'
"""Two runs that take about equally long: one for each node."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[RayNodes]:
    """Two nodes, each with a folder of its own behind the same variable."""
    first, second = ({"PG_SCRATCH": str(tmp_path / name)} for name in ("first", "second"))
    with open_ray_nodes(first, second) as nodes:
        yield nodes


def test_a_lost_node_leaves_its_checkpoint_in_the_store_and_changes_no_byte(tmp_path: Path, nodes: RayNodes) -> None:
    (tmp_path / "caller").mkdir()
    path = write_grid(tmp_path / "caller", samples=0)
    options = [f"families={FAMILY}", f"cluster.store=file://{tmp_path}/bucket", "cluster.scratch=$PG_SCRATCH"]
    config = load(StudyConfig, path, overrides=options)
    store, runs = open_store(config.cluster.store), list_runs(config)

    def is_saved(run: Job) -> bool:
        stored = StoredJob(store, run)
        return stored.read_saved() is not None and not stored.is_done()

    command = [*POLYGLANCE, "study", "run", str(path), "--on", nodes.address]
    command += [word for option in options for word in ("--set", option)]
    with subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: any(nodes.is_on_node(run.id) and is_saved(run) for run in runs), process)
        nodes.kill_node()
        said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "it goes on from its last checkpoint (retry 1 of 2)" in said

    done = {name: {file.stem for file in tmp_path.glob(f"{name}/*/locks/grid-*")} for name in ("first", "second")}
    (lost,) = done["second"]
    assert done["first"] == {run.id for run in runs}
    logs = (file.read_text() for file in nodes.folder.glob("session_2*/logs/worker-*.err"))
    assert f"{lost}: goes on from step" in "".join(logs)
    assert not list(config.out.glob("**/model.safetensors"))  # no node worked in the folder of the call
    assert set(read_study_status(config).jobs.values()) == {"done"}

    plain = load(StudyConfig, path, overrides=[options[0], f"out={tmp_path / 'plain'}"])
    run_study(plain, workers=1)
    assert (tmp_path / "bucket" / "runs.csv").read_bytes() == (plain.out / "runs.csv").read_bytes()
