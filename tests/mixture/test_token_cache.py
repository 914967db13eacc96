"""Tokens on disk are the tokens that would be made: batches do not depend on where they are kept."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.config import MixtureConfig, SourceMasking
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.texts import Frames, MemoryTexts
from polyglance.mixture.token_cache import open_token_cache
from polyglance.mixture.tokenizer import read_training_texts, train_tokenizer

COVERAGE = Coverage(caption=("en",), translation=("en", "fr", "zh"))


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Tokenizer:
    return train_tokenizer(read_training_texts(world / "train", {"en", "fr", "zh"}), vocab_size=200)


def test_batches_are_the_same_with_tokens_in_memory_and_on_disk(
    world: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    def batches(cache: Path | None) -> list[list[torch.Tensor]]:
        config = MixtureConfig(batch_size=24, source_masking=SourceMasking(samples=0.4), token_cache=cache)
        frames = Frames(prompt_start=(7,), target_start=(2,))
        reader = ShardReader(world / "train")
        drawn = Mixture(config, COVERAGE, reader, tokenizer, image_size=32, seed=5, frames=frames)
        made = [drawn.batch(1), *(drawn.micro_batch(2, index, 3) for index in range(3))]
        return [[b.images, b.input_ids, b.attention_mask, b.labels, torch.from_numpy(b.cell)] for b in made]

    memory, disk, again = batches(None), batches(tmp_path), batches(tmp_path)
    for expected, *others in zip(memory, disk, again, strict=True):
        for other in others:
            assert all(torch.equal(a, b) for a, b in zip(expected, other, strict=True))
    assert (memory[0][1][:, 0] == 7).all()
    assert (memory[0][3][:, 0] == 2).all()


def test_the_cache_holds_what_the_memory_holds(world: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    reader = ShardReader(world / "train")
    disk = open_token_cache(reader, tokenizer, tokenizer, root=tmp_path)
    memory = MemoryTexts(reader, tokenizer, tokenizer)
    cells = (*COVERAGE.cells, Cell("caption", "de"))
    for cell, pool in memory.pools(cells).items():
        found = disk.pools(cells)[cell]
        assert (found.rows == pool.rows).all()
        assert (found.first == pool.first).all()
        assert (found.annotations == pool.annotations).all()
    numbers = np.arange(0, sum(reader.manifest.rows_per_cell.values()), 7)
    assert disk.tokens(numbers) == [(list(p), list(t)) for p, t in memory.tokens(numbers)]
    assert (disk.lengths(numbers) == memory.lengths(numbers)).all()
    assert (disk.group_starts() == memory.group_starts()).all()
    pool = memory.pools(cells)[Cell("translation", "fr")]
    for row, number in zip(pool.rows[:9].tolist(), pool.annotations[:9].tolist(), strict=True):
        assert disk.annotation(row, number) == memory.annotation(row, number)


def test_other_data_and_other_tokenizers_have_caches_of_their_own(
    world: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    other = train_tokenizer(["an other one"], vocab_size=200)
    for data, one, two in (
        ("train", tokenizer, tokenizer),
        ("test", tokenizer, tokenizer),
        ("train", tokenizer, other),
    ):
        open_token_cache(ShardReader(world / data), one, two, root=tmp_path)
    assert len(list(tmp_path.glob("tokens-*/tokens.json"))) == 3


def test_a_cache_that_was_not_finished_or_is_damaged_is_made_anew(
    world: Path, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = ShardReader(world / "train")
    folder = open_token_cache(reader, tokenizer, tokenizer, root=tmp_path).folder
    (folder / "tokens.json").unlink()
    shutil.copytree(folder, folder.with_name(folder.name + ".partial"))
    (folder / "targets.bin").write_bytes(b"")
    assert open_token_cache(reader, tokenizer, tokenizer, root=tmp_path).tokens(np.array([0]))[0][1]
    assert not folder.with_name(folder.name + ".partial").exists()
    content = (folder / "targets.bin").read_bytes()
    (folder / "targets.bin").write_bytes(b"1234")
    open_token_cache(reader, tokenizer, tokenizer, root=tmp_path)
    assert "a damaged token cache (targets.bin is not of" in capsys.readouterr().err
    (folder / "tokens.json").write_text(json.dumps({"format": 1}))
    open_token_cache(reader, tokenizer, tokenizer, root=tmp_path)
    assert "a damaged token cache" in capsys.readouterr().err
    assert (folder / "targets.bin").read_bytes() == content


def test_a_byte_that_changed_is_found_when_it_is_read(world: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """In a block of its own; the process that finds it ends, and the next one makes the cache anew."""
    reader = ShardReader(world / "train")
    cache = open_token_cache(reader, tokenizer, tokenizer, root=tmp_path)
    last = np.array(
        [len(cache.lengths(np.arange(10))) and len(np.asarray(cache._map("prompt_lengths", np.dtype("<u4")))) - 1]
    )
    path = cache.folder / "targets.bin"
    content = bytearray(path.read_bytes())
    assert len(content) > 3 * 4096
    content[-1] ^= 0x10
    path.write_bytes(content)
    damaged = open_token_cache(reader, tokenizer, tokenizer, root=tmp_path)
    assert damaged.tokens(np.array([0, 1])) == cache.tokens(np.array([0, 1]))
    with pytest.raises(ValueError, match=r"targets.bin: damaged or changed: the bytes from \d+ differ"):
        damaged.tokens(last)
    whole = open_token_cache(reader, tokenizer, tokenizer, root=tmp_path)
    content[-1] ^= 0x10
    assert path.read_bytes() == content
    assert whole.tokens(last)


def test_a_place_that_cannot_be_written_to_is_named(world: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written .*; set mixture.token_cache"):
        open_token_cache(ShardReader(world / "train"), tokenizer, tokenizer, root=tmp_path / "file")
