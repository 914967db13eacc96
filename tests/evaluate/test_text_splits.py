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
