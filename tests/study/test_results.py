"""Table, laws and report as runs end: the same at the end as without, and at each moment those of the runs that are
done."""

import math
import re
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.files import DIGESTS_NAME, locked, read_digests, seal_files
from polyglance.run_records import read_runs
from polyglance.study import StudyConfig, run_study, write_study_report
from polyglance.study.grid.job_state import forget_job
from polyglance.study.grid.jobs import list_runs
from polyglance.study.grid.verify import verify_folder
from polyglance.study.results import write as results
from polyglance.study.watching.progress import ProgressReader

TOML = """
out = "{out}"
data.world = {{ num_train_images = 60, num_test_images = 20 }}
coverage = {{ caption = ["en"], translation = ["en", "fr"] }}
mixture.batch_size = 8
families = [{{ name = "scratch", widths = [8], samples = [16, 80, 240, 480] }}]
evaluation = {{ samples_per_cell = 4, captions_per_cell = 2, examples = 1, max_new_tokens = 4 }}
laws = {{ targets = ["UC_prefix"], bootstrap = 0 }}
"""


def write_study(folder: Path, name: str) -> StudyConfig:
    path = folder / f"{name}.toml"
    path.write_text(TOML.format(out=folder / name))
    return load(StudyConfig, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def done(folder: Path) -> StudyConfig:
    config = write_study(folder, "done")
    run_study(config, workers=1)
    return config


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_EVERY_S", 0.0)
    monkeypatch.setattr(results, "_SHARE", math.inf)


def read_page(config: StudyConfig) -> str:
    text = (config.out / "report" / "index.html").read_text()
    return " ".join(re.sub(r"<[^>]*>", " ", text[text.index("<main") :]).split())


@pytest.mark.usefixtures("always")
def test_results_come_as_runs_end_and_are_the_same_in_the_end(folder: Path, done: StudyConfig) -> None:
    config, seen = write_study(folder, "watched"), list[tuple[int, str, int]]()

    def say(line: str) -> None:
        if line.startswith("table, laws and report so far"):
            laws = ProgressReader(config).read().laws
            notes = re.search(r"\d of 4 runs are done: [^.]*\.", read_page(config))
            assert notes is not None
            seen.append(
                (len(read_runs(config.out / "runs.csv")), notes[0], max((law.num_runs for law in laws), default=0))
            )

    run_study(config, workers=1, say=say)
    ending = "runs are done: table, laws and this page are of those that are done."
    assert [(number, note) for number, note, _ in seen] == [(n, f"{n} of 4 {ending}") for n in (1, 2, 3)]
    assert seen[-1][2] == 3, "the live page has the laws of the three runs"
    assert ending not in read_page(config)
    assert (config.out / "runs.csv").read_bytes() == (done.out / "runs.csv").read_bytes()
    for name in ("compute-UC_prefix", "product-UC_prefix"):
        laws = [(one.out / "laws" / f"{name}.json").read_text() for one in (config, done)]
        assert laws[0].replace("watched", "done").partition('"seal"')[0] == laws[1].partition('"seal"')[0]


def test_results_are_written_seldom(done: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, written = [0.0], list[float]()

    def write(config: StudyConfig) -> None:
        written.append(now_s[0])
        now_s[0] += 10.0
        raise ValueError("no room\nat all")

    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    monkeypatch.setattr(results, "write_results", write)
    said: list[str] = []
    so_far = results.ResultsSoFar(done, said.append)
    run = list_runs(done)[0]
    for _ in range(1000):
        so_far.note(run)
        so_far.refresh()
        now_s[0] += 1.0
    # The first after two minutes; then twenty times the ten seconds that it took.
    assert written == [120.0, 330.0, 540.0, 750.0, 960.0]
    assert said == ["table, laws and report are not written yet: no room at all"] * 5
    now_s[0] += 1e6
    so_far.note(run)
    so_far.refresh()
    so_far.refresh()
    now_s[0] += 1e6
    so_far.refresh()
    assert len(written) == 6, "nothing has ended since"


def test_a_report_of_some_runs_says_so_and_is_not_taken_for_that_of_all(done: StudyConfig) -> None:
    table, run = (done.out / "runs.csv").read_bytes(), list_runs(done)[0]
    for name in ("compute-ST.json", "mine.json"):
        (done.out / "laws" / name).write_bytes((done.out / "laws" / "compute-UC_prefix.json").read_bytes())
    seal_files(done.out / "laws", ["compute-ST.json"])
    forget_job(done.out, run, goes_on=True)
    with locked(done.out, "test"), pytest.raises(ValueError, match="another `polyglance study run` works on it"):
        write_study_report(done)
    assert write_study_report(done).num_runs == 3
    assert "3 of 4 runs are done: table, laws and this page are of those that are done." in read_page(done)
    assert len(read_runs(done.out / "runs.csv")) == 3
    # A law that is no longer asked for is gone, one of the user's stays.
    names = {path.name for path in (done.out / "laws").glob("*.json")} - {DIGESTS_NAME}
    assert names == {"compute-UC_prefix.json", "product-UC_prefix.json", "mine.json"}
    assert names == {*read_digests(done.out / "laws")}
    assert run_study(done, workers=1).num_runs == 4
    assert (done.out / "runs.csv").read_bytes() == table
    assert verify_folder(done.out).problems == ()


def test_laws_of_other_measurements_are_not_shown(done: StudyConfig) -> None:
    assert {(law.form, law.num_runs) for law in ProgressReader(done).read().laws} == {("compute", 4), ("product", 4)}
    forget_job(done.out, list_runs(done)[0], goes_on=True)
    assert ProgressReader(done).read().laws == (), "the table has a run that is not done"
