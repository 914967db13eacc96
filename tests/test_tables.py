"""Tables as rows: every row of a file comes out, readable or not; what is wrong with a whole file is one error."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.tables import TableRow, read_table, table_columns

CELLS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=3, max_size=3)
COLUMNS = ["image", "en", "de"]


def values(rows: Sequence[TableRow]) -> list[dict[str, object]]:
    assert not [row for row in rows if row.problem]
    return [dict(row.values) for row in rows]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
@given(table=st.lists(CELLS.filter(lambda cells: any(cell.strip() for cell in cells)), min_size=1, max_size=8))
def test_a_table_that_python_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, delimiter: str, table: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("table") / f"t{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *table])
    assert values(list(read_table(path))) == [dict(zip(COLUMNS, cells, strict=True)) for cells in table]


@given(
    table=st.lists(
        st.dictionaries(st.sampled_from(COLUMNS), st.text(st.characters(exclude_categories=["Cs"]))), max_size=8
    )
)
def test_json_lines_and_parquet_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[dict[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in [{"image": "first"}, *table]))
    assert values(list(read_table(folder / "t.jsonl"))) == [{"image": "first"}, *table]
    whole = [{name: row.get(name) for name in COLUMNS} for row in table]
    pq.write_table(
        pa.Table.from_pylist(whole, schema=pa.schema([(name, pa.string()) for name in COLUMNS])),
        folder / "t.parquet",
        row_group_size=3,
    )
    assert values(list(read_table(folder / "t.parquet"))) == whole
    assert values(list(read_table(folder / "t.parquet", columns=["de"]))) == [{"de": row["de"]} for row in whole]


def test_rows_that_cannot_be_read_are_rows_with_a_problem(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'image,en\n1.png,a\n2.png\n3.png,\xff\n4.png,d\n5.png,"open\n6.png,f\n')
    rows = list(read_table(tmp_path / "t.csv"))
    assert [(row.where, row.problem, row.num_rows) for row in rows] == [
        ("t.csv:2", "", 1),
        ("t.csv:3", "wrong number of cells", 1),
        ("t.csv:4", "not UTF-8", 1),
        ("t.csv:5", "", 1),
        ("t.csv:6", "broken CSV", 1),
        ("t.csv:7", "", 1),
    ]
    (tmp_path / "t.jsonl").write_bytes(b'{"en": "a"}\n{broken\n[1]\n{"en": 1, "en": 2}\n{"en": "\xff"}\n')
    assert [row.problem for row in read_table(tmp_path / "t.jsonl")] == [
        "",
        "broken JSON",
        "not a JSON object",
        "broken JSON",
        "not UTF-8",
    ]


def test_a_damaged_row_group_is_counted_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"en": [f"text {n}" for n in range(60)]}),
        path,
        row_group_size=20,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    content = path.read_bytes()
    path.write_bytes(content.replace(b"text 25", b"text \xff5", 1))
    rows = list(read_table(path))
    assert sum(row.num_rows for row in rows) == 60
    assert [row.where for row in rows if row.problem] == ["t.parquet: row 26"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"\xef\xbb\xbf\r\n", "the file is empty"),
        ("t.csv", b"a,b,a\n", "the column 'a' occurs twice"),
        ("t.csv", b'a,"b\n', "the header cannot be read"),
        ("t.parquet", b"PAR1", "not a Parquet file"),
        ("t.xlsx", b"x", "unknown kind of table '.xlsx'; known: .jsonl, .ndjson, .json, .csv, .tsv, .tab, .parquet"),
        ("absent/t.csv", None, "no such file"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for read in (table_columns, read_table):
        with pytest.raises(ValueError, match=message) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_comments_above_the_header_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# exported, 2024\n#second line\nid,text,n\n1,a,2\n")
    assert [row.values for row in read_table(tmp_path / "a.csv")] == [{"id": "1", "text": "a", "n": "2"}]
    (tmp_path / "b.tsv").write_text("#id\ttext\n1\ta\n")
    assert [row.values for row in read_table(tmp_path / "b.tsv")] == [{"#id": "1", "text": "a"}]


def test_a_list_of_records_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"id": 1}, 2]')
    assert [(row.values, row.problem) for row in read_table(tmp_path / "a.json")] == [
        ({"id": 1}, ""),
        ({}, "not a JSON object"),
    ]
    (tmp_path / "b.json").write_text('{"id": 1}')
    with pytest.raises(ValueError, match="expected a list of records"):
        list(read_table(tmp_path / "b.json"))


@pytest.mark.parametrize("seed", range(40))
def test_titles_row_names_and_delimiters_at_the_ends_change_no_cell(tmp_path, seed):
    rng = random.Random(seed)
    delimiter, suffix = rng.choice([(",", "csv"), ("\t", "tsv")])
    names = ["image", "en", "de"][: rng.choice([2, 3])]
    words = ["a dog", "ein Hund", "one, two", "", "3"]
    rows = [[f"{i}.png", *rng.choices(words, k=len(names) - 1)] for i in range(rng.randint(2, 6))]
    rows[-1][-1] = "a cow"  # a last column that is empty throughout would be delimiters at the ends
    ends = [""] * rng.choice([0, 0, 1, 4])
    has_row_names = not ends and rng.random() < 0.5
    numbers = rng.sample(range(40), k=len(rows))  # of rows that were chosen from others
    lines = [[*names, *(ends if rng.random() < 0.5 else [])]]  # delimiters at the ends of all lines, or of the rows
    lines += [[*([str(i)] if has_row_names else []), *row, *ends] for i, row in zip(numbers, rows, strict=True)]
    for title in rng.sample(["Captions of 2024", "made by us"], k=rng.choice([0, 0, 1, 2])):
        lines.insert(0, [title, *rng.choice([[], [""] * (len(names) - 1)])])
    path = tmp_path / f"t.{suffix}"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows(lines)
    expected = ["", *names] if has_row_names else names
    assert table_columns(path) == expected
    read = list(read_table(path))
    assert not any(row.problem for row in read)
    assert [[row.values[name] for name in names] for row in read] == rows


def test_a_comma_that_is_not_quoted_moves_no_cell(tmp_path):
    path = tmp_path / "t.csv"
    for header, lines in (
        ("image,en", ["1.png,a dog, a cat", "2.png,a dog"]),  # some rows are longer, and count nothing
        ("image,en", ["1.png,a dog, a cat", "2.png,a dog, a cat"]),  # all are
        ("image,en,", ["1.png,a dog, a cat", "2.png,a dog,"]),  # a comma at the ends, and one within
        ("image,en", ["1,1.png,a dog", "2,2.png,a dog, a cat", "4,3.png,a dog"]),  # rows of several widths
        ("image,en", ["1,a dog, a cat", "2,a dog,a cat"]),  # the first cells may be names of rows, the next no ids
        ("image,en", ["1,2 dogs, 1 cat", "2,3 dogs, 2 cats"]),
        ("image,en", ["1,dog1, a cat", "2,dog2, a cow"]),  # ids, but a blank begins the next cell
        ("image,en", ["7,1.png,a dog", "7,2.png,a dog"]),  # a name of a row stands once
    ):
        path.write_text("\n".join([header, *lines]) + "\n")
        assert table_columns(path) == ["image", "en"]
        for line, row in zip(lines, read_table(path), strict=True):
            assert row.problem or [*row.values.values()] == line.removesuffix(",").split(",")
            assert bool(row.problem) == (line.removesuffix(",").count(",") > 1)


def test_a_column_of_sentences_has_no_title(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("the texts\na dog runs\na cat sits\n")
    assert [row.values["the texts"] for row in read_table(path)] == ["a dog runs", "a cat sits"]
    path.write_text("the texts\n" + 25 * "a dog runs\n" + "a cow, brown\n")  # no title has so many lines
    rows = list(read_table(path))
    assert values(rows[:25]) == 25 * [{"the texts": "a dog runs"}]
    assert [row.problem for row in rows[25:]] == ["wrong number of cells"]


@pytest.mark.parametrize("width", [2, 3])
def test_a_last_column_without_a_name_is_kept_if_it_holds_something(tmp_path, width):
    path = tmp_path / "t.csv"
    path.write_text(
        f"image,en{',' * (width - 1)}\n" + f"1.png,a dog,{',' * (width - 2)}\n2.png,a cat,{',' * (width - 2)}note\n"
    )
    unnamed = {"column 3": ""} if width == 3 else {}
    assert values(list(read_table(path))) == [
        {"image": "1.png", "en": "a dog", **unnamed, f"column {width + 1}": ""},
        {"image": "2.png", "en": "a cat", **unnamed, f"column {width + 1}": "note"},
    ]


def test_the_end_of_a_text_does_not_go_into_a_column_without_a_name(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,en,\n1.png,a dog,note\n2.png,a dog, a cat\n")
    first, second = read_table(path)
    assert first.values == {"image": "1.png", "en": "a dog", "column 3": "note"}
    assert (second.problem, second.detail) == ("a cell without a name above it", "a cat")


def test_a_cell_without_a_name_far_below_is_reported(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,en,\n" + "1.png,a dog,\n" * 1500 + "2.png,a cat,note\n")
    *rest, last = read_table(path)
    assert len(values(rest)) == 1500
    assert (last.problem, last.detail) == ("a cell without a name above it", "note")


@pytest.mark.parametrize("titles", [[], ["Captions of 2024"]])
@pytest.mark.parametrize("index", ["0", "1.png", "a"])
def test_an_index_and_one_column_are_a_header_and_no_title(tmp_path, titles, index):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([*titles, ",english caption", f"{index},a dog"]) + "\n")
    assert values(list(read_table(path))) == [{"": index, "english caption": "a dog"}]
    path.write_text("\n".join([*titles, ",Captions of 2024,", "image,en,de", f"{index},a dog,ein Hund"]) + "\n")
    assert values(list(read_table(path))) == [{"image": index, "en": "a dog", "de": "ein Hund"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_titles_do_not_hide_the_delimiter(tmp_path, delimiter):
    path = tmp_path / "t.csv"
    lines = ["Captions of 2024", "made by us", *map(delimiter.join, [("image", "en"), ("1.png", "a dog; or two")])]
    path.write_text("\n".join(lines) + "\n")
    rows = list(read_table(path))
    assert [row.values for row in rows] == [{"image": "1.png", "en": "a dog; or two"}] or delimiter == ";"
    assert [bool(row.problem) for row in rows] == [delimiter == ";"]  # its text has the delimiter
    path.write_text("the texts\na dog; brown\na cat; black\n")
    assert values(list(read_table(path))) == [{"the texts": "a dog; brown"}, {"the texts": "a cat; black"}]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("image,en,fr", ["1,cat.jpg,A cat,Un chat", "2,my dog.jpg,A dog,Un chien"]),  # names without a digit
        ("image,en,fr", ["4,1.jpg,' A cat',Un chat", "2,2.jpg,' A dog',Un chien"]),  # blanks that begin the texts
        ("image,en,note", ["1,1.jpg,A cat,", "2,2.jpg,A dog,"]),  # values that are missing throughout
        ("en,fr", ["1,A cat,Un chat", "2,A dog,Un chien"]),  # no files at all
    ],
)
def test_names_of_rows_stand_beside_files_or_count(tmp_path, header, rows):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *rows]).replace("'", '"') + "\n")
    assert table_columns(path) == ["", *header.split(",")]
    assert [list(row.values.values()) for row in read_table(path)] == [row.replace("'", "").split(",") for row in rows]


def test_delimiters_at_the_ends_are_no_missing_values(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,image,en\n1,1.jpg,A cat,\n2,2.jpg,A dog,\n")
    assert values(list(read_table(path)))[0] == {"id": "1", "image": "1.jpg", "en": "A cat"}


def test_a_title_in_the_second_of_two_cells_is_no_header(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",Captions of spring\nimage,en\ncat.jpg,A cat\n")
    assert values(list(read_table(path))) == [{"image": "cat.jpg", "en": "A cat"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("seed", range(5))
def test_blanks_around_quoted_cells_are_none_of_their_texts(tmp_path, delimiter, seed):
    rng = random.Random(seed)
    rows = [
        [f"{i}.png", rng.choice([f'a "big"{delimiter} dog', "two\nlines", "a cat", ""]), "3 cows"] for i in range(6)
    ]

    def quote(cell, blanks):
        # A quoted cell of several lines is known by its mark alone, so that no blank may stand before it.
        before, after = ("", "") if "\n" in cell else (rng.choice(blanks), rng.choice(blanks))
        return f'{before}"{cell.replace(chr(34), 2 * chr(34))}"{after}'

    path = tmp_path / f"t.{'tsv' if delimiter == chr(9) else 'csv'}"
    lines = [delimiter.join(quote(cell, ["", " ", "  "]) for cell in row) for row in [["image", "en", "note"], *rows]]
    path.write_text("\n".join(lines) + "\n")
    assert [list(row.values.values()) for row in read_table(path)] == rows


def test_quotation_marks_of_a_text_stay(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('image,en,de\n1.png, "two" of "them",6" wide\n')
    assert values(list(read_table(path))) == [{"image": "1.png", "en": ' "two" of "them"', "de": '6" wide'}]
