"""Operators that a training step of the published sizes calls, counted without a GPU and without memory.

    python benchmarks/launches.py

Each operator of torch that computes is at least one kernel, which a program in Python has to launch. A forward and a
backward pass of the true sizes is made on the meta device, which has no values and takes the code path of accelerators:
published lengths, a micro-batch of 32, the published components trained. In float32, because autocast does not know the
meta device: the casts of weights come on top, and more of them in the published step. Views, which launch nothing, and
the optimiser's step, which is fused, are not counted.

`published`: eager attention and all logits. `own`: the project's step with nothing compiled. `own, outside layers`:
what is left of it outside the layers of encoder, decoder and tower, which are compiled on a GPU, with the loss head's
compiled functions as one call each. To it come, for each compiled layer, the launches that the compiler makes of it.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from polyglance.mixture.collate import Batch
from polyglance.model import loss as loss_head
from polyglance.model.architecture import Polyglance
from polyglance.model.components import PUBLISHED_TRAINED, freeze, set_train_mode
from polyglance.model.sizes import resolve_size
from polyglance.model.vision import normalise_pixels
from polyglance.train.parallel import find_layers
from polyglance.train.step import CaptionObjective

SIZES = ("0.4b", "1.0b", "3.5b", "11.2b")
WAIT = "_local_scalar_dense"
SAMPLES, SOURCE_TOKENS, TARGET_TOKENS = 32, 48, 64


class CallCounter(TorchDispatchMode):
    """Counts the calls of operators that compute, and how often the program reads a value of the device and so waits
    for it. Such a value is false here: masks are then made, as for samples of different lengths."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self._is_inside = False

    def count_as_one(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose operators count as one call, because it is compiled on a GPU."""

        def call(*args: Any) -> Any:
            self.calls["compiled"] += 1
            self._is_inside = True
            try:
                return function(*args)
            finally:
                self._is_inside = False

        return call

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        is_work = not function.is_view and name not in ("empty", "empty_like", "empty_strided", "detach")
        self.calls[name] += is_work and not self._is_inside
        return False if name == WAIT else function(*args, **(kwargs or {}))


def make_batch() -> Batch:
    with torch.device("meta"):
        return Batch(
            images=torch.zeros(SAMPLES, 224, 224, 3, dtype=torch.uint8),
            input_ids=torch.ones(SAMPLES, SOURCE_TOKENS, dtype=torch.long),
            attention_mask=torch.ones(SAMPLES, SOURCE_TOKENS, dtype=torch.long),
            labels=torch.ones(SAMPLES, TARGET_TOKENS, dtype=torch.long),
            cell=np.zeros(SAMPLES, dtype=np.int64),
        )


def make_model(size: str) -> Polyglance:
    config = resolve_size(size)
    with torch.device("meta"):
        model = Polyglance(config)
    freeze(model, PUBLISHED_TRAINED[config.decoder_config.model_type])
    set_train_mode(model)
    return model


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the layers of encoder and decoder and the blocks of the tower: what `CompiledLayers` compiles."""
    blocks = [module for module in model.modules() if type(module).__name__ == "Florence2VisionBlock"]
    return [*find_layers(model), *blocks]


def leave_out_layers(model: nn.Module) -> None:
    """Let every compiled layer return what it is given."""
    for block in find_blocks(model):
        block.forward = lambda states, *_, **__: states


def count_calls(size: str, kind: str) -> Counter[str]:
    """Count the operators of a forward and a backward pass, of one of the three kinds."""
    model, batch = make_model(size), make_batch()
    if kind == "published":
        model.set_attn_implementation("eager")
    counter = CallCounter()
    with contextlib.ExitStack() as stack:
        if kind == "outside":
            leave_out_layers(model)
            for name in ("_add_block", "_block_gradient"):
                stack.enter_context(mock.patch.object(loss_head, name, counter.count_as_one(getattr(loss_head, name))))
        stack.enter_context(counter)
        if kind == "published":
            pixels = normalise_pixels(batch.images)
            loss = model(pixels, batch.input_ids, batch.attention_mask, labels=batch.labels, return_logits=True).loss
        else:
            loss, _ = CaptionObjective(model)(batch, float(SAMPLES * TARGET_TOKENS))
        loss.backward()
    return counter.calls


def main() -> None:
    print("| size | published | waits | own | waits | ratio | own, outside layers | compiled layers |")
    print("|---|---|---|---|---|---|---|---|")
    for size in SIZES:
        published, own, outside = (count_calls(size, kind) for kind in ("published", "own", "outside"))
        row = [size]
        for counts in (published, own):
            row += [f"{counts.total() - counts[WAIT]:,}", str(counts[WAIT])]
        row += [f"{published.total() / own.total():.2f}", f"{outside.total():,}"]
        print(f"| {' | '.join(row)} | {len(find_blocks(make_model(size)))} |", flush=True)


if __name__ == "__main__":
    main()
