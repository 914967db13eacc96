"""Tokenizer, model, processor and batches that a run begins with, made from its configuration."""

from dataclasses import replace

import torch

from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.engines.loading import load_pretrained
from polyglance.files import write_atomically
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.tokenizer import has_language_tokens, load_tokenizer, read_training_texts, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.assemble import insert_language_model, insert_vision_tower
from polyglance.model.component_names import PUBLISHED_TRAINED
from polyglance.model.components import freeze
from polyglance.model.configuration import PolyglanceConfig, load_config
from polyglance.model.processor import Processor
from polyglance.train.config import RunConfig, TrainConfig

__all__ = ["make_mixture", "make_model", "make_model_config", "make_processor", "make_tokenizer", "plan_micro_batches"]


def make_tokenizer(config: RunConfig, runtime: Runtime) -> None:
    """Train the tokenizer in the run's folder from the data as it is now, unless a checkpoint depends on it already.
    The first process makes it, and the others wait.

    Raises:
        ValueError: the data has no text for it, or cannot be read, or `language_tokens` is not what the tokenizer has;
            in all processes alike.
    """
    path, problem = config.tokenizer, None
    if runtime.is_main and path is not None and config.makes_tokenizer:
        try:
            texts = read_training_texts(config.data, set(config.coverage.languages))
            tokens = config.coverage.languages if config.language_tokens else ()
            tokenizer = train_tokenizer(texts, vocab_size=config.vocab_size, language_tokens=tokens)
            write_atomically(path, tokenizer.to_str(pretty=True))
        except (OSError, ValueError) as error:
            problem = str(error)
    if (problem := runtime.first(problem)) is not None:
        raise ValueError(problem)
    if config.language_tokens is not None:
        _check_language_tokens(config, asked=config.language_tokens)


def _check_language_tokens(config: RunConfig, *, asked: bool) -> None:
    folder, path = config.start.checkpoint_folder(), config.tokenizer
    if folder is None:
        assert path is not None
        where, tokenizer = path, load_tokenizer(path)
    else:
        where, tokenizer = folder, Processor.load(folder).encoder_tokenizer
    if has_language_tokens(tokenizer) == asked:
        return
    if asked:
        raise ValueError(
            f"language_tokens is true, but {where} has none: leave the setting out, or make a model that has them "
            "(polyglance model assemble --language-tokens, or a run that makes its own tokenizer)"
        )
    raise ValueError(f"language_tokens is false, but prompts for {where} begin with them: leave the setting out")


def make_model_config(config: TrainConfig) -> PolyglanceConfig:
    """Return the configuration of the run's model: the checkpoint's, or that of a micro model for the tokenizer."""
    if (folder := config.start.checkpoint_folder()) is not None:
        return load_config(folder)
    assert config.tokenizer is not None
    return config.start.model.build(load_tokenizer(config.tokenizer).get_vocab_size())


def make_model(config: TrainConfig) -> Polyglance:
    """Make the model before its first step: the checkpoint, or random weights from the seed, then the components that
    are given; all but the trained components are frozen."""
    start = config.start
    if (folder := start.checkpoint_folder()) is not None:
        model = load_pretrained(Polyglance, folder, dtype=torch.float32)
    else:
        model_config = make_model_config(config)
        torch.manual_seed(config.seed)
        model = Polyglance(model_config)
    if start.language_model is not None:
        insert_language_model(model, start.language_model)
    if start.vision_tower is not None:
        insert_vision_tower(model, start.vision_tower)
    kind = model.config.decoder_config.model_type
    freeze(model, PUBLISHED_TRAINED[kind] if start.trained == "published" else start.trained)
    return model


def make_processor(config: TrainConfig, model_config: PolyglanceConfig) -> Processor:
    """Return the tokenizers, frames and image size that the run's data is prepared with."""
    if config.start.checkpoint is None:
        assert config.tokenizer is not None
        size = config.image_size or config.start.model.image_size
        return Processor.for_model(model_config, load_tokenizer(config.tokenizer), image_size=size)
    processor = Processor.load(config.start.checkpoint)
    processor.check_vocabularies(model_config)
    if config.image_size is None:
        return processor
    has_two = processor.decoder_tokenizer is not processor.encoder_tokenizer
    decoder_tokenizer = processor.decoder_tokenizer if has_two else None
    return Processor.for_model(
        model_config, processor.encoder_tokenizer, decoder_tokenizer, image_size=config.image_size
    )


def make_mixture(
    config: TrainConfig,
    processor: Processor,
    model_config: PolyglanceConfig,
    features: FeatureStore | None = None,
) -> Mixture:
    """Return the batches of the run."""
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
        vocab_sizes=(model_config.encoder_config.vocab_size, model_config.vocab_size),
    )


def plan_micro_batches(
    config: TrainConfig,
    mixture: Mixture,
    model_config: PolyglanceConfig,
    *,
    max_samples: int | None,
    world_size: int = 1,
) -> int:
    """Plan the micro-batches of the run's steps; return their number, over all processes.

    With `micro_batch_size = "auto"` and few shapes (`RuntimeConfig.num_shapes`) their numbers of samples differ. Passes
    that `mixture` has already are kept.

    Args:
        max_samples: most samples of a micro-batch, where that is `auto`; otherwise not used.
        world_size: number of processes.

    Raises:
        ValueError: the samples cannot be divided evenly.
    """
    engine, num_shapes = config.engine, config.engine.count_shapes()
    planned: dict[str, int] = {
        "num_steps": config.num_steps,
        "image_tokens": model_config.num_image_tokens(mixture.image_size),
    }
    if engine.micro_batch_size == "auto":
        assert max_samples is not None
        assert config.mixture.batch_size % world_size == 0, "refused where the largest micro-batch was found"
        if num_shapes and mixture.passes is None:
            mixture.passes = mixture.plan_passes(num_shapes, world_size=world_size, max_samples=max_samples, **planned)
        if mixture.passes is not None:
            return len(mixture.passes) * world_size
        engine = replace(engine, micro_batch_size=max_samples)
    num_micro_batches = engine.num_micro_batches(config.mixture.batch_size, world_size)
    if num_shapes:
        mixture.plan_shapes(num_micro_batches, num_shapes, **planned)
    return num_micro_batches
