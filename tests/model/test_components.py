import pytest
import torch
from small_models import lively_model, tiny_config

from polyglance.model import Polyglance
from polyglance.model.components import (
    COMPONENTS,
    PUBLISHED_TRAINED,
    find_component,
    freeze,
    group_parameters,
    set_train_mode,
)


def test_every_parameter_has_its_component() -> None:
    components = {name: find_component(name) for name, _ in Polyglance(tiny_config("gemma2")).named_parameters()}
    assert set(components.values()) == set(COMPONENTS)
    assert components["decoder.layers.0.post_encoder_attention_layernorm.weight"] == "cross_attention"
    assert components["decoder.layers.1.encoder_attn_gate"] == "gates"
    assert components["decoder.embed_tokens.weight"] == "embeddings"
    assert components["encoder.embed_tokens.weight"] == "encoder"
    assert components["decoder.layers.0.self_attn.q_proj.weight"] == "decoder"


def test_unknown_components_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown component 'tower'; known: vision, projection"):
        freeze(lively_model("bart"), iter(["tower"]))  # type: ignore[arg-type]


def test_frozen_modules_are_in_eval_mode() -> None:
    config = tiny_config("gemma2")
    config.vision_config.drop_path_rate = 0.9
    model = Polyglance(config)
    freeze(model, PUBLISHED_TRAINED["gemma2"])
    set_train_mode(model)
    pixels = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.encode_image(pixels), model.encode_image(pixels)), "a frozen tower drops no path"
    assert model.encoder.layers[0].training
    layer = model.decoder.layers[0]
    assert not layer.self_attn.training
    assert not layer.mlp.training
    assert layer.encoder_attn.training
    assert layer.training, "gradient checkpointing reads this of the layer"


def test_decayed_parameters() -> None:
    model = lively_model("gemma2")
    freeze(model, PUBLISHED_TRAINED["gemma2"])
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def decayed(**options: bool) -> set[str]:
        groups = group_parameters(model, lr=1e-3, weight_decay=0.01, **options)
        assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())
        return {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}

    default, published = decayed(), decayed(published_decay=True)
    disputed = {
        "decoder.layers.0.encoder_attn_gate",
        "decoder.layers.0.post_encoder_attention_layernorm.weight",
        "decoder.embed_tokens.weight",
    }
    assert not disputed & default
    assert disputed <= published
    assert "decoder.layers.0.encoder_attn.q_proj.weight" in default & published
    norm_or_bias = {name for name in names.values() if "layer_norm" in name or "bias" in name}
    assert not norm_or_bias & (default | published)


def test_gates_have_a_learning_rate_of_their_own() -> None:
    model = lively_model("gemma2")
    groups = group_parameters(model, lr=1e-3, weight_decay=0.01, gate_lr_scale=5.0)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(5e-3 if name.endswith("gate") else 1e-3), name
