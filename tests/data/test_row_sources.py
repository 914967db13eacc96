"""Forms that people have images and texts in: each is read as it is, or refused in one line that says what is right."""

import bz2
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from importing import captions_of, png, run

PICTURES = [png(n) for n in range(6)]
EN = ["a dog runs on grass", "a cat sleeps here", "two birds sing"]
DE = ["ein Hund rennt im Gras", "eine Katze schläft hier", "zwei Vögel singen"]


def both(number: int) -> dict[str, list[str]]:
    return {"en": [EN[number]], "de": [DE[number]]}


THREE = {f"{n}.png": both(n) for n in range(3)}
ENGLISH = {f"{n}.png": {"en": [EN[n]]} for n in range(3)}


def write(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names or ("0.png", "1.png", "2.png")):
        write(folder / name, PICTURES[number])
    return folder


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def tar(path: Path, members: list[tuple[str, str | bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def beside(number: int, name: str | None = None) -> list[tuple[str, str | bytes]]:
    name = str(number) if name is None else name
    return [(f"{name}.png", PICTURES[number]), (f"{name}.en.txt", EN[number]), (f"{name}.de.txt", DE[number])]


def save_to_disk(folder: Path, table: pa.Table, parts: int = 1) -> Path:
    """Write the files that `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{parts:05d}.arrow" for n in range(parts)]
    size = -(-table.num_rows // parts)
    for n, name in enumerate(names):
        part = table.slice(n * size, size)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(part)
    write(folder / "state.json", json.dumps({"_data_files": [{"filename": name} for name in names]}))
    write(folder / "dataset_info.json", "{}")
    return folder


def hugging_face(kind: str = "both", **columns: list) -> pa.Table:
    rows: list = [{"bytes": PICTURES[n], "path": f"{n}.png"} for n in range(3)]
    if kind == "bytes":
        rows = [{"bytes": PICTURES[n], "path": None} for n in range(3)]
    if kind == "path":
        rows = [{"bytes": None, "path": f"{n}.png"} for n in range(3)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({"image": pa.array(rows, struct), **(columns or {"en": EN, "de": DE})})


def coco(**changes: object) -> dict[str, object]:
    images = [{"id": 10 + n, "file_name": f"{n}.png", "height": 3} for n in range(3)]
    annotations = [{"id": n, "image_id": 10 + n, "caption": EN[n]} for n in (2, 0, 1)]
    return {"info": {}, "images": images, "annotations": annotations, **changes}


def karpathy(*, raw: str = "raw", filepath: bool = False) -> dict[str, object]:
    rows = [
        {"filename": f"{n}.png", "imgid": n, "split": "train", "sentences": [{"tokens": ["a"], raw: EN[n] + "\n"}]}
        | ({"filepath": "val2014", "cocoid": n} if filepath else {})
        for n in range(3)
    ]
    return {"images": rows, "dataset": "coco"}


Case = tuple[Callable[[Path], dict[str, object]], Mapping[str, object] | str, Mapping[str, int]]
CASES: dict[str, Case] = {}


def case(expected: Mapping[str, object] | str, drops: Mapping[str, int] | None = None) -> Callable:
    """Add a case: captions by key, or what the refusal says; and everything that is counted."""

    def add(make: Callable[[Path], dict[str, object]]) -> Callable:
        CASES[make.__name__] = (make, expected, drops or {})
        return make

    return add


def metadata_case(name: str, content: str | bytes, expected: Mapping[str, object] | str, **drops: int) -> None:
    def make(tmp: Path) -> dict[str, object]:
        write(pictures(tmp / "d") / name, content)
        return {"images": tmp / "d"}

    make.__name__ = f"imagefolder_{name}_{len(CASES)}"
    case(expected, {reason.replace("_", " "): count for reason, count in drops.items()})(make)


CSV = "file_name,en,de\n" + "".join(f"{n}.png,{EN[n]},{DE[n]}\n" for n in range(3))
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


# Tars.


@case(THREE)
def tar_of_samples(tmp: Path) -> dict[str, object]:
    return {"images": tar(tmp / "s.tar", [it for n in range(3) for it in beside(n)])}


for mode in ("w:gz", "w:xz", "w:bz2"):

    @case(THREE)
    def tar_packed(tmp: Path, mode: str = mode) -> dict[str, object]:
        return {"table": tar(tmp / f"s.tar.{mode[2:]}", [it for n in range(3) for it in beside(n)], mode)}

    CASES[f"tar_packed_{mode[2:]}"] = CASES.pop("tar_packed")


@case(THREE)
def tar_members_out_of_order(tmp: Path) -> dict[str, object]:
    members = sorted((it for n in range(3) for it in beside(n)), key=lambda it: it[0][::-1])
    return {"images": tar(tmp / "s.tar", members)}


@case({"a/1.2.png": both(0), "a/1.3.png": both(1)})
def tar_keys_with_dots(tmp: Path) -> dict[str, object]:
    return {"images": tar(tmp / "s.tar", beside(0, "a/1.2") + beside(1, "a/1.3"))}


@case({"a.left.png": {"en": [EN[0]]}}, {"a text of several images": 1, "no text": 1})
def tar_text_of_two_images(tmp: Path) -> dict[str, object]:
    members = [("a.left.png", PICTURES[0]), ("a.right.png", PICTURES[1]), ("a.en.txt", EN[1]), ("a.left.en.txt", EN[0])]
    return {"images": tar(tmp / "s.tar", members)}


@case({"a.input.png": {"en": [EN[0]]}})
def tar_one_image_of_a_longer_name(tmp: Path) -> dict[str, object]:
    return {"images": tar(tmp / "s.tar", [("a.input.png", PICTURES[0]), ("a.en.txt", EN[0])])}


@case(ENGLISH)
def tar_plain_texts_are_asked_for(tmp: Path) -> dict[str, object]:
    members = [it for n in range(3) for it in ((f"{n}.png", PICTURES[n]), (f"{n}.txt", EN[n]))]
    return {"images": tar(tmp / "s.tar", members), "columns": ("txt=en",)}


@case("no column named after a language, .*'txt' .*set columns to 'txt=en'")
def tar_plain_texts(tmp: Path) -> dict[str, object]:
    members = [it for n in range(3) for it in ((f"{n}.png", PICTURES[n]), (f"{n}.txt", EN[n]))]
    return {"images": tar(tmp / "s.tar", members)}


@case({f"{n}.png": {"en": [EN[n], f"{EN[n]} again"], "de": [DE[n]]} for n in range(3)})
def tar_several_texts(tmp: Path) -> dict[str, object]:
    members = [it for n in range(3) for it in beside(n)]
    members = [(name, f"{text}\r\n\n{text} again\n" if name.endswith("en.txt") else text) for name, text in members]
    return {"images": tar(tmp / "s.tar", members)}


@case({f"k{n}": both(n) for n in range(3)})
def tar_json_members(tmp: Path) -> dict[str, object]:
    members = [
        it
        for n in range(3)
        for it in (
            (f"{n}.json", json.dumps({"key": f"k{n}", "url": f"http://a/{n}", "width": 4, "en": EN[n], "de": DE[n]})),
            (f"{n}.png", PICTURES[n]),
        )
    ]
    return {"images": tar(tmp / "s.tar", members)}


@case({f"{n}.png": both(n) for n in (0, 2)}, {"broken JSON": 1, "no text": 1})
def tar_broken_json(tmp: Path) -> dict[str, object]:
    members = [
        it
        for n in range(3)
        for it in ((f"{n}.png", PICTURES[n]), (f"{n}.json", json.dumps({"texts": both(n)})[: 9 if n == 1 else None]))
    ]
    return {"images": tar(tmp / "s.tar", members)}


@case({"0.png": both(0)}, {"neither an image nor <name>.<language>.txt": 2})
def tar_in_a_tar(tmp: Path) -> dict[str, object]:
    inner = tar(tmp / "inner.tar", beside(1)).read_bytes()
    return {"images": tar(tmp / "s/s.tar", [*beside(0), ("inner.tar", inner), ("0.npy", b"\x93NUMPY")])}


@case({"0.png": both(0)}, {"a file that is twice in its archive, the same": 3})
def tar_members_twice(tmp: Path) -> dict[str, object]:
    return {"images": tar(tmp / "s.tar", beside(0) + beside(0))}


@case({"1.png": both(1), "0.png": {"de": [DE[0]]}}, {"a file that is twice in its archive, with different contents": 2})
def tar_members_that_differ(tmp: Path) -> dict[str, object]:
    return {"images": tar(tmp / "s.tar", [*beside(0), ("0.en.txt", "a cow"), *beside(1)])}


@case({f"{n}.tar/0.png": both(n) for n in range(3)})
def tars_with_the_same_keys(tmp: Path) -> dict[str, object]:
    for n in range(3):
        tar(tmp / f"d/{n}.tar", beside(n, "0"))
    return {"images": tmp / "d"}


@case("holds both s.tar and 0.png; give the tar by its name")
def tar_beside_images(tmp: Path) -> dict[str, object]:
    tar(tmp / "d/s.tar", beside(1))
    return {"images": pictures(tmp / "d")}


@case({"0.png": both(0)}, {"shard: damaged or cut short, read up to there": 1, "no text": 1})
def tar_cut_short(tmp: Path) -> dict[str, object]:
    whole = tar(tmp / "s.tar", beside(0) + beside(1))
    whole.write_bytes(whole.read_bytes()[: 6 * 512 + 700])
    return {"images": whole}


@case("holds the table d/metadata.csv; unpack it")
def tar_with_metadata(tmp: Path) -> dict[str, object]:
    return {"images": tar(tmp / "s.tar.gz", [("d/0.png", PICTURES[0]), ("d/metadata.csv", CSV)], "w:gz")}


@case({"../0.png": both(0)})
def tar_names_are_no_paths(tmp: Path) -> dict[str, object]:
    return {"images": tar(tmp / "s.tar", beside(0, "../0"))}


@case("images has no effect")
def tar_with_a_folder_of_images(tmp: Path) -> dict[str, object]:
    return {"table": tar(tmp / "s.tar", beside(0)), "images": pictures(tmp / "i")}


def zipped(path: Path, members: list[tuple[str, str | bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


@case({f"d/{n}.png": both(n) for n in range(3)})
def zip_of_a_folder(tmp: Path) -> dict[str, object]:
    members = [it for n in range(3) for it in beside(n, f"d/{n}")]
    return {"images": zipped(tmp / "d.zip", [("d/", ""), *members, ("__MACOSX/d/._0.png", "x")])}


@case("holds the table d/metadata.jsonl; unpack it and give the folder")
def zip_with_metadata(tmp: Path) -> dict[str, object]:
    return {"table": zipped(tmp / "d.zip", [("d/0.png", PICTURES[0]), ("d/metadata.jsonl", "{}")])}


@case("not a zip, or damaged")
def zip_that_is_none(tmp: Path) -> dict[str, object]:
    return {"images": write(tmp / "d.zip", b"PK\x03\x04 nothing")}


@case("give the zip itself, or unpack it")
def zip_in_a_folder(tmp: Path) -> dict[str, object]:
    (tmp / "d").mkdir()
    zipped(tmp / "d/d.zip", [("0.png", PICTURES[0])])
    return {"images": tmp / "d"}


# Published layouts.


@case(ENGLISH)
def coco_captions(tmp: Path) -> dict[str, object]:
    table = write(tmp / "captions_val2014.json", json.dumps(coco()))
    return {"table": table, "images": pictures(tmp / "i"), "columns": ("caption=en",)}


@case("no column named after a language, .*set columns to 'caption=en'")
def coco_without_a_language(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "c.json", json.dumps(coco())), "images": pictures(tmp / "i")}


@case(THREE, {"a caption of no image in the file": 1, "an image without a caption": 1})
def coco_with_languages(tmp: Path) -> dict[str, object]:
    annotations = [{"image_id": 10 + n, "language": code, "caption": text} for code, several in (("en", EN), ("de", DE))
                   for n, text in enumerate(several)]  # fmt: skip
    content = coco(annotations=[*annotations, {"image_id": "10", "caption": "x", "language": "en"}])
    content["images"] = [*content["images"], {"id": 99, "file_name": "9.png"}]  # type: ignore[misc]
    return {
        "table": write(tmp / "c.json.gz", gzip.compress(json.dumps(content).encode())),
        "images": pictures(tmp / "i"),
    }


@case("its annotations have no `caption` .*but: 'bbox'")
def coco_instances(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "i.json", json.dumps(coco(annotations=[{"bbox": [1, 2, 3, 4]}])))}


@case("1 ids stand for several images")
def coco_ids_twice(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "i.json", json.dumps(coco(images=[{"id": 1, "file_name": n} for n in "ab"])))}


@case({f"val2014/{n}.png": {"en": [EN[n]]} for n in range(3)})
def karpathy_coco(tmp: Path) -> dict[str, object]:
    pictures(tmp / "i/val2014")
    table = write(tmp / "dataset_coco.json", json.dumps(karpathy(filepath=True)))
    return {"table": table, "images": tmp / "i", "columns": ("caption=en",)}


@case(ENGLISH)
def karpathy_flickr30k(tmp: Path) -> dict[str, object]:
    table = write(tmp / "dataset_flickr30k.json", json.dumps(karpathy()))
    return {"table": table, "images": pictures(tmp / "i"), "columns": ("caption=en",)}


@case("not a single row|no column 'image'")
def karpathy_without_raw(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "d.json", json.dumps(karpathy(raw="text"))), "images": pictures(tmp / "i")}


@case({"0.png": {"en": [EN[0]]}, "1.png": {"en": EN[1:]}})
def json_of_captions_by_image(tmp: Path) -> dict[str, object]:
    table = write(tmp / "d.json", json.dumps({"0.png": EN[0], "1.png": EN[1:]}))
    return {"table": table, "images": pictures(tmp / "i"), "columns": ("caption=en",)}


@case(THREE)
def json_of_languages_by_image(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "d.json", json.dumps(THREE)), "images": pictures(tmp / "i")}


@case("not a single row can be used .no text: 3")
def lists_of_records_with_languages(tmp: Path) -> dict[str, object]:
    texts = [[{"lang": "en", "text": EN[n]}, {"lang": "de", "text": DE[n]}] for n in range(3)]
    pq.write_table(hugging_face(captions=texts), tmp / "t.parquet")
    return {"table": tmp / "t.parquet", "columns": ("captions=en",)}


@case(
    {"0.png": {"en": [EN[0]]}, "2.png": {"en": ["none of them is red"]}},
    {"text: empty, written as nan, null or none": 1, "no text": 1},
)
def missing_texts_as_words(tmp: Path) -> dict[str, object]:
    text = f"image,en,de\n0.png,{EN[0]},nan\n1.png,NaN,[]\n2.png,none of them is red,\n"
    return {"table": write(tmp / "t.csv", text), "images": pictures(tmp / "i")}


@case("give it as the table")
def table_that_was_not_named(tmp: Path) -> dict[str, object]:
    write(pictures(tmp / "d") / "captions.csv", CSV)
    return {"images": tmp / "d"}


@case("the object's keys are: 'a'")
def json_of_another_layout(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "d.json", '{"a": 1}')}


@case({str(n): both(n) for n in range(3)})
def xm3600(tmp: Path) -> dict[str, object]:
    rows = [
        {"image/key": str(n), "image/locale": "en", "en": {"caption": [EN[n]], "caption/tokenized": ["x"]},
         "de": {"caption": [DE[n]]}, "quz": {"caption": []}}
        for n in range(3)
    ]  # fmt: skip
    return {
        "table": write(tmp / "captions.jsonl", lines(*rows)),
        "images": pictures(tmp / "i", *(f"{n}.jpg" for n in "012")),
    }


@case({"0.png": {"en": [EN[0], EN[1]]}, "1.png": {"en": ['a "quoted" one']}}, {"not <image>#<number><TAB><caption>": 2})
def flickr30k_token(tmp: Path) -> dict[str, object]:
    text = f'0.png#0\t{EN[0]}\n0.png#1\t{EN[1]}\r\n\n1.png#0\ta "quoted" one\n2.png\tno number\nx#1\n'
    return {"table": write(tmp / "results.token", text), "images": pictures(tmp / "i"), "columns": ("caption=en",)}


@case({"0.png": {"en": [EN[0], EN[1]]}, "1.png": {"en": [EN[2]]}}, {"wrong number of cells": 1})
def flickr30k_bars(tmp: Path) -> dict[str, object]:
    text = (
        f"image_name| comment_number| comment\n0.png| 0| {EN[0]}\n0.png| 1| {EN[1]}\n1.png| 0| {EN[2]}\n"
        "1.png| 4   A dog runs\n"
    )
    return {"table": write(tmp / "r.csv", text), "images": pictures(tmp / "i"), "columns": ("comment=en",)}


@case(ENGLISH)
def flickr8k(tmp: Path) -> dict[str, object]:
    text = "image,caption\n" + "".join(f"{n}.png,{EN[n]}\n" for n in range(3))
    return {"table": write(tmp / "c.csv", text), "images": pictures(tmp / "i"), "columns": ("caption=en",)}


@case("lines of text without names of columns; make one table .*paste")
def multi30k_lines(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "train.en", "\n".join(EN)), "images": pictures(tmp / "i")}


@case("bitext has no images; name it under")
def tmx_as_a_table(tmp: Path) -> dict[str, object]:
    return {"table": write(tmp / "a.tmx", "<tmx/>")}


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
    make, expected, drops = CASES[name]
    options = make(tmp_path)
    options = {"table": None, "images": None, "test_fraction": 0.0, **options}
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected) as refusal:
            run(tmp_path, **options)  # type: ignore[arg-type]
        assert type(refusal.value) is ValueError
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "out").exists()
        return
    result = run(tmp_path, **options)  # type: ignore[arg-type]
    assert captions_of(tmp_path) == expected
    found = {**result.dropped_rows, **result.dropped_texts, **result.damaged_shards}
    assert found == drops


def test_there_are_enough_forms() -> None:
    assert len(CASES) >= 60
