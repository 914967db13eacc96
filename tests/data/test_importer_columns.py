"""Columns of a table: what they are taken for, the forms they have, and what is shown of that."""

import gzip
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing import captions_of, json_lines, run, stored

from polyglance.data.import_plan import format_import_plan
from polyglance.data.importer import ImportConfig, plan_import


def test_a_column_is_a_language_only_if_it_reads_as_one(tmp_path, images):
    (tmp_path / "t.csv").write_text(
        "id,image,en,de,it,no,hr,el\n"
        "1000,0.png,a red square,ein rotes Quadrat,1,https://a.org/1,a_1,64 px\n"
        "1001,1.png,a green square,ein gruenes Quadrat,2,https://a.org/2,b_2,1.5 m2\n"
        "1002,2.png,a blue square,ein blaues Quadrat,3,https://a.org/3,c_3,40%\n"
    )
    result = run(tmp_path, tmp_path / "t.csv", images)
    assert result.columns == {
        "id": "left out: numbers", "image": "image", "en": "en", "de": "de", "it": "left out: numbers",
        "no": "left out: addresses", "hr": "left out: names", "el": "left out: numbers",
    }  # fmt: skip
    assert captions_of(tmp_path)["0.png"] == {"en": ["a red square"], "de": ["ein rotes Quadrat"]}


def test_a_column_that_reads_as_another_language_is_refused_with_the_setting_that_decides(tmp_path, images):
    english = ["a dog runs over the grass", "two cats sleep on a sofa", "the boy is eating an apple"] * 2
    rows = [f"{n}.png,{text} number {n},{text} again" for n, text in enumerate(english)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["image,en,no", *rows]))
    with pytest.raises(
        ValueError,
        match=r"the column 'no' reads as en, not as no; .* leave it out: --columns no=ignore",
    ):
        run(tmp_path, table, images)
    shown = run(tmp_path, table, images, columns=("no=no",)).columns["no"]
    assert shown == "no (as was asked for, but it reads as en)"
    run(tmp_path, table, images, columns=("no=ignore",), overwrite=True)
    assert set(captions_of(tmp_path)["0.png"]) == {"en"}
    with pytest.raises(ValueError, match="columns has 'no=xx'"):
        run(tmp_path, table, images, columns=("no=xx",))
    with pytest.raises(ValueError, match="columns names 'x'"):
        run(tmp_path, table, images, columns=("x=en",))


def test_region_codes_names_of_columns_and_several_columns_of_a_language(tmp_path, images):
    (tmp_path / "t.csv").write_text("file_name,en,de-DE,zh_CN,EN-GB,zh-TW\n0.png,a,b,c,d,e\n1.png,a2,b2,c2,d2,e2\n")
    result = run(tmp_path, tmp_path / "t.csv", images)
    assert captions_of(tmp_path)["0.png"] == {"en": ["a", "d"], "de": ["b"], "zh": ["c"]}
    assert result.dropped_texts == {"text: unknown language": 2}
    (tmp_path / "t.csv").write_text("image,caption\n0.png,a dog\n1.png,a cat\n")
    with pytest.raises(ValueError, match="set columns to 'caption=en'"):
        run(tmp_path, tmp_path / "t.csv", images, overwrite=True)
    run(tmp_path, tmp_path / "t.csv", images, columns=("caption=en",), overwrite=True)
    assert captions_of(tmp_path)["1.png"] == {"en": ["a cat"]}


def test_languages_and_images_in_longer_names_of_columns(tmp_path, images):
    (tmp_path / "t.csv").write_text(
        "File Name,caption_en,caption-de-DE,fr_1,fr_2,caption_no,caption_id\n"
        "0.png,a dog,ein Hund,un chien,le chien,1,11\n1.png,a cat,eine Katze,un chat,le chat,2,12\n"
    )
    result = run(tmp_path, tmp_path / "t.csv", images)
    assert captions_of(tmp_path)["0.png"] == {"en": ["a dog"], "de": ["ein Hund"], "fr": ["un chien", "le chien"]}
    assert [result.columns[name] for name in ("File Name", "caption_no")] == ["image", "left out: numbers"]


@pytest.mark.parametrize("orient", ["split", "table", "index", "columns", "lists"])
def test_frames_as_pandas_writes_them(tmp_path, images, orient):
    rows = [{"image": f"{n}.png", "en": f"text {n}", "de": f"deutsch {n}"} for n in range(3)]
    names = list(rows[0])
    content = {
        "split": {"columns": names, "index": [0, 1, 2], "data": [list(row.values()) for row in rows]},
        "table": {"schema": {"fields": []}, "data": rows},
        "index": dict(enumerate(rows)),
        "columns": {name: {n: row[name] for n, row in enumerate(rows)} for name in names},
        "lists": {name: [row[name] for row in rows] for name in names},
    }
    (tmp_path / "t.json").write_text(json.dumps(content[orient]))
    run(tmp_path, tmp_path / "t.json", images)
    assert captions_of(tmp_path) == {f"{n}.png": {"en": [f"text {n}"], "de": [f"deutsch {n}"]} for n in range(3)}


def test_several_rows_of_an_image_are_several_texts_wherever_they_are(tmp_path, images):
    rows = [f"{n % 3}.png,text {n},deutsch {n}" for n in range(15)]
    (tmp_path / "t.csv").write_text("\n".join(["image,en,de", *rows, "7.png,alone,allein", "0.png,text 0,deutsch 0"]))
    result = run(tmp_path, tmp_path / "t.csv", images)
    assert (result.num_rows, result.num_train + result.num_test, result.num_joined) == (17, 4, 13)
    assert captions_of(tmp_path)["1.png"]["en"] == [f"text {n}" for n in (1, 4, 7, 10, 13)]
    pairs = {(a.source, a.text) for a in stored(tmp_path)["2.png"].annotations if a.language == "de" and a.source}
    assert pairs == {(f"text {n}", f"deutsch {n}") for n in (2, 5, 8, 11, 14)}
    assert result.dropped_texts == {"text: twice for the same image": 2}


@pytest.mark.parametrize("form", ["struct", "bytes", "gzip", "lines"])
def test_forms_that_people_have(tmp_path, images, form):
    data = [(images / f"{n}.png").read_bytes() for n in range(3)]
    texts = {"en": ["a dog", "a cat", "a bird"], "de": ["ein Hund", "eine Katze", "ein Vogel"]}
    path = tmp_path / "t.parquet"
    if form in ("struct", "bytes"):
        cells = data if form == "bytes" else [{"bytes": it, "path": f"{n}.png"} for n, it in enumerate(data)]
        pq.write_table(pa.table({"image": cells, **texts, "wide": ["x" * 10**6] * 3}), path)
    elif form == "gzip":
        path = tmp_path / "metadata.csv.gz"
        lines = [f"{n}.png,{texts['en'][n]},{texts['de'][n]}" for n in range(3)]
        path.write_bytes(gzip.compress("\n".join(["file_name,en,de", *lines]).encode("utf-16")))
    else:
        path = json_lines(
            tmp_path / "metadata.jsonl",
            [{"file_name": f"{n}.png", "en": texts["en"][n], "de": texts["de"][n]} for n in range(3)],
        )
    result = run(tmp_path, path, images)
    assert (result.num_rows, result.dropped_rows) == (3, {})
    assert [it["de"] for it in captions_of(tmp_path).values()].count(["eine Katze"]) == 1
    assert {record.image for record in stored(tmp_path).values()} == set(data)


def test_the_bytes_of_a_broken_image_are_in_no_message(tmp_path, images):
    rows = [{"bytes": b"\x89not an image\xff" * 9, "path": None}, {"bytes": None, "path": None}]
    pq.write_table(pa.table({"image": rows, "en": ["a dog", "a cat"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="not a single row can be used") as refusal:
        run(tmp_path, tmp_path / "t.parquet", images)
    assert "\\x89" not in str(refusal.value)


def test_a_plan_shows_what_was_decided_and_writes_nothing(tmp_path, images):
    content = "id\timage\ten\tzh-CN\n7\t0.png\ta dog\t\u72d7\n8\tno.png\ta cat\t\u732b\n"
    (tmp_path / "t.tsv").write_bytes(content.encode("utf-16"))
    plan = plan_import(ImportConfig(out=tmp_path / "out", table=tmp_path / "t.tsv", images=images))
    assert plan.columns == {"id": "left out: numbers", "image": "image", "en": "en", "zh-CN": "zh"}
    assert (plan.num_rows, plan.num_good, plan.dropped) == (2, 1, {"no such image": 1})
    assert plan.texts == {"en": ("a dog",), "zh": ("\u72d7",)}
    shown = format_import_plan(plan)
    assert "cells between tabs, without quotes, utf-16-le" in shown
    assert "column 'id': left out: numbers    7 | 8" in shown
    assert not (tmp_path / "out").exists()


def test_a_plan_of_every_kind_of_input(tmp_path, images):
    (images / "0.en.txt").write_bytes("a dog\n".encode("utf-16"))
    (images / "1.en.txt").write_text("a cat")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(images, "d")
    for path in (images, tmp_path / "s.tar"):
        shown = format_import_plan(plan_import(ImportConfig(out=tmp_path / "out", images=path)))
        assert "column 'en': en    [a dog] | [a cat]" in shown
        assert "texts in utf-16-le, utf-8" in shown
        assert "en: a dog | a cat" in shown
    units = "".join(
        f'<tu><tuv xml:lang="EN-us"><seg>a dog {n}</seg></tuv><tuv xml:lang="fr"><seg>un chien {n}</seg></tuv></tu>'
        for n in range(3)
    )
    (tmp_path / "m.tmx").write_bytes(f"<tmx><body>{units}</body></tmx>".encode("utf-16"))
    shown = format_import_plan(plan_import(ImportConfig(out=tmp_path / "out", table=tmp_path / "m.tmx")))
    assert "translation memory (TMX), utf-16-le; without images: name it under [[bitext]]" in shown
    assert "column 'EN-us': en, in 3 units    a dog 0 | a dog 1" in shown
    assert not (tmp_path / "out").exists()
