from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small_models import batch_for, tiny_model
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from polyglance.mixture.collate import find_places
from polyglance.model import loss
from polyglance.model.loss import IGNORED, token_nats


def plain_nats(hidden: Tensor, head: Tensor, labels: Tensor, softcap: float | None) -> Tensor:
    logits = hidden @ head.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    nats = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return nats.view(labels.shape)


@given(
    rows=st.integers(1, 3),
    tokens=st.integers(1, 9),
    ignored=st.integers(0, 9),
    softcap=st.sampled_from([None, 2.0, 30.0]),
    backend=st.sampled_from(["plain", "chunked", "blocked"]),
    weighting=st.sampled_from(["sum", "mean", "each"]),
    chunk_tokens=st.sampled_from([1, 4, 1000]),
    seed=st.integers(0, 99),
)
def test_nats_and_gradients_equal_the_plain_ones(
    rows: int,
    tokens: int,
    ignored: int,
    softcap: float | None,
    backend: Any,
    weighting: str,
    chunk_tokens: int,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, tokens, 16, generator=generator, dtype=torch.float64).requires_grad_()
    head = torch.randn(53, 16, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(53, (rows, tokens), generator=generator)
    labels.view(-1)[:ignored] = IGNORED
    weights = torch.rand(rows, tokens, generator=generator)

    def weighted(nats: Tensor) -> Tensor:
        return {"sum": nats.sum(), "mean": nats.sum() / 7, "each": (weights * nats).sum()}[weighting]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "_CHUNK_BYTES", (4 * 53 * chunk_tokens,) * 2)
        patch.setattr(loss, "_BLOCK_TOKENS", (7 * chunk_tokens,) * 2)
        nats = token_nats(hidden, head, labels, softcap=softcap, backend=backend)
        gradients = torch.autograd.grad(weighted(nats), (hidden, head))
    expected = plain_nats(hidden, head, labels, softcap)
    torch.testing.assert_close(nats.double(), expected, rtol=1e-6, atol=1e-6)
    for got, wanted in zip(gradients, torch.autograd.grad(weighted(expected), (hidden, head)), strict=True):
        assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_only_what_is_trained_gets_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, labels = torch.randn(6, 8), torch.randn(20, 8), torch.randint(20, (6,))
    outer_products: list[Any] = []
    add_outer = loss._add_outer
    monkeypatch.setattr(loss, "_add_outer", lambda *args: outer_products.append(add_outer(*args)))
    for trained in (hidden, head):
        hidden.requires_grad_(trained is hidden)
        head.requires_grad_(trained is head)
        (got,) = torch.autograd.grad(token_nats(hidden, head, labels, backend="chunked").sum(), trained)
        (wanted,) = torch.autograd.grad(plain_nats(hidden, head, labels, None).sum(), trained)
        torch.testing.assert_close(got, wanted)
        assert bool(outer_products) == (trained is head)
    outer_products.clear()
    with torch.no_grad():
        assert not token_nats(hidden, head, labels, backend="chunked").requires_grad
    assert not outer_products, "evaluation computes no gradient"


def test_blocks_compute_what_is_asked_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen head, frozen states, and evaluation, which goes through the head once."""
    monkeypatch.setattr(loss, "_BLOCK_TOKENS", (8, 8))
    hidden, head, labels = torch.randn(6, 8), torch.randn(20, 8), torch.randint(20, (6,))
    for trained in (hidden, head):
        hidden.requires_grad_(trained is hidden)
        head.requires_grad_(trained is head)
        (got,) = torch.autograd.grad(token_nats(hidden, head, labels, backend="blocked").sum(), trained)
        (wanted,) = torch.autograd.grad(plain_nats(hidden, head, labels, None).sum(), trained)
        torch.testing.assert_close(got, wanted)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert not token_nats(hidden, head, labels, backend="blocked").requires_grad
    assert counter.get_total_flops() == 2 * 6 * 20 * 8


def test_accelerators_take_blocks_of_bounded_size() -> None:
    """Of the largest published vocabulary, at any number of positions; the last block is not forgotten."""
    for num_positions in (1, 300, 2048, 10**5):
        blocks = list(loss._token_blocks(num_positions, 257_024))
        sizes = [min(block.stop, 257_024) - block.start for block in blocks]
        assert sum(sizes) == 257_024
        assert all(size * num_positions <= max(2**24, 2**11 * num_positions) for size in sizes)
    meta = torch.device("meta")
    hidden, head = torch.empty(2, 3, 8, device=meta), torch.empty(2**14, 8, device=meta)
    assert token_nats(hidden, head, torch.empty(2, 3, dtype=torch.long, device=meta)).shape == (2, 3)


@pytest.mark.parametrize("backend", ["chunked", "blocked"])
def test_second_backward_pass_equals_the_first(backend: Any) -> None:
    hidden, head = torch.randn(6, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    total = token_nats(hidden, head, torch.randint(20, (6,)), backend=backend).sum()
    first = torch.autograd.grad(total, (hidden, head), retain_graph=True)
    second = torch.autograd.grad(total, (hidden, head))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", ["chunked", "blocked"])
@pytest.mark.parametrize("weights", [1.0, torch.rand(64)])
def test_mixed_precision_sums_in_the_precision_of_the_head(
    weights: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_BLOCK_TOKENS", (16, 16))
    torch.manual_seed(0)
    hidden, head = torch.randn(64, 32, requires_grad=True), torch.randn(50, 32, requires_grad=True)
    labels = torch.randint(50, (64,))
    with torch.autocast("cpu", torch.bfloat16):
        nats = token_nats(hidden, head, labels, softcap=30.0, backend=backend)
    got = torch.autograd.grad((nats * weights).sum(), (hidden, head))
    wanted = torch.autograd.grad((plain_nats(hidden, head, labels, 30.0) * weights).sum(), (hidden, head))
    assert [gradient.dtype for gradient in got] == [torch.float32, torch.float32]
    for a, b in zip(got, wanted, strict=True):
        assert float((a - b).norm()) <= 0.01 * float(b.norm())


def test_labels_outside_the_vocabulary() -> None:
    with pytest.raises(ValueError, match="between 3 and 20 do not fit a vocabulary of 20"):
        token_nats(torch.randn(2, 8), torch.randn(20, 8), torch.tensor([3, 20]), backend="chunked")


def test_large_vocabularies_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    chunk_nats = loss._chunk_nats
    monkeypatch.setattr(
        loss, "_chunk_nats", lambda states, *args: rows.append(len(states)) or chunk_nats(states, *args)
    )
    monkeypatch.setattr(loss, "_CHUNK_BYTES", (1, 4 * 2**14 * 5))
    for vocab_size, chunks in ((2**14 - 1, []), (2**14, [5] * 8 + [4])):
        token_nats(torch.randn(4, 11, 8), torch.randn(vocab_size, 8), torch.ones(4, 11, dtype=torch.long))
        assert rows == chunks


@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_losses_of_a_model_are_the_same_with_and_without_logits(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "_LARGE_VOCABULARY", 1)
    model = tiny_model(decoder)
    labels = torch.tensor([[5, 6, 1], [7, 1, IGNORED]])
    batch = batch_for(model, batch=2)
    expected = model(**batch, labels=labels)
    without = model(**batch, labels=labels, return_logits=False)
    assert without.logits is None
    nats = model.nats(*model.encode(**batch), labels)
    assert not nats[labels == IGNORED].any()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(expected.loss, trained, allow_unused=True)
    for mean in (without.loss, nats.sum() / 5):
        torch.testing.assert_close(mean, expected.loss)
        for got, wanted in zip(torch.autograd.grad(mean, trained, allow_unused=True), gradients, strict=True):
            assert (got is None) == (wanted is None)
            if got is not None:
                torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    assert model(**batch, labels=torch.full((2, 3), IGNORED)).loss.isnan(), "the mean over no token"


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_only_positions_that_count_go_through_the_head_of_an_accelerator(softcap: float | None) -> None:
    """Values and gradients are those of all positions; the head takes a share of the products."""
    torch.manual_seed(0)
    hidden = torch.randn(40, 32, 8, dtype=torch.float64, requires_grad=True)
    head = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(20, (40, 32))
    labels[torch.arange(32) >= torch.randint(1, 20, (40, 1))] = IGNORED
    places = find_places(labels)
    num_counted = int((labels != IGNORED).sum())
    assert num_counted <= len(places) < num_counted + 128
    assert len(set(places.tolist())) == len(places)
    results, flops = [], []
    for chosen in (None, places):
        with FlopCounterMode(display=False) as counter:
            nats = token_nats(hidden, head, labels, softcap=softcap, backend="blocked", places=chosen)
            results.append((nats, *torch.autograd.grad((nats * torch.arange(32)).sum(), (hidden, head))))
        flops.append(counter.get_total_flops())
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected)
    assert flops[1] * labels.numel() == flops[0] * len(places)


@given(counted=st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_places_are_all_that_count(counted: list[int]) -> None:
    labels = torch.where(torch.arange(30) < torch.tensor(counted)[:, None], 1, IGNORED)
    places = find_places(labels)
    assert set((labels.flatten() != IGNORED).nonzero()[:, 0].tolist()) <= set(places.tolist())
    assert len(places) in (labels.numel(), 128 * max(1, -(-sum(counted) // 128)))
