import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import tiny_config
from torch.utils.flop_counter import FlopCounterMode

from polyglance.cli import model as cli
from polyglance.model import Polyglance
from polyglance.model.card import make_card
from polyglance.model.components import POLICIES, PUBLISHED_TRAINED, count_parameters, freeze
from polyglance.model.flops import build_on_meta, count_macs
from polyglance.model.micro import MicroConfig
from polyglance.model.sizes import resolve_size

# Official code sections 1.1 and 4.2.
PUBLISHED = {
    "0.4b": (428_838_400, 337_631_232, 62.06, {"vision": 20.93, "encoder": 7.86, "decoder": 7.97, "head": 25.27}),
    "1.0b": (1_039_697_920, 676_864_000, 170.62, {"vision": 81.13, "encoder": 27.68, "decoder": 28.01, "head": 33.69}),
    "3.5b": (
        3_485_001_498,
        1_097_649_690,
        488.81,
        {"vision": 81.13, "encoder": 27.68, "decoder": 304.39, "head": 75.5},
    ),
    "11.2b": (11_221_849_642, 2_534_813_738, 1494.45, {"vision": 81.13, "decoder": 1268.09, "head": 117.44}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    expected_parameters, expected_trained, gmac, gmac_by_module = PUBLISHED[name]
    config = resolve_size(name)
    model = build_on_meta(config)
    freeze(model, PUBLISHED_TRAINED[config.decoder_config.model_type])
    assert count_parameters(model) == expected_parameters
    assert count_parameters(model, trained_only=True) == expected_trained
    macs = count_macs(model, image_size=224, source_tokens=128, target_tokens=128)
    assert sum(macs.values()) / 1e9 == pytest.approx(gmac, rel=0.005)
    for module, expected in gmac_by_module.items():
        assert macs[module] / 1e9 == pytest.approx(expected, rel=0.005), module


def test_any_other_pair() -> None:
    config = resolve_size("base+gemma-2-2b@13")
    layers = build_on_meta(config).decoder.layers
    assert [i for i, layer in enumerate(layers) if layer.has_cross_attention] == [0, 13]
    assert layers[0].encoder_attn.k_proj.in_features == 768
    with torch.device("meta"):
        assert Polyglance(resolve_size("large+gemma-2-27b")).num_parameters() > 28e9
    assert resolve_size("micro-gemma2-64").decoder_config.hidden_size == 64


@pytest.mark.parametrize(
    ("name", "hint"), [("3.5", "3.5b"), ("large+gemma-2b", "gemma-2-9b"), ("huge", "0.4b"), ("micro-50", "50")]
)
def test_unknown_sizes(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        resolve_size(name)


def test_num_image_tokens_equals_the_projector_output() -> None:
    for name, pixels in (("0.4b", 224), ("0.4b", 250), ("0.4b", 768), ("micro-96", 32)):
        config = resolve_size(name)
        tokens = build_on_meta(config).encode_image(torch.empty(1, 3, pixels, pixels, device="meta")).shape[1]
        assert config.num_image_tokens(pixels) == tokens


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_macs_on_meta_equal_those_of_a_real_pass(decoder: str) -> None:
    config = tiny_config(decoder, cross_attention_every=2)
    macs = count_macs(build_on_meta(config), image_size=64, source_tokens=7, target_tokens=9)
    model = Polyglance(config).eval()
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ids = torch.zeros(1, 9, dtype=torch.long)
        model(torch.zeros(1, 3, 64, 64), torch.zeros(1, 7, dtype=torch.long), decoder_input_ids=ids)
    assert sum(macs.values()) == counter.get_total_flops() // 2


def test_card(capsys: pytest.CaptureFixture[str]) -> None:
    cli.show_card("micro-gemma2-32", source_tokens=20, target_tokens=10, json=True)
    card = json.loads(capsys.readouterr().out)
    assert sum(card["num_parameters_by_part"].values()) == card["num_parameters"]
    assert sum(card["gmac_by_part"].values()) == pytest.approx(card["gmac"])
    assert set(card["num_trained"]) == set(POLICIES)
    assert card["num_trained"]["everything"] == card["num_parameters"] > card["num_trained"]["pre-training"]
    weights = card["num_parameters"] * 4
    for policy, trained in card["num_trained"].items():
        held = card["training_bytes"][policy]["float32"] - card["activation_bytes"][policy]["float32"]
        assert held == weights + 12 * trained
    assert weights < card["inference_bytes"]["float32"] < 2 * weights
    cli.show_card("micro-gemma2-32")
    assert "pre-training" in capsys.readouterr().out


def test_activations_equal_those_of_a_real_pass() -> None:
    config = resolve_size("micro-32")
    card = make_card("micro-32", source_tokens=20, target_tokens=10)
    model = Polyglance(config).train()
    model.set_attn_implementation("eager")
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        states, _ = model.encode(torch.randn(1, 3, 32, 32), torch.zeros(1, 20, dtype=torch.long))
        hidden_states = model.decode(torch.zeros(1, 10, dtype=torch.long), states, None)
    assert hidden_states.requires_grad
    total = sum(t.untyped_storage().nbytes() for pointer, t in saved.items() if pointer not in weights)
    assert total == pytest.approx(card.activation_bytes["everything"]["float32"], rel=0.02)


def test_a_folder_is_a_size(tmp_path: Path) -> None:
    tiny_config("gemma2").save_pretrained(tmp_path)
    assert (
        make_card(str(tmp_path), image_size=64).num_parameters == build_on_meta(tiny_config("gemma2")).num_parameters()
    )
    with pytest.raises(ValueError, match="8192"):
        make_card(str(tmp_path), target_tokens=10_000)


def test_a_folder_that_is_no_model_hides_no_size_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("large").mkdir()
    assert resolve_size("large").num_hidden_layers == 12
    Path("mine").mkdir()
    with pytest.raises(ValueError, match=r"^mine: no config\.json in it; expected a model's folder$"):
        resolve_size("mine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width is 0; expected 1 or more"),
        ({"heads": -4}, "heads is -4; expected 1 or more"),
        ({"layers": 0}, "layers is 0"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"vision_blocks": -1}, "vision_blocks is -1; expected 0 or more"),
        ({"vision_layers": 3}, "`vision_layers` has no effect unless `vision` is 'vit'"),
        ({"vision": "vit", "vision_blocks": 1}, "`vision_blocks` has no effect unless `vision` is 'conv_stem'"),
        ({"cross_attention_every": 2}, "`cross_attention_every` has no effect unless `decoder` is 'gemma2'"),
    ],
)
def test_micro_sizes_that_are_none_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MicroConfig(**settings)
