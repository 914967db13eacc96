"""Batches of a data set: samples belong together, and cells have their exact shares."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader, ShardWriter, read_records
from polyglance.mixture.collate import IGNORED, Batch
from polyglance.mixture.config import MixtureConfig, SourceMasking
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.images import square_pixels
from polyglance.mixture.prompts import prompt_of, write_prompt
from polyglance.mixture.texts import Frames
from polyglance.mixture.tokenizer import EOS, MASK, read_training_texts, train_tokenizer
from polyglance.records import Annotation, ImageRecord

COVERAGE = Coverage(caption=("en",), translation=("en", "fr", "zh"))


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Tokenizer:
    return train_tokenizer(read_training_texts(world / "train", {"en", "fr", "zh"}), vocab_size=1024)


def mixture(world: Path, tokenizer: Tokenizer, **settings: object) -> Mixture:
    config = MixtureConfig(batch_size=24, **settings)  # type: ignore[arg-type]
    return Mixture(config, COVERAGE, ShardReader(world / "train"), tokenizer, image_size=32, seed=5)


def texts(tokenizer: Tokenizer, batch: Batch) -> list[tuple[str, str]]:
    """Prompt and target of each sample."""
    prompts = tokenizer.decode_batch(batch.input_ids.tolist())
    targets = tokenizer.decode_batch(batch.labels.clamp(min=0).tolist())
    return list(zip(prompts, targets, strict=True))


def test_prompts_are_the_published_sentences() -> None:
    assert write_prompt("caption", "zh") == "The target language is simplified Chinese. What does the image describe?"
    expected = "The target language is Russian. Translate the following text: a dog"
    assert write_prompt("translation", "ru", source="a dog") == expected
    assert write_prompt("caption", "en", style="paragraph").endswith(
        "Describe with a paragraph what is shown in the image."
    )
    with pytest.raises(ValueError, match="needs the text to translate"):
        write_prompt("translation", "ru")


def test_lengths_in_frames_are_those_of_framed_ids() -> None:
    frames = Frames(prompt_start=(0,), prompt_end=(2, 3), target_start=(4, 5, 6), target_end=())
    sizes = np.array([[0, 1], [5, 2]])
    framed = [[len(frames.prompt(range(p), 99)), len(frames.target(range(t), 99))] for p, t in sizes.tolist()]
    assert frames.lengths(sizes).tolist() == framed


def test_samples_belong_together(world: Path, tokenizer: Tokenizer) -> None:
    """Image, prompt and target of every sample are those of one annotation of one image."""
    known = {
        (prompt_of(a), a.text): square_pixels(record.image, 32)
        for record in read_records(world / "train")
        for a in record.annotations
        if a.task == "translation"
    }
    drawn = mixture(world, tokenizer)
    batch = drawn.batch(2)
    for row, pair in enumerate(texts(tokenizer, batch)):
        cell = drawn.cells[batch.cell[row]]
        if cell.task == "translation":
            assert (batch.images[row].numpy() == known[pair]).all()
        else:
            assert pair[0] == write_prompt("caption", cell.language)
    assert (batch.attention_mask.sum(1) == (batch.input_ids != 0).sum(1)).all()
    lengths = (batch.labels != IGNORED).sum(1)
    assert (batch.labels[torch.arange(24), lengths - 1] == EOS).all()


def test_masking_hides_the_asked_share_of_words_of_translations_only(world: Path, tokenizer: Tokenizer) -> None:
    masked = mixture(world, tokenizer, source_masking=SourceMasking(samples=0.7, words=0.5))
    plain = mixture(world, tokenizer)
    hit, translations = 0, 0
    for step in range(20):
        batch, full = masked.batch(step), plain.batch(step)
        assert torch.equal(batch.labels, full.labels)
        for row, cell in enumerate(masked.cells[index] for index in batch.cell):
            num_hidden = int((batch.input_ids[row] == MASK).sum())
            if cell.task == "caption":
                assert num_hidden == 0
                continue
            translations += 1
            hit += num_hidden > 0
            if num_hidden:
                source = texts(tokenizer, full)[row][0].partition("text: ")[2]
                assert num_hidden == round(0.5 * len(source.split(" ")))
    assert hit / translations == pytest.approx(0.7, abs=0.05)


def test_several_annotations_of_an_image_take_turns(tmp_path: Path, tokenizer: Tokenizer, world: Path) -> None:
    image = next(iter(read_records(world / "train"))).image
    with ShardWriter(tmp_path / "set", source="test", licence="") as writer:
        for key in "ab":
            annotations = [
                Annotation(task="caption", language="en", text=f"The image shows {word}.") for word in ("red", "blue")
            ]
            writer.write(ImageRecord(key=key, image=image, annotations=tuple(annotations)))
    coverage = Coverage(caption=("en",))
    reader = ShardReader(tmp_path / "set")
    drawn = Mixture(MixtureConfig(batch_size=2), coverage, reader, tokenizer, image_size=32, seed=0)
    seen = Counter(text for step in range(4) for _, text in texts(tokenizer, drawn.batch(step)))
    assert set(seen.values()) == {4}


def test_samples_per_cell_are_counted_exactly(world: Path, tokenizer: Tokenizer) -> None:
    drawn = mixture(
        world,
        tokenizer,
        balance={str(cell): share for cell, share in zip(COVERAGE.cells, (3.0, 1.0, 1.0, 2.0), strict=True)},
    )
    counts = Counter(str(drawn.cells[index]) for step in range(9) for index in drawn.batch(step).cell)
    assert dict(counts) == drawn.samples_per_cell(9)


def test_data_without_a_covered_cell_is_an_error_that_names_it(world: Path, tokenizer: Tokenizer) -> None:
    coverage = Coverage(caption=("en", "de"))
    with pytest.raises(ValueError, match="no image for caption-de"):
        Mixture(MixtureConfig(), coverage, ShardReader(world / "train"), tokenizer, image_size=32, seed=0)
    assert Cell("caption", "de") in coverage.cells
