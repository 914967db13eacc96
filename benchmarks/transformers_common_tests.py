"""Run transformers' common model tests on the family (tests/model/common_family.py); print what passed and failed.

    python benchmarks/transformers_common_tests.py
    python benchmarks/transformers_common_tests.py --source ~/transformers   # a checkout: its tests of generation too

The tests are those of the installed version. They are in its source distribution, which pip downloads; that one lacks
`tests/generation` and `tests/exporters`. `--source` takes these two from a checkout, best one of the installed version;
without it their classes are left out. Exit code 1: a test failed that is not explained in `EXPLAINED`, or one passed
that is.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import transformers

from polyglance.model.cache import CACHE_ARGUMENT

ROOT = Path(__file__).resolve().parents[1]
STAND_INS = {
    "exporters/test_export.py": "class ExportTesterMixin: pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin: pass\n",
}
"""Modules that `test_modeling_common` imports and the source distribution lacks -> empty classes of these names."""
NO_ASSISTANT = "`assistant_model` is refused by name: the library gives an assistant no image"
EXPLAINED = {
    "test_bc_cache_name_forward": "`past_key_values` is not deprecated: before transformers 5.24 it is the only name",
    "test_model_base_model_prefix": "the model has no headless class that it would wrap",
    "test_assisted_decoding_matches_greedy_search_0_random": NO_ASSISTANT,
    "test_assisted_decoding_matches_greedy_search_1_same": NO_ASSISTANT,
    "test_assisted_decoding_sample": NO_ASSISTANT,
    "test_generate_without_input_ids": "`generate()` without an image is refused: every task of this model reads one",
}
"""Test that fails -> the reason."""


@dataclass
class Outcomes:
    """Outcome of each test, by class; a pytest plugin."""

    skipped: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("::")[2]
        if report.failed:
            self.failed.add(name)
        elif report.skipped:
            reason: Any = report.longrepr
            self.skipped[name] = reason[2].removeprefix("Skipped: ")
        elif report.when == "call":
            self.passed.add(name)

    def settle(self) -> None:
        """Count a test with a failed part (subtest) as failed, and one that was left in between as skipped."""
        self.passed -= self.failed | self.skipped.keys()
        self.skipped = {name: reason for name, reason in self.skipped.items() if name not in self.failed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="checkout of transformers, instead of its source distribution")
    source = parser.parse_args().source
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        unpack_tests(transformers.__version__, folder)
        if source is not None:
            add_missing(source / "tests", folder / "tests")
        left_out = add_stand_ins(folder / "tests")
        outcomes = run_tests(folder)
    print_outcomes(outcomes, left_out)
    return int(bool(unexplained(outcomes)))


def unpack_tests(version: str, folder: Path) -> None:
    """Download the source distribution and unpack its tests."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
    subprocess.run([*pip, "--dest", str(folder), f"transformers=={version}"], check=True)
    with tarfile.open(next(folder.glob("transformers-*.tar.gz"))) as archive:
        tests = [member for member in archive if member.name.split("/")[1:2] == ["tests"]]
        archive.extractall(folder, tests, filter="data")
    (folder / f"transformers-{version}" / "tests").rename(folder / "tests")


def add_missing(source: Path, tests: Path) -> None:
    """Copy the folders that the source distribution lacks. The name of the cache is that of the installed version."""
    for name in STAND_INS:
        folder = Path(name).parent
        if not (source / folder).is_dir():
            raise SystemExit(f"{source / folder}: no such folder; --source takes a checkout of transformers")
        shutil.copytree(source / folder, tests / folder)
    if CACHE_ARGUMENT == "cache":
        path = tests / "generation/test_utils.py"
        path.write_text(re.sub(r"\bpast_key_values\b", CACHE_ARGUMENT, path.read_text()))


def add_stand_ins(tests: Path) -> list[str]:
    """Write the modules that are missing; return their names."""
    (tests / "__init__.py").touch()
    missing = [name for name in STAND_INS if not (tests / name).exists()]
    for name in missing:
        (tests / name).parent.mkdir(exist_ok=True)
        (tests / name).write_text(STAND_INS[name])
    return missing


def run_tests(folder: Path) -> Outcomes:
    """Run the common tests on the family."""
    sys.path[:0] = [str(folder), str(ROOT / "tests/model")]
    outcomes = Outcomes()
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\nfilterwarnings = ignore\n")
    options = ["-q", "--tb=short", "--noconftest", "-p", "no:cacheprovider", "-c", str(settings), f"--rootdir={folder}"]
    pytest.main([*options, str(ROOT / "tests/model/common_family.py")], plugins=[outcomes])
    outcomes.settle()
    return outcomes


def unexplained(outcomes: Outcomes) -> set[str]:
    """Return tests that failed without a reason in `EXPLAINED`, and those with a reason that passed."""
    failed, passed = ({name.rpartition("::")[2] for name in names} for names in (outcomes.failed, outcomes.passed))
    return (failed - EXPLAINED.keys()) | (passed & EXPLAINED.keys()) if passed else {"no test ran"}


def print_outcomes(outcomes: Outcomes, left_out: list[str]) -> None:
    """Print the table, and the reasons."""
    print(f"\ntransformers {transformers.__version__}; left out: {', '.join(left_out) or 'nothing'}\n")
    print("| tests | passed | failed | skipped |\n|---|---|---|---|")
    groups = {name.partition("::")[0] for name in outcomes.passed | outcomes.failed}
    for group in sorted(groups):
        counts = [
            sum(name.startswith(group) for name in names)
            for names in (outcomes.passed, outcomes.failed, outcomes.skipped)
        ]
        print(f"| {group} | {' | '.join(map(str, counts))} |")
    print("\nFailed:")
    for name in sorted({name.rpartition("::")[2] for name in outcomes.failed}):
        print(f"- {name}: {EXPLAINED.get(name, 'NOT EXPLAINED')}")
    print("\nSkipped by the library, for the reasons that it gives:")
    for reason, count in Counter(outcomes.skipped.values()).most_common():
        names = sorted({name.rpartition("::")[2] for name, given in outcomes.skipped.items() if given == reason})
        print(f"- {count} x {reason}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}")
    if problems := unexplained(outcomes):
        print(f"\nunexpected: {', '.join(sorted(problems))}")


if __name__ == "__main__":
    sys.exit(main())
