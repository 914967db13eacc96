"""This project's models as evaluations ask them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_models import assembled_folder

from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader
from polyglance.engines import Failure, ModelConfig, Picture, open_model
from polyglance.engines.protocol import TextLoss
from polyglance.evaluate.cells import read_held_out
from polyglance.evaluate.config import LossConfig
from polyglance.evaluate.folder_loss import measure_folder
from polyglance.mixture.prompts import write_prompt
from polyglance.model import PolyglanceCaptioner
from polyglance.model.config import GenerateConfig
from polyglance.model.engine import PolyglanceEngine
from polyglance.model.generate import generate_ids

SOURCES = ["the dog runs", "cat", "a cat sits on the mat"]
CANDIDATES = [["eine Katze", "der Hund"], ["auf der Matte", "a"], ["the", "the mat the mat"]]


@pytest.fixture(scope="module")
def folder(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled_folder(sources, tmp_path_factory.mktemp("own") / "model")


def opened(folder: Path, **settings: object) -> PolyglanceEngine:
    model = open_model(ModelConfig(**{"model": str(folder), "max_new_tokens": 6, "beams": 2, **settings}))
    assert isinstance(model, PolyglanceEngine)
    return model


def test_prefix_is_given_and_not_part_of_the_caption(folder: Path, pictures: Sequence[Picture], tmp_path: Path) -> None:
    captions = opened(folder, prefix="auto").write_captions(pictures, "es")
    captioner = PolyglanceCaptioner.load(folder)
    model = opened(folder, prefix="auto")
    words = captioner.processor.decoder_tokenizer
    given = words.decode(words.encode("La imagen muestra", add_special_tokens=False).ids)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        file = tmp_path / f"{number}.png"
        file.write_bytes(picture.encoded)
        (result,) = captioner.caption([file], ["es"], config=model._generate)
        assert (result.text or "").startswith(given)
        rest = (result.text or "")[len(given) :].strip()
        assert caption == rest[:1].upper() + rest[1:]
    assert opened(folder).write_captions(pictures, "es") != captions


def test_batches_change_nothing(folder: Path, pictures: Sequence[Picture]) -> None:
    model = opened(folder)
    together = model.write_translations(pictures, SOURCES, "de")
    assert together == [model.write_translations([p], [s], "de")[0] for p, s in zip(pictures, SOURCES, strict=True)]
    assert len(set(together)) > 1
    assert all(text[:1] == text[:1].upper() for text in together if isinstance(text, str))
    losses = model.measure_losses(pictures, SOURCES, CANDIDATES, "de")
    for picture, source, texts, found in zip(pictures, SOURCES, CANDIDATES, losses, strict=True):
        (alone,) = model.measure_losses([picture], [source], [texts], "de")
        assert [loss.num_tokens for loss in found] == [loss.num_tokens for loss in alone]
        assert [loss.nats for loss in found] == pytest.approx([loss.nats for loss in alone], rel=1e-5)


def test_loss_is_that_of_training(folder: Path, pictures: Sequence[Picture]) -> None:
    """Labels `<bos> text <eos>` after the start token (official code 1.9 and 4.3), by the model's own forward."""
    model = opened(folder)
    ((loss, _),) = model.measure_losses(pictures[:1], SOURCES[:1], CANDIDATES[:1], "de")
    polyglance, processor = model.captioner.model, model.captioner.processor
    ids, mask = processor.prompts([write_prompt("translation", "de", source=SOURCES[0])])
    words = processor.decoder_tokenizer.encode(CANDIDATES[0][0], add_special_tokens=False).ids
    labels = torch.tensor([[2, *words, 1]])
    with torch.no_grad():
        pixels = model._features(pictures[:1])
        mean = polyglance(image_features=pixels, input_ids=ids, attention_mask=mask, labels=labels).loss
    assert isinstance(loss, TextLoss)
    assert loss.num_tokens == labels.shape[1]
    assert loss.nats / loss.num_tokens == pytest.approx(float(mean), rel=1e-5)


def test_image_and_source_are_encoded_once(folder: Path, pictures: Sequence[Picture]) -> None:
    model = opened(folder)
    rows: list[int] = []
    model.captioner.model.encoder.register_forward_hook(
        lambda module, args, out: rows.append(len(out.last_hidden_state))
    )
    model.captioner.model.vision_tower.register_forward_hook(lambda module, args, out: rows.append(-1))
    model.measure_losses(pictures, SOURCES, CANDIDATES, "de")
    assert rows == [-1, 3]


def test_too_long_a_source_fails_its_own_row(folder: Path, pictures: Sequence[Picture]) -> None:
    model = opened(folder)
    long = "the dog runs " * 300
    alone = model.write_translations(pictures[:1], SOURCES[:1], "de")
    found = model.write_translations(pictures[:2], [SOURCES[0], long], "de")
    assert found[0] == alone[0]
    assert isinstance(found[1], Failure)
    assert "tokens; the encoder takes" in found[1].reason
    losses = model.measure_losses(pictures[:2], [long, SOURCES[0]], [["a", "the"]] * 2, "de")
    assert isinstance(losses[0], Failure)
    assert not isinstance(losses[1], Failure)
    assert isinstance(model.write_translations(pictures[:1], [long], "de")[0], Failure)


def test_resolution(folder: Path, pictures: Sequence[Picture]) -> None:
    model = opened(folder, resolution=96)
    assert model.facts("caption", "de")["resolution"] == 96
    assert model._features(pictures[:1]).shape[1] == 1 + 3 * 3
    assert model.captioner.processor.config.max_prompt_tokens == 512 - 10
    assert opened(folder).facts("caption", "de")["resolution"] == 224


def test_facts(folder: Path) -> None:
    facts = opened(folder, prefix="auto").facts("caption", "fr")
    assert facts["prefix"] == "La photo montre"
    assert facts["prompt"] == "The target language is French. What does the image describe?"
    assert opened(folder, prefix="auto").facts("translation", "fr")["prefix"] == ""
    assert "beams" not in opened(folder).facts("disambiguation", "fr")


def test_losses_of_a_data_set_are_the_same(folder: Path, world: Path) -> None:
    """`eval loss` and disambiguation read prompts and texts alike, with two tokenizers as well."""
    reader = ShardReader(world / "test")
    record = measure_folder(LossConfig(model=folder, data=world / "test", samples_per_cell=4, batch_size=3))
    cell = record.cells[Cell("translation", "fr")].losses["plain"]
    (samples,) = read_held_out(reader, [Cell("translation", "fr")], image_size=224, samples_per_cell=4)
    pictures = [Picture(encoded=b"", rgb=Image.fromarray(pixels)) for pixels in samples.images]
    sources = [one.source or "" for one in samples.annotations]
    losses = opened(folder).measure_losses(pictures, sources, [[one.text] for one in samples.annotations], "fr")
    found = [loss for row in losses if not isinstance(row, Failure) for loss in row]
    assert cell.tokens == sum(loss.num_tokens for loss in found)
    assert cell.nats == pytest.approx(sum(loss.nats for loss in found), rel=1e-5)
    assert cell.mean_nats == pytest.approx(sum(loss.nats / loss.num_tokens for loss in found) / 4, rel=1e-5)


def test_devices_that_are_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match="the device 'gpu' cannot be used"):
        opened(folder, device="gpu")


def test_candidates_longer_than_the_decoder_fail_their_row(
    folder: Path, pictures: Sequence[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(folder)
    monkeypatch.setattr(model.captioner.model.config.decoder_config, "max_position_embeddings", 12)
    short, long = model.measure_losses(pictures[:2], SOURCES[:2], [["a", "the"], ["a", "the dog runs " * 4]], "de")
    assert not isinstance(short, Failure)
    assert isinstance(long, Failure)
    assert "tokens; the decoder takes 12" in long.reason
    features = model._features(pictures[:1])
    ids = generate_ids(
        model.captioner.model, model.captioner.processor, ["a"], features, prefix="", config=GenerateConfig()
    )
    assert ids.shape[1] <= 12, "and texts end where the positions do"
