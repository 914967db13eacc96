"""Progress of a study, read while it is made: states, losses, hours, predictions, whatever is missing or damaged."""

import json
import os
import re
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.config import load
from polyglance.report.live import JobProgress, StudyProgress, describe_time, render_live_page
from polyglance.study import StudyConfig, plan_study
from polyglance.study.grid.job_state import fail_job
from polyglance.study.watching.progress import ProgressReader
from tests.study.progress_study import LARGEST, LONG, SMALL, WIDE, begin, find_job, finish, load_study, predict

PAPER = Path(__file__).parents[2] / "examples" / "paper.toml"


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    return load_study(tmp_path)


def read(config: StudyConfig, now_s: float | None = None) -> tuple[StudyProgress, dict[str, JobProgress], str]:
    progress = ProgressReader(config).read(now_s)
    return progress, {job.id: job for job in progress.jobs}, text_of(render_live_page(progress, is_live=False))


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page[page.index("<main") :]).split())


def test_a_study_that_is_not_begun(config: StudyConfig) -> None:
    progress, jobs, page = read(config)
    assert {job.state for job in jobs.values()} == {"to do"}
    assert (progress.spent_s, progress.num_unknown) == (0.0, 4)  # nothing says how long a step takes
    assert "0 of 4 runs are done, 4 to do. Read at" in page
    assert "without 4 jobs of unknown rate" in page
    assert "No run has written a loss yet." in page
    assert not config.out.exists()


def test_hours_are_those_of_the_logs(config: StudyConfig) -> None:
    begin(config, SMALL, (25, 3.0, 100.0), (50, 2.0, 50.0))  # 50 steps of 8: 2 s and 4 s
    finish(config, SMALL, 1.5)
    begin(config, LONG, (25, 3.5, 40.0))  # 5 s for 25 of 100 steps
    begin(config, WIDE)
    progress, jobs, page = read(config)
    assert (jobs[SMALL].state, jobs[LONG].state, jobs[WIDE].state) == ("done", "at work", "at work")
    assert (jobs[SMALL].spent_s, jobs[LONG].spent_s, progress.spent_s) == pytest.approx((6.0, 5.0, 11.0))
    assert jobs[LONG].left_s == pytest.approx(75 * 8 / 40)  # at its own rate
    assert (jobs[WIDE].left_s, jobs[LARGEST].left_s, progress.num_unknown) == (None, None, 2)
    begin(config, WIDE, (10, 3.5, 20.0))
    progress, jobs, page = read(config)
    assert jobs[LARGEST].left_s == pytest.approx(100 * 8 / 20)  # at that of the same size
    assert progress.left_s == pytest.approx(75 * 8 / 40 + 40 * 8 / 20 + 100 * 8 / 20)
    assert jobs[SMALL].curve == ((200, 3.0), (400, 2.0))
    assert "1 of 4 runs are done, 2 at work, 1 to do." in page
    assert f"{SMALL} done 400 of 400 2.00 50 6 s" in page


def test_predicted_stands_beside_measured(config: StudyConfig) -> None:
    assert "The predicted runs start when the others are done." in read(config)[2]
    for name in (SMALL, LONG, WIDE):
        begin(config, name, (50, 3.0, 100.0))
        finish(config, name, 1.5)
    predict(config, 1.25)
    row = "product(P, S) 3 1.25 1.15 to 1.35"
    assert f"{row} – – –" in read(config)[2]  # not measured yet, and neither inside nor outside
    begin(config, LARGEST, (100, 1.0, 100.0))
    finish(config, LARGEST, 1.0)
    page = read(config)[2]
    assert f"{row} 1.00 +25.0 % no" in page
    assert "median error 25 % (1 predicted from 3 smaller ones); 0 of 1 intervals hold what was measured" in page


def test_failed_silent_and_damaged_jobs_are_named(config: StudyConfig) -> None:
    begin(config, SMALL, (25, 3.0, 100.0))
    fail_job(config.out, find_job(config, SMALL), "the loss is <b>not</b> finite")
    folder = begin(config, LONG, (25, 3.0, 100.0))
    begin(config, WIDE, (50, 3.0, 100.0))
    finish(config, WIDE, 1.5)
    (config.out / "runs" / WIDE / "losses.json").write_text("{")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("no row\n" + '{"step": 50, "loss')
    now_s = max(path.stat().st_mtime for path in folder.iterdir())
    _, jobs, page = read(config, now_s + 200)
    assert (jobs[SMALL].state, jobs[LONG].state, jobs[LONG].steps_done) == ("failed", "at work", 25)
    assert f"{SMALL} failed: the loss is &lt;b&gt;not&lt;/b&gt; finite" in page
    assert f"runs/{LONG}/metrics.jsonl: lines that are no rows, left out: 1." in page
    assert f"runs/{WIDE}/losses.json" in page
    assert "its losses are left out." in page
    assert read(config, now_s + 4000)[1][LONG].state == "silent"
    os.utime(folder / "metrics.jsonl", (now_s + 3600, now_s + 3600))
    assert "clocks differ" in read(config, now_s)[2]


def test_files_of_other_settings_do_not_count(config: StudyConfig, tmp_path: Path) -> None:
    begin(config, SMALL, (25, 3.0, 100.0))
    (tmp_path / "way.toml").write_text((tmp_path / "way.toml").read_text().replace("batch_size = 8", "batch_size = 4"))
    _, jobs, _ = read(load(StudyConfig, tmp_path / "way.toml"))
    assert (jobs[SMALL].state, jobs[SMALL].spent_s, jobs[SMALL].curve) == ("to do", 0.0, ())


def test_published_runs_have_gpu_hours_and_money(tmp_path: Path) -> None:
    config = load(StudyConfig, PAPER, overrides=[f"out={tmp_path}"])
    name = "florence-0.4b-s512000-seed44595"
    begin(config, name, (250, 3.0, 1024.0))  # 250 of 500 steps of 1024, a second each
    progress, jobs, page = read(config)
    assert (progress.unit, progress.devices, progress.num_unknown) == ("GPU hours", 8, 0)
    assert (jobs[name].spent_s, jobs[name].left_s) == pytest.approx((250, 250))
    assert progress.price(3600) == pytest.approx(8 * 2.5)
    assert "GPU hours spent 0.56 planned in all: " in page
    assert progress.planned_s == pytest.approx(plan_study(config).seconds)
    assert "USD spent 1 at the price in study.toml" in page


def test_the_page_as_a_file(config: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(config, SMALL, (25, 3.0, 100.0))
    page = tmp_path / "pages" / "now.html"
    main(["study", "status", str(tmp_path / "way.toml"), "--page", str(page), "--json"])
    assert json.loads(capsys.readouterr().out)["jobs"][SMALL] == "begun"
    text = page.read_text()
    assert "<script" not in text
    assert "study, as it stands" in text
    with pytest.raises(SystemExit):
        main(["study", "status", str(tmp_path / "way.toml"), "--page", str(tmp_path)])
    assert capsys.readouterr().err.endswith("a folder; give the name of a file, such as status.html\n")


def test_lengths_of_time() -> None:
    times = (0.4, 99, 100, 5900, 6000, 3600 * 99, 3600 * 100, None)
    words = ["0 s", "99 s", "2 min", "98 min", "1.7 h", "99.0 h", "4.2 days", "–"]
    assert [describe_time(one) for one in times] == words
