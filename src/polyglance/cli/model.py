"""`polyglance model card | assemble | convert`, `polyglance caption` and `polyglance translate`."""

import json as json_module
import math
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.table import Table
from tyro.conf import Positional

from polyglance.cli.options import Options
from polyglance.cli.output import make_plain, show
from polyglance.engines.config import Dtype
from polyglance.files import check_output_folder
from polyglance.model.config import AssembleConfig, GenerateConfig
from polyglance.records import Style
from polyglance.settings import UnusedSettingError
from polyglance.study.evaluation_place import EvaluationPlace

__all__ = ["assemble", "caption", "convert", "show_card", "translate", "write_readme"]


def show_card(
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
    """Print parameters, multiply-accumulates and memory of a size, without allocating it, and how it is best trained.

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
        json: Print the result as JSON.
    """
    from polyglance.model.card import make_card
    from polyglance.model.card_record import find_start
    from polyglance.model.rates import KNOWN_PEAKS_TFLOPS, find_rate
    from polyglance.model.training_setup import recommend_setup

    if not 0 < device_gb < math.inf:
        raise ValueError(f"--device-gb is {device_gb}; expected a positive number")
    card = make_card(size, image_size=image_size, source_tokens=source_tokens, target_tokens=target_tokens, beams=beams)
    setup = recommend_setup(card, devices=devices, device_bytes=int(device_gb * 1e9), batch_size=train_batch_size)
    rates = {
        name: find_rate(name, size, card.training_gmac, peak_tflops=peak) for name, peak in KNOWN_PEAKS_TFLOPS.items()
    }
    recommendation = f"pre-training on {devices} devices of {device_gb:g} GB, bfloat16: {setup or 'does not fit'}"
    speeds = [
        f"one {name}: {rate.samples_per_s(card.training_gmac):,.1f} samples/s; {rate.basis}"
        for name, rate in rates.items()
    ]
    start = None if size.startswith("micro") or Path(size).is_dir() else find_start(card)
    result = {**asdict(card), "T": start, "recommended": setup, "rates": rates}
    show(result, json, lambda _: [*_make_card_tables(card), recommendation, *speeds])


def assemble(out: Path, config: Options[AssembleConfig], json: bool = False) -> None:
    """Put an initial model together from Florence-2 and Gemma-2 checkpoints.

    Args:
        out: Folder for the model.
        json: Print the result as JSON.
    """
    from polyglance.model.assemble import assemble_model

    check_output_folder(out, "--out")
    show(assemble_model(config, out), json, _describe_facts)


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

    check_output_folder(out, "--out")
    if (from_published is None) == (to_published is None):
        raise ValueError("give either --from-published or --to-published")
    if (florence is None) != (gemma is None):
        raise ValueError("give both --florence and --gemma: a model reads with one tokenizer and writes with the other")
    if to_published is not None:
        if florence is not None or unsafe_pickle:
            option = "florence" if florence is not None else "unsafe_pickle"
            raise UnusedSettingError(f"`{option}` has no effect with `to_published`")
        convert_to_published(to_published, out)
    elif from_published is not None:
        tokenizers = None if florence is None or gemma is None else (florence, gemma)
        convert_from_published(from_published, out, tokenizers=tokenizers, unsafe_pickle=unsafe_pickle)
        if tokenizers is None:
            print(f"{out} has no tokenizers: give --florence and --gemma for a model that captions", file=sys.stderr)


def write_readme(
    model: Positional[Path],
    run: Path | None = None,
    losses: Path | None = None,
    laws: tuple[Path, ...] = (),
    licence: str | None = None,
    name: str | None = None,
) -> None:
    """Write README.md into a trained model's folder: the card that the Hugging Face hub shows. `hf upload` sends both.

    Args:
        model: Folder of the model, such as RUN/checkpoints/final.
        run: Folder of its run (that which the model lies in).
        losses: Measured losses (losses.json of the run, where there is one).
        laws: Law files to quote.
        licence: Licence of the weights by its name on the hub, such as apache-2.0.
        name: Title (the run's name).
    """
    from polyglance.report.model_readme import write_model_readme

    print(write_model_readme(model, run=run, losses=losses, laws=laws, licence=licence, name=name))


def caption(
    images: Positional[tuple[Path, ...]],
    model: Path,
    config: Options[GenerateConfig],
    place: Options[EvaluationPlace],
    lang: tuple[str, ...] = ("en",),
    prefix: str = "auto",
    style: Style = "short",
    device: str = "auto",
    dtype: Dtype = "auto",
    processes: int = 1,
    out: Path | None = None,
) -> None:
    """Caption images; one JSON line for each image and language. Texts in another language are named.

    Args:
        images: Image files.
        model: Folder of the model, with its processor; `micro`, the one in the package; or NAME@COMMIT on the Hugging
            Face hub.
        lang: Languages.
        prefix: Words that captions are started with: auto (the language's own), published (those of the official code),
            none, or the words.
        style: Length of the caption that the prompt asks for.
        device: Device of the model: auto (a GPU if there is one), cpu, cuda, cuda:1.
        dtype: Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU.
        processes: Number of processes, each with its model; on GPUs they take these in turn. The captions are the same.
        out: With `on`: folder for what the jobs have captioned, which all nodes see. Lines are printed at the end.
    """
    from polyglance.model.caption_request import CaptionRequest
    from polyglance.model.processor import resolve_prefix

    if not images:
        raise ValueError("no image was given: polyglance caption IMAGE [IMAGE ...] --model FOLDER")
    for code in _find_languages(lang, model):
        resolve_prefix(code, prefix)
    request = CaptionRequest(
        model=model, languages=lang, prefix=prefix, style=style, config=config, device=device, dtype=dtype
    )
    if place.on == "local":
        from polyglance.model.caption_files import caption_files

        if out is not None:
            raise UnusedSettingError("`out` has no effect without `on`")
        is_shown = not sys.stdout.isatty()  # lines and a bar would mix in a terminal
        _print_lines(caption_files(images, request, processes=processes, show_progress=is_shown))
        return
    from polyglance.study.evaluation import caption_on_cluster

    if processes > 1:
        raise UnusedSettingError("`processes` has no effect on a cluster: `shards` is the number of its jobs")
    if out is None:
        raise ValueError("--on needs --out, a folder that all nodes see, for what the jobs have captioned")
    _print_lines(caption_on_cluster(images, request, out, place))


def translate(
    texts: Positional[tuple[str, ...]],
    image: Path,
    model: Path,
    lang: tuple[str, ...],
    config: Options[GenerateConfig],
    device: str = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Translate English texts about an image; one JSON line for each text and language.

    Args:
        texts: The texts.
        image: Image file that they are about.
        model: Folder of the model, with its processor; `micro`, the one in the package; or NAME@COMMIT on the Hugging
            Face hub.
        lang: Languages.
        device: Device of the model: auto (a GPU if there is one), cpu, cuda, cuda:1.
        dtype: Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU.
    """
    from polyglance.model.generate import PolyglanceCaptioner

    if not texts:
        raise ValueError(
            "no text was given: polyglance translate TEXT [TEXT ...] --image FILE --model FOLDER --lang es"
        )
    _find_languages(lang, model)
    captioner = PolyglanceCaptioner.load(model, device=device, dtype=dtype)
    _print_lines(captioner.translate([image] * len(texts), texts, lang, config=config))


def _find_languages(languages: tuple[str, ...], model: Path) -> tuple[str, ...]:
    """Return the codes of languages, before the model is loaded; those that were declared for it are known too.

    Raises:
        ValueError: an unknown language, or none.
    """
    from polyglance.engines.folders import find_folder
    from polyglance.language_tags import find_codes
    from polyglance.model.processor import ProcessorConfig

    if not languages:
        raise ValueError("--lang names no language; for example: --lang es,zh")
    try:
        return find_codes(languages)
    except ValueError:
        with suppress(ValueError):
            ProcessorConfig.read(find_folder(model))  # declares the languages that the model brings
        return find_codes(languages)


def _print_lines(results: Iterable[Any]) -> None:
    """Print JSON lines. If some texts are in another language than asked for, say so on standard error. If some lines
    say that there is no text, raise at the end, so that a script notices."""
    num_results = num_errors = 0
    others: Counter[str] = Counter()
    for result in results:
        num_results += 1
        if result.other_language:
            others[f"{result.other_language} instead of {result.language}"] += 1
        num_errors += result.error is not None
        values = {name: value for name, value in make_plain(result).items() if value not in (None, "")}
        sys.stdout.write(json_module.dumps(values, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    if others:
        listed = ", ".join(f"{name} ({count})" for name, count in others.most_common())
        print(f"{others.total()} of {num_results} texts are in another language: {listed}", file=sys.stderr)
    if num_errors:
        raise ValueError(f"{num_errors} of {num_results} texts could not be written; their lines say why")


def _describe_facts(facts: Any) -> str:
    return "\n".join(f"{field.name.replace('_', ' ')}: {getattr(facts, field.name):,}" for field in fields(facts))


def _make_card_tables(card: Any) -> tuple[Table, Table, str]:
    sizes = Table("part", "parameters", "GMAC", title=f"{card.size}: P = {card.num_parameters:,}, F = {card.gmac:.2f}")
    for part in dict.fromkeys([*card.num_parameters_by_part, *card.gmac_by_part]):
        counts, gmac = card.num_parameters_by_part.get(part), card.gmac_by_part.get(part)
        sizes.add_row(part, "" if counts is None else f"{counts:,}", "" if gmac is None else f"{gmac:.2f}")
    memory = Table("memory, GB", *card.inference_bytes, "trained parameters")
    memory.add_row("inference", *(f"{value / 1e9:.2f}" for value in card.inference_bytes.values()), "")
    for policy, by_precision in card.training_bytes.items():
        cells = (f"{value / 1e9:.2f}" for value in by_precision.values())
        memory.add_row(f"training, {policy}", *cells, f"{card.num_trained[policy]:,}")
    conditions = (
        f"F and memory for one image of {card.image_size} pixels, {card.source_tokens} prompt and "
        f"{card.target_tokens} target tokens; inference with {card.beams} beams, training with one sample."
    )
    return sizes, memory, conditions
