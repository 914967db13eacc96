"""Mutated tables and bitexts: every line is kept or counted, and what is kept is what was written."""

import csv
import io
import random
from pathlib import Path

import pytest

from polyglance.data.sources.bitext import BitextSource
from polyglance.records import Drops
from polyglance.tables import detect_table_format, read_table

NUM_MUTATIONS = 700
"""Of each of three kinds."""
WORDS = [
    "a dog",
    'a 5" pipe',
    '"Stop"',
    "l'été",
    "zwölf Boote",
    "red; blue",
    "it's, well",
    "snow",
    '"open',
    "100 %",
    "犬",
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]
ENDS = ["\n", "\r\n"]
ENGLISH, FRENCH = ["runs", "says: stop!", "is 5 inches"], ["court", "dit « non »", "est là", "a « 5 » ans"]
BAD_LINES = ["", "one side only", "\tmanque", "a\t<b>b</b>", "same\tsame", "a dog\tсобака бежит по траве"]


def draw_texts(random_: random.Random, number: int) -> list[str]:
    return [f"{random_.choice(WORDS)} {random_.choice(WORDS)} {n}" for n in range(number)]


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_mutated_tables_lose_and_change_nothing(tmp_path: Path, kind: str) -> None:
    for seed in range(NUM_MUTATIONS):
        random_ = random.Random(seed)
        names = [f"{n}.png" for n in range(random_.randint(1, 12))]
        rows = list(zip(names, draw_texts(random_, len(names)), strict=True))
        random_.shuffle(rows)
        rows += random_.choices(rows, k=random_.randint(0, 3))
        end, encoding = random_.choice(ENDS), random_.choice(ENCODINGS)
        path = tmp_path / f"t.{kind}"
        if kind == "csv":
            file = io.StringIO()
            quoting = random_.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
            csv.writer(file, lineterminator=end, quoting=quoting).writerows([("image", "en"), *rows])
            content = file.getvalue()
        else:
            content = "".join(f"{name}\t{text}{end}" for name, text in [("image", "en"), *rows])
        broken = random_.random() < 0.3
        if broken:
            content += f"x.png{end}{end}"
        path.write_bytes(content.encode(encoding))
        found = list(read_table(path, form=detect_table_format(path)))
        kept = [(row.values["image"], row.values["en"]) for row in found if not row.problem]
        assert kept == rows, (seed, content)
        assert [row.problem for row in found if row.problem] == ["wrong number of cells"] * broken, (seed, content)


def test_mutated_bitexts_lose_and_change_nothing(tmp_path: Path) -> None:
    for seed in range(NUM_MUTATIONS):
        random_ = random.Random(seed)
        number = random_.randint(1, 12)
        english = [
            f"the dog number {n} {random_.choice(['runs', 'says: stop!', 'is 5 inches'])}" for n in range(number)
        ]
        french = [
            f"le chien {n} {random_.choice(['court', 'dit « non »', 'est là', 'a « 5 » ans'])}" for n in range(number)
        ]
        pairs = list(zip(english, french, strict=True))
        bad = random_.choice(
            ["", "one side only", "\tmanque", "a\t<b>b</b>", "same\tsame", "a dog\tсобака бежит по траве"]
        )
        lines = ["\t".join(pair) for pair in pairs]
        lines.insert(random_.randint(0, number), bad)
        encoding = random_.choice(ENCODINGS)
        path = tmp_path / "pairs.tsv"
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        drops = Drops()
        source = BitextSource(path=path, language="fr", columns=("1", "2"))
        pieces = source.find_pieces(random_.choice([1, 3, 100]), drops)
        kept = [(pair.source, pair.target) for piece in pieces for pair in source.read_piece(piece, drops)]
        assert kept == pairs, (seed, lines)
        assert sum(drops.counts.values()) == 1, (seed, lines)
