"""Two languages without captions, from a user's own files to the page; and a language that only a file describes."""

import json
import os
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyglance import languages
from polyglance.cli import main
from polyglance.data.shard import read_records
from polyglance.languages import LANGUAGES

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = (
    "tower.samples=160",
    "tower.width=16",
    "families.0.widths=[16]",
    "families.0.samples=[160]",
    "families.0.optim.warmup_steps=2",
    "evaluation.samples_per_cell=4",
    "evaluation.captions_per_cell=2",
    "evaluation.translations_per_cell=2",
    "evaluation.max_new_tokens=8",
    "laws.bootstrap=0",
)


@pytest.fixture(autouse=True)
def forget_declared_languages() -> Iterator[None]:
    yield
    languages._TABLE.pop("yo", None)
    os.environ.pop("POLYGLANCE_LANGUAGES", None)


def test_ukrainian_and_swahili_from_files_to_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk-through of docs/languages.md, at a smaller size: no setting of a file is changed by hand."""
    monkeypatch.chdir(tmp_path)
    draw = runpy.run_path(str(EXAMPLES / "draw_scenes.py"))["draw_languages"]
    draw(Path("my"), num_scenes=60, num_described=12, num_pairs=150)
    main(shlex.split("init mine --captions en,de --want uk,sw --images my/photos --bitext my/en-uk.tsv my/en-sw.tsv"))
    printed = capsys.readouterr().out
    assert "Missing" not in printed
    assert "72 looked at have texts: German 72, English 72, Swahili 12, Ukrainian 12" in printed
    build, _, study, _ = [line.strip() for line in printed.splitlines() if line.startswith("  polyglance ")]
    main(shlex.split(build)[1:])
    held_out = list(read_records(Path("mine/data/test")))
    assert len(held_out) == 12
    cells = {str(text.cell) for record in read_records(Path("mine/data/train")) for text in record.annotations}
    assert cells == {"caption-en", "caption-de", "translation-uk", "translation-sw"}
    main([*shlex.split(study)[1:], *(word for setting in SMALL for word in ("--set", setting))])
    page = Path("mine/micro/report/index.html").read_text(encoding="utf-8")
    for name in ("Ukrainian", "Swahili", LANGUAGES["uk"].prefix, LANGUAGES["sw"].prefix):
        assert name in page
    assert "data:image/png" in page  # images of a data set that is not in the study's folder
    assert "image not found" not in page
    table = Path("mine/micro/runs.csv").read_text().splitlines()
    assert len(table) == 2
    assert "UC_prefix" in table[0]


def test_a_language_of_a_file_is_known_to_every_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = runpy.run_path(str(EXAMPLES / "draw_scenes.py"))["draw_scenes"]
    draw(Path("photos"), num_scenes=3)
    for number, image in enumerate(sorted(Path("photos").glob("*.png"))):
        image.with_suffix(".txt").rename(image.with_suffix(".en.txt"))
        if number < 2:
            image.with_suffix(".yo.txt").write_text(f"Àwòrán náà fihàn ìràwọ̀ pupa kékeré {number}.\n", encoding="utf-8")
    Path("yo.toml").write_text('[languages.yo]\nname = "Yoruba"\nprefix = "Àwòrán náà fihàn"\n', encoding="utf-8")
    file = ("--languages-from", "yo.toml")

    main(["init", "mine", "--want", "Yoruba", "--images", "photos", *file])
    assert "Yoruba 2" in capsys.readouterr().out
    assert 'captioned_in = ["yo"]' in Path("mine/recipe.toml").read_text()
    for name in ("recipe", "run", "micro", "study"):
        assert 'prefix = "Àwòrán náà fihàn"' in Path(f"mine/{name}.toml").read_text(encoding="utf-8")
    main(["data", "import", "--images", "photos", "--out", "data", "--test-fraction", "0", *file])
    capsys.readouterr()
    main(["data", "stats", "data/train"])
    assert "caption-yo" in capsys.readouterr().out
    text = str(next(Path("photos").glob("*.yo.txt")))
    scored = [
        "score",
        "--hyps",
        text,
        "--refs",
        text,
        "--lang",
        "yo",
        "--metrics",
        "chrf",
        "--bootstrap",
        "0",
        "--json",
    ]
    main([*scored, f"{file[0]}={file[1]}"])
    assert json.loads(capsys.readouterr().out)["details"][0]["value"] == pytest.approx(100)
    with pytest.raises(SystemExit):  # no model of the package can write it
        main(["caption", str(next(Path("photos").glob("*.png"))), "--model", "micro", "--lang", "yo", *file])
    assert "cannot write 'Àwòrán náà fihàn', the prefix of 'yo'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "own.toml: no such file"),
        ("languages = 1\n", "own.toml: languages"),
        ("x = [", "own.toml: not valid TOML"),
        ("[data]\n", "own.toml: no table [languages.xx]"),
        ("[languages.yo]\nnam = 'Yoruba'\n", "own.toml: languages.yo.nam"),
        ("[languages.uk]\nname = 'Ukrainian'\n", "'uk' is built in (Ukrainian)"),
        ("[languages.zh-TW]\nname = 'Taiwanese'\n", "'zh-TW' is not a language code"),
        ("[languages.yo]\nname = 'German'\n", "the name 'German' belongs to 'de'"),
    ],
)
def test_mistakes_of_such_a_file_are_one_line(
    content: str | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("own.toml").write_text(content)
    with pytest.raises(SystemExit) as caught:
        main(["caption", "a.png", "--model", "micro", "--lang", "yo", "--languages-from", "own.toml"])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in error
    assert error.count("\n") == 1
