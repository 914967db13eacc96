"""Counts of a data set in the paper's manner: whole prompts and targets, in tokens."""

from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.data.shard import ShardReader, read_manifest
from polyglance.mixture.paper_counts import count_like_paper
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import train_tokenizer


def test_counts_are_those_of_every_prompt_and_target(world: Path, tmp_path: Path) -> None:
    annotations = [a for of_image in ShardReader(world / "train").annotations() for a in of_image]
    tokenizer = train_tokenizer((t for a in annotations for t in (a.text, prompt_of(a))), vocab_size=1024)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    counts = {cell.cell: cell for cell in count_like_paper(world / "train", path)}
    assert {name: cell.samples for name, cell in counts.items()} == dict(read_manifest(world / "train").rows_per_cell)
    for name, cell in counts.items():
        of_cell = [a for a in annotations if str(a.cell) == name]
        prompts = [len(tokenizer.encode(prompt_of(a)).ids) for a in of_cell]
        targets = [len(tokenizer.encode(a.text).ids) for a in of_cell]
        assert cell.mean_encoder_tokens == pytest.approx(sum(prompts) / len(of_cell))
        assert cell.mean_decoder_tokens == pytest.approx(sum(targets) / len(of_cell))
        assert (cell.max_encoder_tokens, cell.max_decoder_tokens) == (max(prompts), max(targets))


def test_from_the_command_line(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "stats", str(world / "train"), "--like-paper"])
    assert "give --tokenizer" in capsys.readouterr().err
    train_tokenizer(["a b"], vocab_size=64).save(str(tmp_path / "t.json"))
    main(["data", "stats", str(world / "train"), "--like-paper", "--tokenizer", str(tmp_path / "t.json")])
    assert "caption-en" in capsys.readouterr().out
