"""GPUs of the nodes that Slurm would give to a job."""

import subprocess

from polyglance.study.cluster import ClusterConfig

__all__ = ["has_slurm_gpus"]


def has_slurm_gpus(cluster: ClusterConfig) -> bool:
    """Tell whether nodes of the partition that jobs go to have GPUs, as `sinfo` lists them (generic resources). False
    where it does not answer, and where the options of sbatch say themselves what a job asks for."""
    if any(option.startswith(("--gpus", "--gres", "-G")) for option in cluster.sbatch):
        return False
    try:
        listed = subprocess.run(["sinfo", "--noheader", "--format=%P|%G"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    rows = [line.strip().split("|", 1) for line in listed.stdout.splitlines() if "|" in line]
    given = [option.partition("=")[2] for option in cluster.sbatch if option.startswith("--partition=")]
    partitions = (cluster.partition or ",".join(given)).split(",")
    chosen = [
        resources
        for partition, resources in rows
        if partition.removesuffix("*") in partitions or (partitions == [""] and partition.endswith("*"))
    ]
    return any(one.split(":")[0] == "gpu" for resources in chosen for one in resources.split(","))
