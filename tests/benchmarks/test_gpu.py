"""benchmarks/gpu.py with micro models on this machine: it has to work at the first try where a GPU is lent."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def call(*arguments: str | Path) -> str:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_every_check_passes_and_every_rate_is_measured(tmp_path: Path, shared: Path) -> None:
    folder = tmp_path / "small"
    table = call("run", "--small", "--golden", shared / "golden", folder, "--seconds", "560")
    assert table.count("| yes |") == 8
    results = json.loads((folder / "results" / "results.json").read_text())
    assert [name for name, found in results["rates"].items() if "problem" in found] == ["cut-cross-entropy"]
    assert len(results["rates"]) == 15
    assert set(results["compiled"]) == {"0.4b", "3.5b", "11.2b"}
    assert "not run" not in table
    rows = list(csv.DictReader((folder / "results" / "rates.csv").read_text().splitlines()))
    assert [(row["size"], row["work"]) for row in rows] == [
        ("0.4b", "train"),
        ("3.5b", "train"),
        ("11.2b", "train"),
        ("0.4b", "train cached"),
    ]
    call("run", folder, "--only", "product")
    added = json.loads((folder / "results" / "results.json").read_text())
    assert added["rates"].keys() == results["rates"].keys()
    assert added["rates"]["product"] != results["rates"]["product"]
    assert added["checks"] == results["checks"]


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_rate_that_failed_says_why_in_its_row() -> None:
    gpu = load_script()
    environment = {"packages": {"torch": "2", "transformers": "5", "polyglance": "1"}, "date": "2026-11-27"}
    rates = {
        "product": {"value": 780.0},
        "train 0.4b": {"samples_per_s": 1700.0, "tflops": 234.0, "gib": 60.0, "passes": "6 passes"},
        "published train 0.4b": {"samples_per_s": 250.0},
        "train 3.5b": {"problem": "not finished after 130 s"},
    }
    checks = {"fp16": (False, "losses within 3e-1")}
    table = gpu.make_table(gpu.Results(environment=environment, checks=checks, rates=rates))
    assert "1,700 samples/s, MFU 30.0%, 6.80 x published" in table
    assert "| train 3.5B | not finished after 130 s |" in table
    assert "| fp16 | **no** | losses within 3e-1 |" in table
    assert "60.0 GiB, 6 passes" in table
    assert table.count("| not run |") == 10


def test_rates_are_written_as_the_package_reads_them() -> None:
    gpu = load_script()
    environment = {"gpus": ["NVIDIA H200, 151 GB"], "date": "2026-12-01 10:00 UTC"}
    rates = {"train 0.4b": {"samples_per_s": 1700.0, "tflops": 234.0}, "train 3.5b": {"problem": "no memory"}}
    text = gpu.make_rate_rows(gpu.Results(environment=environment, rates=rates))
    (row,) = csv.DictReader(text.splitlines())
    package = (BENCHMARKS.parent / "src" / "polyglance" / "model" / "rates.csv").read_text().splitlines()
    assert text.splitlines()[0] == package[0]
    assert (row["card"], row["peak_tflops"], row["size"], row["date"]) == ("NVIDIA H200", "989", "0.4b", "2026-12-01")


def test_results_are_written_as_they_come_whatever_is_missing(tmp_path: Path) -> None:
    """A run that is cut short leaves what it has measured; not even the environment need be known."""
    gpu = load_script()
    results = gpu.Results(environment={"date": "2026-12-01 10:00 UTC"})
    results.checks["fp16"] = False, "FileNotFoundError: metrics.jsonl"
    results.note(tmp_path / "out", "fp16", results.checks["fp16"])
    assert "| fp16 | **no** | FileNotFoundError: metrics.jsonl |" in (tmp_path / "out" / "table.md").read_text()
    results.rates["product"] = {"value": 780.0}
    results.note(tmp_path / "out", "product", results.rates["product"])
    assert "bf16 product 780 TFLOP/s" in (tmp_path / "out" / "table.md").read_text()


class Messages:
    """The end of a pipe that messages of a process come out of, and the process, which then ends or stands still."""

    pid, exitcode = 2**22 + 1, 9  # no process has this number

    def __init__(self, *messages: tuple[str, Any], ends: bool) -> None:
        self._messages, self._ends = list(messages), ends

    def poll(self, timeout: float) -> bool:
        return bool(self._messages) or self._ends

    def recv(self) -> tuple[str, Any]:
        if not self._messages:
            raise EOFError
        return self._messages.pop(0)

    def join(self, timeout: float | None = None) -> None:
        pass

    kill = join


@pytest.mark.parametrize(
    ("end", "ends", "found"),
    [
        ([], False, {"samples_per_s": 2.0, "cut": "not finished after 200 s"}),
        ([], True, {"samples_per_s": 2.0, "cut": "its process ended with code 9"}),
        ([("problem", "OutOfMemoryError: no")], True, {"samples_per_s": 2.0, "cut": "OutOfMemoryError: no"}),
        ([("result", {"samples_per_s": 3.0})], True, {"samples_per_s": 3.0}),
    ],
)
def test_what_a_rate_had_measured_stays_in_its_row(
    end: list[tuple[str, Any]], ends: bool, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = load_script()
    workers = gpu.Workers(time.monotonic() + 1000)
    reports = [("report", {"samples_per_s": rate}) for rate in (1.0, 2.0)]
    messages = Messages(*reports, *end, ends=ends)
    monkeypatch.setattr(workers, "start", lambda work: (messages, messages))
    assert workers.call(200, len) == found
    table = gpu.make_table(gpu.Results(environment={"date": "2026-12-01 10:00 UTC"}, rates={"train 3.5b": found}))
    row = [f"{found['samples_per_s']:.0f} samples/s", *([found["cut"]] if "cut" in found else [])]
    assert f"| train 3.5B | {', '.join(row)} |" in table


def test_a_rate_that_reported_nothing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = load_script()
    workers, messages = gpu.Workers(time.monotonic() + 1000), Messages(("problem", "KeyError: 'fn'"), ends=True)
    monkeypatch.setattr(workers, "start", lambda work: (messages, messages))
    with pytest.raises(ValueError, match="KeyError: 'fn'"):
        workers.call(200, len)


class BrokenWorkers:
    """Workers whose processes fail in another way each time."""

    def __init__(self) -> None:
        self.errors = iter([KeyError("samples_per_s"), MemoryError(), ValueError("not finished after 110 s")])

    def left_s(self) -> float:
        return 0.0

    def call(self, *arguments: Any, **options: Any) -> Any:
        raise next(self.errors, ValueError("no time was left"))


def test_one_rate_that_fails_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = load_script()
    results = gpu.Results(environment={"date": "2026-12-01 10:00 UTC"})
    gpu.run_rates(tmp_path, BrokenWorkers(), results, (), tmp_path)
    problems = [found["problem"] for found in results.rates.values()]
    assert problems[:3] == ["'samples_per_s'", "MemoryError", "not finished after 110 s"]
    assert len(problems) == 15


class SlowCompilers:
    """Workers to which compiled layers take too long."""

    def __init__(self) -> None:
        self.compiled: list[bool] = []

    def left_s(self) -> float:
        return 100.0

    def call(self, limit_s: float, work: Any, *arguments: Any, **options: Any) -> Any:
        if work.__name__ != "measure_training":
            raise ValueError("of no interest here")
        self.compiled.append(options.get("compiles", True))
        if self.compiled[-1]:
            raise ValueError("not finished after 110 s")
        return {"samples_per_s": 250.0, "without": "NOT COMPILED: it took too long"}


def test_a_rate_that_compiling_takes_too_long_for_is_measured_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = load_script()
    results, workers = gpu.Results(environment={"date": "2026-12-01 10:00 UTC"}), SlowCompilers()
    gpu.run_rates(tmp_path, workers, results, ("train 0.4b", "train 3.5b", "product"), tmp_path)
    assert workers.compiled == [True, True, False, False]
    table = gpu.make_table(results)
    assert "| train 0.4B | 250 samples/s, NOT COMPILED: it took too long |" in table


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    gpu = load_script()
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(SystemExit, match="holds other files"):
        gpu.main(["run", str(tmp_path)])
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


def test_a_process_ends_with_those_that_it_has_started() -> None:
    """Or a compiler, a loader or torchrun would go on beside what is measured next."""
    gpu = load_script()
    code = "import os, subprocess; os.setpgrp(); subprocess.Popen(['sleep', '600']); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"\n"
        started.join = started.wait  # type: ignore[attr-defined]  # as multiprocessing names it
        gpu.end_group(started)
        assert started.stdout.read() == b"", "the pipe is open as long as a process of the group lives"
