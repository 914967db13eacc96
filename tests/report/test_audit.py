"""The audit of a data set: its numbers, counted by hand, and a page that shows what they are about."""

import json
import re
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.data.shard import ShardWriter, read_records
from polyglance.records import Annotation, Drops, ImageRecord
from polyglance.report.audit import AuditConfig, write_audit


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
