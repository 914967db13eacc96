"""The page and results.json of a study folder."""

import base64
import hashlib
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markupsafe import escape
from synthetic_study import COVERAGE, grid, write_csv, write_laws, write_study

from polyglance.coverage import Cell, Coverage
from polyglance.laws import Law
from polyglance.report import ReportResult, wording, write_report
from polyglance.report.laws import format_held_out, format_r2
from polyglance.run_records import LossRecord, read_runs

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with attributes, and table rows as text; asserts that tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.sort_keys: list[list[str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append((tag, named))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.sort_keys.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.sort_keys[-1].append(named.get("data-sort", ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open) and self.rows:
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(folder: Path) -> tuple[ReportResult, str, Page]:
    result = write_report(folder)
    html = result.page.read_text(encoding="utf-8")
    return result, html, Page(html)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with laws, only to be read."""
    folder = write_study(tmp_path_factory.mktemp("study"))
    write_laws(folder)
    return folder


@pytest.fixture(scope="module")
def written(folder: Path) -> tuple[ReportResult, str, Page]:
    return report(folder)


SCRIPTS = ["application/json", "", ""]
"""Types of the page's scripts: the planner's data, the sorting of tables, the planner."""
PLANNER_FIGURES = 3


def row_of(page: Page, head: str) -> int:
    return next(index for index, row in enumerate(page.rows) if row and row[0].strip() == head)


def test_everything_is_there_and_nothing_is_loaded(written: tuple[ReportResult, str, Page]) -> None:
    result, html, page = written
    assert result.notes == ()
    assert result.num_runs == 48
    sections = [attributes["id"] for attributes in page.all("section")]
    assert sections[:6] == ["summary", "examples", "grid", "compute", "scaling", "prefix"]
    assert sections[6:] == ["scores", "laws", "planner-section", "runs", "definitions", "configuration"]
    assert len(page.all("figure")) == 2 + 1 + 5 + PLANNER_FIGURES
    assert len(page.all("svg")) == 1 + 1 + 1 + 3 + 5 + 3 + 4 + PLANNER_FIGURES
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert "http:" not in html
    assert "https:" not in html
    links = [value for _, attributes in page.tags for name in ("href", "src") if (value := attributes.get(name))]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(link.startswith("data:image/png;base64,") or link[1:] in ids for link in links)
    assert len(page.all("img")) == 1 + 2 * 4
    assert all(image["alt"].startswith("The image shows") for image in page.all("img"))
    assert len(html) < 800_000


def test_only_the_page_s_own_script_may_run(written: tuple[ReportResult, str, Page]) -> None:
    _, html, page = written
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert f"script-src {allowed};" in policy
    assert "default-src 'none'" in policy
    assert [script.get("type", "") for script in page.all("script")] == SCRIPTS


def test_table_of_runs_holds_the_numbers_of_the_file(folder: Path, written: tuple[ReportResult, str, Page]) -> None:
    _, _, page = written
    head = page.rows[row_of(page, "run")]
    columns = {"UC after prefix": "UC_prefix", "UC": "UC", "ST": "ST", "SC": "SC", "C": "C", "S": "S", "F": "F"}
    columns |= {"first token": "UC_first", "language": "right_language", "exact, prefix": "exact_match_prefix"}
    for run in read_runs(folder / "runs.csv"):
        row = row_of(page, run.id)
        for name, column in columns.items():
            assert float(page.sort_keys[row][head.index(name)]) == run[column]
        assert page.rows[row][head.index("UC after prefix")] == wording.format_loss(run["UC_prefix"])
        gain = run["UC_prefix_shuffled"] - run["UC_prefix"]
        assert page.rows[row][head.index("images shuffled")] == wording.format_signed(gain)


def test_language_table_holds_the_numbers_of_losses_json(folder: Path, written: tuple[ReportResult, str, Page]) -> None:
    result, _, page = written
    best = json.loads(result.results.read_text(encoding="utf-8"))["best"]["frozen"]
    record = LossRecord.read(folder / "runs" / best / "losses.json")
    cell = record.cells[Cell("caption", "fr")]
    plain, *others = (cell.losses[name] for name in ("plain", "prefix", "prefix_shuffled"))
    expected = ["French", *(wording.format_loss(loss.mean_nats) for loss in (plain, *others))]
    expected.append(wording.format_fixed(plain.nats / math.log(2) / plain.bytes))
    scores = [cell.generation[name] for name in ("plain", "prefix")]
    expected += [wording.format_share(score.right_language) for score in scores]
    expected += [wording.format_share(scores[0].right_language_of_references)]
    expected += [wording.format_share(score.exact_match) for score in scores]
    expected.append(wording.format_fixed(scores[1].cider))
    expected += [wording.format_share(scores[1].attributes[name]) for name in ("colour", "shape")]
    assert expected in [[text.strip() for text in row] for row in page.rows]


def test_results_json_is_the_files_unrounded(folder: Path, written: tuple[ReportResult, str, Page]) -> None:
    result, _, _ = written
    results = json.loads(result.results.read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in grid()}
    assert {run["id"]: run["UC_prefix"] for run in results["runs"]} == {
        name: row["UC_prefix"] for name, row in rows.items()
    }
    best = min((row for row in rows.values() if row["family"] == "frozen"), key=lambda row: row["UC_prefix"])
    assert results["best"]["frozen"] == best["id"]


def test_same_files_same_bytes(tmp_path: Path, folder: Path, written: tuple[ReportResult, str, Page]) -> None:
    again = write_report(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert again.page.read_bytes() == written[0].page.read_bytes()
    assert again.results.read_bytes() == written[0].results.read_bytes()


def test_laws_are_shown_with_intervals(folder: Path, written: tuple[ReportResult, str, Page]) -> None:
    _, html, page = written
    fit = Law.load(folder / "laws" / "compute-UC_prefix.json")["all"]
    start = row_of(page, "unseen captioning after the prefix")
    row = [" ".join(text.split()) for text in page.rows[start]]
    low, high = fit.intervals["a1"]
    assert row[1:3] == ["all runs", str(fit.num_rows)]
    ends = f"{wording.format_significant(low)} to {wording.format_significant(high)}"
    assert row[4] == f"{wording.format_significant(fit.parameters['a1'])} ({ends})"
    assert row[-3] == format_held_out(fit)
    assert row[-2:] == [wording.format_fixed(fit.r2_log), wording.format_fixed(fit.r2_raw)]
    assert "not determined" in html  # the exponent of T of a family that has one T
    for form in ("compute", "product"):
        law = Law.load(folder / "laws" / f"{form}-UC_prefix.json")
        messages = [warning.message for fit in law.fits.values() for warning in fit.warnings]
        assert messages
        assert all(str(escape(message)) in html for message in messages)


def test_frontier_runs_are_ringed(folder: Path, written: tuple[ReportResult, str, Page]) -> None:
    fit = Law.load(folder / "laws" / "compute-ST.json")["all"]
    (svg,) = [part for part in written[1].split("<svg")[1:] if 'aria-label="seen translation against compute' in part]
    assert len(re.findall(r'<use [^>]*style="fill-opacity: 0; stroke: var\(--ink\)"', svg)) == len(fit.frontier)


def test_law_of_other_runs_is_left_out(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    write_csv(tmp_path, grid()[:10])
    result, html, _ = report(tmp_path)
    assert "laws/product-UC_prefix.json was fitted on more runs than runs.csv holds and is left out." in result.notes
    assert "No law was fitted." in html


def test_text_of_users_stays_text(tmp_path: Path) -> None:
    evil = "</title><script>alert(1)</script>&amp;<img src=x onerror=alert(1)>$\\frac{1}{0}$"
    rows = [{**row, "size": f"<i>{row['size']}", "start": evil} for row in grid(seeds=1, frozen=False)]
    _, html, page = report(write_study(tmp_path, rows, title=evil, caption_suffix=evil))
    assert [script.get("type", "") for script in page.all("script")] == SCRIPTS
    assert len(page.all("img")) == 4
    assert not page.all("title")[1:] or all("onerror" not in attributes for _, attributes in page.tags)
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert "&lt;b&gt;budgets&lt;/b&gt;" in html


def test_captions_show_prefix_and_exact_matches(written: tuple[ReportResult, str, Page]) -> None:
    _, html, page = written
    assert '<span class="prefix">La photo montre</span> un cercle rouge' in html
    french = page.rows[row_of(page, "French unseen")]
    assert html.index("La photo montre") < html.index('<section id="grid">'), "captions come first"
    assert french[2].endswith("✓")
    assert french[1].endswith("✓") == (french[1].strip(" ✓") == french[3])


@pytest.mark.parametrize("family", ["scratch", "frozen"])
def test_one_run(tmp_path: Path, family: str) -> None:
    rows = [row for row in grid(seeds=1) if row["family"] == family][:1]
    _, html, page = report(write_study(tmp_path, rows))
    assert "No two runs differ in one variable only" in html
    assert len(page.all("svg")) == 1 + 1 + 3 + 3 + PLANNER_FIGURES


def test_other_languages_and_coverages(tmp_path: Path) -> None:
    coverage = Coverage(caption=("zh",), translation=("ru",))
    _, html, _ = report(write_study(tmp_path / "a", grid(seeds=1), coverage=coverage))
    assert "captions in Simplified Chinese" in html
    _, html, _ = report(write_study(tmp_path / "b", grid(seeds=1), coverage=Coverage(caption=("en", "de"))))
    assert "never trained" not in html.partition("</header>")[0]


def test_bare_runs_csv_is_enough(tmp_path: Path) -> None:
    write_study(tmp_path, [])
    write_csv(
        tmp_path, [{"id": "a", "family": "mine", "UC_prefix": 0.5}, {"id": "b", "family": "mine", "ST": math.nan}]
    )
    shutil.rmtree(tmp_path / "data")
    result, html, page = report(tmp_path)
    assert "losses.json is missing for a, b: what rests on it is left out." in result.notes
    assert "runs.csv has values that are not finite, treated as missing: ST of b." in result.notes
    assert all(note in html for note in result.notes)
    assert not any(name == "section" and attributes.get("id") == "examples" for name, attributes in page.tags)
    assert 'href="#examples"' not in html


def test_damaged_files_leave_a_note(tmp_path: Path) -> None:
    rows = grid(seeds=1, frozen=False)
    write_study(tmp_path, rows)
    best = min(rows, key=lambda row: row["UC_prefix"])["id"]
    first, second = [row["id"] for row in rows if row["id"] != best][:2]
    (tmp_path / "runs" / first / "losses.json").write_text("{", encoding="utf-8")
    (tmp_path / "runs" / second / "losses.json").write_text('{"format": 9, "cells": {}}', encoding="utf-8")
    (tmp_path / "runs" / first / "env.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "runs" / best / "captions.jsonl").write_text('{"key": "x"}\n', encoding="utf-8")
    (tmp_path / "laws").mkdir()
    (tmp_path / "laws" / "compute-ST.json").write_text("{}", encoding="utf-8")
    result, html, _ = report(tmp_path)
    assert len(result.notes) == 6
    assert all("\n" not in note for note in result.notes)
    assert str(tmp_path) not in html
    assert html.count("<li>runs/") == 3
    assert "captions.jsonl:1: the key &#39;language&#39; is missing" in html
    assert "laws/compute-ST.json could not be read" in html


def test_missing_and_damaged_images_leave_captions(tmp_path: Path) -> None:
    write_study(tmp_path, grid(seeds=1, frozen=False))
    (tmp_path / "data" / "test" / "manifest.json").unlink()
    result, html, page = report(tmp_path)
    assert len(page.all("img")) == 0
    assert html.count("image not found") == 4
    assert any("test images could not be read" in note for note in result.notes)


def test_two_hundred_runs(tmp_path: Path) -> None:
    rows = grid(seeds=6, sizes={f"d{i}": 10_000 * i**2 for i in range(3, 12)})[:200]
    write_study(tmp_path, rows)
    result, html, page = report(tmp_path)
    assert result.num_runs == 200
    assert len(html) < 2_000_000
    assert len([row for row in page.rows if row and row[0].startswith(("scratch-", "frozen-"))]) == 200


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("runs.csv", None, "no such file"),
        ("runs.csv", "id,family,P\na,scratch,many\n", "runs.csv:2: P: expected a number, got 'many'"),
        ("study.toml", None, "no such file"),
        ("study.toml", "a = ", "not valid TOML"),
        ("study.toml", "a = 1", "the table [coverage] is missing"),
        ("study.toml", "coverage.caption = ['xx']", "unknown language 'xx'"),
    ],
)
def test_one_line_for_what_there_is_no_report_without(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    write_study(tmp_path, grid(seeds=1)[:1])
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"\A.+\Z") as caught:
        write_report(tmp_path)
    assert message in str(caught.value)
    assert not (tmp_path / "report").exists()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such study folder"):
        write_report(tmp_path / "none")


NUMBER = st.one_of(st.none(), st.sampled_from([0.0, -1.0, math.inf, math.nan]), st.floats(1e-9, 1e25))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "family": st.sampled_from(["scratch", "frozen", "mine $x"]),
                "size": st.sampled_from(["d32", "d48", ""]),
                "start": st.sampled_from(["random", "six", "en"]),
                **dict.fromkeys(("P", "S", "C", "T", "UC", "UC_prefix", "UC_first", "ST"), NUMBER),
                **dict.fromkeys(("right_language", "UC_prefix_shuffled", "T_prefix"), NUMBER),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
@example([{"family": "scratch"}])
def test_any_numbers_give_a_page(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_study(tmp_path, [], coverage=COVERAGE)
    write_csv(tmp_path, [{**row, "id": f"r{index}"} for index, row in enumerate(rows)])
    assert report(tmp_path)[0].num_runs == len(rows)


def test_the_page_opens_with_a_right_caption_and_when_it_emerged(written: tuple[ReportResult, str, Page]) -> None:
    """In a language without captions, before all numbers; with the date and, in a checkout, the commit at the end."""
    _, html, _ = written
    opening = html[html.index('<div class="opening">') : html.index('<dl class="tiles">')]
    assert 'src="data:image/png;base64,' in opening
    assert any(f'lang="{code}"' in opening for code in ("fr", "es", "ru", "zh"))
    assert "of which the model saw no caption" in opening
    assert "samples seen in training" in opening
    assert "with captions" in opening
    assert re.search(r"Written by polyglance [\d.]+(, commit [0-9a-f]{7,})?, on \d{4}-\d\d-\d\d\.", html)


def test_r2_of_as_many_runs_as_parameters_is_not_shown(written: tuple[ReportResult, str, Page], folder: Path) -> None:
    fit = next(iter(Law.load(folder / "laws" / "compute-UC_prefix.json").fits.values()))
    few = replace(fit, rows=fit.rows[: len(fit.form.parameters)])
    assert (format_r2(fit, 0.9), format_r2(few, 1.0)) == ("0.900", wording.MISSING)
    assert "R²" in written[1]
