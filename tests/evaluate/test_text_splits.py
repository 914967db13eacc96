"""Files whose rows name their split: --split takes those rows, in every form, and ids of several splits need it."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyglance.data.texts.text_files import read_texts
from polyglance.data.texts.text_set import ReadOptions

SPLITS = ("train", "val", "test")


def write_table(path, rows, delimiter):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_by_split(path, rows, split):
    groups = {}
    for row in rows:
        groups.setdefault(row[split], []).append({key: value for key, value in row.items() if key != split})
    path.write_text(json.dumps(groups))


WRITERS = {
    "r.csv": lambda path, rows, split: write_table(path, rows, ","),
    "r.tsv": lambda path, rows, split: write_table(path, rows, "\t"),
    "r.jsonl": lambda path, rows, split: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "r.json": lambda path, rows, split: path.write_text(json.dumps(rows)),
    "coco.json": lambda path, rows, split: path.write_text(json.dumps({"annotations": rows})),
    "by_split.json": write_by_split,
    "r.parquet": lambda path, rows, split: pq.write_table(pa.Table.from_pylist(rows), path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("seed", range(6))
def test_rows_of_the_asked_split_are_read_and_no_others(tmp_path, name, seed):
    rng = random.Random(seed)
    column = rng.choice(["split", "Split", "subset"])
    rows = [
        {"id": f"i{rng.randrange(4)}", "caption": f"text {number} of a dog", column: split}
        for number, split in enumerate(rng.choices(SPLITS, k=12))
    ]
    if seed % 2:
        rows = [{**row, "id": f"{row[column]}-{row['id']}"} for row in rows]  # no id is in two splits
    WRITERS[name](tmp_path / name, rows, column)
    for split in {row[column] for row in rows}:
        expected = {}
        for row in rows:
            if row[column] == split:
                expected.setdefault(row["id"], []).append(row["caption"])
        for asked in (split, split.upper()):
            read = read_texts(tmp_path / name, options=ReadOptions(split=asked, role="references"))
            assert read.by_id() == expected
            assert "split" in read.used
    with pytest.raises(ValueError, match="--split tset is none of them"):
        read_texts(tmp_path / name, options=ReadOptions(split="tset"))
    options = ReadOptions(role="references")
    if name == "by_split.json" or not seed % 2:
        with pytest.raises(ValueError, match="name one of them with --split"):
            read_texts(tmp_path / name, options=options)
    else:
        assert len(read_texts(tmp_path / name, options=options).entries) == 12


def test_a_row_without_a_split_is_in_none(tmp_path):
    rows = [{"id": i, "caption": f"a dog {i}", "split": split} for i, split in enumerate(["test", "", "test"])]
    write_table(tmp_path / "r.csv", rows, ",")
    read = read_texts(tmp_path / "r.csv", options=ReadOptions(split="test"))
    assert list(read.by_id()) == ["0", "2"]
    assert any("2 of 3 rows" in note for note in read.notes)
    rows[1] = {**rows[1], "id": 0}
    write_table(tmp_path / "r.csv", rows, ",")
    with pytest.raises(ValueError, match=r"the id '0' is in test and \(empty\)"):
        read_texts(tmp_path / "r.csv")


@pytest.mark.parametrize("place", range(3))
def test_a_record_without_a_split_or_a_language_hides_no_other_record_from_the_choice(tmp_path, place):
    rows = [
        {"id": 1, "caption": "a dog", "split": "train", "lang": "de"},
        {"id": 2, "caption": "a cat", "split": "test", "lang": "en"},
    ]
    rows.insert(place, {"id": 3, "caption": "a cow"})
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for options, key in (ReadOptions(split="test"), "split"), (ReadOptions(language="en"), "lang"):
        read = read_texts(path, options=options)
        assert read.by_id() == {"2": ["a cat"]}
        assert any("1 of 3 rows" in note and f"left out: 1 without a {key}" in note for note in read.notes)
    rows = [{**row, "id": 7} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="the id 7 is in"):
        read_texts(path)


@pytest.mark.parametrize("name", ["subset", "Partition", "set", "split"])
@pytest.mark.parametrize(("values", "are_splits"), [(("flickr", "coco"), False), (("Test2016", "coco"), True)])
def test_a_column_that_may_mean_something_else_names_splits_where_a_value_is_one(tmp_path, name, values, are_splits):
    path = tmp_path / "r.csv"
    write_table(path, [{"id": "1", "caption": f"a {value}", name: value} for value in values], ",")
    if are_splits or name == "split":
        with pytest.raises(ValueError, match=f"'{name}'.*; name one of them with --split"):
            read_texts(path)
    else:
        assert read_texts(path).by_id() == {"1": ["a flickr", "a coco"]}
        assert not read_texts(path, options=ReadOptions(split="test")).used  # the caller refuses a setting in vain
    read = read_texts(path, options=ReadOptions(split=values[1]))
    assert read.by_id() == {"1": ["a coco"]}


def write_dataset_dict(folder, rows):
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / "state.json").write_text("{}")
        with pa.OSFile(str(folder / split / "data.arrow"), "wb") as sink:
            table = pa.Table.from_pylist(rows)
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    (folder / "dataset_dict.json").write_text("{}")


def write_parquets(folder, rows):
    folder.mkdir()
    for split in ("TRAIN", "TEST"):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")


CHOOSERS = {
    "dict": write_dataset_dict,
    "parquets": write_parquets,
    "keys.json": lambda path, rows: path.write_text(json.dumps({"train": rows, "test": rows})),
}


@pytest.mark.parametrize("name", CHOOSERS)
def test_rows_of_a_chosen_file_are_left_out_where_they_name_another_split_only(tmp_path, name):
    rows = [{"id": f"{i}", "caption": f"a dog {i}", "split": split} for i, split in enumerate(["a", "val", "a"])]
    CHOOSERS[name](tmp_path / name, rows)
    read = read_texts(tmp_path / name, options=ReadOptions(split="test"))
    assert list(read.by_id()) == ["0", "1", "2"]
    assert "split" in read.used
    rows[1]["split"] = "test"  # as Flickr30k on the Hub, whose one file holds all three
    CHOOSERS[name](tmp_path / f"b{name}", rows)
    assert list(read_texts(tmp_path / f"b{name}", options=ReadOptions(split="test")).by_id()) == ["1"]


def test_a_parquet_file_without_the_name_of_a_split_is_chosen_by_its_column(tmp_path):
    rows = [{"id": f"{i}", "caption": f"a dog {i}", "set": split} for i, split in enumerate(SPLITS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "shard-0.parquet")
    assert list(read_texts(tmp_path, options=ReadOptions(split="val")).by_id()) == ["1"]


def test_a_frame_without_ids_is_filtered_as_rows_are(tmp_path):
    frame = {"caption": ["a dog", "ein Hund", "a cow"], "split": ["test", "test", "val"], "lang": ["en", "de", "en"]}
    written = {key: dict(enumerate(values)) for key, values in frame.items()}
    (tmp_path / "r.json").write_text(json.dumps(written))
    read = read_texts(tmp_path / "r.json", options=ReadOptions(split="test", language="de"))
    assert [texts for _, texts in read.entries] == [("ein Hund",)]
    assert "split" in read.used


def test_captions_of_one_image_in_two_splits_are_noticed_behind_their_numbers(tmp_path):
    rows = [{"image": f"1.jpg#{i}", "caption": f"a dog {i}", "split": split} for i, split in enumerate(SPLITS)]
    write_table(tmp_path / "r.csv", rows, ",")
    with pytest.raises(ValueError, match=r"the id '1\.jpg' is in train and val"):
        read_texts(tmp_path / "r.csv")


def test_named_columns_of_texts_and_ids_name_no_splits(tmp_path):
    path = tmp_path / "r.csv"
    write_table(path, [{"id": "1", "set": text} for text in ("train on a bridge", "a red train")], ",")
    read = read_texts(path, options=ReadOptions(text_column=("set",)))
    assert read.by_id() == {"1": ["train on a bridge", "a red train"]}
    rows = [{"split": f"{i}", "caption": f"a dog {i}", "subset": split} for i, split in enumerate(SPLITS)]
    write_table(path, rows, ",")
    assert list(read_texts(path, options=ReadOptions(id_column="split", split="val")).by_id()) == ["1"]


def test_a_missing_number_of_a_split_is_none(tmp_path):
    rows = [{"id": f"{i}", "caption": f"a dog {i}", "split": split} for i, split in enumerate([1.5, float("nan")])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    read = read_texts(tmp_path / "r.parquet", options=ReadOptions(split="1.5"))
    assert list(read.by_id()) == ["0"]
    assert any("left out: 1 without a split" in note for note in read.notes)
    with pytest.raises(ValueError, match=r"is one of 1\.5; --split nan is none of them"):
        read_texts(tmp_path / "r.parquet", options=ReadOptions(split="nan"))


def test_of_two_columns_of_languages_the_plainer_name_counts(tmp_path):
    rows = [
        {"id": "1", "caption": "a dog", "lang_code": "de", "locale": "de", "lang": "fr", "language": "en"},
        {"id": "2", "caption": "ein Hund", "lang_code": "fr", "locale": "en", "lang": "de", "language": "de"},
    ]
    for name in ("language", "lang", "locale", "lang_code"):
        expected = {row["id"]: [row["caption"]] for row in rows if row[name] == "de"}
        for columns in (["id", "caption", *rows[0]], ["id", "caption", *reversed(rows[0])]):
            shown = [{column: row[column] for column in columns if column in row} for row in rows]
            write_table(tmp_path / "r.csv", shown, ",")
            assert read_texts(tmp_path / "r.csv", options=ReadOptions(language="de")).by_id() == expected
        rows = [{key: value for key, value in row.items() if key != name} for row in rows]


@pytest.mark.parametrize("asked", ["test", "Test", "TEST"])
def test_spellings_of_a_split_are_one_split(tmp_path, asked):
    rows = [{"id": f"{i}", "caption": f"a dog {i}", "split": split} for i, split in enumerate(["test", "Test", "val"])]
    write_table(tmp_path / "r.csv", rows, ",")
    read = read_texts(tmp_path / "r.csv", options=ReadOptions(split=asked))
    assert list(read.by_id()) == ["0", "1"]
    assert any("2 of 3 rows, those of split test, Test" in note for note in read.notes)
    write_table(tmp_path / "r.csv", [{**row, "id": "7"} for row in rows[:2]], ",")
    assert read_texts(tmp_path / "r.csv").by_id() == {"7": ["a dog 0", "a dog 1"]}


def test_a_missing_number_is_no_language(tmp_path):
    rows = [{"id": f"{i}", "caption": f"a dog {i}", "lang": float("nan")} for i in range(2)]  # "nan" is Min Nan
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    assert not any(
        "nan" in note for note in read_texts(tmp_path / "r.parquet", options=ReadOptions(language="en")).notes
    )
