"""Cost of a cluster for a study: overhead per job, time lost per kill, and speed-up of two nodes against one.

    PYTHONPATH=src:. python -m benchmarks.cluster_overhead jobs        # 1,000 jobs without work, on two Ray nodes
    PYTHONPATH=src:. python -m benchmarks.cluster_overhead kills       # worker, node, call and head killed once each
    PYTHONPATH=src:. python -m benchmarks.cluster_overhead speed-up    # 16 runs on one Ray node and on two
    PYTHONPATH=src:. python -m benchmarks.cluster_overhead queue --jobs 10000   # the order of jobs, without a cluster
    PYTHONPATH=src:. python -m benchmarks.cluster_overhead batch-job   # processor time of a batch job's program
    .ci/slurm shell env PYTHONPATH=src:. python -m benchmarks.cluster_overhead slurm-jobs
    .ci/slurm shell env PYTHONPATH=src:. python -m benchmarks.cluster_overhead slurm-alone --jobs 50
    .ci/slurm shell env PYTHONPATH=src:. python -m benchmarks.cluster_overhead slurm-itself --jobs 50

Ray's nodes are processes of this machine with one CPU each (tests/study/clusters.py), Slurm's are those of `.ci/slurm`.
A job without work is a run that is done already: it is handed to a node, which reads the study, finds the run done and
reports. On Slurm short jobs share batch jobs; `slurm-alone` gives each a batch job of its own, and `slurm-itself`
submits batch jobs that call `true`, one by one and as an array. Kills: seconds from the kill to the first checkpoint
after it. Speed-up: by wall time, and by the seconds that jobs were at work on two nodes divided by the wall time from
the first start to the last end, which does not depend on other load as long as it slows both. Every line ends with the
load of the machine.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.study.clusters import ENV, POLYGLANCE, RayNodes, find_running, write_grid

from polyglance import __version__
from polyglance.config import load, save
from polyglance.processes import num_cores
from polyglance.study import StudyConfig
from polyglance.study.grid.job_state import finish_job
from polyglance.study.grid.jobs import Job, list_runs
from polyglance.study.needs import find_needs
from polyglance.study.places.ray_tasks import RayTasks
from polyglance.study.places.schedulers import Scheduler, run_jobs
from polyglance.study.places.slurm_jobs import SlurmJobs
from polyglance.study.work.ending import EndedJob

_MANY = """
out = "{out}"
seeds = [{seeds}]
data.world = {{ num_train_images = 60, num_test_images = 20 }}
coverage = {{ caption = ["en"], translation = ["en", "fr"] }}
mixture.batch_size = 8
families = [{{ name = "grid", widths = [8], samples = [16] }}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=["jobs", "queue", "slurm-jobs", "slurm-alone", "slurm-itself", "batch-job", "kills", "speed-up"]
    )
    parser.add_argument("--jobs", type=int, default=1000, help="jobs without work")
    parser.add_argument("--samples", type=int, default=1600, help="samples of the smaller runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="polyglance-cluster-") as name:
        folder = Path(name)
        if args.what == "jobs":
            with _Nodes() as nodes:
                study = write_many(folder, args.jobs)
                with RayTasks(study, nodes.address, needs=find_needs(study)) as ray_tasks:
                    do_jobs(list_runs(study)[:4], ray_tasks)  # both workers are up
                    time_jobs("Ray", study, lambda jobs: do_jobs(jobs, ray_tasks))
        elif args.what == "queue":
            time_jobs("queue alone", write_many(folder, args.jobs), lambda jobs: do_jobs(jobs, _NoPlace()))
        elif args.what == "batch-job":
            measure_batch_job(folder)
        elif args.what == "slurm-itself":
            time_slurm(args.jobs)
        elif args.what in ("slurm-jobs", "slurm-alone"):
            study = write_many(folder, args.jobs)
            with SlurmJobs(study, needs=find_needs(study)) as slurm_jobs:
                slurm_jobs.seconds = _NoSeconds() if args.what == "slurm-jobs" else {}
                time_jobs("Slurm", study, lambda jobs: do_jobs(jobs, slurm_jobs))
        elif args.what == "kills":
            measure_kills(folder, args.samples)
        else:
            measure_speed_up(folder, args.samples)


def do_jobs(jobs: Sequence[Job], scheduler: Scheduler) -> None:
    """Do jobs; those before them count as done."""
    ended: list[EndedJob] = []
    run_jobs(jobs, scheduler, done={"data", "tokenizer"}, seconds=_NoSeconds(), on_done=ended.append)
    assert len(ended) == len(jobs)


class _NoSeconds(dict[str, float]):
    """Expected seconds of every job: none."""

    def __missing__(self, name: str) -> float:
        return 0.0

    def get(self, name: str, default: object = None) -> float:  # noqa: ARG002
        return 0.0


class _NoPlace:
    """A place whose jobs end at once."""

    num_slots = 64

    def __init__(self) -> None:
        self._started: list[Job] = []

    def start(self, job: Job) -> None:
        self._started.append(job)

    def wait(self) -> list[EndedJob]:
        started, self._started = self._started, []
        return [EndedJob(job=job) for job in started]

    def cancel_waiting(self) -> int:
        return 0


class _Nodes(RayNodes):
    """Two Ray nodes, for a block."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")))

    def __enter__(self) -> "_Nodes":
        os.environ.update(ENV)  # this process needs the token of the nodes
        if problem := self.start_head() or self.start_node():
            raise SystemExit(f"Ray cannot start a cluster on this machine: {problem}")
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def write_many(folder: Path, num_jobs: int) -> StudyConfig:
    """Write a study of runs that are marked as done."""
    path = folder / "many.toml"
    path.write_text(_MANY.format(out=folder / "out", seeds=", ".join(map(str, range(num_jobs)))))
    study = load(StudyConfig, path)
    save(study, study.out / "study.toml")
    for run in list_runs(study):
        finish_job(study.out, run)
    return study


def time_jobs(place: str, study: StudyConfig, do: Callable[[list[Job]], object]) -> None:
    """Time jobs without work, from the first start to the last end."""
    jobs = list(list_runs(study))
    started_s, cpu_s = time.perf_counter(), time.process_time()
    do(jobs)
    wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    per_job = f"{wall_s / len(jobs) * 1e3:.2f} ms a job by the clock, {cpu_s / len(jobs) * 1e3:.2f} ms of this process"
    print(f"{place}: {len(jobs)} jobs without work in {wall_s:.1f} s: {per_job}; {describe_load()}", flush=True)


def time_slurm(num_jobs: int) -> None:
    """Time batch jobs that do nothing, submitted one by one and as an array."""
    for how, calls in (("one by one", [[]] * num_jobs), ("as an array", [[f"--array=0-{num_jobs - 1}"]])):
        started_s = time.perf_counter()
        for options in calls:
            command = ["sbatch", "--output=/dev/null", *options]
            subprocess.run(command, input="#!/bin/bash\ntrue\n", text=True, check=True, stdout=subprocess.DEVNULL)
        submitted_s = time.perf_counter() - started_s
        while subprocess.run(["squeue", "--noheader"], capture_output=True, check=True).stdout:
            time.sleep(0.1)
        wall_s = time.perf_counter() - started_s
        print(
            f"Slurm itself, {how}: {num_jobs} batch jobs submitted in {submitted_s / num_jobs * 1e3:.1f} ms each, and "
            f"ended after {wall_s / num_jobs * 1e3:.0f} ms each; {describe_load()}",
            flush=True,
        )


def measure_batch_job(folder: Path) -> None:
    """Measure the processor time of the program of a batch job, without Slurm."""
    study = write_many(folder, 48)
    program = "polyglance.study.places.batch_job"
    command = ["-m", program, str(Path.cwd()), str(study.out / "study.toml"), __version__, str(folder)]
    named = [word for run in list_runs(study) for word in (run.id, run.fingerprint)]
    for what, words in (
        ("1 job without work", [*command, *named[:2]]),
        ("48 jobs without work", [*command, *named]),
        ("the modules that a job with work loads", ["-c", f"import {program}, polyglance.study.work.do_job"]),
    ):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"a batch job with {what}: {cpu_s:.2f} s of processor time; {describe_load()}", flush=True)


def begin(path: Path, out: Path, address: str, *options: str) -> subprocess.Popen[str]:
    command = [*POLYGLANCE, "study", "run", str(path), "--on", address, "--set", f"out={out}", *options]
    return subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None) -> float:
    """Wait until something is true, and return the seconds that it took."""
    started_s = time.perf_counter()
    while not condition():
        if process is not None and process.poll() is not None:
            assert process.stderr is not None
            raise SystemExit(f"the study ended too early: {process.stderr.read()}")
        time.sleep(0.02)
    return time.perf_counter() - started_s


def measure_kills(folder: Path, samples: int) -> None:
    """Kill a worker, a node, the call and the head, each in a study of its own."""
    path = write_grid(folder, samples)
    for kind in ("none", "worker", "node", "call", "head"):
        with _Nodes() as nodes:
            process = begin(path, folder / kind, nodes.address)
            if kind != "none":
                process = kill(kind, nodes, process, path, folder / kind)
            said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(said)
        assert (folder / kind / "runs.csv").read_bytes() == (folder / "none" / "runs.csv").read_bytes(), kind
        print(f"{kind} killed: the same runs.csv", flush=True)


def kill(kind: str, nodes: RayNodes, process: subprocess.Popen[str], path: Path, out: Path) -> subprocess.Popen[str]:
    """Kill something while a run is at work, and print the time until the run comes further; return the call that ends
    the study."""

    def find() -> list[str]:
        return [job for job in find_running(out) if kind != "node" or nodes.is_on_node(job)]

    wait_for(lambda: bool(find()), process)
    (job, *_) = find()
    step = find_last_step(out, job)
    if kind == "worker":
        nodes.kill_worker(job)
    elif kind == "node":
        nodes.kill_node()
    elif kind == "call":
        process.send_signal(signal.SIGKILL)
    else:
        nodes.stop()
    if kind in ("call", "head"):
        process.communicate()
        if kind == "head":
            nodes.start_head()
            nodes.start_node()
        process = begin(path, out, nodes.address)
    lost_s = wait_for(lambda: find_last_step(out, job) > step, process)
    print(f"{kind} killed: {lost_s:.1f} s until {job} was further than before; {describe_load()}", flush=True)
    return process


def find_last_step(out: Path, job: str) -> int:
    """Return the last step of a run that is saved; a run that is done is past every step."""
    if (out / "runs" / job / "done.json").exists():
        return 10**9
    return max((int(path.name[5:]) for path in (out / "runs" / job).glob("checkpoints/step-*[0-9]")), default=0)


def measure_speed_up(folder: Path, samples: int) -> None:
    """Run a grid of 16 runs on one node and on two."""
    path = write_grid(folder, samples)
    walls = [time_grid(path, folder / f"on-{nodes}", nodes) for nodes in (1, 2)]
    assert (folder / "on-1" / "runs.csv").read_bytes() == (folder / "on-2" / "runs.csv").read_bytes()
    print(f"speed-up {walls[0] / walls[1]:.2f}")


def time_grid(path: Path, out: Path, num_nodes: int) -> float:
    """Run a grid with four seeds on one or two nodes; return the seconds from the first start to the last end."""
    seeds = ("--set", "seeds=[0,1,2,3]")
    with _Nodes() as nodes:
        process = begin(path, out, nodes.address, *seeds, "--workers", str(num_nodes))
        wait_for(lambda: bool(list(out.glob("runs/*/begun.json"))), process)
        wall_s = wait_for(lambda: len(list(out.glob("runs/*/done.json"))) == 16, process)
        said = process.communicate()[1]
    seconds = [line.split(" in ")[1].split(" s ")[0] for line in said.splitlines() if " s on " in line]
    busy_s = sum(map(float, seconds))
    at_once = f"jobs at work {busy_s:.0f} s, {busy_s / wall_s:.2f} at a time"
    print(f"{num_nodes} nodes: {wall_s:.1f} s, {at_once}; {describe_load()}", flush=True)
    return wall_s


def describe_load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {num_cores()} cores"


if __name__ == "__main__":
    main()
