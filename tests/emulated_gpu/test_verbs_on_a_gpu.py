"""Every verb on an emulated GPU: true results, no operand in main memory, no wait inside a step, graphs that repeat."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="the emulated GPU is compiled with g++"),
]


def list_verbs() -> list[str]:
    """Read the names in walk.py; to import it would change torch for the tests that follow."""
    functions = [node for node in ast.parse((FOLDER / "walk.py").read_text()).body if isinstance(node, ast.FunctionDef)]
    return [f.name for f in functions if any(isinstance(d, ast.Name) and d.id == "verb" for d in f.decorator_list)]


@pytest.fixture(scope="module", params=["bart", "gemma2"])
def problems(request: pytest.FixtureRequest, world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Verb -> traceback, of one walk through all of them."""
    out = tmp_path_factory.mktemp("walk") / "problems.json"
    root = FOLDER.parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-m", "tests.emulated_gpu.walk", request.param, str(out), str(world)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("verb", list_verbs())
def test_verb_on_a_gpu(problems: dict[str, str], verb: str) -> None:
    assert not problems[verb], problems[verb]
