"""Training compute of a run (paper section 4.1)."""

__all__ = ["training_compute"]


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
