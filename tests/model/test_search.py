"""Our decoding loops against transformers' own, on models whose texts end early, late and never."""

from typing import Any

import pytest
import torch
from small_models import batch_for, lively_model

from polyglance.model import Polyglance

OPTIONS: list[dict[str, Any]] = [
    {},
    {"no_repeat_ngram_size": 2},
    {"num_beams": 4},
    {"num_beams": 4, "early_stopping": True},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 3, "length_penalty": -1.0},
    {"num_beams": 2, "length_penalty": 0.0},
    {"num_beams": 4, "num_return_sequences": 3, "no_repeat_ngram_size": 2, "early_stopping": True},
    {"num_beams": 4, "forced_eos_token_id": 1},
    {"num_beams": 4, "min_new_tokens": 5},
]
MODELS = [("bart", {}), ("gemma2", {}), ("gemma2", {"cross_attention_every": 2})]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("decoder", "sizes"), MODELS, ids=str)
def test_same_ids_as_transformers_loops(decoder: str, sizes: dict[str, int], options: dict[str, Any]) -> None:
    for seed in (0, 2, 3):
        model = lively_model(decoder, seed=seed, **sizes)
        arguments = {
            **batch_for(model, seed=seed),
            "decoder_input_ids": torch.tensor([[2, 7]] * 5),
            "max_new_tokens": 14,
            "do_sample": False,
            **options,
        }
        ours = model.generate(**arguments)
        theirs = model.generate(**arguments, return_dict_in_generate=True).sequences  # is not covered by our loops
        ended = (theirs[:, 2:] == 1).cumsum(1).roll(1, 1)
        ended[:, 0] = 0
        theirs[:, 2:][ended > 0] = 0  # theirs fill up with the end token where the padding id is 0
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, model.generate(**arguments, use_cache=False))


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_texts_of_these_models_end_at_different_lengths(decoder: str) -> None:
    lengths = set()
    for seed in (2, 3):
        model = lively_model(decoder, seed=seed)
        lengths |= set((_generate(model, batch_for(model, seed=seed), num_beams=4) != 0).sum(1).tolist())
    assert len(lengths) >= 3, "or the comparison above would say little"


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
@pytest.mark.parametrize("beams", [1, 4])
def test_an_image_gets_the_same_text_in_any_batch(decoder: str, beams: int) -> None:
    model = lively_model(decoder, seed=2)
    batch = batch_for(model)
    together = _generate(model, batch, num_beams=beams)
    for row in range(5):
        length = int(batch["attention_mask"][row].sum())
        alone = {
            "pixel_values": batch["pixel_values"][row : row + 1],
            "input_ids": batch["input_ids"][row : row + 1, :length],
        }
        found = _generate(model, alone, num_beams=beams)[0]
        expected = together[row]
        assert torch.equal(found, expected[: len(found)])
        assert not expected[len(found) :].any(), "only padding may follow"


def test_finished_images_leave_the_batch() -> None:
    model = lively_model("gemma2")
    rows = []
    model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["encoder_hidden_states"])), with_kwargs=True
    )
    found = _generate(model, batch_for(model), num_beams=4, early_stopping=True)
    assert rows[0] == 5
    assert rows[-1] < 5
    assert rows == sorted(rows, reverse=True)
    assert (found == 0).any()


def test_beams_share_keys_of_their_image() -> None:
    model = lively_model("gemma2")
    shapes = []
    model.decoder.layers[0].encoder_attn.k_proj.register_forward_hook(lambda *call: shapes.append(call[2].shape[0]))
    _generate(model, batch_for(model), num_beams=4)
    assert shapes == [5], "keys of the encoder's states: once, for 5 images, not for 20 beams or at every token"


def test_top_is_topk() -> None:
    from polyglance.model.search import _top

    values = torch.randn(3 * 4, 32_000, generator=torch.Generator().manual_seed(0))
    expected = values.view(3, -1).topk(8)
    found = _top(values, 3, 8)
    assert torch.equal(found[0], expected.values)
    assert torch.equal(found[1], expected.indices)


def _generate(model: Polyglance, batch: dict[str, torch.Tensor], **options: Any) -> torch.Tensor:
    start = torch.tensor([[2]] * len(batch["input_ids"]))
    return model.generate(**batch, decoder_input_ids=start, max_new_tokens=14, do_sample=False, **options)
