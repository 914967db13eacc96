"""Several systems in one call: each has the scores it has alone, on the same segments, and tests are corrected."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyglance.cli import main
from polyglance.evaluate.compare import compare_systems, correct_p_values
from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.score import ScoreConfig, score_files, score_texts
from polyglance.evaluate.systems import SystemTable, compare_files, compare_reports, name_folders, name_systems

WORDS = ["a", "dog", "cat", "man", "sits", "runs", "on", "under", "the", "table", "chair", "red", "blue"]
REFERENCES = {
    f"{i:03}.jpg": [" ".join(WORDS[(i * k + j) % len(WORDS)] for j in range(7)) for k in (1, 3)] for i in range(30)
}
SYSTEMS = {
    "copy": {name: texts[0] for name, texts in REFERENCES.items()},
    "half": {name: texts[0] if i % 2 else "a dog" for i, (name, texts) in enumerate(REFERENCES.items())},
    "poor": dict.fromkeys(REFERENCES, "a red dog on the table"),
}
METRICS = ("cider", "bleu", "chrf")


def write_systems(folder: Path) -> tuple[list[Path], Path]:
    """Write predictions and references; the systems have other orders and spellings of the ids."""
    for number, (name, texts) in enumerate(SYSTEMS.items()):
        rows = [(key.removesuffix(".jpg") if number == 1 else key, text) for key, text in texts.items()]
        (folder / f"{name}.json").write_text(json.dumps(dict(rows[number:] + rows[:number])))
    (folder / "refs.json").write_text(json.dumps(REFERENCES))
    return [folder / f"{name}.json" for name in SYSTEMS], folder / "refs.json"


def compare(folder: Path, **options: Any) -> SystemTable:
    paths, refs = write_systems(folder)
    config = ScoreConfig(**{"lang": "en", "metrics": METRICS, "bootstrap": 50, **options})
    return compare_files(paths, [refs], config)


def test_each_system_has_the_scores_it_has_alone(tmp_path: Path) -> None:
    table = compare(tmp_path)
    paths, refs = write_systems(tmp_path)
    for path, (name, report) in zip(paths, table.reports.items(), strict=True):
        alone = score_files(path, [refs], ScoreConfig(lang="en", metrics=METRICS, bootstrap=50))
        assert name == path.stem
        assert report.scores == alone.scores
    assert [one.system_b for one in table.comparisons[:6]] == ["half"] * 6
    assert {one.system_a for one in table.comparisons} == {table.baseline} == {"copy"}


def test_files_and_texts_in_memory_give_one_table(tmp_path: Path) -> None:
    reports = {
        name: score_texts(texts, REFERENCES, language="en", metrics=METRICS, bootstrap=50)
        for name, texts in SYSTEMS.items()
    }
    table = compare_reports(reports, resampling=Resampling(num_samples=50))
    assert table.comparisons == compare(tmp_path).comparisons
    assert compare_reports(reports, baseline="poor").comparisons[0].system_a == "poor"


def test_dropped_ids_are_dropped_for_all(tmp_path: Path) -> None:
    paths, refs = write_systems(tmp_path)
    texts = json.loads(paths[2].read_text())
    paths[2].write_text(json.dumps(dict(list(texts.items())[4:])))
    config = ScoreConfig(lang="en", metrics=("chrf",), bootstrap=0, missing="drop")
    table = compare_files(paths, [refs], config)
    assert {len(report.ids) for report in table.reports.values()} == {26}
    assert all("the 26 ids are scored that all 3 systems have" in report.warnings for report in table.reports.values())
    with pytest.raises(ValueError, match="4 ids"):
        compare_files(paths, [refs], replace(config, missing="error"))


def test_p_values_are_corrected_by_holm() -> None:
    reports = [
        score_texts(texts, REFERENCES, language="en", metrics=("chrf",), bootstrap=0) for texts in SYSTEMS.values()
    ]
    (one,) = compare_systems(reports[0], reports[1], resampling=Resampling(num_samples=20))
    tests = [replace(one, p_value=value) for value in (0.01, 0.04, 0.03, 0.005)]
    assert [test.p_holm for test in correct_p_values(tests)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    other = [replace(test, name="CIDEr") for test in tests[:1]]
    assert correct_p_values([*tests, *other])[-1].p_holm == 0.01
    assert [test.p_holm for test in correct_p_values([replace(one, p_value=0.7)] * 3)] == [1, 1, 1]


def test_tables_hold_the_same_numbers_whatever_systems_are_called(tmp_path: Path) -> None:
    paths, refs = write_systems(tmp_path)
    names = ["=1+1", "a|b_c", "x & y"]
    table = compare_files(
        [f"{name}={path}" for name, path in zip(names, paths, strict=True)],
        [refs],
        ScoreConfig(lang="en", metrics=("chrf", "cider"), protocol=("coco", "whitespace"), bootstrap=0),
    )
    assert table.heads == ("CIDEr (coco)", "CIDEr (whitespace)", "chrF")
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["system"] for row in rows[::3]] == ["'=1+1", "a|b_c", "x & y"]
    values = [score.value for report in table.reports.values() for score in report.scores]
    assert [float(row["value"]) for row in rows] == values
    assert rows[0]["p"] == ""
    assert float(rows[3]["p_holm"]) == table.comparisons[0].p_holm
    markdown, latex = table.to_markdown().splitlines(), table.to_latex().splitlines()
    assert markdown[3].startswith(r"| a\|b\_c | ")
    assert latex[5].startswith(r"a\textbar{}b\_c & ")
    assert latex[6].startswith(r"x \& y & ")
    assert len(json.loads(json.dumps(table.to_dict()))["comparisons"]) == 6


@pytest.mark.parametrize(
    ("systems", "names"),
    [
        (["x/a.json", "x/b.json"], ["a", "b"]),
        (["x/a.en-de.txt", "x/a.en-fr.txt"], ["a.en-de.txt", "a.en-fr.txt"]),
        (["x/one/p.jsonl", "x/two/p.jsonl"], ["one", "two"]),
        (["x/one/p.jsonl", "x/one/q.jsonl", "y/one/p.jsonl"], ["x/one/p.jsonl", "x/one/q.jsonl", "y/one/p.jsonl"]),
        (["old=x/a.json", "x/a.json"], ["old", "a"]),
    ],
)
def test_systems_are_named(
    systems: list[str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    Path("x/a.json").touch()
    assert list(name_systems(systems)) == names
    with pytest.raises(ValueError, match=r"^lr=0\.1\.json: no such file"):  # not `0.1.json`
        name_systems([*systems, "lr=0.1.json"])


def test_names_of_folders_are_safe() -> None:
    assert name_folders(["../a b", "c/d"]) == {"../a b": "a_b", "c/d": "c_d"}
    with pytest.raises(ValueError, match="differ in letters or digits"):
        name_folders(["a/b", "A_B"])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, refs = write_systems(tmp_path)
    common = ["--refs", str(refs), "--lang", "en", "--metrics", "cider", "--bootstrap", "20"]
    main(["score", "--hyps", *map(str, paths), *common, "--baseline", "half", "--out", str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert "3 systems, 30 segments" in out
    assert "2 systems are compared with half" in out
    assert out.count("only; the score depends") == 1
    scores = [str(tmp_path / "out" / name) for name in SYSTEMS]
    main(["score", "--scores", scores[0], "--compare", *scores[1:], "--format", "md", "--bootstrap", "20"])
    captured = capsys.readouterr()
    assert captured.out.count("\n| half | ") == 1
    assert "warning: CIDEr's document frequencies" in captured.err


@pytest.mark.parametrize("form", ["lines", "ids"])
def test_files_of_references_that_do_not_fit_are_refused(form: str, tmp_path: Path) -> None:
    paths, _ = write_systems(tmp_path)
    for number, size in ((0, 30), (1, 28)):
        rows = [(name, texts[number]) for name, texts in list(REFERENCES.items())[:size]]
        text = json.dumps(dict(rows)) if form == "ids" else "".join(f"{text}\n" for _, text in rows)
        (tmp_path / f"r{number}.json" if form == "ids" else tmp_path / f"r{number}.txt").write_text(text)
    suffix = "json" if form == "ids" else "txt"
    first, second = tmp_path / f"r0.{suffix}", tmp_path / f"r1.{suffix}"
    message = "none of 2 ids of .*r0.json" if form == "ids" else "r1.txt: 28 lines, but .*r0.txt has 30"
    with pytest.raises(ValueError, match=message) as caught:
        score_files(paths[0], [first, second], ScoreConfig(lang="en"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("num_segments", "least"), [(1, "1"), (2, "0.5"), (5, "0.062"), (7, "0.016"), (8, ""), (19, "")]
)
@pytest.mark.parametrize("method", ["permutation", "bootstrap"])
def test_few_segments_are_said_to_be_few(tmp_path: Path, num_segments: int, least: str, method: Any) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(list(REFERENCES)[:num_segments]))
    paths, refs = write_systems(tmp_path)
    config = ScoreConfig(lang="en", metrics=("bleu",), ids=tmp_path / "ids.txt", bootstrap=200)
    table = compare_files([str(path) for path in paths], [refs], config, method=method)
    few = "1 segment: no interval" if num_segments == 1 else f"{num_segments} segments: intervals"
    assert sum(warning.startswith(few) for warning in table.warnings()) == 1
    notes = [note for note in table.notes if "no permutation test of so few" in note]
    assert [note.split("below ")[1] for note in notes] == ([f"{least}."] if least else [])
    scores = [score for report in table.reports.values() for score in report.scores]
    assert {one.interval is None for one in (*scores, *table.comparisons)} == {num_segments == 1}
    if num_segments == 1:
        assert {one.p_value for one in table.comparisons} == {1.0}
        assert not any("boot:" in score.signature for score in scores)
    if method == "permutation" and 2**num_segments <= config.bootstrap:  # both signs count: the bound is right
        assert min(one.p_value for one in table.comparisons) >= 2.0 ** (1 - num_segments)
    write_texts = [table.to_markdown(), table.to_latex(), table.to_csv()]
    assert all(write_texts)


def test_names_of_systems_keep_their_numbers(tmp_path: Path) -> None:
    files = ["lr=0.1.jsonl", "lr=0.2.jsonl.gz", "model.7b.json", "v1.5.2.txt", ".hidden.json"]
    for file in files:
        (tmp_path / file).touch()
    assert list(name_systems([tmp_path / file for file in files])) == [
        "lr=0.1",
        "lr=0.2",
        "model.7b",
        "v1.5.2",
        ".hidden",
    ]
    assert list(name_systems([Path()])) == ["."]
