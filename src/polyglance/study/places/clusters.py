"""Clusters by the names that `--on` gives them."""

from polyglance.study.places.needs import JobNeeds
from polyglance.study.places.ray_tasks import RayTasks
from polyglance.study.places.slurm_jobs import SlurmJobs
from polyglance.study.work.attempt import Work

__all__ = ["ClusterPlace", "open_cluster"]

ClusterPlace = RayTasks | SlurmJobs


def open_cluster(work: Work, on: str, needs: JobNeeds, num_slots: int | None = None) -> ClusterPlace:
    """Open a cluster as a place for jobs.

    Args:
        on: `ray`, `ray://HOST:PORT` or `slurm`.
        needs: resources of a job.
        num_slots: jobs at the same time.

    Raises:
        ValueError: there is no such place, or it cannot do what the jobs ask for.
    """
    if on == "slurm":
        return SlurmJobs(work, needs=needs, num_slots=num_slots)
    if on == "ray" or (on.startswith("ray://") and on != "ray://"):
        return RayTasks(work, "auto" if on == "ray" else on, needs=needs, num_slots=num_slots)
    raise ValueError(f"`on` is {on!r}; expected local, ray, ray://HOST:PORT or slurm")
