"""The audit of a data set: its numbers, counted by hand, and a page that shows what they are about."""

import json
import re
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.data.shard import ShardWriter, read_records
from polyglance.records import Annotation, Drops, ImageRecord
from polyglance.report.audit import AuditConfig, write_audit
from polyglance.report.explanation import write_explanations


@pytest.fixture(scope="module")
def data(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """French captions half of which are English, and translations with scores."""
    folder = tmp_path_factory.mktemp("audit") / "data"
    drops = Drops()
    drops.add("image: <b>broken</b>", "a.png", 3)
    with ShardWriter(folder, source="a <source>", licence="CC0", drops=drops) as writer:
        for number, record in enumerate(read_records(world / "train")):
            texts = {(a.task, a.language): a.text for a in record.annotations}
            wrong = number % 2 == 0
            caption = texts["caption", "en" if wrong else "fr"]
            annotations = [
                Annotation(task="caption", language="fr", text=caption, origin="engine 1"),
                Annotation(task="translation", language="zh", text=texts["caption", "zh"], source="An <i>image</i>."),
            ]
            annotations[1:] = [
                Annotation(**{**{n: getattr(a, n) for n in a.__slots__}, "score": 0.25}) for a in annotations[1:]
            ]
            writer.write(ImageRecord(key=record.key, image=record.image, annotations=tuple(annotations)))
    return folder


def test_numbers_are_those_of_the_data(data: Path, tmp_path: Path) -> None:
    audit = write_audit(data, AuditConfig(images=5), tmp_path / "audit.html")
    cells = {cell.cell: cell for cell in audit.cells}
    assert cells.keys() == {"caption-fr", "translation-zh"}
    french, chinese = cells["caption-fr"], cells["translation-zh"]
    assert (audit.num_images, audit.num_texts) == (200, 400)
    assert (french.num_texts, french.num_images, french.share, french.balanced_share) == (200, 200, 0.5, 0.5)
    assert french.in_other_language == pytest.approx(0.5, abs=0.05)
    assert 0.45 < french.identified["en-Latn"] == french.in_other_language
    assert french.identified["fr-Latn"] + french.identified["en-Latn"] == pytest.approx(1)
    assert (french.in_other_script, french.partly_in_other_language) == (0, 0)
    assert chinese.in_other_language == 0
    assert chinese.identified.keys() <= {"zh-Hans", "zh-Hani"}
    [warning] = audit.warnings
    assert re.match("caption-fr: [45].* are in another language or script, 0 % partly; identified: ", warning)
    assert (french.mean_score, chinese.mean_score) == (None, 0.25)
    assert french.origins == {"engine 1": 200}
    assert json.loads((tmp_path / "audit.json").read_text())["num_images"] == 200


def test_texts_half_of_which_are_in_another_language_are_noticed(world: Path, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data", source="a test", licence="CC0") as writer:
        for record in list(read_records(world / "train"))[:10]:
            texts = {annotation.language: annotation.text for annotation in record.annotations}
            mixed = Annotation(task="caption", language="fr", text=f"{texts['fr']} {texts['en']}")
            writer.write(ImageRecord(key=record.key, image=record.image, annotations=(mixed,)))
    audit = write_audit(tmp_path / "data", AuditConfig(images=1), tmp_path / "audit.html")
    (cell,) = audit.cells
    assert cell.in_other_language + cell.partly_in_other_language == 1
    assert cell.partly_in_other_language > 0.5
    assert len(audit.warnings) == 1


def test_the_page_shows_images_and_texts_and_runs_nothing_of_theirs(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "audit.html"
    write_audit(data, AuditConfig(images=5), path)
    page = path.read_text()
    assert page.count("<article>") == page.count("data:image/png") == 5
    assert "image: &lt;b&gt;broken&lt;/b&gt;" in page
    assert "An &lt;i&gt;image&lt;/i&gt;." in page
    assert "a &lt;source&gt;" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"https?:", page)
    again = tmp_path / "again.html"
    write_audit(data, AuditConfig(images=5), again)
    assert again.read_text() == page


def test_from_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "audit", str(data), "--out", str(tmp_path / "a.html"), "--images", "2"])
    assert "caption-fr" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "audit", str(tmp_path)])
    assert "not a data set" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["numbers.json", "page", "folder.html"])
def test_a_name_that_is_no_page_is_refused_and_nothing_is_written(data: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "numbers.json").write_text("{}")
    (tmp_path / "folder.html").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for write in (
        lambda: write_audit(data, AuditConfig(), tmp_path / name),
        lambda: write_explanations([], tmp_path / name),
    ):
        with pytest.raises(ValueError, match=rf"{name}: (a folder; name|expected) a file .*ends in \.html"):
            write()
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "numbers.json").read_text() == "{}"


@pytest.mark.parametrize("content", ['{"seal": 1}', "[1]", "no JSON"])
def test_a_file_that_is_no_audit_is_not_replaced_by_its_numbers(data: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest.json: exists and is not an audit"):
        write_audit(data, AuditConfig(images=1), tmp_path / "manifest.html")
    assert (tmp_path / "manifest.json").read_text() == content
    assert not (tmp_path / "manifest.html").exists()
    for _ in range(2):  # its own are replaced
        write_audit(data, AuditConfig(images=1), tmp_path / "audit.html")


def test_a_data_set_without_texts_is_named(tmp_path: Path) -> None:
    main(["data", "world", "--out", str(tmp_path), "--num-train-images", "0", "--num-test-images", "1"])
    with pytest.raises(ValueError, match=r"train: the data set has no texts"):
        write_audit(tmp_path / "train", AuditConfig(), tmp_path / "audit.html")


def test_a_negative_seed_is_named() -> None:
    with pytest.raises(ValueError, match="seed is -1; expected 0 or more"):
        AuditConfig(seed=-1)
