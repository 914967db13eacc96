"""A tiny random model of this project, and made-up benchmarks in their published trees."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polyglance.data.world.grammars import GRAMMARS
from polyglance.mixture.prompts import write_prompt
from polyglance.mixture.tokenizer import train_tokenizer
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor

_WORDS = """
a cat dog bank river sits eine Katze Hund Bank Fluss un chat chien 猫 狗 河
"""
WORDS = tuple(_WORDS.split())


def tiny_model(folder: Path, *, texts: tuple[str, ...] = (), seed: int = 0) -> Path:
    """A model whose texts differ from image to image."""
    prompts = [write_prompt("caption", code) for code in GRAMMARS] + [write_prompt("translation", "de", source="a")]
    prefixes = [entry.prefix for entry in GRAMMARS.values()]
    tokenizer = train_tokenizer([*WORDS, *prompts, *prefixes, *texts], vocab_size=400)
    torch.manual_seed(seed)
    model = Polyglance(MicroConfig(width=32, max_tokens=96).build(tokenizer.get_vocab_size()))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    Processor.for_model(model.config, tokenizer).save(folder)
    return folder


def images(folder: Path, names: list[str], *, distinct: int = 12) -> None:
    """Image files; the first ones are of noise each, and the others links to the last of these."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names[:distinct]:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / name, "PNG")
    for name in names[distinct:]:
        os.link(folder / names[distinct - 1], folder / name)


def xm3600(root: Path) -> None:
    """3,600 images with captions in French and Chinese."""
    keys = [f"{number:016x}" for number in range(3600)]
    images(root / "xm3600" / "images", [f"{key}.jpg" for key in keys])
    with (root / "xm3600" / "captions.jsonl").open("w") as file:
        for number, key in enumerate(keys):
            word = WORDS[number % len(WORDS)]
            captions = {"fr": {"caption": [f"un {word} sits", "un chat"]}, "zh": {"caption": [f"猫 {word}"]}}
            file.write(json.dumps({"image/key": key, **captions}) + "\n")


def commute(root: Path) -> None:
    """300 rows of German: pairs of lines, the translations of the second the other way round."""
    texts = root / "CoMMuTE" / "CoMMuTE" / "en-de"
    texts.mkdir(parents=True)
    names = [f"{number}.png" for number in range(300)]
    images(root / "CoMMuTE" / "images", names)
    rows = {"img.order": names, "src.en": [], "correct.de": [], "incorrect.de": []}
    for pair in range(150):
        first, second = f"eine Bank {WORDS[pair % 8]}", f"Fluss {WORDS[pair % 7]} sits"
        rows["src.en"] += [f"a bank {WORDS[pair % 5]}"] * 2
        rows["correct.de"] += [first, second]
        rows["incorrect.de"] += [second, first]
    for name, lines in rows.items():
        (texts / name).write_text("".join(f"{line}\n" for line in lines))
