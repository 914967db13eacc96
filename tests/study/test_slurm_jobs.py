"""Jobs handed to a fake Slurm (`fake_slurm.py`): programs named sbatch, squeue, scancel. `.ci/slurm` has a real one."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.config import load, save
from polyglance.files import read_json, write_json
from polyglance.object_store import SilentStoreError
from polyglance.study import StudyConfig
from polyglance.study.cluster import StudyClusterConfig
from polyglance.study.grid.inputs import note_inputs
from polyglance.study.grid.job_state import finish_job
from polyglance.study.grid.jobs import Job, list_runs, list_work
from polyglance.study.needs import JobNeeds
from polyglance.study.places import batch_job
from polyglance.study.places.batch_reports import BatchReport, BatchReports
from polyglance.study.places.schedulers import run_jobs
from polyglance.study.places.slurm_jobs import SlurmJobs, divide_into_batch_jobs
from polyglance.study.store.copy import upload_study
from polyglance.study.work.attempt import NamedJob, name_job
from polyglance.study.work.ending import NOT_BEGUN

from ..faulty_store import faulty_store
from .clusters import write_grid

NEEDS = JobNeeds(cpus=3, gpus=0, memory_bytes=None)
JOBS = [Job(id=f"run-{n}", kind="run", folder=Path(f"runs/{n}"), fingerprint=f"f{n}") for n in range(6)]
SECONDS = {job.id: 6.0 - n for n, job in enumerate(JOBS)}


class FakeSlurm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir(parents=True)
        program = Path(__file__).with_name("fake_slurm.py").read_text()
        for name in ("sbatch", "squeue", "scancel"):
            (folder / name).write_text(f"#!{sys.executable} -IS\n{program}")
            (folder / name).chmod(0o755)

    def write(self, name: str, value: object) -> None:
        (self.folder / name).write_text(json.dumps(value))

    def calls(self, name: str) -> list[str]:
        """Return the calls of a program, without the questions whether a job would be taken."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(name) and "--test-only" not in line]

    def names(self) -> list[str]:
        """Return the jobs that were taken, in their order."""
        return [job["job-name"] for job in self.jobs()]

    def jobs(self) -> list[dict[str, str]]:
        """Return the jobs that were taken, in their order: options of sbatch, script, state."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("jobs/*"))]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("_LOOK_S", "_ASK_S", "_RETRY_S"):
        monkeypatch.setattr(f"polyglance.study.places.slurm_jobs.{name}", 0.01)
    return FakeSlurm(tmp_path / "bin")


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    return load(StudyConfig, write_grid(tmp_path, samples=80))


def test_at_a_limit_of_submitted_jobs_the_others_wait_and_none_is_cancelled(
    slurm: FakeSlurm, config: StudyConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    slurm.write("limits.json", {"submit": 3})
    done: list[str] = []
    with SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS, on_done=lambda ended: done.append(ended.job.id))
    assert slurm.names() == [job.id for job in JOBS]
    assert sorted(done) == slurm.names()
    assert slurm.calls("scancel") == []
    assert capfd.readouterr().err.count("QOSMaxSubmitJobPerUserLimit") == 1


def test_a_refusal_with_no_job_at_work_is_a_mistake_with_its_reason(slurm: FakeSlurm, config: StudyConfig) -> None:
    slurm.write("limits.json", {"submit": 0})
    with (
        pytest.raises(ValueError, match="QOSMaxSubmitJobPerUserLimit; Batch job submission failed"),
        SlurmJobs(config, needs=NEEDS) as scheduler,
    ):
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS)


def test_a_refused_job_takes_those_that_slurm_has_not_begun_back(slurm: FakeSlurm, config: StudyConfig) -> None:
    slurm.write("limits.json", {"run": 2})
    slurm.write("reports.json", {"run-0": [{"ending": "refused", "problem": "disk full"}]})
    said: list[str] = []
    with pytest.raises(ValueError, match="disk full"), SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS, on_refused=said.append)
    assert said == ["disk full; no other job is started, and 2 at work are waited for"]
    assert [job["state"] for job in slurm.jobs()] == ["COMPLETED"] * 3 + ["CANCELLED"] * 3


def test_jobs_of_an_earlier_call_are_taken_up_and_not_submitted_again(slurm: FakeSlurm, config: StudyConfig) -> None:
    for job in JOBS[:2]:
        SlurmJobs(config, needs=NEEDS).start(job)
    (slurm.folder / "squeue_fails").touch()
    with pytest.raises(ValueError, match=r"squeue does not list .* Unable to contact slurm controller"):
        SlurmJobs(config, needs=NEEDS)
    (slurm.folder / "squeue_fails").unlink()
    with SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS)
    assert slurm.names() == [job.id for job in JOBS]


def test_the_log_of_a_batch_job_is_in_a_folder_with_any_name(slurm: FakeSlurm, config: StudyConfig) -> None:
    SlurmJobs(replace(config, out=config.out / "100%j"), needs=NEEDS).start(JOBS[0])
    (job,) = slurm.jobs()
    assert job["output"] == f"{config.out}/100%%j/cluster/run-0-%j.log"  # man sbatch: `%%` stands for `%`


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize(("first", "then"), [("with", "own"), ("own", "with")])
def test_a_job_of_an_earlier_call_that_measured_otherwise_is_not_taken_up(
    slurm: FakeSlurm, config: StudyConfig, tmp_path: Path, first: str, then: str, is_stored: bool
) -> None:
    """It has the devices of other work: of a measurement one, of a training all."""
    cluster = replace(config.cluster, store=f"file://{tmp_path}/bucket", scratch=f"{tmp_path}/scratch")
    config = replace(config, cluster=cluster) if is_stored else config
    studies = [replace(config, cluster=replace(config.cluster, evaluation=value)) for value in (first, then)]
    run = list_runs(config)[0].id
    earlier, later = ({job.id: job for job in list_work(study)}[run] for study in studies)
    SlurmJobs(studies[0], needs=NEEDS).start(earlier)
    SlurmJobs(studies[1], needs=NEEDS).start(later)
    SlurmJobs(studies[1], needs=NEEDS).start(later)
    assert slurm.names() == [run, run]
    save(studies[1], config.out / "study.toml")
    note_inputs(studies[1])
    upload_study(studies[1])
    report = batch_job.try_named_job(name_job(studies[0], earlier))
    assert report["ending"] == "refused"
    assert "run `study run` again to continue" in report["problem"]


def test_a_job_that_slurm_requeues_after_it_died_is_not_submitted_again(slurm: FakeSlurm, config: StudyConfig) -> None:
    slurm.write("reports.json", {"run-0": [{"ending": "died", "problem": "run-0: killed", "state": "PENDING"}]})
    said: list[str] = []
    with SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS[:1], scheduler, done=set(), seconds=SECONDS, retries=1, on_retry=said.append)
    assert slurm.names() == ["run-0"]
    assert said == []


def test_the_processes_of_a_job_over_nodes_get_its_cpus(slurm: FakeSlurm, config: StudyConfig) -> None:
    SlurmJobs(config, needs=replace(NEEDS, nodes=2)).start(JOBS[0])
    (job,) = slurm.jobs()
    assert (job["nodes"], job["cpus-per-task"]) == ("2", "3")
    srun = shlex.split(job["script"].partition("exec ")[2])
    assert srun[: srun.index(sys.executable)] == ["srun", "--wait=60", "--cpus-per-task=3"]


@pytest.mark.parametrize(
    ("time_limit_h", "nodes", "signal"),
    [(None, 1, "B:TERM@120"), (None, 2, "TERM@120"), (1.0, 1, "B:TERM@120"), (0.05, 1, None)],
)
def test_a_job_is_told_to_save_two_minutes_before_its_end_whoever_sets_it(
    slurm: FakeSlurm, config: StudyConfig, time_limit_h: float | None, nodes: int, signal: str | None
) -> None:
    config = replace(config, cluster=StudyClusterConfig(time_limit_h=time_limit_h))
    SlurmJobs(config, needs=replace(NEEDS, nodes=nodes)).start(JOBS[0])
    assert [job.get("signal") for job in slurm.jobs()] == [signal]


MANY = [Job(id=f"short-{n}", kind="run", folder=Path(f"runs/{n}"), fingerprint=f"s{n}") for n in range(7)]
SHORT = dict.fromkeys((job.id for job in MANY), 7.0)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spread jobs over three batch jobs, each with five at most."""
    monkeypatch.setattr("polyglance.study.places.slurm_jobs._SPREAD", 3)
    monkeypatch.setattr("polyglance.study.places.slurm_jobs._MOST_SHARED", 5)


def share(
    config: StudyConfig, jobs: list[Job], num_slots: int | None = None
) -> tuple[list[str], list[str], dict[str, str]]:
    """Do jobs that may share batch jobs; return the ids of those done, the lines of retries, and what failed."""
    done: list[str] = []
    said: list[str] = []
    with SlurmJobs(config, needs=NEEDS, num_slots=num_slots) as scheduler:
        scheduler.seconds = SHORT
        failed = run_jobs(
            jobs,
            scheduler,
            done=set(),
            seconds=SHORT,
            retries=1,
            on_done=lambda ended: done.append(ended.job.id),
            on_retry=said.append,
        )
    return done, said, failed


@pytest.mark.usefixtures("few")
def test_many_short_jobs_share_batch_jobs_and_few_do_not(slurm: FakeSlurm, config: StudyConfig) -> None:
    done, _, _ = share(config, MANY)
    assert sorted(done) == sorted(SHORT)
    assert slurm.names() == ["short-0+1", "short-2+1", "short-4+1", "short-6"]
    share(config, MANY[:3])
    assert slurm.names()[4:] == ["short-0", "short-1", "short-2"]


@pytest.mark.parametrize(
    ("seconds", "alone", "sizes"),
    [
        (6.0, set(), [2, 2, 2, 1]),
        (25.0, set(), [2, 2, 2, 1]),
        (31.0, set(), [1] * 7),
        (0.5, set(), [4, 3]),
        (0.0, set(), [5, 2]),
        (6.0, {"short-1"}, [1, 1, 2, 2, 1]),
        (0.0, {"short-0", "short-6"}, [1, 5, 1]),
    ],
)
@pytest.mark.usefixtures("few")
def test_jobs_are_divided_by_number_and_by_time(seconds: float, alone: set[str], sizes: list[int]) -> None:
    batches = divide_into_batch_jobs(MANY, dict.fromkeys(SHORT, seconds), alone)
    assert [len(batch) for batch in batches] == sizes
    assert [job for batch in batches for job in batch] == MANY


@pytest.mark.usefixtures("few")
def test_of_a_batch_job_that_was_killed_one_job_has_died_and_the_others_are_begun_elsewhere(
    slurm: FakeSlurm, config: StudyConfig
) -> None:
    slurm.write("reports.json", {"short-2": [None]})
    done, said, failed = share(config, MANY)
    assert (sorted(done), failed) == (sorted(SHORT), {})
    assert len(said) == 1
    assert said[0].startswith("short-2: it was killed or broke down (")
    assert sorted(slurm.names()[4:]) == ["short-2", "short-3"]  # alone


@pytest.mark.usefixtures("few")
def test_jobs_that_a_batch_job_had_no_time_for_are_submitted_again_and_not_counted(
    slurm: FakeSlurm, config: StudyConfig
) -> None:
    stopped = {"ending": "stopped", "problem": "short-0: stopped after step 3", "step": 3}
    not_begun = {"ending": "not begun"}
    slurm.write("reports.json", {"short-0": [stopped], "short-1": [not_begun, not_begun]})
    done, said, failed = share(config, MANY)
    assert (sorted(done), failed) == (sorted(SHORT), {})
    assert said == ["short-0: stopped after step 3; it goes on from there"]


@pytest.mark.usefixtures("few")
def test_no_more_batch_jobs_are_in_the_queue_than_there_are_slots(
    slurm: FakeSlurm, config: StudyConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    slurm.write("limits.json", {"submit": 2})
    done, _, _ = share(config, MANY, num_slots=2)
    assert sorted(done) == sorted(SHORT)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("few")
def test_at_a_limit_below_the_slots_the_gathered_jobs_wait(
    slurm: FakeSlurm, config: StudyConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    slurm.write("limits.json", {"submit": 1})
    done, _, _ = share(config, MANY)
    assert sorted(done) == sorted(SHORT)
    assert capfd.readouterr().err.count("QOSMaxSubmitJobPerUserLimit") == 1
    slurm.write("limits.json", {"submit": 0})
    with pytest.raises(ValueError, match="QOSMaxSubmitJobPerUserLimit"):
        share(config, MANY)


@pytest.mark.usefixtures("few")
def test_batch_jobs_of_several_are_taken_up_by_a_later_call(slurm: FakeSlurm, config: StudyConfig) -> None:
    first = SlurmJobs(config, needs=NEEDS)
    first.seconds = SHORT
    for job in MANY:
        first.start(job)
    first._submit_gathered()
    done, _, _ = share(config, MANY)
    assert sorted(done) == sorted(SHORT)
    assert len(slurm.names()) == 4


@pytest.mark.usefixtures("few")
def test_a_refused_job_takes_gathered_jobs_back(slurm: FakeSlurm, config: StudyConfig) -> None:
    slurm.write("limits.json", {"submit": 1})
    slurm.write("reports.json", {"short-0": [{"ending": "refused", "problem": "disk full"}]})
    with pytest.raises(ValueError, match="disk full"):
        share(config, MANY)
    assert slurm.names() == ["short-0+1"]


def test_a_requeued_batch_job_does_not_repeat_what_it_has_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try was stopped in its second job; the third was not begun."""
    tried: list[str] = []

    def try_named_job(named: NamedJob, should_stop: object) -> dict[str, object]:
        tried.append(named["job"])
        return {"ending": "done"}

    monkeypatch.setattr("polyglance.study.places.batch_job.try_named_job", try_named_job)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name, number, ending in (
        ("a", "7", "done"),
        ("b", "7", "stopped"),
        ("c", "7", "not begun"),
        ("d", "6", "done"),
    ):
        write_json(tmp_path / f"{name}.json", {"slurm_id": number, "report": {"ending": ending}})
    batch_job.do_batch_job("", "", "", str(tmp_path), "a", "fa", "b", "fb", "c", "fc", "d", "fd")
    assert tried == ["b", "c", "d"]
    assert {read_json(path)["report"]["ending"] for path in tmp_path.glob("*.json")} == {"done"}


def test_after_a_stop_the_other_jobs_of_a_batch_job_are_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def try_named_job(named: NamedJob, should_stop: Callable[[], bool]) -> dict[str, object]:
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()
        return {"ending": "stopped", "step": 4}

    monkeypatch.setattr("polyglance.study.places.batch_job.try_named_job", try_named_job)
    batch_job.do_batch_job("", "", "", str(tmp_path), "a", "fa", "b", "fb")
    endings = {path.stem: read_json(path)["report"]["ending"] for path in tmp_path.glob("*.json")}
    assert endings == {"a": "stopped", "b": NOT_BEGUN}


def test_no_torch_is_loaded_for_a_job_that_is_done(config: StudyConfig) -> None:
    """A job that another one has done meanwhile."""
    save(config, config.out / "study.toml")
    (job, *_) = list_runs(config)
    finish_job(config.out, job)
    named = name_job(config, job)
    code = (
        "import sys; from polyglance.study.work.attempt import try_named_job; "
        f"print(try_named_job({named!r})['ending'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["done", "False"], done.stderr


@pytest.fixture
def stored(config: StudyConfig, tmp_path: Path) -> StudyConfig:
    """The study in a store, called from a folder that no node has to see."""
    return replace(config, cluster=replace(config.cluster, store=f"file://{tmp_path}/bucket"))


def test_nodes_of_a_study_in_a_store_need_not_see_its_folder(
    slurm: FakeSlurm, stored: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyglance.study.places.slurm_jobs._LOG_FOLDER", str(tmp_path))
    setup = (f"echo set up; exec 3> {tmp_path}/ran",)
    config = replace(stored, cluster=replace(stored.cluster, python="echo", setup=setup))
    SlurmJobs(config, needs=NEEDS).start(JOBS[0])
    (job,) = slurm.jobs()
    assert job["output"] == "/dev/null"
    asked = replace(config, out=tmp_path / "elsewhere")
    with SlurmJobs(asked, needs=NEEDS) as scheduler:  # from another folder it is the same study
        assert run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS) == {}
    assert slurm.names() == [job.id for job in JOBS]
    assert {path.stem for path in tmp_path.glob("bucket/cluster/*.json")} == {job.id for job in JOBS}
    assert not list(asked.out.glob("**/*.json"))
    logs = []
    for number, is_seen in (("7", True), ("8", False)):
        if not is_seen:
            shutil.rmtree(config.out)
        subprocess.run(["bash"], input=job["script"], env={**os.environ, "SLURM_JOB_ID": number}, text=True, check=True)
        log = config.out / "cluster" / "run-0-7.log" if is_seen else tmp_path / "polyglance-run-0-8.log"
        logs.append(log.read_text())
    for log in logs:
        assert log.startswith("set up\n-m polyglance.study.places.batch_job")
        assert f"file://{tmp_path}/bucket/cluster run-0 f0" in log


def test_while_the_store_does_not_answer_no_job_counts_as_died(
    slurm: FakeSlurm, stored: StudyConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("polyglance.study.places.slurm_jobs._LATE_S", -1.0)
    list_jobs, silent = BatchReports.list_jobs, iter([True] * 5)

    def list_later(reports: BatchReports) -> set[str]:
        if next(silent, False):
            raise SilentStoreError("s3://bucket: the store does not answer")
        return list_jobs(reports)

    monkeypatch.setattr(BatchReports, "list_jobs", list_later)
    done, said, failed = share(stored, MANY[:1])
    assert (done, said, failed) == (["short-0"], [], {})
    assert capfd.readouterr().err.count("does not answer; it is asked again, and jobs go on") == 1


def test_a_report_that_the_store_does_not_take_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "polyglance.study.places.batch_job.try_named_job", lambda named, should_stop: {"ending": "done"}
    )
    with faulty_store() as store:
        store.fault = lambda operation: (_ for _ in ()).throw(TimeoutError("late")) if operation == "write" else None
        with pytest.raises(SystemExit) as ended:
            batch_job.do_batch_job("", "", "", "faulty://bucket/study/cluster", "a", "fa")
    assert str(ended.value).startswith(
        "polyglance: a: done, but its report is not written: faulty://bucket/study/clust"
    )


def test_a_batch_job_that_was_killed_names_the_log_on_its_node(slurm: FakeSlurm, stored: StudyConfig) -> None:
    slurm.write("reports.json", {"short-0": [None]})
    _, said, _ = share(stored, MANY[:1])
    assert "short-0: it was killed or broke down (its log is on its node: /tmp/polyglance-*-1001.log)" in said[0]


@pytest.mark.usefixtures("few")
def test_a_store_that_does_not_answer_when_jobs_are_submitted_is_waited_for(
    slurm: FakeSlurm, stored: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both where nothing is in the queue yet and later."""
    remove, asked = BatchReports.remove, iter(range(1000))

    def remove_later(reports: BatchReports, job_id: str) -> None:
        if next(asked) in (0, 1, 4, 5):
            raise SilentStoreError("s3://bucket: the store does not answer")
        remove(reports, job_id)

    monkeypatch.setattr(BatchReports, "remove", remove_later)
    done, said, failed = share(stored, MANY)
    assert (sorted(done), said, failed) == (sorted(SHORT), [], {})
    names = slurm.names()
    assert sum(1 + int(name.partition("+")[2] or 0) for name in names) == len(MANY)
    monkeypatch.setattr("polyglance.study.places.slurm_jobs._PATIENCE_S", -1.0)
    asked = iter([0] * 1000)
    with pytest.raises(ValueError, match=r"^s3://bucket: the store does not answer$"):
        share(stored, MANY)
    assert slurm.names() == names


@pytest.mark.parametrize("operation", ["read", "write"])
def test_a_batch_job_that_cannot_read_its_reports_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr("polyglance.study.places.batch_job.try_named_job", None)

    def fail(asked: str) -> None:
        if asked == operation:
            raise TimeoutError("late")

    with faulty_store() as store:
        BatchReports("faulty://bucket/study/cluster").write("a", BatchReport(number="1", ended={"ending": "died"}))
        if operation == "write":  # of this store, removals are not asked about
            monkeypatch.setattr(store, "rm_file", lambda self, path: self._ask("write"))
        store.fault = fail
        with pytest.raises(SystemExit) as ended:
            batch_job.do_batch_job("", "", "", "faulty://bucket/study/cluster", "a", "fa")
    assert ended.value.code == "polyglance: faulty://bucket/study/cluster: the store does not answer (late)"


def test_looks_for_reports_take_a_fifth_of_the_time_at_most(
    slurm: FakeSlurm, stored: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 reports in a bucket are ten requests a look."""
    clock, slept = [0.0], list[float]()
    list_jobs = BatchReports.list_jobs

    def list_slowly(reports: BatchReports) -> set[str]:
        clock[0] += 2.0
        return list_jobs(reports)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(BatchReports, "list_jobs", list_slowly)
    monkeypatch.setattr("polyglance.study.places.slurm_jobs.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("polyglance.study.places.slurm_jobs.time.sleep", sleep)
    monkeypatch.setattr("polyglance.study.places.slurm_jobs._ASK_S", 15.0)
    assert share(stored, MANY[:1])[0] == ["short-0"]
    assert slept
    assert set(slept) == {8.0}
