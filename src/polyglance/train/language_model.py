"""Language models trained on texts alone, which decoders start from."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.mixture.collate import IGNORED, Batch, encode_targets, pad
from polyglance.mixture.random_streams import RandomStream
from polyglance.mixture.tokenizer import BOS, load_tokenizer
from polyglance.model.assemble import build_language_model
from polyglance.train.config import LanguageModelConfig
from polyglance.train.folder import RunFolder
from polyglance.train.identity import identify_run
from polyglance.train.loop import BatchSource, Hooks, Loop, MicroBatches
from polyglance.train.step import LanguageModelObjective

__all__ = ["train_language_model"]


def train_language_model(
    config: LanguageModelConfig,
    run_dir: str | Path,
    *,
    hooks: Hooks = Hooks(),  # noqa: B008  frozen
) -> nn.Module:
    """Train a stock Gemma-2 of the decoder's sizes on captions as texts; leave in `run_dir` what `train` leaves.

    Raises:
        ValueError: a language without texts, or losses or weights are no longer finite.
        Stopped: the run was asked to stop and is saved.
    """
    identity = identify_run(config)
    folder = RunFolder(Path(run_dir), config, identity)
    tokenizer = load_tokenizer(config.tokenizer)
    torch.manual_seed(config.seed)
    model = build_language_model(config.model.build(tokenizer.get_vocab_size()))
    runtime = Runtime.single()
    folder.describe()
    batches = BatchSource(
        cells=tuple(config.languages), num_micro_batches=1, open=partial(_open_batches, config, tokenizer)
    )
    loop = Loop(LanguageModelObjective(model), batches, config, folder.path, runtime, identity, hooks=hooks)
    loop.run()
    folder.save_final(model, runtime)
    return model.eval()


@contextmanager
def _open_batches(config: LanguageModelConfig, tokenizer: Tokenizer, first_step: int) -> Iterator[MicroBatches]:
    """Give batches of texts; the cell of a text is its language."""
    texts = _read_texts_by_language(config)
    codes, shares = list(config.languages), np.array(list(config.languages.values()))

    def make_batch(step: int) -> Batch:
        random = RandomStream.LANGUAGE_MODEL_TEXTS.generator(config.seed, step)
        cell = random.choice(len(codes), size=config.batch_size, p=shares / shares.sum())
        drawn = [texts[codes[c]][random.integers(len(texts[codes[c]]))] for c in cell.tolist()]
        ids = encode_targets(tokenizer, drawn, config.model.max_tokens - 1)
        rows = pad([[BOS, *row] for row in ids], IGNORED)
        return Batch(
            images=torch.empty(len(rows), 0, 0, 3, dtype=torch.uint8),
            input_ids=rows[:, :-1].clamp(min=0),  # padding is on the right: no real token sees it
            attention_mask=(rows[:, :-1] != IGNORED).long(),
            labels=rows[:, 1:],
            cell=cell,
        )

    yield ((step, 0, make_batch(step)) for step in range(first_step, config.num_steps))


def _read_texts_by_language(config: LanguageModelConfig) -> dict[str, list[str]]:
    table = ShardReader(config.data).annotations()
    captions = [(c, text) for t, c, text in zip(table.task, table.language, table.text, strict=True) if t == "caption"]
    texts = {code: [text for language, text in captions if language == code] for code in config.languages}
    if empty := [code for code in texts if not texts[code]]:
        raise ValueError(f"{config.data}: no texts in {', '.join(empty)} for a language model")
    return texts
