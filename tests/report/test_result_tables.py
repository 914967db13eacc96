"""Result tables: the published numbers are the paper's, and the user's stand beside them on the same scale."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from polyglance.cli import main
from polyglance.data.benchmarks import BENCHMARKS
from polyglance.evaluate.score import score_texts
from polyglance.evaluate.score_report import write_scores
from polyglance.report.published_results import Place, Setting, list_mean_parts, read_published_results
from polyglance.report.result_tables import (
    TABLE_FORMATS,
    TABLES,
    ResultTable,
    format_csv,
    format_json,
    format_latex,
    format_markdown,
    make_result_tables,
)
from polyglance.report.score_folders import note_unscored, read_models

SECTIONS = {  # of reference/paper.md -> the table's name there, and the setting of rows that do not say theirs
    "6.1": ("v1 Table 4", "supervised"),
    "6.2": ("v1 Table 4", "zero-shot"),
    "6.3": ("v1 Table 8", "zero-shot"),
    "6.4": ("v1 Table 8", "zero-shot"),
    "6.5": ("v1 Table 9", "zero-shot"),
    "6.6": ("v1 Table 10", "zero-shot"),
    "6.7": ("v1 Table 11", "zero-shot"),
    "6.8": ("v1 Table 12", "supervised"),
    "6.9": ("v1 Table 13", "supervised"),
    "6.10": ("v1 Table 6", "supervised"),
}


def rows_of(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def sections(shared: Path) -> dict[str, list[list[str]]]:
    """Number of a section of the fact sheet -> rows of its table."""
    parts = re.split(r"^### (6\.\d+) ", (shared / "reference/paper.md").read_text(), flags=re.MULTILINE)
    return {name: rows_of(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_number_is_the_papers(sections: dict[str, list[list[str]]]) -> None:
    """Row by row, the numbers are those of the fact sheet, in its order, and there are no others."""
    printed = []
    for name, (source, _) in SECTIONS.items():
        for row in sections[name]:
            numbers = [float(n) for cell in row[1:] for n in cell.split("/") if n.strip() not in ("", "-")]
            printed += [(source, number) for number in numbers]
    assert [(result.source, result.value) for result in read_published_results()] == printed


def test_every_number_is_of_the_right_model(sections: dict[str, list[list[str]]]) -> None:
    marks = {"ft": "fine-tuned", "(sup.)": "supervised", "(zs)": "zero-shot", "(text)": "zero-shot"}
    expected = []
    for name, (source, default) in SECTIONS.items():
        if name == "6.10":
            continue
        for label, *cells in sections[name]:
            label = label.replace(" (suspect row)", "").replace("*", "").replace("NLLB-1B", "NLLB-1.3B")
            words = label.split()
            setting = marks.get(words[-1], "supervised" if words[0] == "Baseline-6B" else default)
            model = " ".join(word for word in words if word not in marks)
            count = sum(n.strip() not in ("", "-") for cell in cells for n in cell.split("/"))
            expected += [(source, model, setting)] * count
    results = read_published_results()
    assert [(r.source, r.model, r.setting) for r in results if r.source != "v1 Table 6"] == expected


def find(model: str, setting: str, place: Place, source: str) -> float:
    (value,) = [
        result.value
        for result in read_published_results()
        if (result.model, result.setting, result.place, result.source) == (model, setting, place, source)
    ]
    return value


@pytest.mark.parametrize(
    ("model", "setting", "place", "source", "value"),
    [
        ("F-11.2B 30K", "fine-tuned", ("multi30k-task1", "mean", "fr", "BLEU"), "v1 Table 4", 59.6),
        ("F-3.5B", "zero-shot", ("xm3600", "all", "unseen", "CIDEr (prefix)"), "v1 Table 4", 24.1),
        ("F-1.0B", "zero-shot", ("multi30k-task2", "test_2016", "de", "mCLIPScore"), "v1 Table 4", 86.5),
        ("VGAMT", "supervised", ("multi30k-task1", "test_2017_mscoco", "fr", "COMET-22"), "v1 Table 8", 84.8),
        ("ZeroMMT-1.3B", "zero-shot", ("multi30k-task1", "test_2017_flickr", "de", "BLEU"), "v1 Table 8", 36.2),
        ("Baseline-6B", "supervised", ("commute-translation", "test", "zh", "COMET-22"), "v1 Table 9", 77.2),
        ("MOF", "zero-shot", ("commute-disambiguation", "test", "ru", "accuracy"), "v1 Table 10", 67.4),
        ("Florence-2-base", "zero-shot", ("coco-karpathy", "test", "en", "CIDEr"), "v1 Table 11", 132.9),
        ("F-11.2B", "fine-tuned", ("multi30k-task2", "test_2016", "de", "BLEU-4"), "v1 Table 12", 33.2),
        ("PaliGemma-3B", "supervised", ("xm3600", "all", "es", "CIDEr"), "v1 Table 13", 67.1),
    ],
)
def test_columns(model: str, setting: str, place: tuple[str, str, str, str], source: str, value: float) -> None:
    assert find(model, setting, Place(*place), source) == value


def test_places_are_those_of_the_benchmarks() -> None:
    for result in read_published_results():
        for place in list_mean_parts(result.place):
            assert place.split in BENCHMARKS[place.benchmark].splits
            assert place.language in BENCHMARKS[place.benchmark].languages(place.split)
    assert {result.setting for result in read_published_results()} == set(get_args(Setting))


def test_printed_means_are_means_of_printed_parts() -> None:
    """Within what rounding allows, except where the data says that something is wrong."""
    values = {(r.model, r.setting, r.place): r for r in read_published_results() if r.source not in ("v1 Table 6",)}
    checked = 0
    for (model, setting, place), result in values.items():
        parts = [values.get((model, setting, part)) for part in list_mean_parts(place)]
        if len(parts) > 1 and all(parts):
            mean = sum(part.value for part in parts if part) / len(parts)
            consistent = abs(mean - result.value) <= 0.1001
            assert consistent == (result.suspect == ""), (model, setting, place, mean)
            checked += 1
    assert checked > 60


def test_the_row_that_is_printed_twice_is_suspect() -> None:
    (table,) = make_result_tables("xm3600")
    row = next(row for row in table.rows if row.model == "F-11.2B 30K")
    assert all(row.suspect)
    assert any("repeats the row of F-11.2B" in note for note in table.notes)
    assert "| F-11.2B 30K | fine-tuned | 79.3? | 39.4? |" in format_markdown([table])


def write(folder: Path, sidecar: dict[str, Any], *details: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    info = {"model": "mine", "benchmark": "coco-karpathy", "split": "test", "language": "en", **sidecar}
    defaults = {"metric": "m", "protocol": "coco", "language": info["language"], "signature": "s", "interval": None}
    listed = [{**defaults, "num_segments": 5000, **detail} for detail in details]
    (folder / "scores.json").write_text(json.dumps({"scores": {}, "details": listed}))
    (folder / "prediction.json").write_text(json.dumps(info))
    return folder


NAMELESS = '{"benchmark": "xm3600", "split": "all", "language": "fr"}'
CIDER = {"name": "CIDEr", "value": 1.234, "scale": "0-10"}


def row_of(table: ResultTable, name: str = "mine") -> dict[str, float | None]:
    row = next(row for row in table.rows if row.model == name and not row.published)
    return {column.head: value for column, value in zip(table.columns, row.values, strict=True)}


def test_scores_of_the_user_are_put_on_the_published_scale(tmp_path: Path) -> None:
    bleu = [{"name": name, "value": value, "scale": "0-1"} for name, value in (("Bleu_4", 0.416), ("Bleu_1", 1.0))]
    write(tmp_path / "a", {}, CIDER, *bleu)
    (table,) = make_result_tables("coco", read_models([tmp_path / "a"]))
    assert row_of(table) == {"BLEU-4": pytest.approx(41.6), "CIDEr": pytest.approx(123.4), "CLIPScore": None}
    assert table.rows[-1].model == "mine"
    assert [row.published for row in table.rows].count(False) == 1
    assert [note for note in table.notes if "mine" in note] == []


def test_means_are_the_papers_and_need_all_their_parts(tmp_path: Path) -> None:
    for language, value, size in (("de", 30.0, 300), ("fr", 40.0, 308), ("ru", 10.0, 324)):
        sidecar = {"benchmark": "commute-translation", "language": language}
        bleu = {"name": "BLEU", "value": value, "scale": "0-100", "protocol": "raw", "num_segments": size}
        write(tmp_path / language, sidecar, bleu)
    table = make_result_tables("commute", read_models([tmp_path]))[0]
    assert row_of(table)["X BLEU"] is None
    assert "mine: no mean in X BLEU, because test zh is missing" in table.notes
    bleu = {"name": "BLEU", "value": 20.0, "scale": "0-100", "protocol": "raw", "num_segments": 324}
    write(tmp_path / "zh", {"benchmark": "commute-translation", "language": "zh"}, bleu)
    models = read_models([tmp_path])
    assert row_of(make_result_tables("commute", models)[0])["X BLEU"] == 25.0
    assert row_of(make_result_tables("headline", models)[0])["CoMM X"] == 25.0
    accuracy = make_result_tables("commute", models)[1]
    assert "mine has no score for this table" in accuracy.notes
    for split, value in (("2016_flickr", 50.0), ("2017_flickr", 40.0), ("2017_mscoco", 30.0), ("2018_flickr", 0.5)):
        sidecar = {"benchmark": "multi30k-task1", "split": f"test_{split}", "language": "fr"}
        write(tmp_path / split, sidecar, {"name": "BLEU", "value": value, "scale": "0-100", "num_segments": 10})
    french = make_result_tables("multi30k", read_models([tmp_path]))[0]
    assert row_of(french)["mean BLEU"] == 40.0
    assert any("made on 10 segments, the published on 461" in note for note in french.notes)
    assert any("BLEU on multi30k-task1 test_2018_flickr fr is 0.5 after scaling" in note for note in french.notes)


def test_the_published_protocol_is_preferred_and_others_are_noted(tmp_path: Path) -> None:
    sidecar = {"benchmark": "xm3600", "split": "all", "language": "fr"}
    paper = {**CIDER, "value": 50.0, "scale": "0-1000", "protocol": "paper", "num_segments": 3600}
    other = {**CIDER, "value": 0.4, "protocol": "coco", "num_segments": 3600}
    write(tmp_path / "both", sidecar, other, paper)
    write(tmp_path / "one", {**sidecar, "model": "other"}, other)
    (table,) = make_result_tables("xm3600", read_models([tmp_path]))
    assert row_of(table)["fr"] == 50.0
    assert row_of(table, "other")["fr"] == pytest.approx(40.0)
    assert [note for note in table.notes if "protocol" in note] == [
        "other: CIDEr on xm3600 all fr is of protocol 'coco', the published of 'paper': not the same measure"
    ]


def test_captions_with_a_prefix_stand_apart(tmp_path: Path) -> None:
    for language in ("fr", "es", "ru", "zh"):
        sidecar = {"benchmark": "xm3600", "split": "all", "language": language}
        write(tmp_path / f"{language}-plain", sidecar, {**CIDER, "value": 0.1})
        write(tmp_path / f"{language}-prefix", {**sidecar, "prefix": "La photo montre"}, {**CIDER, "value": 0.2})
    supervised, zero_shot = make_result_tables("headline", read_models([tmp_path]))
    assert row_of(supervised)["XM unseen"] == pytest.approx(10.0)
    assert row_of(zero_shot)["XM unseen"] == pytest.approx(20.0)


def test_accuracy_is_that_of_the_strict_rule(tmp_path: Path) -> None:
    sidecar = {"benchmark": "commute-disambiguation", "language": "ru"}
    names = {"accuracy": 49.07, "accuracy_ties_right": 50.93, "accuracy_ties_half": 50.0}
    details = [{"name": name, "value": value, "scale": "0-100", "num_segments": 324} for name, value in names.items()]
    write(tmp_path / "a", sidecar, *details)
    assert row_of(make_result_tables("commute", read_models([tmp_path / "a"]))[1])["ru"] == 49.07


def test_clip_scores_say_whose_they_are(tmp_path: Path) -> None:
    for language, name in (("en", "CLIPScore"), ("de", "MCLIPScore")):
        sidecar = {"benchmark": "multi30k-task2", "split": "test_2016", "language": language}
        write(tmp_path / language, sidecar, {"name": name, "value": 75.0, "scale": "0-100", "num_segments": 1000})
    table = make_result_tables("headline", read_models([tmp_path]))[1]
    assert (row_of(table)["M30K en"], row_of(table)["M30K de cap."]) == (75.0, 75.0)
    assert [note for note in table.notes if "ViT" in note] == [
        "mine: mCLIPScore: the published are by M-CLIP's XLM-Roberta-Large-ViT-B-16Plus; "
        "those of another checkpoint do not compare",
        "mine: CLIPScore: the published are by OpenAI's ViT-B/32; those of another checkpoint do not compare",
    ]


def test_scores_of_the_scorer_are_read(tmp_path: Path) -> None:
    captions = {str(i): f"a dog number {i} runs on green grass" for i in range(8)}
    report = score_texts(
        captions, {i: [text, "a cat"] for i, text in captions.items()}, language="en", metrics=("cider", "bleu")
    )
    write(tmp_path / "a", {})
    write_scores(report, tmp_path / "a")
    (table,) = make_result_tables("coco", read_models([tmp_path / "a"]))
    values = {score.name: score.value for score in report.scores}
    assert row_of(table)["CIDEr"] == pytest.approx(100 * values["CIDEr"])
    assert row_of(table)["BLEU-4"] == pytest.approx(100 * values["Bleu_4"])
    assert any("made on 8 segments, the published on 5,000" in note for note in table.notes)


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ({"value": 123.4}, r"CIDEr: 123.4 is not on the scale 0-10; one of the two is 100 times"),
        ({"scale": "0-1"}, r"CIDEr: the scale is '0-1', but that of CIDEr is 0-10 or 0-1000"),
        ({"scale": None}, "the scale is None"),
        ({"scale": []}, "the scale is "),
        ({"value": None}, "the value is missing or not a finite number"),
        ({"value": float("nan")}, "the value is missing or not a finite number"),
        ({"value": 10**400}, "the value is missing or not a finite number"),
        ({"value": -0.5}, "CIDEr: -0.5 is below 0, where the scale 0-10 begins"),
        ({"num_segments": -3}, "num_segments is missing or not a whole number from 0 up"),
        ({"language": "fr"}, "CIDEr is of language 'fr', but prediction.json beside it says 'en'"),
    ],
)
def test_numbers_off_their_scale_are_refused(tmp_path: Path, detail: dict[str, Any], message: str) -> None:
    write(tmp_path / "a", {}, {**CIDER, **detail})
    with pytest.raises(ValueError, match=message):
        read_models([tmp_path / "a"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("prediction.json", None, "prediction.json: no such file; it holds model"),
        ("prediction.json", NAMELESS, "prediction.json: the field 'model' is missing or not text"),
        ("scores.json", '{"details": [', "scores.json: not valid JSON"),
        ("scores.json", "{}", "scores.json: no list 'details'"),
        ("scores.json", '{"details": [3]}', "scores.json: entry 1 of 'details' is not an object"),
        ("scores.json", "[]", "scores.json: expected a JSON object"),
        ("scores.json", None, "no scores.json in it or in the folders of it"),
    ],
)
def test_damaged_folders_are_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    file = write(tmp_path / "a", {}, CIDER) / name
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_models([tmp_path / "a"])


@pytest.mark.parametrize("names", [("CIDEr", "CIDEr"), ("BLEU-4", "Bleu_4")])
def test_two_scores_for_one_cell_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    scores = [{"name": name, "value": value, "scale": "0-10"} for name, value in zip(names, (0.1, 0.2), strict=True)]
    if names[0] != "CIDEr":
        scores = [{**score, "scale": "0-1"} for score in scores]
    write(tmp_path / "a", {}, *scores)
    with pytest.raises(ValueError, match=f"two scores for .* of protocol 'coco', {names[0]} and {names[1]}"):
        read_models([tmp_path / "a"])
    write(tmp_path / "b", {}, CIDER)
    write(tmp_path / "b" / "c", {"model": "other"}, CIDER)
    with pytest.raises(ValueError, match=r"b: scores.json is in it and in c below it"):
        read_models([tmp_path / "b"])


@pytest.mark.parametrize(
    ("sidecar", "note"),
    [
        ({"benchmark": "coco-karpaty"}, "there is no benchmark 'coco-karpaty'; did you mean 'coco-karpathy'?"),
        ({"split": "tets"}, "there is no split 'tets'; did you mean 'test'?"),
        ({"benchmark": "xm3600", "split": "all", "language": "DE"}, "no language 'DE'; did you mean 'de'?"),
    ],
)
def test_scores_that_no_table_has_a_place_for_are_named(tmp_path: Path, sidecar: dict[str, Any], note: str) -> None:
    write(tmp_path / "a", sidecar, CIDER)
    for name in ("coco", "xm3600"):
        (table,) = make_result_tables(name, read_models([tmp_path / "a"]))
        assert any(note in one for one in table.notes)
    write(tmp_path / "b", {"benchmark": "shards-caption"}, CIDER)
    assert not any("there is no" in one for one in make_result_tables("coco", read_models([tmp_path / "b"]))[0].notes)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("=a", "=a: expected a folder, or NAME=FOLDER with both"),
        ("mine=", "mine=: expected a folder, or NAME=FOLDER with both"),
        ("mine=absent", "absent: no such folder; expected a folder with scores.json"),
        (__file__, "a file; expected a folder with scores.json"),
    ],
)
def test_arguments_that_are_no_folder_are_refused(entry: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_models([entry])


def test_two_settings_of_one_model_are_named_apart(tmp_path: Path) -> None:
    for name in ("224", "768"):
        write(tmp_path / name, {}, {**CIDER, "value": int(name) / 1000})
    with pytest.raises(ValueError, match=r"mine has coco-karpathy test en CIDEr twice, in .*224 and .*768"):
        read_models([tmp_path])
    models = read_models([tmp_path / "224", f"mine 768={tmp_path / '768'}"])
    (table,) = make_result_tables("coco", models)
    assert [row_of(table, name)["CIDEr"] for name in ("mine", "mine 768")] == pytest.approx([22.4, 76.8])


@pytest.mark.parametrize("name", TABLES)
def test_formats_hold_the_same_numbers(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a", {"model": "a|b_c 100% $x$\n"}, CIDER)
    tables = make_result_tables(name, read_models([tmp_path / "a"]))
    plain = json.loads(format_json(tables))
    values = [v for table in plain for row in table["rows"] for v in row["values"] if v is not None]
    assert [float(row["value"]) for row in csv.DictReader(io.StringIO(format_csv(tables)))] == values
    for text, separator in ((format_markdown(tables), "|"), (format_latex(tables), "&")):
        lines = [line for line in text.splitlines() if "published, v1" in line]
        cells = [cell.strip(" \\?") for line in lines for cell in line.strip("|").split(separator)[2:-1]]
        published = [
            f"{value:.1f}"
            for table in plain
            for row in table["rows"]
            if row["published"]
            for value in row["values"]
            if value
        ]
        assert [cell for cell in cells if cell] == published
    origins = {row["from"] for table in plain for row in table["rows"] if not row["published"]}
    assert origins == {"own scores"}
    assert r"| **a\|b\_c 100% \$x\$** |" in format_markdown(tables)
    assert r"a\textbar{}b\_c 100\% \$x\$ &" in format_latex(tables)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", {}, CIDER)
    main(["results", str(tmp_path / "a"), "--table", "coco"])
    assert "| **mine** |  |  | 123.4 |  | own scores |" in capsys.readouterr().out
    main(["results", "--format", "json", "--out", str(tmp_path / "t.json")])
    assert len(json.loads((tmp_path / "t.json").read_text())) == 2
    with pytest.raises(ValueError, match="there is no table 'coca'; did you mean 'coco'"):
        make_result_tables("coca")


@pytest.mark.parametrize("name", TABLES)
def test_each_mean_says_what_it_is_of(name: str) -> None:
    for table in make_result_tables(name):
        means = [note.split(": mean of ") for note in table.notes if ": mean of " in note]
        for column in table.columns:
            parts = list_mean_parts(column.place)
            field = "language" if len({part.language for part in parts}) > 1 else "split"
            expected = [", ".join(getattr(part, field) for part in parts)] if len(parts) > 1 else []
            assert [of for heads, of in means if column.head in heads.split(", ")] == expected


def test_predictions_without_scores_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finished ones, unfinished ones, and those of which only the description is there; in every format."""
    write(tmp_path / "eval/a", {}, CIDER)
    assert note_unscored([tmp_path / "eval", f"x={tmp_path / 'eval/a'}"]) == []
    main(["results", str(tmp_path / "eval"), "--table", "coco", "--format", "csv"])
    assert "note: mine" not in capsys.readouterr().err
    write(tmp_path / "eval/b", {"language": "fr"}, CIDER)
    (tmp_path / "eval/b/scores.json").unlink()
    write(tmp_path / "eval/c", {}, {**CIDER, "protocol": "paper"})
    (tmp_path / "eval/c/prediction.json").rename(tmp_path / "eval/c/predictions.jsonl.partial0")
    (tmp_path / "eval/c/scores.json").unlink()
    (tmp_path / "eval/plots").mkdir()
    note = f"2 folders of predictions have no scores.json, left out, in {tmp_path / 'eval'}: b, c; the same "
    for entry in ("eval", "eval/a"):
        for name in TABLE_FORMATS:
            main(["results", f"mine={tmp_path / entry}", "--table", "coco", "--format", name])
            printed = "".join(capsys.readouterr()).replace("\\", "")
            assert (note in printed) == (entry == "eval")
    for number in range(9):
        (tmp_path / f"eval/n{number}").mkdir()
        (tmp_path / f"eval/n{number}/predictions.jsonl").touch()
    assert "11 folders" in note_unscored([tmp_path / "eval"])[0]
    assert ": b, c, n0, n1, n2, ...; " in note_unscored([tmp_path / "eval"])[0]


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_the_ending_of_the_file_chooses_the_format(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["results", "--format", name])
    printed = capsys.readouterr().out
    own = TABLE_FORMATS[name].endings
    for ending in (*own, own[0].upper()):
        main(["results", "--out", str(tmp_path / f"t{ending}")])
        assert (tmp_path / f"t{ending}").read_text() == printed
    main(["results", "--out", str(tmp_path / "t.v1"), "--format", name])
    assert (tmp_path / "t.v1").read_text() == printed
    others = [entry.endings[0] for entry in TABLE_FORMATS.values() if entry.endings != own]
    for ending in (*others, ".xlsx", ".html", f"{own[0]}.gz"):
        out = tmp_path / f"other{ending}"
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(["results", "--out", str(out), "--format", name])
        error = f"--format {name} --out {out}: expected a file name that ends in {' or '.join(own)}\n"
        assert capsys.readouterr().err == f"polyglance: {error}"
        assert not out.exists()


def test_tables_load_no_torch() -> None:
    code = (
        "from polyglance.cli import main\nmain(['results', '--table', 'coco'])\nimport sys\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| published, v1 Table 11 |" in done.stdout
