from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small_models import batch_for, tiny_model
from torch import Tensor

from polyglance.model import loss
from polyglance.model.loss import IGNORED, head_loss, token_nats


def plain(hidden: Tensor, head: Tensor, labels: Tensor, softcap: float | None, reduction: str = "mean") -> Tensor:
    logits = hidden @ head.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction=reduction)


@given(
    rows=st.integers(1, 3),
    tokens=st.integers(1, 9),
    ignored=st.integers(0, 8),
    softcap=st.sampled_from([None, 2.0, 30.0]),
    reduction=st.sampled_from(["mean", "sum"]),
    chunk_tokens=st.sampled_from([1, 4, 1000]),
    upstream=st.sampled_from([1.0, 0.25]),
    seed=st.integers(0, 99),
)
def test_loss_and_gradients_equal_the_plain_ones(
    rows: int,
    tokens: int,
    ignored: int,
    softcap: float | None,
    reduction: str,
    chunk_tokens: int,
    upstream: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, tokens, 16, generator=generator, dtype=torch.float64).requires_grad_()
    head = torch.randn(53, 16, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(53, (rows, tokens), generator=generator)
    labels.view(-1)[: min(ignored, labels.numel() - 1)] = IGNORED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "_CHUNK_BYTES", (4 * 53 * chunk_tokens,) * 2)
        found = head_loss(hidden, head, labels, softcap=softcap, reduction=reduction)
    found_gradients = torch.autograd.grad(found * upstream, (hidden, head))
    expected = plain(hidden, head, labels, softcap, reduction)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    for got, wanted in zip(found_gradients, torch.autograd.grad(expected * upstream, (hidden, head)), strict=True):
        assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_only_what_is_trained_gets_a_gradient() -> None:
    hidden, head, labels = torch.randn(6, 8), torch.randn(20, 8), torch.randint(20, (6,))
    for trained in (hidden, head):
        hidden.requires_grad_(trained is hidden)
        head.requires_grad_(trained is head)
        (got,) = torch.autograd.grad(head_loss(hidden, head, labels), trained)
        (wanted,) = torch.autograd.grad(plain(hidden, head, labels, None), trained)
        torch.testing.assert_close(got, wanted)


def test_mixed_precision_sums_in_the_heads_own() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(64, 32, requires_grad=True), torch.randn(50, 32, requires_grad=True)
    labels = torch.randint(50, (64,))
    with torch.autocast("cpu", torch.bfloat16):
        found = head_loss(hidden, head, labels, softcap=30.0)
    got = torch.autograd.grad(found, (hidden, head))
    wanted = torch.autograd.grad(plain(hidden, head, labels, 30.0), (hidden, head))
    assert [gradient.dtype for gradient in got] == [torch.float32, torch.float32]
    for a, b in zip(got, wanted, strict=True):
        assert float((a - b).norm()) <= 0.01 * float(b.norm())


def test_nats_of_each_token() -> None:
    hidden, head = torch.randn(3, 5, 8), torch.randn(20, 8)
    labels = torch.randint(20, (3, 5))
    labels[0, 2:] = IGNORED
    found = token_nats(hidden, head, labels, softcap=5.0)
    expected = plain(hidden, head, labels, 5.0, "none").view(3, 5)
    torch.testing.assert_close(found, expected)
    assert not token_nats(hidden, head, torch.full((3, 5), IGNORED)).any()


def test_what_goes_wrong() -> None:
    hidden, head = torch.randn(2, 8, requires_grad=True), torch.randn(20, 8)
    with pytest.raises(ValueError, match="vocabulary of 20"):
        head_loss(hidden, head, torch.tensor([3, 20]))
    with pytest.raises(ValueError, match="mean or sum"):
        head_loss(hidden, head, torch.tensor([3, 4]), reduction="none")
    assert head_loss(hidden, head, torch.tensor([IGNORED, IGNORED])).isnan(), "as the plain mean over nothing"
    once = head_loss(hidden, head, torch.tensor([3, 4]))
    once.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        once.backward()


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_a_model_trains_the_same_without_logits(decoder: str) -> None:
    model = tiny_model(decoder)
    labels = torch.tensor([[5, 6, 1], [7, 1, IGNORED]])
    arguments: dict[str, Any] = {**batch_for(model, batch=2), "labels": labels}
    expected = model(**arguments)
    without = model(**arguments, return_logits=False)
    assert without.logits is None
    torch.testing.assert_close(without.loss, expected.loss)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for got, wanted in zip(
        torch.autograd.grad(without.loss, trained, allow_unused=True),
        torch.autograd.grad(expected.loss, trained, allow_unused=True),
        strict=True,
    ):
        assert (got is None) == (wanted is None)
        if got is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
