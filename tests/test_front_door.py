"""Names of the package itself, the scripts in examples/notebooks, and scripts whose workers import them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import polyglance

ROOT = Path(__file__).parents[1]


def run_script(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(path)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_every_name_of_the_package_is_found() -> None:
    for name in polyglance.__all__:
        assert callable(getattr(polyglance, name)), name
        assert name in dir(polyglance)
    with pytest.raises(AttributeError, match="has no attribute 'fit_laws'; did you mean 'fit_law'"):
        polyglance.fit_laws  # noqa: B018
    assert not hasattr(polyglance, "_repr_html_")
    assert not {"Any", "attrgetter", "find_spec", "import_module"} & set(dir(polyglance))
    assert polyglance.evaluate.__name__ == "polyglance.evaluate"


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import polyglance; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert not {name.partition(".")[0] for name in done.stdout.split()} & {"numpy", "scipy", "torch", "tyro", "rich"}


@pytest.mark.parametrize(
    "name", ["laws_on_my_table", "score_my_captions", pytest.param("study_and_its_page", marks=pytest.mark.slow)]
)
def test_notebooks_run(name: str, tmp_path: Path) -> None:
    done = run_script(ROOT / "examples" / "notebooks" / f"{name}.py", tmp_path)
    assert done.returncode == 0, done.stderr
    if name == "study_and_its_page":
        assert (tmp_path / "study" / "report" / "index.html").is_file()


@pytest.mark.slow
def test_a_script_that_its_workers_would_run_again_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    notebook = (ROOT / "examples" / "notebooks" / "study_and_its_page.py").read_text()
    script.write_text(notebook.replace('if __name__ == "__main__":', "if True:"))
    done = run_script(script, tmp_path)
    assert done.returncode != 0
    assert "put the call under `if __name__ == '__main__':`" in done.stderr
