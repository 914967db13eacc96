"""The published code's own outputs, reproduced (the golden files are not part of the repository)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyglance.model import Polyglance, loss
from polyglance.model.cache import CACHE_ARGUMENT
from polyglance.model.convert import convert_from_published, convert_to_published
from polyglance.model.decoding import decode_ids

TOLERANCE = 1e-5
"""The library's layers reach 4e-6. Faults shift the logits by more; the smallest, another GELU in the encoder, shifts
those of one family by 1.4e-5."""


@pytest.fixture
def model(golden: Path) -> Polyglance:
    built = convert_from_published(golden)
    assert built is not None
    return built


@torch.no_grad()
@pytest.mark.parametrize("storage", ["memory", "folder", "shards"])
def test_outputs(
    golden: Path, model: Polyglance, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if storage != "memory":
        convert_from_published(golden, tmp_path / "converted")
        model = Polyglance.from_pretrained(tmp_path / "converted").eval()
    if storage == "shards":
        model.save_pretrained(tmp_path / "shards", max_shard_size="300KB")
        assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
        model = Polyglance.from_pretrained(tmp_path / "shards").eval()
    io = load_file(golden / "io.safetensors")
    pixels = io["pixel_values"]
    output = model(pixels, io["input_ids"], io["attention_mask"], io["decoder_input_ids"], io["decoder_attention_mask"])
    _close(model.encode_image(pixels), io["image_features"])
    _close(output.encoder_last_hidden_state, io["encoder_last_hidden_state"])
    _close(output.logits, io["logits"])
    labelled = model(pixels, io["input_ids"], io["attention_mask"], labels=io["labels"])
    _close(labelled.logits, io["label_logits"])
    _close(labelled.loss, io["loss"])
    monkeypatch.setattr(loss, "_LARGE_VOCABULARY", 1)  # logits in chunks, as for the published vocabulary
    chunked = model(pixels, io["input_ids"], io["attention_mask"], labels=io["labels"], return_logits=False)
    _close(chunked.loss, io["loss"])
    unpadded = model(pixels, io["nopad_input_ids"], decoder_input_ids=io["nopad_decoder_input_ids"])
    _close(unpadded.logits, io["nopad_logits"])
    one = model(pixels[1:2], io["nopad_input_ids"][1:2], decoder_input_ids=io["nopad_decoder_input_ids"][1:2])
    _close(one.logits, io["nopad_logits"][1:2])
    wider = torch.cat([io["nopad_input_ids"], torch.ones(3, 4, dtype=torch.long)], dim=1)
    mask = torch.cat([torch.ones_like(io["nopad_input_ids"]), torch.zeros(3, 4, dtype=torch.long)], dim=1)
    padded = model(pixels, wider, mask, decoder_input_ids=io["nopad_decoder_input_ids"])
    _close(padded.logits, io["nopad_logits"])


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
def test_generations(golden: Path, model: Polyglance, use_cache: bool) -> None:
    io = load_file(golden / "io.safetensors")
    inputs = (io["pixel_values"], io["input_ids"], io["attention_mask"])
    for name, start, options in (
        ("greedy", [1, 2], {}),
        ("beam4", [1, 2], {"num_beams": 4, "length_penalty": 1.0, "early_stopping": False}),
        ("prefix_greedy", [1, 2, 17, 33], {}),
    ):
        start_ids, options = torch.tensor([start] * 3), {"max_new_tokens": 12, **options}
        if use_cache:
            states, mask = model.encode(*inputs)
            assert torch.equal(decode_ids(model, states, mask, start_ids, **options), io[f"generate_{name}"]), name
        ids = model.generate(*inputs, decoder_input_ids=start_ids, do_sample=False, use_cache=use_cache, **options)
        assert torch.equal(ids, io[f"generate_{name}"]), name


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_cached_logits(golden: Path, model: Polyglance, chunk: int) -> None:
    io = load_file(golden / "io.safetensors")
    states, mask = model.encode(io["pixel_values"], io["input_ids"], io["attention_mask"])
    logits, cache = [], None
    for ids in io["nopad_decoder_input_ids"].split(chunk, dim=1):
        step = model(encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=ids, cache=cache, use_cache=True)
        logits.append(step.logits)
        cache = step[CACHE_ARGUMENT]
    whole = model(encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=io["nopad_decoder_input_ids"])
    _close(torch.cat(logits, dim=1), whole.logits)


@torch.no_grad()
@pytest.mark.parametrize("name", ["eager", "polyglance"])
def test_other_attention_gives_the_same(golden: Path, model: Polyglance, name: str) -> None:
    io = load_file(golden / "io.safetensors")
    model.set_attn_implementation({"decoder_config": name})
    padded = model(io["pixel_values"], io["input_ids"], io["attention_mask"], io["decoder_input_ids"])
    bare = model(io["pixel_values"], io["nopad_input_ids"], decoder_input_ids=io["nopad_decoder_input_ids"])
    real = io["decoder_attention_mask"].bool()
    _close(padded.logits[real], io["logits"][real])
    _close(bare.logits, io["nopad_logits"])


def test_conversion_and_back(golden: Path, tmp_path: Path) -> None:
    convert_from_published(golden, tmp_path / "converted")
    convert_to_published(tmp_path / "converted", tmp_path / "published")
    before, after = (load_file(folder / "model.safetensors") for folder in (golden, tmp_path / "published"))
    assert set(before) == set(after)
    for key, tensor in before.items():
        assert torch.equal(tensor, after[key]), key
    convert_from_published(tmp_path / "published", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == json.loads(
        (tmp_path / "converted" / "config.json").read_text()
    )


def test_command_then_auto_model(golden: Path, tmp_path: Path) -> None:
    """The calls of a user, in a fresh process."""
    command = [sys.executable, "-c", "from polyglance.cli import main; main()", "model", "convert"]
    subprocess.run([*command, "--from-published", golden, "--out", tmp_path / "out"], check=True)
    program = """
import sys, torch
from polyglance.model import Polyglance
from transformers import AutoModel
from safetensors.torch import load_file, save_file
model, io = AutoModel.from_pretrained(sys.argv[1]).eval(), load_file(sys.argv[2])
with torch.no_grad():
    output = model(pixel_values=io["pixel_values"], input_ids=io["input_ids"], attention_mask=io["attention_mask"],
        decoder_input_ids=io["decoder_input_ids"], decoder_attention_mask=io["decoder_attention_mask"])
save_file({"logits": output.logits}, sys.argv[3])
"""
    io_path = golden / "io.safetensors"
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "out", io_path, tmp_path / "logits.safetensors"], check=True
    )
    _close(load_file(tmp_path / "logits.safetensors")["logits"], load_file(io_path)["logits"])


def test_a_pickle_is_read_only_with_the_option(golden: Path, model: Polyglance, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((golden / "config.json").read_bytes())
    torch.save(load_file(golden / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="unsafe-pickle"):
        convert_from_published(tmp_path)
    loaded = convert_from_published(tmp_path, unsafe_pickle=True)
    assert loaded is not None
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "untied", "nan"])
def test_every_key_is_accounted_for(golden: Path, tmp_path: Path, fault: str) -> None:
    (tmp_path / "config.json").write_bytes((golden / "config.json").read_bytes())
    state = load_file(golden / "model.safetensors")
    key = "language_model.model.decoder.layers.1.encoder_attn.k_proj.weight"
    match fault:
        case "missing":
            del state[key]
        case "unknown":
            key = "language_model.model.decoder.layers.9.surprise"
            state[key] = torch.zeros(1)
        case "shape":
            state[key] = state[key][:-1].clone()
        case "untied":
            key = "head"
            state["language_model.lm_head.weight"] += 1
        case "nan":
            state[key][0, 0] = float("nan")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=key) as error:
        convert_from_published(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def _close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape or expected.numel() == 1
    assert float((actual - expected).abs().max()) <= TOLERANCE
