"""Training compute of a run (paper section 4.1)."""

from collections.abc import Mapping

__all__ = ["FAMILY_STARTS", "training_compute"]

FAMILY_STARTS: Mapping[str, float] = {"florence": 10.44, "gemma": 6.02}
"""Published family -> T of its models (paper, version 2, figure 3)."""


def training_compute(forward: float, *, num_trained: float, num_parameters: float) -> float:
    """Return C = S F (1 + P_t / P): the forward passes, and as much again for the share of parameters that is trained.

    Args:
        forward: S F, compute of one forward pass of every sample seen, in any unit.
        num_trained: P_t.
        num_parameters: P.

    Returns:
        C, in the unit of `forward`.
    """
    return forward * (1 + num_trained / num_parameters)
