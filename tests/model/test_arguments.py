"""`forward` and `generate` follow what they are given, or refuse it."""

from typing import Any

import pytest
import torch
from small_models import IDS, batch_for, lively_model, tiny_bart, tiny_model, tiny_vision
from transformers.cache_utils import QuantizedCache

from polyglance.model import Polyglance, PolyglanceConfig, decoding
from polyglance.model.cache import CACHE_ARGUMENT, make_cache
from polyglance.model.decoding import decode_ids

START = torch.full((5, 1), 2)


@pytest.mark.parametrize(
    ("wrong", "right"), [("pixel_value", "pixel_values"), ("label", "labels"), ("image_feature", "image_features")]
)
def test_misspelt_names(wrong: str, right: str) -> None:
    model = tiny_model("bart")
    with pytest.raises(TypeError, match=f"forward has no argument '{wrong}'; did you mean '{right}'"):
        model(**batch_for(model), decoder_input_ids=START, **{wrong: START})
    with pytest.raises(TypeError, match="generate has no argument 'num_beam'; did you mean 'num_beams'"):
        model.generate(**batch_for(model), num_beam=3)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_other_forms_of_the_inputs(decoder: str) -> None:
    """Embeddings, features and states give what pixels and ids give, in `forward` and in `generate`."""
    model = lively_model(decoder)
    batch, ids = batch_for(model), torch.randint(3, 13, (5, 4))
    pixels, prompt, mask = batch["pixel_values"], batch["input_ids"], batch["attention_mask"]
    expected, texts = model(**batch, decoder_input_ids=ids).logits, model.generate(**batch, max_new_tokens=6)
    states, mask_of_all = model.encode(pixels, prompt, mask)
    tower = model.vision_tower(pixels).flatten(2).transpose(1, 2)
    words = model.encoder.embed_tokens(prompt)
    forms: list[dict[str, Any]] = [
        {"image_features": model.encode_image(pixels), "input_ids": prompt, "attention_mask": mask},
        {"tower_features": tower, "input_ids": prompt, "attention_mask": mask},
        {"pixel_values": pixels, "inputs_embeds": words, "attention_mask": mask},
        {"encoder_outputs": (states,), "attention_mask": mask_of_all},
    ]
    for form in forms:
        assert torch.equal(model(**form, decoder_input_ids=ids).logits, expected), list(form)
        assert torch.equal(model.generate(**form, max_new_tokens=6), texts), list(form)
    embedded = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(**batch, decoder_inputs_embeds=embedded).logits, expected)
    assert torch.equal(model.generate(inputs=pixels, input_ids=prompt, attention_mask=mask, max_new_tokens=6), texts)
    bare = model(pixels, prompt, decoder_input_ids=ids).logits
    assert torch.equal(model(encoder_outputs=(model.encode(pixels, prompt)[0],), decoder_input_ids=ids).logits, bare)


@torch.no_grad()
def test_what_would_have_no_effect_is_refused() -> None:
    model = tiny_model("bart")
    batch = batch_for(model)
    states = (model.encode(**batch)[0],)
    features = model.encode_image(batch["pixel_values"])
    for given, message in (
        ({**batch, "image_features": features}, "pixel_values and image_features have the same meaning"),
        ({**batch, "inputs_embeds": states[0][:, :6]}, "input_ids and inputs_embeds have the same meaning"),
        ({"pixel_values": batch["pixel_values"], "encoder_outputs": states}, "pixel_values would have no effect"),
        ({"encoder_outputs": states, "attention_mask": batch["attention_mask"]}, "attention_mask has the shape"),
        ({"input_ids": batch["input_ids"]}, "give pixel_values or image_features"),
        ({"pixel_values": batch["pixel_values"]}, "give input_ids"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**given, decoder_input_ids=START)
        with pytest.raises(ValueError, match=message):
            model.generate(**given)
    for options, message in (
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"assistant_model": model}, "assistant_model"),
        ({"decoder_input_ids": START.repeat(1, 2), "decoder_attention_mask": torch.eye(5)[:, :2]}, "one length"),
        ({"cache_implementation": "magic"}, "magic"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(**batch, **options)
    with pytest.raises(ValueError, match="decoder_input_ids and decoder_inputs_embeds"):
        model(**batch, decoder_input_ids=START, decoder_inputs_embeds=torch.zeros(5, 1, 32))
    with pytest.raises(ValueError, match="cache and past_key_values"):
        model(**batch, decoder_input_ids=START, cache=make_cache(), past_key_values=make_cache())


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_more_outputs(decoder: str) -> None:
    model = tiny_model(decoder)
    batch, ids = batch_for(model), torch.randint(3, 13, (5, 4))
    output = model(**batch, decoder_input_ids=ids, output_hidden_states=True)
    states, mask = model.encode(**batch)
    assert torch.equal(output.encoder_hidden_states[-1], states)
    assert torch.equal(output.decoder_hidden_states[-1], model.decode(ids, states, mask))
    assert len(output.decoder_hidden_states) == len(model.decoder.layers) + 1
    as_tuple = model(**batch, decoder_input_ids=ids, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert torch.equal(as_tuple[0], output.logits)
    last = model(**batch, decoder_input_ids=ids, logits_to_keep=1).logits
    torch.testing.assert_close(last, output.logits[:, -1:])  # a smaller product, which some CPUs round otherwise
    with pytest.raises(ValueError, match="set_attn_implementation"):
        model(**batch, decoder_input_ids=ids, output_attentions=True)
    model.set_attn_implementation("eager")
    weights = model(**batch, decoder_input_ids=ids, output_attentions=True)
    hidden = ~mask.bool()[:, None, None].expand_as(weights.cross_attentions[0])
    assert weights.decoder_attentions[0].shape[-2:] == (4, 4)
    assert not weights.cross_attentions[0][hidden].any()
    torch.testing.assert_close(weights.cross_attentions[0].sum(-1), torch.ones(5, 4, 4))
    assert len(weights.encoder_attentions) == len(model.encoder.layers)
    texts = model.generate(**batch, max_new_tokens=3, output_attentions=True, return_dict_in_generate=True)
    assert len(texts.encoder_attentions) == len(model.encoder.layers)
    model.config.output_hidden_states = True
    assert model(**batch, decoder_input_ids=ids).decoder_hidden_states is not None


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
@pytest.mark.parametrize("kind", ["dynamic", "static", "prompt lookup"])
def test_caches_of_transformers(decoder: str, kind: str) -> None:
    """Every cache, and assisted decoding by lookup, write what decoding without a cache writes; window 6 < length."""
    model = tiny_model(decoder)
    batch = batch_for(model)
    start = torch.tensor([[1, 2, 5, 7]] * 5)
    options: dict[str, Any] = {"cache_implementation": kind}
    if kind == "prompt lookup":
        options, batch, start = {"prompt_lookup_num_tokens": 2}, {k: v[:1] for k, v in batch.items()}, start[:1]
    expected = model.generate(**batch, decoder_input_ids=start, max_new_tokens=10, use_cache=False)
    assert torch.equal(model.generate(**batch, decoder_input_ids=start, max_new_tokens=10, **options), expected)


@torch.no_grad()
def test_a_bart_decoder_of_other_sizes_than_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BART configuration's `num_hidden_layers` and `num_attention_heads` are its encoder's."""
    decoder = tiny_bart(vocab_size=13, decoder_layers=3, decoder_attention_heads=2, **IDS)
    config = PolyglanceConfig(tiny_vision(), tiny_bart(vocab_size=13), decoder)
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (3, 2, 32)
    model = Polyglance(config).eval()
    batch = batch_for(model)
    expected = model.generate(**batch, max_new_tokens=8, use_cache=False)
    for options in ({"cache_implementation": "static"}, {"cache_implementation": "dynamic"}, {"logits_to_keep": 0}):
        assert torch.equal(model.generate(**batch, max_new_tokens=8, **options), expected), options
    states, mask = model.encode(**batch)
    for in_buckets in (False, True):
        monkeypatch.setattr(decoding, "_use_buckets", lambda device, answer=in_buckets: answer)
        ids = decode_ids(model, states, mask, expected[:, :1], max_new_tokens=8)
        assert torch.equal(ids, expected)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_a_quantised_cache_holds_the_texts_only(decoder: str) -> None:
    pytest.importorskip("optimum.quanto", reason="quantised caches need optimum-quanto")
    model = tiny_model(decoder)
    options = {
        "max_new_tokens": 8,
        "cache_implementation": "quantized",
        "cache_config": {"nbits": 4, "q_group_size": 16},
    }
    output = model.generate(**batch_for(model), return_dict_in_generate=True, **options)
    cache = output[CACHE_ARGUMENT]
    assert isinstance(cache.self_attention_cache, QuantizedCache)
    assert not isinstance(cache.cross_attention_cache, QuantizedCache)
    whole = model.generate(**batch_for(model), max_new_tokens=8)
    assert torch.equal(output.sequences[:, :2], whole[:, :2])


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
@pytest.mark.parametrize(
    ("make", "name"),
    [(lively_model, "eager"), (lively_model, "sdpa"), (tiny_model, "sdpa")],
)
def test_attention_of_the_whole_model(decoder: str, name: str, make: Any) -> None:
    """One name for all components, for every vision tower."""
    model = make(decoder)
    batch, ids = batch_for(model), torch.randint(3, 13, (5, 4))
    expected = model(**batch, decoder_input_ids=ids).logits
    if decoder == "gemma2" and name == "sdpa":
        with pytest.raises(ValueError, match="scaled_dot_product_attention"):
            model.set_attn_implementation(name)
        return
    model.set_attn_implementation(name)
    assert model.config.decoder_config._attn_implementation == name
    torch.testing.assert_close(model(**batch, decoder_input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_both_tables_can_be_resized(decoder: str) -> None:
    model = tiny_model(decoder)
    batch, ids = batch_for(model), torch.randint(3, 13, (5, 4))
    expected = model(**batch, decoder_input_ids=ids).logits
    model.resize_token_embeddings(170, mean_resizing=False)
    model.encoder.resize_token_embeddings(100, mean_resizing=False)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert (model.config.vocab_size, model.config.encoder_config.vocab_size) == (170, 100)
    batch["input_ids"][0, 0] = 99
    resized = model(**batch, decoder_input_ids=ids).logits
    assert resized.shape[-1] == 170
    torch.testing.assert_close(resized[1:, :, :160], expected[1:])


@torch.no_grad()
def test_the_cache_goes_by_its_name_and_the_old_one() -> None:
    model = tiny_model("gemma2")
    batch, ids = batch_for(model), torch.randint(3, 13, (5, 4))
    expected = model(**batch, decoder_input_ids=ids).logits[:, -1]
    for name in ("cache", "past_key_values"):
        step = model(**batch, decoder_input_ids=ids[:, :3], use_cache=True)
        last = model(**batch, decoder_input_ids=ids[:, 3:], **{name: step[CACHE_ARGUMENT]})
        torch.testing.assert_close(last.logits[:, 0], expected, rtol=1e-4, atol=1e-5)
