"""Training runs: a model on a mixture, and a language model on texts alone."""

import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn
from transformers import Gemma2ForCausalLM

from polyglance.config import fingerprint, save, to_dict
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime, runtime
from polyglance.files import replacing_folder, write_atomically, write_json
from polyglance.mixture.collate import IGNORED, Batch, pad, target_ids
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.loader import Loader
from polyglance.mixture.tokenizer import BOS, load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.assemble import build_language_model, insert_language_model, insert_vision_tower
from polyglance.model.components import COMPONENTS, PUBLISHED_TRAINED, find_component, freeze
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.flops import build_on_meta, count_macs, count_training_macs
from polyglance.model.processor import Processor
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.config import LanguageModelConfig, StartConfig, TrainConfig, VisionCacheConfig, may_change
from polyglance.train.environment import environment
from polyglance.train.features import cached_features
from polyglance.train.loop import Training, optimise
from polyglance.train.metrics import measured_peak_tflops
from polyglance.train.parallel import recompute_activations, replica_bytes, whole
from polyglance.train.sinks import Sinks
from polyglance.train.step import CaptionObjective, LanguageModelObjective

__all__ = [
    "LanguageModelConfig",
    "StartConfig",
    "TrainConfig",
    "VisionCacheConfig",
    "initial_model",
    "mixture_for",
    "processor_for",
    "train",
    "train_language_model",
]


def initial_model(start: StartConfig, *, vocab_size: int, seed: int) -> Polyglance:
    """The model before its first step: a checkpoint, or random weights from the seed, then the parts that are given.

    Args:
        vocab_size: entries of a micro model's tokenizer.
    """
    if (folder := start.checkpoint_folder()) is not None:
        model = Polyglance.from_pretrained(folder, dtype=torch.float32)
    else:
        torch.manual_seed(seed)
        model = Polyglance(start.model.build(vocab_size))
    if start.language_model is not None:
        insert_language_model(model, start.language_model)
    if start.vision_tower is not None:
        insert_vision_tower(model, start.vision_tower)
    kind = model.config.decoder_config.model_type
    freeze(model, PUBLISHED_TRAINED[kind] if start.trained == "published" else start.trained)
    return model


def processor_for(config: TrainConfig, model: PolyglanceConfig) -> Processor:
    """Tokenizers, frames and image size that the run's data is prepared with, for a model of this configuration."""
    if config.start.checkpoint is None:
        assert config.tokenizer is not None
        size = config.image_size or config.start.model.image_size
        return Processor.for_model(model, load_tokenizer(config.tokenizer), image_size=size)
    found = Processor.load(config.start.checkpoint)
    found.check_vocabularies(model)
    if config.image_size is None:
        return found
    has_two = found.decoder_tokenizer is not found.encoder_tokenizer
    decoder_tokenizer = found.decoder_tokenizer if has_two else None
    return Processor.for_model(model, found.encoder_tokenizer, decoder_tokenizer, image_size=config.image_size)


def mixture_for(config: TrainConfig, processor: Processor, features: FeatureStore | None = None) -> Mixture:
    """The batches of the run."""
    return Mixture(
        config.mixture,
        config.coverage,
        ShardReader(config.data),
        processor.decoder_tokenizer,
        image_size=processor.config.image_size,
        seed=config.seed,
        prompt_tokenizer=processor.encoder_tokenizer,
        frames=processor.frames,
        features=features,
    )


def train(
    config: TrainConfig,
    run_dir: str | Path,
    *,
    show_progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    before_first_step: Callable[[Polyglance, Runtime], None] | None = None,
    validate: Callable[[Polyglance, Runtime], Mapping[str, float]] | None = None,
    on_phases: Callable[[Mapping[str, float]], None] | None = None,
) -> Polyglance:
    """Train a model and leave its record in `run_dir`; goes on from a checkpoint there. Under torchrun every process
    calls this with the same arguments.

    Writes config.toml, env.json, metrics.jsonl, samples.json (S per cell) and checkpoints/final (a folder that
    `from_pretrained` reads, with its processor).

    Args:
        should_stop: asked once a step; at yes the step is finished and saved, and `Stopped` is raised.
        before_first_step: called at every start, in every process, with the model before training, undivided.
        validate: losses on held-out data, by name; called at every checkpoint, in every process, with the model as it
            is divided. All have to pass through it equally often, and to get the same losses.
        on_phases: called in the end with the seconds of each phase, which are then taken exactly.

    Raises:
        ValueError: data, coverage and configuration do not fit each other, or gradients are no longer finite.
        Stopped: the run was asked to stop and has saved where it was.
    """
    run_dir = Path(run_dir)
    _check_same_run(run_dir, config)
    if _is_trained(run_dir, config.settings):
        return Polyglance.from_pretrained(run_dir / "checkpoints" / "final").eval()
    vocab_size = 0 if config.tokenizer is None else load_tokenizer(config.tokenizer).get_vocab_size()
    model = initial_model(config.start, vocab_size=vocab_size, seed=config.seed)
    processor = processor_for(config, model.config)
    num_bytes = replica_bytes(model, config.engine.precision)
    with runtime(config.engine, num_bytes_per_replica=num_bytes) as here:
        model.to(here.device)
        if here.is_main:
            _describe(run_dir, config)
        if before_first_step is not None:
            before_first_step(model.eval(), here)
        here.barrier()
        features = cached_features(config, model, processor, here)
        mixture = mixture_for(config, processor, features)
        if here.is_main:
            counts = mixture.samples_per_cell(config.num_steps)
            write_atomically(run_dir / "samples.json", json.dumps(counts, indent=2) + "\n")
        training = _training(
            config,
            run_dir,
            here,
            cells=[str(cell) for cell in mixture.cells],
            show_progress=show_progress,
            is_timed=on_phases is not None,
            should_stop=should_stop,
            validate=None if validate is None else partial(validate, model, here),
            mfu=_mfu(config, model, processor, here, is_cached=features is not None),
        )
        seconds = _optimise(CaptionObjective(model), partial(_loaded, config, mixture, here), training, config, here)
        if on_phases is not None:
            on_phases(seconds)
        _keep_final(run_dir, model, here, config.settings, processor)
        if here.strategy == "fsdp":  # its parameters are in pieces, which end with the processes
            return Polyglance.from_pretrained(run_dir / "checkpoints" / "final").eval()
    return model.cpu().eval()


def train_language_model(
    config: LanguageModelConfig, run_dir: str | Path, *, show_progress: bool = False
) -> Gemma2ForCausalLM:
    """Train a stock Gemma-2 of the decoder's sizes on captions as texts; leaves in `run_dir` what `train` leaves."""
    run_dir = Path(run_dir)
    tokenizer = load_tokenizer(config.tokenizer)
    torch.manual_seed(config.seed)
    model = build_language_model(config.model.build(tokenizer.get_vocab_size()))
    here = Runtime(device=torch.device("cpu"))
    _describe(run_dir, config)
    training = Training(
        optim=config.optim,
        num_steps=config.num_steps,
        run_dir=run_dir,
        cells=list(config.languages),
        seed=config.seed,
        settings=fingerprint(config),
        save_every_steps=config.save_every_steps,
        show_progress=show_progress,
    )
    optimise(LanguageModelObjective(model), partial(_text_batches, config, tokenizer), training, here)
    _keep_final(run_dir, model, here, training.settings)
    return model.eval()


def _training(config: TrainConfig, run_dir: Path, here: Runtime, **more: Any) -> Training:
    """What the loop needs to know of the configuration."""
    same = ("optim", "num_steps", "seed", "settings", "save_every_steps", "keep_last", "best", "log_every_steps")
    return Training(
        run_dir=run_dir,
        num_parts=config.engine.num_parts(config.mixture.batch_size, here.world_size),
        watch=config.watch,
        **{name: getattr(config, name) for name in same},
        **more,
    )


def _optimise(
    objective: nn.Module,
    batches: Callable[[int], AbstractContextManager[Iterator[tuple[int, int, Batch]]]],
    training: Training,
    config: TrainConfig,
    here: Runtime,
) -> dict[str, float]:
    """`optimise`, with what the configuration puts around it."""
    if config.engine.activation_checkpointing:
        recompute_activations(objective)
    if not here.is_main or not config.tracking.sinks:
        return optimise(objective, batches, training, here)
    name = f"{training.run_dir.name}-{training.settings}"
    with Sinks(config.tracking, training.run_dir, name=name, settings=to_dict(config)) as sinks:
        return optimise(objective, batches, replace(training, on_row=sinks.write), here)


@contextmanager
def _loaded(config: TrainConfig, mixture: Mixture, here: Runtime, first_step: int) -> Iterator[Any]:
    """The micro-batches of this process, made ahead; samples that could not be used are listed in the end."""
    num_parts = config.engine.num_parts(config.mixture.batch_size, here.world_size)
    with Loader(
        mixture,
        first_step=first_step,
        num_steps=config.num_steps,
        indices=here.indices(num_parts),
        num=num_parts,
        num_workers=config.engine.num_workers,
        pin_memory=here.device.type == "cuda",
    ) as loader:
        try:
            yield iter(loader)
        finally:
            if loader.bad_samples.counts:
                print(f"bad samples, replaced by others: {dict(loader.bad_samples)}", file=sys.stderr, flush=True)


def _mfu(
    config: TrainConfig, model: Polyglance, processor: Processor, here: Runtime, *, is_cached: bool
) -> Callable[[float, float, float], float] | None:
    """(samples/s, mean prompt tokens, mean target tokens) -> share of the peak of all devices that the model's own
    operations take; recomputed activations and padding are not among them, nor is a tower whose features are kept."""
    peak = config.engine.peak_tflops
    if peak is None:
        return None
    peak_flops = (measured_peak_tflops(here) if peak == "measured" else float(peak)) * 1e12 * here.world_size
    trained = {find_component(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    parts = tuple(part for part in COMPONENTS if part in trained)

    @lru_cache
    def macs(source: int, target: int) -> int:
        sizes = {"image_size": processor.config.image_size, "source_tokens": source, "target_tokens": target}
        total = count_training_macs(model.config, parts, **sizes)
        return total - (count_macs(build_on_meta(model.config), **sizes)["vision"] if is_cached else 0)

    return lambda samples_per_s, source, target: 2 * macs(round(source), round(target)) * samples_per_s / peak_flops


@contextmanager
def _text_batches(config: LanguageModelConfig, tokenizer: Tokenizer, first_step: int) -> Iterator[Any]:
    """Batches of texts; the cell of a text is its language."""
    texts = _texts_by_language(config)
    codes, shares = list(config.languages), np.array(list(config.languages.values()))

    def batch(step: int) -> Batch:
        random = np.random.default_rng([config.seed, 4, step])
        chosen = random.choice(len(codes), size=config.batch_size, p=shares / shares.sum())
        drawn = [texts[codes[c]][random.integers(len(texts[codes[c]]))] for c in chosen.tolist()]
        ids = target_ids(tokenizer, drawn, config.model.max_tokens - 1)
        rows = pad([[BOS, *row] for row in ids], IGNORED)
        return Batch(
            images=torch.empty(len(rows), 0, 0, 3, dtype=torch.uint8),
            input_ids=rows[:, :-1].clamp(min=0),  # padding is on the right: no real token sees it
            attention_mask=(rows[:, :-1] != IGNORED).long(),
            labels=rows[:, 1:],
            cell=chosen,
        )

    yield ((step, 0, batch(step)) for step in range(first_step, config.num_steps))


def _texts_by_language(config: LanguageModelConfig) -> dict[str, list[str]]:
    table = ShardReader(config.data).annotations()
    texts: dict[str, list[str]] = {code: [] for code in config.languages}
    for task, code, text in zip(table.task, table.language, table.text, strict=True):
        if task == "caption" and code in texts:
            texts[code].append(text)
    if empty := [code for code, found in texts.items() if not found]:
        raise ValueError(f"{config.data}: no texts in {', '.join(empty)} for a language model")
    return texts


_TRAINED = "training.json"
"""In the folder of a trained model: what it was trained with."""


def _is_trained(run_dir: Path, settings: str) -> bool:
    """Whether the run is finished already: killed after that, in whatever came next, it need not be made again."""
    path = run_dir / "checkpoints" / "final" / _TRAINED
    return path.exists() and json.loads(path.read_text())["settings"] == settings


def _check_same_run(run_dir: Path, config: TrainConfig) -> None:
    """Refuse a folder that another run has left something in, before any of it is written over.

    Raises:
        ValueError: names the settings that differ.
    """
    path = run_dir / "config.toml"
    if not path.exists() or not any(run_dir.glob("checkpoints/*")):
        return
    there, here = (dict(_flat(values)) for values in (tomllib.loads(path.read_text()), to_dict(config)))
    other = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key) and not may_change(key)]
    if other:
        told = ", ".join(
            f"{key} is {there.get(key, 'not set')} there and {here.get(key, 'not set')} now" for key in other[:3]
        )
        more = f", and {len(other) - 3} more" if len(other) > 3 else ""
        raise ValueError(
            f"{run_dir} holds a run with other settings ({told}{more}): go on with its own, or give another folder"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _describe(run_dir: Path, config: TrainConfig | LanguageModelConfig) -> None:
    save(config, run_dir / "config.toml")
    write_atomically(run_dir / "env.json", json.dumps(environment(), indent=2) + "\n")


def _keep_final(
    run_dir: Path,
    model: Polyglance | Gemma2ForCausalLM,
    here: Runtime,
    settings: str,
    processor: Processor | None = None,
) -> None:
    """Save the trained model under its final name, the best one beside it, and drop the checkpoints that led there."""
    checkpoints = Checkpoints(run_dir, here)
    best = checkpoints.best()
    if best is not None:
        kept = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        checkpoints.load_weights(best["step"], model)
        _save_model(run_dir / "checkpoints" / "best", model, here, settings, processor)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in kept:
                    parameter.copy_(kept[name])
    _save_model(run_dir / "checkpoints" / "final", model, here, settings, processor)
    here.barrier()
    if here.is_main:
        checkpoints.remove_all()
    here.barrier()


def _save_model(
    folder: Path, model: Polyglance | Gemma2ForCausalLM, here: Runtime, settings: str, processor: Processor | None
) -> None:
    """Write what `from_pretrained` reads, whole or not at all. Sharded parameters are gathered one at a time."""
    state = None
    if here.strategy == "fsdp":
        state = {}
        for name, tensor in model.state_dict().items():
            gathered = whole(tensor)
            if here.is_main:
                state[name] = gathered.cpu()
    if not here.is_main:
        return
    try:
        with replacing_folder(folder) as partial:
            model.save_pretrained(partial, state_dict=state)
            if processor is not None:
                processor.save(partial)
            write_json(partial / _TRAINED, {"settings": settings})
    except (OSError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{folder}: the model cannot be written ({reason}); its last checkpoint is kept") from None
