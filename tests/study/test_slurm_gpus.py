"""GPUs of Slurm's nodes, as a program named sinfo lists them."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig
from polyglance.study.cluster import ClusterConfig
from polyglance.study.needs import JobNeeds
from polyglance.study.places import clusters
from polyglance.study.places.slurm_gpus import has_slurm_gpus

from .clusters import write_grid

LISTED = """cpu*|(null)
gpu|gpu:h100:8(S:0-1)
gpu|(null)
mixed|shard:4,gpu:2
"""


def write_sinfo(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "listed").write_text(text)
    (folder / "sinfo").write_text(f"#!/bin/sh\n[ \"$*\" = '--noheader --format=%P|%G' ] && cat '{folder}/listed'\n")
    (folder / "sinfo").chmod(0o755)


@pytest.fixture(autouse=True)
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    write_sinfo(tmp_path / "bin", LISTED)
    return tmp_path / "bin"


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (ClusterConfig(), False),
        (ClusterConfig(partition="gpu"), True),
        (ClusterConfig(partition="cpu,mixed"), True),
        (ClusterConfig(sbatch=("--partition=gpu",)), True),
        (ClusterConfig(partition="gpu", sbatch=("--gres=gpu:h100:1",)), False),
        (ClusterConfig(partition="none"), False),
    ],
)
def test_gpus_are_those_of_the_partition_that_jobs_go_to(cluster: ClusterConfig, expected: bool) -> None:
    assert has_slurm_gpus(cluster) is expected


def test_the_default_partition_is_the_one_with_an_asterisk(sinfo: Path) -> None:
    write_sinfo(sinfo, LISTED.replace("cpu*", "cpu").replace("gpu|", "gpu*|"))
    assert has_slurm_gpus(ClusterConfig())
    (sinfo / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    assert not has_slurm_gpus(ClusterConfig())


def test_a_job_asks_for_a_gpu_where_a_node_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_jobs(config: Any, *, needs: JobNeeds, num_slots: int | None) -> Any:
        return SimpleNamespace(needs=needs)

    monkeypatch.setattr(clusters, "SlurmJobs", open_jobs)
    path = write_grid(tmp_path, samples=80)
    needs = JobNeeds(cpus=1, gpus=0, memory_bytes=None)
    for overrides, gpus in (([], 0), (["cluster.partition=gpu"], 1)):
        config = load(StudyConfig, path, overrides=overrides)
        assert clusters.open_cluster(config, "slurm", needs, takes_gpu_if_there=True).needs.gpus == gpus
        assert clusters.open_cluster(config, "slurm", needs).needs.gpus == 0
