"""Numbers in words."""

import math

import pytest

from polyglance.report import wording


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.4951, "0.50"), (0.0287, "0.029"), (0.0998, "0.10"), (2.0, "2.00"), (math.nan, "–"), (math.inf, "–")],
)
def test_loss(value: float, expected: str) -> None:
    assert wording.format_loss(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.0, "100 %"), (0.9999, "99.9 %"), (0.985, "98.5 %"), (0.0, "0 %"), (0.25, "25 %"), (math.nan, "–")],
)
def test_share_is_full_only_where_it_is_exact(value: float, expected: str) -> None:
    assert wording.format_share(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (4_992, "5k"),
        (19_968, "20k"),
        (167_000, "167k"),
        (628_752, "629k"),
        (1_100_480, "1.1M"),
        (11.2e9, "11.2B"),
        (999_800, "1M"),
        (12, "12"),
    ],
)
def test_magnitude(value: float, expected: str) -> None:
    assert wording.format_magnitude(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-0.1523, "−0.152"),
        (23_400.0, "23,400"),
        (2.34e9, "2.34 × 10⁹"),
        (1e10, "10¹⁰"),
        (1e-7, "10⁻⁷"),
        (0.0, "0"),
        (-math.inf, "−∞"),
    ],
)
def test_significant(value: float, expected: str) -> None:
    assert wording.format_significant(value) == expected


def test_signed() -> None:
    assert [wording.format_signed(value) for value in (1.876, -0.034, -0.001, math.nan)] == [
        "+1.88",
        "−0.03",
        "±0.00",
        "–",
    ]
