"""Array types of the package."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Indices", "Labels", "Mask", "bounded_exp"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Labels = NDArray[np.str_]
Mask = NDArray[np.bool_]


def bounded_exp(log: Floats) -> Floats:
    """Return exp(log), clipped to 1e-304 and 1e304, so that no extrapolation writes an infinity into a file."""
    return np.asarray(np.exp(np.clip(log, -700.0, 700.0)))
