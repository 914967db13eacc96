"""Options of `polyglance study plan --cluster`: a cluster that a study is simulated on."""

import math
import re
from dataclasses import dataclass

from polyglance.settings import refuse_unused

__all__ = ["SimulatedClusterConfig"]

_CLUSTER = re.compile(r"(\d+)\s*[xX*×]\s*(\S.*)")


@dataclass(frozen=True, kw_only=True)
class SimulatedClusterConfig:
    """A cluster that the study is simulated on; a run takes `machine.devices` of its GPUs."""

    cluster: str | None = None
    """GPUs of a cluster, such as 512xH100: the study is simulated on it: queueing, preemption, checkpoints, data."""
    preemption_rate: float = 0.0
    """Preemptions of each node per hour."""
    away_minutes: float = 10.0
    """Time that a preempted node is away, in minutes."""
    start_minutes: float = 3.0
    """Time from a run's start on its nodes until its first step, in minutes, besides reading a checkpoint: assumed."""
    store_gb_s: float = 10.0
    """Bandwidth of the store that images are read from and checkpoints written to, for all nodes together, in 10^9
    bytes/s."""
    image_kb: float = 100.0
    """Mean size of an encoded image, in 10^3 bytes."""
    images_per_core_s: float | None = None
    """Images that one core decodes in a second; as measured by benchmarks/cluster_pieces.py if not given."""
    trials: int = 20
    """Simulations that are averaged, each with other preemptions."""
    seed: int = 0
    """Seed of the preemptions."""

    def __post_init__(self) -> None:
        for name in ("preemption_rate", "away_minutes", "start_minutes", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` is {getattr(self, name):g}; expected 0 or more")
        for name in ("store_gb_s", "image_kb", "images_per_core_s"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name}` is {value:g}; expected a positive number")
        if self.trials < 1:
            raise ValueError(f"`trials` is {self.trials}; expected 1 or more")
        names = [name for name in vars(self) if name != "cluster"]
        refuse_unused(self, **dict.fromkeys(names, (self.cluster is not None, "without `cluster`")))
        draws = self.cluster is None or self.preemption_rate > 0
        refuse_unused(self, **dict.fromkeys(("away_minutes", "trials", "seed"), (draws, "without `preemption_rate`")))
        if self.cluster is not None:
            self.parse()

    def parse(self) -> tuple[int, str]:
        """Return number and name of the cluster's GPUs.

        Raises:
            ValueError: another form, or no GPU.
        """
        found = _CLUSTER.fullmatch((self.cluster or "").strip())
        if found is None:
            raise ValueError(f"`cluster` {self.cluster!r}: expected a number and a card, such as 512xH100")
        if int(found[1]) < 1:
            raise ValueError(f"`cluster` {self.cluster!r}: has no GPU")
        return int(found[1]), found[2]
