"""Clusters by the names that `--on` gives them."""

from dataclasses import replace

from polyglance.study.needs import JobNeeds
from polyglance.study.places.ray_tasks import RayTasks
from polyglance.study.places.slurm_gpus import has_slurm_gpus
from polyglance.study.places.slurm_jobs import SlurmJobs
from polyglance.study.work.attempt import Work

__all__ = ["ClusterPlace", "open_cluster"]

ClusterPlace = RayTasks | SlurmJobs


def open_cluster(
    work: Work, on: str, needs: JobNeeds, num_slots: int | None = None, *, takes_gpu_if_there: bool = False
) -> ClusterPlace:
    """Open a cluster as a place for jobs.

    Args:
        on: `ray`, `ray://HOST:PORT` or `slurm`.
        needs: resources of a job.
        num_slots: jobs at the same time.
        takes_gpu_if_there: a job also asks for a GPU if nodes have any.

    Raises:
        ValueError: there is no such place, or it cannot do what the jobs ask for.
    """
    with_gpu = replace(needs, gpus=1.0)
    if on == "slurm":
        takes_gpu = takes_gpu_if_there and has_slurm_gpus(work.cluster)
        return SlurmJobs(work, needs=with_gpu if takes_gpu else needs, num_slots=num_slots)
    if on == "ray" or (on.startswith("ray://") and on != "ray://"):
        tasks = RayTasks(work, "auto" if on == "ray" else on, needs=needs, num_slots=num_slots)
        if takes_gpu_if_there and tasks.has_gpus():
            tasks.needs = with_gpu
        return tasks
    raise ValueError(f"`on` is {on!r}; expected local, ray, ray://HOST:PORT or slurm")
