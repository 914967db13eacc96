"""A small grid, and Ray clusters of this machine whose workers, nodes and heads can be killed."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from polyglance.study.grid.jobs import Job
from polyglance.train.config import RunConfig
from polyglance.train.watch import NotFiniteError

POLYGLANCE = (sys.executable, "-m", "polyglance")
_RAY = (sys.executable, "-m", "ray.scripts.scripts")
ENV = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # Else the head of Ray 2.60 alone asks for the token of ~/.ray/auth_token, which any local cluster leaves behind.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}

GRID = """
out = "{out}"
save_every_steps = 10
data.world = {{ num_train_images = 60, num_test_images = 20 }}
coverage = {{ caption = ["en"], translation = ["en", "fr"] }}
mixture.batch_size = 8
evaluation = {{ samples_per_cell = 4, captions_per_cell = 2, examples = 1, max_new_tokens = 2 }}
laws = {{ targets = ["UC"], bootstrap = 0 }}
families = [{{ name = "grid", widths = [8, 16], samples = [{samples}, {more_samples}] }}]
"""


def write_grid(folder: Path, samples: int) -> Path:
    """Write a study of four runs into `folder`; it goes to `folder`/out."""
    path = folder / "grid.toml"
    path.write_text(GRID.format(out=folder / "out", samples=samples, more_samples=2 * samples))
    return path


def write_trunk_grid(folder: Path) -> Path:
    """Write a study of two runs that branch off trunks into `folder`; it goes to `folder`/out."""
    path = write_grid(folder, samples=16)
    text = path.read_text().replace('name = "grid", widths = [8, 16]', 'name = "grid", widths = [8]')
    trunk = ', schedule = "trunk", optim = { warmup_steps = 1, cooldown_share = 0.5 } }'
    path.write_text(text.replace(" }]", f"{trunk}]"))
    return path


def fail_training(monkeypatch: pytest.MonkeyPatch, run: Job | None) -> None:
    """Let the training of a run end with a loss that is not finite; None: of no run any more."""
    from polyglance.train.run import train  # torch takes a while to load

    def fail(config: RunConfig, folder: Path, **options: Any) -> object:
        if run is not None and folder.name == run.id:
            raise NotFiniteError("the loss is not finite")
        return train(config, folder, **options)

    monkeypatch.setattr("polyglance.study.work.do_job.train", fail)


class RayNodes:
    """A head and a second node on loopback, each with one CPU.

    Args:
        folder: short, as sockets lie in it, whose paths have a limit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 20_000 + os.getpid() % 10_000  # so that a second test run does not meet the first
        self.address = f"ray://127.0.0.1:{self.port}"
        self.head: set[int] = set()
        self.node: set[int] = set()

    def start_head(self, environment: Mapping[str, str] = {}) -> str:
        """Start the head; return why it cannot be started, or an empty text.

        Args:
            environment: variables of this node alone.
        """
        options = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        problem = self._start([*options, f"--ray-client-server-port={self.port + 1}"], environment)
        self.head = set(self._processes())
        return problem

    def start_node(self, environment: Mapping[str, str] = {}) -> str:
        """Start the second node; return why it cannot be started, or an empty text.

        Args:
            environment: variables of this node alone.
        """
        before = set(self._processes())
        problem = self._start([f"--address=127.0.0.1:{self.port}"], environment)
        self.node = set(self._processes()) - before
        return problem

    def kill_node(self) -> None:
        """Kill the second node with the workers on it, as a loss of power would."""
        self._kill({*self.node, *(pid for pid, parent in self._workers().items() if parent in self.node)})

    def stop(self) -> None:
        """Kill everything that belongs to this cluster."""
        self._kill({*self._workers(), *self._processes()})

    def kill_worker(self, job: str, number: int = signal.SIGKILL) -> bool:
        """Kill the worker that does a job, as the out-of-memory killer would, or send it another signal; return whether
        there was one."""
        workers = [pid for pid in self._workers() if _command(pid).startswith(f"ray::{job}")]
        self._kill(set(workers), number)
        return bool(workers)

    def kill_on_node(self, name: str) -> bool:
        """Kill the worker of an actor on the second node; return whether there was one."""
        workers = self._workers()
        found = {pid for pid in workers if workers[pid] in self.node and _command(pid).startswith(f"ray::{name}")}
        self._kill(found)
        return bool(found)

    def is_on_node(self, job: str) -> bool:
        """Whether the second node does a job."""
        workers = self._workers()
        return any(_command(pid).startswith(f"ray::{job}") and workers[pid] in self.node for pid in workers)

    def _start(self, options: list[str], environment: Mapping[str, str]) -> str:
        more = ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=100000000"]
        command, env = [*_RAY, "start", *options, *more], {**ENV, **environment}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.stderr.strip()[-300:] if done.returncode else ""

    def _processes(self) -> list[int]:
        """List the processes that name the cluster's folder: those of Ray itself."""
        return [pid for pid in _list_processes() if str(self.folder) in _command(pid)]

    def _workers(self) -> dict[int, int]:
        """Return process of a worker -> that of its node."""
        ours = set(self._processes())
        workers = [pid for pid in _list_processes() if _command(pid).startswith("ray::")]
        return {pid: parent for pid in workers if (parent := _parent(pid)) in ours}

    @staticmethod
    def _kill(pids: set[int], number: int = signal.SIGKILL) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


@contextmanager
def open_ray_nodes(
    of_head: Mapping[str, str] = {},
    of_node: Mapping[str, str] = {},
) -> Iterator[RayNodes]:
    """Start a head and a second node, and kill both at the end; skip the test where Ray cannot start them.

    Args:
        of_head: environment variables of the head's jobs alone.
        of_node: those of the second node's.
    """
    pytest.importorskip("ray", reason="Ray is not installed")
    nodes = RayNodes(Path("/tmp") / f"pg-{os.getpid()}")
    try:
        if problem := nodes.start_head(of_head) or nodes.start_node(of_node):
            pytest.skip(f"Ray cannot start a cluster on this machine: {problem}")
        yield nodes
    finally:
        nodes.stop()


def _list_processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid())


def _command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        found = re.search(r"^PPid:\s*(\d+)", (Path("/proc") / str(pid) / "status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def find_running(out: Path) -> list[str]:
    """Return the ids of runs that have a checkpoint and are not done."""
    begun = {path.parents[2].name for path in out.glob("runs/*/checkpoints/step-*[0-9]/checkpoint.json")}
    return sorted(begun - {path.parent.name for path in out.glob("runs/*/done.json")})


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is true of another process, which has to go on until then."""
    while not condition():
        assert process.poll() is None, f"it ended too early, with {process.returncode}"
        time.sleep(0.02)  # looks at what another process does; nothing is timed
