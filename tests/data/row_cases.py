"""Files of images and texts as people have them, and cases of what their import keeps, counts or refuses."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from importing import captions_of, png, run

PICTURES = [png(n) for n in range(6)]
EN = ["a dog runs on grass", "a cat sleeps here", "two birds sing"]
DE = ["ein Hund rennt im Gras", "eine Katze schläft hier", "zwei Vögel singen"]


def both(number: int) -> dict[str, list[str]]:
    return {"en": [EN[number]], "de": [DE[number]]}


THREE = {f"{n}.png": both(n) for n in range(3)}
ENGLISH = {f"{n}.png": {"en": [EN[n]]} for n in range(3)}
CSV = "file_name,en,de\n" + "".join(f"{n}.png,{EN[n]},{DE[n]}\n" for n in range(3))


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

Case = tuple[Callable[[Path], dict[str, object]], Mapping[str, object] | str, Mapping[str, int]]
"""Files, and options for the import; captions by key, or what the refusal says; everything that is counted."""


class Cases(dict[str, Case]):
    """Cases by name."""

    def add(self, expected: Mapping[str, object] | str, drops: Mapping[str, int] | None = None) -> Callable:
        """Add the case that the decorated function writes."""

        def register(make: Callable[[Path], dict[str, object]]) -> Callable:
            self[make.__name__] = (make, expected, drops or {})
            return make

        return register

    def check(self, name: str, tmp_path: Path) -> None:
        """Import the files of a case."""
        make, expected, drops = self[name]
        options = {"table": None, "images": None, "test_fraction": 0.0, **make(tmp_path)}
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
