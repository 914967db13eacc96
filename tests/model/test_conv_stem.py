"""The convolutional stem: residual blocks add to it, and are counted."""

from pathlib import Path

import pytest
import torch

from polyglance.model import Polyglance
from polyglance.model.components import count_parameters
from polyglance.model.flops import build_on_meta, count_macs
from polyglance.model.micro import MicroConfig
from polyglance.model.vision import ConvStem, ConvStemConfig, ResidualConv


def test_blocks_with_zero_weights_change_nothing() -> None:
    torch.manual_seed(0)
    plain, deeper = ConvStem(ConvStemConfig(hidden_size=16)), ConvStem(ConvStemConfig(hidden_size=16, num_blocks=2))
    assert deeper.load_state_dict(plain.state_dict(), strict=False).unexpected_keys == []
    pixels = torch.randn(2, 3, 32, 32)
    expected = plain(pixels)
    assert expected.shape == (2, 16, 4, 4)
    assert not torch.allclose(deeper(pixels), expected)
    blocks = [module for module in deeper.modules() if isinstance(module, ResidualConv)]
    assert len(blocks) == 2 * 3
    with torch.no_grad():
        for block in blocks:
            block.weight.zero_()
            block.bias.zero_()
    assert torch.equal(deeper(pixels), expected)


def test_a_model_with_blocks_is_saved_and_counted(tmp_path: Path) -> None:
    widths = (4, 8, 16)
    plain, deeper = (MicroConfig(width=16, vision_blocks=blocks).build(64) for blocks in (0, 1))
    model = Polyglance(deeper)
    added = sum(9 * width**2 + width for width in widths)
    assert count_parameters(model) - count_parameters(Polyglance(plain)) == added
    macs = [
        count_macs(build_on_meta(config), image_size=32, source_tokens=4, target_tokens=4)["vision"]
        for config in (plain, deeper)
    ]
    assert macs[1] - macs[0] == pytest.approx(sum(9 * w**2 * (64 // w) ** 2 for w in widths), rel=1e-3)
    model.save_pretrained(tmp_path)
    again = Polyglance.from_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(again.vision_tower(pixels), model.vision_tower(pixels))
