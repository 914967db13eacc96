"""Count the cards of all pairs and of the usual micro sizes, and write them into the package.

    python benchmarks/model_cards.py

tests/study/test_published_cards.py says when this has to be done again: after a change of what a pass saves.
"""

from dataclasses import asdict

from polyglance.files import write_json
from polyglance.model.card_counts import count_card
from polyglance.model.card_record import CARDS_FILE
from polyglance.model.sizes import FLORENCE, GEMMA, PUBLISHED

MICRO_WIDTHS = (32, 48, 64, 96, 128, 192, 256)


def main() -> None:
    lengths = {"image_size": 224, "source_tokens": 128, "target_tokens": 128, "beams": 4}
    pairs = [f"{florence}+{gemma}" for florence in FLORENCE for gemma in GEMMA]
    pairs = [name for name in pairs if name not in PUBLISHED.values()] + [f"{name}@2" for name in pairs]
    micro = [f"micro-{decoder}{width}" for decoder in ("", "gemma2-") for width in MICRO_WIDTHS]
    cards = [asdict(count_card(size, **lengths)) for size in (*PUBLISHED, *pairs)]
    cards += [
        asdict(count_card(size, image_size=None, source_tokens=None, target_tokens=None, beams=4)) for size in micro
    ]
    write_json(CARDS_FILE, {"made_by": "benchmarks/model_cards.py", "cards": cards}, indent=1)


if __name__ == "__main__":
    main()
