"""Tars, zips and published layouts: each is read as it is, or refused in one line that says what is right."""

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from row_cases import (
    CSV,
    DE,
    EN,
    ENGLISH,
    PICTURES,
    THREE,
    Cases,
    beside,
    both,
    coco,
    hugging_face,
    karpathy,
    lines,
    pictures,
    tar,
    write,
)

CASES = Cases()
case = CASES.add


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


@case("1 ids are used by several images")
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


@pytest.mark.parametrize("name", CASES)
def test_a_form_is_read_as_it_is_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    CASES.check(name, tmp_path)


def test_there_are_enough_forms() -> None:
    assert len(CASES) >= 40
