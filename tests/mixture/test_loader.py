"""Loader processes change nothing but the speed; bad data is replaced, counted, and in numbers stops the run."""

import io
import os
import signal
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader, ShardWriter
from polyglance.mixture import loader
from polyglance.mixture.collate import Batch
from polyglance.mixture.config import MixtureConfig, SourceMasking
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.loader import Loader
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import train_tokenizer
from polyglance.records import ImageRecord, annotations_from_texts

COVERAGE = Coverage(caption=("en", "de"), translation=("de",))
NUM_IMAGES = 96
IMAGE_BYTES = 24 * 24 * 3


def texts(number: int) -> dict[str, str]:
    return {"en": f"picture {'very ' * (number % 7)}{number}", "de": f"Bild {'sehr ' * (number % 5)}{number}"}


def jpeg(number: int) -> bytes:
    colours = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).resize((40 + number % 9, 30)).save(file, "JPEG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG whose header promises ten billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def write(folder: Path, images: dict[int, bytes], empty: Sequence[int] = ()) -> Path:
    """Ninety-six images in four shards of six row groups, some of them replaced, some with empty texts."""
    with ShardWriter(folder, source="test", licence="", rows_per_shard=24, rows_per_group=4) as writer:
        for number in range(NUM_IMAGES):
            annotations = annotations_from_texts({"en": "", "de": ""} if number in empty else texts(number))
            image = images.get(number, jpeg(number))
            writer.write(ImageRecord(key=str(number), image=image, annotations=annotations))
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    annotations = [a for n in range(NUM_IMAGES) for a in annotations_from_texts(texts(n))]
    return train_tokenizer((t for a in annotations for t in (a.text, prompt_of(a))), vocab_size=400)


def mixture(data: Path | ShardReader, tokenizer: Tokenizer, **settings: object) -> Mixture:
    """As for data that does not fit into memory."""
    usual = {"batch_size": 12, "image_memory_bytes": 0, "shuffle_window_images": 16, "max_bad_share": 1.0}
    config = MixtureConfig(**{**usual, **settings})  # type: ignore[arg-type]
    reader = data if isinstance(data, ShardReader) else ShardReader(data)
    return Mixture(config, COVERAGE, reader, tokenizer, image_size=24, seed=3)


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [batch.images, batch.input_ids, batch.attention_mask, batch.labels, torch.from_numpy(batch.cell)]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def loaded(drawn: Mixture, num_steps: int = 5, **settings: object) -> list[tuple[int, int, Batch]]:
    usual = {"first_step": 2, "num_steps": num_steps, "micro_batches": [0, 2], "num_micro_batches": 3, "num_workers": 0}
    with Loader(drawn, **{**usual, **settings}) as batches:  # type: ignore[arg-type]
        return list(batches)


def samples(batch: Batch) -> list[tuple[object, ...]]:
    """Each sample as something that can be compared, whatever it is padded to."""
    prompts = [
        tuple(row[mask.bool()].tolist()) for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    targets = [tuple(row[row >= 0].tolist()) for row in batch.labels]
    pixels = [image.numpy().tobytes() for image in batch.images]
    return list(zip(batch.cell.tolist(), prompts, targets, pixels, strict=True))


@pytest.mark.parametrize("window", [0, 16])
def test_the_micro_batches_of_a_step_are_its_samples(tmp_path: Path, tokenizer: Tokenizer, window: int) -> None:
    drawn = mixture(write(tmp_path / "set", {}), tokenizer, shuffle_window_images=window)
    for step, num in ((0, 1), (4, 2), (5, 3), (6, 12)):
        batches = [drawn.micro_batch(step, index, num) for index in range(num)]
        assert {len(batch.cell) for batch in batches} == {12 // num}
        found = [sample for batch in batches for sample in samples(batch)]
        assert sorted(found, key=repr) == sorted(samples(drawn.batch(step)), key=repr)
        if num == 3:  # samples of similar lengths: the ranges do not overlap
            lengths = sorted([len(target) for _, _, target, _ in samples(batch)] for batch in batches)
            assert all(max(a) <= min(b) for a, b in zip(map(sorted, lengths), map(sorted, lengths[1:]), strict=False))
    with pytest.raises(ValueError, match="12 samples does not divide into 5 micro-batches"):
        drawn.micro_batch(0, 0, 5)


def test_processes_and_kept_images_change_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = write(tmp_path / "set", {5: b"no image"})
    settings = {"source_masking": SourceMasking(samples=0.5), "token_cache": tmp_path / "tokens"}
    drawn = mixture(data, tokenizer, image_memory_bytes=10 * IMAGE_BYTES, **settings)
    fresh = mixture(data, tokenizer, **settings)
    expected = [(step, index, fresh.micro_batch(step, index, 3)) for step in (2, 3, 4) for index in (0, 2)]
    for num_workers in (0, 1, 4):
        found = loaded(drawn, num_workers=num_workers)
        assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
        assert all(same(a[2], b[2]) and a[2].bad == b[2].bad for a, b in zip(found, expected, strict=True))


@pytest.mark.slow  # torch looks after its processes every five seconds
def test_a_process_that_is_killed_costs_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    drawn = mixture(write(tmp_path / "set", {}), tokenizer)
    expected = [drawn.micro_batch(step, index, 3) for step in range(10) for index in range(3)]
    found = []
    with Loader(
        drawn, first_step=0, num_steps=10, micro_batches=[0, 1, 2], num_micro_batches=3, num_workers=2
    ) as batches:
        for step, index, batch in batches:
            found.append(batch)
            if (step, index) in ((0, 1), (5, 0)):
                os.kill(batches._results._workers[0].pid, signal.SIGKILL)  # type: ignore[union-attr]
    assert len(found) == 30
    assert all(map(same, found, expected))


class Deadly(Mixture):
    """A mixture whose batches cost the life of the process that makes them."""

    def micro_batch(self, step: int, index: int, num_micro_batches: int) -> Batch:
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().micro_batch(step, index, num_micro_batches)


@pytest.mark.slow
def test_a_batch_that_kills_every_process_is_an_error(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_MAX_DEATHS", 1)  # torch takes five seconds to notice each
    config = MixtureConfig(batch_size=12, image_memory_bytes=0)
    drawn = Deadly(config, COVERAGE, ShardReader(write(tmp_path / "set", {})), tokenizer, image_size=24, seed=0)
    with pytest.raises(ValueError, match="loader processes died 1 times at the same batch"):
        loaded(drawn, num_workers=1)


def test_bad_samples_are_replaced_counted_and_change_no_other(tmp_path: Path, tokenizer: Tokenizer) -> None:
    whole = mixture(write(tmp_path / "whole", {}), tokenizer)
    broken = {7: jpeg(7)[:200], 30: b"text", 50: bomb()}
    data = write(tmp_path / "broken", broken, empty=[60])
    drawn = mixture(data, tokenizer)
    num_bad, seen = 0, set()
    for step in range(40):
        batch, expected = drawn.batch(step), whole.batch(step)
        num_bad += len(batch.bad)
        seen |= {bad.reason for bad in batch.bad}
        assert (batch.cell == expected.cell).all()
        differ = [a != b for a, b in zip(samples(batch), samples(expected), strict=True)]
        assert sum(differ) == len(batch.bad)
        assert not any((image == 0).all() for image in batch.images)
        assert all((row >= 2).any() for row in batch.labels)
        again = mixture(data, tokenizer).batch(step) if step % 10 == 0 else batch
        assert same(batch, again)
    assert seen == {"image: truncated", "image: not an image", "image: too many pixels", "text: empty"}
    assert num_bad > 12
    with Loader(drawn, first_step=0, num_steps=40, micro_batches=[0, 1], num_micro_batches=2, num_workers=0) as batches:
        assert len(list(batches)) == 80
        assert batches.bad_samples.counts.total() == num_bad
        [where] = {place.partition(": ")[0].partition(", ")[2] for place in batches.bad_samples.examples["text: empty"]}
        assert where == "row 60"


def test_too_many_bad_samples_stop_the_run(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = write(tmp_path / "set", dict.fromkeys(range(6), b"text"))
    drawn = mixture(data, tokenizer, max_bad_share=0.01)
    message = r"12 of \d+ samples could not be used; max_bad_share is 0.01 \(image: not an image: 12, first .*row"
    with pytest.raises(ValueError, match=message):
        loaded(drawn, num_steps=60)
    only_bad = mixture(write(tmp_path / "bad", dict.fromkeys(range(NUM_IMAGES), b"text")), tokenizer)
    with pytest.raises(ValueError, match="65 samples in a row cannot be used; the first: image: not an image"):
        only_bad.batch(0)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "deleted"])
def test_a_damaged_shard_costs_its_own_images_only(tmp_path: Path, tokenizer: Tokenizer, damage: str) -> None:
    """Bytes flipped in a page cost a row group, a shard that was cut short or deleted all of its images."""
    whole = mixture(write(tmp_path / "whole", {}), tokenizer)
    data = write(tmp_path / "set", {})
    # Texts are cached, and one file is open at a time: the shard is looked at again whenever one of its images is.
    drawn = mixture(ShardReader(data, num_open_shards=1, num_kept_groups=1), tokenizer, token_cache=tmp_path / "tokens")
    shard = data / "shards" / "00002.parquet"
    content = shard.read_bytes()
    if damage == "flipped":
        place = content.index(jpeg(49)) + 300
        shard.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    elif damage == "truncated":
        shard.write_bytes(content[: len(content) // 2])
    else:
        shard.unlink()
    lost = range(48, 52) if damage == "flipped" else range(48, 72)
    num_bad = 0
    for step in range(24):  # every image once
        batch, expected = drawn.batch(step), whole.batch(step)
        num_bad += len(batch.bad)
        assert {bad.reason for bad in batch.bad} <= {"shard: cannot be read"}
        assert all("00002.parquet" in bad.where for bad in batch.bad)
        assert sum(a != b for a, b in zip(samples(batch), samples(expected), strict=True)) == len(batch.bad)
    assert num_bad == 3 * len(lost)


@pytest.mark.parametrize("num_kept", [16, 95])  # a window, and nearly all
def test_an_image_is_read_once_for_all_cells_of_its_window(tmp_path: Path, tokenizer: Tokenizer, num_kept: int) -> None:
    class Counted(ShardReader):
        rows: ClassVar[list[int]] = []

        def images(self, rows: Sequence[int]) -> list[bytes]:
            self.rows.extend(rows)
            return super().images(rows)

    data = write(tmp_path / "set", {})
    fresh = mixture(data, tokenizer)
    drawn = mixture(Counted(data), tokenizer, image_memory_bytes=num_kept * IMAGE_BYTES)
    for step in range(24):  # every image once by each cell
        assert same(drawn.batch(step), fresh.batch(step))
    assert sorted(Counted.rows) == list(range(NUM_IMAGES))


def test_images_kept_in_memory_are_looked_at_once_and_bad_ones_replaced(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = write(tmp_path / "set", {5: bomb(), 9: b"x"})
    kept = mixture(data, tokenizer, image_memory_bytes=2**30)
    fresh = mixture(data, tokenizer, decode="exact")
    assert kept.in_memory
    assert not fresh.in_memory
    for step in range(12):
        assert same(kept.batch(step), fresh.batch(step))
        assert kept.batch(step).bad == fresh.batch(step).bad
    assert any(kept.batch(step).bad for step in range(12))
