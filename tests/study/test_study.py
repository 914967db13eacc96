"""A study from nothing to its report; and from any number of kills to the same table."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.data.build.recipe import Recipe
from polyglance.evaluate.loss import VARIANTS
from polyglance.laws import Law
from polyglance.study.config import StudyConfig
from polyglance.study.grid import jobs, runs
from polyglance.study.study import plan, report, run, status
from polyglance.study.table import COLUMNS
from polyglance.train.config import RunConfig
from tests.study.tiny import write_tiny_study


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def done(config_path: Path) -> Iterator[StudyConfig]:
    """The tiny study, run from nothing by the command line."""
    subprocess.run([*POLYGLANCE, "study", "run", str(config_path)], check=True, env=ENV)
    return load(StudyConfig, config_path)


POLYGLANCE = [sys.executable, "-m", "polyglance"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def rows(config: StudyConfig) -> list[dict[str, str]]:
    with (config.out / "runs.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_from_nothing_to_a_report(done: StudyConfig) -> None:
    table = rows(done)
    assert [row["id"] for row in table] == [job.id for job in runs(done)]
    assert list(table[0]) == COLUMNS
    for row in table:
        p, p_t, f, s, c = (float(row[name]) for name in ("P", "P_t", "F", "S", "C"))
        assert c == pytest.approx(s * f * (1 + p_t / p))
        assert (p_t == p) == (row["family"] == "scratch")
        for name in ("T", "UC", "ST", "SC", "UC_prefix"):
            assert 0 < float(row[name]) < 20
    # T belongs to the starting point: the same whatever S is, another for another language model.
    starts = {(row["size"], row["start"], row["T"]) for row in table}
    assert len(starts) == len({start[:2] for start in starts}) == len({start[2] for start in starts})
    page = (done.out / "report" / "index.html").read_text()
    assert page.count("<svg") >= 4
    assert json.loads((done.out / "report" / "results.json").read_text())
    law = Law.load(done.out / "laws" / "product-UC_prefix.json")
    assert {"b0", "b_P", "b_S", "eps"} <= law["all"].parameters.keys()


@pytest.mark.slow
def test_table_and_losses_tell_the_same(done: StudyConfig) -> None:
    for job, row in zip(runs(done), rows(done), strict=True):
        record = json.loads((done.out / job.folder / "losses.json").read_text())
        unseen = [record["cells"][name]["losses"] for name in ("caption-fr", "caption-zh")]
        assert set(unseen[0]) == set(VARIANTS)
        assert float(row["UC"]) == pytest.approx(sum(cell["plain"]["mean_nats"] for cell in unseen) / 2)
        assert float(row["UC_prefix"]) == pytest.approx(sum(cell["prefix"]["mean_nats"] for cell in unseen) / 2)
        initial = [record["initial"][name]["losses"]["plain"]["mean_nats"] for name in ("caption-fr", "caption-zh")]
        assert float(row["T"]) == pytest.approx(sum(initial) / 2)
        captions = [json.loads(line) for line in (done.out / job.folder / "captions.jsonl").read_text().splitlines()]
        assert {(c["language"], bool(c["prefix"])) for c in captions} == {
            (code, prefix) for code in ("en", "fr", "zh") for prefix in (False, True)
        }
        assert all(c["caption"].startswith(c["prefix"]) for c in captions)


@pytest.mark.slow
def test_what_is_done_is_skipped_and_status_says_so(done: StudyConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.out.glob("runs/*/losses.json")}
    said: list[str] = []
    run(done, say=said.append)
    assert before == {path: path.stat().st_mtime_ns for path in done.out.glob("runs/*/losses.json")}
    assert len(said) == 1
    found = status(done)
    assert set(found.jobs.values()) == {"done"}
    assert found.losses.keys() == {job.id for job in runs(done)}
    assert all(planned.state == "done" for planned in plan(done).runs)
    table = (done.out / "runs.csv").read_bytes()
    report(done)
    assert (done.out / "runs.csv").read_bytes() == table


@pytest.mark.slow
def test_killed_at_ten_random_moments_gives_the_same_table(done: StudyConfig, tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path)
    moments = random.Random(7)
    killed = 0
    while killed < 10:
        process = subprocess.Popen(
            [*POLYGLANCE, "study", "run", str(path)], env=ENV, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=moments.uniform(3, 12))
            # It finished between two kills: the table has to be right, and the rest of the kills find work again.
            assert (tmp_path / "out" / "runs.csv").read_bytes() == (done.out / "runs.csv").read_bytes()
            shutil.rmtree(tmp_path / "out")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)  # the process alone: its workers have to notice by themselves
            process.wait()
            killed += 1
    subprocess.run([*POLYGLANCE, "study", "run", str(path)], check=True, env=ENV)
    killed_table = (tmp_path / "out" / "runs.csv").read_bytes()
    assert killed_table == (done.out / "runs.csv").read_bytes()


def test_a_changed_setting_makes_again_what_depends_on_it_and_no_more(config_path: Path) -> None:
    def marks(*overrides: str) -> dict[str, str]:
        return {job.id: job.fingerprint for job in jobs(load(StudyConfig, config_path, overrides=overrides))}

    base = marks()
    changed = {
        name: {job for job in base if marks(override).get(job) != base[job]}
        for name, override in {
            "lr": "families.0.optim.lr=0.1",
            "mix": "language_models.en.languages={en=1,fr=1}",
            "width": "families.0.widths=[8,16,24]",
            "title": "title=other",
            "data": "data.world.seed=3",
        }.items()
    }
    assert changed["lr"] == {job for job in base if job.startswith("scratch")}
    assert changed["mix"] == {job for job in base if "-en-" in job}
    assert changed["width"] == changed["title"] == set()
    assert changed["data"] == set(base)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("families.0.widhts=[8]", "families.0.widhts: unknown key; did you mean 'widths'?"),
        ('coverage.caption=["grman"]', "unknown language 'grman': did you mean 'de'?"),
        ('families.1.starts=["al"]', "starts from 'al'; did you mean 'all'?"),
        ("families.0.name=frozen", "each with a name of its own"),
        ("families.1.tower=true", ""),
        ("families.0.widths=[]", "needs widths (or else sizes), samples and starts"),
        ("seeds=[1,1]", "each once"),
        ("data.path=x", "give exactly one of world, table and path"),
        ("mixture.balance=cells", "'cells' is not a choice; did you mean 'cell'?"),
    ],
)
def test_a_mistake_is_one_line(config_path: Path, override: str, message: str) -> None:
    if not message:
        load(StudyConfig, config_path, overrides=[override])
        return
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(StudyConfig, config_path, overrides=[override])
    assert "\n" not in str(caught.value)


def test_the_command_line_answers_mistakes_in_one_line(config_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(config_path.read_text().replace("captions_per_cell", "captions_per_sell"))
    done = subprocess.run([*POLYGLANCE, "study", "plan", str(bad)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    line = bad.read_text().splitlines().index("captions_per_sell = 4") + 1
    assert done.stderr == (
        f"polyglance: {bad}:{line}: evaluation.captions_per_sell: unknown key; did you mean 'captions_per_cell'?\n"
    )


def test_two_processes_do_not_work_on_one_study(config_path: Path, tmp_path: Path) -> None:
    from polyglance.files import locked

    hold = partial(locked, tmp_path, "polyglance study run")
    with hold(), pytest.raises(ValueError, match="another `polyglance study run`"), hold():
        pass


def test_shipped_examples_load() -> None:
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.toml")):
        if path.stem.endswith("-mix"):
            assert load(Recipe, path).out
        elif path.stem == "run":
            assert load(RunConfig, path).evaluation
        else:
            config = load(StudyConfig, path)
            assert len(runs(config)) == len({job.id for job in runs(config)})
