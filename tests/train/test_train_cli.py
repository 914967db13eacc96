"""`polyglance train`: training with measuring, the tokenizer it makes, dry run and profile."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from polyglance.cli import main
from polyglance.data.shard import ShardReader
from polyglance.model.generate import PolyglanceCaptioner
from polyglance.model.processor import Processor
from polyglance.train.phases import PHASES
from tests.train.runs import call_torchrun, read_rows

TOML = """
out = "{out}"
data = "{world}/train"
tokenizer = "{tokenizer}"
num_samples = 96
save_every_steps = 5

[coverage]
caption = ["en"]
translation = ["fr", "zh"]

[start.model]
width = 16
decoder = "gemma2"

[mixture]
batch_size = 8

[engine]
device = "cpu"
peak_tflops = "measured"
"""
EVALUATION = """
[evaluation]
samples_per_cell = 8
captions_per_cell = 4
max_new_tokens = 4
"""
Train = Callable[..., Any]


@pytest.fixture
def train(world: Path, tokenizer_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Run the verb on a file and return what it prints as JSON."""
    path = tmp_path / "run.toml"
    text = TOML.format(out=tmp_path / "run", world=world, tokenizer=tokenizer_path)

    def run(*args: str, evaluated: bool = False) -> Any:
        path.write_text(f'test = "{world}/test"\n{text}{EVALUATION}' if evaluated else text)
        main(["train", str(path), "--json", *args])
        return json.loads(capsys.readouterr().out)

    return run


def test_a_run_is_measured_before_and_after(train: Train, tmp_path: Path) -> None:
    result = train("--set", "best=UC", evaluated=True)
    run = tmp_path / "run"
    record = json.loads((run / "losses.json").read_text())
    assert set(record["initial"]) == {"caption-fr", "caption-zh"}
    unseen = [record["cells"][cell]["losses"]["plain"]["mean_nats"] for cell in ("caption-fr", "caption-zh")]
    assert result["losses"]["UC"] == pytest.approx(sum(unseen) / 2)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best", "final"}
    rows = read_rows(run)
    assert [row["step"] for row in rows if "validation" in row] == [5, 10]
    assert 0 < rows[-1]["mfu"] < 1
    assert len(rows[-1]["gates"]) == 2
    # The same command does not train a finished run again.
    before = (run / "checkpoints" / "final" / "model.safetensors").stat().st_mtime_ns
    assert train(evaluated=True)["losses"] == result["losses"]
    assert (run / "checkpoints" / "final" / "model.safetensors").stat().st_mtime_ns == before


def test_a_micro_run_without_a_tokenizer_makes_one(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TOML.format(out=tmp_path / "run", world=world, tokenizer="")
    (tmp_path / "run.toml").write_text(text.replace('tokenizer = ""\n', ""))
    command = ["train", str(tmp_path / "run.toml"), "--json"]
    main([*command, "--dry-run"])
    path = tmp_path / "run" / "tokenizer-1024.json"
    content = path.read_bytes()
    path.write_bytes(b"of other data")  # nothing depends on it yet: it is made again
    capsys.readouterr()
    main(command)
    model = Path(json.loads(capsys.readouterr().out)["model"])
    assert path.read_bytes() == content
    assert Processor.load(model).decoder_tokenizer.get_vocab() == Tokenizer.from_str(content.decode()).get_vocab()
    with pytest.raises(SystemExit):
        main([*command, "--set", "vocab_size=30"])
    assert "holds a run with other settings (tokenizer has other content: " in capsys.readouterr().err


@pytest.mark.slow
def test_the_first_of_two_processes_makes_the_tokenizer(world: Path, tmp_path: Path) -> None:
    text = TOML.format(out=tmp_path / "run", world=world, tokenizer="")
    (tmp_path / "run.toml").write_text(text.replace('tokenizer = ""\n', ""))
    call_torchrun(2, "-m", "polyglance", "train", str(tmp_path / "run.toml"))
    assert (tmp_path / "run" / "tokenizer-1024.json").exists()
    assert (tmp_path / "run" / "checkpoints" / "final" / "model.safetensors").exists()


def test_a_finished_run_captions_and_its_folder_is_not_used_by_another_run(
    train: Train, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train()
    (tmp_path / "image.png").write_bytes(ShardReader(world / "test").images([0])[0])
    (caption,) = PolyglanceCaptioner.load(result["model"]).caption([tmp_path / "image.png"], ["fr"])
    assert caption.error is None
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(SystemExit):
        train("--set", "optim.lr=0.5", "--set", "seed=7", "--set", "save_every_steps=3")
    error = capsys.readouterr().err
    assert "optim.lr is 0.0015 there and 0.5 now, seed is 0 there and 7 now)" in error
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == files
    train("--set", "save_every_steps=3", "--set", "engine.num_workers=1")


def test_a_trained_model_captions(train: Train, tmp_path: Path, world: Path) -> None:
    from polyglance.data.shard import ShardReader
    from polyglance.model import PolyglanceCaptioner

    result = train()
    (tmp_path / "image.png").write_bytes(ShardReader(world / "test").images([0])[0])
    (caption,) = PolyglanceCaptioner.load(result["model"]).caption([tmp_path / "image.png"], ["fr"])
    assert caption.error is None


def test_a_dry_run_needs_no_model(train: Train, tmp_path: Path) -> None:
    result = train("--dry-run", "--steps", "9", "--set", "engine.micro_batch_size=4")
    assert result["num_samples"] == 72
    assert result["samples_per_cell"] == {"caption-en": 24, "translation-fr": 24, "translation-zh": 24}
    assert 0 < result["padding_share"] < 0.5
    assert result["source_tokens"]["mean"] < result["source_tokens"]["longest"] <= 96
    assert not (tmp_path / "run").exists()


def test_a_profile_has_the_time_of_each_phase_and_leaves_nothing(train: Train, tmp_path: Path) -> None:
    result = train("--profile", "--steps", "6")
    assert tuple(result["seconds"]) == PHASES
    assert all(seconds > 0 for phase, seconds in result["seconds"].items() if phase != "host to device")
    assert result["last_row"]["step"] == 6
    kernels = result["kernels"]
    assert kernels["steps"] == 3
    assert kernels["launches_per_step"] > 100
    assert 1 <= kernels["num_shapes"] <= 3 * 4
    assert {"matrix products", "lookups and sorting"} <= kernels["ms_per_step"].keys()
    assert kernels["idle_share"] is None
    assert not (tmp_path / "run" / "profile").exists()
