"""A set of 64-bit hashes in 8 bytes each."""

import numpy as np
from jaxtyping import Bool, UInt64

__all__ = ["SeenHashes"]


class SeenHashes:
    """A growing set of 64-bit hashes in sorted arrays: 8 bytes each, 16 while two arrays are merged.

    (A Python set takes about 90.) Among n different items the probability that two share a hash is n^2 / 2^65: with
    10^8 items, one of 3,700 such sets takes a single item wrongly for seen.

    Arrays are merged when the newer one has grown to half of the older one, so there are at most log2(n) arrays and
    a hash is moved log2(n) times.
    """

    def __init__(self) -> None:
        self._runs: list[UInt64[np.ndarray, "n"]] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, hashes: UInt64[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Add all hashes; True for each that was new, neither in the set nor earlier in `hashes`."""
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
            newer, older = self._runs.pop(), self._runs.pop()
            merged = np.concatenate((older, newer))
            del older, newer
            merged.sort(kind="stable")  # the sort detects the two sorted runs and merges them
            self._runs.append(merged)
