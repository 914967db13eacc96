"""Imports of small tables, for the tests of the importer."""

import json
from io import BytesIO
from pathlib import Path

from PIL import Image

from polyglance.data.importer import ImportConfig, ImportResult, import_data
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_records
from polyglance.records import ImageRecord


def png(value: int, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> bytes:
    file = BytesIO()
    Image.new(mode, size, (value % 256, value // 256, 7, 0)[: len(mode)]).save(file, "PNG")
    return file.getvalue()


def json_lines(path: Path, rows: list) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def run(tmp_path: Path, table: Path | None, images: Path, **options) -> ImportResult:
    result = import_data(ImportConfig(out=tmp_path / "out", table=table, images=images, **options))
    assert result.num_rows == result.num_train + result.num_test + result.num_joined + sum(result.dropped_rows.values())
    manifests = [read_manifest(tmp_path / "out" / split) for split in ("train", "test")]
    assert [manifest.num_images for manifest in manifests] == [result.num_train, result.num_test]
    drops = {reason: drop["count"] for reason, drop in manifests[0].drops.items()}
    assert drops == {**result.dropped_rows, **result.dropped_texts, **result.damaged_shards}
    assert manifests[0].drops == manifests[1].drops
    return result


def stored(tmp_path: Path) -> dict[str, ImageRecord]:
    return {record.key: record for split in ("train", "test") for record in read_records(tmp_path / "out" / split)}


def places(tmp_path: Path) -> dict[str, list[str]]:
    return {reason: drop["examples"] for reason, drop in read_manifest(tmp_path / "out" / "train").drops.items()}


def captions_of(tmp_path: Path) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for key, record in stored(tmp_path).items():
        for annotation in record.annotations:
            if annotation.task == "caption":
                found.setdefault(key, {}).setdefault(annotation.language, []).append(annotation.text)
    return found
