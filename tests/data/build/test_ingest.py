"""Bitext read in pieces equals bitext read at once, in any process, and only changed pieces are read again."""

from pathlib import Path

import pytest

from polyglance.data.build.build import do_step
from polyglance.data.build.executors import Executor, InProcess, WorkerPool
from polyglance.data.build.ingest import BitextStep, PairsStep
from polyglance.data.build.parts import PartId, merge_drops
from polyglance.data.build.pieces import BitextPiecesStep
from polyglance.data.build.step import order_steps
from polyglance.data.sources.bitext import BitextSource

FRENCH = PartId(language="fr")


@pytest.fixture
def sources(tmp_path: Path) -> tuple[BitextSource, ...]:
    """Two languages; French in two files, with pairs that come twice in one and in both, and in one that keeps them."""
    lines = [f"a line {n % 90}\tune ligne {n % 90}\n" for n in range(100)]
    (tmp_path / "a.tsv").write_text("".join(lines) + "one side\t\n")
    (tmp_path / "b.tsv").write_text("".join(f"b line {n}\tune ligne b {n}\n" for n in range(20)) + lines[5])
    (tmp_path / "all.tsv").write_text("twice\tdeux fois\n" * 2 + lines[7])
    (tmp_path / "de.tsv").write_text("one\teins\n")
    french = tuple(BitextSource(path=tmp_path / f"{name}.tsv", language="fr") for name in "ab")
    everything = BitextSource(path=tmp_path / "all.tsv", language="fr", keep_duplicates=True)
    return (*french, BitextSource(path=tmp_path / "de.tsv", language="de"), everything)


def ingest(
    work_dir: Path, sources: tuple[BitextSource, ...], executor: Executor
) -> tuple[BitextStep, dict[PartId, str], dict[str, int]]:
    """The last step, its files with their digests, and the drops of all steps."""
    pieces = BitextPiecesStep(work_dir=work_dir, sources=sources, records_per_piece=8)
    bitext = BitextStep(work_dir=work_dir, pairs=PairsStep(work_dir=work_dir, pieces=pieces))
    files: dict[str, dict[PartId, str]] = {}
    drops = []
    for step in order_steps(bitext):
        reports = do_step(step, files, executor)
        files[step.name] = step.folder.digests(reports.values())
        drops += [report.drops for report in reports.values()]
    return bitext, files["bitext"], dict(merge_drops(drops))


def rows(step: BitextStep, code: str) -> list[tuple[str, str, str]]:
    files = step.folder.list_files(PartId(language=code))
    return [tuple(row.values()) for file in files for row in step.read_table(file).to_pylist()]


def test_pieces_give_each_pair_once_in_any_process(sources: tuple[BitextSource, ...], tmp_path: Path) -> None:
    bitext, files, drops = ingest(tmp_path / "work", sources, InProcess())
    expected = [(f"a line {n}", f"une ligne {n}", f"a.tsv:{n + 1}") for n in range(90)]
    expected += [(f"b line {n}", f"une ligne b {n}", f"b.tsv:{n + 1}") for n in range(20)]
    expected += [("twice", "deux fois", "all.tsv:1"), ("twice", "deux fois", "all.tsv:2")]
    assert rows(bitext, "fr") == [*expected, ("a line 7", "une ligne 7", "all.tsv:3")]
    assert rows(bitext, "de") == [("one", "eins", "de.tsv:1")]
    assert drops == {"fr: an empty side": 1, "fr: a pair for the second time": 11}
    assert len(bitext.pairs.parts()) == 13 + 3 + 1 + 1
    assert ingest(tmp_path / "others", sources, WorkerPool(2))[1] == files


def test_added_lines_change_the_files_of_no_other_piece(sources: tuple[BitextSource, ...], tmp_path: Path) -> None:
    _, before, _ = ingest(tmp_path / "work", sources, InProcess())
    with sources[0].path.open("a") as file:
        file.write("new\tnouveau\n")
    bitext, after, _ = ingest(tmp_path / "work", sources, InProcess())
    assert ("new", "nouveau", "a.tsv:102") in rows(bitext, "fr")
    assert after.keys() - before.keys() == {FRENCH._replace(pairs=(0, 12, 0))}
    assert {file: after[file] for file in before} == before
