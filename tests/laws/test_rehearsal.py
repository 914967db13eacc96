"""The form that predicts the largest runs is chosen on the smaller ones, and is the one that the numbers follow."""

import itertools

import numpy as np
import pytest

from polyglance.laws import FitConfig, Table
from polyglance.laws.fitting.rehearsal import choose_form

SIZES, BUDGETS = (1e5, 2e5, 4e5, 8e5), (1e3, 2e3, 4e3)
FORMS = {
    "product(P, S)": lambda p, s: 9e4 * p**-0.5 * s**-0.7,
    "additive(P, S) without offset": lambda p, s: 2e4 * p**-0.9 + 5e3 * s**-1.2,
}


def candidates(*forms: tuple[str, bool]) -> list[FitConfig]:
    columns = {"P": "P", "S": "S", "y": "y"}
    return [FitConfig(form=form, columns=columns, bootstrap=0, offset=offset) for form, offset in forms]


def make_table(form: str, *, noise: float = 0.0, corner: float = 1.0, sizes: tuple[float, ...] = SIZES) -> Table:
    """All cells but the largest; a factor on the losses of the largest size, if it is wanted."""
    random = np.random.default_rng(0)
    cells = [cell for cell in itertools.product(sizes, BUDGETS) if cell != (sizes[-1], BUDGETS[-1])]
    y = [FORMS[form](p, s) * np.exp(noise * random.normal()) * (corner if p == sizes[-1] else 1) for p, s in cells]
    return Table.from_data({"P": [p for p, _ in cells], "S": [s for _, s in cells], "T": [6.0] * len(cells), "y": y})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_form_that_holds_is_chosen(form: str, noise: float) -> None:
    table = make_table(form, noise=noise)
    chosen = choose_form(candidates(("product", True), ("additive", False)), table)
    assert chosen.label == form
    assert chosen.protocol == "smaller corners"
    assert chosen.errors[form] < 0.5 * max(chosen.errors.values())
    assert set(chosen.errors) == set(FORMS), "both could predict every corner"


def test_a_gain_of_size_that_ends_is_noticed() -> None:
    """Five sizes, four budgets, three seeds: the larger sizes follow the same curve of samples."""
    p, s = (np.repeat(axis.ravel(), 3) for axis in np.meshgrid([1e5 * 2**i for i in range(5)], [1e3, 2e3, 4e3, 8e3]))
    y = (5e17 * p**-2.2 * s**-1.8 + 4e2 * s**-0.9) * np.exp(0.02 * np.random.default_rng(0).normal(size=len(p)))
    table = Table.from_data({"P": p, "S": s, "T": np.full(len(p), 6.0), "y": y})
    chosen = choose_form(candidates(("product", True), ("saturating", False), ("additive", False)), table)
    assert chosen.label == "saturating(P, S) without offset"
    assert chosen.errors[chosen.label] < 0.5 * chosen.errors["product(P, S)"]


def test_a_corner_is_predicted_from_runs_that_are_not_larger() -> None:
    """The largest size behaves in another way: corners of smaller sizes do not see it, so their errors stay."""
    corners = [choose_form(candidates(("product", False)), make_table("product(P, S)", corner=f)) for f in (1.0, 5.0)]
    label = "product(P, S) without offset"
    assert corners[0].errors[label] == pytest.approx(0.0, abs=1e-4)
    assert corners[1].errors[label] > 0.1
    below = make_table("product(P, S)", corner=5.0, sizes=SIZES)
    smaller = Table.from_data({name: below.numbers(name)[0][below.numbers("P")[0] < SIZES[-1]] for name in "PSTy"})
    assert choose_form(candidates(("product", False)), smaller).errors[label] == pytest.approx(0.0, abs=1e-4)


def test_a_grid_without_smaller_corners_leaves_each_cell_out() -> None:
    """Two sizes and three budgets, two seeds each: both seeds of a cell are left out together."""
    table = make_table("product(P, S)", sizes=SIZES[:2])
    doubled = Table.from_data({name: np.repeat(table.numbers(name)[0], 2) for name in "PSTy"})
    chosen = choose_form(candidates(("product", False), ("product", True)), doubled)
    assert chosen.protocol == "leave one out"
    assert chosen.num_rows == 10


def test_too_few_runs_leave_the_usual_form() -> None:
    table = Table.from_data({"P": [1e5, 2e5], "S": [1e3, 1e3], "T": [6.0, 6.0], "y": [0.5, 0.4]})
    chosen = choose_form(candidates(("product", True), ("additive", True)), table)
    assert (chosen.label, chosen.protocol, chosen.errors) == ("product(P, S)", "none", {})
