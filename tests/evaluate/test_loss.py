"""Losses per cell: the definitions, written out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.evaluate.cells import CellSamples, evaluated_cells, held_out_samples
from polyglance.evaluate.loss import VARIANTS, cell_losses, losses_to_dict, split_loss
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import BOS, EOS, train_tokenizer
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels

COVERAGE = Coverage(caption=("en",), translation=("en", "fr", "zh"))
PREFIX = "La photo montre"


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Tokenizer:
    table = ShardReader(world / "train").annotations()
    return train_tokenizer((t for a in table for x in a for t in (x.text, prompt_of(x))), vocab_size=1024)


@pytest.fixture(scope="module", params=["bart", "gemma2"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Polyglance:
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(decoder=request.param, width=16).build(tokenizer.get_vocab_size())).eval()
    for name, parameter in model.named_parameters():
        if "gate" in name:
            parameter.data.fill_(0.5)  # so that images count
    return model


@pytest.fixture(scope="module")
def processor(model: Polyglance, tokenizer: Tokenizer) -> Processor:
    return Processor.for_model(model.config, tokenizer)


@pytest.fixture(scope="module")
def samples(world: Path) -> CellSamples:
    reader = ShardReader(world / "test")
    return held_out_samples(reader, [Cell("caption", "fr")], image_size=32, samples_per_cell=7)[0]


def by_hand(
    model: Polyglance, tokenizer: Tokenizer, image: np.ndarray, prompt: str, start: str, text: str
) -> np.ndarray:
    """Token losses of `text` after `start`, one sample at a time, through the plain forward."""
    given = [BOS, *tokenizer.encode(start).ids]
    target = [*tokenizer.encode(text).ids, EOS]
    with torch.no_grad():
        logits = model(
            normalise_pixels(torch.from_numpy(image[None])),
            torch.tensor([[*tokenizer.encode(prompt).ids, EOS]]),
            decoder_input_ids=torch.tensor([[*given, *target[:-1]]]),
        ).logits[0]
    logs = logits[len(given) - 1 :].double().log_softmax(-1)
    return -logs[torch.arange(len(target)), torch.tensor(target)].numpy()


def test_every_variant_is_what_its_definition_says(
    model: Polyglance, tokenizer: Tokenizer, processor: Processor, samples: CellSamples
) -> None:
    losses = cell_losses(
        model,
        processor,
        samples,
        prefix=PREFIX,
        max_source_tokens=96,
        max_target_tokens=64,
        batch_size=len(samples.keys),
    )
    assert tuple(losses) == ("plain", "prefix", "shuffled", "prefix_shuffled")
    for name, loss in losses.items():
        images = np.roll(samples.images, 1, axis=0) if "shuffled" in name else samples.images
        rows, num_bytes = [], 0
        for image, annotation in zip(images, samples.annotations, strict=True):
            text, start = annotation.text, ""
            if name.startswith("prefix"):
                start, text = PREFIX, text.removeprefix(PREFIX)
            rows.append(by_hand(model, tokenizer, image, prompt_of(annotation), start, text))
            num_bytes += len(text.encode())
        assert loss.samples == len(rows)
        assert loss.tokens == sum(map(len, rows))
        assert loss.bytes == num_bytes
        assert loss.nats == pytest.approx(sum(row.sum() for row in rows), rel=1e-5)
        assert loss.mean_nats == pytest.approx(np.mean([row.mean() for row in rows]), rel=1e-5)
        assert loss.first_nats == pytest.approx(np.mean([row[0] for row in rows]), rel=1e-5)
    assert losses["plain"].mean_nats != pytest.approx(losses["shuffled"].mean_nats, rel=1e-5)


def test_a_prefix_that_texts_do_not_begin_with_is_put_before_them(
    model: Polyglance, tokenizer: Tokenizer, processor: Processor, samples: CellSamples
) -> None:
    loss = cell_losses(model, processor, samples, prefix="The image", max_source_tokens=96, max_target_tokens=64)[
        "prefix"
    ]
    rows = [
        by_hand(model, tokenizer, image, prompt_of(annotation), "The image", annotation.text)
        for image, annotation in zip(samples.images, samples.annotations, strict=True)
    ]
    assert loss.mean_nats == pytest.approx(np.mean([row.mean() for row in rows]), rel=1e-5)


def test_batches_change_nothing(model: Polyglance, processor: Processor, samples: CellSamples) -> None:
    sizes = [
        cell_losses(
            model,
            processor,
            samples,
            prefix=PREFIX,
            max_source_tokens=96,
            max_target_tokens=64,
            batch_size=size,
            variants=("plain", "prefix"),
        )
        for size in (2, 7)
    ]
    for name in ("plain", "prefix"):
        assert sizes[0][name].nats == pytest.approx(sizes[1][name].nats, rel=1e-6)


def test_cells_without_held_out_data_are_left_out_but_not_all_of_uc() -> None:
    """The paper has captions in two of its four unseen languages (section 5.1)."""
    have = {"caption-en": 3, "translation-zh": 3, "caption-zh": 2, "caption-fr": 0}
    cells = evaluated_cells(COVERAGE, have)
    assert [str(cell) for cell in cells] == ["caption-en", "translation-zh", "caption-zh"]
    with pytest.raises(ValueError, match="none of caption-fr, caption-zh, which UC is measured on"):
        evaluated_cells(COVERAGE, {"caption-en": 3})


def test_splits_weigh_their_cells_alike(model: Polyglance, processor: Processor, world: Path) -> None:
    reader = ShardReader(world / "test")
    cells = evaluated_cells(COVERAGE)
    assert [str(cell) for cell in cells] == [
        "caption-en",
        "translation-en",
        "translation-fr",
        "translation-zh",
        "caption-fr",
        "caption-zh",
    ]
    found = held_out_samples(reader, cells, image_size=32, samples_per_cell=5)
    losses = {
        str(s.cell): cell_losses(
            model, processor, s, prefix="", max_source_tokens=96, max_target_tokens=64, variants=("plain",)
        )
        for s in found
    }
    fr, zh = (losses[name]["plain"].mean_nats for name in ("caption-fr", "caption-zh"))
    assert split_loss(losses, COVERAGE, "UC", "plain") == pytest.approx((fr + zh) / 2)
    record = losses_to_dict(losses, COVERAGE)
    assert {name: cell["split"] for name, cell in record.items()} == {
        "caption-en": "SC",
        "translation-en": None,
        "translation-fr": "ST",
        "translation-zh": "ST",
        "caption-fr": "UC",
        "caption-zh": "UC",
    }
    assert set(VARIANTS) >= set(record["caption-fr"]["losses"])


def test_a_cell_without_held_out_images_is_named(world: Path) -> None:
    with pytest.raises(ValueError, match="no held-out image has caption-de"):
        held_out_samples(ShardReader(world / "test"), [Cell("caption", "de")], image_size=32, samples_per_cell=5)
