"""Image data sets in every published form give the same images, and lost ones are counted."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from polyglance.data.sources.images import ImagesSource, SourceImage
from polyglance.records import Drops


def picture(value: int, size: tuple[int, int] = (5, 4), form: str = "PNG") -> bytes:
    file = BytesIO()
    Image.new("RGB", size, (value % 256, value // 256, 7)).save(file, form)
    return file.getvalue()


GOOD = [picture(value) for value in range(3)]
TEXTS = [("a red thing", "ein Ding"), ("zwei",), ()]
BOMB = picture(0, (9000, 9000))
BAD = {"image: empty": b"", "image: not an image": b"<html>404</html>", "image: truncated": picture(9, (64, 64))[:-40],
       "image: too many pixels": BOMB}  # fmt: skip


def read_pieces(source: ImagesSource, drops: Drops, num_records: int = 1000) -> list[SourceImage]:
    return [image for piece in source.find_pieces(num_records, drops) for image in source.read_piece(piece, drops)]


def read(path: Path, **options) -> tuple[list[SourceImage], dict[str, int]]:
    drops = Drops()
    return read_pieces(ImagesSource(path=path, texts="captions", **options), drops), dict(drops)


def check(path: Path, expected_drops: dict[str, int] | None = None, **options) -> None:
    found, drops = read(path, **options)
    assert [image.image for image in found] == GOOD
    assert [image.key for image in found] == [hashlib.sha256(data).hexdigest()[:16] for data in GOOD]
    assert [tuple(text.text for text in image.texts) for image in found] == TEXTS
    assert [image.rgb.size for image in found] == [(5, 4)] * 3
    assert len({image.where for image in found}) == 3
    assert drops == (expected_drops or {})


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def shard_members(prefix: str = "") -> list[tuple[str, bytes]]:
    return [
        (f"{prefix}000.json", json.dumps({"caption": TEXTS[0][1], "width": 5}).encode()),
        (f"{prefix}000.txt", TEXTS[0][0].encode()),
        (f"{prefix}000.png", GOOD[0]),
        (f"{prefix}001.PNG", GOOD[1]),
        (f"{prefix}001.caption", TEXTS[1][0].encode()),
        (f"{prefix}002.png", GOOD[2]),
    ]


def rows(values: list[bytes | None]) -> list[dict]:
    return [
        {"image": {"bytes": data, "path": "../../x.png"}, "caption": list(TEXTS[index]) if index < 3 else []}
        for index, data in enumerate(values)
    ]


def write_arrow(folder: Path, values: list[bytes | None]) -> None:
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows(values))
    names = []
    for index, part in enumerate((table.slice(0, 2), table.slice(2))):
        names.append(f"data-{index:05d}-of-00002.arrow")
        with pa.OSFile(str(folder / names[-1]), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def test_folder_with_texts_beside(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name, data in (("a/b/0.png", GOOD[0]), ("a/b/1.png", GOOD[1]), ("c.png", GOOD[2])):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "a/b/0.txt").write_text("a red thing\n\nein Ding\n")
    (tmp_path / "a/b/1.json").write_text('{"caption": "zwei"}')
    check(tmp_path)
    for index, data in enumerate(BAD.values()):
        (tmp_path / f"z{index}.jpg").write_bytes(data)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "c.txt").write_bytes(b"\xe9\xe8")
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    drops = dict.fromkeys(BAD, 1) | {
        "file: neither an image nor the text of one": 1,
        "text: not UTF-8": 1,
        "image: a path that leads out of the folder": 1,
    }
    check(tmp_path, drops)


def test_webdataset_shards_in_order_and_member_names_never_are_paths(tmp_path: Path) -> None:
    members = shard_members("/tmp/../")
    write_tar(tmp_path / "b.tar", members[3:])
    write_tar(tmp_path / "a.tar", members[:3])
    check(tmp_path)
    broken = [(f"bad{index}.jpg", data) for index, data in enumerate(BAD.values())]
    write_tar(tmp_path / "c.tar", [*broken, ("only.txt", b"words"), ("bad.json", b"[")])
    drops = dict.fromkeys(BAD, 1) | {"image: a sample without one": 2, "text: not a JSON object": 1}
    check(tmp_path, drops)


def test_the_language_in_the_name_of_a_text_is_read_in_tars_as_in_folders(tmp_path: Path) -> None:
    members = {
        "a.jpg": picture(1),
        "a.de.txt": b"ein Hund\n\nein Tier\n",
        "a.zh-CN.caption": "\u4e00\u53ea\u72d7".encode(),
        "a.fr": b"un chien",
        "a.txt": b"a dog",
        "a.cls": b"7",
        "b.x.jpg": picture(2),
        "b.x.de.txt": b"eine Katze",
        "b.y.jpg": picture(3),
        "b.y.de.txt": b"ein Pferd",
        "c.jpg": picture(4),
        "c.de.txt": b"\xe9\xe8",
        "c.zh-TW.txt": "\u96bb".encode(),
        "d.jpg": picture(5),
        "d.txt": "a \ufb01sh".encode("utf-16"),
    }
    write_tar(tmp_path / "0.tar", [*members.items()])
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in members.items():
        (folder / name).write_bytes(data)
    found: dict[str, dict[str, set[tuple[str, str]]]] = {}
    of_another_script = {
        "0.tar": "text: its name says no known language",
        "folder": "file: neither an image nor the text of one",
    }
    for path in (tmp_path / "0.tar", folder):
        images, drops = read(path)
        found[path.name] = {image.key: {(text.language, text.text) for text in image.texts} for image in images}
        assert drops.pop("text: not UTF-8") == 1
        (unknown,) = drops
        assert (unknown, drops[unknown]) == (of_another_script[path.name], 1 if path.is_file() else 2)  # and a.cls
    assert found["0.tar"] == found["folder"]
    dog = {("en", "a dog"), ("de", "ein Hund"), ("de", "ein Tier"), ("zh", "\u4e00\u53ea\u72d7"), ("fr", "un chien")}
    assert [*found["0.tar"].values()] == [
        dog,
        {("de", "eine Katze")},
        {("de", "ein Pferd")},
        set(),
        {("en", "a \ufb01sh")},
    ]


@pytest.mark.parametrize("damage", ["cut inside", "cut between", "header", "not a tar", "empty"])
def test_damaged_tars_are_read_up_to_there_and_counted(damage: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [*shard_members(), ("zzz.png", picture(77))])
    content = path.read_bytes()
    start = content.index(b"zzz.png")
    damaged = {
        "cut inside": content[: start + 530],
        "cut between": content[:start],
        "header": content[:start] + b"y" * 512 + content[start + 512 :],
        "not a tar": b"nonsense" * 1000,
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    found, drops = read(path)
    assert [image.image for image in found] == (GOOD if start and damage in list(damaged)[:3] else [])
    assert drops == {"shard: damaged or cut short, read up to there": 1}


def test_hugging_face_saved_to_disk_and_parquet(tmp_path: Path) -> None:
    write_arrow(tmp_path / "saved", GOOD)
    check(tmp_path / "saved")
    write_arrow(tmp_path / "splits" / "train", [*GOOD, None, *BAD.values()])
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    drops = dict.fromkeys(BAD, 1) | {"image: no bytes in the table (a path or address only)": 1}
    check(tmp_path / "splits", drops)
    pq.write_table(pa.Table.from_pylist(rows([*GOOD, *BAD.values(), None])), tmp_path / "train-00000.parquet")
    check(tmp_path / "train-00000.parquet", drops)
    check(tmp_path / "train-00000.parquet", drops, image_column="image")
    with pytest.raises(ValueError, match="no column 'picture' of images; the columns are: 'image', 'caption'"):
        read(tmp_path / "train-00000.parquet", image_column="picture")
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(ValueError, match=r"missing: data-00001-of-00002\.arrow"):
        read(tmp_path / "saved")


def test_a_cut_arrow_file_is_counted(tmp_path: Path) -> None:
    write_arrow(tmp_path / "saved", GOOD)
    path = tmp_path / "saved" / "data-00001-of-00002.arrow"
    path.write_bytes(path.read_bytes()[:-200])
    found, drops = read(tmp_path / "saved")
    assert [image.image for image in found] == GOOD[:2]
    assert drops == {"shard: damaged or cut short, read up to there": 1}


STATUSES = ["success", "failed_to_download", "success", "success", "failed_to_resize", "failed_to_download"]


def write_img2dataset(folder: Path, form: str) -> None:
    folder.mkdir()
    captions = [TEXTS[0], (), TEXTS[1], (), (), ()]
    table = {"url": ["http://x"] * 6, "caption": [list(texts) for texts in captions], "status": STATUSES}
    if form == "parquet":
        table["jpg"] = [GOOD[0], None, GOOD[1], GOOD[2], None, None]
    pq.write_table(pa.table(table), folder / "00000.parquet")
    stats = {"count": 6, "successes": 3, "failed_to_download": 2, "failed_to_resize": 1}
    (folder / "00000_stats.json").write_text(json.dumps(stats))
    members = [(name.lower().replace(".caption", ".txt"), data) for name, data in shard_members("00000000")]
    if form == "webdataset":
        write_tar(folder / "00000.tar", members)
    elif form == "files":
        (folder / "00000").mkdir()
        for name, data in members:
            (folder / "00000" / name).write_bytes(data)


@pytest.mark.parametrize("form", ["webdataset", "files", "parquet"])
def test_img2dataset_counts_what_was_not_downloaded_by_its_status(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_img2dataset(folder, form)
    failures = {"image: failed_to_download": 2, "image: failed_to_resize": 1}
    check(folder, failures)
    write_tar(folder / "00001.tar", shard_members())  # a shard that was being written when the work was stopped
    check(folder, failures | {"shard: without its _stats.json, so not finished": 1})


def test_img2dataset_with_images_missing_or_without_table(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_img2dataset(folder, "webdataset")
    failures = {"image: failed_to_download": 2, "image: failed_to_resize": 1}
    (folder / "00000.parquet").unlink()
    check(folder, failures)
    (folder / "00000.tar").unlink()
    assert read(folder) == ([], failures | {"image: downloaded, but not in its shard": 3})


def test_other_image_files_become_plain_ones_but_keep_the_key_of_their_bytes(tmp_path: Path) -> None:
    webp = picture(3, (40, 20), "WEBP")
    (tmp_path / "a.webp").write_bytes(webp)
    ((image,), drops) = read(tmp_path, max_side=10)
    assert image.key == hashlib.sha256(webp).hexdigest()[:16]
    assert Image.open(BytesIO(image.image)).format == "PNG"
    assert image.rgb.size == (10, 5)
    assert drops == {}


@pytest.mark.parametrize("form", ["folder", "webdataset", "huggingface", "img2dataset"])
def test_nothing_of_the_form_there_is_one_line(form: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)) as refusal:
        read(tmp_path, format=form)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="no such file or folder"):
        read(tmp_path / "missing", format=form)


@given(st.data())
def test_a_shard_with_any_bytes_changed_never_makes_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write_tar(tmp_path_factory.mktemp("wild") / "a.tar", shard_members())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    found, _ = read(path)
    assert len(found) <= 6
    assert os.listdir(path.parent) == ["a.tar"]  # noqa: PTH208


def write_pictures(folder: Path, number: int) -> Path:
    (folder / "pictures" / "more").mkdir(parents=True)
    for n in range(number):
        (folder / "pictures" / ("more" if n % 2 else "") / f"{n}.png").write_bytes(picture(n))
        (folder / "pictures" / ("more" if n % 2 else "") / f"{n}.txt").write_text(f"text {n}")
    return folder / "pictures"


def write_groups(folder: Path, number: int) -> Path:
    values = rows([picture(n) for n in range(number)])
    pq.write_table(pa.Table.from_pylist(values), folder / "a.parquet", row_group_size=4)
    return folder / "a.parquet"


def write_batches(folder: Path, number: int) -> Path:
    write_arrow(folder / "saved", [])
    path = folder / "saved" / "data-00001-of-00002.arrow"
    table = pa.Table.from_pylist(rows([picture(n) for n in range(number)]))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    (folder / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": path.name}]}))
    return folder / "saved"


@pytest.mark.parametrize(("write", "num_pieces"), [(write_pictures, 5), (write_groups, 3), (write_batches, 3)])
def test_pieces_are_the_whole_in_order(write: Callable, num_pieces: int, tmp_path: Path) -> None:
    source = ImagesSource(path=write(tmp_path, 22), texts="captions")
    found, whole = read_pieces(source, Drops(), 5), read_pieces(source, Drops())
    assert [(i.image, i.where, i.texts) for i in found] == [(i.image, i.where, i.texts) for i in whole]
    assert len({image.key for image in found}) == 22
    assert len(source.find_pieces(5, Drops())) == num_pieces


def test_a_name_that_is_not_text_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(GOOD[0])
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(GOOD[1])
    found, drops = read(tmp_path)
    assert [image.where for image in found] == ["a.png"]
    assert drops == {"file: a name that is not UTF-8": 1}
