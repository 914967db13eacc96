"""Work of a device in the steps of a run: launches, shapes, time by kind of kernel, and time without work.

trace = StepTrace(device, first_step=17)
train(config, folder, hooks=Hooks(should_stop=trace.note_step))
trace.finish()
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["KernelProfile", "StepTrace", "classify_kernel"]

_KINDS: Mapping[str, tuple[str, ...]] = {
    "compiled": ("triton_",),  # first: the name goes on with those of the operators that are fused in it
    "messages": ("nccl", "gloo", "c10d"),
    "attention": ("flash", "fmha", "sdpa", "scaled_dot_product", "attention"),
    "optimiser": ("multi_tensor", "adam", "foreach"),
    "convolutions": ("conv", "winograd"),
    "matrix products": ("gemm", "cutlass", "cublas", "nvjet", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "lookups and sorting": ("gather", "scatter", "index", "embedding", "sort", "topk"),
    "copies and casts": ("memcpy", "memset", "copy", "aten::cat", "catarray"),
    "sums, norms and softmax": ("norm", "softmax", "reduce", "sum"),
}
"""Kind -> parts of the names of its kernels or operators. The first kind that fits counts."""
_OTHER = "elementwise and other"


@dataclass(frozen=True, kw_only=True)
class KernelProfile:
    """Work of the device in some steps."""

    steps: int
    """Number of steps."""
    launches_per_step: float
    """Kernels; on a CPU operators, those inside others too."""
    num_shapes: int
    """Different shapes that embedding tables were asked with: ids of prompts and targets, and their positions."""
    ms_per_step: Mapping[str, float]
    """Kind of kernel -> milliseconds, the longest first."""
    idle_share: float | None
    """Share of the time in which the GPU did nothing; None on a CPU."""


class StepTrace:
    """Records the steps of a run from `first_step` (from 0) to the last one. Waits for no device while it records.

    Args:
        device: device of the run; its index does not matter.
    """

    def __init__(self, device: torch.device, *, first_step: int) -> None:
        self._is_gpu = device.type == "cuda"
        self._first_step, self._num_steps = first_step, 0
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._is_gpu else [])]
        self._profiler = profile(activities=activities, record_shapes=True)
        self._is_recording = False

    def note_step(self) -> bool:
        """Note that a step begins; given to the loop as `Hooks.should_stop`, which it calls once a step."""
        if self._num_steps == self._first_step:
            self._profiler.start()
            self._is_recording = True
        self._num_steps += 1
        return False

    def finish(self) -> KernelProfile | None:
        """End the recording; return what was recorded, None if the run had no such step."""
        if not self._is_recording:
            return None
        if self._is_gpu:
            torch.cuda.synchronize()
        self._profiler.stop()
        events = list(self._profiler.events() or ())
        prefix = "" if self._is_gpu else "aten::"
        work = [e for e in events if _is_work(e, on_gpu=self._is_gpu) and e.name.startswith(prefix)]
        steps = self._num_steps - self._first_step
        totals: Counter[str] = Counter()
        for event in work:
            elapsed_us = event.time_range.elapsed_us() if self._is_gpu else event.self_cpu_time_total
            totals[classify_kernel(event.name)] += elapsed_us / 1e3 / steps
        return KernelProfile(
            steps=steps,
            launches_per_step=len(work) / steps,
            num_shapes=len({str(shapes) for event in events if (shapes := _looked_up(event))}),
            ms_per_step=dict(totals.most_common()),
            idle_share=_idle_share([(e.time_range.start, e.time_range.end) for e in work]) if self._is_gpu else None,
        )


def classify_kernel(name: str) -> str:
    """Return the kind of a kernel or an operator, by its name."""
    lowered = name.lower()
    return next((kind for kind, parts in _KINDS.items() if any(part in lowered for part in parts)), _OTHER)


def _is_work(event: Any, *, on_gpu: bool) -> bool:
    """Tell whether an event is work of the device. A span that a program has named, such as the optimiser's step, is
    shown on the GPU too, over its kernels and the gaps between them."""
    return (event.device_type.name == "CUDA") == on_gpu and not (on_gpu and event.is_user_annotation)


def _looked_up(event: Any) -> Any:
    """Return the shape of what an embedding table was asked with, None for other events."""
    if event.name != "aten::embedding" or len(event.input_shapes) < 2:
        return None
    return event.input_shapes[1]


def _idle_share(spans: Sequence[tuple[float, float]]) -> float:
    """Return the share of the time between the first start and the last end that no span covers."""
    covered, end = 0.0, -1.0
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    total = end - min((start for start, _ in spans), default=end)
    return 1 - covered / total if total > 0 else 0.0
