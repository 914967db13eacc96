"""A model's card: parameters, multiply-accumulates and memory of a size, without allocating its weights.

Cards of all pairs and of some micro sizes at the usual lengths are in the package (cards.json, written by
benchmarks/model_cards.py) and are read without torch. Other sizes and lengths are counted on the meta device, which
takes seconds.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from polyglance.config import from_dict
from polyglance.files import read_json
from polyglance.model.card_record import CARDS_FILE, Card
from polyglance.model.sizes import FLORENCE, PUBLISHED, Pair, parse_pair

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
        target_tokens: decoder positions, each with logits over the whole vocabulary; None: as for `source_tokens`.

    Raises:
        ValueError: an unknown size, or lengths that it has no positions for.
    """
    given = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens, "beams": beams}
    for option, value in given.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; expected 1 or more")
    if not Path(name).exists() and (card := _find_card(name)) is not None:
        lengths = asdict(card)
        if all(value is None or value == lengths[option] for option, value in given.items()):
            return card
    from polyglance.model.card_counts import count_card

    return count_card(
        name, image_size=image_size, source_tokens=source_tokens, target_tokens=target_tokens, beams=beams
    )


def _find_card(name: str) -> Card | None:
    """Return the card of a size from those of the package; None if it has to be counted."""
    cards = _read_cards()
    name = name.replace("micro-bart-", "micro-")
    pair = parse_pair(name)
    if name in cards or pair is None:
        return cards.get(name)
    published = {value: key for key, value in PUBLISHED.items()}
    bare = f"{pair.florence}+{pair.gemma}" if pair.gemma else pair.florence
    first, second = cards.get(published.get(bare, bare)), cards.get(f"{bare}@2")
    if first is None or pair.every == 1:
        return None if first is None else replace(first, size=name)
    return None if second is None else replace(_take_blocks_away(first, second, pair), size=name)


def _take_blocks_away(first: Card, second: Card, pair: Pair) -> Card:
    """Return the card of a pair from those with a cross-attention block in every layer and in every second one: all
    counts are linear in the number of blocks."""
    num_first, num_second = (pair._replace(every=every).num_crossed for every in (1, 2))
    step = Fraction(pair.num_crossed - num_first, num_second - num_first)

    def between(one: Any, two: Any) -> Any:
        if isinstance(one, dict):
            return {name: between(value, two[name]) for name, value in one.items()}
        if isinstance(one, float):  # counts in 10^9
            return between(round(one * 1e9), round(two * 1e9)) / 1e9
        return one if isinstance(one, str) else int(one + step * (two - one))

    values = {name: between(value, getattr(second, name)) for name, value in vars(first).items()}
    num_layers = FLORENCE[pair.florence]["layers"] + pair.num_layers
    values["recomputed_bytes"] = {  # a layer's inputs, which every card has, and one layer's share of the activations
        policy: {
            precision: recomputed
            - first.activation_bytes[policy][precision] // num_layers
            + values["activation_bytes"][policy][precision] // num_layers
            for precision, recomputed in by_precision.items()
        }
        for policy, by_precision in first.recomputed_bytes.items()
    }
    return Card(**values)


@cache
def _read_cards() -> Mapping[str, Card]:
    cards = (from_dict(Card, values) for values in read_json(CARDS_FILE)["cards"])
    return {card.size: card for card in cards}
