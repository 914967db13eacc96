"""Options of `polyglance eval --on` and `caption --on`, apart from what does it, which takes a while to load."""

from dataclasses import dataclass, field

from polyglance.settings import refuse_unused
from polyglance.study.cluster import ClusterConfig
from polyglance.study.needs import JobNeeds

__all__ = ["EvaluationPlace"]


@dataclass(frozen=True, kw_only=True)
class EvaluationPlace:
    """Place where an evaluation is computed."""

    on: str = "local"
    """`local`: this machine. `ray` (the cluster of this machine, or that of RAY_ADDRESS), `ray://HOST:PORT` or `slurm`:
    the test set is divided into jobs. If the options of the cluster say nothing else, each asks for one CPU and, with
    `device` cuda or, where nodes have GPUs, auto, for one GPU. All nodes have to see the inputs and `out`."""
    shards: int = 8
    """Jobs that the test set is divided into. As many as there is room for are at work; each opens the model."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise ValueError(f"shards is {self.shards}; expected at least 1")
        is_cluster = (self.on != "local", "without `on`")
        refuse_unused(self, shards=is_cluster)
        refuse_unused(self.cluster, **dict.fromkeys(vars(self.cluster), is_cluster))
        refuse_unused(self.cluster, nodes=(False, "on an evaluation, whose jobs have one node each"))

    def takes_gpu_if_there(self, device: str) -> bool:
        """Tell whether each job is to ask for a GPU if the cluster has any: the model runs on one if it can."""
        return device == "auto" and self.cluster.gpus is None

    def find_needs(self, device: str) -> JobNeeds:
        """Return what each job asks for, on a cluster without GPUs if that is left open."""
        cluster = self.cluster
        return JobNeeds(
            cpus=cluster.cpus or 1,
            gpus=float(device.startswith("cuda")) if cluster.gpus is None else cluster.gpus,
            memory_bytes=None if cluster.memory_gb is None else int(cluster.memory_gb * 1e9),
        )
