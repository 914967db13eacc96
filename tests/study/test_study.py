"""A study from nothing to its report, and the same table after any number of kills."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from polyglance.config import load
from polyglance.coverage import SPLITS, Cell
from polyglance.data.build.recipe import Recipe
from polyglance.files import locked, read_record
from polyglance.laws import Budget, Law, PlanConfig, plan_with_law
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.run_records import RUN_COLUMNS, VARIANTS, LossRecord, read_runs
from polyglance.study import StudyConfig, plan_study, read_study_status, run_study, write_study_report
from polyglance.study.grid.job_configs import make_train_config
from polyglance.study.grid.jobs import list_jobs, list_runs
from polyglance.train.config import RunConfig
from tests.study.tiny import write_tiny_study

POLYGLANCE = [sys.executable, "-m", "polyglance"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def out(config_path: Path) -> Path:
    """The tiny study in `whole`, and once more, killed at ten random moments, in `killed`."""
    command = [sys.executable, "-m", "tests.study.killed", str(config_path), "10"]
    ended = subprocess.run(
        command, env=ENV, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=900
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return config_path.parent / "out"


@pytest.fixture(scope="module")
def done(config_path: Path, out: Path) -> StudyConfig:
    return load(StudyConfig, config_path, overrides=[f"out={out / 'whole'}"])


@pytest.mark.slow
def test_ten_kills_give_the_same_table(out: Path) -> None:
    assert (out / "killed" / "runs.csv").read_bytes() == (out / "whole" / "runs.csv").read_bytes()


@pytest.mark.slow
def test_a_killed_command_goes_on_in_worker_processes(config_path: Path, done: StudyConfig) -> None:
    killed = done.out.with_name("killed")
    left = [killed / job.folder for job in list_runs(done)[-2:]]
    for folder in left:
        shutil.rmtree(folder)
    command = [*POLYGLANCE, "study", "run", str(config_path), "--workers", "1", "--set", f"out={killed}"]
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.DEVNULL, start_new_session=True)
    while not any((folder / "config.toml").exists() for folder in left):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    process.send_signal(signal.SIGKILL)  # the process alone: its workers have to end by themselves
    process.wait()
    (killed / "runs.csv").unlink()
    ended = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "6 runs, 4 of them done" in ended.stderr
    assert (killed / "runs.csv").read_bytes() == (done.out / "runs.csv").read_bytes()


@pytest.mark.slow
def test_the_table_holds_what_runs_laws_and_report_hold(done: StudyConfig) -> None:
    rows = read_runs(done.out / "runs.csv")
    assert (done.out / "runs.csv").read_text().splitlines()[0] == ",".join(RUN_COLUMNS)
    assert [row.id for row in rows] == [job.id for job in list_runs(done)]
    for row in rows:
        assert row["C"] == pytest.approx(row["S"] * row["F"] * (1 + row["P_t"] / row["P"]))
        assert (row.P_t == row.P) == (row.family == "scratch")
        assert all(0 < row[name] < 20 for name in ("T", "T_prefix", *SPLITS, "UC_prefix", "UC_shuffled"))
    # T belongs to the starting point: it does not change with S, and changes with the language model.
    starts = {(row.size, row.start, row.T) for row in rows}
    assert len(starts) == len({start[:2] for start in starts}) == len({start[2] for start in starts})
    assert (done.out / "report" / "index.html").read_text().count("<svg") >= 4
    assert len(json.loads((done.out / "report" / "results.json").read_text())["runs"]) == len(rows)
    law = Law.load(done.out / "laws" / "product-UC_prefix.json")
    assert {"b0", "b_P", "b_S", "eps"} <= law["all"].parameters.keys()
    cells = len(done.coverage.cells)
    question = PlanConfig(group="all", target=2.0, at={"P": 1e4, "T": 6.0}, budget=Budget(cells=2 * cells))
    planned = plan_with_law(question, law)
    assert any(f"for {2 * cells} cells a run sees 2 times as much data" in note for note in planned.notes)


@pytest.mark.slow
def test_the_table_holds_the_means_of_the_losses(done: StudyConfig) -> None:
    with (done.out / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for job, row in zip(list_runs(done), rows, strict=True):
        record = json.loads((done.out / job.folder / "losses.json").read_text())
        assert record["initial"] == read_record(done.out / job.folder / "initial.json")
        unseen, initial = ([record[key][f"caption-{c}"] for c in ("fr", "zh")] for key in ("cells", "initial"))
        assert set(unseen[0]["losses"]) == set(VARIANTS)
        for column, cells, variant in (
            ("UC", unseen, "plain"),
            ("UC_prefix", unseen, "prefix"),
            ("T", initial, "plain"),
        ):
            mean = sum(cell["losses"][variant]["mean_nats"] for cell in cells) / 2
            assert float(row[column]) == pytest.approx(mean)
        shares = [cell["generation"]["prefix"]["right_language"] for cell in unseen]
        assert float(row["right_language_prefix"]) == pytest.approx(sum(shares) / 2)
        captions = [json.loads(line) for line in (done.out / job.folder / "captions.jsonl").read_text().splitlines()]
        expected = {(code, prefix) for code in ("en", "fr", "zh") for prefix in (False, True)}
        assert {(c["language"], bool(c["prefix"])) for c in captions} == expected
        assert all(c["caption"].startswith(c["prefix"]) for c in captions)


@pytest.mark.slow
def test_finished_jobs_are_skipped(done: StudyConfig) -> None:
    table = (done.out / "runs.csv").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in done.out.glob("runs/*/losses.json")}
    messages: list[str] = []
    result = run_study(done, say=messages.append)
    assert before == {path: path.stat().st_mtime_ns for path in done.out.glob("runs/*/losses.json")}
    assert messages == ["6 runs, all of them done; table, laws and report are up to date"]
    assert result.table.read_bytes() == table
    before = {path: path.stat().st_mtime_ns for path in done.out.glob("*/*") if path.is_file()}
    assert run_study(done) == replace(result, seconds=ANY)
    assert before == {path: path.stat().st_mtime_ns for path in before}, "table, laws and report are not made again"
    page = result.report.read_bytes()
    result.report.write_bytes(page[:-1])
    run_study(done)
    assert result.report.read_bytes() == page, "what has changed is made again"
    status = read_study_status(done)
    assert set(status.jobs.values()) == {"done"}
    losses = {job.id: LossRecord.read(done.out / job.folder / "losses.json") for job in list_runs(done)}
    assert status.losses == {name: record.split_loss("UC", "prefix") for name, record in losses.items()}


def test_a_plan_draws_a_sample_and_leaves_nothing_behind(config_path: Path, tmp_path: Path) -> None:
    plan = plan_study(load(StudyConfig, config_path, overrides=[f"out={tmp_path / 'new'}"]), workers=2)
    assert not (tmp_path / "new").exists()
    assert plan.sampled_images == 120
    assert [(run.state, run.samples) for run in plan.runs[:2]] == [("to do", 32), ("to do", 80)]
    assert plan.seconds > 0
    assert plan.training["separate"].samples == 2 * (32 + 80) + 2 * 80


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["families.0.widths=[8, 100000]"], r"scratch-d100000-.* needs at least [\d,]{6,} GB of memory for weights"),
        (["families.1.widths=[100000]"], r"lm-\w+-d100000 needs at least [\d,]{5,} GB"),
        (["families.0.widths=[2000000000]"], "no model of width 2,000,000,000 is possible"),
        (["families.0.widths=[400000000000000000000000]"], "no model of width 4[0,]{30} is possible"),
        (
            ["mixture.batch_size=8000000000", "families.0.samples=[8000000000]", "families.1.samples=[8000000000]"],
            "a step",
        ),
    ],
)
def test_what_no_memory_holds_is_not_made_for_a_plan(
    overrides: list[str], message: str, config_path: Path, tmp_path: Path
) -> None:
    config = load(
        StudyConfig, config_path, overrides=[f"out={tmp_path / 'new'}", "tower.samples=8000000000", *overrides]
    )
    with pytest.raises(ValueError, match=message) as error:
        plan_study(config, workers=1)
    assert "\n" not in str(error.value)


def test_jobs_are_listed_once_for_a_configuration(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job asks for the list, so that a list for each would cost the square of their number."""
    config = load(StudyConfig, config_path)
    listed = list_jobs(config)
    with monkeypatch.context() as patch:
        patch.setattr("polyglance.study.grid.jobs.fingerprint", lambda *_: pytest.fail("listed again"))
        assert list_jobs(config) is listed
    assert list_jobs(load(StudyConfig, config_path)) == listed

    class Inputs(dict[str, str]):
        """Digests that another thread lists jobs beside, while they are compared."""

        def __eq__(self, other: object) -> bool:
            with monkeypatch.context() as patch:
                patch.setattr("polyglance.study.grid.jobs.digest_inputs", lambda _: {})
                list_jobs(load(StudyConfig, config_path))
            return super().__eq__(other)

        __hash__ = None  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr("polyglance.study.grid.jobs.digest_inputs", lambda _: Inputs(other="input"))
        assert [list_jobs(config) == listed for _ in range(2)] == [True, True]
    monkeypatch.setattr("polyglance.study.grid.jobs.__version__", "another")
    assert {job.fingerprint for job in list_jobs(config)}.isdisjoint(job.fingerprint for job in listed)


def test_a_report_needs_finished_runs(config_path: Path, tmp_path: Path) -> None:
    config = load(StudyConfig, config_path, overrides=[f"out={tmp_path}"])
    assert set(read_study_status(config).jobs.values()) == {"to do"}
    with pytest.raises(ValueError, match=r"6 runs are not done .*`polyglance study run` makes them"):
        write_study_report(config)


def test_a_changed_setting_makes_again_what_depends_on_it_and_no_more(config_path: Path) -> None:
    def marks(*overrides: str) -> dict[str, str]:
        return {job.id: job.fingerprint for job in list_jobs(load(StudyConfig, config_path, overrides=overrides))}

    base = marks()
    changed = {
        name: {job for job in base if marks(override).get(job) != base[job]}
        for name, override in {
            "lr": "families.0.optim.lr=0.1",
            "mix": "language_models.en.languages={en=1,fr=1}",
            "width": "families.0.widths=[8,16,24]",
            "title": "title=other",
            "data": "data.world.seed=3",
            "weight": "mixture.first_token_weight=2.0",
            "tokens": "language_tokens=true",
            "no weight": "mixture.first_token_weight=1.0",
            "no tokens": "language_tokens=false",
        }.items()
    }
    assert changed["lr"] == {job for job in base if job.startswith("scratch")}
    assert changed["mix"] == {job for job in base if "-en-" in job}
    assert changed["width"] == changed["title"] == set()
    assert changed["data"] == set(base)
    assert changed["weight"] == {job.id for job in list_runs(load(StudyConfig, config_path))}
    assert changed["tokens"] == set(base) - {"data"}
    assert changed["no weight"] == changed["no tokens"] == set()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("families.0.widhts=[8]", "families.0.widhts: unknown key; did you mean 'widths'?"),
        ('coverage.caption=["grman"]', "unknown language 'grman': did you mean 'de'?"),
        ('families.1.starts=["al"]', "starts from 'al'; did you mean 'all'?"),
        ("families.0.name=frozen", "with different names"),
        ("families.0.name='=1+2'", "a spreadsheet would read it as a "),
        ('families.1.starts=["\\t@SUM(A1)"]', "a spreadsheet would read it as a "),
        ("families.0.widths=[]", "needs widths (or else sizes), samples and starts"),
        ("seeds=[1,1]", "each once"),
        ("data.path=x", "give exactly one of world, table and path"),
        ("laws.bootstrap=5", "bootstrap is 5; expected 0 or at least 20"),
        ("laws.targets=['UCC']", "'UCC' is not a column of numbers in runs.csv; did you mean 'UC'?"),
        ("mixture.balance=cells", "'cells' is not a choice; did you mean 'cell'?"),
        ("seeds=[-1]", "seeds has -1; expected 0 to 2^63 - 1"),
        (f"seeds=[{2**63}]", f"seeds has {2**63}; expected 0 to 2^63 - 1"),
        ("families.0.name=''", "'' is part of the names of folders"),
        ("families.0.name='../a'", "'../a' is part of the names of folders"),
        ('families.1.starts=["a/b"]', "'a/b' is part of the names of folders"),
        ("families.0.widths=[0]", "widths has 0; expected 1 or more"),
        ("families.0.widths=[8,8]", "widths has 8 twice; expected each once"),
        ("families.0.samples=[-5]", "samples has -5; expected 1 or more"),
        ("families.0.layers=0", "layers has 0; expected 1 or more"),
        ("tower.width=0", "tower: width is 0; expected 1 or more"),
        ("tower.blocks=-1", "tower: blocks is -1; expected 0 or more"),
        ("tower.samples=0", "tower: samples is 0; expected 1 or more"),
        ("machine.memory_gb=-3", "memory_gb is -3 and peak_tflops 989; expected positive"),
        ("machine.peak_tflops=inf", "memory_gb is 80 and peak_tflops inf; expected positive"),
    ],
)
def test_a_mistake_is_one_line(config_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(StudyConfig, config_path, overrides=[override])
    assert "\n" not in str(caught.value)


def test_the_command_line_answers_mistakes_in_one_line(config_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(config_path.read_text().replace("captions_per_cell", "captions_per_sell"))
    ended = subprocess.run([*POLYGLANCE, "study", "plan", str(bad)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    line = bad.read_text().splitlines().index("captions_per_sell = 4") + 1
    assert ended.stderr == (
        f"polyglance: {bad}:{line}: evaluation.captions_per_sell: unknown key; did you mean 'captions_per_cell'?\n"
    )


def test_two_processes_do_not_work_on_one_study(config_path: Path, tmp_path: Path) -> None:
    config = load(StudyConfig, config_path, overrides=[f"out={tmp_path}"])
    with locked(tmp_path, "polyglance study run"):
        for verb in (run_study, plan_study):
            with pytest.raises(ValueError, match="another `polyglance study run` works on it"):
                verb(config)


def test_shipped_examples_load() -> None:
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.toml")):
        if path.stem.endswith("-mix") or path.stem.startswith("build"):
            assert load(Recipe, path).out
        elif path.stem == "run":
            assert load(RunConfig, path).evaluation
        else:
            assert list_runs(load(StudyConfig, path))


def test_a_tower_is_trained_on_captions_whatever_the_shares_of_cells() -> None:
    config = load(StudyConfig, Path(__file__).parents[2] / "examples" / "many.toml")
    (tower,) = (job for job in list_jobs(config) if job.kind == "tower")
    settings = make_train_config(config, tower)
    assert compute_cell_weights(settings.coverage, settings.mixture.balance) == {Cell("caption", "en"): 1.0}
    (run,) = {job.kind: job for job in list_jobs(config) if job.samples == 20_000 and job.kind == "run"}.values()
    shares = compute_cell_weights(config.coverage, make_train_config(config, run).mixture.balance)
    assert len(shares) == 14
    assert shares[Cell("caption", "en")] == 4 * shares[Cell("translation", "sw")]
