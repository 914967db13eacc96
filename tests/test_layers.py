"""Structure of the package: imports without circles, unique names, light parts, short files and functions."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import polyglance

ROOT = Path(polyglance.__file__).parent
ORDER = ("laws", "engines", "data", "mixture", "model", "train", "evaluate", "report", "study", "cli")
"""Folders from first to last; files beside them (the ground floor) come before all."""
SEPARATE = {("evaluate", "train"), *((folder, "laws") for folder in ORDER[1:-3])}
"""Folders that do not import each other. Only report, study and the command line use `laws`."""
TRANSFORMERS_IN = ("model", "engines", "train/step.py")
"""Where transformers is imported. train/step.py names the type of a language model."""
FILES = sorted(ROOT.rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    """Return the module's name: `polyglance.data.shard`."""
    parts = ("polyglance", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
FRONT_DOOR = "polyglance"
"""Names modules whose names it offers, and imports each on first use."""


def imports(path: Path) -> set[str]:
    """Return the names of all modules that a file imports, at the top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (members & MODULES.keys()) or {node.module}
    return names


def folder_of(module: str) -> str:
    """`polyglance.data.shard` -> `data`; an empty text for the ground floor."""
    name = module.split(".")[1] if "." in module else ""
    return name if name in ORDER else ""


def test_imports_point_to_earlier_folders() -> None:
    for module, path in MODULES.items():
        if module in (FRONT_DOOR, "polyglance.__main__"):
            continue
        folder = folder_of(module)
        for imported in imports(path):
            other = folder_of(imported) if imported.split(".")[0] == "polyglance" else ""
            if other and other != folder:
                assert folder, f"{module}, on the ground floor, imports {imported}"
                assert ORDER.index(other) < ORDER.index(folder), f"{module} imports {imported}"
                assert (folder, other) not in SEPARATE, f"{module} imports {imported}"


def test_files_do_not_import_each_other_in_a_circle() -> None:
    graph = {module: imports(path) & MODULES.keys() for module, path in MODULES.items() if module != FRONT_DOOR}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_folders_in_a_folder_do_not_import_each_other_in_a_circle() -> None:
    for part in ORDER:
        graph: dict[str, set[str]] = defaultdict(set)
        for module, path in MODULES.items():
            folder = _inner_folder(part, module)
            others = {_inner_folder(part, imported) for imported in imports(path) & MODULES.keys()}
            if folder:
                graph[folder] |= others - {"", folder}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(f"{part}: " + " -> ".join(error.args[1]))


def _inner_folder(part: str, module: str) -> str:
    """`laws`, `polyglance.laws.tables.table` -> `tables`; empty for other parts and for files beside folders."""
    names = module.split(".")
    return names[2] if len(names) > 2 and names[1] == part and (ROOT / part / names[2]).is_dir() else ""


def defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def test_a_public_name_stands_for_one_thing() -> None:
    """Classes, functions, constants and types; names of one letter are type variables."""
    places: Mapping[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        for node in parse(path).body:
            for name in defined_names(node):
                if not name.startswith("_") and len(name) > 1:
                    places[name].append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    """Not with a relative clause, which a reader has to turn around."""
    for path in FILES:
        found = re.search(r'^ *"""(What|Who|Whose|Which|Of) .*$', path.read_text(), re.MULTILINE)
        assert found is None, f"{path}: {found.group()}"


def test_docstrings_of_predicates_begin_alike() -> None:
    """Of a function with a verb, `Tell whether`; of a property, which is read like a field, `Whether`."""
    for path in FILES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
                wrong = ("Tell whether", "Return whether") if is_property else ("Whether", "Return whether")
                assert not text.startswith(wrong), f"{path}: {node.name}"


def test_transformers_is_touched_in_few_places() -> None:
    for path in FILES:
        relative = path.relative_to(ROOT).as_posix()
        heavy = {module.split(".")[0] for module in imports(path)} & {"torch", "transformers"}
        if relative.startswith(("laws", "report")):
            assert not heavy, relative
        if not relative.startswith(TRANSFORMERS_IN):
            assert "transformers" not in heavy, relative


@pytest.mark.parametrize(
    "statement",
    [
        "import polyglance.laws",
        "import polyglance.report",
        "import polyglance.data.world",
        "import polyglance.study.config",
        "import polyglance.study.watching.serve",
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
        assert path.read_text().count("\n") <= 600, path
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef):  # the docstring does not count
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert not body or (body[-1].end_lineno or 0) - body[0].lineno < 80, f"{path}: {node.name}"
