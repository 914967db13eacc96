"""Cards in the package, and hours from measured rates."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from polyglance.model.card import make_card
from polyglance.model.card_counts import count_card
from polyglance.model.rates import MeasuredRate, find_rate, read_rates
from polyglance.model.scaling import Network, estimate_step
from polyglance.model.sizes import PUBLISHED
from polyglance.study.grid.waiting import estimate_waiting, waiting_shares

LENGTHS = {"image_size": 224, "source_tokens": 128, "target_tokens": 128, "beams": 4}


@pytest.mark.parametrize("name", ["0.4b", "base+gemma-2-2b@13", "micro-bart-48", "micro-gemma2-64"])
def test_a_card_of_the_package_is_what_is_counted(name: str) -> None:
    """Saved activations depend a little on the releases of torch and transformers; counts do not. That of `@13` is made
    of two others."""
    lengths = {key: None if name.startswith("micro") and key != "beams" else value for key, value in LENGTHS.items()}
    kept, counted = asdict(make_card(name)), asdict(count_card(name.replace("micro-bart", "micro"), **lengths))
    for name in ("training_bytes", "activation_bytes", "recomputed_bytes"):
        by_policy = kept.pop(name)
        for policy, by_precision in counted.pop(name).items():
            assert by_policy[policy] == pytest.approx(by_precision, rel=0.05), (name, policy)
    assert kept == counted


def test_cards_of_pairs_and_micro_sizes_are_there_without_torch() -> None:
    names = [*PUBLISHED, "large", "base+gemma-2-27b@5", "large+gemma-2-9b@2", "micro-96", "micro-gemma2-32"]
    code = (
        "import sys; from polyglance.model.card import make_card\n"
        f"print([make_card(name).size for name in {names}], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{names} False"


def test_the_published_grid_is_planned_without_torch(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "examples" / "paper.toml"
    code = (
        "import sys; from polyglance.config import load; from polyglance.study import StudyConfig, plan_study\n"
        f"config = load(StudyConfig, {str(path)!r}, overrides=[{f'out={tmp_path}'!r}])\n"
        "plan_study(config); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def measured(card: str, size: str, tflops: float, peak: float = 989.0) -> MeasuredRate:
    return MeasuredRate(
        card=card, peak_tflops=peak, size=size, work="train", samples_per_s=1.0, tflops=tflops, date="2026-01-01",
        command="a test",
    )  # fmt: skip


def test_a_measured_rate_is_taken_as_it_is_and_others_are_called_estimates() -> None:
    rates = [measured("NVIDIA H100 80GB HBM3", "0.4b", 200.0), measured("NVIDIA H100 80GB HBM3", "3.5b", 400.0)]
    macs = {size: make_card(size).training_gmac for size in PUBLISHED}

    def rate(card: str, size: str, peak: float = 989.0) -> tuple[float, bool]:
        found = find_rate(card, size, macs[size], peak_tflops=peak, rates=rates)
        assert found.basis.startswith("measured on" if found.is_measured else "estimated from")
        return found.tflops, found.is_measured

    assert rate("H100", "3.5b") == (400.0, True)
    assert rate("H100", "11.2b") == (400.0, False)  # not beyond what was measured
    between, is_measured = rate("H100", "1.0b")
    assert 200 < between < 400
    assert not is_measured
    assert rate("A100", "3.5b", peak=312.0) == (pytest.approx(400 * 312 / 989), False)
    small = find_rate("H100", "micro-96", macs["0.4b"] / 1000, peak_tflops=989.0, rates=rates)
    assert small.samples_per_s(macs["0.4b"] / 1000) == pytest.approx(200e3 / (2 * macs["0.4b"]))
    # Samples per second fall with the size between two measured ones.
    samples = [find_rate("H100", s, macs[s], peak_tflops=989.0, rates=rates).samples_per_s(macs[s]) for s in PUBLISHED]
    assert samples == sorted(samples, reverse=True)


def test_the_table_names_how_each_rate_was_measured() -> None:
    assert read_rates()
    for rate in read_rates():
        assert rate.command
        assert rate.date
        assert rate.size in PUBLISHED
        assert 0 < rate.tflops < rate.peak_tflops


def test_messages_that_computing_hides_cost_nothing_and_others_do() -> None:
    def efficiency(strategy: str, devices: int, compute_s: float, **options: int) -> float:
        step = estimate_step(
            strategy,  # type: ignore[arg-type]
            devices=devices,
            compute_s=compute_s,
            passes=2,
            num_parameters=3_500_000_000,
            num_trained=1_100_000_000,
            network=Network(),
            **options,
        )
        return step.efficiency

    assert efficiency("ddp", 1, 1.0) == 1
    assert efficiency("ddp", 8, 1.0) > 0.99
    for strategy in ("ddp", "fsdp"):
        shares = [efficiency(strategy, devices, 0.05) for devices in (8, 64, 512)]
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] < 0.9
    assert efficiency("ddp", 64, 0.05, gradient_bytes=2) > efficiency("ddp", 64, 0.05)
    # 1.1e9 gradients of 4 bytes, there and back, at 320 GB/s over 64 devices: 27 ms, less 2/3 * 25 * 0.9 hidden.
    assert efficiency("ddp", 64, 0.05) == pytest.approx(0.05 / (0.05 + 0.0271 + 0.003 - 0.015), rel=0.02)


def test_waiting_is_that_of_the_loops_division_and_lengthens_the_step() -> None:
    """A single pass a step waits for the longest of all micro-batches; more passes even it out, for replicas most."""

    def waiting(strategy: str, passes: int, devices: int = 8) -> float:
        return estimate_waiting(strategy, devices=devices, passes=passes, samples=32, image_tokens=50)  # type: ignore[arg-type]

    assert waiting("ddp", 4, devices=1) == 0
    assert waiting("ddp", 1) == waiting("fsdp", 1) == pytest.approx(0.52, abs=0.02)  # benchmarks/scaling.py
    assert waiting("ddp", 4) == pytest.approx(0.10, abs=0.02)
    assert waiting("fsdp", 4) == pytest.approx(0.17, abs=0.02)
    network, sizes = Network(), {"devices": 8, "passes": 4, "num_parameters": 10**9, "num_trained": 10**9}
    for strategy in ("ddp", "fsdp"):
        alone = estimate_step(strategy, compute_s=1.0, network=network, **sizes)
        step = estimate_step(strategy, compute_s=1.0, network=network, waiting_share=0.25, **sizes)
        assert step.seconds == pytest.approx(alone.seconds + 0.25)
        assert step.efficiency == pytest.approx(1 / step.seconds)


def test_shards_wait_in_every_pass_and_replicas_at_the_end() -> None:
    positions = np.array([[4, 1], [2, 3]])
    assert waiting_shares(positions) == {"ddp": 0.0, "fsdp": pytest.approx(7 / 5 - 1)}
