"""A study in an object store: the same table, whoever is killed or slow and whenever the store fails."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.config import load, save
from polyglance.files import locked
from polyglance.object_store import SilentStoreError, StoreError, open_store
from polyglance.study import StudyConfig, read_study_status, run_study, study, write_study_report
from polyglance.study.grid.inputs import note_inputs
from polyglance.study.grid.job_state import begin_job, finish_job, is_done
from polyglance.study.grid.jobs import Job, list_jobs, training_of
from polyglance.study.places.schedulers import ThisProcess
from polyglance.study.store import claims
from polyglance.study.store.copy import hold_study, refresh_copy, upload_results
from polyglance.study.store.stored_job import StoredJob
from polyglance.study.watching.progress import ProgressReader
from polyglance.study.work import in_store
from polyglance.study.work.attempt import name_job, try_job, try_named_job
from polyglance.study.work.ending import DiedError
from polyglance.study.work.in_store import do_stored_job
from polyglance.train.signals import Stopped

from ..faulty_store import FaultyFileSystem, faulty_store
from .clusters import ENV, write_grid


def load_grid(folder: Path, store: str, *more: str) -> StudyConfig:
    overrides = [f"cluster.store={store}", f"cluster.scratch={folder / 'scratch'}", *more]
    return load(StudyConfig, write_grid(folder, samples=80), overrides=overrides)


@pytest.fixture(autouse=True)
def faulty() -> Iterator[type[FaultyFileSystem]]:
    with faulty_store() as kind:
        yield kind


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are done in this process, and nothing is waited for."""
    monkeypatch.setattr(study, "LocalWorkers", lambda config, num_slots: ThisProcess(config))
    monkeypatch.setattr(in_store, "_LOOK_S", 0.001)
    monkeypatch.setattr(in_store, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(in_store, "_RETRY_S", 0.0)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The runs.csv of the grid without a store."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "LocalWorkers", lambda config, num_slots: ThisProcess(config))
        return run_study(load(StudyConfig, write_grid(folder, samples=80))).table.read_bytes()


def test_the_table_is_the_same_and_is_seen_from_elsewhere(tmp_path: Path, here: None, table: bytes) -> None:
    config = load_grid(tmp_path, f"file://{tmp_path}/bucket")
    result = run_study(config)
    assert result.table.read_bytes() == table
    assert (tmp_path / "bucket" / "runs.csv").read_bytes() == table
    assert not list(tmp_path.glob("scratch/*/runs/*"))  # nobody needs the models of runs there
    assert write_study_report(replace(config, out=tmp_path / "second")).table.read_bytes() == table
    elsewhere = replace(config, out=tmp_path / "elsewhere")
    status = read_study_status(elsewhere)
    assert set(status.jobs.values()) == {"done"}
    assert len(status.losses) == 4
    assert not list(elsewhere.out.glob("**/model.safetensors"))
    assert (elsewhere.out / "runs.csv").read_bytes() == table
    assert {job.state for job in ProgressReader(elsewhere).read().jobs} == {"done"}
    said: list[str] = []
    assert run_study(replace(config, out=tmp_path / "third"), say=said.append).table.read_bytes() == table
    assert said == ["4 runs, all of them done; table, laws and report are up to date"]


def test_a_study_that_was_begun_in_a_folder_goes_on_in_a_store(tmp_path: Path, here: None, table: bytes) -> None:
    plain = load(StudyConfig, write_grid(tmp_path, samples=80))
    run_study(replace(plain, families=(replace(plain.families[0], widths=(8,)),)))
    said: list[str] = []
    config = load_grid(tmp_path, f"file://{tmp_path}/bucket")
    assert run_study(config, say=said.append).table.read_bytes() == table
    assert said[0].startswith("4 runs, 2 of them done")
    shutil.rmtree(config.out)
    assert set(read_study_status(config).jobs.values()) == {"done"}


def write_result(config: StudyConfig, job: Job, should_stop: Callable[[], bool]) -> None:
    """Stand for the work of a job: three checkpoints, of which the last is removed, and a result that depends on how
    often its steps were begun anew."""
    folder = begin_job(config.out, job)
    steps = [int(path.name[5:]) for path in folder.glob("checkpoints/step-*")]
    log = folder / "metrics.jsonl"
    for step in range(max(steps, default=0) + 1, 4):
        partial = folder / "checkpoints" / f"step-{step:08d}.partial"
        partial.mkdir(parents=True)
        (partial / "checkpoint.json").write_text(f"{step}")
        log.write_text("".join(f"{number}\n" for number in range(1, step + 1)))
        partial.rename(partial.with_suffix(""))
        on_step(folder, step)
        if should_stop():
            raise Stopped(step)
    (folder / "losses.json").write_text(log.read_text())
    for path in folder.glob("checkpoints/step-*"):
        shutil.rmtree(path)
    finish_job(config.out, job)


def on_step(folder: Path, step: int) -> None:
    """Replaced by tests."""


@pytest.fixture
def one_run(tmp_path: Path, here: None) -> tuple[StudyConfig, Job]:
    """A run of the grid whose data and tokenizer are in the store."""
    config = load_grid(tmp_path, "faulty://bucket/study")
    store = open_store(config.cluster.store)
    note_inputs(config)
    save(config, config.out / "study.toml")
    for name in ("inputs.json", "study.toml"):
        store.write(name, (config.out / name).read_bytes())
    for job in list_jobs(config):
        if job.kind in ("data", "tokenizer"):
            begin_job(config.out, job)
            finish_job(config.out, job)
    study.upload_jobs(config)
    return config, next(job for job in list_jobs(config) if job.kind == "run")


def do(config: StudyConfig, job: Job, should_stop: Callable[[], bool] = lambda: False) -> None:
    do_stored_job(config, job, should_stop, write_result)


def read_result(config: StudyConfig, job: Job, folder: Path) -> str:
    """Return the result as another machine reads it."""
    copy = replace(config, out=folder)
    refresh_copy(copy, whole=True)
    return (copy.out / job.folder / "losses.json").read_text() if is_done(copy.out, job) else ""


def forget_machine(config: StudyConfig) -> None:
    shutil.rmtree(config.cluster.scratch)


def test_nothing_half_is_taken_as_done_whenever_the_store_fails(
    one_run: tuple[StudyConfig, Job],
    tmp_path: Path,
    faulty: type[FaultyFileSystem],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, job = one_run
    monkeypatch.setattr("polyglance.study.work.do_job.do_job", write_result)
    kept = dict(faulty.store)
    num_failed = 0
    for limit in range(1000):
        faulty.store.clear()
        faulty.store.update(kept)
        num_asked = 0

        def count(operation: str, limit: int = limit) -> None:
            nonlocal num_asked
            num_asked += 1
            if num_asked > limit:
                raise ConnectionError("lost")

        faulty.fault = count
        ended = try_job(config, job)
        is_whole = ended.ending == "done"
        if not is_whole:
            assert ended.ending == "died"
            assert "faulty://bucket/study: the store does not answer (lost)" in ended.problem
            num_failed += 1
        faulty.fault = None
        result = read_result(config, job, tmp_path / f"before-{limit}")
        assert result in (("1\n2\n3\n",) if is_whole else ("", "1\n2\n3\n"))
        shutil.rmtree(config.cluster.scratch, ignore_errors=True)
        do(config, job)
        assert read_result(config, job, tmp_path / f"after-{limit}") == "1\n2\n3\n"
        if num_asked <= limit:
            break
        shutil.rmtree(config.cluster.scratch, ignore_errors=True)
    assert num_failed > 10


def test_a_job_goes_on_elsewhere_from_its_last_uploaded_checkpoint(
    one_run: tuple[StudyConfig, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, job = one_run
    begun: list[int] = []
    monkeypatch.setitem(globals(), "on_step", lambda folder, step: begun.append(step))
    with pytest.raises(Stopped):
        do(config, job, should_stop=lambda: begun == [1, 2])
    stored = StoredJob(open_store(config.cluster.store), job)
    saved = stored.read_saved()
    assert saved is not None
    assert saved[1].step == 2
    assert read_study_status(replace(config, out=tmp_path / "elsewhere")).jobs[job.id] == "begun"
    assert (tmp_path / "elsewhere" / job.folder / "metrics.jsonl").read_text() == "1\n2\n"
    forget_machine(config)
    do(config, job)
    assert begun == [1, 2, 3]
    assert read_result(config, job, tmp_path / "copy") == "1\n2\n3\n"
    names = {name.rpartition("/")[2] for name in stored.store.list("files/runs/")}
    assert names == {"losses.json", "metrics.jsonl"}  # checkpoints are removed


def test_a_training_waits_for_a_job_that_measures_too_and_is_done_with_it(
    one_run: tuple[StudyConfig, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of an earlier call may still be at work when the way of measuring is changed."""
    config, job = one_run
    training, begun = training_of(job), list[int]()

    def train_beside(folder: Path, step: int) -> None:
        begun.append(step)
        if step == 2:
            with pytest.raises(Stopped):
                do(config, training, should_stop=lambda: True)

    monkeypatch.setitem(globals(), "on_step", train_beside)
    do(config, job)
    do(config, training)
    assert begun == [1, 2, 3]
    assert read_result(config, job, tmp_path / "copy") == "1\n2\n3\n"


def test_records_are_copied_from_the_part_of_a_run_that_is_further(
    one_run: tuple[StudyConfig, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, job = one_run
    training, begun = training_of(job), list[int]()
    monkeypatch.setitem(globals(), "on_step", lambda folder, step: begun.append(step))
    for part in (job, training):
        with pytest.raises(Stopped):
            do(config, part, should_stop=lambda: True)
    assert begun == [1, 2]
    log = tmp_path / "elsewhere" / job.folder / "metrics.jsonl"
    elsewhere = replace(config, out=tmp_path / "elsewhere")
    refresh_copy(elsewhere)
    assert log.read_text() == "1\n2\n"
    do(config, training)
    for _ in range(2):
        refresh_copy(elsewhere)
        assert log.read_text() == "1\n2\n3\n"


def test_an_owner_that_was_thought_lost_changes_nothing(
    one_run: tuple[StudyConfig, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, job = one_run
    other = replace(config, cluster=replace(config.cluster, scratch=str(tmp_path / "other")))
    monkeypatch.setattr(claims, "_PATIENCE_S", -1.0)
    is_nested = False

    def take_over(folder: Path, step: int) -> None:
        nonlocal is_nested
        if step == 2 and not is_nested:
            is_nested = True
            do(other, job)
            (folder / "metrics.jsonl").write_text("of the slow one")

    monkeypatch.setitem(globals(), "on_step", take_over)
    with pytest.raises(DiedError, match="another machine has taken it over"):
        do(config, job)
    assert is_nested
    assert read_result(config, job, tmp_path / "copy") == "1\n2\n3\n"
    do(config, job)  # finds it done
    assert read_result(config, job, tmp_path / "again") == "1\n2\n3\n"


def test_a_damaged_or_missing_object_is_refused_in_one_line(
    one_run: tuple[StudyConfig, Job], faulty: type[FaultyFileSystem]
) -> None:
    config, job = one_run
    store = open_store(config.cluster.store)
    tokenizer = next(other for other in list_jobs(config) if other.kind == "tokenizer")
    stored = StoredJob(store, tokenizer)
    stored.forget()
    with pytest.raises(ValueError, match=r"has no finished tokenizer, which grid-.* needs; run `study run` again"):
        do(config, job)
    (config.out / tokenizer.folder / "tokenizer.json").write_text("{}")
    study.upload_jobs(config)
    (name,) = store.list(f"files/tokenizer/{tokenizer.fingerprint}/")
    for content, problem in ((b"[]", r"damaged \(its SHA-256 differs\)"), (b"", "damaged"), (None, "missing")):
        store.remove(name)
        if content is not None:
            store.write(name, content)
        with pytest.raises(StoreError, match=rf"^{store.url}/{name}: {problem}.*; remove .*/done.json to make tok"):
            do(config, job)


def test_a_node_that_sees_nothing_but_the_store_does_a_job(
    one_run: tuple[StudyConfig, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, job = one_run
    monkeypatch.setattr("polyglance.study.work.do_job.do_job", write_result)
    monkeypatch.setattr("polyglance.study.work.attempt.prepare_worker", lambda: None)
    named = {**name_job(config, job), "folder": str(tmp_path / "not here")}
    shutil.rmtree(config.out)
    report = try_named_job(named)
    assert report["ending"] == "done", report
    assert report["clock_offset_s"] == 0
    assert not config.out.exists()
    assert read_result(config, job, tmp_path / "copy") == "1\n2\n3\n"
    monkeypatch.setattr(FaultyFileSystem, "fault", lambda operation: (_ for _ in ()).throw(TimeoutError("late")))
    assert try_named_job(named)["ending"] == "died"
    monkeypatch.setattr(FaultyFileSystem, "fault", None)
    FaultyFileSystem.store.clear()
    report = try_named_job(named)
    assert report["ending"] == "refused"
    assert "faulty://bucket/study: no study.toml" in report["problem"]


def test_a_job_that_is_done_in_scratch_alone_is_uploaded_by_the_next_try(
    one_run: tuple[StudyConfig, Job], tmp_path: Path, faulty: type[FaultyFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, job = one_run
    monkeypatch.setattr("polyglance.study.work.do_job.do_job", write_result)
    monkeypatch.setattr("polyglance.study.work.attempt.prepare_worker", lambda: None)

    def cut_off(folder: Path, step: int) -> None:
        if step == 3:
            faulty.fault = lambda operation: (_ for _ in ()).throw(ConnectionError("lost"))

    monkeypatch.setitem(globals(), "on_step", cut_off)
    assert try_named_job(name_job(config, job))["ending"] == "died"
    faulty.fault = None
    monkeypatch.setattr("polyglance.study.work.do_job.do_job", lambda config, job, should_stop: None)  # it is done here
    assert read_result(config, job, tmp_path / "before") == ""
    assert try_named_job(name_job(config, job))["ending"] == "done"
    assert read_result(config, job, tmp_path / "after") == "1\n2\n3\n"


def test_a_full_or_missing_scratch_folder_is_named(
    one_run: tuple[StudyConfig, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, job = one_run
    monkeypatch.setattr("polyglance.study.work.do_job.do_job", write_result)

    def fill_up(folder: Path, step: int) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setitem(globals(), "on_step", fill_up)
    ended = try_job(config, job)
    assert ended.ending == "refused"
    assert "No space left on device; make room in cluster.scratch, and run again" in ended.problem
    (tmp_path / "file").write_text("")
    for scratch, line in (
        (str(tmp_path / "file"), "cluster.scratch has to be a folder"),
        ("$NONE/x", "no such variable"),
    ):
        ended = try_job(replace(config, cluster=replace(config.cluster, scratch=scratch)), job)
        assert ended.ending == "refused"
        assert line in ended.problem


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["cluster.store=s4://bucket/a"], "no protocol 's4'"),
        (["cluster.store=bucket"], "expected a URL such as s3://"),
        (["cluster.store=", "cluster.scratch=/tmp"], "scratch has no effect without store"),
        (["cluster.store=conditionless://bucket/a"], "ignores If-None-Match"),
        (["cluster.store=plain://bucket/a"], "cannot create an object on the condition"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    path = write_grid(tmp_path, samples=80)
    with pytest.raises(SystemExit) as ended:
        main(["study", "run", str(path), *(word for option in options for word in ("--set", option))])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert line in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "data").exists()


def test_who_looks_leaves_results_alone_that_are_being_written(one_run: tuple[StudyConfig, Job], here: None) -> None:
    config, _ = one_run
    (config.out / "runs.csv").write_text("old")
    upload_results(config)
    with locked(config.out, "polyglance study run"):
        (config.out / "runs.csv").write_text("new")
        read_study_status(config)
        assert (config.out / "runs.csv").read_text() == "new"
    read_study_status(config)
    assert (config.out / "runs.csv").read_text() == "old"


def test_a_call_that_was_thought_lost_uploads_no_results(
    one_run: tuple[StudyConfig, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = one_run
    monkeypatch.setattr(claims, "_PATIENCE_S", -1.0)
    store = open_store(config.cluster.store)
    with hold_study(config, "polyglance study run") as upload:
        (config.out / "runs.csv").write_text("first")
        upload()
        with hold_study(config, "polyglance study run"):
            (config.out / "runs.csv").write_text("late")
            with pytest.raises(StoreError, match="another `polyglance study run` has taken the study over"):
                upload()
    assert store.read("runs.csv") == b"first"


def test_a_second_call_is_refused(one_run: tuple[StudyConfig, Job]) -> None:
    config, _ = one_run
    refusal = r"^faulty://bucket/study: another `polyglance study run` works on it; wait, or stop it$"
    with hold_study(config, "polyglance study run"), pytest.raises(StoreError, match=refusal):
        run_study(replace(config, out=config.out.with_name("second")))


def test_doctor_names_the_package_of_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_grid(tmp_path, samples=80)
    with path.open("a") as file:
        file.write('cluster = { store = "faulty://bucket/study" }')
    main(["doctor", str(path)])
    assert "faulty://bucket/study" in capsys.readouterr().out

    def refuse(protocol: str) -> None:
        raise ImportError("Install it")

    monkeypatch.setattr("fsspec.get_filesystem_class", refuse)
    with pytest.raises(SystemExit):
        main(["doctor", str(path)])
    assert "Install it" in capsys.readouterr().out


def test_a_store_that_does_not_answer_is_one_line(tmp_path: Path, faulty: type[FaultyFileSystem]) -> None:
    config = load_grid(tmp_path, "faulty://bucket/study")

    def fail(operation: str) -> None:
        raise ConnectionError("refused")

    faulty.fault = fail
    for call in (run_study, read_study_status, write_study_report):
        with pytest.raises(SilentStoreError, match=r"^faulty://bucket/study: the store does not answer \(refused\)$"):
            call(config)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_store_and_changes_no_byte(tmp_path: Path) -> None:
    path = write_grid(tmp_path, samples=800)
    config = load_grid(tmp_path, f"file://{tmp_path}/bucket", "families=" + FAMILY)
    save(config, path)
    command = [sys.executable, "-m", "tests.study.killed_in_store", str(path)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "goes on from step" in done.stderr
    plain = replace(config, out=tmp_path / "plain", cluster=replace(config.cluster, store="", scratch=""))
    run_study(plain, workers=1)
    assert (tmp_path / "bucket" / "runs.csv").read_bytes() == (tmp_path / "plain" / "runs.csv").read_bytes()


FAMILY = '[{ name = "grid", widths = [8], samples = [16, 800] }]'
