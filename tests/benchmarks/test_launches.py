"""benchmarks/launches.py counts what a step of a published size calls."""

from pathlib import Path

import pytest


def test_own_step_waits_for_nothing_and_calls_little_outside_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import launches

    published, own, outside = (launches.count_calls("0.4b", kind) for kind in ("published", "own", "outside"))
    assert published[launches.WAIT] > 0, "or the counter would not see a wait"
    assert own[launches.WAIT] == 0
    assert outside.total() < published.total() / 4
    assert outside["compiled"] > 0
