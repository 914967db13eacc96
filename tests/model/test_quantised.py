"""Weights quantised by torchao as transformers loads them."""

from pathlib import Path

import pytest
import torch
from small_models import batch_for, tiny_model

from polyglance.model import Polyglance

quantization = pytest.importorskip("torchao.quantization", reason="pip install torchao")


@pytest.mark.filterwarnings("ignore")  # torchao's, about kernels for GPUs
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
@torch.no_grad()
def test_int8_weights_give_nearly_the_same_logits(decoder: str, tmp_path: Path) -> None:
    from transformers import TorchAoConfig

    tiny_model(decoder).save_pretrained(tmp_path)
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    model = Polyglance.from_pretrained(tmp_path).eval()
    quantised = Polyglance.from_pretrained(tmp_path, quantization_config=config).eval()
    kinds = [type(layer.weight) for layer in quantised.modules() if isinstance(layer, torch.nn.Linear)]
    assert sum(kind is not torch.nn.Parameter for kind in kinds) > 20
    batch = batch_for(model, batch=4)  # 4 rows a step: those that plain weights have a faster product for
    target = torch.randint(3, 13, (4, 1), generator=torch.Generator().manual_seed(0))
    exact, near = (one(**batch, decoder_input_ids=target).logits for one in (model, quantised))
    assert 0 < (exact - near).abs().max() < 0.1 * exact.std()
    texts = [one.generate(**batch, min_new_tokens=4, max_new_tokens=4) for one in (model, quantised)]
    assert (texts[0] == texts[1]).float().mean() > 0.8  # a random model's tokens are nearly as likely as each other
