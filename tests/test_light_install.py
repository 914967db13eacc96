"""The package without its extras: laws and scores work, other verbs say in one line which extra they need.

The extras' packages cannot be imported in the processes here. `.ci/newcomer` does the same with a real installation.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import polyglance
from polyglance.packages import EXTRAS

_BLOCK = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(EXTRAS)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from polyglance.cli import main
main(sys.argv[1:])
"""
_RUNS = "N,D,y\n" + "".join(f"{p},{s},{0.5 + p**-0.2 + s**-0.3}\n" for p in (1e6, 4e6, 2e7) for s in (1e3, 5e3, 3e4))
_CAPTIONS = [{"image_id": number, "caption": f"a cat sits on mat {number}"} for number in range(4)]


def call(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _BLOCK, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_laws_and_scores_need_no_extra(tmp_path: Path) -> None:
    runs, law, captions = tmp_path / "runs.csv", tmp_path / "law.json", tmp_path / "captions.json"
    runs.write_text(_RUNS)
    captions.write_text(json.dumps(_CAPTIONS))
    for args in (
        ("law", "fit", str(runs), "--form", "additive", "--out", str(law)),
        ("law", "predict", str(law), "--at", "N=1e8,D=1e5", "--json"),
        ("score", "--hyps", str(captions), "--refs", str(captions), "--lang", "en", "--json"),
        ("score", "--list-protocols"),
    ):
        done = call(*args)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "module", "extra"),
    [
        (("law", "fit", "runs.csv", "--plot", "law.svg", "--form", "additive"), "matplotlib", "plots"),
        (("law", "fit", "runs.parquet"), "pyarrow", "parquet"),
        (("train", "run.toml"), "tokenizers", "train"),
        (("study", "plan", "study.toml"), "pyarrow", "train"),
        (("caption", "a.png", "--model", "out", "--lang", "en"), "PIL", "train"),
    ],
)
def test_other_verbs_name_the_extra(tmp_path: Path, args: tuple[str, ...], module: str, extra: str) -> None:
    (tmp_path / "runs.csv").write_text(_RUNS)
    (tmp_path / "runs.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    (tmp_path / "study.toml").write_text("")
    (tmp_path / "run.toml").write_text("")
    done = call(*(str(tmp_path / word) if "." in word else word for word in args))
    verb = " ".join(word for word in args[:2] if "." not in word)
    expected = f"polyglance: {verb} needs {module}, which is not installed here: pip install 'polyglance[{extra}]'\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_names_of_the_package_say_the_extra_too() -> None:
    code = _BLOCK.partition("from polyglance.cli")[0]
    code += "import polyglance; polyglance.fit_law, polyglance.score, polyglance.load_config; polyglance.load_captioner"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: polyglance.load_captioner needs torch, which is not installed here: "
        "pip install 'polyglance[train]'"
    )


def test_help_shows_what_is_installed() -> None:
    """`help` reads every name that `dir` shows, so it may not show one whose extra is missing."""
    code = _BLOCK.partition("from polyglance.cli")[0]
    code += "import polyglance, pydoc; polyglance.find_spec = lambda name: None; pydoc.render_doc(polyglance)\n"
    code += "print(*dir(polyglance))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = set(done.stdout.split())
    assert {"fit_law", "score", "load_config", "laws", "evaluate"} < shown
    assert not {"Polyglance", "load_captioner", "run_study", "engines"} & shown


@pytest.mark.parametrize(("name", "extra"), [("laws", "parquet"), ("Table", "parquet"), ("train", "train")])
def test_a_missing_module_names_the_smallest_extra(monkeypatch: pytest.MonkeyPatch, name: str, extra: str) -> None:
    def fail(module: str) -> None:
        raise ModuleNotFoundError(f"{module}: No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr(polyglance, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match=rf"polyglance\.{name} needs pyarrow.*polyglance\[{extra}\]"):
        polyglance.__getattr__(name)
