"""Published sizes on one GPU: checks, then rates against their goals, as a Markdown table.

    python benchmarks/gpu.py run out/gpu                  # on the GPU machine: at most 8 minutes
    python benchmarks/gpu.py run --small out/gpu-small    # micro models, on a CPU
    python benchmarks/gpu.py prepare out/gpu              # on any machine; a few MB, no download

`run` prepares what is not there, which takes some of its 8 minutes: on a machine lent by the minute, bring it along.

`run` checks golden outputs, resume after a kill, DDP and FSDP of one process under torchrun, fp16, compiled layers, the
loss head, and that a step waits for nothing; meanwhile the layers of the true sizes are compiled. Then it times. Models
of the true sizes are drawn at random on the device. Each piece of work is a process group of its own, which is ended
when its time is over, so that one fault costs one row; what it had measured up to then stays in the row, with the
reason why it is not whole. Results are written as they come to --out, $OUT or FOLDER/results: `results.json`,
`table.md` and `rates.csv`, whose rows belong into src/polyglance/model/rates.csv. They are printed as they come too, so
that a run that is cut short leaves what it has measured. Rates that time was too short for are named at the end, as the
command that measures them; its results are added to those in the folder.

The package need not be installed: `PYTHONPATH=src` is enough where its dependencies are.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_START_S = 150
"""Most seconds until the libraries are loaded, from a disk that has never read them."""
_ALL_CHECKS_S = 200
"""Most seconds of all checks, so that the rates have their time even where a check stands still."""
_CHECKS_S = 150
"""Most seconds of a check, and of compiling the layers of a size beside the checks."""
_RATE_S = {"product": 30, "loss head": 40, "plain loss head": 30, "cut-cross-entropy": 40, "decode": 60, "losses": 60}
"""Name of a rate, or its first word -> most seconds: models are drawn in it."""
_OTHER_RATE_S = 110
"""Most seconds of the other rates, which train."""
_AGAIN_S = 40
"""Least time that is left for a rate that failed with compiled layers."""

_NO_TIME = "not run: no time was left"
_WRITING = threading.Lock()


@dataclass
class Results:
    """Results up to now."""

    environment: dict[str, Any]
    checks: dict[str, tuple[bool, str]] = field(default_factory=dict)
    """Name -> (whether it passed, what was seen)."""
    rates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> measured values; `problem` where there are none, and `seconds` that the work took."""
    compiled: dict[str, str] = field(default_factory=dict)
    """Size -> what came of compiling its layers beside the checks."""
    notes: list[str] = field(default_factory=list)

    def write(self, out: Path) -> None:
        """Write results.json, table.md and rates.csv, each whole: checks that run side by side call this."""
        texts = {
            "results.json": json.dumps(vars(self), indent=1),
            "table.md": make_table(self),
            "rates.csv": make_rate_rows(self),
        }
        with _WRITING:
            out.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                partial = out / f"{name}.partial"
                partial.write_text(text)
                partial.replace(out / name)

    def note(self, out: Path, name: str, seen: object) -> None:
        """Print what was seen, at once, and write the files."""
        print(f"{name}: {seen}", file=sys.stderr, flush=True)
        self.write(out)


class Workers:
    """Processes that begin with the libraries loaded: forked from one that loaded them and never touched the GPU.

    Args:
        end_s: time of the monotonic clock when all work has to end.
        patience: factor on the limits of single pieces of work.
    """

    def __init__(self, end_s: float, *, patience: float = 1.0) -> None:
        # Python 3.11 does not hand its own path to the process that loads the libraries.
        os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        # The question whether there is a GPU would start CUDA, which a forked process cannot use.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["gpu_checks", "gpu_rates"])
        self._end_s, self._patience = end_s, patience

    def start_anew(self) -> None:
        """Let every process load the libraries by itself from now on."""
        self._context = multiprocessing.get_context("spawn")

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """End all work of a block after some seconds, if not before."""
        end_s = self._end_s
        self._end_s = min(end_s, time.monotonic() + seconds * self._patience)
        try:
            yield
        finally:
            self._end_s = end_s

    def left_s(self) -> float:
        """Return the seconds until all work has to end."""
        return self._end_s - time.monotonic()

    def start(self, work: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, Connection]:
        """Start work in a process; return the process and the end that its result comes out of."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(sender, work, args, options))
        process.start()
        sender.close()
        return process, receiver

    def call(self, limit_s: float, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what the work returns or, where it does not come to its end, what it has reported, and why as `cut`.

        Raises:
            ValueError: it failed, its time was over, or none is left, and it has reported nothing.
        """
        limit_s = min(limit_s * self._patience, self.left_s())
        if limit_s < 5:
            raise ValueError(_NO_TIME)
        end_s = time.monotonic() + limit_s
        process, receiver = self.start(work, *args, **options)
        reported: dict[str, Any] = {}
        try:
            while True:
                if not receiver.poll(max(0.0, end_s - time.monotonic())):
                    problem = f"not finished after {limit_s:.0f} s"
                    break
                kind, found = receiver.recv()
                if kind == "result":
                    process.join(10)
                    return found
                if kind == "problem":
                    problem = found
                    break
                reported = found
        except EOFError:
            process.join()
            problem = f"its process ended with code {process.exitcode}"
        finally:
            end_group(process)
        if not reported:
            raise ValueError(problem)
        return reported | {"cut": problem}


def end_group(process: Any) -> None:
    """End a process and those that it has started: loaders, compilers, torchrun."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # if it was not yet the first of its group
    process.join()


def _work(sender: Connection, work: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    import gpu_rates

    os.setpgrp()
    gpu_rates.report = lambda found: sender.send(("report", found))
    try:
        sender.send(("result", work(*args, **options)))
    except BaseException as error:  # noqa: BLE001 - one fault costs one row
        traceback.print_exc()
        sender.send(("problem", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]))


def run_checks(folder: Path, workers: Workers, results: Results, out: Path) -> None:
    """Run all checks, those that do not need another's result at the same time, and compile the layers of the true
    sizes, so that the rates need not wait for it."""
    import gpu_checks as checks
    import gpu_rates as rates

    for name in ("whole", "killed", "ddp", "fsdp", "fp16"):  # of an earlier call: they would go on, or be finished
        shutil.rmtree(folder / "check" / name, ignore_errors=True)

    def check(name: str, work: Callable[[], tuple[bool, str]]) -> None:
        try:
            results.checks[name] = work()
        except Exception as error:  # noqa: BLE001 - one fault costs one row
            results.checks[name] = False, f"{type(error).__name__}: {error}"[:300]
        results.note(out, name, results.checks[name])

    def compile_layers(size: str) -> None:
        try:
            seconds = workers.call(_CHECKS_S, rates.compile_layers, folder, size)
            results.compiled[size] = f"{seconds:.0f} s beside the checks"
        except Exception as error:  # noqa: BLE001 - one fault costs one row
            results.compiled[size] = f"{type(error).__name__}: {error}"[:300]
        results.note(out, f"layers of {size} compiled", results.compiled[size])

    def resume() -> tuple[bool, str]:
        process, _ = workers.start(checks.train_check_run, folder, "killed")
        try:
            logged = checks.kill_after(process, folder, rows=5, limit_s=min(_CHECKS_S, max(1, workers.left_s())))
        finally:
            end_group(process)
        workers.call(_CHECKS_S, checks.train_check_run, folder, "killed")
        whole.result()
        return workers.call(_CHECKS_S, checks.compare_resumed, folder, logged)

    def torchrun(strategy: str) -> tuple[bool, str]:
        workers.call(_CHECKS_S, checks.train_under_torchrun, folder, strategy)
        whole.result()
        return checks.compare_losses(folder, strategy, bound=1e-5)

    def half() -> tuple[bool, str]:
        workers.call(_CHECKS_S, checks.train_check_run, folder, "fp16", "fp16")
        whole.result()
        return checks.compare_losses(folder, "fp16", bound=2e-2)

    with ThreadPoolExecutor(16) as pool:
        compiling = [pool.submit(compile_layers, size) for size in rates.SIZES]
        whole = pool.submit(workers.call, _CHECKS_S, checks.train_check_run, folder, "whole")
        works: dict[str, Callable[[], tuple[bool, str]]] = {
            "resumed after SIGKILL = uninterrupted, deterministic algorithms": resume,
            "DDP of one process under torchrun = single": lambda: torchrun("ddp"),
            "FSDP2 of one process under torchrun = single": lambda: torchrun("fsdp"),
            "fp16 with its loss scale = fp32": half,
            "compiled layers = layers as they are": lambda: workers.call(_CHECKS_S, checks.compare_compiled),
            "loss head = plain logits": lambda: workers.call(_CHECKS_S, checks.compare_loss_head),
            "a step waits for nothing": lambda: workers.call(_CHECKS_S, checks.check_waits),
        }
        if (folder / "golden").is_dir():
            works["golden outputs in float32"] = lambda: workers.call(_CHECKS_S, checks.check_golden, folder)
        for one in [*compiling, *(pool.submit(check, name, work) for name, work in works.items())]:
            one.result()


def run_rates(folder: Path, workers: Workers, results: Results, only: tuple[str, ...], out: Path) -> None:
    """Measure the rates, the most important ones first, one at a time."""
    import gpu_rates as rates

    works: dict[str, tuple[Any, ...]] = {
        "product": (rates.measure_product_tflops, folder),
        "train 0.4b": (rates.measure_training, folder, "0.4b"),
        "train 3.5b": (rates.measure_training, folder, "3.5b"),
        "loss head": (rates.measure_loss_head, folder),
        "decode 0.4b": (rates.measure_decoding, folder, "0.4b"),
        "losses 0.4b": (rates.measure_losses, folder, "0.4b"),
        "train 11.2b": (rates.measure_training, folder, "11.2b"),
        "train 0.4b cached": (rates.measure_training, folder, "0.4b", {"is_cached": True}),
        "decode 3.5b": (rates.measure_decoding, folder, "3.5b"),
        "published train 0.4b": (rates.measure_published_training, folder, "0.4b"),
        "published train 3.5b": (rates.measure_published_training, folder, "3.5b"),
        "published decode 0.4b": (rates.measure_decoding, folder, "0.4b", {"as_published": True}),
        "plain loss head": (rates.measure_loss_head, folder, {"kind": "plain"}),
        "cut-cross-entropy": (rates.measure_loss_head, folder, {"kind": "cut-cross-entropy"}),
        "train 0.4b even": (rates.measure_training, folder, "0.4b", {"is_even": True}),
    }
    if unknown := set(only) - works.keys():
        raise SystemExit(f"--only: unknown {', '.join(sorted(unknown))}; there are {', '.join(works)}")

    def measure(name: str, **more: Any) -> None:
        work, *args = works[name]
        options = args.pop() if args and isinstance(args[-1], dict) else {}
        since_s = time.monotonic()
        try:
            found = workers.call(_limit_s(name), work, *args, **options, **more)
            found = found if isinstance(found, dict) else {"value": found}
        except Exception as error:  # noqa: BLE001 - one fault costs one row
            found = {"problem": str(error) or type(error).__name__}
        results.rates[name] = {**found, "seconds": round(time.monotonic() - since_s, 1)}
        results.note(out, name, results.rates[name])

    chosen = [name for name in works if not only or name in only]
    for name in chosen:
        measure(name)
    for name in chosen:  # at least the rate of layers as they are, where compiling may have taken the time
        problem = results.rates[name].get("problem")
        if name.startswith("train ") and problem is not None and problem != _NO_TIME and workers.left_s() > _AGAIN_S:
            measure(name, compiles=False)


def _limit_s(name: str) -> float:
    return _RATE_S.get(name) or _RATE_S.get(name.replace("published ", "").partition(" ")[0]) or _OTHER_RATE_S


def make_table(results: Results) -> str:
    """Make the Markdown table of goals."""
    rates, environment = results.rates, results.environment
    product = rates.get("product", {}).get("value")
    packages = {"torch": "?", "transformers": "?", "polyglance": "?", **environment.get("packages", {})}
    lines = [
        f"{', '.join(environment.get('gpus', ['CPU']))}; driver {environment.get('driver', 'none')}, CUDA "
        f"{environment.get('cuda', 'none')}, torch {packages['torch']}, transformers {packages['transformers']}, "
        f"polyglance {packages['polyglance']}; {environment['date']}; bf16 product "
        f"{'not measured' if product is None else f'{product:,.0f} TFLOP/s'}",
        "",
        *("| check | passed | seen |", "|---|---|---|"),
        *(f"| {name} | {'yes' if passed else '**no**'} | {seen} |" for name, (passed, seen) in results.checks.items()),
        "",
        *("| work | measured | goal |", "|---|---|---|"),
        *(f"| {work} | {measured} | {goal} |" for work, measured, goal in _goal_rows(rates, product)),
        "",
        *(f"- layers of {size} compiled: {seen}" for size, seen in results.compiled.items()),
        *(f"- {note}" for note in results.notes),
    ]
    return "\n".join(lines) + "\n"


def _goal_rows(rates: dict[str, dict[str, Any]], product: float | None) -> list[tuple[str, str, str]]:
    def train(name: str, published: str = "") -> str:
        found = rates.get(name, {})
        if "samples_per_s" not in found:
            return found.get("problem", "not run")
        parts = [f"{found['samples_per_s']:,.0f} samples/s"]
        if product is not None and "tflops" in found:
            parts.append(f"MFU {found['tflops'] / product:.1%}")
        if "samples_per_s" in rates.get(published, {}):
            parts.append(f"{found['samples_per_s'] / rates[published]['samples_per_s']:.2f} x published")
        parts += [f"{found['gib']:.1f} GiB, {found['passes']}"] if "gib" in found else []
        parts += [f"first {found['first_steps']} steps {found['warmup_s']:.0f} s"] if "warmup_s" in found else []
        parts += [found[name] for name in ("without", "cut") if name in found]
        return ", ".join(parts)

    def head(name: str) -> str:
        found = rates.get(name, {})
        parts = [
            f"weights {kind} {found[f'{kind}_ms']:.1f} ms, {found[f'{kind}_extra_gib']:.2f} GiB"
            for kind in ("fp32", "bf16")
            if f"{kind}_ms" in found
        ]
        if "states_error" in found:
            errors = f"{found['states_error']:.1e} (states), {found['head_error']:.1e} (head)"
            parts.append(f"gradients off by {errors}")
        return "; ".join([*parts, *([found["cut"]] if "cut" in found else [])]) or found.get("problem", "not run")

    def decode(size: str) -> str:
        found, published = rates.get(f"decode {size}", {}), rates.get(f"published decode {size}", {})
        if "images_per_s" not in found:
            return found.get("problem", "not run")
        parts = [f"{found['images_per_s']:,.0f} images/s"]
        if "images_per_s" in published:
            parts.append(f"{found['images_per_s'] / published['images_per_s']:.1f} x published")
        parts.append(f"{found['step_ms']:.1f} ms a step")
        if "single_step_ms" in found:
            ratio = found["single_step_ms"] / found["reading_ms"]
            parts.append(f"one image {found['single_step_ms']:.2f} ms, {ratio:.1f} x reading the weights")
        return ", ".join([*parts, *([found["cut"]] if "cut" in found else [])])

    training, losses = rates.get("train 0.4b", {}), rates.get("losses 0.4b", {})
    evaluated = losses.get("problem", "not run")
    if "samples_per_s" in losses:
        evaluated = f"{losses['samples_per_s']:,.0f} samples/s"
        if "samples_per_s" in training:
            evaluated += f", {losses['samples_per_s'] / training['samples_per_s']:.1f} x training"
            evaluated += f"; data wait share {training['data_wait_share']:.3f}"
    return [
        ("train 0.4B", train("train 0.4b", "published train 0.4b"), ">= 1,700 samples/s (MFU 30 %), >= 6 x"),
        ("train 3.5B", train("train 3.5b", "published train 3.5b"), ">= 340 samples/s (MFU 40 %), >= 3.5 x"),
        ("train 11.2B, recomputing", train("train 11.2b"), "runs; MFU >= 40 %"),
        ("train 0.4B, passes of equal size", train("train 0.4b even"), "fewer than with planned passes"),
        ("train 0.4B, cached tower features", train("train 0.4b cached"), "MFU of what is left no lower"),
        ("published step, 0.4B", train("published train 0.4b"), "254 samples/s on the H200"),
        ("published step, 3.5B", train("published train 3.5b"), "97 samples/s on the H200"),
        ("loss head", head("loss head"), "<= 18 ms, <= 0.1 GiB beyond the gradients"),
        ("loss head, plain", head("plain loss head"), "25.1 and 22.7 ms on the H200"),
        ("loss head, cut-cross-entropy", head("cut-cross-entropy"), "17.5 and 14.9 ms on the H200"),
        ("beam search, 0.4B", decode("0.4b"), ">= 100 images/s, >= 10 x; step <= 3 x reading the weights"),
        ("beam search, 3.5B", decode("3.5b"), ">= 10 x; step <= 3 x reading the weights"),
        ("losses, 0.4B", evaluated, ">= 2 x training; data wait share < 0.05 with 8 processes"),
    ]


def make_rate_rows(results: Results) -> str:
    """Make the rows for src/polyglance/model/rates.csv; the peak is left open for a card that has no known one."""
    from polyglance.model.rates import KNOWN_PEAKS_TFLOPS

    card = results.environment.get("gpus", ["CPU"])[0].split(",")[0]
    rows = ["card,peak_tflops,size,work,samples_per_s,tflops,source,date,command"]
    peak = next((f"{tflops:g}" for name, tflops in KNOWN_PEAKS_TFLOPS.items() if name in card.split()), "")
    for name, found in results.rates.items():
        work, _, size = name.partition(" ")
        size, _, variant = size.partition(" ")
        if work == "train" and "tflops" in found and variant != "even":
            kind = "train cached" if variant else "train"
            rate, tflops = f"{found['samples_per_s']:.1f}", f"{found['tflops']:.2f}"
            date = results.environment["date"][:10]
            rows.append(f"{card},{peak},{size},{kind},{rate},{tflops},measured,{date},benchmarks/gpu.py run")
    return "\n".join(rows) + "\n"


def run(folder: Path, out: Path, *, seconds: float, only: tuple[str, ...], small: bool, golden: Path) -> Results:
    """Check and measure within `seconds`; print the table. What is not there is prepared first.

    Args:
        small: prepare micro models.
        golden: folder of the published code's golden outputs, to be prepared.
    """
    end_s = time.monotonic() + seconds
    is_prepared = (folder / "plan.json").is_file()
    is_small = json.loads((folder / "plan.json").read_text())["is_small"] if is_prepared else small
    workers = Workers(end_s, patience=4.0 if is_small else 1.0)  # CPUs may be shared
    results = Results(environment={"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")})
    if not is_prepared:
        from gpu_data import prepare

        results.notes += workers.call(_START_S, prepare, folder, small=small, golden=golden)
    if only and (out / "results.json").is_file():  # of the call before, which this one adds to
        before = json.loads((out / "results.json").read_text())
        results = Results(**{**before, "environment": results.environment, "notes": []})
    if not (folder / "golden").is_dir():
        results.notes.append("no golden outputs were prepared, so these were not checked")
    results.environment |= _find_environment(workers, results)
    results.note(out, "environment", results.environment)
    if not only:
        with workers.limit(_ALL_CHECKS_S):
            run_checks(folder, workers, results, out)
    run_rates(folder, workers, results, only, out)
    if left_out := [name for name, found in results.rates.items() if found.get("problem") == _NO_TIME]:
        names = " ".join(f"'{name}'" for name in left_out)
        results.notes.append(f"for want of time not measured: `benchmarks/gpu.py run {folder} --only {names}`")
    results.notes.append(f"{seconds - workers.left_s():.0f} s in all; losses and samples as benchmarks/gpu.py says")
    results.write(out)
    print(make_table(results), flush=True)
    return results


def _find_environment(workers: Workers, results: Results) -> dict[str, Any]:
    """Describe the environment. A forked process that cannot use the GPU shows that the one it came from has used it:
    from then on every process loads the libraries by itself."""
    for is_last in (False, True):
        try:
            return dict(workers.call(_START_S, _describe))
        except Exception as error:  # noqa: BLE001 - the rest may work all the same
            results.notes.append(f"the environment could not be described: {error}")
            if not is_last:
                workers.start_anew()
    return {}


def _describe() -> dict[str, Any]:
    import torch

    from polyglance.environment import describe_environment

    environment = describe_environment()
    if environment.get("gpus"):
        torch.zeros(1, device="cuda")
    return environment


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    prepare = verbs.add_parser("prepare", help="make data, tokenizers and a small model")
    measure = verbs.add_parser("run", help="check and measure; prepare first what is not there")
    for verb in (prepare, measure):
        verb.add_argument("folder", type=Path)
        verb.add_argument("--small", action="store_true", help="micro models, for a CPU")
        verb.add_argument("--golden", type=Path, default=Path(__file__).parents[2] / "shared" / "golden")
    measure.add_argument("--out", type=Path, help="folder for the results; $OUT, else FOLDER/results, if not given")
    measure.add_argument("--seconds", type=float, default=480.0, help="time for all of it")
    measure.add_argument("--only", nargs="*", default=(), help="measure these rates alone, and check nothing")
    given = parser.parse_args(arguments)
    if given.verb == "prepare":
        from gpu_data import prepare as make

        for note in make(given.folder, small=given.small, golden=given.golden):
            print(note, file=sys.stderr)
        return
    folder = given.folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "plan.json").is_file():
        raise SystemExit(f"{folder}: holds other files; give a new folder, or one that `gpu.py prepare` has made")
    out = given.out or Path(os.environ.get("OUT") or folder / "results")
    options = {"small": given.small, "golden": given.golden}
    results = run(folder, out, seconds=given.seconds, only=tuple(given.only), **options)
    if not all(passed for passed, _ in results.checks.values()):
        raise SystemExit("a check failed")


if __name__ == "__main__":
    main()
