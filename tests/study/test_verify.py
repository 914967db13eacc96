"""`verify` says so where nothing, or not everything, could be compared."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from polyglance.cli import main
from polyglance.files import DIGESTS_NAME, seal_files
from polyglance.study.grid import verify
from polyglance.study.grid.verify import verify_folder


def make_sealed(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv", "c.csv"):
        (folder / name).write_text(name)
    seal_files(folder, ["a.csv", "b.csv", "c.csv"])
    return folder


def test_a_folder_in_which_nothing_has_a_digest_is_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_sealed(tmp_path / "run")
    assert verify_folder(folder).problems == ()
    (folder / DIGESTS_NAME).unlink()
    (tmp_path / "empty").mkdir()
    for place in (folder, tmp_path / "empty"):
        (problem,) = verify_folder(place).problems
        assert problem.startswith(f"{place}: no file with a digest")
        with pytest.raises(SystemExit) as ended:
            main(["verify", str(place)])
        assert ended.value.code == 1
        assert problem in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"a\.csv: a file; expected a folder"):
        verify_folder(folder / "a.csv")


def test_folders_behind_links_are_compared_once(world: Path, tmp_path: Path) -> None:
    study = make_sealed(tmp_path / "study")
    shutil.copytree(world, tmp_path / "scratch" / "data")
    (study / "data").symlink_to(tmp_path / "scratch" / "data")
    (study / "again").symlink_to(study)
    whole = verify_folder(study)
    assert whole.problems == ()
    assert whole.num_files == verify_folder(world).num_files + verify_folder(make_sealed(tmp_path / "other")).num_files
    shard = next((tmp_path / "scratch" / "data").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (problem,) = verify_folder(study).problems
    assert problem.startswith(str(study / "data"))
    assert shard.name in problem


def test_what_cannot_be_read_is_a_problem_and_the_rest_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sealed(tmp_path / "study" / "locked")
    study = make_sealed(tmp_path / "study" / "open").parent
    (study / "open" / "c.csv").write_text("changed")
    (study / "shut").mkdir()
    (study / "shut" / "a.csv").touch()
    scandir, sha256, stat = os.scandir, verify.file_sha256, Path.stat

    def scan(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def read(path: Path) -> str:
        if path.name == "a.csv":
            raise PermissionError(13, "Permission denied", str(path))
        return sha256(path)

    def look(path: Path, **options: Any) -> os.stat_result:
        if path.parent.name == "shut":  # its names can be listed, it cannot be entered
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(verify, "file_sha256", read)
    monkeypatch.setattr(Path, "stat", look)
    result = verify_folder(study)
    assert result.problems == (
        f"{study / 'locked'}: cannot be read (Permission denied)",
        f"{study / 'open' / 'a.csv'}: cannot be read (Permission denied)",
        f"{study / 'open' / 'c.csv'}: damaged or changed (its SHA-256 differs)",
        f"{study / 'shut' / DIGESTS_NAME}: cannot be read (Permission denied)",
    )
    assert result.num_files == 5  # with the list itself, and the folder that is shut
