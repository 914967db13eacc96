"""The four published models as candidates of a plan: from their cards and the package's table of measured rates."""

from collections.abc import Mapping

from polyglance.languages import did_you_mean
from polyglance.laws import Candidate
from polyglance.model.card import make_card
from polyglance.model.card_record import Card, find_start
from polyglance.model.rates import KNOWN_PEAKS_TFLOPS, Rate, find_rate

__all__ = ["PUBLISHED_SIZES", "list_published_models"]

PUBLISHED_SIZES = ("0.4b", "1.0b", "3.5b", "11.2b")


def list_published_models(gpu: str = "H100") -> tuple[Candidate, ...]:
    """Return the published models, with the T of their family and the speed of one GPU.

    Args:
        gpu: a word of the GPU's name, such as H100.

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
                samples_per_gpu_s=_find_rate_of_card(card, gpu).samples_per_s(card.training_gmac),
                inputs={"T": find_start(card)},
            )
        )
    return tuple(candidates)


def _find_rate_of_card(card: Card, gpu: str) -> Rate:
    """Return the rate at which a GPU trains a size: measured where it was, else estimated.

    Raises:
        ValueError: a GPU whose peak is not known.
    """
    peaks: Mapping[str, float] = {name.upper(): peak for name, peak in KNOWN_PEAKS_TFLOPS.items()}
    peak = peaks.get(gpu.upper())
    if peak is None:
        raise ValueError(f"gpu: no rates of {gpu!r}; {did_you_mean(gpu, tuple(KNOWN_PEAKS_TFLOPS))}")
    return find_rate(gpu, card.size, card.training_gmac, peak_tflops=peak)
