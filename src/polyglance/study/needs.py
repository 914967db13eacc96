"""Resources of one job on a cluster, as they follow from the study and its table `[cluster]`."""

import math
from dataclasses import dataclass

from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job

__all__ = ["JobNeeds", "find_needs"]

_SPARE_MEMORY = 1.5
"""Requested memory as a multiple of the peak that the plan has measured."""
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class JobNeeds:
    """Resources of one job, on each of its nodes."""

    cpus: int
    gpus: float
    memory_bytes: int | None
    """None: no memory is requested."""
    nodes: int = 1
    devices: int = 1
    """Devices of a run on each of its nodes."""

    def of(self, job: Job) -> "JobNeeds":
        """Return the resources of this job: of one that measures a trained run, the share of one device."""
        if not job.trained_by:
            return self
        return JobNeeds(
            cpus=-(-self.cpus // self.devices),
            gpus=self.gpus / self.devices,
            memory_bytes=None if self.memory_bytes is None else -(-self.memory_bytes // self.devices),
        )

    def __str__(self) -> str:
        memory = f", {self.memory_bytes / 1e9:.1f} GB" if self.memory_bytes else ""
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.cpus} CPUs{gpus}{memory}"


def find_needs(config: StudyConfig, *, peak_bytes: int | None = None) -> JobNeeds:
    """Return what each job of a study asks for.

    Args:
        peak_bytes: main memory of a process that trains the largest micro model; None as long as it is not measured.
    """
    cluster, is_on_cpu = config.cluster, config.engine.device == "cpu" or (config.is_micro and not config.is_on_card)
    devices = 1 if config.is_micro else config.machine.devices // cluster.nodes
    cpus = 1 if config.is_micro else devices * (1 + config.engine.num_workers)
    memory_bytes = None if cluster.memory_gb is None else int(cluster.memory_gb * 1e9)
    if memory_bytes is None and peak_bytes is not None and config.is_micro and not config.is_on_card:
        memory_bytes = math.ceil(peak_bytes * _SPARE_MEMORY / (256 * _MIB)) * 256 * _MIB
    return JobNeeds(
        cpus=cluster.cpus or cpus,
        gpus=(0 if is_on_cpu else devices) if cluster.gpus is None else cluster.gpus,
        memory_bytes=memory_bytes,
        nodes=cluster.nodes,
        devices=devices,
    )
