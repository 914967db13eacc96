"""The planner in a real browser, at two widths: its numbers are those of `law plan --json`, and its controls work."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.test_in_a_browser import BROWSER, open_page

from polyglance.cli import main
from polyglance.laws import Budget, Candidate, FitConfig, PlanConfig, Table, fit_law, load_law, plan_with_law
from polyglance.report.planner import PlannerLaw, hash_script, make_payload, write_planner
from polyglance.report.published_models import list_published_models

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium (apt-get install chromium)")
QUESTION = {
    "target": "2.8",
    "budget": "4000",
    "price": "3.5",
    "gpus": "4",
    "languages": "12",
    "currency": "EUR",
}
WORDS = (
    *("law", "plan", "paper", "--target", "2.8", "--max-money", "4000", "--price-per-gpu-hour", "3.5", "--gpus", "4"),
    *("--cells", "13", "--currency", "EUR"),
)


def read(document: str, name: str) -> dict[str, float | None]:
    """Return value, low and high of an answer of the page."""
    [tag] = re.findall(rf'<dd[^>]*id="planner-{name}"[^>]*>', document)
    found = dict(re.findall(r'data-(value|low|high)="([^"]*)"', tag))
    return {key: float(text) if text else None for key, text in found.items()}


def address(page: Path, **question: str) -> str:
    return page.resolve().as_uri() + "#" + "&".join(f"{key}={value}" for key, value in question.items())


@pytest.mark.parametrize(("width", "model"), [(1300, "11.2b"), (420, "0.4b")])
def test_the_page_says_what_law_plan_says(
    width: int, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "plan.html"
    main([*WORDS, "--page", str(page), "--json"])
    plan = json.loads(capsys.readouterr().out)
    document = open_page(address(page, model=model, **QUESTION), tmp_path / "profile", f"--window-size={width},900")
    assert 'data-ready="true"' in document
    [option] = [one for one in plan["options"] if one["name"] == model]
    pairs = {
        "target-samples": option["samples"],
        "target-hours": option["hours"],
        "target-gpu-hours": option["gpu_hours"],
        "target-money": option["money"],
        "target-score": plan["score"],
        "budget-loss": option["loss_at_cap"],
    }
    for name, expected in pairs.items():
        shown = read(document, name)
        for key in ("value", "low", "high"):
            assert shown[key] == pytest.approx(expected[key], rel=1e-6), (name, key)
    assert re.findall(r'data-model="([^$"]*)"', document) == [one["name"] for one in plan["options"]]


def test_a_law_with_an_offset_and_without_speeds(tmp_path: Path) -> None:
    """A law of one's own runs: the budget is compute, and a target below the floor is out of reach."""
    sizes, samples = [1e6, 4e6, 16e6] * 3, [1e5] * 3 + [1e6] * 3 + [1e7] * 3
    factors = [1.01 if i % 2 else 0.99 for i in range(9)]
    losses = [1.1 + 40 * p**-0.2 * s**-0.1 * f for p, s, f in zip(sizes, samples, factors, strict=True)]
    table = Table.from_columns({"P": sizes, "S": samples, "y": losses})
    law = fit_law(FitConfig(form="product", columns={"P": "P", "S": "S"}, bootstrap=60), table)
    models = (
        Candidate(name="<i>small", P=1e6, P_t=1e6, F_gmac=0.1),
        Candidate(name="large", P=2e7, P_t=1e7, F_gmac=2.0),
    )
    config = PlanConfig(target=1.35, budget=Budget(max_gmac=3e7))
    write_planner(tmp_path / "plan.html", law, models, config=config)
    plan = plan_with_law(config, law, candidates=models)
    question = {"target": "1.35", "budget": "3e7", "model": "large"}
    document = open_page(address(tmp_path / "plan.html", **question), tmp_path / "profile")
    for name, expected in (
        ("target-samples", plan.options[1].samples),
        ("target-compute", plan.options[1].compute_gmac),
        ("budget-loss", plan.options[1].loss_at_cap),
    ):
        shown = read(document, name)
        assert shown == {key: pytest.approx(getattr(expected, key), rel=1e-6) for key in ("value", "low", "high")}, name
    assert "&lt;i&gt;small" in document
    low = open_page(address(tmp_path / "plan.html", target="0.5"), tmp_path / "profile")
    assert read(low, "target-samples")["value"] is None
    assert "out of reach" in low


DRIVER = (Path(__file__).parent / "planner_driver.js").read_text()


@pytest.mark.parametrize("width", [1300, 420])
def test_controls_readings_and_downloads(width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["law", "plan", "paper", "--page", str(tmp_path / "plan.html"), "--price-per-gpu-hour", "2.5"])
    capsys.readouterr()
    text = (tmp_path / "plan.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    page = tmp_path / "driven.html"
    allowed = text.replace(
        "script-src '", f"script-src 'sha256-{hash_script(DRIVER)}' '"
    )  # under the page's own policy
    page.write_text(f"{allowed}<script>{DRIVER}</script>")
    # A window is never narrower than 500 px; a frame is.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<body style='margin:0'><iframe style='border:0;width:{width}px;height:900px' src='driven.html'></iframe>"
        "<script>setInterval(() => { const seen = frames[0].document.body?.dataset.seen;"
        "if (seen) document.body.dataset.seen = seen; }, 50)</script>"
    )
    options = ("--allow-file-access-from-files", "--window-size=1400,950", "--virtual-time-budget=20000")
    document = open_page(frame.resolve().as_uri(), tmp_path / "profile", *options, shortest=200)
    [found] = re.findall(r'data-seen="([^"]*)"', document)
    seen = json.loads(found.replace("&quot;", '"'))
    assert seen["width"] == width
    assert not seen["wider"]
    assert seen["twice"] == pytest.approx(2 * seen["money"])
    assert seen["refused"] == [seen["twice"], "a positive number"]
    assert seen["languages"] == pytest.approx(2 * seen["money"])
    assert seen["slid"] > 2.65
    assert seen["dragged"] > 2.65  # upwards: a higher loss
    assert "parameters: loss" in seen["reading"]
    assert "samples:" in seen["keys"]
    assert seen["keyed"] < seen["dragged"]
    assert "with 0.4b" in seen["model"]
    names = {f"planner-{chart}.{kind}" for chart in ("loss", "isoloss", "score") for kind in ("svg", "png", "csv")}
    assert {name for name, _, _ in seen["saved"]} == names
    for name, start, length in seen["saved"]:
        kind = name.rpartition(".")[2]
        assert start.startswith({"svg": "data:image/svg+xml", "png": "data:image/png", "csv": "data:text/csv"}[kind])
        assert length > (8000 if kind != "csv" else 1000)


def test_cells_are_counted_from_those_behind_the_law() -> None:
    """A law of a study with thirteen languages, whose captions are in one: one more cell is a fourteenth language."""
    paper = load_law("paper")
    law = replace(paper, data={**paper.data, "cells": 14, "languages": 13})
    models = tuple(list_published_models())
    planner = PlannerLaw(name="many", law=law, group="UC", loss="UC", models=models)
    config = PlanConfig(target=2.8, group="UC", budget=Budget(cells=15))
    payload = json.loads(str(make_payload([planner], config, keeps_address=False)))
    assert payload["laws"][0]["languages"] == 13
    assert payload["defaults"]["languages"] == 14


def test_what_a_page_cannot_plan_with_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("paper-compute-reconstructed", "--target", "2"), "a page needs"),
        (("chinchilla", "--target", "2.2", "--at", "N=1e9"), "a page needs"),
        (("paper",), "ends in .html"),
    ):
        name = "plan.html" if words != ("paper",) else "plan.pdf"
        with pytest.raises(SystemExit):
            main(["law", "plan", *words, "--page", str(tmp_path / name)])
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert load_law("paper").data["cells"] == 7
