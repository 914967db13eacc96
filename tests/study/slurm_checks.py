"""Checks of a study on a real Slurm with two nodes of one CPU, which `.ci/slurm` sets up and calls.

Each check prints what it saw. All of them together take a few minutes; they are no part of the ordinary tests.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from polyglance.config import load
from polyglance.data.world import WorldConfig, generate
from polyglance.study import StudyConfig, read_study_status, run_study

from ..evaluate import tiny_evaluation
from .clusters import ENV, POLYGLANCE, find_running, wait_until, write_grid
from .test_published_run import write_published_study

_SLURM = Path(os.environ.get("SLURM_CONF", "slurm.conf")).parent


def main(folder: Path) -> None:
    """Run the grid on local workers, and on Slurm with a kill of each kind; compare the tables."""
    path = write_grid(folder, samples=1600)
    run_study(load(StudyConfig, path, overrides=[f"out={folder / 'local'}"]), workers=1)
    expected = (folder / "local" / "runs.csv").read_bytes()
    for check in (
        undisturbed,
        killed_job,
        killed_call,
        killed_controller,
        killed_node,
        preempted_job,
        time_limit,
        own_evaluation,
        without_shared_folder,
    ):
        started_s = time.monotonic()
        out = folder / check.__name__
        said = check(path, out)
        assert (out / "runs.csv").read_bytes() == expected, f"{check.__name__}: runs.csv differs"
        assert set(read_study_status(load(StudyConfig, path, overrides=[f"out={out}"])).jobs.values()) == {"done"}
        print(f"{check.__name__}: same runs.csv, {time.monotonic() - started_s:.0f} s; {said}", flush=True)
    several_nodes(folder)
    evaluation(folder)
    mistakes(path, folder)


def undisturbed(path: Path, out: Path) -> str:
    """Both nodes do jobs."""
    said = finish(begin(path, out))
    return f"{said.count(' s on ')} jobs"


def killed_job(path: Path, out: Path) -> str:
    """A job's process is killed, as the out-of-memory killer would."""
    process = begin(path, out)
    wait_until(lambda: any(kill_job(job) for job in find_running(out)), process)
    return find_line(finish(process), "goes on from its last checkpoint (retry 1 of 2)")


def killed_call(path: Path, out: Path) -> str:
    """`study run` is killed; its jobs go on, and are not submitted again."""
    process = begin(path, out)
    wait_until(lambda: bool(find_running(out)), process)
    process.kill()
    process.communicate()
    before = list_submitted()
    finish(begin(path, out))
    again = list_submitted()[len(before) :]
    assert not {name for name in again if name in before[-2:]}, (before, again)
    return f"the second call has submitted {len(again)} jobs, and taken up those at work"


def killed_controller(path: Path, out: Path) -> str:
    """Slurm's controller is killed, and started again after the next question to it."""
    process = begin(path, out)
    wait_until(lambda: bool(find_running(out)), process)
    os.kill(int((_SLURM / "slurmctld.pid").read_text()), signal.SIGKILL)
    time.sleep(15)
    subprocess.run(["slurmctld"], check=True)
    return find_line(finish(process), "") and "the controller was away for 15 s"


def killed_node(path: Path, out: Path) -> str:
    """A node is lost with its job; Slurm requeues the job."""
    process = begin(path, out)
    wait_until(lambda: any(find_node(job) == "two" for job in find_running(out)), process)
    job = next(job for job in find_running(out) if find_node(job) == "two")
    os.kill(int((_SLURM / "slurmd-two.pid").read_text()), signal.SIGKILL)
    kill_job(job)
    subprocess.run(["scontrol", "update", "NodeName=two", "State=DOWN", "Reason=killed"], check=True)
    wait_until(lambda: find_node(job) in ("", "one"), process)
    subprocess.run(["slurmd", "-N", "two"], check=True)
    subprocess.run(["scontrol", "update", "NodeName=two", "State=RESUME"], check=True)
    finish(process)
    return f"{job} was at work on it"


def preempted_job(path: Path, out: Path) -> str:
    """A job of a partition that goes first takes both nodes; Slurm requeues the job that was at work."""
    process = begin(path, out)
    wait_until(lambda: bool(find_running(out)), process)
    subprocess.run(["sbatch", "--partition=high", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1"], check=True)
    finish(process)
    log = "".join(path.read_text() for path in (out / "cluster").glob("*.log"))
    assert "PREEMPTION" in log, log
    return "requeued"


def time_limit(path: Path, out: Path) -> str:
    """A job is told to save its state, as it is before its time limit."""
    process = begin(path, out)
    wait_until(lambda: any(signal_job(job) for job in find_running(out)), process)
    return find_line(finish(process), "it goes on from there")


def own_evaluation(path: Path, out: Path) -> str:
    """Runs are measured by batch jobs of their own."""
    said = finish(begin(path, out, "--set", "cluster.evaluation=own"))
    assert (said.count("] train-grid"), said.count("] grid")) == (4, 4), said
    return "4 jobs have trained, and 4 measured"


def without_shared_folder(path: Path, out: Path) -> str:
    """The nodes see a store, and nothing of the call's folder, which is mounted for the call alone. A process of a job
    is killed."""
    hidden, bucket = out.parent / "hidden", out.parent / "bucket"
    hidden.mkdir()
    script = f'mount -t tmpfs none {hidden}; "$@"; code=$?; cp -r {hidden} {out}; exit $code'
    command = [
        "unshare",
        "--mount",
        "bash",
        "-c",
        script,
        "bash",
        *POLYGLANCE,
        "study",
        "run",
        str(path),
        "--on",
        "slurm",
    ]
    for setting in (f"out={hidden}", f"cluster.store=file://{bucket}", f"cluster.scratch={out.parent / 'scratch'}"):
        command += ["--set", setting]
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_until(lambda: any(kill_job(name.parts[-3]) for name in bucket.glob("marks/*/*/saved-*.json")), process)
    said = finish(process)
    assert "its log is on its node: /tmp/polyglance-" in said, said
    assert not list(hidden.iterdir())
    for log in Path("/tmp").glob("polyglance-grid-*.log"):
        log.unlink()
    return find_line(said, "goes on from its last checkpoint (retry 1 of 2)")


def several_nodes(folder: Path) -> None:
    """A run of a published size on two nodes, with one process each, and on this machine with two."""
    world = folder / "world"
    generate(WorldConfig(languages=("en", "fr", "zh"), num_train_images=200, num_test_images=40), world)
    path = write_published_study(world, folder)
    tables = []
    for on, nodes in (("local", 1), ("slurm", 2)):
        out = folder / f"published-{on}"
        said = finish(begin(path, out, "--set", f"cluster.nodes={nodes}", "--set", "cluster.cpus=1", on=on))
        tables.append((out / "runs.csv").read_bytes())
    assert tables[0] == tables[1]
    print(f"several_nodes: same runs.csv; {find_line(said, 'seed0 in')}", flush=True)


def evaluation(folder: Path) -> None:
    """Captions and scores by three batch jobs, of which one is killed, and by one process."""
    inputs = folder / "inputs"
    tiny_evaluation.tiny_model(inputs / "model")
    tiny_evaluation.xm3600(inputs / "root")
    made, said = [], ""
    for on in ("local", "slurm --shards 3"):
        out = folder / f"evaluation-{on[:5]}"
        options = (
            f"--model {inputs / 'model'} --root {inputs / 'root'} --out {out} --lang fr --limit 601 --batch-size 2"
        )
        command = [*POLYGLANCE, "eval", "caption", "--benchmark", "xm3600", *options.split(), "--on", *on.split()]
        process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        if on != "local":
            wait_until(lambda: any(kill_job(shard) for shard in find_shards(out)), process)  # noqa: B023
        said = finish(process)
        names = ("predictions.jsonl", "prediction.json", "scores.json")
        texts = [path.read_text() for name in names for path in out.glob(f"xm3600-*/{name}")]
        made.append([text.replace(str(out), "OUT") for text in texts])
    assert len(made[0]) == 3
    assert made[0] == made[1]
    print(f"evaluation: same predictions and scores; {find_line(said, '(retry 1 of 2)')}", flush=True)


def find_shards(out: Path) -> list[str]:
    """Return the ids of shards that have rows."""
    parts = [path for path in out.glob("xm3600-*/predictions.jsonl.partial-*") if path.stat().st_size]
    return [f"shard-{path.name.rpartition('-')[2]}" for path in parts]


def mistakes(path: Path, folder: Path) -> None:
    """A line for each thing that Slurm refuses."""
    for setting in ("partition='nowhere'", "cpus=64", "memory_gb=1e5", "gpus=4", "gpus=0.5", "sbatch=['--nonsense']"):
        out = folder / "mistakes"
        done = finish(begin(path, out, "--set", f"cluster.{setting}"), code=2)
        assert len(done.splitlines()) == 1, done
        print(f"cluster.{setting}: {done.strip()}", flush=True)
    said = finish(begin(path, folder / "setup", "--set", "cluster.setup=['no-such-command']"), code=2)
    print(f"cluster.setup: {find_line(said, 'given up')}", flush=True)


def begin(path: Path, out: Path, *options: str, on: str = "slurm") -> subprocess.Popen[str]:
    command = [*POLYGLANCE, "study", "run", str(path), "--on", on, "--set", f"out={out}", *options]
    return subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said = process.communicate()[1]
    assert process.returncode == code, said
    return said


def find_line(text: str, words: str) -> str:
    return next(line for line in text.splitlines() if words in line)


def ask(*command: str) -> list[list[str]]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.split() for line in done.stdout.splitlines()]


def find_node(job: str) -> str:
    """Return the node that does a job; an empty text if none does."""
    return next((row[1] for row in ask("squeue", "-h", "-t", "R", "-o", "%j %N") if row[0] == job), "")


def list_submitted() -> list[str]:
    """Return the names of all jobs, in the order in which they were submitted."""
    rows = sorted(ask("squeue", "-h", "-t", "all", "-o", "%i %j"), key=lambda row: int(row[0]))
    return [row[1] for row in rows]


def find_process(job: str) -> list[int]:
    words = b" polyglance.study.places.batch_job "
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if words in command and f" {job} ".encode() in command:
            found.append(int(path.parent.name))
    return found


def kill_job(job: str) -> bool:
    return send(job, signal.SIGKILL)


def signal_job(job: str) -> bool:
    return send(job, signal.SIGTERM)


def send(job: str, number: int) -> bool:
    pids = find_process(job)
    for pid in pids:
        os.kill(pid, number)
    return bool(pids)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="polyglance-slurm-study-") as name:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else name))
