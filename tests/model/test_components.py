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


def test_every_parameter_has_its_part() -> None:
    parts = {name: find_component(name) for name, _ in Polyglance(tiny_config("gemma2")).named_parameters()}
    assert set(parts.values()) == set(COMPONENTS)
    assert parts["decoder.layers.0.post_encoder_attention_layernorm.weight"] == "cross_attention"
    assert parts["decoder.layers.1.encoder_attn_gate"] == "gates"
    assert parts["decoder.embed_tokens.weight"] == "embeddings"
    assert parts["encoder.embed_tokens.weight"] == "encoder"
    assert parts["decoder.layers.0.self_attn.q_proj.weight"] == "decoder"


@pytest.mark.parametrize("published", [False, True])
def test_a_frozen_tower_drops_no_path(published: bool) -> None:
    config = tiny_config("bart")
    config.vision_config.drop_path_rate = 0.9
    model = Polyglance(config)
    freeze(model, PUBLISHED_TRAINED["bart"])
    set_train_mode(model, published_drop_path=published)
    pixels = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    features = [model.encode_image(pixels) for _ in range(2)]
    assert torch.equal(*features) is not published
    assert model.encoder.layers[0].training


def test_frozen_parts_inside_trained_ones_are_in_eval_mode() -> None:
    model = lively_model("gemma2")
    freeze(model, PUBLISHED_TRAINED["gemma2"])
    set_train_mode(model)
    layer = model.decoder.layers[0]
    assert not layer.self_attn.training
    assert not layer.mlp.training
    assert layer.encoder_attn.training
    assert layer.training, "gradient checkpointing asks the layer"


def test_what_is_decayed() -> None:
    model = lively_model("gemma2")
    freeze(model, PUBLISHED_TRAINED["gemma2"])
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def decayed(**options: bool) -> set[str]:
        groups = group_parameters(model, lr=1e-3, weight_decay=0.01, **options)
        assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())
        return {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}

    ours, published = decayed(), decayed(published_decay=True)
    disputed = {
        "decoder.layers.0.encoder_attn_gate",
        "decoder.layers.0.post_encoder_attention_layernorm.weight",
        "decoder.embed_tokens.weight",
    }
    assert not disputed & ours
    assert disputed <= published
    assert "decoder.layers.0.encoder_attn.q_proj.weight" in ours & published
    norm_or_bias = {name for name in names.values() if "layer_norm" in name or "bias" in name}
    assert not norm_or_bias & (ours | published)
