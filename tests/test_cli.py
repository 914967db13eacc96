"""The command line: which verbs there are, what data verbs do, and one line for every mistake."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import polyglance
from polyglance.cli import GROUPS, VERBS, main
from polyglance.cli.options import begin_options, describe_mistake
from polyglance.cli.project import begin

ROOT = Path(__file__).parents[1]


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    main(list(args))
    return capsys.readouterr().out


def options_of(help_page: str) -> list[str]:
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", help_page)) - {"--help"})


def test_verbs_and_options_are_these(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Options come from config dataclasses, so that a renamed field is a renamed option: it must be meant."""
    monkeypatch.setenv("COLUMNS", "400")  # no option is broken over two lines
    lines = []
    for verb in VERBS:
        with pytest.raises(SystemExit) as caught:
            main([*verb, "--help"])
        assert caught.value.code == 0
        lines.append(" ".join([*verb, *options_of(capsys.readouterr().out)]))
    assert lines == (Path(__file__).parent / "cli_options.txt").read_text().splitlines()


def test_the_menu_lists_each_verb_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ("", *GROUPS):
        with pytest.raises(SystemExit):
            main([*([group] if group else []), "--help"])
        listed = capsys.readouterr().out
        names = [verb[-1] for verb in VERBS if len(verb) == (2 if group else 1) and (not group or verb[0] == group)]
        for name in [*names, *(() if group else GROUPS)]:
            assert re.search(rf"{name} +[A-Z]", listed), name


def test_a_wrong_verb_is_an_error_that_names_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, right in ((["law", "fti"], "did you mean 'fit'?"), (["scroe", "--json"], "did you mean 'score'?")):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
        assert right in capsys.readouterr().err
    for incomplete in (["law"], []):
        with pytest.raises(SystemExit) as caught:
            main(incomplete)
        assert caught.value.code == 2


def test_version_and_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version") == f"polyglance {polyglance.__version__}\n"
    with pytest.raises(SystemExit) as caught:
        main(["--completion", "bash"])
    assert not caught.value.code
    script = capsys.readouterr().out
    assert "--frontier-window" in script
    assert "disambiguate" in script


def test_a_world_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--num-train-images", "6", "--num-test-images", "3", "--languages", "en,ru"]
    made = json.loads(printed(capsys, "data", "world", "--out", str(tmp_path), *size, "--json"))
    assert made["num_train_images"] == 6
    stats = json.loads(printed(capsys, "data", "stats", str(tmp_path / "train"), "--json"))
    assert {tuple(cell["cell"]): cell["num_texts"] for cell in stats["cells"]} == {
        (task, code): 6 for task in ("caption", "translation") for code in ("en", "ru")
    }
    assert "caption-ru" in printed(capsys, "data", "stats", str(tmp_path / "train"))


def test_a_dry_run_of_an_import_writes_nothing(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join((shared / "data/emoji/captions.jsonl").read_text().splitlines()[:20]))
    args = ("data", "import", "--dry-run", "--table", str(table), "--images", str(shared / "data/emoji"))
    plan = json.loads(printed(capsys, *args, "--out", str(tmp_path / "out"), "--json"))
    assert plan["num_good"] == 20
    assert "JSON lines, utf-8" in printed(capsys, *args, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_import_from_the_command_line(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (shared / "data/emoji/captions.jsonl").read_text().splitlines()[:20]
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join([*rows, "{broken"]))
    images = str(shared / "data/emoji")
    done = printed(
        capsys, "data", "import", "--table", str(table), "--images", images, "--out", str(tmp_path / "out"), "--json"
    )
    result = json.loads(done)
    assert result["num_train"] + result["num_test"] == 20
    assert sum(result["dropped_rows"].values()) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["data", "stats", "absent"], "absent: not a data set"),
        (["data", "world", "--out", "x", "--languages", "en,grman"], "did you mean 'de'?"),
        (["data", "world", "--out", "x", "--languages", "en,xx"], "the built-in world has en, de, fr, es, ru, zh, ar"),
        (["data", "import", "--out", "x"], "give table, or images"),
        (["data", "world", "--out", "x", "--styles", "short,long"], "--styles short,long: 'long' is not a choice"),
        (["study", "status", "absent.toml"], "absent.toml: no such file"),
        (
            ["data", "import", "--out", "x", "--table", "t.csv", "--background", "white"],
            "--background white: expected 3",
        ),
        (["law", "plan", "paper", "--max-flop", "1x"], "--max-flop 1x: '1x' is not a number; expected one such as 1e6"),
        (["law", "plan", "paper", "--max-samples", "0k"], "polyglance: --max-samples is 0; expected a positive number"),
        (["model", "card", "--size", "micro-32", "--devices", "1.5"], "--devices 1.5: '1.5' is not a whole number"),
        (
            ["model", "card", "--size", "micro-32", "--train-batch-size", "1.005k", "--devices", "2"],
            "a batch of 1,005 samples cannot be divided over 2 devices",
        ),
        (
            ["model", "card", "--size", "micro-32", "--beams", "1.0005k"],
            "--beams 1.0005k: '1.0005k' is not a whole number",
        ),
        (["model", "card", "--size", "micro-32", "--beams", "inf"], "--beams inf: 'inf' is not a whole number"),
        (["caption", "--model", "x"], "no image was given"),
        (["caption", "a.png", "--model", "x", "--lang", " ,"], "--lang names no language"),
        (["caption", "a.png", "--model", "x", "--beams", "0"], "beams is 0"),
        (["caption", "a.png", "--model", "x", "--device", "tpu"], "the device 'tpu' cannot be used: expected auto"),
        (["translate", "--image", "a.png", "--model", "x", "--lang", "de"], "no text was given"),
        (["model", "card", "--size", "micro-32", "--image-size", "-1"], "--image-size is -1"),
        (["model", "card", "--size", "micro-32", "--devices", "0"], "devices is 0; expected a positive number"),
        (["train", "x.toml", "--dry-run", "--profile"], "give one of them"),
        (["train", "x.toml", "--profile", "--steps", "0"], "--steps is 0"),
        (["law", "fit", "t.csv", "--plot_x", "a", "--plot-x", "b"], "--plot-x is given 2 times"),
        (["train", "x.toml", "--steps", "5"], "--steps has no effect without --dry-run or --profile"),
        (["data", "stats", "x", "--decoder-tokenizer", "t"], "--decoder-tokenizer has no effect without --like-paper"),
        (["data", "build", "x.toml", "--gpus-per-worker", "1"], "--gpus-per-worker has no effect without --ray"),
        (["model", "convert", "--to-published", "x", "--out", "y", "--unsafe-pickle"], "--unsafe-pickle has no effect"),
        (["score", "--hyps", "x", "--refs", "x", "--lang", "en", "--bootstrap", "1"], "at least 20"),
        (["score", "--hyps", "x", "--refs", "x", "--lang", "en", "--metrics", "CIDEr"], "did you mean 'cider'?"),
        (["score", "--hyps", "x", "--refs", "x", "--lang", "kr"], "did you mean 'ko'?"),
        (["data", "world", "--out", "x", "--languages", "zh-TW"], "written in the script Hant"),
        (["score", "--hyps", "x", "-", "--refs", "x", "--lang", "en"], "-: standard input is not read"),
        (["score", "--hyps", "x", "--refs", "-", "--lang", "en"], "--refs -: standard input is not read"),
        (["score", "--scores=-"], "--scores -: standard input is not read"),
        (["law", "fit", "-"], "-: standard input is not read"),
        (["data", "import", "--table", "-", "--out", "x"], "--table -: standard input is not read"),
        (["caption", "-", "--model", "micro"], "-: standard input is not read"),
        (["results", "mine= "], "mine= : expected a folder, or NAME=FOLDER with both a name and a folder"),
        (["results", "mine=-"], "standard input is not read, nor standard output written; name a file"),
        (
            ["results", "--out", "s3://bucket/t.md"],
            "--out s3:/bucket/t.md: a URL; results are written to folders of this",
        ),
        (["data", "world", "--out", "gs://bucket/w"], "a URL; results are written to folders of this machine"),
        (
            ["law", "make", "--set", "E=1,A=1,B=1,alpha=1,beta=1", "--out", "l.json.gz"],
            "expected a file name that ends in",
        ),
        (["results", "--out", "-"], "--out -: standard input is not read, nor standard output written; name a file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ["results", "--out"],
        ["law", "fit", "absent.csv", "--out"],
        ["law", "fit", "absent.csv", "--plot"],
        ["law", "make", "--form", "product", "--set", "b0=1", "--out"],
        ["law", "plan", "paper", "--plot"],
        ["law", "plan", "paper", "--page"],
        ["eval", "loss", "--model", "absent", "--data", "absent", "--out"],
        ["data", "audit", "absent", "--out"],
        ["score", "--hyps", "absent", "--refs", "absent", "--lang", "en", "--explain", "1", "--explain-page"],
    ],
    ids=lambda args: " ".join((*args[:2], args[-1])),
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of another content, a folder, and a place in a file; inputs, which are absent, are not looked at."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.md").mkdir()
    for name in ("t.xlsx", "folder.md", "file/t.json", "file/t.svg", "file/t.html"):
        with pytest.raises(SystemExit) as caught:
            main([*args, str(tmp_path / name)])
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith(f"polyglance: {args[-1]} {tmp_path / name}: ")
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.md"]


def test_a_message_names_the_options_of_its_own_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """`law plan` has an option --max-money, and `init` has none: an earlier verb changes no message of a later one."""
    with pytest.raises(SystemExit):
        main(["law", "plan", "none.csv", "--max-money", "-1"])
    assert "--max-money is -1" in capsys.readouterr().err
    begin_options(begin)
    assert describe_mistake(ValueError("max_money is -1; see `budget`")) == "max_money is -1; see --budget"


def test_what_the_disk_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out/train/manifest.json")

    monkeypatch.setattr("polyglance.cli.data.generate", fail)
    with pytest.raises(SystemExit) as caught:
        main(["data", "world", "--out", "out"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "polyglance: No space left on device: out/train/manifest.json\n"


@pytest.mark.parametrize(
    "verb",
    [
        "data world --out",
        "data import --table absent.csv --out",
        "data build build-small.toml --set",
        "eval caption --benchmark xm3600 --model absent --root . --out",
        "model convert --from-published absent --out",
        "model assemble --florence absent --gemma absent --out",
        "score --hyps absent --refs absent --lang en --out",
        "study run micro.toml --set",
        "train run.toml --set",
        "init --want uk",
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_before_any_work(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the place of a file, in a file, and named as a file is."""
    monkeypatch.chdir(ROOT / "examples")
    (tmp_path / "file").write_text("")
    for name in ("file", "file/x/y", "new.json"):
        out = tmp_path / name
        with pytest.raises(SystemExit) as caught:
            main([*verb.split(), f"out={out}" if verb.endswith("--set") else str(out)])
        error = capsys.readouterr().err
        assert caught.value.code == 2
        assert re.search(rf"out`? {out}: ({tmp_path}/file is a file; name|the name of a file; expected)", error)
        assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["data", "world", "--out", ""], "--out: expected a path, got ''; the current folder is written ."),
        (["data", "world", "--out="], "--out: expected a path, got ''"),
        (["score", "--hyps", "", "a", "--refs", "b"], "--hyps: expected a path, got ''"),
        (["law", "fit", " "], "argument: expected a path, got ' '"),
        (["study", "plan", ""], "argument: expected a path, got ''"),
        (["caption", "", "--model", "micro"], "argument: expected a path, got ''"),
        (["results", ""], "expected a path, got ''"),
        (["law", "predict", ""], "'': no such file; published laws: "),
        (["law", "plan", "paper", "--downstream", ""], "'': no such file; published laws: "),
        (["eval", "caption", "--model", "", "--benchmark", "xm3600", "--root", ".", "--out", "x"], "model is ''"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert exit_info.value.code == 2
    assert not list(tmp_path.iterdir())


def test_numbers_of_all_options_are_written_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """An amount, a count, one that may be left out, and a value of --at: as tables have them."""

    def plan(budget: str, gpus: str, cells: str, at: str) -> str:
        options = ["--max-flop", budget, "--gpus", gpus, "--cells", cells, "--at", f"T={at}"]
        return printed(capsys, "law", "plan", "paper", "--json", *options)

    plain = plan("1000000000000000000000", "2000", "11", "6.02")
    assert plan("1000000000T", "2k", "11.0", "6.02") == plan("1e21", "2e3", "1.1e1", "602%") == plain
    assert plan("2000000000T", "2k", "11", "6.02") != plain


@pytest.mark.parametrize(
    "words",
    [
        ["law", "plan", "paper", "--target", "2", "--max-memory-gb", "24G"],
        ["law", "plan", "paper", "--max-gmac=1T"],
        ["law", "plan", "paper", "--max_hours", "5m"],
        ["model", "card", "--size", "0.4b", "--device-gb", "80 GB"],
        ["study", "plan", "none.toml", "--away-minutes", "5%"],
    ],
)
def test_an_option_whose_name_has_a_unit_takes_a_number_alone(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """24G would be 24e9 GB: no limit at all."""
    with pytest.raises(SystemExit) as exit_info:
        main(words)
    assert "the name of the option has the unit; write the number alone" in capsys.readouterr().err
    assert exit_info.value.code == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["study", "status", "."], ".: is a folder; expected a TOML file"),
        (["study", "report", "."], ".: is a folder; expected a TOML file"),
        (["study", "status", "file"], "file: the key 'out' is missing"),
        (["law", "fit", "."], ".: is a folder; expected a file with a table"),
        (["law", "columns", "runs.csv"], "runs.csv: is a folder; expected a file with a table"),
        (["law", "predict", "."], ".: is a folder; expected a file"),
        (["law", "plan", "paper", "--candidates", "."], ".: is a folder; expected a file with a table"),
        (["law", "fit", "none.csv", "--out", "."], "--out .: a folder; name a file that ends in "),
        (["law", "plan", "paper", "--page", "page.html"], "--page page.html: a folder; name a file that ends in .html"),
        (["results", "none", "--out", "."], "--out .: a folder; name a file that ends in "),
        (["model", "card", "--size", "runs.csv"], "runs.csv: no config.json in it; expected a model's folder"),
        (["model", "card", "--size", "file"], "file: a file; expected a model's folder"),
    ],
)
def test_a_folder_for_a_file_and_a_file_for_a_folder(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs.csv", "page.html"):
        Path(name).mkdir()
    Path("file").touch()
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert exit_info.value.code == 2


def test_memory_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The errors are numpy's and torch's own; an error of another kind stays one."""
    for allocate in (lambda: np.empty(2**55, np.uint8), lambda: torch.empty(2**55, dtype=torch.uint8)):
        monkeypatch.setattr("polyglance.cli._run", lambda _, allocate=allocate: allocate())
        with pytest.raises(SystemExit) as exit_info:
            main(["train"])
        assert exit_info.value.code == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("polyglance: not enough memory: ")
    monkeypatch.setattr("polyglance.cli._run", lambda _: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        main(["train"])


def test_help_is_light() -> None:
    """The menu loads no numpy, and no help page loads torch or transformers, which take seconds."""
    code = """
import contextlib, io, sys
from polyglance.cli import VERBS, main

def show_help(*words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([*words, "--help"])

show_help()
show_help("law")
assert not {"numpy", "torch", "transformers", "pyarrow"} & set(sys.modules)
for verb in VERBS:
    show_help(*verb)
    assert not {"torch", "transformers"} & set(sys.modules), verb
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_commands_in_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^polyglance ((?:[a-z]+ ?){1,2})", text, re.M)
    assert commands
    for command in commands:
        words = command.split()
        verb = words[:2] if words[0] in GROUPS else words[:1]
        with pytest.raises(SystemExit) as caught:
            main([*verb, "--help"])
        assert caught.value.code == 0
        capsys.readouterr()
    for target in re.findall(r"^make ([a-z-]+)", text, re.M):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
