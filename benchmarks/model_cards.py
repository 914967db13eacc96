"""Count the cards of the published sizes, and write them into the package.

    python benchmarks/model_cards.py

tests/study/test_published_cards.py says when this has to be done again: after a change of what a pass saves.
"""

from dataclasses import asdict

from polyglance.files import write_json
from polyglance.model.card_counts import count_card
from polyglance.model.card_record import CARDS_FILE
from polyglance.model.sizes import PUBLISHED


def main() -> None:
    lengths = {"image_size": 224, "source_tokens": 128, "target_tokens": 128, "beams": 4}
    cards = [asdict(count_card(size, **lengths)) for size in PUBLISHED]
    write_json(CARDS_FILE, {"made_by": "benchmarks/model_cards.py", "cards": cards}, indent=1)


if __name__ == "__main__":
    main()
