"""`polyglance train`: what the file asks for is done and measured; dry run and profile say what they promise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from polyglance.cli import main
from polyglance.model.processor import Processor
from tests.train.runs import write_tokenizer

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
def train(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Run the verb on a file and give back what it prints as JSON."""
    path = tmp_path / "run.toml"
    text = TOML.format(out=tmp_path / "run", world=world, tokenizer=write_tokenizer(world, tmp_path))

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
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation" in row] == [5, 10]
    assert 0 < rows[-1]["mfu"] < 1
    assert len(rows[-1]["gates"]) == 2
    # Once it is finished, the same command measures no model again but the finished one.
    before = (run / "checkpoints" / "final" / "model.safetensors").stat().st_mtime_ns
    assert train(evaluated=True)["losses"] == result["losses"]
    assert (run / "checkpoints" / "final" / "model.safetensors").stat().st_mtime_ns == before


def test_a_micro_run_makes_the_tokenizer_it_is_not_given(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TOML.format(out=tmp_path / "run", world=world, tokenizer="")
    (tmp_path / "run.toml").write_text(text.replace('tokenizer = ""\n', ""))
    command = ["train", str(tmp_path / "run.toml"), "--json"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main(command)
    assert "make it with one process first" in capsys.readouterr().err
    monkeypatch.delenv("WORLD_SIZE")
    main([*command, "--dry-run"])
    path = tmp_path / "run" / "tokenizer-1024.json"
    made = path.read_bytes()
    path.write_bytes(b"of other data")  # nothing depends on it yet: it is made again
    capsys.readouterr()
    main(command)
    model = Path(json.loads(capsys.readouterr().out)["model"])
    assert path.read_bytes() == made
    assert Processor.load(model).decoder_tokenizer.get_vocab() == Tokenizer.from_str(made.decode()).get_vocab()
    with pytest.raises(SystemExit):
        main([*command, "--set", "vocab_size=30"])
    assert "holds a run with other settings (tokenizer is " in capsys.readouterr().err


def test_a_folder_of_another_run_is_left_as_it_is(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train()
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
    found = train("--dry-run", "--steps", "9", "--set", "engine.micro_batch_size=4")
    assert found["num_samples"] == 72
    assert found["samples_per_cell"] == {"caption-en": 24, "translation-fr": 24, "translation-zh": 24}
    assert 0 < found["padding_share"] < 0.5
    assert found["source_tokens"]["mean"] < found["source_tokens"]["longest"] <= 96
    assert not (tmp_path / "run").exists()


def test_a_profile_shares_out_the_time_and_leaves_nothing(train: Train, tmp_path: Path) -> None:
    found = train("--profile", "--steps", "6")
    assert set(found["seconds"]) == {
        *("data wait", "host to device", "forward", "backward", "optimiser", "checkpoint", "log")
    }
    assert all(found["seconds"][phase] > 0 for phase in ("data wait", "forward", "backward", "optimiser", "checkpoint"))
    assert not (tmp_path / "run" / "profile").exists()
