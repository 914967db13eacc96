"""Every language of polyglance, and one that a user declares, from a table of texts to page, captions and scores."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyglance import languages
from polyglance.cli import main
from polyglance.languages import LANGUAGES, XM3600_LANGUAGES
from polyglance.run_records import LossRecord, read_runs
from tests.captions_of_all_languages import CAPTIONS

YORUBA = ("Obìnrin kan ń rìn ní òpópónà pẹ̀lú agbòòrùn", "Ológbò funfun kan ń sùn lórí àga lẹ́gbẹ̀ẹ́ fèrèsé")
TEXTS = {**CAPTIONS, "yo": YORUBA}
STUDY = """
title = "Every language"
out = "{out}"
vocab_size = 500
image_size = 16
patch_size = 8
[languages.yo]
name = "Yoruba"
[data.table]
table = "{table}"
images = "{images}"
test_fraction = 0.4
[coverage]
caption = ["en"]
translation = [{translation}]
[mixture]
batch_size = 8
[evaluation]
samples_per_cell = 2
captions_per_cell = 1
translations_per_cell = 1
examples = 1
max_new_tokens = 4
[laws]
bootstrap = 0
[[families]]
name = "scratch"
widths = [16]
layers = 1
samples = [80]
"""


@pytest.fixture(scope="module", autouse=True)
def forget_declared_languages() -> Iterator[None]:
    yield
    languages._TABLE.pop("yo", None)
    os.environ.pop("POLYGLANCE_LANGUAGES", None)


def _prefix(code: str) -> str:
    entry = LANGUAGES.get(code)
    return f"{entry.prefix}{'' if entry.words == 'characters' else ' '}" if entry else ""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("languages")
    random = np.random.default_rng(0)
    lines = []
    for index in range(12):
        Image.fromarray(random.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        texts = {code: f"{_prefix(code)}{pair[index % 2]} {index}" for code, pair in TEXTS.items()}
        lines.append(json.dumps({"image": f"{index}.png", "texts": texts}))
    (folder / "table.jsonl").write_text("\n".join(lines), encoding="utf-8")
    translation = ", ".join(f'"{code}"' for code in ("ua", *(code for code in TEXTS if code != "uk")))
    toml = STUDY.format(out=folder / "out", table=folder / "table.jsonl", images=folder, translation=translation)
    (folder / "study.toml").write_text(toml, encoding="utf-8")
    main(["study", "run", str(folder / "study.toml"), "--workers", "1"])
    return folder / "out"


def test_every_language_is_measured_and_after_a_prefix_only_where_it_has_one(study: Path) -> None:
    (run,) = read_runs(study / "runs.csv")
    record = LossRecord.read(study / "runs" / run.id / "losses.json")
    unseen = {cell.language: losses for cell, losses in record.cells.items() if losses.split == "UC"}
    assert set(unseen) == {*XM3600_LANGUAGES, "yo"} - {"en"}
    for code, losses in unseen.items():
        variants = {"plain", "shuffled"} if code == "yo" else {"plain", "prefix", "shuffled", "prefix_shuffled"}
        assert set(losses.losses) == variants, code
        assert set(losses.generation) == variants & {"plain", "prefix"}
    assert run.UC is not None
    assert run.UC_prefix is run.T_prefix is None  # not all languages have one
    assert not list((study / "laws").glob("*UC_prefix*"))


def test_the_page_names_every_language_and_says_nothing_of_what_was_not_measured(study: Path) -> None:
    page = (study / "report" / "index.html").read_text(encoding="utf-8")
    for code in TEXTS:
        name = LANGUAGES[code].name
        assert f"{name[0].upper()}{name[1:]}" in page
    assert "without the prefix</" not in page  # no tile of a difference to UC after the prefix


def test_the_plan_says_what_will_not_be_measured(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["study", "plan", str(study.parent / "study.toml"), "--json", "--set", "machine.price_per_gpu_hour=2"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["notes"] == [
        'UC after the prefix is not measured: no prefix is known for yo: [evaluation.prefixes] yo = "..." gives one',
        "machine.price_per_gpu_hour is not used: it is for published sizes, and micro models have no price",
    ]


def test_every_language_is_captioned_and_scored(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = study.glob("runs/*/checkpoints/final")
    picture = str(study.parent / "0.png")
    names = ",".join(("Ukrainian" if code == "uk" else code) for code in XM3600_LANGUAGES)
    options = ["--max-new-tokens", "4", "--beams", "1"]
    main(["caption", picture, "--model", str(model), "--lang", names, *options])
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["language"] for one in written] == list(XM3600_LANGUAGES)
    for one in written:
        assert one["prefix"] == LANGUAGES[one["language"]].prefix
        assert one["text"].startswith(one["prefix"])
    for code in (*XM3600_LANGUAGES, "yo"):
        (study / "texts.txt").write_text("\n".join(TEXTS[code]), encoding="utf-8")
        options = ["--hyps", str(study / "texts.txt"), "--refs", str(study / "texts.txt"), "--lang", code]
        main(["score", *options, "--metrics", "chrf", "--bootstrap", "0", "--json"])
        assert json.loads(capsys.readouterr().out)["details"][0]["value"] == pytest.approx(100)


def test_a_prefix_that_the_model_cannot_write_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(study.parent / "0.png")
    with pytest.raises(SystemExit):
        main(["caption", picture, "--model", "micro", "--lang", "ua"])
    assert "cannot write 'На зображенні', the prefix of 'uk'" in capsys.readouterr().err
    main(["caption", picture, "--model", "micro", "--lang", "ua", "--prefix", "none"])
    said = capsys.readouterr()
    assert json.loads(said.out)["language"] == "uk"
    assert "1 of 1 texts are in another language" in said.err


def test_a_model_brings_the_language_that_was_declared(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = study.glob("runs/*/checkpoints/final")
    languages._TABLE.pop("yo")
    picture = str(study.parent / "0.png")
    with pytest.raises(SystemExit):
        main(["caption", picture, "--model", str(model), "--lang", "yo"])
    assert "no prefix is known for the language 'yo' (Yoruba)" in capsys.readouterr().err
    main(["caption", picture, "--model", str(model), "--lang", "Yoruba", "--prefix", "none", "--max-new-tokens", "4"])
    assert json.loads(capsys.readouterr().out)["language"] == "yo"
