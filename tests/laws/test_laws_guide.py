"""The commands of docs/laws.md, run as written; the printed lines below a `$` command are in its output."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from polyglance.cli import main

ROOT = Path(__file__).parents[2]


def read_sections():
    """Return heading -> its text."""
    parts = re.split(r"^##+ (.+)$", (ROOT / "docs" / "laws.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples" / "laws", tmp_path / "examples" / "laws")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_walk_from_runs_to_what_to_buy(folder, capsys):
    text = read_sections()["From your runs to what to buy"]
    blocks = re.findall(r"^    \$ polyglance (.+)\n((?:    [^$\n].*\n)*)", text, flags=re.MULTILINE)
    assert len(blocks) == 8
    for command, shown in blocks:
        main(shlex.split(command))
        output = capsys.readouterr().out
        for line in shown.splitlines():
            assert line.removeprefix("    ") in output, command
    (code,) = re.findall(r"```python\n(.+?)```", text, flags=re.DOTALL)
    exec(code, {})
    held_out, chosen = capsys.readouterr().out.splitlines()
    assert "misses the 5 largest (up to 1.00 decades larger) by a median of 0.18 %" in held_out
    assert chosen.startswith("medium 8.667e+08 ")


@pytest.mark.parametrize("heading", ["Laws from constants", "A budget"])
def test_the_commands_of_other_sections_run(heading, folder, capsys):
    commands = re.findall(r"^    polyglance (.+)$", read_sections()[heading], flags=re.MULTILINE)
    assert len(commands) >= 3
    shutil.copy(folder / "examples" / "laws" / "models.csv", folder / "models.csv")
    columns = ["--form", "additive", "--columns", "N=params,D=tokens,y=loss", "--bootstrap", "20"]
    main(["law", "fit", "examples/laws/runs.csv", *columns, "--out", "law.json"])
    for command in commands:
        main(shlex.split(command))
        assert capsys.readouterr().out


def test_scores_are_noticed_and_fitted_by_their_distance_to_the_ceiling(folder, capsys):
    """acc = 0.95 - C^-0.15: the law of 1 - acc has the offset 0.05, and a target is one of acc."""
    lines = ["gflops,acc"] + [f"{c},{0.95 - c**-0.15}" for c in (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6)]
    (folder / "runs.csv").write_text("\n".join(lines) + "\n")
    main(["law", "fit", "runs.csv", "--form", "compute", "--columns", "C=gflops,y=acc", "--bootstrap", "20"])
    assert "warning score-like: y lies between" in capsys.readouterr().out
    error, odds = re.findall(r"^    polyglance (.+)$", read_sections()["Scores"], flags=re.MULTILINE)
    main(shlex.split(error))
    assert "score-like" not in capsys.readouterr().out
    law = json.loads((folder / "law.json").read_text())["fits"]["all"]["parameters"]
    assert law == pytest.approx({"a0": 1.0, "a1": -0.15, "eps": 0.05}, rel=1e-4)
    main(["law", "plan", "law.json", "--target", "0.8", "--json"])
    needed = json.loads(capsys.readouterr().out)["options"][0]["needed"]["value"]
    assert needed == pytest.approx(0.15 ** (-1 / 0.15), rel=1e-3)
    main(shlex.split(odds))
    assert "(1 - acc) / acc = a0 C^a1 + eps" in capsys.readouterr().out
