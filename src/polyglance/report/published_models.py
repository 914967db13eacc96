"""The four published models as candidates of a plan: from their cards and the package's table of measured rates."""

from collections.abc import Mapping

from polyglance.languages import did_you_mean
from polyglance.laws import Candidate
from polyglance.laws.paper_laws import FAMILY_STARTS
from polyglance.model.card import make_card
from polyglance.model.card_record import Card
from polyglance.model.rates import KNOWN_PEAKS_TFLOPS, Rate, find_rate

__all__ = ["PUBLISHED_SIZES", "find_start", "list_published_models", "rate_card"]

PUBLISHED_SIZES = ("0.4b", "1.0b", "3.5b", "11.2b")


def list_published_models(gpu: str = "H100", peak_tflops: float | None = None) -> tuple[Candidate, ...]:
    """Return the published models, with the T of their family and the speed of one GPU.

    Args:
        gpu: a word of the GPU's name, such as H100.
        peak_tflops: its peak in bf16, dense, in 10^12 FLOP/s, where the package does not know it.

    Raises:
        ValueError: a GPU whose peak is not known.
    """
    candidates = []
    for size in PUBLISHED_SIZES:
        card = make_card(size)
        candidates.append(
            Candidate(
                name=size,
                P=card.num_parameters,
                P_t=card.num_trained["pre-training"],
                F_gmac=card.gmac,
                F_unit="sample",
                memory_bytes=card.training_bytes["pre-training"]["bfloat16"],
                samples_per_gpu_s=rate_card(card, gpu, peak_tflops).samples_per_s(card.training_gmac),
                inputs={"T": find_start(card)},
            )
        )
    return tuple(candidates)


def rate_card(card: Card, gpu: str, peak_tflops: float | None = None) -> Rate:
    """Return the rate at which a GPU trains a size: measured where it was, else estimated.

    Raises:
        ValueError: a GPU whose peak is not known.
    """
    peaks: Mapping[str, float] = {name.upper(): peak for name, peak in KNOWN_PEAKS_TFLOPS.items()}
    peak = peak_tflops or peaks.get(gpu.upper())
    if peak is None:
        raise ValueError(f"gpu: no rates of {gpu!r}; {did_you_mean(gpu, tuple(KNOWN_PEAKS_TFLOPS))}")
    return find_rate(gpu, card.size, card.training_gmac, peak_tflops=peak)


def find_start(card: Card) -> float:
    """Return the published T of the family that a model belongs to: its decoder has gates where it is Gemma-2."""
    return FAMILY_STARTS["gemma" if card.num_parameters_by_part.get("gates") else "florence"]
