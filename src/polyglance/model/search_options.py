"""Checked options of greedy and beam search, and what both of its loops share."""

from collections.abc import Hashable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["NEVER", "SearchOptions", "find_top"]

NEVER = -1e9
"""Score of a hypothesis that does not exist, as in transformers."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options of `polyglance.model.decoding.decode_ids`.

    Raises:
        ValueError: an option out of range.
    """

    num_start_ids: int
    end_ids: Int[Tensor, " E"]
    max_new_tokens: int
    min_new_tokens: int
    num_beams: int
    num_return_sequences: int
    length_penalty: float
    early_stopping: bool | str
    no_repeat_ngram_size: int

    def __post_init__(self) -> None:
        for name, least in (
            ("max_new_tokens", 1),
            ("min_new_tokens", 0),
            ("num_beams", 1),
            ("num_return_sequences", 1),
            ("no_repeat_ngram_size", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least} or more")
        if self.num_return_sequences > self.num_beams:
            raise ValueError(
                f"num_return_sequences is {self.num_return_sequences}; expected at most num_beams ({self.num_beams})"
            )
        if self.early_stopping not in (True, False, "never"):
            raise ValueError(f"early_stopping is {self.early_stopping!r}; expected True, False or 'never'")

    @property
    def num_candidates(self) -> int:
        """Continuations of an image that a step of beam search looks at: each beam can end, and K must go on."""
        return max(2, 1 + len(self.end_ids)) * self.num_beams

    def key(self) -> Hashable:
        """Return the options as a key; the ids of end tokens as numbers."""
        values = {**vars(self), "end_ids": tuple(self.end_ids.tolist())}
        return tuple(sorted(values.items(), key=lambda item: item[0]))


def find_top(values: Float[Tensor, "R V"], images: int, number: int) -> tuple[Float[Tensor, "B C"], Int[Tensor, "B C"]]:
    """Find the largest values among all rows of an image, and their places. Only groups whose maximum is among the
    largest maxima can hold one; to find these is much faster than `topk` over a vocabulary."""
    values = values.view(images, -1)
    size = 128
    if values.shape[1] % size or values.shape[1] < 32 * number * size:
        return values.topk(number)
    groups = values.view(images, -1, size)
    rows = groups.amax(dim=2).topk(number).indices
    largest, places = groups.gather(1, rows[..., None].expand(-1, -1, size)).flatten(1).topk(number)
    return largest, rows.gather(1, places // size) * size + places % size
