"""Search in tensors of fixed shape: the ids of the other loops, without a question to the host, one graph a bucket."""

import contextlib
import gc
from typing import Any

import pytest
import torch
from small_models import batch_for, lively_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from polyglance.model import Polyglance, decoding, static_search
from polyglance.model.decoding import decode_ids

OPTIONS: list[dict[str, Any]] = [
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 3},
    {"num_beams": 4, "early_stopping": True, "no_repeat_ngram_size": 3},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 3, "length_penalty": -1.0},
    {"num_beams": 2, "length_penalty": 0.0, "no_repeat_ngram_size": 20},
    {"num_beams": 4, "num_return_sequences": 3, "no_repeat_ngram_size": 2, "early_stopping": True},
    {"num_beams": 4, "min_new_tokens": 5, "no_repeat_ngram_size": 3},
]
MODELS = [("bart", {}), ("gemma2", {}), ("gemma2", {"cross_attention_every": 2})]

_DATA_DEPENDENT = (
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.equal,
    torch.ops.aten._unique2,
    torch.ops.aten.lift_fresh,  # a value of the host
)


class NoQuestions(TorchDispatchMode):
    """Fail on every operator that the host would wait for, or that a graph could not repeat; count the others."""

    def __init__(self) -> None:
        super().__init__()
        self.num_operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.index:
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "an index of booleans has no fixed size"
        assert func.overloadpacket not in _DATA_DEPENDENT, f"{func} in a step"
        self.num_operators += 1
        return func(*args, **(kwargs or {}))


def decode(model: Polyglance, batch: dict[str, Tensor], *, start: tuple[int, ...] = (2,), **options: Any) -> Tensor:
    with torch.no_grad():
        states, mask = model.encode(**batch)
    start_ids = torch.tensor([start] * len(states))
    return decode_ids(model, states, mask, start_ids, **{"max_new_tokens": 14, **options})


@pytest.fixture
def in_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode as on a GPU."""
    monkeypatch.setattr(decoding, "_use_buckets", lambda device: True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("decoder", "sizes"), MODELS, ids=str)
def test_same_ids_as_the_other_loops(
    decoder: str, sizes: dict[str, int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (2, 3):
        model = lively_model(decoder, seed=seed, **sizes)
        batch = batch_for(model, seed=seed)
        expected = decode(model, batch, start=(2, 7), **options)
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "_use_buckets", lambda device: True)
            patch.setattr(static_search, "_CHECK_EVERY", 2)
            for _ in range(seed - 1):  # a bucket that is used again holds nothing of its first use
                assert torch.equal(decode(model, batch, start=(2, 7), **options), expected)


@pytest.mark.usefixtures("in_buckets")
@pytest.mark.parametrize("options", [{"no_repeat_ngram_size": 3}, {"num_beams": 4, "min_new_tokens": 2}], ids=str)
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_a_step_asks_the_host_for_nothing(
    decoder: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, numbers = static_search._Bucket.step, []

    def watched(bucket: Any) -> None:
        with NoQuestions() as mode:
            step(bucket)
        numbers.append(mode.num_operators)

    monkeypatch.setattr(static_search._Bucket, "step", watched)
    model = lively_model(decoder)
    decode(model, batch_for(model), **options)
    assert len(numbers) > 8
    assert len(set(numbers)) == 1, "every step is the same, so that one graph is enough"


@pytest.mark.usefixtures("in_buckets")
def test_finished_images_leave_in_whole_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_search, "_CHECK_EVERY", 1)
    model, sizes = lively_model("gemma2"), []
    run_step = static_search._Bucket.run_step
    monkeypatch.setattr(static_search._Bucket, "run_step", lambda b: (sizes.append(b.size), run_step(b)))
    decode(model, batch_for(model), num_beams=4, early_stopping=True)
    assert sizes[0] == 8
    assert sizes[-1] < 8
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) <= {1, 2, 4, 8}


@pytest.mark.usefixtures("in_buckets")
def test_keys_of_an_image_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shapes = lively_model("gemma2"), []
    model.decoder.layers[0].encoder_attn.k_proj.register_forward_hook(lambda *call: shapes.append(call[2].shape[0]))
    decode(model, batch_for(model), num_beams=4)
    assert shapes == [8], "for the images of the bucket, not for their beams or at every token"


@pytest.mark.usefixtures("in_buckets")
def test_a_bucket_is_not_used_after_the_weights_have_moved() -> None:
    """A graph reads weights where they were when it was captured."""
    model = lively_model("bart")
    batch = batch_for(model)
    options = {"min_new_tokens": 14}  # no image is finished early, so that there is one bucket
    decode(model, batch, **options)
    (first,) = static_search._BUCKETS[model].values()
    with torch.no_grad():  # in place: the same bucket reads the new values
        model.lm_head.weight.neg_()
    negated = decode(model, batch, **options)
    assert list(static_search._BUCKETS[model].values()) == [first]
    model.lm_head.weight = torch.nn.Parameter(-model.lm_head.weight.detach())
    assert not torch.equal(decode(model, batch, **options), negated)
    assert len(static_search._BUCKETS[model]) == 2


@pytest.mark.usefixtures("in_buckets")
def test_buckets_end_with_their_model() -> None:
    gc.collect()
    before = len(static_search._BUCKETS)
    model = lively_model("bart")
    decode(model, batch_for(model), num_beams=2)
    assert len(static_search._BUCKETS) == before + 1
    del model
    gc.collect()
    assert len(static_search._BUCKETS) == before


@pytest.mark.usefixtures("in_buckets")
def test_few_buckets_are_kept() -> None:
    model = lively_model("bart")
    for new_tokens in range(2, 16):
        decode(model, batch_for(model, batch=1), max_new_tokens=new_tokens)
    assert len(static_search._BUCKETS[model]) == static_search._NUM_BUCKETS


@pytest.mark.usefixtures("in_buckets")
def test_where_a_step_cannot_be_captured_it_runs_as_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here torch refuses to make a graph at all. The ids are those of steps without one; it is said once a bucket."""
    model = lively_model("gemma2")
    batch = batch_for(model, batch=2)
    expected = decode(model, batch, num_beams=2, min_new_tokens=14)
    monkeypatch.setattr(static_search._Bucket, "_can_capture", lambda bucket: not bucket._has_failed)
    assert torch.equal(decode(model, batch, num_beams=2, min_new_tokens=14), expected)
    assert capsys.readouterr().err.count("decoding without a CUDA graph, which is slower: ") == 1
    assert gc.isenabled()


@pytest.mark.usefixtures("in_buckets")
def test_a_graph_is_captured_on_the_device_of_its_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of another device than the stream's is not captured: the graph would be empty, and its text wrong."""
    places: list[tuple[str, str]] = []

    class Graph:
        def replay(self) -> None:
            raise NotImplementedError

    def capture(graph: Graph, *, stream: str, capture_error_mode: str) -> Any:
        places.append((stream, capture_error_mode))
        return contextlib.nullcontext()

    def note_current(device: torch.device) -> Any:
        places.append((str(device), "current"))
        return contextlib.nullcontext()

    def note_kept(stream: str) -> Any:
        places.append((stream, "kept"))
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "device", note_current)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"earlier stream of {device}")
    monkeypatch.setattr(torch.cuda, "stream", note_kept)
    bucket = object.__new__(static_search._Bucket)
    bucket._device, bucket._has_failed = torch.device("cuda:1"), False
    monkeypatch.setattr(static_search._Bucket, "step", lambda bucket: None)
    bucket._capture()
    assert isinstance(bucket._graph, Graph)
    assert places == [
        ("cuda:1", "current"),
        ("earlier stream of cuda:1", "kept"),
        ("stream of cuda:1", "thread_local"),
    ]
