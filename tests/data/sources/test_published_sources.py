"""The paper's data as it is published becomes a data set: every image and text is there, or counted."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from polyglance.data.importer import ImportConfig, ImportResult, import_data
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_records
from polyglance.records import Annotation, ImageRecord

EN = "A brown dog in the park of NASA. It runs. It jumps."
DE = "Ein brauner Hund im Park der NASA. Er rennt. Er springt."


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), (number * 40 % 256, number % 256, 7)).save(file, "JPEG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    pairs = pa.list_(pa.list_(pa.string()))
    names = ("caption_en_de", *(f"translation_en_{code}" for code in ("de", "fr", "es", "zh", "ru")))
    columns = {name: pa.array([row.get(name) for row in rows], pairs) for name in names}
    pq.write_table(pa.table({"key": pa.array([row["key"] for row in rows], pa.int64()), **columns}), path)


@pytest.fixture
def cc12m(tmp_path: Path) -> Path:
    """Two shards: one whole, whose second image has no annotations; one cut short; one without its table."""
    (tmp_path / "tars").mkdir()
    (tmp_path / "tables").mkdir()
    first = [["the first long sentence of the two", "Satz eins"], ["the second long sentence of the two", "Satz zwei"]]
    rows = [
        {"key": 11, "caption_en_de": [[EN, DE]], "translation_en_fr": first, "translation_en_zh": [["short", "短"]]},
        {"key": 13, "caption_en_de": [["An English text of some length here", "Ein Text"]]},
    ]
    write_table(tmp_path / "tables" / "0000.parquet", rows)
    members = {
        f"0000000{n}.{suffix}": data for n in (11, 12, 13) for suffix, data in (("jpg", picture(n)), ("txt", b"x"))
    }
    write_tar(
        tmp_path / "tars" / "0000.tar",
        {f"{'../' if '11' in name else ''}{name}": data for name, data in members.items()},
    )
    write_table(tmp_path / "tables" / "0001.parquet", [{"key": n, "caption_en_de": [[EN, DE]]} for n in (21, 22)])
    write_tar(tmp_path / "tars" / "0001.tar", {"000000021.jpg": picture(21), "000000022.jpg": picture(22)})
    whole = (tmp_path / "tars" / "0001.tar").read_bytes()
    (tmp_path / "tars" / "0001.tar").write_bytes(whole[: 512 + 1024 + 512 + 100])
    write_tar(tmp_path / "tars" / "0002.tar", {"000000031.jpg": picture(31)})
    return tmp_path


def imported(out: Path, **settings: Any) -> tuple[ImportResult, dict[str, ImageRecord]]:
    result = import_data(ImportConfig(out=out, test_fraction=0.0, **settings))
    return result, {record.key: record for record in read_records(out / "train")}


def test_cc12m_is_joined_by_key_with_the_published_rules(cc12m: Path) -> None:
    paths = {"format": "cc12m-ccmatrix", "images": cc12m / "tars", "table": cc12m / "tables"}
    result, records = imported(cc12m / "out", **paths)
    assert set(records) == {"000000011", "000000013", "000000021"}
    assert records["000000011"].image == picture(11)

    made = records["000000011"].annotations
    captions = {(a.language, a.style): a.text for a in made if a.task == "caption"}
    assert captions == {
        ("en", "short"): "A brown dog in the park of NASA.",  # capitals are kept
        ("en", "paragraph"): EN,
        ("de", "short"): "Ein brauner Hund im Park der NASA.",
        ("de", "paragraph"): DE,
    }
    translations = [a for a in made if a.task == "translation"]
    assert {(a.language, a.source, a.text) for a in translations} >= {
        ("de", EN, DE),
        ("fr", "the first long sentence of the two", "Satz eins"),
    }
    shuffled = [a for a in translations if a.language == "fr" and "Satz eins" in a.text and "Satz zwei" in a.text]
    assert [a.text.split(" Satz ")[0][:4] for a in shuffled] == ["Satz"]
    assert not [a for a in made if a.language == "zh"]  # its English side is too short
    assert all(a.score is None for a in made)

    assert result.dropped_rows == {"no annotation of this key": 2}
    assert result.damaged_shards == {
        "shard: damaged or cut short, read up to there": 1,
        "shard: no annotations to read": 1,
    }
    assert result.num_rows == 3 + 2
    assert read_manifest(cc12m / "out" / "train").drops["no annotation of this key"]["count"] == 2
    again, others = imported(cc12m / "again", **paths)
    assert (again, others) == (result, records)


def test_held_out_tables_have_captions_of_their_own_and_single_pairs(tmp_path: Path) -> None:
    """What UC is measured on: captions in languages that training has none in (paper section 5.1)."""
    (tmp_path / "tars").mkdir()
    (tmp_path / "tables").mkdir()
    write_tar(tmp_path / "tars" / "2175.tar", {"000000007.jpg": picture(7)})
    text, pair = pa.string(), pa.list_(pa.string())
    source = "An English sentence that is long enough"
    columns = {
        "key": pa.array([7], pa.int64()),
        "caption_es": pa.array(["Un perro. Corre."], text),
        "caption_es_style": pa.array(["more_detailed"], text),
        "caption_zh": pa.array(["一只狗"], text),
        "caption_zh_style": pa.array(["short"], text),
        "caption_de": pa.array([None], text),
        "translation_en_es": pa.array([[source, "Una frase"]], pair),
    }
    pq.write_table(pa.table(columns), tmp_path / "tables" / "2175.parquet")
    paths = {"format": "cc12m-ccmatrix", "images": tmp_path / "tars", "table": tmp_path / "tables"}
    _, records = imported(tmp_path / "out", **paths)
    assert {(a.task, a.language, a.style, a.source, a.text) for a in records["000000007"].annotations} == {
        ("caption", "es", "paragraph", None, "Un perro. Corre."),
        ("caption", "zh", "short", None, "一只狗"),
        ("translation", "es", "short", source, "Una frase"),
    }


def test_shards_come_from_an_object_store_too(cc12m: Path) -> None:
    filesystem = fsspec.filesystem("memory")
    for part in ("tars", "tables"):
        filesystem.put(str(cc12m / part), f"/cc12m/{part}", recursive=True)
    here = imported(cc12m / "here", format="cc12m-ccmatrix", images=cc12m / "tars", table=cc12m / "tables")
    images, table = Path("memory://cc12m/tars"), Path("memory://cc12m/tables")
    assert imported(cc12m / "there", format="cc12m-ccmatrix", images=images, table=table) == here
    filesystem.rm("/cc12m", recursive=True)


def test_baked_shards_of_both_phases(tmp_path: Path) -> None:
    entries = [
        {"type": "caption", "lang": "de", "prompt": "<LANG_DE><DETAILED_CAPTION>", "output": "Ein Hund. Er rennt."},
        {"type": "translation", "lang": "fr", "prompt": "<LANG_FR><TRANSLATE>a dog", "output": "un chien"},
        {
            "type": "translation",
            "lang": "ru",
            "prompt": "The target language is Russian. Translate the following text: a dog",
            "output": "собака",
            "prompt_ids": [1, 2],
        },
        {
            "type": "caption",
            "lang": "en",
            "prompt": "The target language is English. What does the image describe?",
            "output": "a dog",
        },
    ]
    wrong = [{"type": "caption", "lang": "xx", "prompt": "<CAPTION>", "output": "?"}, "text", {"type": "caption"}]
    members = {
        "000000.jpg": picture(1),
        "000000.data": json.dumps(entries + wrong).encode(),
        "000001.jpg": picture(2),
        "000001.data": b"[",
        "000002.data": b"[]",
    }
    write_tar(tmp_path / "a.tar", members)
    result, records = imported(tmp_path / "out", format="baked", images=tmp_path)

    def annotation(task: Any, code: str, text: str, **more: Any) -> Annotation:
        return Annotation(task=task, language=code, text=text, origin="published code", **more)

    assert records["000000"].annotations == (
        annotation("caption", "de", "Ein Hund. Er rennt.", style="detailed"),
        annotation("translation", "fr", "un chien", source="a dog"),
        annotation("translation", "ru", "собака", source="a dog"),
        annotation("caption", "en", "a dog"),
    )
    assert result.dropped_texts == {
        "text: not a JSON list of annotations": 1,
        "text: not an annotation of a known form": 3,
    }
    assert result.dropped_rows == {"image: a sample without one": 1, "no text": 1}


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs images"):
        ImportConfig(out=tmp_path, format="baked", table=tmp_path)
    with pytest.raises(ValueError, match="needs table"):
        ImportConfig(out=tmp_path, format="cc12m-ccmatrix", images=tmp_path)
    with pytest.raises(ValueError, match=r"no \.tar file in it"):
        import_data(ImportConfig(out=tmp_path / "out", format="baked", images=tmp_path))
    with pytest.raises(ValueError, match="cannot be read as a folder"):
        import_data(ImportConfig(out=tmp_path / "out", format="baked", images=tmp_path / "absent"))
