"""Names of parts, and the folder that holds their files: what is kept after a kill or a change, and what is removed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.data.build.parts import PartId, PartReport, PartWork, WorkFolder

NUMBERS = st.lists(st.integers(0, 10**6), max_size=3).map(tuple)
IDS = NUMBERS.map(PartId) | st.builds(PartId, NUMBERS, st.sampled_from(["de", "fr"]), NUMBERS)


@given(IDS)
def test_a_name_gives_its_id_back(part: PartId) -> None:
    assert PartId.parse(str(part)) == part
    assert "." not in str(part)
    assert "/" not in str(part)


def test_names_of_parts() -> None:
    assert str(PartId()) == "all"
    assert str(PartId((0, 12, 3), "fr")) == "000_00012_00003-fr"
    assert str(PartId(language="fr", pairs=(1, 0))) == "fr-001_00000"


@given(IDS, IDS)
def test_ids_agree_in_what_both_name(one: PartId, other: PartId) -> None:
    fields = [(one.images, other.images), (one.pairs, other.pairs)]
    same = all(first == second for pair in fields for first, second in zip(*pair, strict=False))
    assert one.agrees_with(other) == other.agrees_with(one)
    assert one.agrees_with(other) == ((same and "" in (one.language, other.language)) or (same and one[1] == other[1]))


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    folder = WorkFolder(tmp_path / "step", ".txt")
    folder.open("settings")
    return folder


def do(folder: WorkFolder, part: PartId, *files: PartId, num_failed: int = 0) -> None:
    work = PartWork(part=part, folder=folder)
    for file in files or (part,):
        with work.writing(file) as path:
            path.write_text(str(file))
    report = PartReport(num_in=1, num_out=1, num_failed=num_failed, inputs=("input",))
    folder.write_report(part, report, work.files)


def names(folder: WorkFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()} - {"step.json"}


A, B = PartId((0,)), PartId((1,))
FILES = [PartId((0, 0)), PartId((0, 1))]


def test_finished_parts_stay_and_all_else_goes(folder: WorkFolder) -> None:
    do(folder, A, *FILES)
    do(folder, B)
    (folder.path / "001.txt.1234.partial").write_text("a kill while it was written")
    (folder.path / "000_00007.txt").write_text("a kill before the report, or of another piece")
    do(folder, PartId((2,)))  # of a source that is not in the recipe any more
    folder.open("settings")
    reports, unfinished = folder.sort_out({A: ("input",), B: ("input",)}, retry_failed=False)
    assert (list(reports), unfinished) == ([A, B], [])
    assert names(folder) == {"000.json", "000_00000.txt", "000_00001.txt", "001.json", "001.txt"}
    assert folder.list_files() == [*FILES, B]
    assert folder.list_files(A) == FILES
    assert list(folder.digests(reports.values())) == [*FILES, B]


def test_changed_inputs_and_failures_are_due_again_and_their_own_file_can_be_used(folder: WorkFolder) -> None:
    do(folder, A, *FILES)
    do(folder, B, num_failed=1)
    _, unfinished = folder.sort_out({A: ("another",), B: ("input",)}, retry_failed=False)
    assert unfinished == [A]
    assert names(folder) == {"001.json", "001.txt"}
    _, unfinished = folder.sort_out({B: ("input",)}, retry_failed=True)
    assert unfinished == [B]
    assert names(folder) == {"001.txt", "001.earlier"}
    folder.sort_out({B: ("input",)}, retry_failed=True)  # a kill before it was done again
    earlier = PartWork(part=B, folder=folder).earlier_file
    assert earlier is not None
    assert earlier.read_text() == "001"


@pytest.mark.parametrize("name", ["001.json", "001.txt", "001.earlier"])
def test_a_changed_byte_makes_a_part_due_again(name: str, folder: WorkFolder) -> None:
    do(folder, B, num_failed=1)
    folder.sort_out({B: ("input",)}, retry_failed=name != "001.json")
    content = bytearray((folder.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder.path / name).write_bytes(content)
    _, unfinished = folder.sort_out({B: ("input",)}, retry_failed=True)
    assert unfinished == [B]
    assert names(folder) == set()


def test_a_damaged_mark_does_not_cost_the_work(folder: WorkFolder) -> None:
    do(folder, A)
    text = (folder.path / "step.json").read_text()
    (folder.path / "step.json").write_text(text.replace("settings", "sottings"))
    with pytest.raises(ValueError, match="damaged"):
        folder.open("settings")
    assert names(folder) == {"000.json", "000.txt"}


def test_another_fingerprint_empties_the_folder(folder: WorkFolder) -> None:
    do(folder, A)
    folder.open("settings")
    assert names(folder) == {"000.json", "000.txt"}
    folder.open("other settings")
    assert names(folder) == set()
