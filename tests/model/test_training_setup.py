"""Recommended setups: the published ones, and none that does not fit."""

import pytest

from polyglance.distributed import RuntimeConfig
from polyglance.model.card import make_card
from polyglance.model.card_record import Card
from polyglance.model.training_setup import recommend_setup

GB = 10**9


@pytest.fixture(scope="module")
def cards() -> dict[str, Card]:
    return {name: make_card(name) for name in ("0.4b", "11.2b")}


def test_published_choices_on_eight_devices_of_80_gb(cards: dict[str, Card]) -> None:
    """Replicas for the small, shards for the largest; 1,024 samples a step (official code section 3)."""
    small = recommend_setup(cards["0.4b"], devices=8, device_bytes=80 * GB, batch_size=1024)
    large = recommend_setup(cards["11.2b"], devices=8, device_bytes=80 * GB, batch_size=1024)
    assert small is not None
    assert large is not None
    assert (small.strategy, small.micro_batch_size, small.accumulation) == ("ddp", 128, 1), "all that fits"
    assert large.strategy == "fsdp"


@pytest.mark.parametrize("device_gb", [6, 12, 24, 80])
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_every_setup_fits_and_adds_up_to_the_batch(cards: dict[str, Card], devices: int, device_gb: int) -> None:
    for card in cards.values():
        setup = recommend_setup(card, devices=devices, device_bytes=device_gb * GB, batch_size=96 * devices)
        if setup is not None:
            assert setup.bytes_per_device <= device_gb * GB
            assert setup.micro_batch_size * setup.accumulation * devices == 96 * devices
            assert (setup.strategy == "single") == (devices == 1)


@pytest.mark.parametrize(("devices", "batch_size"), [(7, 1024), (2048, 1024)])
def test_batches_that_training_cannot_divide_are_refused(cards: dict[str, Card], devices: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match=r"a batch of 1,024 samples cannot be divided over .* devices"):
        recommend_setup(cards["0.4b"], devices=devices, device_bytes=80 * GB, batch_size=batch_size)
    with pytest.raises(ValueError, match="cannot be divided over"):
        RuntimeConfig().num_micro_batches(batch_size, devices)


def test_a_huge_batch_is_divided_at_once(cards: dict[str, Card]) -> None:
    setup = recommend_setup(cards["0.4b"], devices=1, device_bytes=80 * GB, batch_size=2**300)
    usual = recommend_setup(cards["0.4b"], devices=1, device_bytes=80 * GB, batch_size=2**12)
    assert setup is not None
    assert usual is not None
    assert setup.micro_batch_size == usual.micro_batch_size
    assert setup.micro_batch_size * setup.accumulation == 2**300


def test_no_setup_where_nothing_fits(cards: dict[str, Card]) -> None:
    assert recommend_setup(cards["11.2b"], devices=1, device_bytes=24 * GB, batch_size=64) is None
