"""Small models that differ from one another in everything that decoding and conversion could get wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
FAMILIES = ("florence-based", "gemma-based")


@pytest.fixture(params=FAMILIES)
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder of one golden checkpoint of the published code."""
    folder = GOLDEN / request.param
    if not folder.exists():
        pytest.skip(f"{folder} is absent: the golden files are not part of the repository")
    return folder


def golden_io(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "io.safetensors")


def lively_model(decoder: str, *, vocab_size: int = 13, seed: int = 0, **sizes: int) -> Polyglance:
    """A random micro model with weights large enough, and a vocabulary small enough, that captions end at will."""
    torch.manual_seed(seed)
    sizes = {"width": 32, "layers": 3, "max_tokens": 64, **sizes}
    model = Polyglance(MicroConfig(decoder=decoder, **sizes).build(vocab_size)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "gate" in name:
            torch.nn.init.constant_(parameter, 0.7)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25, generator=generator)
    model.lm_head.weight.data.mul_(2)
    return model


def batch_for(model: Polyglance, *, batch: int = 5, source_tokens: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Images and right-padded prompts of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    side = model.config.vision_config.image_size
    mask = torch.arange(source_tokens) < torch.randint(2, source_tokens + 1, (batch, 1), generator=generator)
    return {
        "pixel_values": torch.randn(batch, 3, side, side, generator=generator),
        "input_ids": torch.randint(3, 13, (batch, source_tokens), generator=generator),
        "attention_mask": mask.long(),
    }


def write_golden_config(folder: Path, config: dict) -> None:
    (folder / "config.json").write_text(json.dumps(config))
