"""Inputs of benchmarks/gpu.py on a GPU machine, made on any machine: data, tokenizers, a small model, golden outputs.

Samples have the published lengths (official code section 2.3): every word of the texts is one token. Models of the true
sizes are not among it. They are drawn at random on the GPU, which takes less time than to read them.
"""

import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from polyglance.config import from_dict, save, to_dict
from polyglance.coverage import Coverage
from polyglance.data.shard import ShardWriter
from polyglance.data.world import WorldConfig, generate
from polyglance.distributed import RuntimeConfig
from polyglance.files import read_json, write_json
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.tokenizer import load_tokenizer, read_training_texts, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.model.sizes import resolve_size
from polyglance.records import Annotation, ImageRecord
from polyglance.train.config import RunConfig, StartConfig
from polyglance.train.optim import OptimConfig

COVERAGE = Coverage(caption=("en", "de"), translation=("de", "fr", "es", "ru", "zh"))
CHECK_STEPS = 40
"""Optimiser steps of the run that checks train."""
_MEAN_TOKENS = {
    "caption": {"en": (16, 61), "de": (17, 58)},
    "translation": {"de": (60, 55), "fr": (47, 40), "es": (45, 32), "ru": (44, 41), "zh": (45, 41)},
}
"""Mean prompt and target tokens of the published cells."""
_LONGEST = 120
"""Longest text in words, which leaves room for the tokens around it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes and lengths of one benchmark; the content of plan.json."""

    is_small: bool
    """Micro models, for a CPU."""
    image_size: int
    images: int
    words: int
    """Entries of the tokenizer."""
    batch_size: int
    """Samples of an optimiser step."""
    rows: int
    """Rows of metrics.jsonl in a timed run, of which the first is warm-up."""
    steps_per_row: int
    num_workers: int
    """Loader processes of a timed run."""
    eval_samples: int
    decoded: tuple[int, int, int]
    """Images, beams and new tokens of the decoding benchmark."""
    head: tuple[int, int, int]
    """Positions, width and vocabulary of the loss head's benchmark."""


_FULL = Plan(
    is_small=False, image_size=224, images=2048, words=4000, batch_size=512, rows=4, steps_per_row=2, num_workers=8,
    eval_samples=1024,
    decoded=(32, 4, 64), head=(2048, 2304, 257_024),
)  # fmt: skip
_SMALL = Plan(
    is_small=True, image_size=32, images=48, words=400, batch_size=8, rows=3, steps_per_row=1, num_workers=1,
    eval_samples=16,
    decoded=(2, 2, 4), head=(64, 32, 20_000),
)  # fmt: skip


def prepare(folder: Path, *, small: bool, golden: Path) -> list[str]:
    """Make everything in `folder`, which is emptied first.

    Args:
        golden: folder of the published code's golden outputs.

    Returns:
        Notes about what could not be made.
    """
    plan = _SMALL if small else _FULL
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_samples(folder / "data", plan)
    make_word_tokenizer(plan).save(str(folder / "words.json"))
    _write_check_run(folder / "check")
    notes = []
    if golden.is_dir():
        shutil.copytree(golden, folder / "golden")
    else:
        notes.append(f"{golden}: no golden outputs there, so these are not checked")
    write_json(folder / "plan.json", to_dict(plan), indent=2)
    return notes


def read_plan(folder: Path) -> Plan:
    """Read plan.json."""
    return from_dict(Plan, read_json(folder / "plan.json"))


def make_word_tokenizer(plan: Plan) -> Tokenizer:
    """Make a tokenizer that reads each word as one token."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"w{number}" for number in range(plan.words - 4))]
    words = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def find_config(plan: Plan, size: str) -> PolyglanceConfig:
    """Return the configuration of a published size or, for a small plan, of a micro model of the same kind."""
    micro = {"0.4b": "micro-32", "3.5b": "micro-gemma2-32", "11.2b": "micro-gemma2-48"}
    return resolve_size(micro[size] if plan.is_small else size)


def make_processor(plan: Plan, config: PolyglanceConfig, folder: Path) -> Processor:
    """Make the processor of a model for the words' tokenizer; published sizes read and write with two tokenizers."""
    tokenizers = [load_tokenizer(folder / "words.json") for _ in range(1 if plan.is_small else 2)]
    return Processor.for_model(config, *tokenizers, image_size=plan.image_size)


def _write_samples(out: Path, plan: Plan) -> None:
    random = np.random.default_rng(0)
    with ShardWriter(out, source="random pictures and words (benchmarks/gpu.py)", licence="none needed") as writer:
        for number in range(plan.images):
            coarse = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((plan.image_size,) * 2, Image.Resampling.BICUBIC)
            encoded = BytesIO()
            picture.save(encoded, "JPEG")
            annotations = tuple(
                Annotation(
                    task=cell.task,
                    language=cell.language,
                    text=_words(random, plan, _MEAN_TOKENS[cell.task][cell.language][1]),
                    # The words of the prompt around the source count too: about 12.
                    source=_words(random, plan, _MEAN_TOKENS[cell.task][cell.language][0] - 12)
                    if cell.task == "translation"
                    else None,
                )
                for cell in COVERAGE.cells
            )
            writer.write(ImageRecord(key=f"{number:06d}", image=encoded.getvalue(), annotations=annotations))


def _words(random: np.random.Generator, plan: Plan, mean: int) -> str:
    longest = 20 if plan.is_small else _LONGEST
    mean = min(mean, longest // 2) if plan.is_small else mean
    length = int(np.clip(random.gamma(6, mean / 6), 2, longest))
    return " ".join(f"w{number}" for number in random.integers(0, plan.words - 4, length))


def _write_check_run(folder: Path) -> None:
    """Write data, model and run.toml of a small run, with dropout and a large vocabulary, that checks train."""
    languages = ("en", "fr", "zh")
    generate(WorldConfig(languages=languages, num_train_images=64, num_test_images=8), folder / "world")
    texts = read_training_texts(folder / "world" / "train", set(languages))
    config = MicroConfig(width=16).build(20_000)
    for side in (config.encoder_config, config.decoder_config):
        side.dropout = side.attention_dropout = side.activation_dropout = 0.1
    torch.manual_seed(0)
    Polyglance(config).save_pretrained(folder / "model")
    train_tokenizer(texts, vocab_size=1024).save(str(folder / "tokenizer.json"))
    Processor.for_model(config, load_tokenizer(folder / "tokenizer.json")).save(folder / "model")
    run = RunConfig(
        out=Path("run"),
        data=Path("world/train"),
        coverage=Coverage(caption=("en",), translation=("fr", "zh")),
        start=StartConfig(checkpoint=Path("model")),
        optim=OptimConfig(lr=1e-2, eps=1e-2),  # so large an eps that rounding does not decide the direction of a step
        mixture=MixtureConfig(batch_size=8),
        engine=RuntimeConfig(micro_batch_size=4),
        num_samples=8 * CHECK_STEPS,
        save_every_steps=4,
        log_every_steps=1,
    )
    save(run, folder / "run.toml")
