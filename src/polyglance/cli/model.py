"""The command line's model verbs: plain functions; nothing heavy is imported before one is called."""

import dataclasses
import json as json_module
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

__all__ = ["assemble", "caption", "card", "convert", "translate"]


def card(
    size: str,
    image_size: int | None = None,
    source_tokens: int | None = None,
    target_tokens: int | None = None,
    beams: int = 4,
    devices: int = 8,
    device_gb: float = 80.0,
    train_batch_size: int = 1024,
    json: bool = False,
) -> None:
    """Parameters, multiply-accumulates and memory of a size, without allocating it, and how it is best trained.

    Args:
        size: 0.4b, 1.0b, 3.5b, 11.2b; a pair such as large+gemma-2-27b@2 (cross-attention in every second layer);
            micro-96 or micro-gemma2-96; or a folder with a model.
        image_size: Side of the square image, in pixels (224, or what a micro size is made for).
        source_tokens: Prompt tokens; the image's come on top (128, or as many as there are positions for).
        target_tokens: Target tokens (128, likewise).
        beams: Beams that the memory for inference is for.
        devices: Accelerators that the recommendation for training is for.
        device_gb: Memory of one of them, in 10^9 bytes.
        train_batch_size: Samples of an optimiser step, over all devices.
        json: Print the card for machines.
    """
    from polyglance.model.card import make_card
    from polyglance.model.rates import KNOWN_PEAKS_TFLOPS, find_rate
    from polyglance.model.training_setup import recommend_setup

    made = make_card(size, image_size=image_size, source_tokens=source_tokens, target_tokens=target_tokens, beams=beams)
    how = recommend_setup(made, devices=devices, device_bytes=int(device_gb * 1e9), batch_size=train_batch_size)
    rates = {
        name: find_rate(name, size, made.training_gmac, peak_tflops=peak) for name, peak in KNOWN_PEAKS_TFLOPS.items()
    }
    if json:
        recommended = None if how is None else dataclasses.asdict(how)
        found = {name: dataclasses.asdict(rate) for name, rate in rates.items()}
        print(json_module.dumps({**dataclasses.asdict(made), "recommended": recommended, "rates": found}, indent=1))
    else:
        _print_card(made)
        print(f"pre-training on {devices} devices of {device_gb:g} GB, bfloat16: {how or 'does not fit'}")
        for name, rate in rates.items():
            print(f"one {name}: {rate.samples_per_s(made.training_gmac):,.1f} samples/s; {rate.basis}")


def assemble(
    florence: str,
    gemma: str,
    out: Path,
    decoder: Literal["bart", "gemma2"] = "gemma2",
    cross_attention_every: int = 1,
    dtype: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Put an initial model together from Florence-2 and Gemma-2 checkpoints.

    Args:
        florence: Florence-2: a checkpoint folder with its tokenizer.json, or a name on the Hugging Face hub.
        gemma: Gemma-2: likewise; a bart decoder takes only its tokenizer.json.
        out: Folder for the model.
        decoder: gemma2: Gemma-2 with cross-attention inserted; bart: Florence-2's own with Gemma-2's vocabulary.
        cross_attention_every: A cross-attention block in every k-th layer of a gemma2 decoder.
        dtype: Precision of the result.
        seed: Of what is drawn at random.
        json: Print what was made for machines.
    """
    from polyglance.model.assemble import AssembleConfig, assemble_model

    config = AssembleConfig(
        florence=florence,
        gemma=gemma,
        decoder=decoder,
        cross_attention_every=cross_attention_every,
        dtype=dtype,
        seed=seed,
    )
    _print_facts(dataclasses.asdict(assemble_model(config, out)), json)


def convert(
    out: Path,
    from_published: Path | None = None,
    to_published: Path | None = None,
    florence: str | None = None,
    gemma: str | None = None,
    unsafe_pickle: bool = False,
) -> None:
    """Convert a checkpoint of the published code to ours, or one of ours back.

    Args:
        out: Folder for the result.
        from_published: Folder with a checkpoint of the published code.
        to_published: Folder with one of our models.
        florence: Florence-2 with the tokenizer.json that prompts are read with: a folder, or a name on the hub.
        gemma: Gemma-2 with the tokenizer.json that the model writes with, likewise.
        unsafe_pickle: Also read pickle files (tensors only, never code).
    """
    from polyglance.model.convert import convert_from_published, convert_to_published

    if (from_published is None) == (to_published is None):
        raise ValueError("give either --from-published or --to-published")
    if (florence is None) != (gemma is None):
        raise ValueError("give both --florence and --gemma: a model reads with one tokenizer and writes with the other")
    if from_published is not None:
        tokenizers = None if florence is None or gemma is None else (florence, gemma)
        convert_from_published(from_published, out, tokenizers=tokenizers, unsafe_pickle=unsafe_pickle)
        if tokenizers is None:
            print(f"{out} has no tokenizers: give --florence and --gemma for a model that captions", file=sys.stderr)
    elif to_published is not None:
        convert_to_published(to_published, out)


def caption(
    images: Positional[tuple[Path, ...]],
    model: Path,
    lang: str = "en",
    prefix: str = "auto",
    style: Literal["short", "detailed", "paragraph"] = "short",
    beams: int = 4,
    max_new_tokens: int = 128,
    batch_size: int = 8,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> None:
    """Caption images; one JSON line for each image and language.

    Args:
        images: Image files.
        model: Folder of the model, with its processor.
        lang: Languages, separated by commas.
        prefix: Words that captions are started with: auto (the language's own), none, or the words.
        style: How long a caption is asked for.
        beams: Beams; 1 is greedy.
        max_new_tokens: Longest caption, in tokens after the prefix.
        batch_size: Captions decoded at a time.
        device: Where to run: auto (a GPU if there is one), cpu, cuda, cuda:1.
        dtype: Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU.
    """
    from polyglance.model.generate import GenerateConfig, PolyglanceCaptioner

    if not images:
        raise ValueError("no image was given: polyglance caption IMAGE [IMAGE ...] --model FOLDER")
    config = GenerateConfig(num_beams=beams, max_new_tokens=max_new_tokens, batch_size=batch_size)
    languages = _languages(lang)
    captioner = PolyglanceCaptioner.load(model, device=device, dtype=dtype)
    _print_lines(captioner.caption(images, languages, prefix=prefix, style=style, config=config))


def translate(
    texts: Positional[tuple[str, ...]],
    image: Path,
    model: Path,
    lang: str,
    beams: int = 4,
    max_new_tokens: int = 128,
    batch_size: int = 8,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> None:
    """Translate English texts about an image; one JSON line for each text and language.

    Args:
        texts: The texts.
        image: Image file that they are about.
        model: Folder of the model, with its processor.
        lang: Languages, separated by commas.
        beams: Beams; 1 is greedy.
        max_new_tokens: Longest translation, in tokens.
        batch_size: Texts translated at a time.
        device: Where to run: auto (a GPU if there is one), cpu, cuda, cuda:1.
        dtype: Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU.
    """
    from polyglance.model.generate import GenerateConfig, PolyglanceCaptioner

    if not texts:
        raise ValueError(
            "no text was given: polyglance translate TEXT [TEXT ...] --image FILE --model FOLDER --lang es"
        )
    config = GenerateConfig(num_beams=beams, max_new_tokens=max_new_tokens, batch_size=batch_size)
    languages = _languages(lang)
    captioner = PolyglanceCaptioner.load(model, device=device, dtype=dtype)
    _print_lines(captioner.translate([image] * len(texts), texts, languages, config=config))


def _languages(comma_separated: str) -> list[str]:
    codes = [code.strip() for code in comma_separated.split(",") if code.strip()]
    if not codes:
        raise ValueError("--lang names no language; for example: --lang es,zh")
    return codes


def _print_lines(results: Iterable[Any]) -> None:
    """JSON lines; raises at the end if some say that there is no text, so that a script notices."""
    num_results = num_errors = 0
    for result in results:
        num_results += 1
        num_errors += result.error is not None
        fields = {key: value for key, value in dataclasses.asdict(result).items() if value not in (None, "")}
        sys.stdout.write(json_module.dumps(fields, ensure_ascii=False) + "\n")
    sys.stdout.flush()
    if num_errors:
        raise ValueError(f"{num_errors} of {num_results} texts could not be written; their lines say why")


def _print_facts(facts: dict[str, Any], json: bool) -> None:
    if json:
        print(json_module.dumps(facts, indent=1))
    else:
        for name, value in facts.items():
            print(f"{name.replace('_', ' ')}: {value:,}")


def _print_card(made: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "parameters", "GMAC", title=f"{made.size}: P = {made.num_parameters:,}, F = {made.gmac:.2f}")
    for part in dict.fromkeys([*made.num_parameters_by_part, *made.gmac_by_part]):
        counts, gmac = made.num_parameters_by_part.get(part), made.gmac_by_part.get(part)
        table.add_row(part, "" if counts is None else f"{counts:,}", "" if gmac is None else f"{gmac:.2f}")
    memory = Table("memory, GB", *made.inference_bytes, "trained parameters")
    memory.add_row("inference", *(f"{value / 1e9:.2f}" for value in made.inference_bytes.values()), "")
    for policy, by_precision in made.training_bytes.items():
        cells = (f"{value / 1e9:.2f}" for value in by_precision.values())
        memory.add_row(f"training, {policy}", *cells, f"{made.num_trained[policy]:,}")
    console = Console()
    console.print(table, memory)
    console.print(
        f"F and memory for one image of {made.image_size} pixels, {made.source_tokens} prompt and "
        f"{made.target_tokens} target tokens; inference with {made.beams} beams, training with one sample."
    )
