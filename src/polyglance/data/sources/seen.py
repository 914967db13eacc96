"""What was there before, in 8 bytes a thing."""

import numpy as np
from jaxtyping import Bool, UInt64

__all__ = ["SeenHashes"]


class SeenHashes:
    """A growing set of 64-bit hashes in sorted arrays: 8 bytes each, 16 while two arrays are merged.

    (A Python set takes some 90.) Two different things share a hash with a chance of n^2 / 2^65 in n: at 10^8 things,
    in one such set of 3,700 a single one is wrongly taken for seen.

    Arrays are merged when the younger has grown to half of the older, so that there are at most log2(n) of them and
    a hash is moved log2(n) times.
    """

    def __init__(self) -> None:
        self._runs: list[UInt64[np.ndarray, "n"]] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, hashes: UInt64[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Add them all; True where one was not there yet, neither in the set nor earlier in `hashes`."""
        unique, first = np.unique(hashes, return_index=True)
        is_unknown = np.ones(len(unique), dtype=bool)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, unique), len(run) - 1)
            is_unknown &= run[at] != unique
        is_new = np.zeros(len(hashes), dtype=bool)
        is_new[first[is_unknown]] = True
        if is_unknown.any():
            self._append(unique[is_unknown])
        return is_new

    def _append(self, run: UInt64[np.ndarray, "n"]) -> None:
        self._runs.append(run)
        while len(self._runs) > 1 and 2 * len(self._runs[-1]) >= len(self._runs[-2]):
            younger, older = self._runs.pop(), self._runs.pop()
            merged = np.concatenate((older, younger))
            del older, younger
            merged.sort(kind="stable")  # two sorted runs: the sort sees them and merges
            self._runs.append(merged)
