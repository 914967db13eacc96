import csv
import json
import tempfile
from collections import Counter
from io import BytesIO, StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from importing import json_lines, places, png, run, stored
from PIL import Image

from polyglance.data.importer import ImportConfig, ImportResult
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_annotations
from polyglance.records import Annotation, annotations_from_texts

EMOJI = Path(__file__).parents[3] / "shared" / "data" / "emoji"


def test_rows_become_every_annotation_their_texts_allow(tmp_path, images):
    rows = [
        {"image": "0.png", "texts": {"en": "a dog", "de": "ein Hund"}, "group": "animals"},
        {"image": "1.png", "texts": {"de": "eine Katze"}, "key": "cat", "style": "detailed"},
        {"image": "2.png", "texts": {"en": ["one", "two"], "zh": ["一", "二", "三"]}, "key": 7},
    ]
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", rows), images)
    assert (result.num_rows, result.dropped_rows, result.dropped_texts) == (3, {}, {})
    records = stored(tmp_path)
    assert records["0.png"].annotations == annotations_from_texts({"en": "a dog", "de": "ein Hund"})
    assert records["0.png"].image == (images / "0.png").read_bytes()
    assert records["cat"].annotations == (
        Annotation(task="caption", language="de", text="eine Katze", style="detailed"),
    )
    pairs = {(a.source, a.text) for a in records["7"].annotations if a.task == "translation" and a.language == "zh"}
    assert pairs == {("one", "一"), ("two", "二")}
    captions = [a.text for a in records["7"].annotations if a.task == "caption" and a.language == "zh"]
    assert captions == ["一", "二", "三"]


def test_a_dropped_text_does_not_shift_its_neighbours(tmp_path, images):
    texts = {"en": ["one", " ", "three"], "de": ["eins", "zwei", 3, "vier"]}
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", [{"image": "0.png", "texts": texts}]), images)
    assert result.dropped_texts == {"text: empty": 1, "text: not a string": 1}
    pairs = {(a.source, a.text) for a in stored(tmp_path)["0.png"].annotations if a.task == "translation"}
    assert pairs == {("one", "one"), ("one", "eins"), ("three", "three")}


def test_every_bad_row_is_counted_with_its_line(tmp_path, images):
    (images / "cut.png").write_bytes(png(77, (64, 64))[:-30])
    (images / "page.png").write_text("<html>")
    (images / "empty.png").write_bytes(b"")
    (images / "large.png").write_bytes(png(1, (101, 50)))
    (images / "sub").mkdir()
    text = {"en": "text"}
    rows = [
        {"image": "0.png", "texts": text},
        '{"image": "1.png", "texts": {"en": "cut off',
        "[1, 2]",
        '{"image": "1.png", "image": "2.png", "texts": {"en": "x"}}',
        {"texts": text},
        {"image": 5, "texts": text},
        {"image": "nowhere.png", "texts": text},
        {"image": "sub", "texts": text},
        {"image": "zero\0.png", "texts": text},
        {"image": "x" * 5000, "texts": text},
        {"image": "../t.jsonl", "texts": text},
        {"image": str(images / "1.png"), "texts": text},
        {"image": "0.png", "texts": {"en": "again"}},
        {"image": "./sub/../0.png", "texts": {"en": "again"}},
        {"image": "0.png", "texts": text, "key": "another"},
        {"image": "1.png", "texts": text, "key": [1]},
        {"image": "1.png", "texts": text, "style": "long"},
        {"image": "1.png", "texts": text, "style": ["short"]},
        {"image": "1.png", "texts": "text"},
        {"image": "1.png"},
        {"image": "1.png", "texts": {"tlh": "Qapla'"}},
        {"image": "cut.png", "texts": text},
        {"image": "page.png", "texts": text},
        {"image": "empty.png", "texts": text},
        {"image": "large.png", "texts": text},
        "[" * 100_000,
        {"image": "9.png", "texts": {"en": "the last"}},
    ]
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", rows), images, max_pixels=5000)
    assert set(stored(tmp_path)) == {"0.png", "another", "9.png"}
    assert result.num_joined == 2
    captions = [a.text for a in stored(tmp_path)["0.png"].annotations if a.task == "caption"]
    assert captions == ["text", "again"]
    lines = {
        reason: [int(place.split(":")[1]) for place in found]
        for reason, found in places(tmp_path).items()
        if not reason.startswith("text:")
    }
    assert lines == {
        "broken JSON": [2, 4, 26],
        "not a JSON object": [3],
        "no image path": [5, 6],
        "no such image": [7, 8, 9, 10],
        "a path that leads out of the folder": [11, 12],
        "a key that is not text": [16],
        "unknown style": [17, 18],
        "no text": [19, 20, 21],
        "image: truncated": [22],
        "image: not an image": [23],
        "image: empty": [24],
        "image: too many pixels": [25],
    }
    assert result.dropped_texts == {
        "text: not a table of language and text": 1,
        "text: unknown language": 1,
        "text: twice for the same image": 1,
    }


def test_links_out_of_the_image_folder_are_refused(tmp_path, images):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(200))
    (images / "link.png").symlink_to(secret)
    (images / "loop.png").symlink_to(images / "loop.png")
    (images / "inside.png").symlink_to(images / "3.png")
    rows = [{"image": name, "texts": {"en": "a link"}} for name in ("link.png", "loop.png", "inside.png")]
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", rows), images)
    assert result.dropped_rows == {"a path that leads out of the folder": 1, "no such image": 1}
    assert set(stored(tmp_path)) == {"inside.png"}


def test_texts_are_brought_to_one_line_in_nfc(tmp_path, images):
    texts = {
        "en": "  two\r\nlines,\ta tab\x00 and\u2028more\x85 ",
        "fr": "\ufeffune cafe\u0301\u00a0: \u00ab\u202fc’est\u202f\u00bb",
        "de": "\u200b \u3000\n",
        "ru": "\ud800",
        "eo": ["saluton", "saluton"],
        "es": None,
    }
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", [{"image": "0.png", "texts": texts}]), images)
    captions = {a.language: a.text for a in stored(tmp_path)["0.png"].annotations if a.task == "caption"}
    assert captions == {"en": "two lines, a tab and more", "fr": "une caf\u00e9\u00a0: \u00ab\u202fc’est\u202f\u00bb"}
    assert result.dropped_texts == {"text: empty": 1, "text: not UTF-8": 1, "text: unknown language": 2}


def test_only_the_languages_asked_for(tmp_path, images):
    rows = [{"image": "0.png", "texts": {"en": "a", "de": "b", "fr": "c"}}, {"image": "1.png", "texts": {"fr": "d"}}]
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", rows), images, languages=("de", "en"))
    assert {str(a.cell) for a in stored(tmp_path)["0.png"].annotations} == {
        "caption-en",
        "caption-de",
        "translation-en",
        "translation-de",
    }
    assert result.dropped_texts == {"text: language not asked for": 2}
    assert result.dropped_rows == {"no text": 1}


def test_bytes_that_are_not_utf8_cost_only_their_line(tmp_path, images):
    good = '{"image": "%d.png", "texts": {"de": "Fuß"}}'
    table = tmp_path / "t.jsonl"
    lines = [(good % 0).encode(), (good % 1).encode("latin-1"), b"", (good % 2).encode()]
    table.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert run(tmp_path, table, images).dropped_rows == {"not UTF-8": 1}
    assert places(tmp_path) == {"not UTF-8": ["t.jsonl:2: invalid continuation byte"]}
    assert set(stored(tmp_path)) == {"0.png", "2.png"}
    assert {a.text for record in stored(tmp_path).values() for a in record.annotations} == {"Fuß"}


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t"), ("CSV", ",")])
def test_delimited_tables(tmp_path, images, suffix, delimiter):
    table = tmp_path / f"t.{suffix}"
    rows = [
        ["image", "en", " de ", "style", "note"],
        ["0.png", 'a "quoted", word', "über\nzwei", "detailed", ""],
        ["1.png", "", "nur deutsch", "", "see 0"],
        [],
        ["2.png", "too few"],
        ["3.png", "last", "", "", ""],
    ]
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    with table.open("ab") as file:
        file.write(delimiter.join(["4.png", "\0", "x", "", ""]).replace("\0", "@").encode().replace(b"@", b"\xff"))
    result = run(tmp_path, table, images)
    assert result.num_rows == 5
    assert result.dropped_rows == {"wrong number of cells": 1, "not UTF-8": 1}
    assert result.dropped_texts == {"text: unknown language": 1}
    assert places(tmp_path)["wrong number of cells"] == [f"t.{suffix}:6: 2 cells, the header has 5"]
    records = stored(tmp_path)
    detailed = annotations_from_texts({"en": 'a "quoted", word', "de": "über zwei"}, style="detailed")
    assert records["0.png"].annotations == detailed
    assert records["1.png"].annotations == annotations_from_texts({"de": "nur deutsch"})
    assert records["3.png"].annotations == annotations_from_texts({"en": "last"})


def test_an_unclosed_quote_costs_its_own_line_alone(tmp_path, images):
    table = tmp_path / "t.csv"
    table.write_text('image,en\n0.png,good\n1.png,"open\n2.png,swallowed\n3.png,too\n')
    result = run(tmp_path, table, images)
    assert (result.num_rows, result.dropped_rows) == (4, {"broken CSV": 1})
    assert places(tmp_path)["broken CSV"][0].startswith("t.csv:3: ")


@pytest.mark.parametrize("form", ["columns", "struct", "map"])
def test_parquet(tmp_path, images, form):
    texts = [{"en": "a dog", "de": "ein Hund"}, {"en": None, "de": "eine Katze"}, {"en": "a third", "de": None}]
    names = [f"{number}.png" for number in range(3)]
    if form == "columns":
        columns = {"image": names, "en": [t["en"] for t in texts], "de": [t["de"] for t in texts]}
    elif form == "struct":
        lists = [{code: text and [text] for code, text in t.items()} for t in texts]
        columns = {"image": names, "texts": lists, "width": [1, 2, 3]}
    else:
        kind = pa.map_(pa.string(), pa.string())
        columns = {"image": names, "texts": pa.array([list(t.items()) for t in texts], kind)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=2)
    result = run(tmp_path, tmp_path / "t.parquet", images)
    assert (result.num_rows, result.dropped_rows, result.dropped_texts) == (3, {}, {})
    expected = [{code: text for code, text in t.items() if text is not None} for t in texts]
    assert [stored(tmp_path)[name].annotations for name in names] == [annotations_from_texts(t) for t in expected]


def test_parquet_with_bad_bytes(tmp_path, images):
    bad = pa.array([b"fine", b"\xff\xfe", b"good"]).view(pa.string())
    pq.write_table(pa.table({"image": ["0.png", "1.png", "2.png"], "en": bad}), tmp_path / "t.parquet")
    assert run(tmp_path, tmp_path / "t.parquet", images).dropped_rows == {"not UTF-8": 1}
    assert set(stored(tmp_path)) == {"0.png", "2.png"}


def test_parquet_that_breaks_off_inside(tmp_path, images):
    names = [f"{number % 10}.png" for number in range(15)]
    table = pa.table(
        {"image": names, "en": [f"text {n} " * 50 for n in range(15)], "key": [f"k{n}" for n in range(15)]}
    )
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=5, compression="zstd", use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    result = run(tmp_path, path, images)
    assert (result.num_rows, result.dropped_rows) == (15, {"damaged": 5})
    assert places(tmp_path)["damaged"][0].startswith("t.parquet: row 6: ")
    assert len(stored(tmp_path)) == 10


def test_a_folder_of_images_and_texts(tmp_path, images):
    (images / "sub").mkdir()
    (images / "sub" / "a.b.png").write_bytes(png(300))
    (images / "sub" / "a.b.en.txt").write_bytes(b"\xef\xbb\xbffirst\r\n\r\nsecond\n")
    (images / "sub" / "a.b.de.txt").write_bytes("erste\nzw\xf6lfte\n".encode("latin-1") + "über".encode())
    (images / "0.en.txt").write_text("zero")
    (images / "0.tlh.txt").write_text("pagh")
    (images / "1.en.txt").write_text(" \n")
    (images / "lost.de.txt").write_text("ohne Bild")
    (images / "readme.txt").write_text("hello")
    (images / "2.fr.txt").symlink_to("/etc/hostname" if Path("/etc/hostname").exists() else "/etc/passwd")
    result = run(tmp_path, None, images)
    assert set(stored(tmp_path)) == {"0.png", "sub/a.b.png"}
    assert stored(tmp_path)["0.png"].annotations == annotations_from_texts({"en": "zero"})
    annotations = stored(tmp_path)["sub/a.b.png"].annotations
    pairs = {(a.language, a.source, a.text) for a in annotations if a.task == "translation"}
    assert pairs == {("en", "first", "first"), ("en", "second", "second"), ("de", "first", "erste")}
    assert {a.text for a in annotations if a.task == "caption"} == {"first", "second", "erste", "über"}
    assert result.dropped_rows == {
        "neither an image nor <name>.<language>.txt": 1,
        "a path that leads out of the folder": 1,
        "texts without an image": 1,
        "no text": 9,
    }
    assert result.dropped_texts == {"text: unknown language": 1, "text: not UTF-8": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b"", "the file is empty"),
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"\xef\xbb\xbf\r\n\r\n", "the file is empty"),
        ("t.parquet", b"", "the file is empty"),
        ("t.parquet", b"PAR1", "not a Parquet file"),
        ("t.xlsx", b"x", "unknown kind of table '.xlsx'; known: .jsonl"),
        ("t.csv", b"photo,en\n1.png,x\n", "no column 'image'; the columns are: 'photo' (left out: paths); 'en' (en)"),
        ("t.csv", b"image,style\n1.png,short\n", "no column named after a language"),
        ("t.csv", b"image,en,en\n1.png,a,b\n", "the column 'en' occurs twice"),
        ("t.csv", b'image,"en\n1.png,x\n', "the header cannot be read"),
        ("t.csv", b"image,en\n", "not a single row can be used (no rows)"),
        ("t.jsonl", b"\n\n", "not a single row can be used (no rows)"),
        ("t.jsonl", b'{"image": "no.png", "texts": {"en": "x"}}', "(no such image: 1, first t.jsonl:1: no.png)"),
        ("t.jsonl", '{"a": 1}'.encode("utf-16"), "not a single row can be used"),
    ],
)
def test_a_table_of_no_use_is_one_clear_line(tmp_path, images, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="t\\.") as error:
        run(tmp_path, tmp_path / name, images)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("manifest.json"))
    assert not (tmp_path / "out").exists(), "a refused import leaves no folders"


def test_missing_files_are_one_line(tmp_path, images):
    with pytest.raises(ValueError, match="no such file"):
        run(tmp_path, tmp_path / "none.jsonl", images)
    with pytest.raises(ValueError, match="no such folder"):
        run(tmp_path, None, tmp_path / "none")
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="the folder is empty"):
        run(tmp_path, None, tmp_path / "void")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": None}, "give table"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"languages": ("en", "kr")}, "unknown language 'kr'"),
        ({"background": (0, 0, 256)}, "background"),
        ({"max_side": 0}, "at least 1"),
    ],
)
def test_a_bad_config_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ImportConfig(**{"out": tmp_path, "table": tmp_path / "t.csv"} | options)


def test_finished_data_sets_are_kept_unless_overwrite_is_set(tmp_path, images):
    table = json_lines(tmp_path / "t.jsonl", [{"image": "0.png", "texts": {"en": "x"}}])
    run(tmp_path, table, images)
    with pytest.raises(ValueError, match="finished data set already"):
        run(tmp_path, table, images)
    json_lines(table, [{"image": "1.png", "texts": {"en": "x"}}])
    run(tmp_path, table, images, overwrite=True)
    assert set(stored(tmp_path)) == {"1.png"}


def test_the_split_follows_the_picture_alone(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for number in range(300):
        picture = Image.open(BytesIO(png(number)))
        picture.save(folder / f"{number}.png", compress_level=0)
        rows.append({"image": f"{number}.png", "texts": {"en": f"text {number}"}})
        picture.save(folder / f"copy{number}.bmp")  # the same pixels in another file
        rows.append({"image": f"copy{number}.bmp", "texts": {"en": f"other {number}"}})
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", rows), folder, test_fraction=0.2)
    assert result.dropped_rows == {}
    sides = {key: split for split in ("train", "test") for key, _ in read_annotations(tmp_path / "out" / split)}
    assert all(sides[f"{number}.png"] == sides[f"copy{number}.bmp"] for number in range(300))
    assert 60 < result.num_test < 180  # 120 expected, standard deviation 14

    shuffled = json_lines(tmp_path / "t.jsonl", rows[::-1][:400])
    run(tmp_path, shuffled, folder, test_fraction=0.2, overwrite=True)
    again = {key: split for split in ("train", "test") for key, _ in read_annotations(tmp_path / "out" / split)}
    assert again == {key: sides[key] for key in again}
    assert len(again) == 400

    run(tmp_path, shuffled, folder, test_fraction=0.2, overwrite=True, seed=1)
    other = {key: split for split in ("train", "test") for key, _ in read_annotations(tmp_path / "out" / split)}
    assert other != again
    assert run(tmp_path, shuffled, folder, test_fraction=0.0, overwrite=True).num_test == 0


def test_images_are_stored_as_asked(tmp_path, images):
    (images / "clear.png").write_bytes(png(3, (40, 20), mode="RGBA"))
    table = json_lines(tmp_path / "t.jsonl", [{"image": "clear.png", "texts": {"en": "nothing"}}])
    run(tmp_path, table, images, background=(1, 2, 3), max_side=10)
    image = Image.open(BytesIO(stored(tmp_path)["clear.png"].image))
    assert (image.size, image.mode, image.getcolors()) == ((10, 5), "RGB", [(50, (1, 2, 3))])


def test_order_and_bytes_do_not_depend_on_threads(tmp_path, images, monkeypatch):
    rows = [{"image": f"{number}.png", "texts": {"en": f"text {number}"}} for number in (5, 3, 9, 0, 1, 8)]
    table = json_lines(tmp_path / "t.jsonl", rows)
    run(tmp_path, table, images, test_fraction=0.0)
    assert list(stored(tmp_path)) == [row["image"] for row in rows]
    shards = read_manifest(tmp_path / "out" / "train").shards
    monkeypatch.setattr("polyglance.data.importer._NUM_THREADS", 1)
    run(tmp_path, table, images, test_fraction=0.0, overwrite=True)
    assert read_manifest(tmp_path / "out" / "train").shards == shards


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "image": st.sampled_from(["0.png", "1.png", "../1.png", "none.png"]) | JSON,
            "texts": st.dictionaries(st.sampled_from(["en", "de", "zh", "xx"]), JSON | st.text(), max_size=4) | JSON,
            "key": JSON,
            "style": st.sampled_from(["short", "paragraph"]) | JSON,
        },
    )
    | JSON,
    max_size=8,
)


def outcome(table: bytes, suffix: str) -> ImportResult | None:
    """The result of importing a table beside two pictures, checked against what was written; None if refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(2):
            (folder / f"{number}.png").write_bytes(png(number))
        (folder / f"t.{suffix}").write_bytes(table)
        try:
            return run(folder, folder / f"t.{suffix}", folder)
        except ValueError as refusal:
            message, exact_type = str(refusal), type(refusal)
        assert exact_type is ValueError
        assert message.startswith(str(folder / f"t.{suffix}"))
        assert "\n" not in message
        assert not list(folder.rglob("manifest.json"))
        return None


@settings(deadline=None, max_examples=100)
@given(rows=ROWS)
@example(rows=[{"LANGUAGE": []}])
@example(rows=[{"image": "0.png", "text": "a dog on the grass", "language": ["en"]}])
@example(rows=[{"image": "0.png", "text": "a dog on the grass", "language": {"en": 1}}])
def test_every_json_row_is_kept_or_counted(rows):
    result = outcome("".join(f"{json.dumps(row)}\n" for row in rows).encode(), "jsonl")
    if result is not None:
        assert result.num_rows == len(rows)


@settings(deadline=None, max_examples=60)
@given(
    cells=st.lists(
        st.tuples(st.sampled_from(["0.png", "1.png", "no.png"]) | st.text(max_size=6), st.text(max_size=6)).filter(
            lambda row: any(cell.strip() for cell in row)
        ),
        max_size=6,
    )
)
def test_every_csv_row_is_kept_or_counted(cells):
    table = StringIO(newline="")
    csv.writer(table).writerows([("image", "en"), *cells])
    result = outcome(table.getvalue().encode(errors="replace"), "csv")
    if result is not None:
        assert result.num_rows == len(cells)


@settings(deadline=None, max_examples=150)
@given(
    table=st.binary(max_size=200)
    | st.lists(
        st.sampled_from([b'{"image": "0.png", "texts": {"en": "x"}}', b"image,en", b"0.png,x", b'"', b"\0", b"\xff"])
        | st.binary(max_size=9),
        max_size=9,
    ).map(b"\n".join),
    suffix=st.sampled_from(["jsonl", "csv", "tsv", "parquet"]),
)
def test_wild_bytes_as_a_table_are_rows_drops_or_one_line(table, suffix):
    result = outcome(table, suffix)
    assert result is None or result.num_train + result.num_test > 0, "where nothing can be used it is refused"


@pytest.mark.skipif(not EMOJI.is_dir(), reason=f"the emoji data is not at {EMOJI}")
def test_real_data(tmp_path):
    rows = [json.loads(line) for line in (EMOJI / "captions.jsonl").read_text(encoding="utf-8").splitlines()][::5]
    result = run(tmp_path, json_lines(tmp_path / "t.jsonl", rows), EMOJI)
    assert (result.num_rows, result.dropped_rows, result.dropped_texts) == (len(rows), {}, {})
    assert 50 < result.num_test < 105  # 76 expected, standard deviation 8
    records = stored(tmp_path)
    for row in rows[::19]:
        record = records[row["image"]]
        assert record.annotations == annotations_from_texts(row["texts"])
        original = Image.open(EMOJI / row["image"]).convert("RGBA")
        white = Image.new("RGBA", original.size, "white")
        expected = Image.alpha_composite(white, original).convert("RGB")
        assert Image.open(BytesIO(record.image)).tobytes() == expected.tobytes()
    counts = [read_manifest(tmp_path / "out" / split).rows_per_cell for split in ("train", "test")]
    assert set((Counter(counts[0]) + Counter(counts[1])).values()) == {len(rows)}
