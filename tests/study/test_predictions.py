"""Predictions of the largest runs: made before they start, from the others alone, and right where a law holds."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from polyglance import __version__
from polyglance.config import fingerprint, load, to_dict
from polyglance.files import read_record
from polyglance.laws import FitConfig, Table, fit_law
from polyglance.prediction_records import RunPredictions
from polyglance.run_records import RunRow, read_runs, write_runs
from polyglance.study import StudyConfig, read_study_status, run_study
from polyglance.study.config import MachineConfig, PredictionConfig
from polyglance.study.grid.job_state import forget_job, is_done
from polyglance.study.grid.jobs import Job, is_held_out, list_jobs, list_runs, list_work
from polyglance.study.places.schedulers import ThisProcess
from polyglance.study.results import predictions
from polyglance.study.study import StudyResult
from polyglance.study.work import do_job
from polyglance.study.work.attempt import try_job

from .killed_in import run_until_killed

TOML = """
out = "{out}"
prediction = {{}}
seeds = {seeds}
[data.world]
num_train_images = 120
num_test_images = 40
[coverage]
caption = ["en"]
translation = ["en", "fr"]
[mixture]
batch_size = 8
[[families]]
name = "scratch"
widths = {widths}
samples = {samples}
[evaluation]
samples_per_cell = 4
captions_per_cell = 2
translations_per_cell = 2
ambiguous_per_cell = 2
max_new_tokens = 3
[laws]
targets = ["UC_prefix"]
bootstrap = 20
"""


def make_config(folder: Path, *, widths: str, samples: str, seeds: str = "[0]") -> StudyConfig:
    path = folder / "study.toml"
    path.write_text(TOML.format(out=folder / "out", widths=widths, samples=samples, seeds=seeds))
    return load(StudyConfig, path)


def test_the_prediction_stands_between_the_others_and_the_largest(tmp_path: Path) -> None:
    config = make_config(tmp_path, widths="[8, 16]", samples="[32, 80]", seeds="[0, 1]")
    jobs = {job.id: job for job in list_jobs(config)}
    held_out = [f"scratch-d16-s80-seed{seed}" for seed in (0, 1)]
    assert [job.id for job in list_runs(config) if is_held_out(config, job)] == held_out
    assert list(jobs)[-3:] == ["prediction", *held_out]
    assert set(jobs["prediction"].after) == {job.id for job in list_runs(config)} - set(held_out)
    assert all(jobs[name].after == ("prediction",) for name in held_out)
    plain = {job.id: job for job in list_jobs(replace(config, prediction=None))}
    assert all(job.fingerprint == jobs[name].fingerprint for name, job in plain.items()), "no run is made again for it"
    more = make_config(tmp_path, widths="[4, 8, 16]", samples="[32, 80]", seeds="[0, 1]")
    assert {job.id: job for job in list_jobs(more)}["prediction"].fingerprint != jobs["prediction"].fingerprint


@pytest.mark.parametrize(("widths", "samples"), [("[8]", "[32, 80]"), ("[8, 16]", "[32]")])
def test_a_family_without_smaller_runs_is_refused(tmp_path: Path, widths: str, samples: str) -> None:
    with pytest.raises(ValueError, match="needs two sizes and two budgets; family 'scratch' has fewer"):
        make_config(tmp_path, widths=widths, samples=samples)


def _count(job: Job) -> float:
    return 1000.0 * job.width**2


@pytest.fixture
def exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    """A study whose finished runs follow a power law in P and S; those of 5,120 samples with width 64 diverged."""
    config = make_config(tmp_path, widths="[16, 32, 64]", samples="[1280, 2560, 5120]")
    monkeypatch.setattr(predictions, "write_table", _write_exact)
    monkeypatch.setattr(predictions, "is_done", lambda _, job: job.width != 64 or job.samples != 2560)
    counts = {("scratch", f"d{width}"): SimpleNamespace(num_parameters=1000 * width**2) for width in (16, 32, 64)}
    monkeypatch.setattr(predictions, "count_models", lambda *_: counts)
    return config


def _write_exact(_: StudyConfig, path: Path, runs: list[Job]) -> Path:
    rows = [
        RunRow(id=job.id, family="scratch", size=job.size, start="random", P=_count(job), S=job.samples, T=6.0)
        for job in runs
    ]
    losses = [9e4 * run["P"] ** -0.5 * run["S"] ** -0.7 for run in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_runs(path, [replace(row, UC_prefix=y, ST=y / 2) for row, y in zip(rows, losses, strict=True)])
    return path


def test_a_law_that_holds_is_predicted_from_the_smaller_runs_alone(exact: StudyConfig, tmp_path: Path) -> None:
    record = predictions.predict_held_out_runs(exact, tmp_path / "prediction")
    made = {one.target: one for one in record.predictions}
    assert list(made) == ["UC_prefix", "ST"]
    expected = 9e4 * (1000.0 * 64**2) ** -0.5 * 5120.0**-0.7
    assert made["UC_prefix"].value == pytest.approx(expected, rel=0.02)
    assert made["ST"].value == pytest.approx(expected / 2, rel=0.02)
    assert all(one.run == "scratch-d64-s5120-seed0" and one.num_runs == 7 for one in made.values())
    assert all(one.form.startswith("product(") for one in made.values()), "the additive law does not hold here"
    assert record.already_measured == ("scratch-d64-s5120-seed0",), "is_done says that it was finished before"
    (problem,) = record.problems
    assert problem.startswith("SC: ")
    assert RunPredictions.read(tmp_path / "prediction" / "predictions.json") == record


@pytest.mark.slow
def test_a_study_predicts_before_its_largest_run_starts(tmp_path: Path) -> None:
    config = make_config(tmp_path, widths="[8, 16]", samples="[32, 80]", seeds="[0, 1]")
    config = replace(config, prediction=PredictionConfig(targets=("UC_prefix",), bootstrap=20))
    done: list[str] = []
    result = run_study(config, workers=1, say=lambda line: done.append(line.partition("] ")[2].partition(" in ")[0]))
    assert done[-3:] == ["prediction", "scratch-d16-s80-seed0", "scratch-d16-s80-seed1"]
    record = RunPredictions.read(config.out / "prediction" / "predictions.json")
    assert record.already_measured == ()
    assert [one.run for one in record.predictions] == ["scratch-d16-s80-seed0", "scratch-d16-s80-seed1"]
    assert all(math.isfinite(one.value) and one.num_runs == 6 for one in record.predictions)
    assert "Predicted before they were run" in result.report.read_text()


STARTS = """
[[families]]
name = "frozen"
decoder = "gemma2"
widths = [8, 16]
samples = [32, 80]
starts = ["both", "en", "fr"]
schedule = "trunk"
optim = { warmup_steps = 1, cooldown_share = 0.5 }
[language_models.both]
languages = { en = 1, fr = 1 }
steps = 2
[language_models.en]
languages = { en = 1 }
steps = 2
[language_models.fr]
languages = { fr = 1 }
steps = 2
"""


def write_study_with_starts(folder: Path, starts: str) -> Path:
    path = folder / "study.toml"
    text = TOML.format(out=folder / "out", widths="[8]", samples="[32, 80]", seeds="[0]")
    text = text.replace('[[families]]\nname = "scratch"\nwidths = [8]\nsamples = [32, 80]\n', "")
    path.write_text(text.replace("prediction = {}", f"prediction = {{ {starts} bootstrap = 0 }}") + STARTS)
    return path


def make_config_with_starts(folder: Path, starts: str) -> StudyConfig:
    return load(StudyConfig, write_study_with_starts(folder, starts))


NEW = 'starts = ["fr"], form = "product",'
START = [f"start-frozen-fr-d{width}-seed0" for width in (8, 16)]


def test_each_model_with_a_new_starting_point_is_measured_by_a_job_before_the_prediction(tmp_path: Path) -> None:
    path = write_study_with_starts(tmp_path, NEW)
    own = load(StudyConfig, path, overrides=["cluster.evaluation=own"])
    jobs = {job.id: job for job in list_jobs(own)}
    starts = [job for job in jobs.values() if job.kind == "start"]
    assert [job.id for job in starts] == START, "one for all budgets"
    assert [job.needs for job in starts] == [("tokenizer", "lm-fr-d8"), ("tokenizer", "lm-fr-d16")]
    assert jobs["prediction"].needs == ("tokenizer", *START)
    assert [job for job in list_work(own) if job.kind == "start"] == starts
    plain = {job.id: job for job in list_jobs(replace(own, prediction=None))}
    assert not {"prediction", *START} & plain.keys()
    assert all(jobs[name].fingerprint == job.fingerprint for name, job in plain.items()), "no run is made again for it"
    longer = {j.id: j for j in list_jobs(load(StudyConfig, path, overrides=["families.0.samples=[32,80,96]"]))}
    assert all(longer[name].fingerprint == jobs[name].fingerprint for name in START), "T does not depend on budgets"
    other = {j.id: j for j in list_jobs(load(StudyConfig, path, overrides=["language_models.fr.steps=3"]))}
    assert all(other[name].fingerprint != jobs[name].fingerprint for name in START)


def read_results(config: StudyConfig) -> list[bytes]:
    return [(config.out / name).read_bytes() for name in ("runs.csv", "prediction/predictions.json")]


@pytest.fixture(scope="module")
def with_starts(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, StudyResult, list[str]]:
    """A study with a new starting point, done by a local worker, and the ids of its jobs as they were done."""
    config = make_config_with_starts(tmp_path_factory.mktemp("starts"), NEW)
    done: list[str] = []
    result = run_study(config, workers=1, say=lambda line: done.append(line.partition("] ")[2].partition(" in ")[0]))
    return config, result, done


@pytest.mark.slow
@pytest.mark.parametrize("way", ["store", "own"])
def test_starts_that_are_killed_are_measured_again_and_change_no_byte(
    tmp_path: Path, with_starts: tuple[StudyConfig, StudyResult, list[str]], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store the copy of the call has records alone: neither the language model nor a device is needed there."""
    store = (f"cluster.store=file://{tmp_path}/bucket", f"cluster.scratch={tmp_path}/scratch")
    options = store if way == "store" else ("cluster.evaluation=own",)
    config = load(StudyConfig, write_study_with_starts(tmp_path, NEW), overrides=options)
    monkeypatch.setattr("polyglance.study.study.LocalWorkers", lambda config, num_slots: ThisProcess(config))
    monkeypatch.setattr("polyglance.study.work.in_store._LOOK_S", 0.001)
    run_until_killed(config, do_job, "measure_start")
    states = read_study_status(config).jobs
    assert "begun" in {states[name] for name in START}
    assert states["prediction"] == "to do"
    run_study(config)
    assert read_results(config) == read_results(with_starts[0])
    assert set(read_study_status(config).jobs.values()) == {"done"}
    if way == "store":
        assert not list(config.out.glob("**/model.safetensors"))
        elsewhere = replace(config, out=tmp_path / "elsewhere")
        assert set(read_study_status(elsewhere).jobs.values()) == {"done"}
        return
    again = config.out / "untrained" / START[0] / "initial.json"
    before = again.read_bytes()
    again.write_bytes(before.replace(b"1", b"2", 1))
    (config.out / "prediction" / "done.json").unlink()
    (config.out / list_runs(config)[-1].folder / "done.json").unlink()
    said: list[str] = []
    run_study(config, say=said.append)
    assert any(line.startswith(f"{START[0]}: ") and line.endswith("; it is made again") for line in said)
    assert again.read_bytes() == before
    shutil.rmtree(config.out / "untrained")
    assert {read_study_status(config).jobs[name] for name in START} == {"not needed"}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_prediction_needs_no_device_where_the_measurement_of_a_start_does(
    tmp_path: Path, with_starts: tuple[StudyConfig, StudyResult, list[str]]
) -> None:
    """The call of a study of a cluster with GPUs has none itself."""
    plain = with_starts[0]
    shutil.copytree(plain.out, tmp_path / "out")
    config = replace(
        plain, out=tmp_path / "out", engine=replace(plain.engine, device="cuda"), machine=MachineConfig(devices=1)
    )
    jobs = {job.id: job for job in list_jobs(config)}
    for name, ending in (("prediction", "done"), (START[0], "refused")):
        job = jobs[name]
        assert is_done(config.out, job)
        forget_job(config.out, job, goes_on=False)
        ended = try_job(config, job)
        assert ended.ending == ending, ended.problem
    assert ended.problem.startswith(f"{START[0]}: process 0 of this machine has no GPU")
    again, before = (RunPredictions.read(one.out / "prediction" / "predictions.json") for one in (config, plain))
    assert again.predictions == before.predictions
    assert len(again.already_measured) == 6, "and it says that these runs were there before it"


@pytest.mark.slow
def test_runs_with_a_new_starting_point_are_predicted_with_its_own_t(
    with_starts: tuple[StudyConfig, StudyResult, list[str]],
) -> None:
    config, result, done = with_starts
    held_out = [job.id for job in list_runs(config) if is_held_out(config, job)]
    assert len(held_out) == 4 + 2
    assert all(done.index(name) == done.index(name.replace("start-frozen", "lm")[:-6]) + 1 for name in START)
    seconds = read_record(config.out / "costs.json")["seconds"]
    assert all(0 < seconds[name] < seconds[f"{name.removeprefix('start-')[:-6]}-s32-seed0"] for name in START)
    made = done.index("prediction")
    later = [*held_out, *(job for job in done if job.startswith("trunk-frozen-fr"))]
    assert len(later) == 6 + 4
    assert all(done.index(name) > made for name in later)
    rows = {row.id: row for row in read_runs(config.out / "runs.csv")}
    record = RunPredictions.read(config.out / "prediction" / "predictions.json")
    known = [row for row in rows.values() if row.id not in held_out]
    columns = {name: [row[name] for row in known] for name in (*"PST", "UC_prefix")}
    settings = FitConfig(form="product", columns={**{name: name for name in "PST"}, "y": "UC_prefix"}, bootstrap=0)
    law = fit_law(replace(settings, size="size"), Table.from_data({**columns, "size": [row.size for row in known]}))
    (fit,) = law.fits.values()
    made_of = {one.run: one for one in record.predictions if one.target == "UC_prefix"}
    assert set(made_of) == set(held_out)
    for name, one in made_of.items():
        expected = fit.predict({column: rows[name][column] for column in "PST"})
        assert one.value == pytest.approx(float(expected.mean.ravel()[0]), rel=1e-9)
        assert one.num_runs == 6
        assert one.new_start == ("fr" if "-fr-" in name else "")
    assert "new starting point fr" in result.report.read_text()


@pytest.mark.parametrize(
    ("starts", "line"),
    [
        ('starts = ["de"],', "prediction.starts has 'de', which no family starts from"),
        ('starts = ["fr", "en"],', "prediction.starts leaves family 'frozen' fewer than two starting points"),
    ],
)
def test_a_starting_point_that_cannot_be_new_is_refused(tmp_path: Path, starts: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        make_config_with_starts(tmp_path, starts)


def test_predictions_without_a_new_starting_point_are_those_of_before_the_setting(tmp_path: Path) -> None:
    """No finished study predicts again, after its largest runs, because polyglance has one more setting."""
    config = make_config(tmp_path, widths="[8, 16]", samples="[32, 80]")
    (job,) = [job for job in list_jobs(config) if job.kind == "prediction"]
    settings = to_dict(config.prediction)
    assert settings.pop("starts") == []
    known = [run.fingerprint for run in list_runs(config) if not is_held_out(config, run)]
    tokenizer = next(job.fingerprint for job in list_jobs(config) if job.id == "tokenizer")
    assert job.fingerprint == fingerprint(__version__, "prediction", (settings, known), [tokenizer], "", "", "", 0, 0)
