"""One training run: a model on a mixture, from its configuration to the saved model."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from polyglance.config import to_dict
from polyglance.distributed import Runtime, join_processes
from polyglance.engines.devices import set_up_gpu
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.loader import Loader
from polyglance.model.architecture import Polyglance
from polyglance.model.components import count_replica_bytes
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.generate import load_polyglance
from polyglance.train.compiled import CompiledLayers
from polyglance.train.config import TrainConfig
from polyglance.train.folder import RunFolder
from polyglance.train.frozen import FrozenWeights
from polyglance.train.identity import identify_run
from polyglance.train.loop import BatchSource, Hooks, Loop, MicroBatches
from polyglance.train.metrics import make_mfu
from polyglance.train.micro_batch import Trial, fix_micro_batch_size, fix_passes
from polyglance.train.parallel import recompute_activations
from polyglance.train.sinks import TrackingConfig, open_sinks
from polyglance.train.start import make_mixture, make_model, make_processor, plan_micro_batches
from polyglance.train.step import CaptionObjective
from polyglance.train.trunk import open_trunk
from polyglance.train.vision_cache import open_features

__all__ = ["make_batch_source", "prepare_objective", "train"]


def train(
    config: TrainConfig,
    run_dir: str | Path,
    *,
    hooks: Hooks = Hooks(),  # noqa: B008  frozen
    show_progress: bool = False,
) -> Polyglance:
    """Train a model and leave its record in `run_dir`; go on from a checkpoint there. Under torchrun every process
    calls this with the same arguments.

    Writes config.toml, env.json, metrics.jsonl, samples.json (S per cell) and checkpoints/final (a folder that
    `from_pretrained` reads, with its processor).

    Raises:
        ValueError: data, coverage and configuration do not fit each other, or losses or weights are no longer finite.
        Stopped: the run was asked to stop and is saved.
    """
    identity = identify_run(config)
    folder = RunFolder(Path(run_dir), config, identity)
    folder.check_settings()
    if folder.is_trained():
        return load_polyglance(folder.final).eval()
    model = make_model(config)
    processor = make_processor(config, model.config)
    num_bytes = count_replica_bytes(model, is_cast=config.engine.precision != "fp32")
    with join_processes(config.engine, num_bytes_per_replica=num_bytes) as runtime:
        trunk = open_trunk(config, runtime)
        model.to(runtime.device)
        if runtime.is_main:
            folder.describe()
        if hooks.before_first_step is not None:
            hooks.before_first_step(model.eval(), runtime)
        runtime.barrier()
        features = open_features(config, model, processor, runtime)
        mixture = make_mixture(config, processor, model.config, features)
        image_size, is_cached = processor.config.image_size, features is not None
        if runtime.is_main:
            folder.write_samples(mixture.samples_per_cell(config.num_steps))
        mfu = None
        if (peak_tflops := config.engine.peak_tflops) is not None:
            mfu = make_mfu(model, runtime, peak_tflops=peak_tflops, image_size=image_size, is_cached=is_cached)
        objective, frozen, max_samples = prepare_objective(
            config, model, runtime, folder.path, image_size=image_size, is_cached=is_cached
        )
        batches = make_batch_source(config, mixture, model.config, runtime, folder.path, max_samples=max_samples)
        tracking = config.tracking if runtime.is_main else TrackingConfig()
        name = f"{folder.path.name}-{identity.settings}"
        with open_sinks(tracking, folder.path, name=name, settings=to_dict(config)) as send:

            def on_row(row: Mapping[str, Any]) -> None:
                send(row)
                if hooks.on_row is not None:
                    hooks.on_row(row)

            hooks_of_loop = replace(hooks, on_row=on_row)
            loop = Loop(
                objective, batches, config, folder.path, runtime, identity, hooks=hooks_of_loop, mfu=mfu, trunk=trunk
            )
            loop.run(show_progress=show_progress)
            frozen.restore()
        folder.save_final(model, runtime, processor)
        if runtime.strategy == "fsdp":  # its parameters are in pieces, which end with the processes
            return load_polyglance(folder.final).eval()
    return model.cpu().eval()


def prepare_objective(
    config: TrainConfig, model: Polyglance, runtime: Runtime, run_dir: Path, *, image_size: int, is_cached: bool
) -> tuple[CaptionObjective, FrozenWeights, int | None]:
    """Prepare the objective of a model on the run's device: compiled layers, recomputed activations, frozen weights in
    the run's precision, and the number of samples a pass.

    Args:
        run_dir: folder that gets the record of the samples a pass, if their number is `auto`.
        image_size: side of the square images, in pixels.
        is_cached: the run trains on features of the vision tower.

    Returns:
        The objective; the frozen weights, to be restored before the model is saved; the most samples of a pass, where
        their number is `auto`.

    Raises:
        ValueError: not even one sample fits into the device's memory, or layers that have to be compiled cannot be.
    """
    set_up_gpu(runtime.device)
    objective = CaptionObjective(model)
    compiled = CompiledLayers(model) if config.engine.compiles(runtime.device.type) else None
    if config.engine.activation_checkpointing:
        recompute_activations(objective)
    frozen = FrozenWeights(model, torch.float32 if runtime.strategy == "fsdp" else runtime.dtype)
    trial = Trial(config, objective, runtime, image_size=image_size, is_cached=is_cached)
    if compiled is not None and runtime.strategy != "fsdp":  # shards are compiled as they are first gathered
        compiled.warm_up(trial.make_first_pass, runtime, is_required=bool(config.engine.compile))
    return objective, frozen, fix_micro_batch_size(trial, run_dir)


def make_batch_source(
    config: TrainConfig,
    mixture: Mixture,
    model_config: PolyglanceConfig,
    runtime: Runtime,
    run_dir: Path,
    *,
    max_samples: int | None,
) -> BatchSource:
    """Return the batches of a run, in as many shapes as it is to have.

    Args:
        run_dir: folder that gets the record of the passes of a step, if the number of samples a pass is `auto`.
        max_samples: most samples of a pass, where their number is `auto`.
    """
    plan = partial(
        plan_micro_batches, config, mixture, model_config, max_samples=max_samples, world_size=runtime.world_size
    )
    num_micro_batches = plan() if max_samples is None else fix_passes(mixture, plan, run_dir, runtime)

    @contextmanager
    def open_loader(first_step: int) -> Iterator[MicroBatches]:
        with Loader(
            mixture,
            first_step=first_step,
            num_steps=config.num_steps,
            micro_batches=runtime.local_micro_batches(num_micro_batches),
            num_micro_batches=num_micro_batches,
            num_workers=config.engine.num_workers,
            pin_memory=runtime.device.type == "cuda",
        ) as loader:
            try:
                yield iter(loader)
            finally:
                if loader.bad_samples.counts:
                    reasons = dict(loader.bad_samples)
                    print(f"bad samples, replaced by others: {reasons}", file=sys.stderr, flush=True)

    cells = tuple(str(cell) for cell in mixture.cells)
    return BatchSource(cells=cells, num_micro_batches=num_micro_batches, open=open_loader)
