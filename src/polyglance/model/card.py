"""A model's card: parameters, multiply-accumulates and memory of a size, without allocating its weights.

Cards of the published sizes are in the package (cards.json, written by benchmarks/model_cards.py), so that they are
there at once and torch is not loaded; other sizes and lengths are counted on the meta device, which takes seconds.
"""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from polyglance.config import from_dict
from polyglance.files import read_json
from polyglance.model.card_record import CARDS_FILE, Card

__all__ = ["make_card"]


def make_card(
    name: str,
    *,
    image_size: int | None = None,
    source_tokens: int | None = None,
    target_tokens: int | None = None,
    beams: int = 4,
) -> Card:
    """Return the costs of a size (see `polyglance.model.sizes.resolve_size`).

    Args:
        image_size: side of the square image, in pixels; None: 224, or the size that a micro model is made for.
        source_tokens: prompt tokens, without the image's; None: 128, or as many as there are positions for.
        target_tokens: decoder positions, each with logits over the whole vocabulary; None: likewise.

    Raises:
        ValueError: an unknown size, or lengths that it has no positions for.
    """
    given = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens, "beams": beams}
    for option, value in given.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; 1 or more is right")
    asked = {"size": name, **{option: value for option, value in given.items() if value is not None}}
    for card in _read_cards():
        if not Path(name).exists() and asked.items() <= asdict(card).items():
            return card
    from polyglance.model.card_counts import count_card

    return count_card(
        name, image_size=image_size, source_tokens=source_tokens, target_tokens=target_tokens, beams=beams
    )


@cache
def _read_cards() -> tuple[Card, ...]:
    return tuple(from_dict(Card, values) for values in read_json(CARDS_FILE)["cards"])
