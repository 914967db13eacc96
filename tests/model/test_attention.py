import pytest
import torch
from small_models import batch_for, lively_model, tiny_model
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from polyglance.model.attention import grouped_attention
from polyglance.model.linear import FewRowsLinear, few_rows_linear


class _Layer(nn.Module):
    num_key_value_groups = 3
    head_dim = 8
    is_causal = False


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("length", [1, 5])
def test_equals_eager_attention(softcap: float | None, masked: bool, beams: int, length: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2 * beams, 6, length, 8)
    key, value = torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    hidden = torch.rand(2, 1, length, 7) < 0.4
    hidden[..., 0] = False
    mask = torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min) if masked else None
    attended, _ = grouped_attention(_Layer().eval(), query, key, value, mask, scaling=0.3, softcap=softcap)
    expected, _ = eager_attention_forward(
        _Layer().eval(),
        query,
        key.repeat_interleave(beams, 0),
        value.repeat_interleave(beams, 0),
        None if mask is None else mask.repeat_interleave(beams, 0),
        scaling=0.3,
        softcap=softcap,
    )
    torch.testing.assert_close(attended, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
@pytest.mark.parametrize("padded", [False, True])
def test_cross_attention_is_not_causal_and_self_attention_is(decoder: str, padded: bool) -> None:
    """The latent defect of the published code: without padding, SDPA took the missing mask for a causal one."""
    model = tiny_model(decoder)
    batch = batch_for(model)
    if not padded:
        del batch["attention_mask"]
    ids = torch.randint(3, 13, (5, 6))
    logits = model(**batch, decoder_input_ids=ids).logits
    model.set_attn_implementation("eager")
    torch.testing.assert_close(logits, model(**batch, decoder_input_ids=ids).logits, rtol=0, atol=1e-5)
    changed = ids.clone()
    changed[:, 3:] = 4
    model.set_attn_implementation({"decoder_config": "polyglance"})
    torch.testing.assert_close(logits[:, :3], model(**batch, decoder_input_ids=changed).logits[:, :3])


def test_a_soft_capped_decoder_takes_no_attention_without_cap() -> None:
    with pytest.raises(ValueError, match="scaled_dot_product_attention"):
        tiny_model("gemma2").set_attn_implementation({"decoder_config": "sdpa"})


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 2, 8, 9])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_of_few_rows(rows: int, bias: bool) -> None:
    layer = nn.Linear(16, 24, bias=bias)
    x = torch.randn(rows, 1, 16)
    product = few_rows_linear(x, layer.weight, layer.bias)
    assert product.is_contiguous()
    torch.testing.assert_close(product, layer(x))


def test_decoder_layers_keep_their_names_and_parameters() -> None:
    model = lively_model("gemma2")
    attention = model.decoder.layers[0].self_attn
    assert isinstance(attention.q_proj, FewRowsLinear)
    assert "decoder.layers.0.self_attn.q_proj.weight" in dict(model.named_parameters())
    loss = model(**batch_for(model), labels=torch.full((5, 3), 4)).loss
    loss.backward()
    assert attention.q_proj.weight.grad is not None
