"""The counts of a model that laws are fitted to. Importing this loads no torch."""

from dataclasses import dataclass

from polyglance.compute import training_compute

__all__ = ["Counts"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """P, P_t and F of a model (paper section 4.1)."""

    num_parameters: int
    """P: unique parameters, tied ones once."""
    num_trained: int
    """P_t: those that training updates."""
    macs_per_sample: int
    """F: multiply-accumulates of one forward pass, 1 MAC = 1."""

    def compute_gmac(self, samples: int) -> float:
        """Compute C = S F (1 + P_t / P), in GMAC (paper section 4.1)."""
        forward = samples * self.macs_per_sample / 1e9
        return training_compute(forward, num_trained=self.num_trained, num_parameters=self.num_parameters)
