"""Mutated TMX, folders, tars, zips and tables: what is kept and what is left out make what was written, and each kept
text is the one that was written."""

import io
import json
import random
import tarfile
import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyglance.data.caption_tables import open_caption_table
from polyglance.data.import_rows import RowDrops, check_table_rows, count_images, join_rows
from polyglance.data.sources.bitext import BitextSource
from polyglance.records import Drops

NUM_TMX, NUM_ARCHIVES, NUM_TABLES = 250, 130, 160
"""Mutations of TMX; of a folder, tar, tar.gz and zip each; of a table in three forms each."""
ENGLISH = ["the dog runs", "5 < 6 & more", 'a "quoted" one', "it's  here", "rock 'n' roll", "an ]]> end", "x\u2028y z"]
FRENCH = ["le chien court", "5 < 6 & plus", "l'« été »", "c’est là", "rock et roll", "la fin ]]>", "déjà vu"]
TEXTS = [
    "a dog",
    'a 5" pipe',
    "l'été",
    "zwölf Boote",
    "red; blue",
    "it's, well",
    "\u72ac on \u8349",
    "100 % wool",
    "é e\u0301",
]
CHINESE = ["狗在跑", "两只猫", "一辆红色的车", "草地上的孩子"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


def one_line(text: str) -> str:
    """What a text is to become: NFC on one line."""
    return unicodedata.normalize("NFC", text.replace("\u2028", " ").strip())


def write_tmx(random_: random.Random, units: Sequence[str], encoding: str) -> bytes:
    end = random_.choice(["\n", "\r\n", ""])
    doctype = random_.choice(["", '<!DOCTYPE tmx SYSTEM "tmx14.dtd">', '<!DOCTYPE tmx [<!ENTITY e "x">]>'])
    declared = encoding.removesuffix("-sig")
    parts = [f'<?xml version="1.0" encoding="{declared}"?>', doctype, '<tmx version="1.4"><header/><body>', *units]
    return (end.join(parts) + "</body></tmx>").encode(encoding)


def write_unit(random_: random.Random, sides: Sequence[tuple[str, str]]) -> str:
    """A unit with its variants in any order, other languages among them, written in one of the ways XML has."""

    def segment(text: str) -> str:
        way = random_.choice(["escaped", "cdata", "numbers", "marks"])
        if way == "cdata" and "]]>" not in text:
            return f"<![CDATA[{text}]]>"
        if way == "numbers":
            return "".join(letter if letter.isalnum() or letter == " " else f"&#{ord(letter)};" for letter in text)
        return (
            f'<bpt i="1">&lt;b&gt;</bpt>{escape(text)}<ept i="1">&lt;/b&gt;</ept>' if way == "marks" else escape(text)
        )

    name = random_.choice(["xml:lang", "lang"])
    variants = [f'<tuv {name}="{code}"><seg>{segment(text)}</seg></tuv>' for code, text in sides]
    random_.shuffle(variants)
    return f'<tu tuid="{random_.randint(0, 9)}"><prop type="x">p</prop>{"".join(variants)}</tu>'


def test_mutated_tmx_lose_and_change_nothing(tmp_path: Path) -> None:
    for seed in range(NUM_TMX):
        random_ = random.Random(seed)
        pairs = [
            (f"{random_.choice(ENGLISH)} {n}", f"{random_.choice(FRENCH)} {n}") for n in range(random_.randint(1, 9))
        ]
        english, french = random_.choice(["en", "EN-US", "en-gb"]), random_.choice(["fr", "FR-CA", "fr-fr"])
        units = [write_unit(random_, [(english, one), (french, other)]) for one, other in pairs]
        if random_.random() < 0.5:
            units = [unit.replace("</tu>", '<tuv xml:lang="de"><seg>ein Hund</seg></tuv></tu>') for unit in units]
        bad = [
            write_unit(random_, [(english, "alone")]),
            write_unit(random_, [(english, "same"), (french, "same")]),
            write_unit(random_, [(english, "a dog"), (french, " ")]),
            write_unit(random_, [(english, "the dog runs"), (french, "собака бежит по траве")]),
            write_unit(random_, [(english, "do\ufffdg"), (french, "chien")]),
        ]
        added = random_.sample(bad, random_.randint(0, 3))
        for unit in added:
            units.insert(random_.randint(0, len(units)), unit)
        path = tmp_path / "a.tmx"
        path.write_bytes(write_tmx(random_, units, random_.choice(["utf-8", "utf-8-sig", "utf-16"])))
        drops, source = Drops(), BitextSource(path=path, language="fr")
        kept = [
            (it.source, it.target) for piece in source.find_pieces(4, drops) for it in source.read_piece(piece, drops)
        ]
        assert kept == [(one_line(one), one_line(other)) for one, other in pairs], seed
        assert sum(drops.counts.values()) == len(added), (seed, drops.counts)


def write_folder(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    for name, data in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_tar(path: Path, files: Sequence[tuple[str, bytes]], mode: str) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # a name that occurs twice
        for name, data in files:
            archive.writestr(name, data)
    return path


CONTAINERS: Mapping[str, Callable[[Path, Sequence[tuple[str, bytes]]], Path]] = {
    "folder": write_folder,
    "tar": lambda path, files: write_tar(path.with_suffix(".tar"), files, "w"),
    "tar.gz": lambda path, files: write_tar(path.with_suffix(".tar.gz"), files, "w:gz"),
    "zip": lambda path, files: write_zip(path.with_suffix(".zip"), files),
}


def read_rows(path: Path, **options: object) -> tuple[dict[str, dict[str, list[str]]], int, Counter[str]]:
    """Read, check and join rows: captions by key, rows that were read, and what was left out."""
    table, drops = open_caption_table(path, **options), RowDrops()  # type: ignore[arg-type]
    rows = list(table.read())
    checked = check_table_rows(rows, (path if path.is_dir() else path.parent).resolve(), (), drops)
    found: dict[str, dict[str, list[str]]] = {}
    num_kept = 0
    for row in join_rows(checked, count_images(rows), drops):
        assert row.key not in found, row.key
        num_kept += row.num_rows
        for annotation in row.annotations:
            if annotation.task == "caption":
                found.setdefault(row.key, {}).setdefault(annotation.language, []).append(annotation.text)
    left_out = sum(count for reason, count in drops if not reason.startswith("text: "))
    assert num_kept + left_out == len(rows), drops.counts
    return found, len(rows), drops.counts


@pytest.mark.parametrize("container", CONTAINERS)
def test_mutated_files_beside_images_lose_and_change_nothing(tmp_path: Path, container: str) -> None:
    for seed in range(NUM_ARCHIVES):
        random_ = random.Random(seed)
        folders = [random_.choice(["", "s/", "s/t.u/"]) for _ in range(2)]
        # names that begin with others: 0.png, 0.1.png
        stems = [f"{folders[n // 2]}{n // 2}{random_.choice(['.1', ' x', '.v2.0']) if n % 2 else ''}" for n in range(4)]
        files: list[tuple[str, bytes]] = []
        expected: dict[str, dict[str, list[str]]] = {}
        for number, stem in enumerate(stems):
            name = f"{stem}{random_.choice(['.png', '.JPG', '.webp'])}"
            files.append((name, f"image {number}".encode()))
            for code in random_.sample(["en", "de", "zh-CN"], random_.randint(1, 3)):
                texts = [
                    f"{random_.choice(TEXTS if code != 'zh-CN' else CHINESE)} {n}" for n in range(random_.randint(1, 3))
                ]
                end = random_.choice(["\n", "\r\n", "\n\n"])
                data = end.join(texts) + random_.choice(["", end])
                files.append((f"{stem}.{code}.txt", data.encode(random_.choice(ENCODINGS))))
                expected.setdefault(name, {})[code.removesuffix("-CN")] = [one_line(text) for text in texts]
        nested = ["inner.tar"] * (container != "folder")
        strange = random_.sample(["lost.en.txt", "s/readme.md", "0.npy", *nested], random_.randint(0, 2))
        files += [(name, b"a text") for name in strange]
        random_.shuffle(files)
        twice = 0
        if container != "folder" and random_.random() < 0.4:
            files.append(random_.choice([it for it in files if it[0] not in strange]))
            twice = 1
        folder = tmp_path / f"{container}{seed}"
        path = CONTAINERS[container](folder, files)
        if container != "tar" and container != "folder":
            assert path.is_file()
        found, num_rows, counts = read_rows(path)
        assert found == expected, (seed, files)
        assert num_rows == len(stems) + len(strange) + twice, (seed, counts)


def write_table(random_: random.Random, path: Path, rows: Sequence[dict[str, object]]) -> Path:
    """Write rows of different keys and types as JSON lines, JSON records, CSV or Parquet."""
    if path.suffix == ".jsonl":
        path.write_bytes("".join(f"{json.dumps(row)}\n" for row in rows).encode(random_.choice(ENCODINGS)))
    elif path.suffix == ".json":
        path.write_bytes(json.dumps(rows, ensure_ascii=False).encode(random_.choice(ENCODINGS)))
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        kind = random_.choice([pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
        arrays = {}
        for name in names:
            cells = [row.get(name) for row in rows]
            array = pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
            is_dictionary = pa.types.is_dictionary(kind)
            arrays[name] = (
                array.dictionary_encode() if is_dictionary else array.cast(kind if name != "image" else pa.string())
            )
        pq.write_table(pa.table(arrays), path, row_group_size=random_.choice([2, 100]))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_mutated_types_ids_and_duplicates_lose_and_change_nothing(tmp_path: Path, suffix: str) -> None:
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(b"image")
    for seed in range(NUM_TABLES):
        random_ = random.Random(seed)
        rows: list[dict[str, object]] = []
        expected: dict[str, dict[str, list[str]]] = {}
        texts_twice = num_bad = 0
        for number in range(random_.randint(3, 12)):
            image = f"{random_.randrange(4)}.png"
            text = f"{random_.choice(TEXTS)} {random_.randint(0, 5)}"
            row: dict[str, object] = {"image": image, "en": text, "id": number, "no": 0.5 * number}
            if random_.random() < 0.3:
                row["de"] = f"zwölf Boote {number}"
            problem = random_.random()
            if problem < 0.1:
                row["image"] = random_.choice(["none.png", "../0.png", ""])
            elif problem < 0.2:
                row["en"] = random_.choice(["", " ", "do\x00g", "lost \ufffd"])
            rows.append(row)
            if problem < 0.1 or (problem < 0.2 and "de" not in row):
                num_bad += 1
                continue
            for code in ("en", "de"):
                if code in row and (code == "de" or problem >= 0.2):
                    known = expected.setdefault(image, {}).setdefault(code, [])
                    cleaned = one_line(str(row[code]))
                    texts_twice += cleaned in known
                    known += [cleaned] * (cleaned not in known)
        random_.shuffle(rows[-1:])
        found, num_rows, counts = read_rows(write_table(random_, tmp_path / f"t{suffix}", rows))
        assert {key: {code: sorted(texts) for code, texts in it.items()} for key, it in found.items()} == {
            key: {code: sorted(texts) for code, texts in it.items()} for key, it in expected.items()
        }, (seed, rows)
        assert num_rows == len(rows)
        assert counts["text: twice for the same image"] == texts_twice, (seed, counts)
        left_out = sum(count for reason, count in counts.items() if not reason.startswith("text: "))
        assert left_out == num_bad, (seed, counts)
