"""Marks of answers and lists in the texts of a user are counted by language, named, and kept."""

import json
from pathlib import Path

import pytest
from importing import json_lines, png, run, stored

from polyglance.cli import main
from polyglance.data.text_marks import MarkCounter
from polyglance.report.audit import AuditConfig, write_audit

MARKED = {
    "quotation marks around": (
        '"a dog {}"',
        "“a dog {}”",
        "„ein Hund {}“",
        "« un chien {} »",
        "「犬 {}」",
        "'a dog {}'",
    ),
    "Markdown": ("**a dog** {}", "a `dog` {}", "# a dog {}", "- a dog {}"),
    "a number before": ("1. a dog {}", "12) a dog {}"),
    "words of a chat": ("Sure, a dog {}", "Caption: a dog {}"),
}
PLAIN = (
    "a dog {}",
    'a sign that says "stop" {}',
    "the dog's ball, 5.5 m {}",
    "a * b {}",
    "3 dogs {}",
    '"a" and "b" {}',
)


@pytest.mark.parametrize(("words", "text"), [(words, text) for words, texts in MARKED.items() for text in texts])
def test_each_mark_is_counted(words: str, text: str) -> None:
    counter = MarkCounter()
    for number in range(5):
        counter.add("en", text.format(number))
        counter.add("de", "ein Hund")
    (line,) = counter.describe()
    assert line.startswith("en: 5 of 5 texts have ")
    assert words in line
    assert repr(text.format(0)) in line


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_have_none(text: str) -> None:
    counter = MarkCounter()
    counter.add("en", text.format(1))
    assert counter.describe() == ()


def test_a_few_among_many_are_not_named() -> None:
    counter = MarkCounter()
    for number in range(100):
        counter.add("en", "'a dog'" if number < 2 else "a dog")
    assert len(counter.describe()) == 1
    counter.add("en", "a dog")
    assert counter.describe() == ()


def test_an_import_names_them_and_keeps_the_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each text once, though an English one stands in several tasks."""
    rows = []
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        rows.append({"image": f"{number}.png", "en": f'"a dog {number}"', "de": f"**Ein Hund** {number}"})
    rows.append({"image": "absent.png", "en": '"left out"'})
    table = json_lines(tmp_path / "t.jsonl", rows)
    notes = run(tmp_path, table, tmp_path).notes
    starts = ["de: 6 of 6 texts have marks of Markdown", "en: 6 of 6 texts have quotation marks around the whole text"]
    assert [note.startswith(start) for note, start in zip(notes, starts, strict=True)] == [True, True]
    assert {a.text for record in stored(tmp_path).values() for a in record.annotations} == {
        text for row in rows[:6] for name, text in row.items() if name != "image"
    }
    args = ["data", "import", "--table", str(table), "--out", str(tmp_path / "again")]
    main([*args, "--dry-run"])
    planned = capsys.readouterr().out
    assert all(note in planned for note in notes)
    main(args)
    assert [line for line in capsys.readouterr().err.splitlines() if "texts have" in line] == [
        f"note: {note}" for note in notes
    ]
    main([*args, "--json", "--overwrite"])
    assert json.loads(capsys.readouterr().out)["notes"] == list(notes)
    audit = write_audit(tmp_path / "out/train", AuditConfig(images=1), tmp_path / "audit.html")
    found = [one for one in audit.warnings if one.startswith("caption-en:")]
    assert len(found) == 1
    assert "quotation marks around the whole text" in found[0]
