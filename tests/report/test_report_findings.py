"""Summary and caveats follow the numbers."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import grid, write_study

from polyglance.laws import load_law
from polyglance.report.findings import find_caveats, make_tiles, summarise, take_away
from polyglance.report.folder import StudyFolder, read_study

Read = Callable[..., StudyFolder]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(rows: list[dict[str, Any]]) -> StudyFolder:
        return read_study(write_study(tmp_path, rows))

    return read


def ladder(losses: dict[int, float], column: str = "UC_prefix", **more: Any) -> list[dict[str, Any]]:
    base = grid(seeds=1)[0]
    return [{**base, "id": f"r{s}", "S": s, column: loss, **more} for s, loss in losses.items()]


def all_caveats(study: StudyFolder) -> str:
    return "\n".join(sentence for part in find_caveats(study, "UC_prefix").values() for sentence in part)


def test_the_summary_names_the_slope(read: Read) -> None:
    study = read(ladder({10_000: 1.4, 20_000: 1.5, 40_000: 0.6}))
    text = {finding.topic: finding.text for finding in summarise(study, "UC_prefix")}
    assert (
        "The loss falls with more samples, though not at every step: 1.40\u00a0→ 1.50\u00a0→ 0.60"
        in text["From scratch"]
    )
    assert text["Runs"] == "3 runs (3 from scratch), 78.5k parameters, 10k to 40k samples, 1 seed."


def test_tiles_show_the_best_run(read: Read) -> None:
    study = read(ladder({10_000: 1.4, 40_000: 0.6}, UC_prefix_shuffled=2.0, UC=0.95))
    assert [(tile.value, tile.detail) for tile in make_tiles(study, "UC_prefix")][:3] == [
        ("0.60", "nats per token; untrained 5.07, languages with captions 1.07"),
        ("+1.40", "after the prefix, to 2.00"),
        ("+0.35", "to 0.95"),
    ]


def test_what_to_take_away(read: Read) -> None:
    scores = {"attribute_accuracy_prefix": 0.93, "exact_match_prefix": 0.5}
    start = {**ladder({10_000: 0.9}, T_prefix=0.77)[0], "id": "start", "start": "six"}
    text = take_away(read([start, *ladder({10_000: 1.4, 40_000: 0.11}, **scores)]), "UC_prefix")
    assert text == (
        "Trained on captions in English and German alone, the best model captions in French, Spanish, Russian and "
        "Simplified Chinese: 93 % of the attributes right and 50 % of the captions right word for word."
    )
    unscored = {"attribute_accuracy_prefix": math.nan, "exact_match_prefix": math.nan}
    text = take_away(read([{**start, **unscored}, *ladder({10_000: 1.4, 40_000: 0.08}, **unscored)]), "UC_prefix")
    assert text.endswith(
        "with a loss of 0.080 nats per token, where a model that knows the texts and ignores the image has 0.770."
    )


def test_a_law_of_compute_is_said_for_each_family_and_only_where_it_is_one(read: Read) -> None:
    """A frontier over two families is no family's, and an interval that holds zero is no finding."""
    study, published = read(grid(seeds=1)), load_law("kaplan-2020-compute")
    fit = published.only

    def say(**intervals: tuple[float, float]) -> str:
        fits = {"all": fit} | {
            name: replace(fit, intervals={"a1": ends}, warnings=()) for name, ends in intervals.items()
        }
        law = replace(published, fits=fits)
        return " ".join(one.text for one in summarise(replace(study, laws={"compute-UC_prefix": law}), "UC_prefix"))

    text = say(scratch=(-0.9, -0.2), frozen=(-0.8, 0.1))
    assert "On the frontier of the runs from scratch the loss falls" in text
    assert "The runs with a frozen decoder do not show how the loss falls with compute" in text
    assert "holds zero" in text
    assert "all runs" not in text


def test_seeds(read: Read) -> None:
    assert "No setting was run with a second seed" in all_caveats(read(grid(seeds=1)))
    text = all_caveats(read(grid(seeds=2)))
    assert "24 settings with more than one seed" in text
    assert "No setting" not in text


def test_jump_is_called_a_jump_and_a_power_law_is_not(read: Read) -> None:
    jump = "ST falls 7.0 times as steeply (in log space) from 20,000 to 40,000 samples"
    assert jump in all_caveats(read(ladder({10_000: 0.8, 20_000: 0.4, 40_000: 0.4 / 2**7}, "ST")))
    assert "jump" not in all_caveats(read(ladder({10_000: 0.8, 20_000: 0.4, 40_000: 0.2}, "ST")))


def test_runs_no_better_than_blind(read: Read) -> None:
    rows = ladder({10_000: 1.4, 20_000: 0.98, 40_000: 0.6}, T_prefix=0.98, start="six")
    assert "2 of 3 runs are not below that" in all_caveats(read(rows))
    assert "blind" not in all_caveats(read(ladder({10_000: 0.9, 20_000: 0.8}, T_prefix=0.98, start="six")))
    assert "blind" not in all_caveats(read(ladder({10_000: 1.4}, T_prefix=0.98))), "a random start knows no texts"


def test_unused_images(read: Read) -> None:
    rows = ladder({10_000: 1.0, 20_000: 1.0}, UC_prefix_shuffled=1.05)
    assert "In 2 of 2 runs the images of other samples cost less" in all_caveats(read(rows))
    assert "hardly a change" in {finding.topic: finding.text for finding in summarise(read(rows), "UC_prefix")}["Image"]


def test_what_a_family_says_of_t_and_s(read: Read) -> None:
    text = all_caveats(read(grid(seeds=1)))
    assert "From scratch: T is 5.12 for every run." in text
    assert "Frozen decoder: the exponent of S rests on two sample budgets only." in text
    assert "two levels" not in text
    assert "families are not compared at equal cost" in text
    two_levels = [row for row in grid(seeds=1) if row["family"] == "frozen" and row["start"] != "mostly-en"]
    text = all_caveats(read(two_levels))
    assert "Frozen decoder: T has two levels only." in text
    assert "The families differ" not in text
