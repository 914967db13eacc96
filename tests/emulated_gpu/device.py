"""A GPU that is emulated on the CPU, so that what runs on CUDA alone can be tried where there is no GPU.

import tests.emulated_gpu.device as gpu       # before anything imports torch
with gpu.emulate() as device:
    ...                                       # torch.cuda.is_available(); tensors on "cuda" compute on the CPU
    with device.quiet():
        ...                                   # raises where the host would wait for a GPU

A tensor on the device holds one of the CPU, and operators are computed on that: results are true. What a GPU refuses is
refused: operands in main memory, and anything that waits while a graph is captured. A graph records operators without
computing their effects and repeats them at every replay. A copy that does not block arrives when it is waited for.
"""

import contextlib
import ctypes
import functools
import importlib.util
import inspect
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


def _load_hooks() -> None:
    """Compile and load hooks.cpp."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for name in ("c10", "torch_cpu"):
        ctypes.CDLL(str(root / "lib" / f"lib{name}.so"), mode=ctypes.RTLD_GLOBAL)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libhooks.so"
        command = ["g++", "-O0", "-std=c++20", "-shared", "-fPIC", f"-I{root / 'include'}"]
        command += [str(Path(__file__).with_name("hooks.cpp")), "-o", str(library), f"-L{root / 'lib'}"]
        subprocess.run([*command, "-lc10", "-ltorch_cpu"], check=True)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


_load_hooks()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten  # noqa: E402

aten = torch.ops.aten

_WAITING = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "_unique", "equal", "is_nonzero")
"""Operators whose result, or its size, the host has to read from a GPU. `bincount` does so too."""
_COPIES = ("_to_copy", "copy_")


class GpuTensor(torch.Tensor):
    """A tensor on the emulated device; `elem` is the tensor in main memory that it is computed with."""

    elem: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, elem: Tensor) -> "GpuTensor":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=torch.device("cuda", 0),
        )

    def __init__(self, elem: Tensor) -> None:
        self.elem = elem

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return DEVICE.run(function, args, kwargs or {})

    def data_ptr(self) -> int:
        return self.elem.data_ptr()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.elem.untyped_storage()

    @property  # type: ignore[override]
    def data(self) -> "GpuTensor":
        return torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]

    @data.setter
    def data(self, other: "GpuTensor") -> None:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.elem = other.elem

    def __repr__(self) -> str:  # type: ignore[override]
        return f"GpuTensor({self.elem!r})"


class Graph:
    """What was captured: operators with the tensors that they read and write."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._steps: list[tuple[Any, Any, Any, Any]] = []

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global", **options: Any) -> None:
        assert capture_error_mode in ("global", "thread_local", "relaxed")
        assert not options.keys() - {"check_input_liveness"}
        assert DEVICE.graph is None
        DEVICE.graph = self

    def capture_end(self) -> None:
        DEVICE.graph = None

    def replay(self) -> None:
        DEVICE.counts["replay"] += 1
        for function, args, kwargs, outputs in self._steps:
            results, _ = tree_flatten(function(*args, **kwargs))
            if function._schema.is_mutable:
                continue
            for output, result in zip(outputs, results, strict=True):
                if isinstance(output, Tensor) and output.data_ptr() != result.data_ptr():
                    output.copy_(result)

    def record(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        self._steps.append((function, args, kwargs, tree_flatten(result)[0]))


class Event:
    """Point of the queue; what was copied before it has arrived once it is waited for."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._number = 0

    def record(self, stream: Any = None) -> None:
        self._number = len(DEVICE.pending)

    def synchronize(self) -> None:
        DEVICE.counts["event"] += 1
        DEVICE.arrive()


class Stream:
    """A stream of a device that does everything at once."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        assert torch.device(device or "cuda").type == "cuda"
        self.device = torch.device("cuda", 0)

    def synchronize(self) -> None:
        DEVICE.arrive()

    def wait_stream(self, stream: "Stream") -> None:
        pass


class Device:
    """State of the emulated device."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Operators by name; waits as `wait: NAME`; `pageable` copies; replays of graphs."""
        self.graph: Graph | None = None
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.room_bytes: float = float("inf")
        """Size of the largest tensor that there is memory for."""
        self._is_quiet = False
        self._pinned: set[int] = set()
        self._kept: list[Tensor] = []

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Refuse what makes the host wait."""
        before, self._is_quiet = self._is_quiet, True
        try:
            yield
        finally:
            self._is_quiet = before

    def wait(self, device: Any = None) -> None:
        """Wait for the queue, as torch.cuda.synchronize does."""
        self.counts["synchronize"] += 1
        self._refuse_wait("synchronize")
        self.arrive()

    def arrive(self) -> None:
        """Finish the copies that were queued."""
        for target, values in self.pending:
            target.copy_(values)
        self.pending.clear()

    def run(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Compute an operator."""
        name = function.overloadpacket.__name__
        flat, structure = tree_flatten((args, kwargs))
        on_gpu = any(isinstance(value, GpuTensor) for value in flat)
        target = kwargs.get("device")
        to_gpu = target is not None and torch.device(target).type == "cuda"
        if not on_gpu and not to_gpu:
            return self._run_in_main_memory(name, function, args, kwargs)
        if name in _COPIES and self._crosses(name, args, kwargs):
            return self._copy(name, function, args, kwargs)
        self._check(name, function, flat)
        self.counts[name] += 1
        if target is not None and not to_gpu:  # a new tensor in main memory, like one of the device
            return function(*tree_map(lambda value: getattr(value, "elem", value), args), **kwargs)
        plain = [value.elem if isinstance(value, GpuTensor) else value for value in flat]
        plain_args, plain_kwargs = tree_unflatten(plain, structure)
        if to_gpu:
            plain_kwargs["device"] = torch.device("cpu")
        plain_kwargs.pop("pin_memory", None)
        if name == "_fused_sdp_choice":
            return 0  # the kernels of a GPU are not there; the others are made of operators
        if self.graph is not None and function._schema.is_mutable:
            result = plain_args[0]
        else:
            result = function(*plain_args, **plain_kwargs)
        if self.graph is not None:
            self.graph.record(function, plain_args, plain_kwargs, result)
        wrapped = tree_map(lambda value: GpuTensor(value) if isinstance(value, Tensor) else value, result)
        self._check_room(result)
        return return_and_correct_aliasing(function, args, kwargs, wrapped)

    def _run_in_main_memory(self, name: str, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if name == "is_pinned":
            return args[0].untyped_storage().data_ptr() in self._pinned
        if name == "_pin_memory":
            return self._pin(args[0].clone())
        if kwargs.get("pin_memory"):
            return self._pin(function(*args, **{**kwargs, "pin_memory": False}))
        return function(*args, **kwargs)

    def _pin(self, tensor: Tensor) -> Tensor:
        self._kept.append(tensor)  # so that no other tensor gets its place
        self._pinned.add(tensor.untyped_storage().data_ptr())
        return tensor

    def _crosses(self, name: str, args: Any, kwargs: dict[str, Any]) -> bool:
        if name == "copy_":
            return isinstance(args[0], GpuTensor) != isinstance(args[1], GpuTensor)
        target = kwargs.get("device")
        return target is not None and isinstance(args[0], GpuTensor) != (torch.device(target).type == "cuda")

    def _copy(self, name: str, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Copy between main memory and the device."""
        source = args[1] if name == "copy_" else args[0]
        is_late = kwargs.get("non_blocking", False) or (name == "copy_" and len(args) > 2 and args[2])
        from_gpu = isinstance(source, GpuTensor)
        host = (args[0] if name == "copy_" else None) if from_gpu else source
        is_pinned = host is not None and host.untyped_storage().data_ptr() in self._pinned
        if self.graph is not None:
            raise RuntimeError("a copy between main memory and device is not permitted when the stream is capturing")
        if not (is_late and is_pinned):
            self.counts["wait: copy from device" if from_gpu else "pageable"] += 1
            self._refuse_wait(f"{name} {'from' if from_gpu else 'to'} the device")
        plain = source.elem if isinstance(source, GpuTensor) else source
        if name == "copy_":
            if not from_gpu:
                args[0].elem.copy_(plain)
            elif is_late and is_pinned:
                args[0].fill_(-7)  # what is read too early is wrong
                self.pending.append((args[0], plain.clone()))
            else:
                args[0].copy_(plain)
            return args[0]
        options = {key: value for key, value in kwargs.items() if key not in ("device", "non_blocking", "pin_memory")}
        copied = aten._to_copy.default(plain, **options)
        copied = copied.clone() if copied is plain else copied
        return copied if from_gpu else GpuTensor(copied)

    def _check(self, name: str, function: Any, flat: list[Any]) -> None:
        """Refuse what a GPU refuses, and waits where none may be."""
        for value in flat:
            if isinstance(value, Tensor) and not isinstance(value, GpuTensor) and value.dim():
                if name not in ("index", "index_put_", "index_put"):
                    raise RuntimeError(f"{function}: an operand is in main memory, with shape {tuple(value.shape)}")
                self._note_wait(f"{name} by an index in main memory")
        masks = [v for v in flat if isinstance(v, GpuTensor) and v.dtype in (torch.bool, torch.uint8)]
        by_mask = name in ("index", "index_put_", "index_put") and masks[-1:] and _is_index(function, flat, masks)
        sizes_are_read = name == "repeat_interleave" and "output_size" not in str(flat)
        if name in _WAITING or name == "bincount" or by_mask or sizes_are_read:
            self._note_wait(name)

    def _note_wait(self, name: str) -> None:
        if self.graph is not None:
            raise RuntimeError(f"{name} is not permitted when the stream is capturing")
        self.counts[f"wait: {name}"] += 1
        self._refuse_wait(name)

    def _refuse_wait(self, name: str) -> None:
        assert not self._is_quiet, f"{name} makes the host wait for the device"

    def _check_room(self, result: Any) -> None:
        for value in tree_flatten(result)[0]:
            if isinstance(value, Tensor) and value.nbytes > self.room_bytes:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {value.nbytes} bytes")


def _is_index(function: Any, flat: list[Any], masks: list[Any]) -> bool:
    """Tell whether one of the masks is an index, not the tensor that is indexed or what is put there."""
    return any(mask is not flat[0] and mask is not flat[-1] for mask in masks) or (
        function.overloadpacket.__name__ == "index" and flat[-1] is masks[-1]
    )


DEVICE = Device()


class _Mode(TorchDispatchMode):
    """Sends operators that make a tensor on the device, and none that is there, to the device too."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return DEVICE.run(function, args, kwargs or {})


class _StreamContext:
    """What torch.cuda.stream returns."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream, self._before = stream, Stream()

    def __enter__(self) -> None:
        self._before = DEVICE_STREAMS[-1]
        DEVICE_STREAMS.append(self.stream or self._before)

    def __exit__(self, *args: object) -> None:
        DEVICE_STREAMS.append(self._before)


DEVICE_STREAMS = [Stream()]
"""Current streams so far; the last one is current."""


class _Properties:
    name, major, minor, multi_processor_count = "emulated GPU", 9, 0, 132
    total_memory = 150 * 10**9


class Runtime:
    """Functions of CUDA itself that torch's stager of checkpoints calls; 0 is success."""

    result = 0

    @classmethod
    def cudaHostRegister(cls, pointer: int, size: int, flags: int) -> int:
        assert (pointer > 0, size > 0, flags) == (True, True, 1)
        DEVICE.counts["register"] += 1
        return cls.result

    @classmethod
    def cudaHostUnregister(cls, pointer: int) -> int:
        return 0


def stand_ins() -> dict[str, Callable[..., Any]]:
    """Return name in torch.cuda -> function in its place."""
    device = DEVICE
    return {
        "is_available": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: DEVICE.wait(),
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (140 * 10**9, 150 * 10**9),
        "memory_allocated": lambda device=None: 2**20,
        "max_memory_allocated": lambda device=None: 2**20,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_device_properties": lambda device=None: _Properties(),
        "is_bf16_supported": lambda including_emulation=True: True,
        "current_stream": lambda device=None: DEVICE_STREAMS[-1],
        "stream": lambda stream: _StreamContext(stream),
        "is_current_stream_capturing": lambda: device.graph is not None,
        "cudart": lambda: Runtime,
        "set_sync_debug_mode": _set_sync_debug_mode,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
    }


def _set_sync_debug_mode(debug_mode: int | str) -> None:
    DEVICE._is_quiet = debug_mode in (2, "error")


def _with_signature_of(real: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Call the function once the arguments are those that the real one takes."""
    signature = inspect.signature(real)

    @functools.wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)
        return function(*args, **kwargs)

    return call


@contextmanager
def emulate() -> Iterator[Device]:
    """Let torch find one GPU, the emulated one, in a block. Functions are not compiled in it."""
    with contextlib.ExitStack() as stack:
        for name, function in stand_ins().items():
            real = getattr(torch.cuda, name)
            stack.enter_context(mock.patch.object(torch.cuda, name, _with_signature_of(real, function)))
        for name, kind in (("Event", Event), ("Stream", Stream), ("CUDAGraph", Graph)):
            stack.enter_context(mock.patch.object(torch.cuda, name, kind))
        stack.enter_context(mock.patch.object(torch._C, "_host_emptyCache", create=True))
        stack.enter_context(mock.patch.object(torch.accelerator, "synchronize", DEVICE.wait))
        stack.enter_context(mock.patch.object(torch, "compile", _leave_as_it_is))
        torch._C._set_only_lift_cpu_tensors(True)  # as FakeTensorMode: a tensor of numbers reaches the mode then
        stack.enter_context(mock.patch.object(torch.__future__, "get_swap_module_params_on_conversion", _must_swap))
        stack.enter_context(_Mode())  # type: ignore[no-untyped-call]
        yield DEVICE


def _must_swap() -> bool:
    """Tell nn.Module._apply, which asks, whether its parameters come to the device or leave it: they have to stay the
    same objects then, as with a GPU."""
    caller = sys._getframe(1).f_locals
    if "fn" not in caller:
        return False  # weights are loaded, into what is there
    probes = [p.detach().flatten()[:0] for p in caller["self"]._parameters.values() if p is not None]
    return any(isinstance(caller["fn"](probe), GpuTensor) != isinstance(probe, GpuTensor) for probe in probes)


def _leave_as_it_is(function: Any = None, **options: Any) -> Any:
    return (lambda given: given) if function is None else function
