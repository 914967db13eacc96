"""Losses per cell: the definitions written out by hand, and the same result for any batches and processes."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.evaluate.cells import CellSamples, choose_cells, read_held_out
from polyglance.evaluate.loss import measure_cell
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import BOS, EOS, train_tokenizer
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels

PREFIX = "La photo montre"
LIMITS = {"max_source_tokens": 96, "max_target_tokens": 64}


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Tokenizer:
    table = ShardReader(world / "train").annotations()
    return train_tokenizer((t for a in table for x in a for t in (x.text, prompt_of(x))), vocab_size=1024)


@pytest.fixture(scope="module", params=["bart", "gemma2"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Polyglance:
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(decoder=request.param, width=16).build(tokenizer.get_vocab_size())).eval()
    for name, parameter in model.named_parameters():
        if "gate" in name:
            parameter.data.fill_(0.5)  # so that images count
    return model


@pytest.fixture(scope="module")
def processor(model: Polyglance, tokenizer: Tokenizer) -> Processor:
    return Processor.for_model(model.config, tokenizer)


@pytest.fixture(scope="module")
def samples(world: Path) -> CellSamples:
    reader = ShardReader(world / "test")
    return read_held_out(reader, [Cell("caption", "fr")], image_size=32, samples_per_cell=7)[0]


def by_hand(
    model: Polyglance, tokenizer: Tokenizer, image: np.ndarray, prompt: str, start: str, text: str
) -> np.ndarray:
    """Token losses of `text` after `start`, one sample at a time, through the plain forward pass."""
    given = [BOS, *tokenizer.encode(start).ids]
    target = [*tokenizer.encode(text).ids, EOS]
    with torch.no_grad():
        logits = model(
            normalise_pixels(torch.from_numpy(image[None])),
            torch.tensor([[*tokenizer.encode(prompt).ids, EOS]]),
            decoder_input_ids=torch.tensor([[*given, *target[:-1]]]),
        ).logits[0]
    logs = logits[len(given) - 1 :].double().log_softmax(-1)
    return -logs[torch.arange(len(target)), torch.tensor(target)].numpy()


def test_every_variant_follows_its_definition(
    model: Polyglance, tokenizer: Tokenizer, processor: Processor, samples: CellSamples
) -> None:
    losses = measure_cell(model, processor, samples, prefix=PREFIX, **LIMITS)
    assert tuple(losses) == ("plain", "prefix", "shuffled", "prefix_shuffled")
    for name, loss in losses.items():
        images = np.roll(samples.images, 1, axis=0) if "shuffled" in name else samples.images
        rows, num_bytes = [], 0
        for image, annotation in zip(images, samples.annotations, strict=True):
            text, start = annotation.text, ""
            if name.startswith("prefix"):
                start, text = PREFIX, text.removeprefix(PREFIX)
            rows.append(by_hand(model, tokenizer, image, prompt_of(annotation), start, text))
            num_bytes += len(text.encode())
        assert loss.samples == len(rows)
        assert loss.tokens == sum(map(len, rows))
        assert loss.bytes == num_bytes
        assert loss.nats == pytest.approx(sum(row.sum() for row in rows), rel=1e-5)
        assert loss.mean_nats == pytest.approx(np.mean([row.mean() for row in rows]), rel=1e-5)
        assert loss.first_nats == pytest.approx(np.mean([row[0] for row in rows]), rel=1e-5)
    assert losses["plain"].mean_nats != pytest.approx(losses["shuffled"].mean_nats, rel=1e-5)


def test_a_prefix_that_texts_do_not_begin_with_is_put_before_them(
    model: Polyglance, tokenizer: Tokenizer, processor: Processor, samples: CellSamples
) -> None:
    loss = measure_cell(model, processor, samples, prefix="The image", **LIMITS)["prefix"]
    rows = [
        by_hand(model, tokenizer, image, prompt_of(annotation), "The image", annotation.text)
        for image, annotation in zip(samples.images, samples.annotations, strict=True)
    ]
    assert loss.mean_nats == pytest.approx(np.mean([row.mean() for row in rows]), rel=1e-5)


def test_batches_change_nothing(model: Polyglance, processor: Processor, samples: CellSamples) -> None:
    options: dict[str, Any] = {"prefix": PREFIX, "variants": ("plain", "prefix"), **LIMITS}
    in_pairs, at_once = (measure_cell(model, processor, samples, batch_size=size, **options) for size in (2, 7))
    for name in ("plain", "prefix"):
        assert in_pairs[name].nats == pytest.approx(at_once[name].nats, rel=1e-6)


@dataclass
class Team:
    """Processes that share work, as threads."""

    world_size: int
    barrier: threading.Barrier = field(init=False)
    values: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.barrier, self.values = threading.Barrier(self.world_size, timeout=60), [None] * self.world_size


@dataclass(frozen=True, kw_only=True)
class Member(Runtime):
    """One of the threads."""

    team: Team

    def gather(self, value: Any) -> list[Any]:
        self.team.values[self.rank] = value
        self.team.barrier.wait()
        values = list(self.team.values)
        self.team.barrier.wait()
        return values


@pytest.mark.parametrize("world_size", [2, 3, 9])
def test_processes_share_the_work_and_all_get_the_result(
    model: Polyglance, processor: Processor, samples: CellSamples, world_size: int
) -> None:
    """All processes call the model equally often, also the two of nine that have no sample among seven."""
    calls: dict[int, list[int]] = {rank: [] for rank in range(world_size)}

    def measure(runtime: Runtime, sizes: list[int]) -> Any:
        replica = copy.deepcopy(model)
        replica.decoder.register_forward_hook(lambda module, args, output: sizes.append(len(output[0])))
        return measure_cell(replica, processor, samples, prefix=PREFIX, runtime=runtime, **LIMITS)

    single_calls: list[int] = []
    expected = measure(Runtime.single(), single_calls)
    team = Team(world_size)
    members = [Member(rank=r, world_size=world_size, device=torch.device("cpu"), team=team) for r in range(world_size)]
    with ThreadPoolExecutor(world_size) as pool:
        results = list(pool.map(lambda member: measure(member, calls[member.rank]), members))
    assert all(losses == results[0] for losses in results)
    for variant, loss in expected.items():
        assert vars(results[0][variant]) == pytest.approx(vars(loss), rel=1e-6)
    assert {len(sizes) for sizes in calls.values()} == {len(single_calls)}
    assert max(size for sizes in calls.values() for size in sizes) == -(-7 // world_size)
    assert measure_cell(model, processor, samples, prefix=PREFIX, num_shares=world_size, **LIMITS) == results[0]


def test_shares_that_are_no_multiple_of_the_processes_are_refused(
    model: Polyglance, processor: Processor, samples: CellSamples
) -> None:
    runtime = Runtime(world_size=2, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="2 processes cannot measure in 3 shares"):
        measure_cell(model, processor, samples, prefix=PREFIX, runtime=runtime, num_shares=3, **LIMITS)


def test_cells_without_held_out_data_are_left_out_but_not_all_of_uc(world: Path) -> None:
    """The paper has captions in two of its four unseen languages (section 5.1)."""
    coverage = Coverage(caption=("en",), translation=("en", "fr", "zh"))
    cells = ["caption-en", "translation-en", "translation-fr", "translation-zh", "caption-fr", "caption-zh"]
    assert [str(cell) for cell in choose_cells(coverage)] == cells
    rows = {"caption-en": 3, "translation-zh": 3, "caption-zh": 2, "caption-fr": 0}
    assert [str(cell) for cell in choose_cells(coverage, rows)] == ["caption-en", "translation-zh", "caption-zh"]
    with pytest.raises(ValueError, match="no text of caption-fr, caption-zh, needed for UC"):
        choose_cells(coverage, {"caption-en": 3})
    with pytest.raises(ValueError, match="no held-out image has caption-de"):
        read_held_out(ShardReader(world / "test"), [Cell("caption", "de")], image_size=32, samples_per_cell=5)
