"""Bitext read in pieces, side by side: what one reader gives, whoever reads them, and again only where it changed."""

from pathlib import Path

import pytest

from polyglance.data.build.executors import Executor, InProcess, Processes
from polyglance.data.build.ingest import BitextStep, PairsStep, pair_parts, read_pairs
from polyglance.data.build.plan import PlanStep
from polyglance.data.build.tasks import merged_drops, open_step, output_digests, read_report
from polyglance.data.sources.bitext import BitextSource, read_bitext
from polyglance.data.sources.seen import SeenHashes
from polyglance.records import Drops


@pytest.fixture
def sources(tmp_path: Path) -> tuple[BitextSource, ...]:
    """Two languages; of French two files, with pairs that come twice in one, and in both."""
    lines = [f"a line {n % 90}\tune ligne {n % 90}\n" for n in range(100)]
    (tmp_path / "a.tsv").write_text("".join(lines) + "one side\t\n")
    (tmp_path / "b.tsv").write_text("".join(f"b line {n}\tune ligne b {n}\n" for n in range(20)) + lines[5])
    (tmp_path / "all.tsv").write_text("twice\tdeux fois\n" * 2 + lines[7])
    (tmp_path / "de.tsv").write_text("one\teins\n")
    french = tuple(BitextSource(path=tmp_path / f"{name}.tsv", language="fr") for name in "ab")
    everything = BitextSource(path=tmp_path / "all.tsv", language="fr", keep_duplicates=True)
    return (*french, BitextSource(path=tmp_path / "de.tsv", language="de"), everything)


def ingest(work_dir: Path, sources: tuple[BitextSource, ...], executor: Executor) -> BitextStep:
    plan = PlanStep(work_dir=work_dir, sources=sources, images_per_part=1, pairs_per_part=8)
    pairs = PairsStep(work_dir=work_dir, plan=plan)
    bitext = BitextStep(work_dir=work_dir, pairs=pairs)
    for step in (plan, pairs, bitext):
        open_step(step, work_dir / step.name)
        list(executor.run(step, work_dir / step.name, step.parts()))
    return bitext


def texts(work_dir: Path, code: str) -> list[tuple[str, str, str]]:
    rows = [row for path in pair_parts(work_dir, code) for row in read_pairs(path).to_pylist()]
    return [(row["source"], row["target"], row["where"]) for row in rows]


def test_pieces_give_what_one_reader_gives(sources: tuple[BitextSource, ...], tmp_path: Path) -> None:
    bitext = ingest(tmp_path / "work", sources, InProcess())
    drops, seen = Drops(), SeenHashes()
    expected = [pair for source in sources if source.language == "fr" for pair in read_bitext(source, drops, seen=seen)]
    assert texts(tmp_path / "work", "fr") == [pair[1:] for pair in expected]
    assert len(expected) == 90 + 20 + 3
    assert texts(tmp_path / "work", "de") == [("one", "eins", "de.tsv:1")]
    reports = [read_report(tmp_path / "work" / s.name, part) for s in (bitext.pairs, bitext) for part in s.parts()]
    assert dict(merged_drops(reports)) == dict(drops)
    assert len(bitext.pairs.parts()) == 13 + 3 + 1 + 1

    others = ingest(tmp_path / "others", sources, Processes(2))
    for step in (bitext.pairs, bitext):
        for part in step.parts():
            own, other = (output_digests(folder / step.name, part) for folder in (bitext.work_dir, others.work_dir))
            assert own == other
            assert own


def test_lines_that_are_added_change_the_files_of_no_others(sources: tuple[BitextSource, ...], tmp_path: Path) -> None:
    ingest(tmp_path / "work", sources, InProcess())
    before = output_digests(tmp_path / "work" / "bitext", "fr")
    with sources[0].path.open("a") as file:
        file.write("new\tnouveau\n")
    ingest(tmp_path / "work", sources, InProcess())
    after = output_digests(tmp_path / "work" / "bitext", "fr")
    assert ("new", "nouveau", "a.tsv:102") in texts(tmp_path / "work", "fr")
    assert after.keys() - before.keys() == {"fr/000_00012_00000.arrow"}
    assert {name for name in before if before[name] != after[name]} == set()
