"""Training moves what is trained, in any precision; a language model becomes the start of a decoder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyglance.distributed import RuntimeConfig
from polyglance.model.components import COMPONENTS, find_component
from polyglance.model.micro import MicroConfig
from polyglance.train.config import LanguageModelConfig, StartConfig, VisionCacheConfig
from polyglance.train.language_model import train_language_model
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.start import make_model
from tests.train.runs import read_rows, small_run


def test_training_moves_what_is_trained_and_nothing_else(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    frozen = ("vision", "decoder")
    start = StartConfig(
        model=MicroConfig(decoder="gemma2", width=16), trained=tuple(c for c in COMPONENTS if c not in frozen)
    )
    config = small_run(world, tokenizer_path, start=start, optim=OptimConfig(lr=1e-2))
    before, after = make_model(config), train(config, tmp_path)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new) == (find_component(name) in frozen), name
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert samples == {"caption-en": 32, "translation-fr": 32, "translation-zh": 32}


def test_half_precision_learns_nearly_the_same(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """fp16 begins with overflows, which are skipped until the scale fits; then both follow float32."""
    config = small_run(
        world,
        tokenizer_path,
        num_samples=8 * 32,
        optim=OptimConfig(lr=3e-3),
        log_every_steps=16,
        vision_cache=VisionCacheConfig(use="never"),
    )
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        engine = RuntimeConfig(device="cpu", precision=precision)  # type: ignore[arg-type]
        model = train(replace(config, engine=engine), tmp_path / precision)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        losses[precision] = [row["loss_nats"] for row in read_rows(tmp_path / precision)]
    assert losses["fp32"][1] < 0.9 * losses["fp32"][0]
    for precision in ("bf16", "fp16"):
        assert losses[precision] == pytest.approx(losses["fp32"], rel=0.02)
        assert losses[precision] != losses["fp32"]


def test_a_language_model_becomes_the_start_of_a_decoder(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """With its gates at zero the model is the language model, to the bit, whatever image and prompt are."""
    sizes = MicroConfig(decoder="gemma2", width=16)
    config = LanguageModelConfig(
        data=world / "train", tokenizer=tokenizer_path, model=sizes, languages={"en": 3.0, "fr": 1.0}, num_steps=8
    )
    language_model = train_language_model(config, tmp_path)
    start = StartConfig(model=sizes, language_model=tmp_path / "checkpoints" / "final")
    model = make_model(small_run(world, tokenizer_path, start=start, seed=1)).eval()
    ids = torch.randint(5, model.config.vocab_size, (2, 7))
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 32, 32), ids[:, :4], decoder_input_ids=ids).logits
        assert torch.equal(logits, language_model(input_ids=ids).logits)
    with pytest.raises(ValueError, match="no texts in de"):
        train_language_model(replace(config, languages={"de": 1.0}), tmp_path / "de")
