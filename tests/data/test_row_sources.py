"""Hugging Face's forms, and cells of tables: each is read as it is, or refused in one line that says what is right."""

import bz2
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from row_cases import CSV, DE, EN, ENGLISH, THREE, Cases, both, hugging_face, lines, pictures, save_to_disk, write

CASES = Cases()
case = CASES.add


def metadata_case(name: str, content: str | bytes, expected: Mapping[str, object] | str, **drops: int) -> None:
    def make(tmp: Path) -> dict[str, object]:
        write(pictures(tmp / "d") / name, content)
        return {"images": tmp / "d"}

    make.__name__ = f"imagefolder_{name}_{len(CASES)}"
    case(expected, {reason.replace("_", " "): count for reason, count in drops.items()})(make)


metadata_case("metadata.csv", CSV, THREE)
metadata_case("metadata.csv", CSV.encode("utf-16"), THREE)
metadata_case("metadata.jsonl", lines(*({"file_name": f"{n}.png", "en": EN[n], "de": DE[n]} for n in range(3))), THREE)
metadata_case(
    "metadata.csv",
    CSV.replace("2.png", "none.png"),
    {name: THREE[name] for name in ("0.png", "1.png")},
    no_such_image=1,
    an_image_that_no_row_of_the_metadata_names=1,
)
metadata_case("metadata.csv", CSV.replace("file_name", "image_file"), THREE)

metadata_case("metadata.csv", "file_name,text\n0.png,a dog\n1.png,a cat\n", "set columns to 'text=en'")
metadata_case("metadata.jsonl", lines({"file_name": "0.png", "objects": {"bbox": [[1, 2]]}}), "named after a language")


@case({f"train/{n}.png": both(n) for n in range(2)} | {"test/deep/2.png": both(2)})
def imagefolder_of_splits(tmp: Path) -> dict[str, object]:
    pictures(tmp / "d", "train/0.png", "train/1.png", "test/deep/2.png")
    write(tmp / "d/train/metadata.csv", f"file_name,en,de\n0.png,{EN[0]},{DE[0]}\n1.png,{EN[1]},{DE[1]}\n")
    write(tmp / "d/test/metadata.jsonl", lines({"file_name": "deep/2.png", "en": EN[2], "de": DE[2]}))
    return {"images": tmp / "d"}


@case(THREE)
def imagefolder_parquet(tmp: Path) -> dict[str, object]:
    pictures(tmp / "d")
    pq.write_table(pa.table({"file_name": list(THREE), "en": EN, "de": DE}), tmp / "d/metadata.parquet")
    return {"table": tmp / "d"}


@case("no image has texts beside it .a.en.txt for a.png")
def imagefolder_of_classes(tmp: Path) -> dict[str, object]:
    return {"images": pictures(tmp / "d", "cat/0.png", "cat/1.png", "dog/2.png")}


@case("not a single row can be used .*leads out of the folder")
def imagefolder_that_leads_out(tmp: Path) -> dict[str, object]:
    write(pictures(tmp / "d") / "s/metadata.csv", f"file_name,en\n../../d/../secret.png,{EN[0]}\n")
    return {"images": tmp / "d"}


for parts in (1, 2):

    @case(THREE)
    def saved_to_disk(tmp: Path, parts: int = parts) -> dict[str, object]:
        return {"images": save_to_disk(tmp / "d", hugging_face(), parts)}

    CASES[f"saved_to_disk_{parts}"] = CASES.pop("saved_to_disk")


@case(THREE)
def saved_splits(tmp: Path) -> dict[str, object]:
    table = hugging_face()
    save_to_disk(tmp / "d/train", table.slice(0, 2))
    save_to_disk(tmp / "d/test", table.slice(2))
    write(tmp / "d/dataset_dict.json", '{"splits": ["train", "test"]}')
    return {"table": tmp / "d"}


@case("missing: data-00000-of-00002.arrow")
def saved_with_a_missing_file(tmp: Path) -> dict[str, object]:
    folder = save_to_disk(tmp / "d", hugging_face(), 2)
    (folder / "data-00000-of-00002.arrow").unlink()
    return {"images": folder}


@case({"0.png": both(0), "1.png": both(1)}, {"shard: damaged or cut short, read up to there": 1})
def saved_and_cut_short(tmp: Path) -> dict[str, object]:
    folder = save_to_disk(tmp / "d", hugging_face(), 3)
    last = folder / "data-00002-of-00003.arrow"
    last.write_bytes(last.read_bytes()[:-200])
    return {"images": folder}


@case(THREE)
def saved_with_paths_alone(tmp: Path) -> dict[str, object]:
    save_to_disk(tmp / "d", hugging_face("path"))
    return {"table": tmp / "d", "images": pictures(tmp / "i")}


@case({f"data-00000-of-00001.arrow: row {n + 1}": both(n) for n in range(3)})
def saved_with_bytes_alone(tmp: Path) -> dict[str, object]:
    return {"images": save_to_disk(tmp / "d", hugging_face("bytes"))}


@case(THREE)
def feather_file(tmp: Path) -> dict[str, object]:
    feather.write_feather(hugging_face(), tmp / "t.feather", compression="uncompressed")
    return {"table": tmp / "t.feather"}


@case("not an Arrow file")
def arrow_that_is_none(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "t.arrow", b"\xff\xff\xff\xffnothing")}


@case(THREE)
def translations_of_a_struct(tmp: Path) -> dict[str, object]:
    texts = [{"en": EN[n], "de": DE[n]} for n in range(3)]
    return {"images": save_to_disk(tmp / "d", hugging_face(translation=texts))}


@case("several columns hold texts by language: 'a', 'b'; set columns to 'a=ignore'")
def two_structs_of_texts(tmp: Path) -> dict[str, object]:
    pq.write_table(hugging_face(a=[{"en": t} for t in EN], b=[{"de": t} for t in DE]), tmp / "t.parquet")
    return {"table": tmp / "t.parquet"}


@case("texts are in the column 'translation' and in 'en'; set columns to 'en=ignore'")
def a_struct_and_a_column_of_texts(tmp: Path) -> dict[str, object]:
    pq.write_table(hugging_face(translation=[{"en": t} for t in EN], en=EN), tmp / "t.parquet")
    return {"table": tmp / "t.parquet"}


@case({f"{n}.png": {"en": [EN[n], f"{EN[n]} again"]} for n in range(3)})
def lists_of_captions(tmp: Path) -> dict[str, object]:
    pq.write_table(hugging_face(captions=[[t, f"{t} again"] for t in EN]), tmp / "t.parquet")
    return {"table": tmp / "t.parquet", "columns": ("captions=en",)}


@case(ENGLISH, {"text: unknown language": 3})
def lists_of_records(tmp: Path) -> dict[str, object]:
    pq.write_table(hugging_face(sentences=[[{"raw": t, "id": 1}] for t in EN], en=EN), tmp / "t.parquet")
    return {"table": tmp / "t.parquet"}


@case({f"{n}.png": {"en": [EN[n], 'it\'s "so"']} for n in range(3)})
def lists_in_strings(tmp: Path) -> dict[str, object]:
    rows = [{"image": f"{n}.png", "en": str([EN[n], 'it\'s "so"'])} for n in range(3)]
    return {"table": write(tmp / "t.jsonl", lines(*rows)), "images": pictures(tmp / "i")}


@case({f"{n}.png": {"en": [EN[n], "[music]"]} for n in range(3)})
def brackets_that_are_no_list(tmp: Path) -> dict[str, object]:
    rows = [{"image": f"{n}.png", "en": [EN[n], "[music]"]} for n in range(3)]
    return {"table": write(tmp / "t.jsonl", lines(*rows)), "images": pictures(tmp / "i")}


@case(THREE)
def pushed_to_the_hub(tmp: Path) -> dict[str, object]:
    (tmp / "d/data").mkdir(parents=True)
    pq.write_table(hugging_face().slice(0, 2), tmp / "d/data/train-00000-of-00002.parquet")
    pq.write_table(hugging_face().slice(2), tmp / "d/data/train-00001-of-00002.parquet")
    write(tmp / "d/README.md", "text")
    return {"table": tmp / "d"}


@case("holds both t.parquet and 0.png; give the table by its name")
def parquet_beside_images(tmp: Path) -> dict[str, object]:
    pq.write_table(hugging_face("path"), pictures(tmp / "d") / "t.parquet")
    return {"images": tmp / "d"}


for kind, type_ in {
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "string_view": pa.string_view(),
    "list_of_large": pa.large_list(pa.large_string()),
}.items():

    @case(THREE)
    def parquet_type(tmp: Path, type_: pa.DataType = type_) -> dict[str, object]:
        made = {name: [[t] for t in texts] if pa.types.is_large_list(type_) else texts for name, texts in
                (("en", EN), ("de", DE))}  # fmt: skip
        columns = {
            name: pa.array(texts).dictionary_encode() if pa.types.is_dictionary(type_) else pa.array(texts).cast(type_)
            for name, texts in made.items()
        }
        table = hugging_face()
        for name, column in columns.items():
            table = table.drop_columns([name]).append_column(name, column)
        pq.write_table(table, tmp / "t.parquet")
        return {"table": tmp / "t.parquet"}

    CASES[f"parquet_{kind}"] = CASES.pop("parquet_type")


@case({"0.png": both(0), "2.png": both(2)} | {"1.png": {"de": [DE[1]]}}, {"text: not UTF-8": 1})
def parquet_binary_that_is_no_text(tmp: Path) -> dict[str, object]:
    table = hugging_face().drop_columns(["en"])
    table = table.append_column("en", pa.array([EN[0].encode(), b"\xff\xfe\x00", EN[2].encode()]))
    pq.write_table(table, tmp / "t.parquet")
    return {"table": tmp / "t.parquet"}


@case(THREE)
def parquet_images_under_another_name(tmp: Path) -> dict[str, object]:
    pq.write_table(hugging_face().rename_columns(["picture", "en", "de"]), tmp / "t.parquet")
    return {"table": tmp / "t.parquet"}


@case(ENGLISH)
def parquet_numbers_that_are_no_language(tmp: Path) -> dict[str, object]:
    pq.write_table(hugging_face(en=EN, id=[7, 8, 9], no=[0.1, 0.2, 0.3]), tmp / "t.parquet")
    return {"table": tmp / "t.parquet"}


# Cells and columns.


@case(THREE)
def long_table_of_languages(tmp: Path) -> dict[str, object]:
    rows = [f"{n}.png,{code},{text}" for code, texts in (("de-DE", DE), ("en", EN)) for n, text in enumerate(texts)]
    return {"table": write(tmp / "t.csv", "\n".join(["image,lang,caption", *rows])), "images": pictures(tmp / "i")}


@case("the column 'lang' says that texts are in de; set columns to 'lang=language' and 'caption=text'")
def long_table_taken_for_one_language(tmp: Path) -> dict[str, object]:
    rows = [f"{n}.png,de,{text}" for n, text in enumerate(DE)]
    table = write(tmp / "t.csv", "\n".join(["image,lang,caption", *rows]))
    return {"table": table, "images": pictures(tmp / "i"), "columns": ("caption=en",)}


@case("the columns of text are: 'caption', 'title'; set columns to 'caption=text'")
def long_table_of_two_texts(tmp: Path) -> dict[str, object]:
    rows = [f"{n}.png,de,{text},a title {text}" for n, text in enumerate(DE)]
    return {
        "table": write(tmp / "t.csv", "\n".join(["image,lang,caption,title", *rows])),
        "images": pictures(tmp / "i"),
    }


@case({"0.png": {"en": ["a dog"]}}, {"text: a control character inside a word": 3})
def controls_inside_words(tmp: Path) -> dict[str, object]:
    texts = ["a dog", "do\0g", "it\x92s a dog", EN[0].encode("utf-16-le").decode()]
    return {"table": write(tmp / "t.jsonl", lines({"image": "0.png", "en": texts})), "images": pictures(tmp / "i")}


@case({"0.png": both(0)})
def texts_in_utf_16_beside_images(tmp: Path) -> dict[str, object]:
    write(pictures(tmp / "i", "0.png") / "0.en.txt", f"{EN[0]}\n".encode("utf-16-le"))
    write(tmp / "i/0.de.txt", DE[0], "utf-16")
    return {"images": tmp / "i"}


@case({"0.png": {"en": ["dog " * 300_000 + "end"], "de": ["ein Hund"]}})
def a_very_long_cell(tmp: Path) -> dict[str, object]:
    text = f"image,en,de\n0.png,{'dog ' * 300_000}end,ein Hund\n"
    return {"table": write(tmp / "t.csv.bz2", bz2.compress(text.encode())), "images": pictures(tmp / "i")}


@case({"0.png": {"en": [EN[0]]}, "1.png": {"de": [DE[1]]}}, {"no image path": 1, "text: unknown language": 1})
def mixed_keys(tmp: Path) -> dict[str, object]:
    rows = [
        {"image": "0.png", "en": EN[0], "note": "seen at night"},
        {"image": "1.png", "de": DE[1], "id": 5},
        {"file_name": "2.png", "en": EN[2]},
    ]
    return {"table": write(tmp / "t.jsonl", lines(*rows)), "images": pictures(tmp / "i")}


@case("download the images first")
def addresses_of_images(tmp: Path) -> dict[str, object]:
    text = f"image,en\nhttps://example.org/0.jpg,{EN[0]}\nhttps://example.org/1.jpg,{EN[1]}\n"
    return {"table": write(tmp / "t.csv", text), "images": pictures(tmp / "i")}


@pytest.mark.parametrize("name", CASES)
def test_a_form_is_read_as_it_is_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    CASES.check(name, tmp_path)


def test_there_are_enough_forms() -> None:
    assert len(CASES) >= 40
