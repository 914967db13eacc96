"""The folders are the way the data flows: imports point to earlier ones only, and light parts stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import polyglance

ROOT = Path(polyglance.__file__).parent
ORDER = ("laws", "engines", "data", "mixture", "model", "train", "evaluate", "report", "study", "cli")
"""Packages from first to last; modules that are not listed (what the project is about) come before all."""
MOVING = ("engines/config.py", "engines/library.py", "engines/nllb.py", "engines/open.py")
"""Files of the engine room that still import from later folders."""
SEPARATE = {("evaluate", "train"), *((name, "laws") for name in ORDER[1:-3])}
"""`laws` stands alone: only report, study and the command line use it."""
TRANSFORMERS_IN = ("model", "engines", "train/step.py")
"""Types of transformers' models are named where a language model is trained."""


def imports(path: Path) -> set[str]:
    """Names of the modules a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def layer(module: str) -> str:
    """`polyglance.data.shard` -> `data`; what comes before the folders -> ``."""
    name = module.split(".")[1] if "." in module else ""
    return name if name in ORDER else ""


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_to_earlier_folders(path: Path) -> None:
    own = layer(".".join(("polyglance", *path.relative_to(ROOT).with_suffix("").parts)))
    rank = ORDER.index(own) if own else -1
    for module in imports(path):
        if module.split(".")[0] != "polyglance" or path.name == "__main__.py":
            continue
        if path.relative_to(ROOT).as_posix() in MOVING:
            continue
        other = layer(module)
        if other and other != own:
            assert ORDER.index(other) < rank, f"{own or 'the top'} imports {module}"
            assert (own, other) not in SEPARATE, f"{own} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_transformers_is_touched_in_few_places(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    heavy = {module.split(".")[0] for module in imports(path)}
    if relative.startswith(("laws", "report")):
        assert not heavy & {"torch", "transformers"}
    if not relative.startswith(TRANSFORMERS_IN):
        assert "transformers" not in heavy


@pytest.mark.parametrize(
    "statement",
    [
        "import polyglance.laws",
        "import polyglance.report",
        "import polyglance.data.world",
        "import polyglance.study.config",
        "import polyglance.cli",
        "import polyglance.evaluate.score",
        "import polyglance.data.build.recipe",
        "import polyglance.data.benchmarks",
        "from polyglance.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass",
        "from polyglance.cli import main\ntry:\n    main(['law', 'fit', '--help'])\nexcept SystemExit:\n    pass",
    ],
)
def test_light_parts_load_neither_torch_nor_transformers(statement: str) -> None:
    code = f"{statement}\nimport sys\nassert not {{'torch', 'transformers'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_and_functions_stay_short() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 600, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):  # what it does, not how its arguments are described
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert not body or (body[-1].end_lineno or 0) - body[0].lineno < 80, f"{path}: {node.name}"
