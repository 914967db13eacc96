"""`polyglance score`: what a user types, what comes out, and what is said when it goes wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polyglance.cli import main
from polyglance.evaluate.score import ScoreConfig, score_files

ROOT = Path(__file__).parents[2]
CAPTIONS = {"1": ["Ein Hund.", "Der Hund läuft."], "2": ["Zwei Katzen.", "Katzen schlafen."], "3": ["Ein Rad.", "Rad."]}


def run(*args: str | Path) -> None:
    main(["score", *map(str, args)])


def files(folder: Path, name: str = "hyps", captions: dict[str, str] | None = None) -> tuple[Path, Path]:
    """Files of predictions and references."""
    hyps, refs = folder / f"{name}.json", folder / "refs.json"
    texts = captions or {key: many[0] for key, many in CAPTIONS.items()}
    hyps.write_text(json.dumps([{"image_id": int(key), "caption": text} for key, text in texts.items()]))
    rows = [{"image_id": int(key), "id": 0, "caption": text} for key, many in CAPTIONS.items() for text in many]
    refs.write_text(json.dumps({"annotations": rows}))
    return hyps, refs


def test_json_holds_values_by_protocol_and_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyps, refs = files(tmp_path)
    chosen = ["--metrics", "cider,bleu", "--protocol", "coco,characters", "--bootstrap", "0", "--json"]
    run("--refs", refs, "--hyps", hyps, "--lang", "de", *chosen)
    result = json.loads(capsys.readouterr().out)
    report = score_files(hyps, [refs], ScoreConfig(lang="de", protocol=("coco", "characters"), bootstrap=0))
    assert result == report.as_dict()
    names = {"CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"}
    assert {name: set(scores) for name, scores in result["scores"].items()} == {"coco": names, "characters": names}
    assert {one["name"] for one in result["details"]} == names


def test_readable_output_has_table_signatures_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyps, refs = files(tmp_path)
    run("--hyps", hyps, "--refs", refs, "--lang", "de", "--protocol", "coco,whitespace", "--out", tmp_path / "out")
    out = capsys.readouterr().out
    assert "3 segments" in out
    assert "│ Bleu_4 " in out
    assert "\nCIDEr|proto:coco|tok:ptb-" in out
    assert "\nBleu_1,Bleu_2,Bleu_3,Bleu_4|proto:whitespace|" in out
    assert "\nwarning: CIDEr's document frequencies come from 3 images only" in out
    run("--scores", tmp_path / "out", "--bootstrap", "0", "--json")
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"coco", "whitespace"}


def test_systems_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, refs = files(tmp_path)
    bad, _ = files(tmp_path, "bad", {"1": "Ein Hund.", "2": "Hund", "3": "Haus"})
    common: list[Any] = ["--refs", refs, "--lang", "de", "--bootstrap", "50"]
    run("--hyps", bad, "--hyps", good, *common, "--out", tmp_path / "out")
    out = capsys.readouterr().out
    assert "2 systems, 3 segments" in out
    assert "┃ minus bad" in out
    note = "two-sided paired permutation test with 50 draws"
    assert note in out
    for form in ("csv", "md", "latex"):
        run("--hyps", bad, "--hyps", good, *common, "--format", form)
        assert note in "".join(capsys.readouterr())
    assert (tmp_path / "out/bad/scores.json").exists()
    run("--hyps", good, *common, "--compare", tmp_path / "out/bad", "--json")
    (first, *_) = json.loads(capsys.readouterr().out)["comparisons"]
    assert first["method"] == "permutation"
    assert first["difference"] < 0


def test_a_part_of_what_was_scored_is_compared_with_the_same_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, refs = files(tmp_path)
    bad, _ = files(tmp_path, "bad", {"1": "Ein Hund.", "2": "Hund", "3": "Haus"})
    run("--hyps", bad, "--hyps", good, "--refs", refs, "--lang", "de", "--out", tmp_path)
    ids = tmp_path / "ids.txt"
    ids.write_text("1\n3\n")
    capsys.readouterr()
    run("--scores", tmp_path / "hyps", "--ids", ids, "--compare", tmp_path / "bad", "--json")
    (cider, *_) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (cider["num_segments"], cider["num_ties"]) == (2, 1)
    assert cider["difference"] < 0


def test_protocols_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run("--list-protocols")
    out = capsys.readouterr().out
    assert all(name in out for name in ("coco", "paper", "paligemma-xm3600", "characters", "jieba", "default"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--hyps is missing"),
        (["--hyps", "HYPS"], "--refs is missing"),
        (["--hyps", "HYPS", "--refs", "REFS"], "--lang is missing"),
        (["--hyps", "HYPS", "--refs", "REFS", "--lang", "grman"], "unknown language 'grman'"),
        (["--hyps", "REFS", "--refs", "HYPS", "--lang", "de"], "look swapped"),
        (["--hyps", "HYPS", "--scores", "x"], "give either --scores"),
        (
            ["--hyps", "HYPS", "--hyps", "HYPS", "--refs", "REFS", "--lang", "de", "--out", "OUT"],
            "given twice; give the systems different names",
        ),
        (["--scores", "absent.json"], "absent.json: no such file"),
        (["--scores", "x", "--metrics", "cider"], "--metrics has no effect with --scores"),
        (["--hyps", "HYPS", "--refs", "REFS", "--lang", "de", "--test", "bootstrap"], "--test has no effect"),
        (["--hyps", "HYPS", "--refs", "REFS", "--lang", "de", "--baseline", "x"], "--baseline has no effect"),
        (["--hyps", "HYPS", "b=HYPS", "--refs", "REFS", "--lang", "de", "--baseline", "c"], "no system has this name"),
        (["--hyps", "a=HYPS", "a=REFS", "--refs", "REFS", "--lang", "de"], "two systems have the name 'a'"),
        (["--hyps", "HYPS", "--refs", "REFS", "--lang", "de", "--json", "--format", "md"], "--format has no effect"),
        (["--hyps", "HYPS", "--refs", "REFS", "REFS", "--lang", "de"], "given twice"),
        (["--hyps", "HYPS", "--refs", "REFS", "--metrics", "chrf", "--df", "all"], "--df has no effect without"),
        (["--hyps", "HYPS", "--refs", "REFS", "--meteor-jar", "x"], "--meteor-jar has no effect without --metrics"),
    ],
)
def test_a_mistake_is_one_line(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hyps, refs = files(tmp_path)
    places = {"HYPS": str(hyps), "REFS": str(refs), "OUT": str(tmp_path / "out")}
    with pytest.raises(SystemExit):
        run(*("=".join(places.get(part, part) for part in arg.split("=")) for arg in args))
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_scoring_loads_nothing_heavy(tmp_path: Path) -> None:
    """Scoring runs without torch, transformers, pyarrow or Pillow."""
    hyps, refs = files(tmp_path)
    args = ["--hyps", str(hyps), "--refs", str(refs), "--lang", "de", "--metrics", "cider,bleu,rouge,sacrebleu,chrf"]
    code = (
        f"import sys\nfrom polyglance.cli import main\nmain(['score', *{args!r}])\n"
        "assert not {'torch', 'transformers', 'pyarrow', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/scores"])
def test_a_file_in_the_place_of_the_folder_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        run("--hyps", tmp_path / "absent.json", "--refs", tmp_path / "absent.json", "--out", tmp_path / name)
    notes = tmp_path / "notes.txt"
    assert capsys.readouterr().err == f"polyglance: --out {tmp_path / name}: {notes} is a file; name a folder\n"


def test_folders_of_systems_may_end_as_their_files_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyps, refs = files(tmp_path)
    args = ("--hyps", hyps, f"other.json={hyps}", "--refs", refs, "--lang", "de", "--metrics", "bleu")
    run(*args, "--out", tmp_path / "out")
    assert (tmp_path / "out/other.json/scores.json").is_file()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*args, "--out", tmp_path / "out.json")
    assert f"--out {tmp_path / 'out.json'}: the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["out/b", "out", "out/scores.json", "out/a/scores.npz"])
def test_what_stands_where_scores_are_written_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    hyps = [files(tmp_path, name)[0] for name in ("a", "b")]
    taken = tmp_path / place
    if place == "out/b":
        taken.parent.mkdir()
        taken.write_text("mine")
    elif place == "out":
        taken.symlink_to(tmp_path / "gone")
    else:
        taken.mkdir(parents=True)
    used = hyps[:1] if place == "out/scores.json" else hyps
    with pytest.raises(SystemExit):
        run("--hyps", *used, "--refs", tmp_path / "absent.json", "--lang", "de", "--out", tmp_path / "out")
    kind = {"out/b": "a file", "out": "a link to nothing"}.get(place, "a folder, where a file will be written")
    assert f"{taken} is {kind}" in capsys.readouterr().err
