"""The table `[cluster]` of a study, and the options of the same names of `polyglance eval --on` and `caption --on`."""

import math
import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["ClusterConfig", "StudyClusterConfig"]


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Resources that each job asks for with `--on ray` and `--on slurm`, and how often it is tried."""

    cpus: int | None = None
    """Cores of a job, on each of its nodes. If not given: 1 for micro models; for published sizes one for each device
    and for each of its loader processes."""
    gpus: float | None = None
    """Accelerators of a job, on each of its nodes. If not given: the machine's devices, divided by the nodes, and none
    on the CPU. Micro models on Ray can share a card by a fraction."""
    memory_gb: float | None = None
    """Main memory of a job, on each of its nodes, in 10^9 bytes. If not given: for micro models one and a half times
    the peak that the plan has measured; for published sizes nothing is asked for."""
    nodes: int = 1
    """Published sizes: nodes of a job, each with the same share of the machine's devices (Slurm; Ray, by Ray Train)."""
    time_limit_h: float | None = None
    """Slurm: longest time of a job, in hours. Two minutes before its end the run saves its state, and goes on in a new
    job. If not given: the partition's limit."""
    partition: str = ""
    """Slurm: partition; the cluster's own if not given."""
    account: str = ""
    """Slurm: account that the time is charged to."""
    sbatch: tuple[str, ...] = ()
    """Slurm: more options of sbatch, such as `--qos=low` or `--constraint=h100`."""
    setup: tuple[str, ...] = ()
    """Slurm: shell lines before a job, such as `module load cuda` or `source venv/bin/activate`."""
    python: str = ""
    """Slurm: command of Python on the nodes, such as `apptainer exec --nv image.sif python`. If not given: the one that
    polyglance is called with."""
    retries: int = 2
    """Times that a job is tried again from its last checkpoint after it was killed or its node was lost, on any place
    (also `--on local`)."""

    def __post_init__(self) -> None:
        for name, least in (("cpus", 1), ("gpus", 0), ("nodes", 1), ("retries", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} is {value:g}; expected {least} or more")
        if self.gpus is not None and self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"gpus is {self.gpus:g}; expected a whole number, or a share of one GPU, such as 0.5")
        for name in ("memory_gb", "time_limit_h"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value:g}; expected a positive number")
        for line in (*self.sbatch, *self.setup, self.partition, self.account, self.python):
            if "\n" in line or "\0" in line:
                raise ValueError(f"{line!r}: expected one line")
        for option in self.sbatch:
            if not option.startswith("-"):
                raise ValueError(f"sbatch has {option!r}; expected options such as '--qos=low'")

    def list_slurm_settings(self) -> tuple[str, ...]:
        """List the settings that are given and that Slurm alone heeds."""
        names = ("time_limit_h", "partition", "account", "sbatch", "setup", "python")
        return tuple(f"cluster.{name}" for name in names if getattr(self, name) not in (None, "", ()))


@dataclass(frozen=True, kw_only=True)
class StudyClusterConfig(ClusterConfig):
    """The same of a study, with the place of its files and of its measurements."""

    evaluation: Literal["with", "own"] = "with"
    """Measurement of a run, on any place (also `--on local`): `with` its training, by the same job on the same devices;
    or by a job of its `own` with one device, and its share of cpus, gpus and memory_gb. The devices of the training
    then go on with the next run. The results are the same."""
    store: str = ""
    """URL of an object store in place of a folder that all nodes see, such as `s3://BUCKET/studies/micro`, `gs://...`
    or `file:///shared/studies`. Each job then works in `scratch`, and its files are uploaded; `out` is the copy of the
    records on the machine of the call. If not given, all nodes have to see `out`."""
    scratch: str = ""
    """With `store`: folder of a node that its jobs work in; may name environment variables, as `$SLURM_TMPDIR` does.
    If not given, the folder of temporary files (TMPDIR)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.store and re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/].*|file:///.+", self.store) is None:
            raise ValueError(f"store is {self.store!r}; expected a URL such as s3://BUCKET/FOLDER or file:///FOLDER")
        if self.scratch and not self.store:
            raise ValueError("scratch has no effect without store")
        if self.store and self.nodes > 1:
            raise ValueError(
                f"nodes is {self.nodes}: a run over several nodes needs a folder that all of them see, not store"
            )
