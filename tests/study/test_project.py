"""`init`: data looked at, files that load, commands that run as printed. `doctor`: what is missing, and exit codes."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyglance.cli import main
from polyglance.engines import EngineConfig
from polyglance.engines.registry import ENGINES
from polyglance.study.project import project_files

NUM_IMAGES = 30


class NumberTranslator:
    """Translator of the captions below: what a tiny random checkpoint writes is rejected, as it should be."""

    name, version = "numbers", "1"

    @classmethod
    def for_recipe(cls, config: EngineConfig) -> "NumberTranslator":
        assert config.path == Path("models/nllb")
        return cls()

    def translate(self, texts: list[str], *, language: str) -> list[str]:
        words = {"uk": "На фото стіна, а на ній малюнок із числом", "sw": "Picha inaonyesha ukuta wenye picha ya namba"}
        return [f"{words[language]} {''.join(filter(str.isdigit, text))}." for text in texts]

    alternatives = translate


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user: captioned photographs, English-Ukrainian as a table and English-Swahili as two files."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "my photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(photos / f"{i}.png")
        (photos / f"{i}.txt").write_text(f"The image shows a wall with the picture of number {i}.\n")
    english = [f"The wall has a picture of a bird and the number {i} on it." for i in range(40)]
    ukrainian = [f"На стіні висить малюнок птаха і число {i}." for i in range(40)]
    swahili = [f"Ukuta una picha ya ndege na namba {i} juu yake." for i in range(40)]
    (tmp_path / "en-uk.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in zip(english, ukrainian, strict=True)))
    (tmp_path / "news.en-sw.en").write_text("\n".join(english) + "\n")
    (tmp_path / "news.en-sw.sw").write_text("\n".join(swahili) + "\n")
    return tmp_path


@pytest.fixture
def engines(there: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
    import tiny_checkpoints

    (there / "models").mkdir()
    tiny_checkpoints.dual_encoder(there / "models" / "clip", "clip")
    tiny_checkpoints.nllb(there / "models" / "nllb")
    monkeypatch.setitem(ENGINES["translator"], "nllb", f"{__name__}:NumberTranslator")
    return there / "models"


WORDS = ("--captions", "en", "--want", "uk,sw", "--images", "my photos", "--bitext", "en-uk.tsv", "news.en-sw.en")


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    main([*words, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("engines")
def test_the_commands_run_as_printed(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project_files, "_TRIAL_SAMPLES", 64)
    main(["init", "mine", *WORDS, "news.en-sw.sw"])
    printed = capsys.readouterr().out
    assert "Missing" not in printed
    assert f"{NUM_IMAGES}; all of {NUM_IMAGES} looked at have texts" in printed
    assert "Swahili: news.en-sw, 40 usable pairs, 0 left out" in printed
    assert "extrapolated: Ukrainian, Swahili" in printed
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  polyglance ")]
    assert len(commands) == 4
    for command in (commands[0], commands[1], commands[3]):  # the micro study is in test_own_languages.py
        main(shlex.split(command)[1:])
    assert "USD" in capsys.readouterr().out
    losses = json.loads((there / "mine" / "trial" / "losses.json").read_text())
    assert {"caption-uk", "caption-sw"} <= {str(cell).replace(" ", "-") for cell in losses["cells"]}
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "mine/recipe.toml", "mine/run.toml", "mine/study.toml"])
    assert caught.value.code == 1
    assert "checkpoint 3.5b" in capsys.readouterr().out
    main(["doctor", "mine/recipe.toml", "mine/run.toml"])
    assert "missing" not in capsys.readouterr().out


def test_what_is_missing_is_named(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ask(capsys, "init", "mine", "--captions", "en,de", "--want", "uk,sw")
    assert [line.partition(":")[0] for line in start["missing"]] == [
        "images", "Ukrainian", "Swahili", "[match]", "[translate]", "[recaption]",
    ]  # fmt: skip
    options = {option["name"]: option for option in start["plan"]["options"]}
    assert start["size"] == "3.5b"
    assert start["samples"] == pytest.approx(options["3.5b"]["costs"]["samples"], rel=1e-3)
    assert options["3.5b"]["costs"]["samples"] == pytest.approx(10_240_000 * 5 / 7)
    assert options["3.5b"]["loss"]["low"] < options["3.5b"]["loss"]["value"] < options["3.5b"]["loss"]["high"]
    assert options["3.5b"]["score"]["value"] > options["0.4b"]["score"]["value"]
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "mine/recipe.toml"])
    assert caught.value.code == 1
    assert "[recaption]" in capsys.readouterr().out
    assert (there / "mine" / "recipe.toml").read_text().count("# [[bitext]]") == 2


def test_a_budget_chooses_the_size(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (budget, price) in enumerate((("60", "2"), ("5000", "3"))):
        words = ("--want", "fr,es", "--captions", "en,de", "--budget", budget, "--price-per-gpu-hour", price)
        start = ask(capsys, "init", str(there / str(number)), *words, "--currency", "EUR", "--gpus", "4")
        losses = {option["name"]: option["loss"]["value"] for option in start["plan"]["options"]}
        assert start["size"] == min(losses, key=losses.__getitem__)
        assert all(option["costs"]["money"] == pytest.approx(float(budget)) for option in start["plan"]["options"])
        study = (there / str(number) / "study.toml").read_text()
        assert f'sizes = ["{start["size"]}"]' in study
        assert 'currency = "EUR"' in study


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--want", "uk_UA.UTF-8"), "did you mean 'uk'?"),
        (("--want", "uk,uk"), "each once"),
        (("--want", "en"), "en: given in captions and in want"),
        (("--captions", "de", "--want", "en"), "English is the source of translations"),
        (("--want", "uk", "--size", "2b"), "size is '2b'"),
        (("--want", "uk", "--images", "none"), "none: no such file or folder"),
        (("--want", "uk", "--bitext", "none.uk.tsv"), "none.uk.tsv"),
        (("--want", "uk", "--bitext", "pairs.tsv"), "none of uk is in its name"),
        (("--want", "uk", "--budget", "-5"), "--budget is -5; expected a positive number"),
        (("--want", "uk", "--budget", "nan"), "--budget is nan"),
        (("--want", "uk", "--price-per-gpu-hour", "0"), "--price-per-gpu-hour is 0"),
        (("--want", "uk", "--gpus", "0"), "--gpus is 0"),
        (("--want", "uk", "--gpus", "7"), "--gpus is 7, which does not divide the batch of 1,024 samples"),
        (("--want", "uk", "--gpu", "H300"), "no rates of 'H300'"),
        (("--want", "uk", "--budget", "0.001"), "--budget 0.001 buys"),
        (("--want", "uk", "--budget", "0.001"), "less than one batch (1,024)"),
    ],
)
@pytest.mark.usefixtures("there")
def test_mistakes_of_init_are_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["init", "mine", *words])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("mine").exists()


@pytest.mark.usefixtures("there")
def test_a_file_in_place_of_the_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("notes")
    with pytest.raises(SystemExit) as caught:
        main(["init", "taken", "--want", "uk"])
    assert caught.value.code == 2
    assert "--out taken: taken is a file; name a folder" in capsys.readouterr().err


@pytest.mark.usefixtures("there")
def test_files_that_are_there_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", "mine", "--want", "uk"])
    Path("mine/run.toml").write_text("# mine\n")
    with pytest.raises(SystemExit):
        main(["init", "mine", "--want", "uk"])
    assert "already exists" in capsys.readouterr().err
    assert Path("mine/run.toml").read_text() == "# mine\n"
    main(["init", "mine", "--want", "uk", "--overwrite"])
    assert Path("mine/run.toml").read_text() != "# mine\n"


def test_doctor_without_a_question_and_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [check["name"] for check in ask_list(capsys, "doctor")]
    assert {"Python", "CPU", "memory", "disk", "GPU", "extra train", "extra ray"} <= set(names)
    main(["doctor", "--extras", "train,plots"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--extras", "trian"])
    assert caught.value.code == 2
    assert "did you mean 'train'?" in capsys.readouterr().err
    for content in ("x = [", "nothing = 1\n"):
        (tmp_path / "bad.toml").write_text(content)
        with pytest.raises(SystemExit) as caught:
            main(["doctor", str(tmp_path / "bad.toml"), str(tmp_path / "absent.toml")])
        assert caught.value.code == 1
        assert "correct the file" in capsys.readouterr().out


def test_doctor_names_the_files_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for advice in ("name the file", "name one of its files: study.toml"):
        with pytest.raises(SystemExit) as caught:
            main(["doctor", str(tmp_path), "--json"])
        assert caught.value.code == 1
        last = json.loads(capsys.readouterr().out)[-1]
        assert (last["state"], last["found"]) == ("missing", "a folder; expected a recipe, run or study (TOML)")
        assert last["advice"] == advice
        (tmp_path / "study.toml").touch()


def ask_list(capsys: pytest.CaptureFixture[str], *words: str) -> list:
    main([*words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_extras_are_those_of_the_package() -> None:
    import tomllib

    from polyglance.packages import EXTRA_MODULES

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(EXTRA_MODULES) == set(project["optional-dependencies"]) - {"dev", "docs"}


def put(folder: Path, texts: dict[int, dict[str, str]]) -> None:
    """Write texts beside images: number of the image -> language -> text."""
    for number, by_code in texts.items():
        for code, text in by_code.items():
            (folder / "my photos" / f"{number}.{code}.txt").write_text(text, encoding="utf-8")


def test_images_described_in_one_wanted_language_each_leave_none_for_training(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ukrainian, swahili = "На стіні висить малюнок птаха.", "Ukuta una picha ya ndege juu yake."
    put(there, {i: {"uk": ukrainian} if i % 2 else {"sw": swahili} for i in range(NUM_IMAGES - 1)})
    found = "\n".join(ask(capsys, "init", "mine", *WORDS, "news.en-sw.sw")["found"])
    assert "for measuring: 29 images with captions in Ukrainian, Swahili; 1 are left for training" in found
    put(there, {NUM_IMAGES - 1: {"uk": ukrainian}})
    with pytest.raises(SystemExit):
        main(["init", "other", *WORDS, "news.en-sw.sw"])
    error = capsys.readouterr().err
    assert "every image has captions in Ukrainian or Swahili, so none is left for training" in error
    assert error.count("\n") == 1


def test_a_language_with_captions_for_few_images_still_needs_the_translator(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--captions", "en,de", "--want", "uk", "--images", "my photos", "--bitext", "en-uk.tsv")
    german = "Das Bild zeigt eine Wand mit einer Zahl."
    texts = {i: {"de": german if i == 1 else " \n", "uk": "На стіні висить малюнок птаха."} for i in range(3)}
    put(there, texts)
    start = ask(capsys, "init", "one", *words)
    (line,) = (line for line in start["missing"] if line.startswith("[translate]"))
    assert f"a.de.txt for nearly all: 1 of {NUM_IMAGES} have one" in line  # blank files are no captions
    assert "[translate]" in Path("one/recipe.toml").read_text()
    put(there, {i: {"de": german} for i in range(NUM_IMAGES - 2)})
    start = ask(capsys, "init", "most", *words)
    assert not [line for line in start["missing"] if line.startswith("[translate]")]
    counts = f"of {NUM_IMAGES} images have captions of their own: German {NUM_IMAGES - 2}, Ukrainian 3"
    assert f"[translate]: not needed; {counts}" in start["found"]


def test_words_are_offered_only_where_images_have_english_texts(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, "init", "one", *WORDS, "news.en-sw.sw")
    recipe = Path("one/recipe.toml").read_text()
    assert 'kind = "words"' in recipe
    assert "An image without an English text gets no sentence" in recipe
    for number in range(NUM_IMAGES):
        (there / "my photos" / f"{number}.txt").write_text("null\n")
    start = ask(capsys, "init", "two", *WORDS, "news.en-sw.sw")
    assert 'kind = "words"' not in Path("two/recipe.toml").read_text()
    assert [line for line in start["missing"] if line.startswith("[match]")]
    assert [line for line in start["found"] if "written as nan, null or none: 30" in line]
