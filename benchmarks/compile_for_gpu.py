"""Layers of a published size compiled for an H200 on a machine without one: kernels, time, graphs for later batches.

    pip install --no-deps --target /tmp/triton triton==3.7.1
    PYTHONPATH=src:. python benchmarks/compile_for_gpu.py /tmp/triton 0.4b [--mix-order]

A forward and a backward pass of the true size are made, in bf16, on tensors of "cuda" that have no memory
(FakeTensorMode), with layers and loss head compiled as in training. Inductor writes its kernels for compute capability
9.0, and Triton and ptxas compile them; none is run. A pass of 2 samples is followed by ones of 96 and 384 with other
lengths: graphs that these need are compilations in the middle of a run. `--mix-order` leaves inductor's
`triton.mix_order_reduction` on. What torch asks of a GPU is answered here, which depends on the release: torch 2.13.
"""

# ruff: noqa: ARG001, ARG005
import tests.emulated_gpu.device as gpu  # isort: skip  # before torch is imported

import argparse
import importlib
import os
import resource
import sys
import tempfile
from typing import Any

import numpy as np
import torch

# Before inductor is imported: it reads them then. Its results would else be those of an earlier call.
os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FX_GRAPH_CACHE": "0"}
os.environ |= {"TORCHINDUCTOR_CACHE_DIR": tempfile.mkdtemp(), "TRITON_CACHE_DIR": tempfile.mkdtemp()}

KERNELS: list[str] = []
GRAPHS: list[str] = []


class H200:
    """Properties of the card, as torch.cuda gives them."""

    name, major, minor, multi_processor_count, total_memory = "NVIDIA H200", 9, 0, 132, 150 * 10**9
    regs_per_multiprocessor, max_threads_per_multi_processor, max_threads_per_block = 65536, 2048, 1024
    warp_size, shared_memory_per_block, shared_memory_per_block_optin = 32, 49152, 232448


class Driver:
    """Triton's driver of the card."""

    def get_current_target(self) -> Any:
        return importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)


def pretend() -> None:
    """Answer what torch and Triton ask of the GPU while they compile, and load no kernel."""
    answers = gpu.stand_ins() | {
        "get_device_properties": lambda device=None: H200(),
        "get_device_capability": lambda device=None: (9, 0),
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "is_initialized": lambda: True,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    torch._C._cuda_getCurrentRawStream = lambda device: 0
    torch.version.cuda = "13.0"
    interface = importlib.import_module("torch._dynamo.device_interface").CudaInterface
    for name in ("current_device", "device_count", "synchronize", "get_device_properties", "current_stream", "stream"):
        setattr(interface, name, staticmethod(getattr(torch.cuda, name)))
    for name in ("get_raw_stream", "exchange_device", "maybe_exchange_device"):
        setattr(interface, name, staticmethod(lambda device: 0))
    importlib.import_module("triton").runtime.driver.set_active(Driver())
    helpers: Any = importlib.import_module("torch._inductor.runtime.triton_helpers")
    helpers.set_driver_to_gpu = lambda: None
    # Both make small tensors on the device, with values.
    attention: Any = importlib.import_module("torch._inductor.fx_passes.fuse_attention")
    attention._sfdp_init = lambda *args, **kwargs: None
    inductor: Any = importlib.import_module("torch._inductor.config")
    inductor.joint_graph_constant_folding = False
    inductor.triton.mix_order_reduction = "--mix-order" in sys.argv
    compiler = importlib.import_module("torch._inductor.async_compile")

    def compile_kernel(self: Any, name: str, source: str, device_str: str = "cuda") -> Any:
        KERNELS.append(name)
        kernel = compiler._load_triton_kernel_from_source(name, source)
        kernel.precompile(warm_cache_only=True)
        return kernel

    compiler.AsyncCompile.triton = compile_kernel


def compile_graph(graph: Any, inputs: Any) -> Any:
    """Compile a graph with inductor, and return what computes the shapes of its results."""
    compiler = importlib.import_module("torch._inductor.compile_fx")

    def compile_part(part: Any, examples: Any, **options: Any) -> Any:
        GRAPHS.append(str(part))
        compiler.compile_fx_inner(part, examples, **options)

        def call(args: list[Any]) -> Any:
            given = list(args)
            args.clear()
            results = part.forward(*given)
            return results if isinstance(results, (list, tuple)) else (results,)

        call._boxed_call = True  # type: ignore[attr-defined]
        return call

    return compiler.compile_fx(graph, inputs, inner_compile=compile_part)


def make_batch(samples: int, prompt: int, target: int) -> Any:
    from polyglance.mixture.collate import Batch

    with torch.device("cuda"):
        return Batch(
            images=torch.zeros(samples, 224, 224, 3, dtype=torch.uint8),
            input_ids=torch.ones(samples, prompt, dtype=torch.long),
            attention_mask=torch.ones(samples, prompt, dtype=torch.long),
            labels=torch.ones(samples, target, dtype=torch.long),
            cell=np.zeros(samples, dtype=np.int64),
            places=torch.arange(max(128, samples * target // 256 * 128)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("triton", help="folder that Triton is installed in")
    parser.add_argument("size")
    parser.add_argument("--mix-order", action="store_true")
    given = parser.parse_args()
    sys.path.append(given.triton)
    pretend()
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    from polyglance.model.components import PUBLISHED_TRAINED, freeze, set_train_mode
    from polyglance.model.flops import build_on_meta
    from polyglance.model.sizes import resolve_size
    from polyglance.train.compiled import CompiledLayers
    from polyglance.train.step import CaptionObjective

    compile_function = torch.compile
    torch.compile = lambda function, **options: compile_function(function, **{**options, "backend": compile_graph})  # type: ignore[assignment]
    config = resolve_size(given.size)
    model = build_on_meta(config)
    with FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True):
        model.to_empty(device="cuda").tie_weights()
        freeze(model, PUBLISHED_TRAINED[config.decoder_config.model_type])
        CompiledLayers(model, backend=compile_graph)
        set_train_mode(model)
        for sizes in ((2, 128, 128), (96, 48, 64), (384, 64, 32)):
            before, since_s = (len(GRAPHS), len(KERNELS)), _cpu_s()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss, _ = CaptionObjective(model)(make_batch(*sizes), 32.0)
                with torch.autocast("cuda", enabled=False):
                    loss.backward()
            model.zero_grad(set_to_none=True)
            graphs, kernels = len(GRAPHS) - before[0], len(KERNELS) - before[1]
            print(f"{sizes}: {graphs} graphs, {kernels} kernels, {_cpu_s() - since_s:.0f} s of CPU time", flush=True)


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
