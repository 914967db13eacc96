"""The operations on a study: plan it, run it, read its status, write its report.

config = load(StudyConfig, "examples/micro.toml")
plan_study(config).seconds           # expected time, before anything is trained
run_study(config).report             # out/micro/report/index.html
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from polyglance.config import save
from polyglance.data.manifest import choose_prefixes
from polyglance.distributed import set_up_device
from polyglance.files import check_output_folder, locked
from polyglance.model.counts import Counts
from polyglance.processes import num_cores, refuse_in_imported_script
from polyglance.run_records import LossRecord
from polyglance.settings import UnusedSettingError
from polyglance.study.config import StudyConfig
from polyglance.study.grid.inputs import note_inputs
from polyglance.study.grid.job_state import fail_job, is_done, read_problem, read_state, read_states
from polyglance.study.grid.jobs import Job, find_not_needed, list_jobs, list_runs, list_work
from polyglance.study.needs import find_needs
from polyglance.study.places.clusters import ClusterPlace, open_cluster
from polyglance.study.places.ray_tasks import RayTasks
from polyglance.study.places.schedulers import LocalWorkers, ThisProcess, run_jobs
from polyglance.study.places.slurm_jobs import SlurmJobs
from polyglance.study.planning.simulation import ClusterPlan, place_on_cluster, simulate_cluster
from polyglance.study.planning.simulation_config import SimulatedClusterConfig
from polyglance.study.planning.training_cost import TrainingCost, price_time, sum_training
from polyglance.study.results.conclusion import Conclusion
from polyglance.study.results.write import ResultsSoFar, write_results
from polyglance.study.store.copy import (
    fail_stored_job,
    hold_study,
    refresh_copy,
    refresh_to_look,
    upload_jobs,
    upload_study,
)
from polyglance.study.work.attempt import LIGHT_KINDS, measure_clock_offset
from polyglance.study.work.ending import EndedJob

__all__ = [
    "PlannedRun",
    "StudyPlan",
    "StudyResult",
    "StudyStatus",
    "plan_study",
    "read_study_status",
    "run_study",
    "write_study_report",
]

_VERB = "polyglance study run"
_MADE_BEFORE_PLANNING = ("data", "tokenizer")
"""Kinds of jobs that P and F of micro models depend on. They take seconds, and train nothing."""
_SAMPLE_IMAGES, _SAMPLE_TEST_IMAGES = 500, 20
"""Training and test images of the built-in world that are drawn for a plan."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """Expected cost of one run."""

    id: str
    num_parameters: int
    """P."""
    num_trained: int
    """P_t: parameters that training updates."""
    macs_per_sample: int
    """F: multiply-accumulates of one forward pass."""
    samples: int
    """S: samples seen."""
    compute_gmac: float
    """C, in GMAC."""
    seconds: float
    """Expected time on one core or, for published sizes, on the whole machine; without the trunk that it goes on
    from."""
    money: float | None
    """Expected price of this time, in the machine's currency; None without a price, and for micro models."""
    state: str
    """`done`, `failed`, `waiting`, `begun` or `to do`."""
    strategy: str = ""
    """Published sizes: recommended way of training on the machine."""


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Expected cost of a study."""

    runs: tuple[PlannedRun, ...]
    training: Mapping[str, TrainingCost]
    """`separate` and `trunk` -> what all runs train on together, with each of the two schedules of a family."""
    schedule: str
    """The one that this study has; `mixed` where its families differ."""
    seconds: float
    """Expected wall time of the jobs that are not done, on `machine`."""
    money: float | None
    """Expected price of the runs that are not done; None without a price, and for micro models."""
    currency: str
    """Currency of the money; empty where there is none."""
    machine: str
    """`2 cores` or, for published sizes, the machine's description."""
    memory_bytes: int
    """Memory of all workers together; for published sizes, of one device."""
    source_tokens: int
    """Prompt tokens at which F is counted."""
    target_tokens: int
    """Target tokens at which F is counted."""
    strategies: Mapping[str, str] = field(default_factory=dict)
    """Published sizes: size -> recommended way of training on the machine."""
    rates: Mapping[str, str] = field(default_factory=dict)
    """Published sizes: size -> rate that the hours are computed from, and whether it was measured or estimated."""
    sampled_images: int | None = None
    """Images of the built-in world that were drawn for P, F and time, where the study has not made its data yet."""
    notes: tuple[str, ...] = ()
    """Gaps: what is not measured, and what would change that, one line each."""
    cluster: ClusterPlan | None = None
    """Expected course on a cluster, where one was given."""


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Files of a finished study."""

    num_runs: int
    seconds: float
    """Time that the call took."""
    table: Path
    """runs.csv."""
    report: Path
    """HTML page."""
    problems: tuple[str, ...]
    """Laws that could not be fitted, one line each."""
    failed: tuple[str, ...] = ()
    """Jobs that failed (no longer finite, or killed more often than they are tried again), and those that needed one;
    one line each. The table is without their runs."""
    predictions: tuple[str, ...] = ()
    """How far the predicted losses of the largest runs are from the measured ones, one line per family and loss."""


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Progress of a study."""

    jobs: Mapping[str, str]
    """Job id -> `done`, `failed`, `waiting`, `begun`, `to do` or, for a trunk or start that no job waits for, `not
    needed`."""
    losses: Mapping[str, float]
    """Run id -> UC after the prefix in nats per token, for the runs that are done."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Id of each job that failed -> why."""


def plan_study(
    config: StudyConfig, *, workers: int | None = None, cluster: SimulatedClusterConfig | None = None
) -> StudyPlan:
    """Count P, F, C and S of every run, and estimate time and memory of the study.

    P and F of micro models depend on the tokenizer, and so on the data. Of the built-in world a small sample is drawn
    for it, in a temporary folder, as long as the study has not made its data. Other data is imported into the study.
    For published sizes nothing is made, and nothing is needed. Nothing is trained.

    Args:
        workers: micro models: jobs at the same time; if not given, as many as there are cores.
        cluster: published sizes: a cluster on which the study is also simulated.

    Raises:
        ValueError: data and configuration do not fit each other, another process works on the study, or a cluster that
            the runs do not fit into.
    """
    refuse_in_imported_script()
    num_slots = _count_workers(config, workers)
    if cluster is not None and cluster.cluster is not None:
        config = place_on_cluster(config, cluster)
        plan, jobs = plan_study(config), list_jobs(config)
        simulated = simulate_cluster(config, cluster, jobs, done=_find_done(config, jobs))
        return replace(plan, cluster=simulated)
    makes_files = (config.is_micro and config.data.world is None) or bool(config.cluster.store)
    check_output_folder(config.out, "`out`")
    with locked(config.out, _VERB) if makes_files or config.out.is_dir() else nullcontext():
        refresh_copy(config, whole=True, results=True)
        if config.is_micro and config.data.world is not None and not _is_tokenized(config):
            with TemporaryDirectory(prefix="polyglance-plan-") as folder:
                return _plan_from_sample(config, Path(folder), num_slots)
        if makes_files or config.out.is_dir():
            note_inputs(config)
        return _plan(config, num_slots)


def _is_tokenized(config: StudyConfig) -> bool:
    return all(is_done(config.out, job) for job in list_jobs(config) if job.kind in _MADE_BEFORE_PLANNING)


def _plan_from_sample(config: StudyConfig, folder: Path, num_slots: int) -> StudyPlan:
    """Plan with a small sample of the built-in world, of which nothing is kept."""
    world = config.data.world
    assert world is not None
    world = replace(
        world,
        num_train_images=min(world.num_train_images, _SAMPLE_IMAGES),
        num_test_images=min(world.num_test_images, _SAMPLE_TEST_IMAGES),
    )
    plan = _plan(replace(config, out=folder, data=replace(config.data, world=world)), num_slots, states_of=config)
    return replace(plan, sampled_images=world.num_train_images)


def _count_workers(config: StudyConfig, workers: int | None) -> int:
    """Return the number of jobs that this machine does at the same time.

    Raises:
        ValueError: not a positive number, or a number for published sizes, whose runs take the whole machine.
    """
    _check_workers(workers)
    if config.is_micro:
        return workers or num_cores()
    if workers is not None:
        raise UnusedSettingError("`workers` has no effect on published sizes: a run takes the whole machine")
    return 1


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` is {workers}; expected 1 or more")


def run_study(
    config: StudyConfig,
    *,
    workers: int | None = None,
    on: str = "local",
    say: Callable[[str], None] | None = None,
) -> StudyResult:
    """Make everything that is not made yet: data, starting points, runs, runs.csv, laws, report.

    The call can be killed at any moment and repeated. Jobs that are done are skipped, a run goes on from its last
    checkpoint, and the table that comes out is the same to the bit, also after a move. What jobs that are not done need
    from others is compared with its digests first, and made again if it is damaged. Of a finished study nothing is made
    again. A job whose process or node is lost is tried again from its last checkpoint (`cluster.retries`). One that is
    lost too often, or a run that is no longer finite, is marked as failed, and the others go on.

    Args:
        workers: jobs at the same time; if not given, as many as there are cores, as a cluster has room for, or 500 in
            the queue of Slurm. Runs of published sizes that are local take the whole machine, one after the other.
        on: place of the jobs: `local`, `ray` (the cluster of this machine, or that of RAY_ADDRESS), `ray://HOST:PORT`
            or `slurm`. All its nodes have to see the study's folder, or its store. Data and tokenizer are made in this
            process.
        say: called with a line for each job that is done.

    Raises:
        ValueError: a job failed otherwise, no run is left, or another process works on the study.
    """
    refuse_in_imported_script()
    started_s = time.monotonic()
    say = say or _say_nothing
    if config.is_on_card and on == "local":
        set_up_device(config.engine, 0)  # a machine without a GPU is refused before any data is made
    check_output_folder(config.out, "`out`")
    with locked(config.out, _VERB), hold_study(config, _VERB) as upload:
        refresh_copy(config, whole=True, results=True)
        runs = list_runs(config)
        if all(is_done(config.out, job) for job in runs) and (kept := Conclusion.read(config, runs)) is not None:
            say(f"{len(runs)} runs, all of them done; table, laws and report are up to date")
            return _make_result(config, started_s, kept)
        save(config, config.out / "study.toml")
        with _open_scheduler(config, on, workers) as scheduler:
            failed = _do_jobs(config, on, scheduler, say, upload)
        return _conclude(config, started_s, failed, upload)


_Place = LocalWorkers | ThisProcess | ClusterPlace


def _open_scheduler(config: StudyConfig, on: str, workers: int | None) -> _Place:
    """Open a place where jobs are done.

    Raises:
        ValueError: there is no such place, or it cannot do what the study asks for.
    """
    if config.cluster.nodes > 1 and on == "local":
        raise ValueError(
            f"cluster.nodes is {config.cluster.nodes}; runs over several nodes need --on slurm or --on ray, not {on}"
        )
    if on == "local":
        num_slots = _count_workers(config, workers)
        return LocalWorkers(config, num_slots=num_slots) if config.is_micro else ThisProcess(config)
    _check_workers(workers)
    return open_cluster(config, on, find_needs(config), workers)


def write_study_report(config: StudyConfig) -> StudyResult:
    """Write runs.csv, laws and report again, from the runs that are done. The page says how many are not.

    Raises:
        ValueError: none is done, or another process works on the study (`run_study` writes them as runs end).
    """
    started_s = time.monotonic()
    refresh_to_look(config)
    states = {job.id: read_state(config.out, job) for job in list_runs(config)}
    if "done" not in states.values():
        raise ValueError(f"{len(states)} runs are not done ({next(iter(states))}, ...); `{_VERB}` makes them")
    check_output_folder(config.out, "`out`")
    with locked(config.out, _VERB), hold_study(config, _VERB) as upload:
        refresh_copy(config, whole=True, results=True)
        failed = {job.id: read_problem(config.out, job) for job in list_runs(config) if states[job.id] == "failed"}
        return _conclude(config, started_s, failed, upload)


def read_study_status(config: StudyConfig) -> StudyStatus:
    """Read the progress of the study from its files, or from the store that they are in."""
    refresh_to_look(config)
    jobs = list_jobs(config)
    states = read_states(config.out, jobs)
    losses = {}
    for job in jobs:
        if job.kind == "run" and states[job.id] == "done":
            record = LossRecord.read(config.out / job.folder / "losses.json")
            if (loss := record.split_loss("UC", "prefix")) is not None:
                losses[job.id] = loss
    problems = {job.id: read_problem(config.out, job) for job in jobs if states[job.id] == "failed"}
    return StudyStatus(jobs=states, losses=losses, problems=problems)


def _plan(config: StudyConfig, num_slots: int, *, on: str = "local", states_of: StudyConfig | None = None) -> StudyPlan:
    """Return the plan. Of micro models data and tokenizer are made first, because P and F depend on them.

    Args:
        on: place of the jobs.
        states_of: the study whose jobs count as done in the plan, if it is another one than `config`.
    """
    from polyglance.study.grid.lengths import find_lengths
    from polyglance.study.planning.costs import estimate_costs, estimate_s

    jobs = list_jobs(config)
    if config.is_micro:
        from polyglance.study.work.do_job import do_job

        for job in jobs:
            if job.kind in _MADE_BEFORE_PLANNING:
                do_job(config, job)
    runs = [job for job in jobs if job.kind == "run"]
    planned_study = states_of or config
    own_jobs = list_jobs(planned_study)
    states = {job.id: read_state(planned_study.out, job) for job in own_jobs}
    costs = estimate_costs(config, jobs, num_slots=num_slots)
    counts = _count_models(config, runs)
    planned = [
        PlannedRun(
            id=job.id,
            **vars(counts[job.family, job.size]),
            samples=job.samples,
            compute_gmac=counts[job.family, job.size].compute_gmac(job.samples),
            seconds=costs.seconds[job.id],
            money=price_time(config, costs.seconds[job.id]),
            state=states[job.id],
            strategy=costs.strategies.get(job.id, ""),
        )
        for job in runs
    ]
    done = _find_done(planned_study, own_jobs)
    schedules = {family.schedule for family in config.families}
    return StudyPlan(
        runs=tuple(planned),
        training=sum_training(config, runs, counts),
        schedule=schedules.pop() if len(schedules) == 1 else "mixed",
        seconds=estimate_s(jobs, done=done, seconds=costs.seconds, num_slots=num_slots),
        money=price_time(
            config, sum(costs.seconds[job.id] for job in jobs if job.kind in _TRAINED and job.id not in done)
        ),
        currency="" if price_time(config, 0) is None else config.machine.currency,
        machine=_describe_machine(config, num_slots, on),
        strategies={job.size: costs.strategies[job.id] for job in runs if job.id in costs.strategies},
        rates=costs.rates,
        notes=(*_find_gaps(config), *_find_unused(config)),
        memory_bytes=costs.memory_bytes * num_slots,
        **asdict(find_lengths(config)),
    )


def _find_unused(config: StudyConfig) -> tuple[str, ...]:
    """Return the settings that have no effect on this study."""
    if config.is_micro and config.machine.price_per_gpu_hour is not None:
        return ("machine.price_per_gpu_hour is not used: it is for published sizes, and micro models have no price",)
    return ()


def _find_gaps(config: StudyConfig) -> tuple[str, ...]:
    """Return what the study will not measure because unseen languages have no prefix, or one that cannot be written."""
    prefixes = choose_prefixes(config.test_dir, config.evaluation.prefixes)
    unseen = [cell.language for cell in config.coverage.split("UC")]
    without = [code for code in unseen if not prefixes.get(code)]
    unwritten = []
    if config.is_micro:
        from polyglance.mixture.tokenizer import can_write, load_tokenizer

        tokenizer = load_tokenizer(config.out / "tokenizer" / "tokenizer.json")
        unwritten = [code for code in unseen if code not in without and not can_write(tokenizer, prefixes[code])]
    notes = []
    if without:
        notes.append(
            f'no prefix is known for {", ".join(without)}: [evaluation.prefixes] {without[0]} = "..." gives one'
        )
    if unwritten:
        notes.append(
            f"the prefix of {', '.join(unwritten)} is not in the tokenizer, because the texts do not have its words: "
            "give words that captions begin with in [evaluation.prefixes], or a larger vocab_size"
        )
    return tuple(f"UC after the prefix is not measured: {note}" for note in notes)


_TRAINED = ("run", "trunk")
"""Kinds of jobs that a plan's money is for."""


def _describe_machine(config: StudyConfig, num_slots: int, on: str) -> str:
    if on != "local":
        return f"{on}, up to {num_slots} jobs at the same time"
    if config.is_on_card:
        return f"{config.machine.name}, {num_slots} runs side by side"
    return f"{num_slots} cores" if config.is_micro else config.machine.name


def _find_done(config: StudyConfig, jobs: Sequence[Job]) -> set[str]:
    """Return the ids of the jobs that are done, or that no job is waiting for."""
    done = {job.id for job in jobs if is_done(config.out, job)}
    return done | find_not_needed(jobs, done)


def _count_models(config: StudyConfig, runs: Sequence[Job]) -> Mapping[tuple[str, str], Counts]:
    """Return (family, size) -> P, P_t and F. For published sizes torch is not loaded."""
    if config.is_micro:
        from polyglance.study.grid.models import count_models

        return count_models(config, runs)
    from polyglance.study.grid.published import count_published

    return {(job.family, job.size): count_published(config, job.size).counts for job in runs}


def _say_nothing(line: str) -> None:
    """Drop a message."""


def _do_jobs(
    config: StudyConfig, on: str, scheduler: _Place, say: Callable[[str], None], upload: Callable[[], None]
) -> dict[str, str]:
    """Plan the study and do its jobs.

    Args:
        upload: uploads the results so far.

    Returns:
        Id -> problem of each job that failed while the others went on.
    """
    from polyglance.study.grid.made import forget_damaged_jobs  # torch takes a while to load
    from polyglance.study.planning.costs import divide_seconds, estimate_costs, estimate_s

    note_inputs(config)
    forget_damaged_jobs(config, say)
    num_slots = scheduler.num_slots
    plan = _plan(config, num_slots, on=on)
    upload_study(config)
    upload_jobs(config)
    say(
        f"{len(plan.runs)} runs, {sum(run.state == 'done' for run in plan.runs)} of them done; "
        f"about {plan.seconds / 60:.1f} minutes on {plan.machine}"
    )
    for note in plan.notes:
        say(note)
    costs = estimate_costs(config, list_jobs(config), num_slots=num_slots)
    jobs, seconds = list_work(config), divide_seconds(config, costs.seconds)
    if isinstance(scheduler, ClusterPlace):
        scheduler.needs = find_needs(config, peak_bytes=costs.memory_bytes)
        say(f"each job asks for {scheduler.needs}")
    if isinstance(scheduler, SlurmJobs) and config.is_micro:
        scheduler.seconds = seconds
    if isinstance(scheduler, RayTasks) and (unused := config.cluster.list_slurm_settings()):
        say(f"not used on Ray: {', '.join(unused)}")
    done = _find_done(config, jobs)
    finished = set(done)
    clocks = _Clocks(config, say)
    results = ResultsSoFar(config, say, upload)

    def report_done(ended: EndedJob) -> None:
        finished.add(ended.job.id)
        if ended.job.kind in LIGHT_KINDS:
            upload_jobs(config)
        left_s = estimate_s(jobs, done=finished, seconds=seconds, num_slots=num_slots)
        results.note(ended.job, left_s)
        where = f" on {ended.host}" if ended.host else ""
        count = f"[{len(finished)}/{len(jobs)}]"
        say(f"{count} {ended.job.id} in {ended.seconds:.0f} s{where}; about {left_s / 60:.1f} minutes left")
        clocks.compare(ended)

    def report_failed(job: Job, problem: str) -> None:
        if read_state(config.out, job) != "failed":
            fail_job(config.out, job, problem)
            fail_stored_job(config, job, problem)
        say(f"failed, the others go on: {problem}")

    return run_jobs(
        jobs,
        scheduler,
        done=done,
        seconds=seconds,
        retries=config.cluster.retries,
        on_done=report_done,
        on_failed=report_failed,
        on_retry=say,
        on_refused=say,
        before_wait=results.refresh,
    )


class _Clocks:
    """Comparison of the machines' clocks with the file server's. No result depends on them, but times in records do."""

    def __init__(self, config: StudyConfig, say: Callable[[str], None]) -> None:
        self._say = say
        self._known: set[str] = set()
        self._warn("this machine", measure_clock_offset(config.out))

    def compare(self, ended: EndedJob) -> None:
        if ended.host not in self._known:
            self._known.add(ended.host)
            self._warn(ended.host, ended.clock_offset_s)

    def _warn(self, host: str, offset_s: float) -> None:
        if abs(offset_s) > _CLOCK_S:
            way = "ahead of" if offset_s > 0 else "behind"
            self._say(
                f"the clock of {host} is {abs(offset_s):.0f} s {way} the file server's: times in its records are off "
                "by as much; nothing else depends on it"
            )


_CLOCK_S = 5.0
"""Difference of clocks that is reported, in seconds."""


def _conclude(
    config: StudyConfig, started_s: float, failed: Mapping[str, str], upload: Callable[[], None]
) -> StudyResult:
    """Write table, laws and report of the finished runs, and note what they were made from.

    Raises:
        ValueError: there is none.
    """
    refresh_copy(config)
    if failed and not any(is_done(config.out, job) for job in list_runs(config)):
        raise ValueError(f"no run is done; {next(iter(failed.values()))}")
    concluded = write_results(config)
    concluded.write(config.out)
    upload()
    return _make_result(config, started_s, concluded, failed)


def _make_result(
    config: StudyConfig, started_s: float, concluded: Conclusion, failed: Mapping[str, str] | None = None
) -> StudyResult:
    return StudyResult(
        num_runs=concluded.num_runs,
        seconds=time.monotonic() - started_s,
        table=config.out / "runs.csv",
        report=config.out / "report" / "index.html",
        problems=concluded.problems,
        failed=tuple((failed or {}).values()),
        predictions=concluded.predictions,
    )
