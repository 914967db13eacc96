"""The project's decoding loops against transformers' own, on models whose texts end early, late and never."""

from typing import Any

import pytest
import torch
from small_models import batch_for, lively_model
from torch import Tensor
from transformers import GenerationConfig

from polyglance.model import Polyglance
from polyglance.model.decoding import decode_ids
from polyglance.model.search_options import find_top

OPTIONS: list[dict[str, Any]] = [
    {},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"num_beams": 4},
    {"num_beams": 4, "early_stopping": True},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 3, "length_penalty": -1.0},
    {"num_beams": 2, "length_penalty": 0.0},
    {"num_beams": 4, "num_return_sequences": 3, "no_repeat_ngram_size": 2, "early_stopping": True},
    {"num_beams": 4, "min_new_tokens": 5, "no_repeat_ngram_size": 3},
]
MODELS = [("bart", {}), ("gemma2", {}), ("gemma2", {"cross_attention_every": 2})]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("decoder", "sizes"), MODELS, ids=str)
def test_same_ids_as_transformers(decoder: str, sizes: dict[str, int], options: dict[str, Any]) -> None:
    for seed in (0, 2, 3):
        model = lively_model(decoder, seed=seed, **sizes)
        batch = batch_for(model, seed=seed)
        expected = model.generate(
            **batch, decoder_input_ids=torch.tensor([[2, 7]] * 5), max_new_tokens=14, do_sample=False, **options
        )
        has_ended = (expected[:, 2:] == 1).cumsum(1) > 0
        expected[:, 3:][has_ended[:, :-1]] = 0  # some of transformers' loops fill up with the end token
        assert torch.equal(decode(model, batch, start=(2, 7), **options), expected)


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_texts_of_these_models_end_at_different_lengths(decoder: str) -> None:
    lengths = set()
    for seed in (2, 3):
        model = lively_model(decoder, seed=seed)
        lengths |= set((decode(model, batch_for(model, seed=seed), num_beams=4) != 0).sum(1).tolist())
    assert len(lengths) >= 3, "otherwise the comparison above would prove little"


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
@pytest.mark.parametrize("beams", [1, 4])
def test_same_text_in_any_batch_and_with_any_attention(decoder: str, beams: int) -> None:
    model = lively_model(decoder, seed=2)
    batch = batch_for(model)
    together = decode(model, batch, num_beams=beams)
    for row in range(5):
        length = int(batch["attention_mask"][row].sum())
        alone = {
            "pixel_values": batch["pixel_values"][row : row + 1],
            "input_ids": batch["input_ids"][row : row + 1, :length],
        }
        ids = decode(model, alone, num_beams=beams)[0]
        assert torch.equal(ids, together[row, : len(ids)])
        assert not together[row, len(ids) :].any(), "only padding may follow"
    model.set_attn_implementation({"decoder_config": "eager"})
    assert torch.equal(decode(model, batch, num_beams=beams), together)


def test_finished_images_leave_the_batch() -> None:
    model = lively_model("gemma2")
    rows = []
    model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["encoder_hidden_states"])), with_kwargs=True
    )
    ids = decode(model, batch_for(model), num_beams=4, early_stopping=True)
    assert rows[0] == 5
    assert rows[-1] < 5
    assert rows == sorted(rows, reverse=True)
    assert (ids == 0).any()


def test_beams_share_keys_of_their_image() -> None:
    model = lively_model("gemma2")
    shapes = []
    model.decoder.layers[0].encoder_attn.k_proj.register_forward_hook(lambda *call: shapes.append(call[2].shape[0]))
    decode(model, batch_for(model), num_beams=4)
    assert shapes == [5], "keys of the encoder's states: once, for 5 images, not for 20 beams or at every token"


def test_every_end_token_ends_a_text() -> None:
    model = lively_model("gemma2", seed=1)
    ids = decode(model, batch_for(model), no_repeat_ngram_size=1)[0]
    assert len(ids) > 8
    model.generation_config.eos_token_id = [1, int(ids[4])]
    shorter = decode(model, batch_for(model), no_repeat_ngram_size=1)[0]
    assert torch.equal(shorter[:5], ids[:5])
    assert not shorter[5:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5}, "no option 'temperature'"),
        ({"num_beams": 0}, "num_beams is 0; expected 1 or more"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected 1 or more"),
        ({"num_beams": 2, "num_return_sequences": 3}, r"num_return_sequences is 3; expected at most num_beams \(2\)"),
        ({"early_stopping": "sometimes"}, "early_stopping is 'sometimes'"),
    ],
    ids=str,
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    model = lively_model("bart")
    with pytest.raises(ValueError, match=message):
        decode(model, batch_for(model), **options)


def test_settings_of_the_model_are_not_ignored_in_silence() -> None:
    model = lively_model("bart")
    ids = decode(model, batch_for(model))
    model.generation_config = GenerationConfig(eos_token_id=1, num_beams=3, max_length=5)
    assert torch.equal(decode(model, batch_for(model)), ids), "callers state these"
    model.generation_config.repetition_penalty = 1.2
    with pytest.raises(ValueError, match="generation_config sets 'repetition_penalty'"):
        decode(model, batch_for(model))


def test_top_is_topk() -> None:
    values = torch.randn(3 * 4, 32_000, generator=torch.Generator().manual_seed(0))
    expected = values.view(3, -1).topk(8)
    largest, places = find_top(values, 3, 8)
    assert torch.equal(largest, expected.values)
    assert torch.equal(places, expected.indices)


def decode(model: Polyglance, batch: dict[str, Tensor], *, start: tuple[int, ...] = (2,), **options: Any) -> Tensor:
    with torch.no_grad():
        states, mask = model.encode(**batch)
    start_ids = torch.tensor([start] * len(states))
    return decode_ids(model, states, mask, start_ids, **{"max_new_tokens": 14, **options})
